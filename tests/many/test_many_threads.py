"""The threads of a run: how many there are, and what ends with them, whoever ends the run and when."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from echo import Echo, lines_of, run_program, texts_of
from support import within

from chatstream import Result, Turn, map_prompts
from chatstream.many import mapping
from chatstream.many.flight import Pending
from chatstream.many.store import Store
from chatstream.many.tasks import Task
from chatstream.many.threads import Threads


def until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether a condition comes true within ``seconds``."""
    due = time.monotonic() + seconds
    while not (is_true := bool(condition())) and time.monotonic() < due:
        time.sleep(0.002)
    return is_true


def has_threads() -> bool:
    return any(thread.name.startswith("chatstream_") for thread in threading.enumerate())


@pytest.fixture
def interrupted_flight() -> Iterator[tuple[Threads, list[str]]]:
    """A flight with a task that an interrupt has kept from the queue, and the keys that were asked for."""
    asked: list[str] = []

    def ask(task: Task) -> Result:
        asked.append(task.key)
        return Result(task.key, task.index)

    flight = Threads(None, ask, 2)
    flight._pending[0] = Pending(Task(0, "a", "hash", "Hi"))
    yield flight, asked
    flight.stop_threads()


def test_a_task_that_an_interrupt_has_kept_from_the_queue_is_found_and_asked_for_once(interrupted_flight):
    flight, asked = interrupted_flight
    for _ in range(3):  # what is found twice, before a thread has claimed it, is in the queue twice
        flight._queue.put(flight._pending[0])
    with within(5.0):
        assert [outcome.key for outcome in take(flight, 1)] == ["a"]
    flight._pending[0] = Pending(Task(0, "b", "hash", "Hi"))
    with within(5.0):
        assert [outcome.key for outcome in take(flight, 1)] == ["b"]
    assert asked == ["a", "b"]


def test_a_task_that_no_thread_has_begun_is_cancelled(interrupted_flight):
    flight, asked = interrupted_flight
    flight.cancel_unbegun()
    assert not flight
    assert flight.wait() is None
    assert asked == []


# ── how many ────────────────────────────────────────────────────────────────────────────────────────────────────


