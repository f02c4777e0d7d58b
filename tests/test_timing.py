"""`Timing`: what the times of a stream and of its turn say."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from support import REST, THREE, WORDS, body, wait_for

from chatstream import (
    Completed,
    ConfigError,
    OutputTextDelta,
    ResponseStream,
    StreamTruncated,
    Timing,
    collect,
    read_events,
)
from chatstream._calls.timing import MOST_READS, Arrivals
from chatstream.testing import cut, delta, done, end, event, finish, head, pause, send, status

pytestmark = pytest.mark.usefixtures("short_waits")
USAGE = {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}
Open = Callable[..., ResponseStream]

READINGS: dict[str, Callable[[ResponseStream], Any]] = {
    "loop": list,
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
        streams.append(connect(serve(*scripts, **options), **settings).stream("Hi", heartbeat=heartbeat))
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


def timing_of(stream: ResponseStream) -> Any:
    """The times of a stream that is over, which are those of its turn, too."""
    assert stream.turn.timing == stream.timing
    return stream.timing


@every_reading
def test_first_event_is_when_the_first_event_arrived_however_the_stream_is_read(open_stream, read):
    stream = open_stream([head(), delta("", reasoning_content="hm"), pause(0.1), *THREE, pause(0.1), *REST])
    read(stream)
    timing = timing_of(stream)
    assert 0 < timing.headers <= timing.first_event < timing.first_text - 0.08
    assert timing.first_text < timing.total - 0.08


def test_first_event_is_none_until_an_event_has_arrived(open_stream):
    gate = threading.Event()
    stream = open_stream([head(), wait_for(gate), *THREE, *REST], heartbeat=0.02)
    next(stream)
    timing = timing_of(stream)
    assert timing.headers > 0
    assert (timing.first_event, timing.first_text, timing.total) == (None, None, None)
    assert (timing.longest_gap, timing.tokens_per_second, timing.bytes) == (None, None, 0)
    gate.set()
    stream.collect()
    assert timing_of(stream).first_event > timing.headers


def test_a_timing_that_is_read_while_the_first_text_arrives_has_no_first_text_without_a_first_event():
    class Arriving(Arrivals):
        """Another thread notes the first event and its text as soon as one of the two has been read."""

        def _since_start(self, at: float | None) -> float | None:
            self.first_event = self.first_text = self.started + 1.0
            return super()._since_start(at)

    timing = Arriving(0.0).timing(None, 0, False, None)
    assert (timing.first_event, timing.first_text) == (1.0, None)


def test_first_text_is_none_for_an_answer_without_text(open_stream):
    entry = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    call = event({"choices": [{"index": 0, "delta": {"tool_calls": [entry]}, "finish_reason": "tool_calls"}]})
    stream = open_stream([head(), call, done(), end()])
    assert len(stream.collect().function_calls) == 1
    timing = timing_of(stream)
    assert timing.first_event is not None
    assert timing.first_text is None


def test_an_answer_that_comes_as_one_json_object_has_a_first_event_and_a_first_text(open_stream):
    message = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE}
    stream = open_stream(status(200, message))
    assert stream.collect().text == "Hi"
    timing = timing_of(stream)
    assert timing.headers <= timing.first_event == timing.first_text <= timing.total
    assert timing.tokens_per_second is None  # nothing says how long they took
    assert timing.bytes == len(json.dumps(message))


def test_the_events_that_the_end_of_a_broken_answer_releases_have_a_time(open_stream):
    held = delta("<thi")  # the beginning of a tag, perhaps
    stream = open_stream([head(), held, cut()], think_tags=("think",), stream_max_retries=0)
    events = []
    with pytest.raises(StreamTruncated) as caught:
        events.extend(stream)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "<thi"
    assert caught.value.partial.timing is not None
    assert caught.value.partial.timing.first_text is not None


@every_reading
def test_longest_gap_is_the_longest_wait_between_two_events(open_stream, read):
    stream = open_stream([head(), pause(0.2), *THREE[:1], pause(0.02), *THREE[1:2], pause(0.1), *THREE[2:], *REST])
    read(stream)
    gap = timing_of(stream).longest_gap
    assert 0.09 < gap < 0.19


def test_longest_gap_goes_on_over_comments_and_heartbeats(open_stream):
    comments = [send(b"5\r\n: a\n\n\r\n"), pause(0.15)] * 3
    stream = open_stream([head(), *THREE[:1], *comments, *THREE[1:], *REST], heartbeat=0.05)
    list(stream)
    assert timing_of(stream).longest_gap > 0.35  # 0.45 if the first event was received at once


def test_longest_gap_leaves_out_the_time_that_the_callers_loop_takes(open_stream):
    stream = open_stream([head(), *(step for word in WORDS for step in (delta(word), pause(0.01))), *REST])
    for each in stream:
        if each == OutputTextDelta(WORDS[0]):
            time.sleep(0.3)
    assert timing_of(stream).longest_gap < 0.25


def test_tokens_per_second_are_the_output_tokens_over_the_time_between_first_and_last_event(open_stream):
    stream = open_stream([head(), *THREE[:1], pause(0.3), *THREE[1:], finish(usage=USAGE), done(), end()])
    assert stream.timing.tokens_per_second is None
    stream.collect()
    assert 50 < timing_of(stream).tokens_per_second < 130  # 100, if no event arrives late


def test_tokens_per_second_are_none_without_token_usage(open_stream):
    stream = open_stream([head(), *THREE[:1], pause(0.01), *THREE[1:], *REST])
    stream.collect()
    assert timing_of(stream).tokens_per_second is None


def test_bytes_are_those_of_the_body_after_decompression(open_stream):
    stream = open_stream([head(), *THREE, *REST])
    stream.collect()
    assert timing_of(stream).bytes >= sum(len(body(word)) for word in WORDS)


def test_reused_says_whether_the_connection_has_served_another_call(serve, connect):
    client = connect(serve([head(), *THREE, *REST]))
    assert [client.stream("Hi").collect().timing.reused for _ in range(3)] == [False, True, True]


@every_reading
def test_retries_count_refused_requests_and_restarts(open_stream, read):
    broken = [head(), cut()]
    stream = open_stream(status(503), broken, [head(), *THREE, *REST])
    read(stream)
    timing = timing_of(stream)
    assert timing.retries == len(stream.attempts) - 1 == 2


def test_after_a_restart_the_times_are_those_of_the_last_attempt(open_stream):
    stream = open_stream([head(), *THREE, pause(0.2), cut()], [head(), *THREE, *REST])
    stream.collect()
    timing = timing_of(stream)
    assert 0.15 < timing.headers <= timing.first_event
    assert timing.longest_gap is None or timing.longest_gap < 0.15


def test_the_times_of_a_turn_from_recorded_bytes_are_none():
    recorded = b"".join(map(body, WORDS)) + b"data: [DONE]\n\n"
    assert collect(read_events(recorded)).timing is None
    assert Timing() == Timing(None, None, None, None, None, None, 0, 0, False)


def test_the_last_event_of_next_has_the_times_of_the_answer_before_the_stream_has_ended(open_stream):
    stream = open_stream([head(), *THREE, *REST])
    while not isinstance(next(stream), Completed):
        pass
    assert stream.timing.total is None
    assert stream.timing.first_text is not None


# ── arrivals ────────────────────────────────────────────────────────────────────────────────────────────────────


@every_reading
def test_arrivals_have_each_read_with_its_time_and_all_bytes_until_then(open_stream, read):
    stream = open_stream([head(), *THREE[:1], pause(0.2), *THREE[1:], *REST])
    read(stream)
    timing = timing_of(stream)
    moments, sizes = zip(*timing.arrivals, strict=True)
    assert moments[0] == timing.first_event
    assert moments[-1] <= timing.total
    assert list(moments) == sorted(moments)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == timing.bytes
    assert max(later - before for before, later in pairwise(moments)) > 0.15


def test_there_are_no_arrivals_until_bytes_have_arrived_and_more_of_them_afterwards(open_stream):
    gate = threading.Event()
    stream = open_stream([head(), *THREE[:1], wait_for(gate), *THREE[1:], *REST])
    assert stream.timing.arrivals == ()
    next(stream)
    first = stream.timing.arrivals
    assert len(first) == 1
    gate.set()
    stream.collect()
    assert stream.timing.arrivals[: len(first)] == first
    assert len(stream.timing.arrivals) > 1


def test_arrivals_after_a_restart_are_those_of_the_last_attempt(open_stream):
    stream = open_stream([head(), *THREE, pause(0.2), cut()], [head(), *THREE, *REST])
    stream.collect()
    assert timing_of(stream).arrivals[0][0] > 0.15


def test_the_arrivals_of_a_long_answer_are_bounded_and_its_waits_stay_where_they_were(open_stream):
    flood = [step for _ in range(2 * MOST_READS) for step in (delta("word "), pause(0.0005))]
    stream = open_stream([head(), *flood, pause(0.5), *flood, *REST])
    stream.collect()
    timing = timing_of(stream)
    assert 10 <= len(timing.arrivals) <= MOST_READS
    (begin, read), (end, _) = max(pairwise(timing.arrivals), key=lambda pair: pair[1][0] - pair[0][0])
    assert end - begin > 0.4
    assert 0.4 * timing.bytes < read < 0.6 * timing.bytes


def reads_at(moments: Iterable[float]) -> Arrivals:
    """Reads of ten bytes each at these seconds, kept as `OpenAttempt` keeps them."""
    arrivals = Arrivals(0.0)
    for moment in moments:
        arrivals.bytes += 10
        arrivals.reads.append((moment, arrivals.bytes))
        if len(arrivals.reads) > MOST_READS:
            arrivals.thin()
    return arrivals


@pytest.mark.parametrize("count", [MOST_READS, MOST_READS + 1, 700, 1000, 7777])
def test_reads_that_are_kept_are_late_by_less_than_a_fiftieth_of_the_time(count):
    kept = reads_at(float(number) for number in range(count)).reads
    assert len(kept) <= MOST_READS
    assert kept[-1] == (count - 1.0, 10 * count)
    for moment in range(count):
        shown = next(at for at, read in kept if read >= 10 * (moment + 1))
        assert 0 <= shown - moment < count / 50


def test_reads_at_one_moment_are_kept_as_one():
    for moment in (0.0, 1.0):
        assert reads_at([moment] * (MOST_READS + 1)).reads == [(moment, 10 * (MOST_READS + 1))]


def test_all_reads_of_a_burst_count_as_before_the_wait_that_follows_it():
    burst = [number / 1e6 for number in range(MOST_READS)]
    kept = reads_at([*burst, 60.0]).reads
    assert kept == [(burst[-1], 10 * MOST_READS), (60.0, 10 * MOST_READS + 10)]


def test_a_timing_with_arrivals_survives_json_pickle_and_copy(open_stream):
    stream = open_stream([head(), *THREE, *REST])
    stream.collect()
    timing = timing_of(stream)
    assert Timing.from_dict(json.loads(json.dumps(timing.to_dict()))) == timing
    assert pickle.loads(pickle.dumps(timing)) == copy.deepcopy(timing) == timing
    assert hash(timing) == hash(copy.copy(timing))
    assert replace(timing, arrivals=()) != timing
    assert "arrivals" not in repr(timing)
    assert "arrivals" not in replace(timing, arrivals=()).to_dict()


@pytest.mark.parametrize("arrivals", [5, [5], [[1.0]], [["1", 2]], [[1.0, 2.5]], {"a": 1}, "ab"])
def test_arrivals_of_another_form_are_refused(arrivals):
    with pytest.raises(ConfigError, match=r"expected a list|arrivals must be pairs of seconds and bytes"):
        Timing.from_dict({"arrivals": arrivals})
