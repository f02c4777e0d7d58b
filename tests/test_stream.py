"""The stream a caller holds: what it hands over, when it begins again, and how it ends."""

from __future__ import annotations

import gc
import itertools
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from support import KEY, REST, THREE, WORDS, SchedulingDelay, body, text_of, wait_for, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Completed,
    Created,
    DeadlineExceeded,
    Heartbeat,
    IdleTimeout,
    Message,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RetryInfo,
    RetryLimit,
    StreamTruncated,
    TokenUsage,
    UnexpectedStatus,
    read_events,
)
from chatstream.testing import (
    chunk,
    cut,
    delta,
    done,
    end,
    event,
    finish,
    forever,
    head,
    pause,
    send,
    stall,
    status,
    text_answer,
)

pytestmark = pytest.mark.usefixtures("short_waits")
TEXT = "".join(WORDS)
WHOLE = [head(), *THREE, *REST]
LAST = b'data: {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
RECORDED = b"".join(map(body, WORDS)) + LAST
EVENTS = list(read_events([RECORDED]))


@pytest.fixture
def ask(serve: Any, connect: Any) -> Iterator[Any]:
    """Opens a stream to a server with these scripts; ``ask.server`` is the server."""
    streams = []

    def asked(*scripts: Any, heartbeat: float | None = None, **options: Any) -> Any:
        asked.server = serve(*scripts)  # type: ignore[attr-defined]
        streams.append(connect(asked.server, **options).stream("Hi", heartbeat=heartbeat))  # type: ignore[attr-defined]
        return streams[-1]

    yield asked
    for stream in streams:
        stream.close()


def failure(events: Any) -> Any:
    with pytest.raises(ChatStreamError) as caught:
        list(events)
    return caught.value


def next_events(stream: Any, count: int) -> list[Any]:
    """The next ``count`` events that are no heartbeats: how many of those come between is the machine's affair."""
    events: list[Any] = []
    while len(events) < count:
        if (each := next(stream)) != Heartbeat():
            events.append(each)
    return events


# ── handing over ────────────────────────────────────────────────────────────────────────────────────────────────


def test_iterating_over_a_stream_yields_every_event(ask):
    created, *deltas, completed = events = list(ask(WHOLE))
    assert created == Created("c1", "m1")
    assert deltas == [OutputTextDelta(word) for word in WORDS]
    assert isinstance(completed, Completed)
    assert (completed.response_id, completed.model, completed.token_usage) == ("c1", "m1", None)
    assert (completed.finish_reason, completed.status) == ("stop", "completed")
    assert events == EVENTS


def test_closing_a_fully_received_stream_does_not_affect_the_call_that_reuses_its_connection(serve, connect):
    framed = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(RECORDED), RECORDED)
    server = serve([send(framed)], [head(), pause(0.03), *THREE, *REST])
    client = connect(server)
    left = client.stream("Hi")
    next(left)  # all its bytes are read, and its connection is free
    with client.stream("Hi") as stream:
        left.close()
        assert stream.collect().text == TEXT
    assert server.connections == 1
    assert stream.attempts[0].status == 200


def test_next_returns_the_events_of_a_stream_and_then_raises_stop_iteration(ask):
    stream = ask(WHOLE)
    assert [next(stream) for _ in EVENTS] == EVENTS
    with pytest.raises(StopIteration):
        next(stream)


def test_a_loop_continues_after_the_events_that_next_has_returned(ask):
    stream = ask(WHOLE)
    assert next(stream) == EVENTS[0]
    assert list(stream) == EVENTS[1:]


def test_collect_continues_after_the_events_that_an_iterator_has_returned(ask):
    stream = ask(WHOLE)
    first = iter(stream)
    assert next(first) == EVENTS[0]
    assert stream.collect().text == TEXT


def test_text_yields_only_the_text_of_the_first_choice(ask):
    other = delta("other", choice=1)
    stream = ask([head(), *THREE, other, delta("", reasoning_content="hm"), finish(), finish(choice=1), done(), end()])
    assert list(stream.text()) == WORDS


def test_each_event_is_delivered_when_the_server_sends_it(ask):
    stream = ask([head(), *(step for word in WORDS for step in (delta(word), pause(0.03))), *REST])
    with SchedulingDelay() as scheduling_delay:
        came = [time.monotonic() for _ in stream.text()]
    late = 0.08 + scheduling_delay.seconds
    assert all(0.02 - scheduling_delay.seconds < later - earlier < late for earlier, later in itertools.pairwise(came))


