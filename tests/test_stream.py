"""`ResponseStream`: the events it delivers, when it is restarted, and how it ends."""

from __future__ import annotations

import gc
import itertools
import pickle
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from support import KEY, REST, THREE, WORDS, SchedulingDelay, body, text_of, wait_for, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Completed,
    ConfigError,
    Created,
    DeadlineExceeded,
    Heartbeat,
    IdleTimeout,
    Message,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    ResponseStream,
    RetryInfo,
    RetryLimit,
    StreamClosed,
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
def open_stream(serve: Any, connect: Any) -> Iterator[Any]:
    """A function that opens a stream to a server with these scripts; ``open_stream.server`` is the server."""
    streams = []

    def opened(*scripts: Any, heartbeat: float | None = None, **options: Any) -> Any:
        opened.server = serve(*scripts)  # type: ignore[attr-defined]
        streams.append(connect(opened.server, **options).stream("Hi", heartbeat=heartbeat))  # type: ignore[attr-defined]
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


def error_of(events: Any) -> Any:
    """The error that iterating over ``events`` raises."""
    with pytest.raises(ChatStreamError) as caught:
        list(events)
    return caught.value


def next_events(stream: Any, count: int) -> list[Any]:
    """The next ``count`` events without heartbeats, whose number depends on the speed of the machine."""
    events: list[Any] = []
    while len(events) < count:
        if (each := next(stream)) != Heartbeat():
            events.append(each)
    return events


# ── delivery ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_iterating_over_a_stream_yields_every_event(open_stream):
    created, *deltas, completed = events = list(open_stream(WHOLE))
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
    finished = client.stream("Hi")
    next(finished)  # reads all its bytes, so that its connection returns to the pool
    with client.stream("Hi") as stream:
        finished.close()
        assert stream.collect().text == TEXT
    assert server.connections == 1
    assert stream.attempts[0].status == 200


def test_next_returns_the_events_of_a_stream_and_then_raises_stop_iteration(open_stream):
    stream = open_stream(WHOLE)
    assert [next(stream) for _ in EVENTS] == EVENTS
    with pytest.raises(StopIteration):
        next(stream)


def test_a_loop_continues_after_the_events_that_next_has_returned(open_stream):
    stream = open_stream(WHOLE)
    assert next(stream) == EVENTS[0]
    assert list(stream) == EVENTS[1:]


def test_collect_continues_after_the_events_that_an_iterator_has_returned(open_stream):
    stream = open_stream(WHOLE)
    first = iter(stream)
    assert next(first) == EVENTS[0]
    assert stream.collect().text == TEXT


def test_text_yields_only_the_text_of_the_first_choice(connect, serve):
    other = delta("other", choice=1)
    script = [head(), *THREE, other, delta("", reasoning_content="hm"), finish(), finish(choice=1), done(), end()]
    stream = connect(serve(script)).stream("?", n=2)
    assert list(stream.text()) == WORDS


@pytest.mark.parametrize("fields", [{}, {"n": 1}, {"n": None}], ids=["no n", "n of 1", "n of None"])
def test_text_events_and_turn_agree_on_the_text_of_one_choice_whatever_its_indexes_are(connect, serve, fields):
    script = [head(), *(delta(word, choice=i) for i, word in enumerate(WORDS)), finish(choice=9), done(), end()]
    client = connect(serve(script, script, script))
    assert list(client.stream("?", **fields).text()) == WORDS
    events = list(client.stream("?", **fields))
    assert [event.delta for event in events if isinstance(event, OutputTextDelta) and event.choice == 0] == WORDS
    turn = client.stream("?", **fields).collect()
    assert (turn.text, len(turn.choices), turn.finish_reason) == ("".join(WORDS), 1, "stop")


def test_each_event_is_delivered_when_the_server_sends_it(open_stream):
    stream = open_stream([head(), *(step for word in WORDS for step in (delta(word), pause(0.03))), *REST])
    with SchedulingDelay() as scheduling_delay:
        times = [time.monotonic() for _ in stream.text()]
    most = 0.08 + scheduling_delay.seconds
    assert all(0.02 - scheduling_delay.seconds < later - earlier < most for earlier, later in itertools.pairwise(times))


def test_aggregate_of_a_stream_yields_complete_items_and_completed(open_stream):
    assert list(open_stream(WHOLE).aggregate()) == [OutputItemDone(Message("assistant", TEXT)), EVENTS[-1]]


