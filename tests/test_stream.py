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
from support import KEY, REST, THREE, WORDS, Metronome, body, once, text_of, within

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


def test_a_loop_gets_every_event(ask):
    created, *deltas, completed = events = list(ask(WHOLE))
    assert created == Created("c1", "m1")
    assert deltas == [OutputTextDelta(word) for word in WORDS]
    assert isinstance(completed, Completed)
    assert (completed.response_id, completed.model, completed.token_usage) == ("c1", "m1", None)
    assert (completed.finish_reason, completed.status) == ("stop", "completed")
    assert events == EVENTS


def test_a_stream_that_is_left_takes_no_connection_away_from_the_next_call(serve, connect):
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


def test_a_stream_is_an_iterator(ask):
    stream = ask(WHOLE)
    assert [next(stream) for _ in EVENTS] == EVENTS
    with pytest.raises(StopIteration):
        next(stream)


def test_a_loop_goes_on_where_next_has_stopped(ask):
    stream = ask(WHOLE)
    assert next(stream) == EVENTS[0]
    assert list(stream) == EVENTS[1:]


def test_so_does_another_iterator(ask):
    stream = ask(WHOLE)
    first = iter(stream)
    assert next(first) == EVENTS[0]
    assert stream.collect().text == TEXT


def test_text_is_only_the_text_of_the_first_choice(ask):
    other = delta("other", choice=1)
    stream = ask([head(), *THREE, other, delta("", reasoning_content="hm"), finish(), finish(choice=1), done(), end()])
    assert list(stream.text()) == WORDS


def test_events_come_as_they_are_sent(ask):
    stream = ask([head(), *(step for word in WORDS for step in (delta(word), pause(0.03))), *REST])
    with Metronome() as metronome:
        came = [time.monotonic() for _ in stream.text()]
    late = 0.08 + metronome.stolen
    assert all(0.02 - metronome.stolen < later - earlier < late for earlier, later in itertools.pairwise(came))


def test_aggregate_gives_whole_items(ask):
    assert list(ask(WHOLE).aggregate()) == [OutputItemDone(Message("assistant", TEXT)), EVENTS[-1]]


def test_collect_gives_the_turn(ask):
    stream = ask([head(), *THREE, finish(usage={"prompt_tokens": 1}), done(), end()])
    turn = stream.collect()
    assert (turn.text, turn.status, turn.token_usage) == (TEXT, "completed", TokenUsage(input_tokens=1))
    assert turn == stream.turn
    assert turn.timing == stream.timing


def test_the_turn_shows_what_has_come_so_far(ask):
    stream = ask(WHOLE)
    seen = [stream.turn.text for each in stream if isinstance(each, OutputTextDelta)]
    assert seen == ["one ", "one two ", "one two three "]
    assert stream.turn.status == "completed"


def test_what_is_known_of_the_answer(ask):
    gate = threading.Event()
    stream = ask([head(headers={"X-Request-Id": "req_7", "X-Own": "1"}), once(gate), *THREE, *REST])
    assert (stream.status, stream.request_id, stream.headers["x-own"]) == (200, "req_7", "1")
    assert [attempt.status for attempt in stream.attempts] == [200]
    assert (stream.timing.first_event, stream.timing.total) == (None, None)
    time.sleep(0.02)
    gate.set()
    stream.collect()
    timing = stream.timing
    assert 0 < timing.headers < timing.first_event < timing.total < 5
    assert timing.first_event - timing.headers > 0.015


def test_thinking_inside_the_text_may_be_taken_apart(ask):
    stream = ask([head(), delta("<think>hm</think>one"), *REST], think_tags=("think",))
    events = list(stream)
    assert ReasoningDelta("hm") in events
    assert text_of(events) == "one"


def test_what_was_skipped_is_counted(ask):
    stream = ask([head(), *THREE, event("nonsense"), *REST], skip_undecodable=True)
    assert stream.collect().text == TEXT
    assert stream.skipped == 1


def test_the_servers_own_json_is_there(ask):
    stream = ask(WHOLE)
    assert stream.raw is None
    next(stream)
    assert stream.raw["choices"][0]["delta"]["content"] == "one "


# ── beginning again ─────────────────────────────────────────────────────────────────────────────────────────────

