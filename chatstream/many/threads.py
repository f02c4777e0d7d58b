"""Tasks in threads of this run: as many as are needed, and no more than are allowed.

    submit ─▶ a queue ─▶ each thread: claim a task, ask, write

`ThreadPoolExecutor` and `Thread.start` take locks in the thread that calls them, and an exception of a signal handler
may leave such a lock taken for ever. Signal handlers run in the main thread only. So the thread that submits tasks
takes no lock that is written in Python; threads are started by other threads.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread

from .flight import Flight, Pending
from .result import Result
from .store import Store
from .tasks import Task


class Threads(Flight):
    """Tasks that ``ask`` asks for, in at most ``max_threads`` threads."""

    def __init__(self, store: Store | None, ask: Callable[[Task], Result], max_threads: int) -> None:
        super().__init__(store)
        self._ask = ask
        self._max_threads = max_threads
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()  # None stops each thread that gets it
        self._threads = self._idle = 0
        self._lock = Lock()

    def submit(self, task: Task) -> None:
        self._start_first_thread()
        self._pending[task.index] = pending = Pending(task)
        self._queue.put(pending)

    def _recover(self) -> None:
        self._start_first_thread()
        if self._queue.empty():
            for pending in [pending for pending in self._pending.values() if not pending.claimed]:
                self._queue.put(pending)

    def cancel_unbegun(self) -> None:
        for index, pending in self._pending.copy().items():
            if pending.claim():
                del self._pending[index]

    def stop_threads(self) -> None:
        self._queue.put(None)

    def _start_first_thread(self) -> None:
        """Start a thread if there is none: the system may have had none to give before."""
        if not self._threads:
            _thread.start_new_thread(self._grow, ())

    def _grow(self) -> None:
        """Start a thread if all are busy and one more is allowed."""
        with self._lock:
            if self._idle or self._threads == self._max_threads:
                return
            self._threads += 1
            self._idle += 1
            name = f"chatstream_{self._threads}"
        try:
            Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError:  # the system has no more: those that run do the work
            with self._lock:
                self._threads -= 1
                self._idle -= 1

    def _work(self) -> None:
        while (pending := self._queue.get()) is not None:
            self._add_idle(-1)
            self._grow()
            self._finish(pending, partial(self._ask, pending.task))
            self._add_idle(1)
        self._queue.put(None)  # stops the next thread

    def _add_idle(self, threads: int) -> None:
        with self._lock:
            self._idle += threads