def test_collect_returns_the_turn_with_its_usage_and_timing(open_stream):
    stream = open_stream([head(), *THREE, finish(usage={"prompt_tokens": 1}), done(), end()])
    turn = stream.collect()
    assert (turn.text, turn.status, turn.token_usage) == (TEXT, "completed", TokenUsage(input_tokens=1))
    assert turn == stream.turn
    assert turn.timing == stream.timing


def test_the_turn_of_an_open_stream_has_the_text_received_until_then(open_stream):
    stream = open_stream(WHOLE)
    seen = [stream.turn.text for each in stream if isinstance(each, OutputTextDelta)]
    assert seen == ["one ", "one two ", "one two three "]
    assert stream.turn.status == "completed"


def test_a_stream_has_the_status_headers_request_id_attempts_and_timing_of_its_response(open_stream):
    gate = threading.Event()
    stream = open_stream([head(headers={"X-Request-Id": "req_7", "X-Own": "1"}), wait_for(gate), *THREE, *REST])
    assert (stream.status, stream.request_id, stream.headers["x-own"]) == (200, "req_7", "1")
    assert [attempt.status for attempt in stream.attempts] == [200]
    assert (stream.timing.first_event, stream.timing.total) == (None, None)
    time.sleep(0.02)
    gate.set()
    stream.collect()
    timing = stream.timing
    assert 0 < timing.headers < timing.first_event < timing.total < 5
    assert timing.first_event - timing.headers > 0.015


def test_with_think_tags_reasoning_inside_the_text_becomes_reasoning_events(open_stream):
    stream = open_stream([head(), delta("<think>hm</think>one"), *REST], think_tags=("think",))
    events = list(stream)
    assert ReasoningDelta("hm") in events
    assert text_of(events) == "one"


def test_skipped_is_the_number_of_events_that_could_not_be_decoded(open_stream):
    stream = open_stream([head(), *THREE, event("nonsense"), *REST], skip_undecodable=True)
    assert stream.collect().text == TEXT
    assert stream.skipped == 1


def test_raw_is_the_decoded_json_of_the_latest_chunk(open_stream):
    stream = open_stream(WHOLE)
    assert stream.raw is None
    next(stream)
    assert stream.raw["choices"][0]["delta"]["content"] == "one "


# ── restarts ────────────────────────────────────────────────────────────────────────────────────────────────────

BROKEN_BEFORE_FIRST_EVENT = [head(), chunk(b": hello\n\n"), event({"choices": []}), cut()]
BROKEN_AFTER_TWO_EVENTS = [head(), *THREE[:2], cut()]


def test_a_stream_that_breaks_before_its_first_event_is_restarted_and_each_restart_is_reported(open_stream, caplog):
    retries: list[RetryInfo] = []
    stream = open_stream(
        BROKEN_BEFORE_FIRST_EVENT, BROKEN_BEFORE_FIRST_EVENT, WHOLE, stream_max_retries=2, on_retry=retries.append
    )
    assert list(stream) == EVENTS
    assert [attempt.status for attempt in stream.attempts] == [200, 200, 200]
    assert [(info.number, info.limit, info.status) for info in retries] == [(1, 2, None), (2, 2, None)]
    assert caplog.messages[0].startswith("stream error: stream disconnected before completion: ")
    assert "retrying 1/2 in " in caplog.messages[0]


def test_a_stream_is_restarted_at_most_stream_max_retries_times(open_stream):
    error = error_of(open_stream(BROKEN_BEFORE_FIRST_EVENT, stream_max_retries=2))
    assert (type(error), error.retryable, len(error.attempts)) == (StreamTruncated, True, 3)
    assert len(open_stream.server.requests) == 3


def test_a_stream_that_breaks_after_its_first_event_is_not_restarted(open_stream):
    stream = open_stream(BROKEN_AFTER_TWO_EVENTS, WHOLE)
    error = error_of(stream)
    assert (type(error), error.partial.text, error.partial.status) == (StreamTruncated, "one two ", "incomplete")
    assert error.partial.items == stream.turn.items
    assert len(open_stream.server.requests) == 1


@pytest.mark.parametrize(
    "take",
    [lambda stream: next(stream.aggregate()).item.text, lambda stream: stream.collect().text],
    ids=["aggregate", "collect"],
)
def test_aggregate_and_collect_restart_a_stream_that_breaks_after_its_first_event(open_stream, take):
    stream = open_stream(BROKEN_AFTER_TWO_EVENTS, BROKEN_AFTER_TWO_EVENTS, WHOLE, stream_max_retries=2)
    assert take(stream) == TEXT
    assert (stream.turn.text, len(stream.attempts)) == (TEXT, 3)


