"""Ctrl-C, and exceptions of signal handlers, in the thread that reads the results of many prompts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from echo import Echo, lines_of, run_program, texts
from support import alarm, wait_for, within

from chatstream import Progress, Result, map_prompts
from chatstream.many import mapping, run, store
from chatstream.many.futures import Futures
from chatstream.many.tasks import Task
from chatstream.testing import delta, end, finish, head, text_answer

PROGRAM = Path(__file__).with_name("interrupted_at_each_line.py")


# ── Ctrl-C ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("out", [(), ("out.jsonl",)], ids=["no file", "file"])
@pytest.mark.parametrize("ordered", [False, True])
def test_ctrl_c_at_any_line_of_a_run_loses_and_repeats_nothing(tmp_path, ordered, out):
    """It hung for ever if it came while a task was submitted, or left a prompt asked for and not written."""
    *wrong, runs = run_program(str(PROGRAM), str(ordered), *out, cwd=tmp_path).splitlines()
    assert wrong == []
    assert int(runs.removesuffix(" runs")) > 200


@pytest.fixture
def interrupt_when(interrupt: Any) -> Any:
    """A function that presses Ctrl-C so many times after an event."""

    def press(event: threading.Event, times: int) -> None:
        event.wait(10)
        for _ in range(times):
            time.sleep(0.1)
            interrupt()

    def start(event: threading.Event, times: int = 1) -> threading.Thread:
        thread = threading.Thread(target=press, args=(event, times))
        thread.start()
        return thread

    return start


class PreparedExecutor(Executor):
    """Gives out futures that were made before."""

    def __init__(self, *futures: Future[Any]) -> None:
        self._futures = list(futures)

    def submit(self, *_: Any) -> Any:
        return self._futures.pop(0)


class RefusingExecutor(ThreadPoolExecutor):
    """Raises an exception instead of taking a task."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(1)
        self._error = error

    def submit(self, *_: Any, **__: Any) -> Any:
        raise self._error


