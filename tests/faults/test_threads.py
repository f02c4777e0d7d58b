"""Threads and signals: streams that several threads read, look at and end, and a clock that test tools freeze."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support import REST, THREE, WORDS, alarm, text_of, wait_for, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Client,
    Completed,
    ConfigError,
    DeadlineExceeded,
    IdleTimeout,
    OutputTextDelta,
    StreamClosed,
    Turn,
)
from chatstream._calls import attempt, reader
from chatstream._http.connection import ScopedPool
from chatstream._http.reply import Reply
from chatstream._runtime import clock
from chatstream.testing import chunk, cut, delta, done, end, event, finish, forever, head, pause, stall, text_answer

TEXT = "".join(WORDS)
MANY = [f"{number} " for number in range(200)]
AT_ONCE = b"".join(
    b"data: %b\n\n" % json.dumps({"id": "c1", "choices": [{"index": 0, "delta": {"content": word}}]}).encode()
    for word in MANY
)


@pytest.fixture(params=[pytest.param(False, id="plain"), pytest.param(True, id="TLS")])
def serve_both(request: pytest.FixtureRequest, serve: Any) -> Any:
    """`serve` over plain HTTP and over TLS."""
    if not request.param:
        return serve
    request.getfixturevalue("trusted")
    context = request.getfixturevalue("tls")
    return lambda *scripts: serve(*scripts, tls=context)


def error_in_thread(function: Any) -> Any:
    """What ``function`` raises in another thread, or its result."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function)
        return future.exception() or future.result()


# ── one reader at a time ────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_opened_in_one_thread_is_read_by_a_new_thread_for_each_event(serve_both, connect):
    stream = connect(serve_both(text_answer(*WORDS))).stream("Hi")
    texts, read = stream.text(), []
    while (piece := error_in_thread(lambda: next(texts, None))) is not None:
        read.append(piece)
    assert read == WORDS
    assert stream.turn.status == "completed"


def test_a_loop_in_another_thread_goes_on_after_the_events_that_next_has_returned(serve_both, connect):
    stream = connect(serve_both(text_answer(*WORDS))).stream("Hi")
    first = [next(stream), next(stream)]
    assert text_of(first + error_in_thread(lambda: list(stream))) == TEXT


READINGS = {
    "a loop": list,
    "next": next,
    "text": lambda stream: list(stream.text()),
    "aggregate": lambda stream: list(stream.aggregate()),
    "collect": lambda stream: stream.collect(),
}


@pytest.mark.parametrize("second", READINGS.values(), ids=READINGS.keys())
@pytest.mark.parametrize("first", [list, lambda stream: list(stream.aggregate())], ids=["loop", "aggregate"])
def test_a_second_reader_gets_an_error_and_the_first_one_all_events(serve_both, connect, first, second):
    gate = threading.Event()
    stream = connect(serve_both([head(), *THREE, wait_for(gate), *REST])).stream("Hi")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(first, stream)
        while stream.turn.text != TEXT:
            time.sleep(0.002)
        for _ in range(2):
            with pytest.raises(ConfigError, match="another loop is already reading this stream"):
                second(stream)
        gate.set()
        events = reading.result()
    assert isinstance(events[-1], Completed)
    assert stream.turn.text == TEXT
    assert list(stream) == []


def test_a_second_reader_gets_an_error_also_while_the_first_one_works_on_an_event(serve, connect):
    stream = connect(serve(text_answer(*MANY))).stream("Hi")
    errors, read = [], ""
    for piece in stream.text():
        read += piece
        if len(errors) < 3:
            errors.append(error_in_thread(lambda: list(stream)))
    assert read == "".join(MANY)
    assert [type(error) for error in errors] == [ConfigError] * 3


def test_a_reader_beside_one_that_uses_next_gets_an_error_when_they_collide(serve, connect):
    gate = threading.Event()
    stream = connect(serve([head(), wait_for(gate), *THREE, *REST])).stream("Hi")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(next, stream)
        time.sleep(0.05)  # it waits
        for read in (list, next):
            with pytest.raises(ConfigError, match="another loop is already reading this stream"):
                read(stream)
        gate.set()
        reading.result()
    assert text_of(list(stream)) == TEXT


def at_once(*functions: Any) -> list[Any]:
    """What the functions return or raise in threads that begin at the same time."""
    together = threading.Barrier(len(functions), timeout=5)

    def run(function: Any) -> Any:
        together.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.exception() or future.result() for future in futures]