def test_aggregate_of_a_stream_yields_complete_items_and_completed(ask):
    assert list(ask(WHOLE).aggregate()) == [OutputItemDone(Message("assistant", TEXT)), EVENTS[-1]]


def test_collect_returns_the_turn_with_its_usage_and_timing(ask):
    stream = ask([head(), *THREE, finish(usage={"prompt_tokens": 1}), done(), end()])
    turn = stream.collect()
    assert (turn.text, turn.status, turn.token_usage) == (TEXT, "completed", TokenUsage(input_tokens=1))
    assert turn == stream.turn
    assert turn.timing == stream.timing


def test_the_turn_of_an_open_stream_has_the_text_received_until_then(ask):
    stream = ask(WHOLE)
    seen = [stream.turn.text for each in stream if isinstance(each, OutputTextDelta)]
    assert seen == ["one ", "one two ", "one two three "]
    assert stream.turn.status == "completed"


def test_a_stream_has_the_status_headers_request_id_attempts_and_timing_of_its_response(ask):
    gate = threading.Event()
    stream = ask([head(headers={"X-Request-Id": "req_7", "X-Own": "1"}), wait_for(gate), *THREE, *REST])
    assert (stream.status, stream.request_id, stream.headers["x-own"]) == (200, "req_7", "1")
    assert [attempt.status for attempt in stream.attempts] == [200]
    assert (stream.timing.first_event, stream.timing.total) == (None, None)
    time.sleep(0.02)
    gate.set()
    stream.collect()
    timing = stream.timing
    assert 0 < timing.headers < timing.first_event < timing.total < 5
    assert timing.first_event - timing.headers > 0.015


def test_with_think_tags_reasoning_inside_the_text_becomes_reasoning_events(ask):
    stream = ask([head(), delta("<think>hm</think>one"), *REST], think_tags=("think",))
    events = list(stream)
    assert ReasoningDelta("hm") in events
    assert text_of(events) == "one"


def test_skipped_is_the_number_of_events_that_could_not_be_decoded(ask):
    stream = ask([head(), *THREE, event("nonsense"), *REST], skip_undecodable=True)
    assert stream.collect().text == TEXT
    assert stream.skipped == 1


def test_raw_is_the_decoded_json_of_the_latest_chunk(ask):
    stream = ask(WHOLE)
    assert stream.raw is None
    next(stream)
    assert stream.raw["choices"][0]["delta"]["content"] == "one "


# ── beginning again ─────────────────────────────────────────────────────────────────────────────────────────────

NOTHING = [head(), chunk(b": hello\n\n"), event({"choices": []}), cut()]
HALF = [head(), *THREE[:2], cut()]


def test_a_stream_that_breaks_before_its_first_event_is_restarted_and_each_restart_is_reported(ask, caplog):
    told: list[RetryInfo] = []
    stream = ask(NOTHING, NOTHING, WHOLE, stream_max_retries=2, on_retry=told.append)
    assert list(stream) == EVENTS
    assert [attempt.status for attempt in stream.attempts] == [200, 200, 200]
    assert [(info.number, info.limit, info.status) for info in told] == [(1, 2, None), (2, 2, None)]
    assert caplog.messages[0].startswith("stream error: stream disconnected before completion: ")
    assert "retrying 1/2 in " in caplog.messages[0]


def test_a_stream_is_restarted_at_most_stream_max_retries_times(ask):
    error = failure(ask(NOTHING, stream_max_retries=2))
    assert (type(error), error.retryable, len(error.attempts)) == (StreamTruncated, True, 3)
    assert len(ask.server.requests) == 3


def test_a_stream_that_breaks_after_its_first_event_is_not_restarted(ask):
    stream = ask(HALF, WHOLE)
    error = failure(stream)
    assert (type(error), error.partial.text, error.partial.status) == (StreamTruncated, "one two ", "incomplete")
    assert error.partial.items == stream.turn.items
    assert len(ask.server.requests) == 1


@pytest.mark.parametrize(
    "take", [lambda stream: next(stream.aggregate()).item.text, lambda stream: stream.collect().text]
)
def test_aggregate_and_collect_restart_a_stream_that_breaks_after_its_first_event(ask, take):
    stream = ask(HALF, HALF, WHOLE, stream_max_retries=2)
    assert take(stream) == TEXT
    assert (stream.turn.text, len(stream.attempts)) == (TEXT, 3)


