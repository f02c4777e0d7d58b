"""What a stream that has ended gives to those who read it again: nothing, its error, or `StreamClosed`."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from support import REST, THREE, WORDS, text_of, wait_for

from chatstream import (
    Cancelled,
    ChatStreamError,
    Completed,
    DeadlineExceeded,
    Heartbeat,
    IdleTimeout,
    OutputTextDelta,
    ProviderError,
    ResponseStream,
    StreamClosed,
    StreamTruncated,
)
from chatstream._http.response import ScopedResponse
from chatstream.testing import cut, delta, done, end, event, finish, head, stall

pytestmark = pytest.mark.usefixtures("short_waits")
TEXT = "".join(WORDS)
SILENT = [head(), *THREE, stall()]
WHOLE = [head(), *THREE, *REST]
Open = Callable[..., ResponseStream]

READINGS: dict[str, Callable[[ResponseStream], Any]] = {
    "a loop": list,
    "next": next,
    "text": lambda stream: list(stream.text()),
    "aggregate": lambda stream: list(stream.aggregate()),
    "collect": lambda stream: stream.collect(),
}
every_reading = pytest.mark.parametrize("read", READINGS.values(), ids=READINGS.keys())


@pytest.fixture(params=[False, True], ids=["http", "https"])
def open_stream(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Iterator[Open]:
    """A function that opens a stream to a server with these scripts, over plain HTTP and over TLS."""
    options = {}
    if request.param:
        request.getfixturevalue("trusted")
        options["tls"] = request.getfixturevalue("tls")
    streams: list[ResponseStream] = []

    def opened(*scripts: Any, heartbeat: float | None = None, **settings: Any) -> ResponseStream:
        client = connect(serve(*scripts, **options), stream_max_retries=0, **settings)
        streams.append(client.stream("Hi", heartbeat=heartbeat))
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


def raised(read: Callable[[], Any]) -> ChatStreamError:
    with pytest.raises(ChatStreamError) as caught:
        read()
    return caught.value


def break_out(stream: ResponseStream) -> None:
    for each in stream:
        if each == OutputTextDelta(WORDS[0]):
            break


def break_out_of_text(stream: ResponseStream) -> None:
    for _ in stream.text():
        break


def break_out_of_aggregate(stream: ResponseStream) -> None:
    for each in stream.aggregate():
        if each == Heartbeat() and stream.turn.text:
            break


def fail_in_the_loop(stream: ResponseStream) -> None:
    def fail() -> None:
        for _ in stream.text():
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        fail()
    gc.collect()


def close_after_next(stream: ResponseStream) -> None:
    while next(stream) != OutputTextDelta(WORDS[0]):
        pass
    stream.close()


def leave_its_block(stream: ResponseStream) -> None:
    with stream:
        while next(stream) != OutputTextDelta(WORDS[0]):
            pass


WAYS_TO_LEAVE = [
    break_out,
    break_out_of_text,
    break_out_of_aggregate,
    fail_in_the_loop,
    close_after_next,
    leave_its_block,
]


# ── streams that were given up ──────────────────────────────────────────────────────────────────────────────────


@every_reading
@pytest.mark.parametrize("leave", WAYS_TO_LEAVE, ids=lambda leave: leave.__name__)
def test_what_reads_a_stream_after_it_was_left_raises_stream_closed_with_the_turn_received(open_stream, leave, read):
    stream = open_stream(SILENT, heartbeat=0.02)
    leave(stream)
    received = stream.turn.text
    assert received.startswith(WORDS[0])
    for _ in range(2):
        error = raised(lambda: read(stream))
        assert type(error) is StreamClosed
        assert error.partial is not None
        assert error.partial.text == received
        assert [attempt.status for attempt in error.attempts] == [200]
        assert not error.retryable
    assert stream.turn.text == received


@every_reading
def test_what_reads_a_stream_that_was_closed_unread_raises_stream_closed(open_stream, read):
    stream = open_stream(SILENT)
    stream.close()
    assert type(raised(lambda: read(stream))) is StreamClosed


@every_reading
@pytest.mark.parametrize("take", [ResponseStream.text, ResponseStream.aggregate], ids=["text", "aggregate"])
def test_what_reads_a_stream_after_an_iterator_over_it_was_closed_unread_raises_stream_closed(open_stream, take, read):
    stream = open_stream(SILENT)
    take(stream).close()
    assert type(raised(lambda: read(stream))) is StreamClosed


@every_reading
def test_what_reads_a_stream_after_cancel_raises_cancelled_which_is_a_stream_closed(open_stream, read):
    stream = open_stream(SILENT)
    close_after = [next(stream) for _ in range(4)]
    stream.cancel()
    first = raised(lambda: read(stream))
    assert isinstance(first, StreamClosed)
    assert type(first) is Cancelled
    assert first.partial is not None
    assert first.partial.text == text_of(close_after)
    for again in READINGS.values():
        assert raised(partial(again, stream)) is first


def test_the_items_of_aggregate_that_were_not_taken_are_reported_as_missing(open_stream):
    stream = open_stream(WHOLE)
    for _ in stream.aggregate():
        break  # the message; the answer is complete, but its end was not handed over
    assert stream.turn.status == "completed"
    error = raised(lambda: list(stream.aggregate()))
    assert type(error) is StreamClosed
    assert error.partial == stream.turn


def test_a_loop_that_is_left_at_completed_has_missed_nothing(open_stream):
    for take in (iter, ResponseStream.aggregate):
        stream = open_stream(WHOLE)
        for each in take(stream):
            if isinstance(each, Completed):
                break
        assert list(stream) == []
        assert stream.collect().text == TEXT


def test_next_leaves_a_stream_open_for_a_loop_and_for_collect(open_stream):
    stream = open_stream(WHOLE)
    next(stream)
    next(stream)
    assert stream.collect().text == TEXT


def test_collect_raises_stream_closed_when_another_thread_closes_the_stream_that_it_reads(open_stream):
    stream = open_stream(SILENT)
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(stream.collect)
        while stream.turn.text != TEXT:
            time.sleep(0.002)
        stream.close()
        error = turn.exception()
    assert type(error) is StreamClosed
    assert error.partial is not None
    assert error.partial.text == TEXT


@pytest.mark.parametrize("take", ["events", "text", "aggregate"])
def test_a_loop_that_another_thread_closes_ends_without_an_error_and_later_ones_raise(open_stream, take):
    stream = open_stream(SILENT)
    loop = {"events": list, "text": READINGS["text"], "aggregate": READINGS["aggregate"]}[take]
    with ThreadPoolExecutor(1) as pool:
        items = pool.submit(loop, stream)
        while stream.turn.text != TEXT:
            time.sleep(0.002)
        stream.close()
        assert len(items.result()) == {"events": 4, "text": 3, "aggregate": 0}[take]
    assert type(raised(lambda: loop(stream))) is StreamClosed


def test_an_interrupt_leaves_a_stream_whose_readers_get_stream_closed(open_stream):
    stream = open_stream(WHOLE)

    def interrupted() -> None:
        for each in stream:
            if each == OutputTextDelta(WORDS[0]):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    gc.collect()
    error = raised(stream.collect)
    assert type(error) is StreamClosed
    assert error.partial is not None
    assert error.partial.text == WORDS[0]


# ── streams that ended with an error ────────────────────────────────────────────────────────────────────────────

FAULTS: dict[str, tuple[list[Any], dict[str, Any], type[ChatStreamError]]] = {
    "cut": ([cut()], {}, StreamTruncated),
    "error event": ([event({"error": {"message": "no", "code": 7}}), end()], {}, ProviderError),
    "silence": ([stall()], {"stream_idle_timeout": 0.1}, IdleTimeout),
    "deadline": ([stall()], {"deadline": 0.4}, DeadlineExceeded),
}


@every_reading
@pytest.mark.parametrize("count", [0, 3], ids=["before its first event", "after three events"])
@pytest.mark.parametrize("ending", FAULTS.values(), ids=FAULTS.keys())
def test_every_further_reading_raises_the_error_that_ended_the_stream(open_stream, ending, count, read):
    fault, options, kind = ending
    stream = open_stream([head(), *THREE[:count], *fault], **options)
    first = raised(lambda: [read(stream) for _ in range(9)])
    assert type(first) is kind
    for again in READINGS.values():
        assert raised(partial(again, stream)) is first
    assert first.partial is not None
    assert first.partial.text == "".join(WORDS[:count])


def test_the_traceback_of_an_error_does_not_grow_with_each_reading(open_stream):
    stream = open_stream([head(), *THREE, cut()])
    error = raised(stream.collect)
    lengths = []
    for _ in range(3):
        raised(stream.collect)
        lengths.append(len(traceback.extract_tb(error.__traceback__)))
    assert lengths[0] == lengths[1] == lengths[2]


def test_a_second_reader_does_not_end_the_stream_with_its_error(open_stream):
    gate = threading.Event()
    stream = open_stream([head(), *THREE, wait_for(gate), *REST])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, stream)
        while stream.turn.text != TEXT:
            time.sleep(0.002)
        assert "another loop is already reading this stream" in str(raised(lambda: list(stream)))
        gate.set()
        assert text_of(reading.result()) == TEXT
    assert list(stream) == []


def test_a_next_that_collides_with_a_loop_does_not_let_a_second_loop_in(open_stream):
    """It took away the mark of the loop that was reading."""
    sent, handled = threading.Event(), threading.Event()
    stream = open_stream([head(), *THREE[:2], wait_for(sent), *THREE[2:], *REST])
    while next(stream) != OutputTextDelta(WORDS[1]):
        pass

    def read_slowly() -> list[Any]:
        return [event for event in stream if handled.wait(5)]

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_slowly)
        time.sleep(0.1)  # it waits for the server
        assert "another loop is already reading this stream" in str(raised(partial(next, stream)))
        sent.set()
        time.sleep(0.1)  # it is busy with an event
        assert "another loop is already reading this stream" in str(raised(partial(list, stream)))
        handled.set()
        assert text_of(reading.result()) == WORDS[2]


def test_a_loop_with_heartbeats_ends_quietly_if_another_thread_frees_what_it_waits_for(open_stream, monkeypatch):
    stream = open_stream(SILENT, heartbeat=0.01)

    def close_and_wait(*_: Any) -> bool:
        stream.close()
        raise ValueError("file descriptor cannot be a negative integer (-1)")  # what a closed socket gives to a poll

    monkeypatch.setattr(ScopedResponse, "wait", close_and_wait)
    assert TEXT.startswith(text_of(list(stream)))


def test_the_total_time_is_known_to_each_of_two_threads_that_end_a_stream(open_stream):
    stream = open_stream(SILENT)
    with stream._reader._closing:  # the other thread is about to end it
        stream.close()
        assert stream.timing.total is not None


# ── streams that are complete ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("read", [list, READINGS["collect"], READINGS["aggregate"]], ids=["loop", "collect", "items"])
def test_after_completed_a_loop_is_empty_and_collect_returns_the_turn_again(open_stream, read):
    stream = open_stream([head(), delta("fine"), finish(), done(), end()])
    read(stream)
    stream.close()
    stream.cancel()
    for _ in range(2):
        assert list(stream) == list(stream.text()) == list(stream.aggregate()) == []
        assert next(stream, None) is None
        turn = stream.collect()
        assert (turn.text, turn.status) == ("fine", "completed")