def test_when_every_restart_breaks_the_error_has_the_text_of_the_last_attempt(open_stream):
    error = error_of(open_stream(BROKEN_AFTER_TWO_EVENTS).aggregate())
    assert (type(error), error.partial.text, len(error.attempts)) == (StreamTruncated, "one two ", 2)


def test_when_a_restart_is_refused_the_error_has_the_text_of_the_attempt_before(open_stream):
    error = error_of(open_stream(BROKEN_AFTER_TWO_EVENTS, status(401, "no")).aggregate())
    assert (type(error), len(error.attempts)) == (UnexpectedStatus, 2)
    assert error.partial.text == "one two "


def test_the_request_of_a_restart_has_its_own_retries(open_stream):
    error = error_of(open_stream(BROKEN_BEFORE_FIRST_EVENT, status(503), request_max_retries=1, stream_max_retries=1))
    assert (type(error), [attempt.status for attempt in error.attempts]) == (RetryLimit, [200, 503, 503])


def test_the_request_id_of_an_error_is_that_of_the_last_attempt(open_stream):
    first = [head(headers={"X-Request-Id": "req_1"}), *THREE, cut()]
    second = [head(headers={"X-Request-Id": "req_2"}), cut()]
    assert error_of(open_stream(first, second).aggregate()).request_id == "req_2"


# ── timeouts and the deadline ───────────────────────────────────────────────────────────────────────────────────


def test_the_idle_timeout_counts_from_the_last_event_and_is_exact(open_stream):
    script = [head(), pause(0.3), *THREE[:1], pause(0.3), *THREE[1:], stall()]
    with within(1.3, least=1.2):
        assert type(error_of(open_stream(script, stream_idle_timeout=0.6))) is IdleTimeout


def test_first_event_timeout_may_be_longer_or_shorter_than_the_idle_timeout(open_stream):
    stream = open_stream([head(), pause(0.6), *THREE, *REST], stream_idle_timeout=0.5, first_event_timeout=5.0)
    assert stream.collect().text == TEXT
    silent = [head(), pause(0.2), *THREE]
    with within(0.25, least=0.1):
        stream = open_stream(silent, stream_idle_timeout=5.0, first_event_timeout=0.1, stream_max_retries=0)
        assert type(error_of(stream)) is IdleTimeout


def test_the_deadline_covers_all_attempts_of_a_stream_and_is_exact(open_stream):
    with within(0.7, least=0.6):
        error = error_of(open_stream([head(), pause(0.05), cut()], [head(), *THREE, stall()], deadline=0.6))
    assert (type(error), error.partial.text, len(error.attempts)) == (DeadlineExceeded, TEXT, 2)


def test_the_deadline_ends_a_stream_that_sends_events_forever(open_stream):
    with within(0.3, least=0.2):
        assert (
            type(error_of(open_stream([head(), *THREE, forever(delta("."), pause(0.01))], deadline=0.2)))
            is DeadlineExceeded
        )


@pytest.mark.parametrize(
    "more",
    [[stall()], [cut()], [chunk(b"data: {")], [forever(chunk(b":\n"), pause(0.01))]],
    ids=["silence", "closed connection", "incomplete event", "endless comments"],
)
def test_a_fault_after_the_last_finish_reason_does_not_prevent_completion(open_stream, more):
    stream = open_stream([head(), *THREE, finish(), *more], finish_grace=0.1)
    with within(0.3):
        assert stream.collect().status == "completed"


def test_a_deadline_that_passes_after_the_last_finish_reason_does_not_prevent_completion(open_stream):
    stream = open_stream([head(), *THREE, finish(), stall()], deadline=0.5)
    assert stream.collect().status == "completed"


def test_a_deadline_that_passes_in_the_loop_after_the_last_finish_reason_does_not_prevent_completion(open_stream):
    entry = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    last = {"choices": [{"index": 0, "delta": {"tool_calls": [entry]}, "finish_reason": "tool_calls"}]}
    stream = open_stream([head(), event(last), done(), end()], deadline=0.3)
    for each in stream:
        if isinstance(each, OutputItemDone):
            time.sleep(0.4)
    assert stream.turn.status == "completed"