def test_when_every_restart_breaks_the_error_has_the_text_of_the_last_attempt(ask):
    error = failure(ask(HALF).aggregate())
    assert (type(error), error.partial.text, len(error.attempts)) == (StreamTruncated, "one two ", 2)


def test_when_a_restart_is_refused_the_error_has_the_text_of_the_attempt_before(ask):
    error = failure(ask(HALF, status(401, "no")).aggregate())
    assert (type(error), len(error.attempts)) == (UnexpectedStatus, 2)
    assert error.partial.text == "one two "


def test_the_request_of_a_restart_has_its_own_retries(ask):
    error = failure(ask(NOTHING, status(503), request_max_retries=1, stream_max_retries=1))
    assert (type(error), [attempt.status for attempt in error.attempts]) == (RetryLimit, [200, 503, 503])


def test_the_request_id_of_an_error_is_that_of_the_last_attempt(ask):
    first = [head(headers={"X-Request-Id": "req_1"}), *THREE, cut()]
    second = [head(headers={"X-Request-Id": "req_2"}), cut()]
    assert failure(ask(first, second).aggregate()).request_id == "req_2"


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_idle_timeout_counts_from_the_last_event_and_is_exact(ask):
    script = [head(), pause(0.3), *THREE[:1], pause(0.3), *THREE[1:], stall()]
    with within(1.3, least=1.2):
        assert type(failure(ask(script, stream_idle_timeout=0.6))) is IdleTimeout


def test_first_event_timeout_may_be_longer_or_shorter_than_the_idle_timeout(ask):
    stream = ask([head(), pause(0.6), *THREE, *REST], stream_idle_timeout=0.5, first_event_timeout=5.0)
    assert stream.collect().text == TEXT
    silent = [head(), pause(0.2), *THREE]
    with within(0.25, least=0.1):
        stream = ask(silent, stream_idle_timeout=5.0, first_event_timeout=0.1, stream_max_retries=0)
        assert type(failure(stream)) is IdleTimeout


def test_the_deadline_covers_all_attempts_of_a_stream_and_is_exact(ask):
    with within(0.7, least=0.6):
        error = failure(ask([head(), pause(0.05), cut()], [head(), *THREE, stall()], deadline=0.6))
    assert (type(error), error.partial.text, len(error.attempts)) == (DeadlineExceeded, TEXT, 2)


def test_the_deadline_ends_a_stream_that_sends_events_forever(ask):
    with within(0.3, least=0.2):
        assert type(failure(ask([head(), *THREE, forever(delta("."), pause(0.01))], deadline=0.2))) is DeadlineExceeded


@pytest.mark.parametrize("more", [[stall()], [cut()], [chunk(b"data: {")], [forever(chunk(b":\n"), pause(0.01))]])
def test_a_fault_after_the_last_finish_reason_does_not_prevent_completion(ask, more):
    stream = ask([head(), *THREE, finish(), *more], finish_grace=0.1)
    with within(0.3):
        assert stream.collect().status == "completed"


def test_a_deadline_that_passes_after_the_last_finish_reason_does_not_prevent_completion(ask):
    stream = ask([head(), *THREE, finish(), stall()], deadline=0.5)
    assert stream.collect().status == "completed"


@pytest.mark.usefixtures("default_drain_time")
def test_usage_that_arrives_within_finish_grace_is_reported(ask):
    stream = ask(
        [head(), *THREE, finish(), pause(0.05), event({"choices": [], "usage": {"prompt_tokens": 1}}), stall()]
    )
    assert next(each for each in stream if isinstance(each, Completed)).token_usage == TokenUsage(input_tokens=1)


def test_time_that_the_caller_spends_in_its_loop_does_not_count_as_idle_time(ask):
    stream = ask([head(), *THREE, pause(0.02), *REST], stream_idle_timeout=0.5)
    for each in stream:
        if each == OutputTextDelta("one "):
            time.sleep(0.6)
    assert stream.turn.status == "completed"


def test_time_before_the_caller_starts_to_read_does_not_count_as_idle_time(ask):
    stream = ask([head(), pause(0.02), *THREE, *REST], stream_idle_timeout=0.5)
    time.sleep(0.6)
    assert stream.collect().text == TEXT
    assert len(stream.attempts) == 1


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_heartbeats_are_yielded_at_their_interval_while_no_event_arrives(ask):
    begin, go_on = threading.Event(), threading.Event()
    stream = ask([head(), wait_for(begin), *THREE, wait_for(go_on), *REST], heartbeat=0.03)
    with within(0.2, least=0.09):
        assert [next(stream) for _ in range(3)] == [Heartbeat()] * 3
    begin.set()
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.13, least=0.06):
        assert [next(stream) for _ in range(2)] == [Heartbeat()] * 2
    go_on.set()
    assert next_events(stream, 1) == EVENTS[-1:]