class Gate:
    """Holds tasks back until it is open; has the names of their threads."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.open = threading.Event()

    def ask(self, task: Task) -> Result:
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(5)
        return Result(task.key, task.index)


def submit(flight: Threads, *indices: int) -> None:
    for index in indices:
        flight.submit(Task(index, str(index), "hash", "Hi"))


def take(flight: Threads, count: int) -> list[Any]:
    outcomes = []
    for _ in range(count):
        outcomes.append(flight.wait())
        flight.drop()
    return outcomes


def test_there_are_as_many_threads_as_tasks_and_no_more_than_allowed():
    gate = Gate()
    flight = Threads(None, gate.ask, 3)
    with within(5.0):
        submit(flight, 0)
        assert until(lambda: len(gate.threads) == 1)
        submit(flight, 1, 2, 3, 4)
        assert until(lambda: len(gate.threads) == 3)
        gate.open.set()
        assert {outcome.index for outcome in take(flight, 5)} == {0, 1, 2, 3, 4}
    assert not flight
    assert gate.threads == {"chatstream_1", "chatstream_2", "chatstream_3"}
    flight.stop_threads()
    assert until(lambda: not has_threads())


def test_tasks_one_after_the_other_need_few_threads(monkeypatch):
    started: list[str] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread.name), start(thread)))
    gate = Gate()
    gate.open.set()
    flight = Threads(None, gate.ask, 50)
    with within(5.0):
        for index in range(30):
            submit(flight, index)
            take(flight, 1)
    flight.stop_threads()
    assert (
        len([name for name in started if name.startswith("chatstream")]) < 5
    )  # a thread is idle a moment after its result was announced


def test_where_the_system_has_no_more_threads_those_that_run_do_the_work(monkeypatch):
    refused, start = iter([True, False, True, True]), threading.Thread.start

    def start_some(thread: threading.Thread) -> None:
        if thread.name.startswith("chatstream") and next(refused, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    gate = Gate()
    gate.open.set()
    flight = Threads(None, gate.ask, 4)
    with monkeypatch.context() as patched, within(5.0):
        patched.setattr(threading.Thread, "start", start_some)
        submit(flight, 0)
        assert [outcome.index for outcome in take(flight, 1)] == [0]
        submit(flight, 1, 2)
        assert {outcome.index for outcome in take(flight, 2)} == {1, 2}
    flight.stop_threads()


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────


SLOW = 0.4  # seconds until an answer to "slow"


def answer_three() -> Callable[[Any], None]:
    """A step that answers when three have asked, those whose prompt is "slow" later than the others."""
    three = threading.Barrier(3, timeout=5)

    def step(wire: Any) -> None:
        three.wait()
        if wire.request.json["messages"][-1]["content"] == "slow":
            wire.wait(SLOW)
        Echo()(wire)

    return step


@pytest.mark.parametrize("with_file", [False, True])
def test_a_hook_that_closes_the_results_of_its_own_run_does_not_wait_for_itself(serve, connect, tmp_path, with_file):
    may_close, closed = threading.Event(), threading.Event()

    def close(info: Any) -> None:
        if info.turn.text == "close":
            assert may_close.wait(5)
            results.close()
            closed.set()

    out = tmp_path / "out.jsonl"
    results = map_prompts(
        connect(serve([answer_three()]), on_turn=close),
        ["first", "close", "slow"],
        concurrency=3,
        out=out if with_file else None,
    )
    with within(5.0):
        next(results)
        may_close.set()
        assert closed.wait(5)
        assert until(lambda: not has_threads())
    if with_file:
        assert sorted(texts_of(out)) == ["close", "first", "slow"]


@pytest.mark.parametrize("while_writing", [False, True])
def test_results_that_the_garbage_collector_closes_in_a_thread_of_their_run_are_all_written(
    serve, connect, tmp_path, monkeypatch, while_writing
):
    """A thread of the run may be the first to collect garbage: while it asks, or while it writes."""
    may_collect = threading.Event()

    def collect(turn: Turn) -> None:
        if turn.text == "collect":
            assert may_collect.wait(5)
            gc.collect()

    def write(store: Store, result: Result, task: Task) -> None:
        collect(result.turn)
        store_write(store, result, task)

    store_write = Store.write
    if while_writing:
        monkeypatch.setattr(Store, "write", write)
    out = tmp_path / "out.jsonl"
    client = connect(serve([answer_three()]), on_turn=lambda info: None if while_writing else collect(info.turn))
    cycle: list[Any] = [map_prompts(client, ["first", "collect", "slow"], concurrency=3, out=out)]
    cycle.append(cycle)
    with within(5.0):
        gc.disable()
        try:
            next(cycle[0])
            del cycle
            may_collect.set()
            assert until(lambda: not has_threads())
        finally:
            gc.enable()
    assert sorted(texts_of(out)) == ["collect", "first", "slow"]


def test_the_end_of_a_program_ends_its_open_runs_but_not_one_that_another_thread_is_reading(
    serve, connect, monkeypatch
):
    monkeypatch.setattr(mapping, "_exiting", [])
    may_go_on = threading.Event()
    client = connect(serve([Echo()]))
    half_read = map_prompts(client, list("abcd"))
    next(half_read)

    def read() -> None:
        got.extend(result.turn.text for result in read_elsewhere)

    def hold(_: Any) -> None:
        assert may_go_on.wait(5)

    read_elsewhere = map_prompts(client, list("abcd"), progress=hold)
    got: list[str] = []
    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert until(lambda: read_elsewhere.gi_running)
        mapping._close_open_runs()
    finally:
        may_go_on.set()
        reader.join()
    assert list(half_read) == []
    assert sorted(got) == list("abcd")


def test_results_that_the_garbage_collector_closes_in_a_thread_that_the_run_waits_for_are_all_written(
    serve, connect, tmp_path
):
    """A thread of the caller's executor, which the run does not know."""
    out = tmp_path / "out.jsonl"
    script, may_collect = answer_three(), threading.Event()

    class Collecting(ThreadPoolExecutor):
        """Collects garbage after a function has run, before its result is announced."""

        def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
            return super().submit(self._run, function, *arguments)

        def _run(self, function: Any, *arguments: Any) -> Any:
            result = function(*arguments)
            if isinstance(result, Result) and result.key != "first":
                assert may_collect.wait(5)
                gc.collect()
            return result

    prompts = [{"prompt": key, "id": key} for key in ("first", "a", "b")]
    with within(5.0), Collecting(3) as executor:
        cycle: list[Any] = [map_prompts(connect(serve([script])), prompts, executor=executor, concurrency=3, out=out)]
        cycle.append(cycle)
        gc.disable()
        try:
            next(cycle[0])
            del cycle
            may_collect.set()
            assert until(lambda: out.read_text().count("\n") == 3)
        finally:
            gc.enable()
    assert until(lambda: not has_threads())


