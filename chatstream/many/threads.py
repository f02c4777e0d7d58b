"""Tasks in threads of this run: as many as are needed, and no more than are allowed.

    begin ─Entry▶ a queue ─▶ each thread: claim it, ask, write

`ThreadPoolExecutor` and `Thread.start` take locks in the thread that calls them, and an exception of a signal handler
may leave such a lock taken for ever. Signal handlers run in the main thread only. So the thread that begins tasks calls
functions written in C, which are not interrupted half-way, and all others run in the threads themselves.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread

from .flight import Entry, Flight
from .result import Result
from .store import Store
from .tasks import Task


class Threads(Flight):
    """Tasks that ``ask`` asks for, in ``most`` threads at most."""

    def __init__(self, store: Store | None, ask: Callable[[Task], Result], most: int) -> None:
        super().__init__(store)
        self._ask = ask
        self._most = most
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()  # None ends each thread that gets it
        self._threads = self._idle = 0
        self._lock = Lock()

    def begin(self, task: Task) -> None:
        if not self._threads:
            _thread.start_new_thread(self._grow, ())
        self._entries[task.index] = entry = Entry(task)
        self._queue.put(entry)

    def _find(self) -> None:
        """Start the first thread if there was none to be had, and queue what is not in the queue."""
        if not self._threads:
            _thread.start_new_thread(self._grow, ())
        if self._queue.empty():
            for entry in [entry for entry in self._entries.values() if not entry.claimed]:
                self._queue.put(entry)

    def cancel_unbegun(self) -> None:
        for index, entry in self._entries.copy().items():
            if entry.claim():
                del self._entries[index]

    def end(self) -> None:
        self._queue.put(None)

    def _grow(self) -> None:
        """Start a thread if all are busy and one more is allowed."""
        with self._lock:
            if self._idle or self._threads == self._most:
                return
            self._threads += 1
            self._idle += 1
            thread = Thread(target=self._work, name=f"chatstream_{self._threads}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more: those that run do the work
            with self._lock:
                self._threads -= 1
                self._idle -= 1

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            self._count(-1)
            self._grow()
            self._finish(entry, partial(self._ask_here, self._ask, entry.task))
            self._count(1)
        self._queue.put(None)  # for the next one

    def _count(self, idle: int) -> None:
        with self._lock:
            self._idle += idle
