"""Tasks in an executor of the caller's, in this process or elsewhere.

    submit ─▶ executor.submit ─▶ a future ─when it is done▶ its result, written here

Rules:
- An error in the place of a result is the executor's: it has lost the task, perhaps with the worker that had it.
- If Ctrl-C comes while the executor accepts or reports a task, its result may be lost, and a `ThreadPoolExecutor` may
  stay locked. A second Ctrl-C ends the wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from .flight import Flight, Pending
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
        self._arguments = arguments or (lambda task: (ask, task))

    def submit(self, task: Task) -> None:
        arguments = self._arguments(task)
        self._pending[task.index] = pending = Pending(task)
        pending.future = future = self._executor.submit(*arguments)
        future.add_done_callback(lambda future: self._receive(pending, future))

    def _receive(self, pending: Pending, future: Future[Result]) -> None:
        self._finish(pending, future.result)
        pending.future = None  # which refers to `pending` through its callback

    def _recover(self) -> None:
        """Receive what has no callback, and forget what was perhaps not accepted."""
        for index, pending in self._pending.copy().items():
            future = pending.future
            if pending.claimed:
                continue
            if future is None:
                del self._pending[index]
            elif future.done():
                self._receive(pending, future)

    def cancel_unbegun(self) -> None:
        for pending in self._pending.copy().values():
            future = pending.future
            if future is not None:
                future.cancel()

    def stop_threads(self) -> None:
        """The threads are those of the executor."""
