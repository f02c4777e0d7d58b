"""Tasks in an executor of the caller's, in this process or elsewhere.

    begin ─▶ executor.submit ─▶ a future ─when it is done▶ its result, written here

Rules:
- An error in the place of a result is the executor's: it has lost the task, perhaps with the worker that had it.
- If Ctrl-C comes while the executor accepts a task, its result is lost: only the executor knows the future.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from .flight import Entry, Flight
from .result import Result
from .store import Store
from .tasks import Task


class Futures(Flight):
    """Tasks that an executor runs. It calls ``ask`` in this process, or else what ``arguments`` makes of a task."""

    def __init__(
        self,
        store: Store | None,
        executor: Executor,
        ask: Callable[[Task], Result],
        arguments: Callable[[Task], tuple[Any, ...]] | None = None,
    ) -> None:
        super().__init__(store)
        self._executor = executor
        self._arguments = arguments or (lambda task: (self._ask_here, ask, task))

    def begin(self, task: Task) -> None:
        arguments = self._arguments(task)
        self._entries[task.index] = entry = Entry(task)
        entry.future = future = self._executor.submit(*arguments)
        future.add_done_callback(lambda future: self._receive(entry, future))

    def _receive(self, entry: Entry, future: Future[Result]) -> None:
        self._finish(entry, future.result)
        entry.future = None  # which refers to the entry through its callback

    def _find(self) -> None:
        """Receive what has no callback, and forget what was perhaps not accepted."""
        for index, entry in self._entries.copy().items():
            future = entry.future
            if entry.claimed:
                continue
            if future is None:
                del self._entries[index]
            elif future.done():
                self._receive(entry, future)

    def cancel_unbegun(self) -> None:
        for entry in self._entries.copy().values():
            future = entry.future
            if future is not None:
                future.cancel()

    def end(self) -> None:
        """The executor's threads are the caller's."""