class Written:
    """A file of results that notes their keys only."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, result: Result, task: Task) -> None:
        self.written.append(result.key)


@pytest.mark.parametrize("ordered", [False, True])
def test_ctrl_c_hands_over_what_is_in_flight_and_takes_no_more_prompts(
    serve, connect, tmp_path, interrupt_when, ordered
):
    asked, release = threading.Event(), threading.Event()
    server = serve([lambda wire: asked.set(), wait_for(release), *text_answer("x")])
    thread = interrupt_when(asked)
    threading.Timer(0.5, release.set).start()
    seen: list[Result] = []
    results = map_prompts(
        connect(server), (f"p{n}" for n in range(99)), out=tmp_path / "out.jsonl", concurrency=3, ordered=ordered
    )
    with pytest.raises(KeyboardInterrupt):
        seen.extend(results)
    thread.join()
    assert texts(seen) == ["x"] * 3
    assert len(server.requests) == 3
    assert len(lines_of(tmp_path / "out.jsonl")) == 3


def test_ctrl_c_in_order_hands_over_results_that_wait_for_an_earlier_one(serve, connect, interrupt_when):
    asked, release = threading.Event(), threading.Event()

    def script(wire: Any) -> None:
        if wire.request.json["messages"][-1]["content"] == "0":
            asked.set()
            wait_for(release)(wire)
        for step in text_answer("x"):
            step(wire)

    thread = interrupt_when(asked)
    threading.Timer(0.6, release.set).start()
    results = map_prompts(connect(serve([script])), map(str, range(9999)), concurrency=2, ordered=True)
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(result.index for result in results)
    thread.join()
    assert seen == sorted(seen)
    assert 1 <= len(seen) <= 2 * run.LOOKAHEAD


class InterruptedExecutor(ThreadPoolExecutor):
    """Ctrl-C comes when the second task is submitted, before its result can be announced."""

    submitted = 0

    def submit(self, *arguments: Any, **named: Any) -> Any:
        future = super().submit(*arguments, **named)
        self.submitted += 1
        if self.submitted == 2:

            def interrupt(_: Any) -> None:
                raise KeyboardInterrupt

            future.add_done_callback = interrupt  # type: ignore[method-assign]
        return future


def test_ctrl_c_between_the_submission_of_a_task_and_its_callback_loses_nothing(client, tmp_path):
    seen: list[Result] = []
    with InterruptedExecutor(2) as executor, within(5.0), pytest.raises(KeyboardInterrupt):
        seen.extend(map_prompts(client, ["a", "b", "c"], executor=executor, out=tmp_path / "out.jsonl"))
    assert sorted(texts(seen)) == ["a", "b"]
    assert len(lines_of(tmp_path / "out.jsonl")) == 2


def test_a_result_that_is_found_after_it_was_announced_is_written_once():
    future: Future[Result] = Future()
    store = Written()
    tasks = Futures(store, PreparedExecutor(future), Result)
    tasks.submit(Task(0, "a", "hash", "Hi"))
    future.set_result(result := Result("a", 0))
    tasks._recover()
    assert store.written == ["a"]
    assert tasks.wait() is result
    tasks.drop()
    assert not tasks


def test_ctrl_c_while_an_executor_accepts_a_task_ends_the_run(client):
    """Whether it was accepted is not known, so nothing waits for it."""
    with within(5.0), pytest.raises(KeyboardInterrupt):
        list(map_prompts(client, ["a", "b"], executor=RefusingExecutor(KeyboardInterrupt())))


def test_a_task_whose_submission_was_interrupted_is_not_waited_for():
    tasks = Futures(None, RefusingExecutor(KeyboardInterrupt()), Result)
    with pytest.raises(KeyboardInterrupt):
        tasks.submit(Task(0, "a", "hash", "Hi"))
    tasks.cancel_unbegun()
    with within(1.0):
        assert tasks.wait() is None


def test_a_loop_that_is_left_cancels_what_an_executor_has_not_begun(serve, connect):
    server = serve(text_answer("x"), [head(), wait_for(threading.Event())])
    with within(5.0), ThreadPoolExecutor(1) as executor:
        results = map_prompts(connect(server), map(str, range(9)), executor=executor, concurrency=4)
        next(results)
        results.close()
    assert len(server.requests) <= 2


def test_a_second_ctrl_c_cancels_what_is_in_flight(serve, connect, tmp_path, interrupt_when):
    asked = threading.Event()
    server = serve([lambda wire: asked.set(), head(), delta("a"), wait_for(threading.Event()), finish(), end()])
    thread = interrupt_when(asked, times=2)
    with within(5.0), pytest.raises(KeyboardInterrupt):
        list(map_prompts(connect(server), ["a", "b"], out=tmp_path / "out.jsonl"))
    thread.join()
    assert lines_of(tmp_path / "out.jsonl") == []


def test_ctrl_c_during_a_report_of_progress_loses_no_result_and_counts_none_twice(client):
    done: list[int] = []
    got: list[Result] = []

    def report(progress: Progress) -> None:
        done.append(progress.done)
        if len(done) == 1:
            raise KeyboardInterrupt

    with within(5.0), pytest.raises(KeyboardInterrupt):
        got.extend(map_prompts(client, list("abcd"), concurrency=2, progress=report))
    assert len(got) >= 1
    assert done == [*range(1, len(got) + 1)]


@pytest.mark.parametrize("threads", [False, True])
def test_a_hook_that_ends_the_program_ends_the_run(serve, connect, threads):
    def leave(_: Any) -> None:
        sys.exit(3)

    client = connect(serve([Echo()]), on_turn=leave)
    with ThreadPoolExecutor(1) as executor, within(5.0), pytest.raises(SystemExit):
        list(map_prompts(client, ["a", "b"], executor=executor if threads else None))


# ── exceptions of signal handlers ───────────────────────────────────────────────────────────────────────────────


class Alarm(Exception):
    """As a handler raises it to limit the time of a block."""


def wait_for_alarm(*_: Any, **__: Any) -> Any:
    for _ in range(500):
        time.sleep(0.01)
    raise AssertionError("no alarm")


@contextmanager
def raises_alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Alarm

    with alarm(ring, 0.2), within(3.0), pytest.raises(Alarm):
        yield


def test_an_exception_of_a_signal_handler_ends_a_run_that_waits_for_its_prompts(client):
    with raises_alarm():
        list(map_prompts(client, map(wait_for_alarm, "a")))


def test_an_exception_of_a_signal_handler_is_not_taken_for_an_error_of_a_prompt(client, monkeypatch):
    monkeypatch.setattr(mapping, "make_task", wait_for_alarm)
    with raises_alarm():
        list(map_prompts(client, ["a"]))


def test_an_exception_of_a_signal_handler_is_not_taken_for_an_error_in_a_file(client, monkeypatch, tmp_path):
    out = tmp_path / "out.jsonl"
    list(map_prompts(client, ["a"], out=out))
    monkeypatch.setattr(store, "decode_result", wait_for_alarm)
    with raises_alarm():
        list(map_prompts(client, ["a"], out=out))


def test_an_exception_of_a_signal_handler_in_an_executor_that_runs_at_once_is_not_an_error_of_a_prompt(serve, connect):
    class Inline(Executor):
        def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
            return future

    with raises_alarm():
        list(map_prompts(connect(serve([wait_for(threading.Event())])), ["a"], executor=Inline()))


def test_an_exception_of_a_signal_handler_is_not_taken_for_an_error_of_an_executor(client):
    class Slow(Future):  # type: ignore[type-arg]
        """Done, but without a callback, so that the thread that waits finds it."""

        result = wait_for_alarm

        def add_done_callback(self, _: Any) -> None:
            pass

    future = Slow()
    future.set_result(None)
    with raises_alarm():
        list(map_prompts(client, ["a"], executor=PreparedExecutor(future, future)))