@pytest.mark.usefixtures("default_drain_time")
def test_usage_that_arrives_within_finish_grace_is_reported(open_stream):
    stream = open_stream(
        [head(), *THREE, finish(), pause(0.05), event({"choices": [], "usage": {"prompt_tokens": 1}}), stall()]
    )
    assert next(each for each in stream if isinstance(each, Completed)).token_usage == TokenUsage(input_tokens=1)


def test_time_that_the_caller_spends_in_its_loop_does_not_count_as_idle_time(open_stream):
    stream = open_stream([head(), *THREE, pause(0.02), *REST], stream_idle_timeout=0.5)
    for each in stream:
        if each == OutputTextDelta("one "):
            time.sleep(0.6)
    assert stream.turn.status == "completed"


def test_time_before_the_caller_starts_to_read_does_not_count_as_idle_time(open_stream):
    stream = open_stream([head(), pause(0.02), *THREE, *REST], stream_idle_timeout=0.5)
    time.sleep(0.6)
    assert stream.collect().text == TEXT
    assert len(stream.attempts) == 1


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_heartbeats_are_yielded_at_their_interval_while_no_event_arrives(open_stream):
    begin, go_on = threading.Event(), threading.Event()
    stream = open_stream([head(), wait_for(begin), *THREE, wait_for(go_on), *REST], heartbeat=0.03)
    with within(0.2, least=0.09):
        assert [next(stream) for _ in range(3)] == [Heartbeat()] * 3
    begin.set()
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.13, least=0.06):
        assert [next(stream) for _ in range(2)] == [Heartbeat()] * 2
    go_on.set()
    assert next_events(stream, 1) == EVENTS[-1:]


def test_a_stream_that_breaks_after_only_heartbeats_is_restarted(open_stream):
    gate = threading.Event()
    stream = open_stream([head(), wait_for(gate), cut()], WHOLE, heartbeat=0.02)
    assert next(stream) == Heartbeat()
    gate.set()
    assert next_events(stream, len(EVENTS)) == EVENTS
    assert len(stream.attempts) == 2


def test_aggregate_of_a_stream_yields_heartbeats_as_they_occur(open_stream):
    gate = threading.Event()
    events = open_stream([head(), *THREE, wait_for(gate), *REST], heartbeat=0.02).aggregate()
    assert next(events) == Heartbeat()
    gate.set()
    *_, item, completed = events
    assert (item.item.text, completed) == (TEXT, EVENTS[-1])


def test_heartbeats_do_not_extend_the_idle_timeout(open_stream):
    with within(0.2, least=0.1):
        stream = open_stream([head(), stall()], heartbeat=0.02, stream_idle_timeout=0.1, stream_max_retries=0)
        assert type(error_of(stream)) is IdleTimeout


def test_text_yields_an_empty_piece_each_time_that_nothing_arrives_for_its_heartbeat(open_stream):
    begin, go_on = threading.Event(), threading.Event()
    texts = open_stream([head(), wait_for(begin), *THREE, wait_for(go_on), *REST]).text(heartbeat=0.03)
    with within(0.2, least=0.06):
        assert [next(texts) for _ in range(3)] == [""] * 3
    begin.set()
    pieces = []
    while len(pieces) < len(WORDS):
        pieces += filter(None, [next(texts)])
    assert pieces == WORDS
    assert next(texts) == ""
    go_on.set()
    assert "".join(texts) == ""


def test_text_yields_empty_pieces_while_everything_but_text_arrives(open_stream):
    thinking = [step for _ in range(12) for step in (delta("", reasoning_content="hm"), pause(0.02))]
    texts = list(open_stream([head(), *thinking, *THREE, *REST]).text(heartbeat=0.05))
    assert "".join(texts) == TEXT
    assert 2 <= texts[: texts.index(WORDS[0])].count("") <= 12


def test_text_with_a_heartbeat_yields_the_text_of_the_first_choice_alone_while_it_arrives(connect, serve):
    script = [head(), *THREE, delta("other", choice=1), finish(), finish(choice=1), done(), end()]
    stream = connect(serve(script)).stream("?", n=2)
    assert list(stream.text(heartbeat=5)) == WORDS


def test_text_without_a_heartbeat_yields_no_empty_pieces_although_the_stream_has_heartbeats(open_stream):
    script = [head(), pause(0.1), *THREE, pause(0.1), *REST]
    assert list(open_stream(script, heartbeat=0.02).text()) == WORDS


