"""Tasks in flight → their outcomes. `threads` and `futures` say where the tasks run.

    submit ─▶ pending ─ask▶ its result, written ─▶ an outcome ─▶ wait, drop

Rules:
- A result is written in the thread that finds the task finished, before it is handed over.
- Ctrl-C may come between any two steps of the thread that submits and waits. So a task is in flight from before it is
  submitted until its outcome was dropped, and what an interrupt left undone is recovered.
- A task has one outcome, whichever thread finds it. Only a task that its executor lost is submitted again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from queue import Empty, SimpleQueue
from threading import Lock

from .._dataclass import frozen
from .._http.callers import caused_by_signal_handler
from .result import Result
from .store import Store
from .tasks import Task

POLL = 0.05  # seconds between two checks for work that an interrupt left undone


@frozen
class Lost:
    """A task that its executor lost, although the executor can still run others."""

    task: Task
    error: Exception


Outcome = Result | Lost | BaseException


class Pending:
    """A task in flight, and its future if it has one."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.future: Future[Result] | None = None
        self._claim = Lock()  # acquired once, and never released

    @property
    def claimed(self) -> bool:
        return self._claim.locked()

    def claim(self) -> bool:
        """Whether nobody has claimed the task before: one of several threads gets True."""
        return self._claim.acquire(blocking=False)


class Flight(ABC):
    """The tasks in flight; true while there are any. One thread submits and drops them."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._pending: dict[int, Pending] = {}
        self._outcomes: deque[tuple[int, Outcome]] = deque()
        self._announced: SimpleQueue[None] = SimpleQueue()  # wakes the thread that waits for outcomes

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def has_outcome(self) -> bool:
        """Whether `wait` returns at once."""
        return bool(self._outcomes)

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Submit a task. Raises `ConfigError` if it can't be sent to a worker."""

    @abstractmethod
    def cancel_unbegun(self) -> None:
        """Cancel the tasks that no worker has begun."""

    @abstractmethod
    def stop_threads(self) -> None:
        """Stop the threads that wait for tasks, if the run has its own."""

    @abstractmethod
    def _recover(self) -> None:
        """Finish what an interrupt left undone."""

    def write(self, result: Result, task: Task) -> None:
        """Write a result, if there is a file. Raises OSError if it can't."""
        store = self._store  # another thread may stop the writing
        if store is not None:
            store.write(result, task)

    def stop_writing(self) -> None:
        """Write nothing that finishes from now on."""
        self._store = None

    def wait(self) -> Outcome | None:
        """Wait for the next outcome: a result, a lost task, or an error that ends the run. It stays until `drop`. None
        if nothing is in flight any more."""
        while self._pending and not self._outcomes:
            self._wait_briefly()
        return self._outcomes[0][1] if self._outcomes else None

    def drop(self) -> None:
        """Drop the next outcome. Its task is not in flight any more."""
        self._pending.pop(self._outcomes[0][0], None)
        self._outcomes.popleft()

    def drop_finished(self) -> list[Outcome]:
        """Wait for outcomes, for `POLL` seconds at most, drop them, and return them."""
        self._wait_briefly()
        dropped: list[Outcome] = []
        while self._outcomes:
            dropped.append(self._outcomes[0][1])
            self.drop()
        return dropped

    def drain(self) -> None:
        """Wait until nothing is in flight, and drop it. Raises OSError if a result can't be written."""
        errors: list[OSError] = []
        while self._pending:
            errors += [outcome for outcome in self.drop_finished() if isinstance(outcome, OSError)]
        if errors:
            raise errors[0]

    def _finish(self, pending: Pending, result: Callable[[], Result]) -> None:
        """Write the result of a task that nobody has claimed before, and announce it."""
        outcome: Outcome
        is_lost = True
        try:
            if not pending.claim():
                return
            outcome = result()
            is_lost = False
            self.write(outcome, pending.task)
        except (BrokenExecutor, CancelledError) as error:
            outcome = error
        except Exception as error:
            outcome = Lost(pending.task, error) if is_lost and not caused_by_signal_handler(error) else error
        except BaseException as error:
            outcome = error
        self._outcomes.append((pending.task.index, outcome))
        if self._announced.empty():
            self._announced.put(None)

    def _wait_briefly(self) -> None:
        try:
            self._announced.get(timeout=POLL)
        except Empty:
            self._recover()