NOTHING = [head(), chunk(b": hello\n\n"), event({"choices": []}), cut()]
HALF = [head(), *THREE[:2], cut()]


def test_before_the_first_event_a_broken_stream_begins_again(ask, caplog):
    told: list[RetryInfo] = []
    stream = ask(NOTHING, NOTHING, WHOLE, stream_max_retries=2, on_retry=told.append)
    assert list(stream) == EVENTS
    assert [attempt.status for attempt in stream.attempts] == [200, 200, 200]
    assert [(info.number, info.limit, info.status) for info in told] == [(1, 2, None), (2, 2, None)]
    assert caplog.messages[0].startswith("stream error: stream disconnected before completion: ")
    assert "retrying 1/2 in " in caplog.messages[0]


def test_but_not_for_ever(ask):
    error = failure(ask(NOTHING, stream_max_retries=2))
    assert (type(error), error.retryable, len(error.attempts)) == (StreamTruncated, True, 3)
    assert len(ask.server.requests) == 3


def test_after_the_first_event_it_does_not(ask):
    stream = ask(HALF, WHOLE)
    error = failure(stream)
    assert (type(error), error.partial.text, error.partial.status) == (StreamTruncated, "one two ", "incomplete")
    assert error.partial.items == stream.turn.items
    assert len(ask.server.requests) == 1


@pytest.mark.parametrize(
    "take", [lambda stream: next(stream.aggregate()).item.text, lambda stream: stream.collect().text]
)
def test_who_takes_whole_items_sees_no_break(ask, take):
    stream = ask(HALF, HALF, WHOLE, stream_max_retries=2)
    assert take(stream) == TEXT
    assert (stream.turn.text, len(stream.attempts)) == (TEXT, 3)


def test_who_takes_whole_items_gets_the_last_pieces_when_all_tries_break(ask):
    error = failure(ask(HALF).aggregate())
    assert (type(error), error.partial.text, len(error.attempts)) == (StreamTruncated, "one two ", 2)


def test_what_had_come_is_not_lost_when_the_next_try_is_refused(ask):
    error = failure(ask(HALF, status(401, "no")).aggregate())
    assert (type(error), len(error.attempts)) == (UnexpectedStatus, 2)
    assert error.partial.text == "one two "


def test_a_request_made_again_has_its_own_retries(ask):
    error = failure(ask(NOTHING, status(503), request_max_retries=1, stream_max_retries=1))
    assert (type(error), [attempt.status for attempt in error.attempts]) == (RetryLimit, [200, 503, 503])


def test_the_request_id_of_an_error_is_that_of_the_last_try(ask):
    first = [head(headers={"X-Request-Id": "req_1"}), *THREE, cut()]
    second = [head(headers={"X-Request-Id": "req_2"}), cut()]
    assert failure(ask(first, second).aggregate()).request_id == "req_2"


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_idle_time_is_exact_and_counts_from_the_last_event(ask):
    script = [head(), pause(0.3), *THREE[:1], pause(0.3), *THREE[1:], stall()]
    with within(1.3, least=1.2):
        assert type(failure(ask(script, stream_idle_timeout=0.6))) is IdleTimeout


def test_the_first_event_may_take_longer_or_less_long(ask):
    stream = ask([head(), pause(0.6), *THREE, *REST], stream_idle_timeout=0.5, first_event_timeout=5.0)
    assert stream.collect().text == TEXT
    silent = [head(), pause(0.2), *THREE]
    with within(0.25, least=0.1):
        stream = ask(silent, stream_idle_timeout=5.0, first_event_timeout=0.1, stream_max_retries=0)
        assert type(failure(stream)) is IdleTimeout


def test_the_deadline_is_exact_and_counts_over_all_tries(ask):
    with within(0.7, least=0.6):
        error = failure(ask([head(), pause(0.05), cut()], [head(), *THREE, stall()], deadline=0.6))
    assert (type(error), error.partial.text, len(error.attempts)) == (DeadlineExceeded, TEXT, 2)


def test_the_deadline_ends_a_drip(ask):
    with within(0.3, least=0.2):
        assert type(failure(ask([head(), *THREE, forever(delta("."), pause(0.01))], deadline=0.2))) is DeadlineExceeded