def test_several_threads_read_a_run_one_after_the_other_and_the_last_one_finds_its_file_closed(
    serve, connect, tmp_path
):
    out = tmp_path / "out.jsonl"
    client = connect(serve([Echo()]))
    results = map_prompts(client, list("abcd"), out=out)
    got = []
    while True:
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(next, results, None).result()
        if result is None:
            break
        got.append(result.turn.text)
    assert sorted(got) == list("abcd")
    assert len(list(map_prompts(client, list("abcd"), out=out))) == 4  # no other run has the file


LEFT_OPEN = """
import sys, threading
from chatstream import Client, Provider, map_prompts
from chatstream.testing import FaultServer, head, pause, text_answer
three = threading.Barrier(3, timeout=5)  # requests
wait = lambda wire: three.wait()
server = FaultServer({script}).__enter__()
client = Client(Provider("t", server.url), model="m")
options = {{"out": sys.argv[1]}} if len(sys.argv) > 1 else {{}}
results = map_prompts(client, map(str, range(99)), concurrency=3, **options)
{rest}
"""


def test_a_program_that_ends_with_a_half_read_run_writes_what_is_in_flight(tmp_path):
    script = "*[[wait, *text_answer('x')]] * 3, [pause(0.5), *text_answer('x')]"
    program = LEFT_OPEN.format(script=script, rest="print(next(results).turn.text)")
    assert run_program("-c", program, "out.jsonl", cwd=tmp_path) == "x\n"
    assert 3 <= len(lines_of(tmp_path / "out.jsonl")) <= 5


def test_a_program_that_ends_while_another_thread_closes_its_run_writes_what_is_in_flight(tmp_path):
    script = "*[[wait, *text_answer('x')]] * 2, [wait, pause(0.5), *text_answer('x')]"
    rest = """
next(results)
threading.Thread(target=results.close).start()
"""
    program = LEFT_OPEN.format(script=script, rest=rest)
    assert run_program("-c", program, "out.jsonl", cwd=tmp_path) == ""
    assert 3 <= len(lines_of(tmp_path / "out.jsonl")) <= 5


def test_a_program_that_ends_with_a_half_read_run_without_a_file_cancels_what_is_in_flight(tmp_path):
    script = "text_answer('x'), [head(), pause(999)]"
    program = LEFT_OPEN.format(script=script, rest="print(next(results).turn.text)")
    with within(10.0):
        assert run_program("-c", program, cwd=tmp_path) == "x\n"


def test_a_run_in_another_thread_goes_on_after_the_main_thread_has_ended(tmp_path):
    """It ended with RuntimeError: cannot schedule new futures after shutdown."""
    rest = "threading.Thread(target=lambda: print(len(list(results)))).start()"
    assert run_program("-c", LEFT_OPEN.format(script="text_answer('x')", rest=rest), cwd=tmp_path) == "99\n"


HOOKS_AT_EXIT = """
import atexit
registered = []
atexit.register = lambda hook, *arguments: registered.append(hook.__name__) or hook
from chatstream.many import mapping
from chatstream.providers import local
print([name for name in registered if name in ("_close_open_runs", "_stop_all")])
"""


def test_a_program_that_ends_ends_its_runs_before_the_embedded_server_that_answers_them(tmp_path):
    """Python calls first what was registered last."""
    assert run_program("-c", HOOKS_AT_EXIT, cwd=tmp_path) == "['_stop_all', '_close_open_runs']\n"


def test_a_program_ends_while_a_daemon_thread_reads_a_run(tmp_path):
    rest = """
first = threading.Event()
def read():
    for result in results:
        first.set()
threading.Thread(target=read, daemon=True).start()
print(first.wait(10))
"""
    script = f"text_answer('x'), [pause({SLOW}), *text_answer('x')]"
    with within(10.0):
        assert run_program("-c", LEFT_OPEN.format(script=script, rest=rest), cwd=tmp_path) == "True\n"