@pytest.mark.usefixtures("no_collector")
def test_text_with_a_heartbeat_closes_the_connection_when_it_is_dropped(open_stream):
    texts = open_stream([head(), stall()]).text(heartbeat=0.02)
    assert next(texts) == ""
    del texts
    assert open_stream.server.client_closed()


def test_heartbeats_of_text_go_on_after_a_restart(open_stream):
    gate = threading.Event()
    texts = open_stream([head(), cut()], [head(), wait_for(gate), *THREE, *REST]).text(heartbeat=0.02)
    assert next(texts) == ""
    gate.set()
    assert "".join(texts) == TEXT


@pytest.mark.parametrize("seconds", [0, -1, "1", float("nan")])
def test_the_heartbeat_of_text_is_a_time(open_stream, seconds):
    with pytest.raises(ConfigError, match="heartbeat must be a number of seconds above 0"):
        open_stream(WHOLE).text(heartbeat=seconds)


# ── closing, cancelling and connections ─────────────────────────────────────────────────────────────────────────


def test_ten_consecutive_streams_use_one_connection(serve, connect):
    server = serve(WHOLE)
    client = connect(server)
    for number in range(10):
        stream = client.stream("Hi")
        assert (stream.collect().text if number % 2 else text_of(list(stream))) == TEXT
    assert server.connections == 1


@pytest.mark.usefixtures("default_drain_time")
def test_completed_is_delivered_before_the_rest_of_the_response_is_drained(open_stream):
    stream = open_stream([head(), *THREE, finish(), done(), stall()])
    with within(0.08):
        assert isinstance([next(stream) for _ in EVENTS][-1], Completed)
    with within(0.15, least=0.1), pytest.raises(StopIteration):
        next(stream)
    assert open_stream.server.client_closed()


@pytest.mark.parametrize("take", ["events", "text", "aggregate"])
def test_breaking_out_of_a_loop_closes_the_connection(open_stream, take):
    stream = open_stream([head(), *THREE, stall()], heartbeat=0.01)
    for _ in {"events": iter, "text": type(stream).text, "aggregate": type(stream).aggregate}[take](stream):
        break
    assert open_stream.server.client_closed()
    assert type(error_of(stream)) is StreamClosed


def test_an_exception_in_the_callers_loop_closes_the_connection(open_stream):
    def iterate(stream: Any) -> None:
        for each in stream:
            each / 0

    with pytest.raises(TypeError):
        iterate(open_stream([head(), *THREE, stall()]))
    gc.collect()
    assert open_stream.server.client_closed()


def test_close_called_by_another_thread_ends_a_loop_without_an_error(open_stream):
    stream = open_stream([head(), *THREE, stall()], stream_idle_timeout=9.0)
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.2):
        threading.Timer(0.05, stream.close).start()
        assert list(stream) == []
    assert open_stream.server.client_closed()


def test_cancel_raises_cancelled_in_the_reading_thread_with_the_partial_turn(open_stream):
    stream = open_stream([head(), *THREE, stall()])
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.1):
        threading.Timer(0.05, stream.cancel).start()
        error = error_of(stream)
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


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector: only what nobody refers to is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