@pytest.mark.parametrize("more", [[stall()], [cut()], [chunk(b"data: {")], [forever(chunk(b":\n"), pause(0.01))]])
def test_after_the_last_finish_reason_nothing_can_go_wrong(ask, more):
    stream = ask([head(), *THREE, finish(), *more], finish_grace=0.1)
    with within(0.3):
        assert stream.collect().status == "completed"


def test_not_even_the_deadline(ask):
    stream = ask([head(), *THREE, finish(), stall()], deadline=0.5)
    assert stream.collect().status == "completed"


@pytest.mark.usefixtures("drains_as_always")
def test_usage_comes_within_the_grace_time(ask):
    stream = ask(
        [head(), *THREE, finish(), pause(0.05), event({"choices": [], "usage": {"prompt_tokens": 1}}), stall()]
    )
    assert next(each for each in stream if isinstance(each, Completed)).token_usage == TokenUsage(input_tokens=1)


def test_a_slow_loop_is_not_the_servers_fault(ask):
    stream = ask([head(), *THREE, pause(0.02), *REST], stream_idle_timeout=0.5)
    for each in stream:
        if each == OutputTextDelta("one "):
            time.sleep(0.6)
    assert stream.turn.status == "completed"


def test_nor_is_a_loop_that_begins_late(ask):
    stream = ask([head(), pause(0.02), *THREE, *REST], stream_idle_timeout=0.5)
    time.sleep(0.6)
    assert stream.collect().text == TEXT
    assert len(stream.attempts) == 1


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_while_nothing_comes_there_are_heartbeats(ask):
    begin, go_on = threading.Event(), threading.Event()
    stream = ask([head(), once(begin), *THREE, once(go_on), *REST], heartbeat=0.03)
    with within(0.2, least=0.09):
        assert [next(stream) for _ in range(3)] == [Heartbeat()] * 3
    begin.set()
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.13, least=0.06):
        assert [next(stream) for _ in range(2)] == [Heartbeat()] * 2
    go_on.set()
    assert next_events(stream, 1) == EVENTS[-1:]


def test_a_heartbeat_is_nothing_handed_over(ask):
    gate = threading.Event()
    stream = ask([head(), once(gate), cut()], WHOLE, heartbeat=0.02)
    assert next(stream) == Heartbeat()
    gate.set()
    assert next_events(stream, len(EVENTS)) == EVENTS
    assert len(stream.attempts) == 2


def test_aggregate_passes_heartbeats_on(ask):
    gate = threading.Event()
    events = ask([head(), *THREE, once(gate), *REST], heartbeat=0.02).aggregate()
    assert next(events) == Heartbeat()
    gate.set()
    *_, item, completed = events
    assert (item.item.text, completed) == (TEXT, EVENTS[-1])


def test_heartbeats_do_not_extend_the_idle_time(ask):
    with within(0.2, least=0.1):
        stream = ask([head(), stall()], heartbeat=0.02, stream_idle_timeout=0.1, stream_max_retries=0)
        assert type(failure(stream)) is IdleTimeout


# ── letting go ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_streams_in_a_row_take_one_connection(serve, connect):
    server = serve(WHOLE)
    client = connect(server)
    for number in range(10):
        stream = client.stream("Hi")
        assert (stream.collect().text if number % 2 else text_of(list(stream))) == TEXT
    assert server.connections == 1


@pytest.mark.usefixtures("drains_as_always")
def test_the_end_is_handed_over_before_the_rest_is_drained(ask):
    stream = ask([head(), *THREE, finish(), done(), stall()])
    with within(0.08):
        assert isinstance([next(stream) for _ in EVENTS][-1], Completed)
    with within(0.15, least=0.1), pytest.raises(StopIteration):
        next(stream)
    assert ask.server.client_closed()


@pytest.mark.parametrize("take", ["loop", "text", "aggregate"])
def test_breaking_out_closes_the_connection(ask, take):
    stream = ask([head(), *THREE, stall()], heartbeat=0.01)
    for _ in {"loop": iter, "text": type(stream).text, "aggregate": type(stream).aggregate}[take](stream):
        break
    assert ask.server.client_closed()
    assert list(stream) == []


def test_an_error_in_the_loop_closes_the_connection(ask):
    def careless(stream: Any) -> None:
        for each in stream:
            each / 0

    with pytest.raises(TypeError):
        careless(ask([head(), *THREE, stall()]))
    gc.collect()
    assert ask.server.client_closed()