def test_a_stream_that_breaks_after_only_heartbeats_is_restarted(ask):
    gate = threading.Event()
    stream = ask([head(), wait_for(gate), cut()], WHOLE, heartbeat=0.02)
    assert next(stream) == Heartbeat()
    gate.set()
    assert next_events(stream, len(EVENTS)) == EVENTS
    assert len(stream.attempts) == 2


def test_aggregate_of_a_stream_yields_heartbeats_as_they_occur(ask):
    gate = threading.Event()
    events = ask([head(), *THREE, wait_for(gate), *REST], heartbeat=0.02).aggregate()
    assert next(events) == Heartbeat()
    gate.set()
    *_, item, completed = events
    assert (item.item.text, completed) == (TEXT, EVENTS[-1])


def test_heartbeats_do_not_extend_the_idle_timeout(ask):
    with within(0.2, least=0.1):
        stream = ask([head(), stall()], heartbeat=0.02, stream_idle_timeout=0.1, stream_max_retries=0)
        assert type(failure(stream)) is IdleTimeout


# ── letting go ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_consecutive_streams_use_one_connection(serve, connect):
    server = serve(WHOLE)
    client = connect(server)
    for number in range(10):
        stream = client.stream("Hi")
        assert (stream.collect().text if number % 2 else text_of(list(stream))) == TEXT
    assert server.connections == 1


@pytest.mark.usefixtures("default_drain_time")
def test_completed_is_delivered_before_the_rest_of_the_response_is_drained(ask):
    stream = ask([head(), *THREE, finish(), done(), stall()])
    with within(0.08):
        assert isinstance([next(stream) for _ in EVENTS][-1], Completed)
    with within(0.15, least=0.1), pytest.raises(StopIteration):
        next(stream)
    assert ask.server.client_closed()


@pytest.mark.parametrize("take", ["loop", "text", "aggregate"])
def test_breaking_out_of_a_loop_closes_the_connection(ask, take):
    stream = ask([head(), *THREE, stall()], heartbeat=0.01)
    for _ in {"loop": iter, "text": type(stream).text, "aggregate": type(stream).aggregate}[take](stream):
        break
    assert ask.server.client_closed()
    assert list(stream) == []


def test_an_exception_in_the_callers_loop_closes_the_connection(ask):
    def careless(stream: Any) -> None:
        for each in stream:
            each / 0

    with pytest.raises(TypeError):
        careless(ask([head(), *THREE, stall()]))
    gc.collect()
    assert ask.server.client_closed()


def test_close_called_by_another_thread_ends_a_loop_without_an_error(ask):
    stream = ask([head(), *THREE, stall()], stream_idle_timeout=9.0)
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.2):
        threading.Timer(0.05, stream.close).start()
        assert list(stream) == []
    assert ask.server.client_closed()


def test_cancel_raises_cancelled_in_the_reading_thread_with_the_partial_turn(ask):
    stream = ask([head(), *THREE, stall()])
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.1):
        threading.Timer(0.05, stream.cancel).start()
        error = failure(stream)
    assert (type(error), error.partial.text) == (Cancelled, TEXT)
    assert stream.turn.text == TEXT


def test_a_stream_that_is_never_closed_issues_a_resource_warning_that_names_the_line_which_opened_it(serve, connect):
    server = serve([head(), *THREE, stall()])
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        stream = connect(server).stream("Hi")
        del stream
        gc.collect()
    (warning,) = caught
    assert warning.category is ResourceWarning
    assert f"{__file__}:{line}" in str(warning.message)
    assert server.client_closed()


@pytest.mark.parametrize(
    "take", [lambda stream: stream, lambda stream: stream.text(), lambda stream: stream.aggregate()]
)
def test_a_loop_keeps_its_stream_open_without_another_reference_to_it(serve, connect, take):
    client = connect(serve([head(), *THREE, *REST]))
    count = 0
    for _ in take(client.stream("Hi")):
        gc.collect()
        count += 1
    assert count >= 2


def test_leaving_the_with_block_closes_the_stream(ask):
    with ask([head(), *THREE, stall()]) as stream:
        assert next(stream) == EVENTS[0]
    assert ask.server.client_closed()
    assert list(stream) == []


