"""Helpers that several test files share.

Rules for tests of time, because a busy machine may suspend a process for a moment:
- An event that must arrive within a limit gets some tenths of a second, or the server waits for the test (`wait_for`).
- An operation that must end in time starts inside the block that measures it, and the time during which the machine
  suspended the process is subtracted (`within`, `cancelled`).
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trustme

from chatstream import Cancelled, OutputTextDelta, ResponseStream
from chatstream.testing import Script, Step, Wire, delta, done, end, finish

TASKS = "/proc/self/task"  # of Linux, a folder for each thread of this process
USUAL_SECONDS = 0.02  # of the work that tells how slow the machine is
KEY = "sk-Zq7-the-key"
WORDS = ["one ", "two ", "three "]
THREE: Script = [delta(word) for word in WORDS]
REST: Script = [finish(), done(), end()]


def id_of(value: object) -> str:
    """How a parameter is named in the name of its test: its repr without addresses, so that all runs share names."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def body(text: str) -> bytes:
    """The SSE event that the step `delta` sends, without its HTTP framing."""
    choice = {"index": 0, "delta": {"content": text}}
    return b"data: %b\n\n" % json.dumps({"id": "c1", "model": "m1", "choices": [choice]}).encode()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """The TLS context of a server with a certificate for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def text_of(events: list[Any]) -> str:
    """The joined text deltas of ``events``."""
    return "".join(event.delta for event in events if isinstance(event, OutputTextDelta))


def wait_for(event: threading.Event) -> Step:
    """A step that waits until the test sets ``event``, so that the server is silent for as long as the test needs."""

    def hold(wire: Wire) -> None:
        while not event.is_set():
            wire.wait(0.002)

    return hold


class SchedulingDelay:
    """Measures for how long the machine suspends this process.

    It is the sum by which short sleeps in a thread end late, or the time that all threads have waited for a processor
    as Linux counts it, whichever is more. Both are next to nothing on a quiet machine.
    """

    INTERVAL = 0.005

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._stop.is_set():
            time.sleep(self.INTERVAL)
            now = time.monotonic()
            self.seconds += now - before - self.INTERVAL
            before = now

    def __enter__(self) -> SchedulingDelay:
        self._waited = _waited_for_processor()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        waited = sum(seconds - self._waited.get(thread, 0.0) for thread, seconds in _waited_for_processor().items())
        self._stop.set()
        self._thread.join()
        self.seconds = max(self.seconds, waited)


def _waited_for_processor() -> dict[str, float]:
    """For how many seconds each thread of this process has waited for a processor until now; empty but on Linux."""
    seconds = {}
    for thread in os.listdir(TASKS) if os.path.isdir(TASKS) else ():
        with suppress(OSError), open(f"{TASKS}/{thread}/schedstat", "rb") as statistics:  # the thread may have ended
            seconds[thread] = int(statistics.read().split()[1]) / 1e9
    return seconds


def cancelled(stream: ResponseStream, seconds: float = 0.3) -> Cancelled:
    """The error of a stream that another thread cancels after ``seconds``.

    It is raised within 50 ms, not counting scheduling delays, and has all text received until then.
    """

    def cancel() -> None:
        called.append(time.monotonic())
        stream.cancel()

    called, before, events = list[float](), stream.turn.text, list[Any]()
    timer = threading.Timer(seconds, cancel)
    timer.start()
    with SchedulingDelay() as scheduling_delay, pytest.raises(Cancelled) as caught:
        events.extend(stream)  # keeps the events that precede the error
    ended = time.monotonic()
    timer.join()
    assert ended - called[0] < 0.05 + scheduling_delay.seconds
    assert not caught.value.retryable
    assert caught.value.partial.text == before + text_of(events)
    return caught.value


@contextmanager
def within(most: float, least: float = 0.0) -> Iterator[None]:
    """The block takes between ``least`` and ``most`` seconds, not counting scheduling delays."""
    with SchedulingDelay() as scheduling_delay:
        started = time.monotonic()
        yield
        took = time.monotonic() - started
    delay = scheduling_delay.seconds
    assert least * 0.8 <= took <= most + delay, f"took {took:.3f} s ({delay:.3f} s suspended), not {least} to {most} s"


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The block without the garbage collector.

    A collection goes through all objects of the test run, and calls finalizers of earlier tests: an exception that a
    signal handler raises meanwhile is raised in a finalizer, where Python drops it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def alarm(handler: Callable[[int, Any], Any], seconds: float = 0.0, interval: float = 0.0) -> Iterator[None]:
    """Call ``handler`` on each SIGALRM: one is sent after ``seconds``, unless they are 0, and then at this interval."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with no_garbage_collection():
            signal.setitimer(signal.ITIMER_REAL, seconds, interval)
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def computing_at_most(seconds: float) -> Iterator[None]:
    """The block takes at most this time of the processor in the calling thread, on a machine left alone.

    A machine that is slower now, or traces what it runs, may take longer: as much longer as for a known piece of work.
    """
    with no_garbage_collection():
        slowness = [_slowness()]
        started = time.thread_time()
        yield
        took = time.thread_time() - started
        slowness.append(_slowness())
    most = seconds * max(1.0, *slowness)
    assert took <= most, f"computed for {took:.3f} s, not {most:.3f} s at most"


def _slowness() -> float:
    """How many times as long as on a machine left alone a piece of work takes."""
    started = time.thread_time()
    for _ in range(10_000):
        json.loads('{"delta": {"content": "one"}}')
    return (time.thread_time() - started) / USUAL_SECONDS