def test_another_thread_may_close_a_stream_that_is_read(ask):
    stream = ask([head(), *THREE, stall()], stream_idle_timeout=9.0)
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.2):
        threading.Timer(0.05, stream.close).start()
        assert list(stream) == []
    assert ask.server.client_closed()


def test_cancel_wakes_a_reader_and_keeps_what_has_come(ask):
    stream = ask([head(), *THREE, stall()])
    assert next_events(stream, len(WORDS) + 1) == EVENTS[:-1]
    with within(0.1):
        threading.Timer(0.05, stream.cancel).start()
        error = failure(stream)
    assert (type(error), error.partial.text) == (Cancelled, TEXT)
    assert stream.turn.text == TEXT


def test_a_forgotten_stream_warns_and_says_where_it_was_opened(serve, connect):
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
def test_a_loop_keeps_a_stream_open_that_nobody_else_holds(serve, connect, take):
    client = connect(serve([head(), *THREE, *REST]))
    count = 0
    for _ in take(client.stream("Hi")):
        gc.collect()
        count += 1
    assert count >= 2


def test_leaving_its_block_closes_a_stream(ask):
    with ask([head(), *THREE, stall()]) as stream:
        assert next(stream) == EVENTS[0]
    assert ask.server.client_closed()
    assert list(stream) == []


def test_an_iterator_left_behind_ends_with_the_stream(ask):
    gate = threading.Event()
    stream = ask([head(), once(gate), *THREE, *REST], heartbeat=0.02)
    waiting, begun = iter(stream), iter(stream)
    assert next(waiting) == Heartbeat()
    gate.set()
    while next(begun) == Heartbeat():
        pass
    assert text_of(list(stream)) == TEXT
    assert (list(waiting), list(begun)) == ([], [])


def test_a_stream_that_never_began_is_not_forgotten(serve, connect):
    with pytest.raises(UnexpectedStatus):
        connect(serve(status(400))).stream("Hi")
    gc.collect()


def test_a_stream_shows_itself(ask):
    stream = ask([head(headers={"X-Request-Id": "req_7"}), *THREE, *REST])
    assert repr(stream) == "<ResponseStream open provider='test' request_id='req_7'>"
    stream.close()
    assert repr(stream).startswith("<ResponseStream ended ")


# ── bytes that are there already ────────────────────────────────────────────────────────────────────────────────


def test_a_recorded_body_becomes_the_same_events_however_it_is_cut():
    assert list(read_events(bytes([byte]) for byte in RECORDED)) == EVENTS
    assert list(read_events([b"", RECORDED, b""])) == EVENTS


def test_a_recorded_body_that_was_cut_is_an_error():
    events = read_events([RECORDED[:150]])
    error = failure(events)
    assert (type(error), error.partial.text) == (StreamTruncated, "one ")
    assert "choice 1" in str(failure(read_events([RECORDED.replace(b"[DONE]", b"")], choices=2)))


def test_of_a_text_answer_nothing_is_left(ask):
    stream = ask(text_answer("one"))
    list(stream)
    assert list(stream) == []
    assert list(stream.aggregate()) == []
    assert stream.collect().text == "one"


def test_cancelling_or_closing_a_finished_stream_leaves_its_connection_alone(serve, connect):
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


def test_an_answer_read_to_its_end_in_vain_leaves_its_connection_in_the_pool(serve, connect):
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
def test_a_key_that_the_server_repeats_is_in_no_error(ask, script):
    try:
        error = failure(ask(script))
    except UnexpectedStatus as refused:
        error = refused
    assert "***" in str(error)
    assert KEY not in repr((error, str(error), error.args, vars(error), error.attempts)) + str(pickle.dumps(error))


def test_the_callers_own_time_on_a_heartbeat_is_not_idle_time(ask):
    gate = threading.Event()
    stream = ask([head(), once(gate), *THREE, *REST], heartbeat=0.02, stream_idle_timeout=0.5)
    assert next(stream) == Heartbeat()
    gate.set()
    time.sleep(0.6)
    assert stream.collect().text == TEXT
    assert len(stream.attempts) == 1


def test_a_stream_closed_in_the_moment_it_begins_again_leaves_nothing_open(serve, connect, monkeypatch):
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