def test_of_two_loops_that_begin_at_the_same_time_one_gets_an_error(serve, connect, monkeypatch):
    check = reader._check_free

    def check_slowly(*arguments: Any) -> None:
        check(*arguments)
        time.sleep(0.1)

    stream = connect(serve([head(), *THREE, pause(0.5), *REST])).stream("Hi")
    monkeypatch.setattr(reader, "_check_free", check_slowly)
    results = at_once(lambda: list(stream), lambda: list(stream))
    (error,) = (each for each in results if isinstance(each, Exception))
    assert isinstance(error, ConfigError)
    results.remove(error)
    assert text_of(results[0]) == TEXT


def test_two_threads_that_call_next_at_the_same_time_share_one_iterator(serve, connect, monkeypatch):
    """To drop a second one would close the stream."""
    stream = connect(serve([head(), *THREE, *REST])).stream("Hi")
    run = stream._reader.run
    made: list[Any] = []

    def run_slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.1)
        made.append(run(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(stream._reader, "run", run_slowly)
    results = at_once(lambda: next(stream), lambda: next(stream))
    assert len(made) == 1
    events = [each for each in results if not isinstance(each, ConfigError)]  # of those that have collided
    assert 1 <= len(events) <= 2
    assert text_of([*sorted(events, key=lambda each: isinstance(each, OutputTextDelta)), *stream]) == TEXT


def test_next_on_an_iterator_that_another_thread_has_ended_with_an_error_does_not_end_the_stream(serve, connect):
    stream = connect(serve([head(), *THREE, *REST])).stream("Hi")
    stream._iterator = iter(())  # as it is until the other thread, which got `ConfigError` from it, drops it
    with pytest.raises(ConfigError, match="another loop is already reading this stream"):
        next(stream)
    assert text_of(list(stream)) == TEXT


@pytest.mark.parametrize("ends", [False, True])
def test_the_tokens_of_a_broken_answer_count_although_another_thread_closes_the_next_one(
    serve, connect, monkeypatch, ends
):
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    broken = [head(), event({"id": "c1", "choices": [], "usage": usage}), cut()]
    client = connect(serve(broken, text_answer("x", usage=usage)))
    stream = client.stream("Hi")
    read = attempt.OpenAttempt.read

    def read_and_close(self: Any) -> Any:
        if ends:
            stream.close()
        return read(self)

    monkeypatch.setattr(attempt.OpenAttempt, "read", read_and_close)
    if ends:
        with pytest.raises(StreamClosed):
            stream.collect()
    else:
        assert stream.collect().text == "x"
    assert client.usage.tokens.total_tokens == (10 if ends else 20)


def test_a_loop_may_follow_one_whose_thread_has_ended(serve, connect):
    stream = connect(serve(text_answer(*WORDS))).stream("Hi")
    kept: list[Any] = []

    def begin() -> None:
        kept.append(iter(stream))
        kept.append(next(kept[0]))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert text_of(list(stream)) == TEXT


@pytest.mark.parametrize("read", [list, next], ids=["loop", "next"])
def test_a_value_error_that_is_no_collision_passes_through_the_iterators(serve, connect, monkeypatch, read):
    def fail(_: Reply) -> bytes:
        raise ValueError("a defect of this library")

    monkeypatch.setattr(Reply, "read", fail)
    with pytest.raises(ValueError, match="a defect"):
        read(connect(serve([head(), *THREE, stall()])).stream("Hi"))


# ── the turn, seen from another thread ──────────────────────────────────────────────────────────────────────────


def call_delta(number: int, choice: int, arguments: str, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    call = {"index": number, "function": function} | ({"id": f"call-{choice}-{number}"} if name else {})
    return {"index": choice, "delta": {"tool_calls": [call]}}


def busy_answer(choices: int, calls: int) -> Iterator[Any]:
    """Steps of an answer with many choices, each with reasoning, text, calls and other data."""
    yield head()
    for choice in range(choices):
        for number in range(5):
            fields = {"reasoning": f"r{number} ", "content": f"t{number} "}
            extra = {"logprobs": {"content": [{"token": str(number)}]}, "audio": {"id": "a", "data": "ABCD"}}
            yield event({"id": "c1", "model": "m1", "choices": [{"index": choice, "delta": fields, **extra}]})
        for number in range(calls):
            for part in (call_delta(number, choice, "", "f"), call_delta(number, choice, '{"a":')):
                yield event({"choices": [part], "usage": {"prompt_tokens": number, f"key{choice}-{number}": {"n": 1}}})
            yield event({"choices": [call_delta(number, choice, "1}")]})
    yield from (finish("tool_calls", choice=choice) for choice in range(choices))
    yield from (done(), end())


def assert_consistent(turn: Turn, before: Turn | None, calls: int) -> None:
    """A turn that may be one of an answer in progress, and does not go back behind an earlier one."""
    repr(turn)
    for number, view in enumerate(turn.choices):
        ids = [call.call_id for call in view.function_calls]
        assert len(ids) == len(set(ids)) <= calls
        assert [int(id.rpartition("-")[2]) for id in ids] == list(range(len(ids)))
        assert all('{"a":1}'.startswith(call.arguments) for call in view.function_calls)
        assert "t0 t1 t2 t3 t4 ".startswith(view.text)
        assert "r0 r1 r2 r3 r4 ".startswith(view.reasoning)
        assert (view.finish_reason is None) == (view.finish_kind is None)
        if before is not None and number < len(before.choices):
            assert len(before.choices[number].function_calls) <= len(ids)
            assert view.text.startswith(before.choices[number].text)


@pytest.mark.usefixtures("switch_often")
@pytest.mark.parametrize("aggregated", [False, True], ids=["events", "aggregate"])
def test_the_turn_is_consistent_in_another_thread_at_any_time(serve, connect, aggregated):
    choices, calls = 6, 12
    stream = connect(serve(list(busy_answer(choices, calls)))).stream("Hi", n=choices)
    errors, seen = [], []
    over = threading.Event()

    def poll() -> None:
        before: Turn | None = None
        try:
            while not over.is_set():
                assert_consistent(turn := stream.turn, before, calls)
                seen.append(before := turn)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        events = list(stream.aggregate() if aggregated else stream)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert isinstance(events[-1], Completed)
    assert len(stream.turn.choices) == choices
    assert {len(view.function_calls) for view in stream.turn.choices} == {calls}
    assert len({len(turn.choices) for turn in seen}) > 1


def test_looking_at_the_turn_makes_no_choice_of_an_answer(serve, connect):
    stream = connect(serve([head(), delta("b", choice=1), *THREE, finish(), finish(choice=1), done(), end()])).stream(
        "Hi", n=2
    )
    next(stream)
    assert [view.text for view in stream.turn.choices][-1] in ("", "b")
    assert [view.text for view in stream.collect().choices] == [TEXT, "b"]


def test_a_turn_does_not_change_with_the_stream(serve, connect):
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [1]}}
    pieces = [event({"id": "c1", "choices": [choice], "usage": {"prompt_tokens": 1, "more": {"n": n}}}) for n in (1, 2)]
    stream = connect(serve([head(), *pieces, *REST])).stream("Hi")
    [next(stream), next(stream)]
    turn, shown = stream.turn, repr(stream.turn)
    raw = repr(turn.token_usage and turn.token_usage.raw)
    stream.collect()
    assert (repr(turn), repr(turn.token_usage and turn.token_usage.raw)) == (shown, raw)


# ── cancel and close while many events wait ─────────────────────────────────────────────────────────────────────

TAKES = {
    "events": (iter, [chunk(AT_ONCE)]),
    "text": (lambda stream: stream.text(), [chunk(AT_ONCE)]),
    "calls at the end": (
        iter,
        [event({"id": "c1", "choices": [call_delta(number, 0, "{", "f") for number in range(200)]})],
    ),
    "whole items": (
        lambda stream: stream.aggregate(),
        [event({"id": "c1", "choices": [call_delta(number, 0, "{}", "f") for number in range(200)]})],
    ),
}


@pytest.mark.parametrize("taken", TAKES.values(), ids=TAKES.keys())
@pytest.mark.parametrize("end_it", ["cancel", "close", "client.cancel"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["in the loop", "in another thread"])
def test_a_stream_that_is_ended_while_200_events_wait_ends_at_the_next_event(serve, connect, taken, end_it, in_thread):
    take, steps = taken
    client = connect(serve([head(), *steps, finish("tool_calls"), done(), end()]))
    stream = client.stream("Hi", n=200 if "tool" in str(steps) else 1)
    read, error = 0, None
    actions = {"cancel": stream.cancel, "close": stream.close, "client.cancel": client.cancel}
    try:
        for _ in take(stream):
            read += 1
            if read == 5:
                error_in_thread(actions[end_it]) if in_thread else actions[end_it]()
    except ChatStreamError as caught:
        error = caught
    assert read == 5
    assert type(error) is (type(None) if end_it == "close" else Cancelled)


def test_cancel_after_completed_does_not_turn_a_whole_answer_into_an_error(serve, connect):
    stream = connect(serve(text_answer(*WORDS))).stream("Hi")
    for each in stream:
        if isinstance(each, Completed):
            stream.cancel()
    assert stream.turn.status == "completed"


def test_a_slow_computation_in_the_loop_does_not_delay_the_deadline_by_more_than_one_event(serve, connect):
    stream = connect(serve([head(), chunk(AT_ONCE), stall()])).stream("Hi", deadline=0.3)
    with within(0.5, least=0.3), pytest.raises(DeadlineExceeded):
        [time.sleep(0.05) for _ in stream]


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def signals_every(seconds: float) -> Iterator[list[int]]:
    """SIGALRM in this interval, with a handler that returns."""
    received: list[int] = []
    with alarm(lambda number, _: received.append(number), seconds, seconds):
        yield received


needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")


@needs_timers
@pytest.mark.parametrize(
    ("script", "options", "kind"),
    [
        ([stall()], {"deadline": 0.3}, DeadlineExceeded),
        ([stall()], {"stream_idle_timeout": 0.3, "request_max_retries": 0}, IdleTimeout),
        ([head(), stall()], {"deadline": 0.3}, DeadlineExceeded),
        ([head(), *THREE, stall()], {"stream_idle_timeout": 0.3}, IdleTimeout),
        ([head(), *THREE, forever(chunk(b": comment\n\n"), pause(0.01))], {"stream_idle_timeout": 0.3}, IdleTimeout),
    ],
    ids=["headers", "headers, idle", "first event", "after three events", "comments"],
)
def test_limits_hold_while_signals_arrive_every_50_ms(serve_both, connect, script, options, kind):
    client = connect(serve_both(script), stream_max_retries=0, **options)
    with signals_every(0.05) as received, within(0.6, least=0.3), pytest.raises(kind):
        client.stream("Hi").collect()
    assert len(received) >= 3


@needs_timers
def test_signals_neither_shorten_nor_lengthen_the_wait_before_a_retry(serve, connect):
    server = serve([head(503, {"retry-after-ms": "300"}, framing=0)], text_answer(*WORDS))
    with signals_every(0.05), within(0.6, least=0.3):
        assert connect(server).stream("Hi").collect().text == TEXT


@needs_timers
def test_a_stream_is_whole_while_signals_arrive_and_other_threads_read_each_event(serve_both, connect):
    steps = [step for word in WORDS * 5 for step in (delta(word), pause(0.03))]
    client = connect(serve_both([head(), *steps, *REST]))
    with signals_every(0.05) as received:
        assert client.stream("Hi").collect().text == TEXT * 5
        texts = client.stream("Hi").text()
        with ThreadPoolExecutor(3) as pool:
            pieces = iter(lambda: pool.submit(next, texts, None).result(), None)
            assert "".join(pieces) == TEXT * 5
    assert len(received) >= 10


@needs_timers
def test_ctrl_c_ends_a_stream_while_signals_arrive(serve_both, connect, interrupt):
    server = serve_both([head(), *THREE, stall()])
    stream = connect(server).stream("Hi")
    with signals_every(0.05), within(0.5, least=0.2):
        threading.Timer(0.2, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    assert stream.turn.text == TEXT
    assert server.client_closed()


@needs_timers
def test_a_signal_handler_may_cancel_the_call_that_it_interrupts(serve, connect):
    client = connect(serve([head(503, {"retry-after": "9"}, framing=0)]))
    with alarm(lambda *_: client.cancel(), 0.1, 0.001), within(0.3, least=0.1), pytest.raises(Cancelled):
        client.stream("Hi")


# ── a clock that test tools freeze ──────────────────────────────────────────────────────────────────────────────

REAL_CLOCK = partial(time.monotonic)


@pytest.fixture
def frozen_time() -> Iterator[None]:
    """Replaces the clocks of `time`, there and wherever a module of the library holds them under a name, as freezegun
    and time-machine do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time"):
            real = getattr(time, name)
            patch.setattr(time, name, lambda: 1000)
            for module in [each for key, each in sys.modules.items() if key.partition(".")[0] == "chatstream"]:
                for held in [key for key, value in vars(module).items() if value is real]:
                    patch.setattr(module, held, lambda: 1000)
        yield


@pytest.mark.parametrize(
    ("script", "options", "kind"),
    [
        ([stall()], {"deadline": 0.3}, DeadlineExceeded),
        ([head(), *THREE, stall()], {"deadline": 0.3}, DeadlineExceeded),
        ([head(), *THREE, stall()], {"stream_idle_timeout": 0.3}, IdleTimeout),
        ([head(), *THREE, forever(chunk(b": comment\n\n"), pause(0.01))], {"stream_idle_timeout": 0.3}, IdleTimeout),
    ],
    ids=["headers", "deadline", "idle", "comments"],
)
@pytest.mark.usefixtures("frozen_time")
def test_limits_count_real_time_while_a_test_tool_freezes_it(serve, connect, script, options, kind):
    client = connect(serve(script), stream_max_retries=0, request_max_retries=0, **options)
    started = REAL_CLOCK()
    with pytest.raises(kind):
        client.stream("Hi").collect()
    assert 0.25 < REAL_CLOCK() - started < 1.5


@pytest.mark.usefixtures("frozen_time")
def test_the_times_of_a_turn_are_real_while_a_test_tool_freezes_time(serve, connect):
    timing = connect(serve([head(), pause(0.05), *THREE, *REST])).stream("Hi").collect().timing
    assert timing is not None
    assert timing.total is not None
    assert timing.total >= 0.05


@pytest.mark.usefixtures("frozen_time")
def test_a_clock_that_is_made_while_time_is_frozen_counts_real_time():
    counting = clock.real_clock()
    before = counting()
    threading.Event().wait(0.02)
    assert counting() > before


def test_the_clock_of_a_system_without_clock_gettime_is_held_where_no_tool_replaces_it():
    class Windows:
        @staticmethod
        def monotonic() -> float:
            return 7.0

    counting = clock.real_clock(Windows)
    assert counting is not Windows.monotonic
    assert counting() == 7.0


# ── a client that cancels its calls while others begin ──────────────────────────────────────────────────────────


@pytest.mark.usefixtures("switch_often")
def test_cancel_of_a_client_ends_all_calls_while_150_threads_begin_them(serve, connect):
    client: Client = connect(serve([head(), *THREE, stall()]), stream_idle_timeout=20.0)
    ended: list[type | None] = []
    barrier = threading.Barrier(151)

    def call() -> None:
        barrier.wait()
        try:
            for _ in client.stream("Hi"):
                pass
            ended.append(None)
        except ChatStreamError as error:
            ended.append(type(error))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(150)]
    for thread in threads:
        thread.start()
    barrier.wait()
    until = time.monotonic() + 20
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        client.cancel()
    assert ended == [Cancelled] * 150


def test_cancel_of_a_client_reaches_a_call_that_still_imports_and_sets_up(serve, connect, monkeypatch):
    client = connect(serve(text_answer(*WORDS)))
    set_up = client._open

    def cancelled_meanwhile(sleep: Any) -> Any:
        client.cancel()
        return set_up(sleep)

    monkeypatch.setattr(client, "_open", cancelled_meanwhile)
    with pytest.raises(Cancelled):
        client.stream("Hi")


def test_a_client_forgets_its_calls_when_they_are_over(serve, connect):
    client = connect(serve(text_answer(*WORDS)))
    for _ in range(5):
        client.stream("Hi").collect()
    assert len(client._running) <= 1
    client.cancel()
    assert OutputTextDelta("one ") in list(client.stream("Hi"))


@pytest.mark.parametrize("block", [False, True], ids=["a-new-connection", "a-pool-that-blocks"])
def test_a_call_that_begins_while_another_thread_closes_the_client_is_answered(serve, connect, monkeypatch, block):
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_block=block))
        client = connect(serve(text_answer("fine")), session=session, request_max_retries=0)
        urlopen = ScopedPool.urlopen

        def closed_first(pool: ScopedPool, *args: Any, **options: Any) -> Any:
            client.close()
            return urlopen(pool, *args, **options)

        monkeypatch.setattr(ScopedPool, "urlopen", closed_first)
        assert [client.stream("Hi").collect().text for _ in range(2)] == ["fine", "fine"]