def test_every_iterator_over_a_stream_ends_when_the_stream_has_ended(ask):
    gate = threading.Event()
    stream = ask([head(), wait_for(gate), *THREE, *REST], heartbeat=0.02)
    waiting, begun = iter(stream), iter(stream)
    assert next(waiting) == Heartbeat()
    gate.set()
    while next(begun) == Heartbeat():
        pass
    assert text_of(list(stream)) == TEXT
    assert (list(waiting), list(begun)) == ([], [])


def test_a_refused_call_issues_no_resource_warning(serve, connect):
    with pytest.raises(UnexpectedStatus):
        connect(serve(status(400))).stream("Hi")
    gc.collect()


def test_the_repr_of_a_stream_has_its_state_provider_and_request_id(ask):
    stream = ask([head(headers={"X-Request-Id": "req_7"}), *THREE, *REST])
    assert repr(stream) == "<ResponseStream open provider='test' request_id='req_7'>"
    stream.close()
    assert repr(stream).startswith("<ResponseStream ended ")


# ── bytes that are there already ────────────────────────────────────────────────────────────────────────────────


def test_read_events_yields_the_same_events_however_the_bytes_are_split():
    assert list(read_events(bytes([byte]) for byte in RECORDED)) == EVENTS
    assert list(read_events([b"", RECORDED, b""])) == EVENTS


def test_read_events_raises_stream_truncated_for_a_recording_that_ends_early():
    events = read_events([RECORDED[:150]])
    error = failure(events)
    assert (type(error), error.partial.text) == (StreamTruncated, "one ")
    assert "choice 1" in str(failure(read_events([RECORDED.replace(b"[DONE]", b"")], choices=2)))


def test_a_finished_stream_yields_nothing_more_and_keeps_its_turn(ask):
    stream = ask(text_answer("one"))
    list(stream)
    assert list(stream) == []
    assert list(stream.aggregate()) == []
    assert stream.collect().text == "one"


def test_cancel_and_close_of_a_finished_stream_do_not_affect_the_call_that_reuses_its_connection(serve, connect):
    server = serve(WHOLE, [head(), *THREE, pause(0.05), *REST])
    client = connect(server)
    first = client.stream("Hi")
    assert first.collect().text == TEXT
    second = client.stream("Hi")
    assert next(second) == EVENTS[0]
    first.cancel()
    first.close()
    assert second.collect().text == TEXT
    assert server.connections == 1


def test_a_truncated_answer_that_was_read_to_its_end_returns_its_connection_to_the_pool(serve, connect):
    server = serve(status(200, {"tokens": [1]}), WHOLE)
    client = connect(server, stream_max_retries=0)
    assert type(failure(client.stream("Hi"))) is StreamTruncated
    assert client.stream("Hi").collect().text == TEXT
    assert server.connections == 1


@pytest.mark.parametrize(
    "script",
    [
        status(401, {"error": {"message": f"Incorrect key {KEY}", "code": f"bad-{KEY}"}}),
        [head(), *THREE, event({"error": {"message": f"{KEY} is spent"}}), end()],
        [head(), *THREE, event(f"nonsense {KEY}"), end()],
        status(200, f"<html>{KEY}</html>"),
    ],
)
def test_an_api_key_that_the_server_repeats_is_redacted_in_the_error(ask, script):
    try:
        error = failure(ask(script))
    except UnexpectedStatus as refused:
        error = refused
    assert "***" in str(error)
    assert KEY not in repr((error, str(error), error.args, vars(error), error.attempts)) + str(pickle.dumps(error))


def test_time_that_the_caller_spends_on_a_heartbeat_does_not_count_as_idle_time(ask):
    gate = threading.Event()
    stream = ask([head(), wait_for(gate), *THREE, *REST], heartbeat=0.02, stream_idle_timeout=0.5)
    assert next(stream) == Heartbeat()
    gate.set()
    time.sleep(0.6)
    assert stream.collect().text == TEXT
    assert len(stream.attempts) == 1


def test_closing_a_stream_while_it_restarts_leaves_no_connection_open(serve, connect, monkeypatch):
    server = serve([head(), cut()], [head(), *THREE, stall()])
    stream = connect(server).stream("Hi")
    send = stream._reader.sender.send

    def send_and_close(call: Any) -> Any:
        reply = send(call)
        stream.close()
        return reply

    monkeypatch.setattr(stream._reader.sender, "send", send_and_close)
    assert list(stream) == []
    assert server.client_closed(2)