VIEWS = {"text": lambda stream: stream.text(), "aggregate": lambda stream: stream.aggregate()}


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("read", [0, 1], ids=["unread", "begun"])
@pytest.mark.parametrize("take", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("end_it", ["drop", "close"])
def test_an_iterator_that_is_closed_or_dropped_closes_the_connection_whether_it_was_read_or_not(
    open_stream, take, read, end_it
):
    stream = open_stream([head(), *THREE, stall()], heartbeat=0.01)
    items = take(stream)
    for _ in range(read):
        next(items)
    if end_it == "close":
        items.close()
    else:
        del items
    assert open_stream.server.client_closed()
    assert type(error_of(stream)) is StreamClosed


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("take", VIEWS.values(), ids=VIEWS.keys())
def test_an_iterator_is_closed_when_it_is_the_last_that_refers_to_its_stream(serve, connect, take):
    server = serve([head(), *THREE, stall()])
    items = take(connect(server).stream("Hi"))
    assert not server.client_closed(within=0.05)
    del items
    assert server.client_closed()


@pytest.mark.usefixtures("no_collector")
def test_an_iterator_asked_for_to_see_whether_a_stream_can_be_iterated_over_leaves_the_stream_open(open_stream):
    stream = open_stream(WHOLE)
    iter(stream)
    assert text_of(list(stream)) == TEXT


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("read", [0, 1, 2], ids=["unread", "after one event", "after two"])
def test_a_forgotten_stream_is_freed_and_closed_at_once(serve, connect, read):
    server = serve([head(), *THREE, stall()])
    stream = connect(server).stream("Hi")
    [next(stream) for _ in range(read)]
    parts = [weakref.ref(each) for each in (stream._reader, stream._reader.attempt, stream._reader.call.scope)]
    if read:
        del stream
    else:
        with pytest.warns(ResourceWarning, match="neither read to its end nor closed"):
            del stream
    assert server.client_closed()
    assert [each() for each in parts] == [None] * 3


@pytest.mark.parametrize(
    "take",
    [lambda stream: stream, lambda stream: stream.text(), lambda stream: stream.aggregate()],
    ids=["stream", "text", "aggregate"],
)
def test_a_loop_keeps_its_stream_open_without_another_reference_to_it(serve, connect, take):
    client = connect(serve([head(), *THREE, *REST]))
    count = 0
    for _ in take(client.stream("Hi")):
        gc.collect()
        count += 1
    assert count >= 2


def test_leaving_the_with_block_closes_the_stream(open_stream):
    with open_stream([head(), *THREE, stall()]) as stream:
        assert next(stream) == EVENTS[0]
    assert open_stream.server.client_closed()
    assert type(error_of(stream)) is StreamClosed


def test_every_iterator_over_a_stream_ends_when_the_stream_has_ended(open_stream):
    gate = threading.Event()
    stream = open_stream([head(), wait_for(gate), *THREE, *REST], heartbeat=0.02)
    first, second = iter(stream), iter(stream)
    assert next(first) == Heartbeat()
    gate.set()
    while next(second) == Heartbeat():
        pass
    assert text_of(list(stream)) == TEXT
    assert (list(first), list(second)) == ([], [])


def test_a_refused_call_issues_no_resource_warning(serve, connect):
    with pytest.raises(UnexpectedStatus):
        connect(serve(status(400))).stream("Hi")
    gc.collect()


def test_a_stream_without_its_reader_has_a_repr():
    assert repr(object.__new__(ResponseStream)).startswith("<chatstream._stream.ResponseStream object")


def test_the_repr_of_a_stream_has_its_state_provider_and_request_id(open_stream):
    stream = open_stream([head(headers={"X-Request-Id": "req_7"}), *THREE, *REST])
    hint = "open, loop over it, or call text() or collect();"
    assert repr(stream) == f"<ResponseStream {hint} provider='test' request_id='req_7'>"
    stream.close()
    assert repr(stream) == "<ResponseStream ended, see .turn; provider='test' request_id='req_7'>"


# ── recorded bodies and finished streams ────────────────────────────────────────────────────────────────────────


def test_read_events_yields_the_same_events_however_the_bytes_are_split():
    assert list(read_events(bytes([byte]) for byte in RECORDED)) == EVENTS
    assert list(read_events([b"", RECORDED, b""])) == EVENTS


def test_read_events_raises_stream_truncated_for_a_recording_that_ends_early():
    events = read_events([RECORDED[:150]])
    error = error_of(events)
    assert (type(error), error.partial.text) == (StreamTruncated, "one ")
    assert "choice 1" in str(error_of(read_events([RECORDED.replace(b"[DONE]", b"")], choices=2)))


def test_a_finished_stream_yields_nothing_more_and_keeps_its_turn(open_stream):
    stream = open_stream(text_answer("one"))
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
    assert type(error_of(client.stream("Hi"))) is StreamTruncated
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
    ids=["refusal", "error event", "undecodable event", "HTML page"],
)
def test_an_api_key_that_the_server_repeats_is_redacted_in_the_error(open_stream, script):
    try:
        error = error_of(open_stream(script))
    except UnexpectedStatus as refused:
        error = refused
    assert "***" in str(error)
    assert KEY not in repr((error, str(error), error.args, vars(error), error.attempts)) + str(pickle.dumps(error))


def test_time_that_the_caller_spends_on_a_heartbeat_does_not_count_as_idle_time(open_stream):
    gate = threading.Event()
    stream = open_stream([head(), wait_for(gate), *THREE, *REST], heartbeat=0.02, stream_idle_timeout=0.5)
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
