"""Tasks that an executor runs → their outcomes, each taken once.

Rules:
- An outcome is written where a task finishes: in the thread that has finished it.
- An error in the place of a result is the executor's: it has lost the task, perhaps with the worker that had it.
- Ctrl-C may come between any two steps of the thread that takes them. So a task is in flight until its outcome has been
  taken, and one whose callback an interrupt has prevented is found by looking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from queue import Empty, SimpleQueue

from .._dataclass import frozen
from .result import Result
from .tasks import Task

POLL = 0.05  # seconds until a task without a callback is found


@frozen
class Lost:
    """A task that an executor has lost, which still works."""

    task: Task
    error: Exception


Outcome = Result | Lost | BaseException


class Flight:
    """The tasks in flight; true while there are any. ``write`` gets each result."""

    def __init__(self, write: Callable[[Result, Task], None]) -> None:
        self._write = write
        self._unfinished: dict[int, Task] = {}  # those that have no outcome yet
        self._futures: dict[int, Future[Result]] = {}
        self._outcomes: deque[tuple[int, Outcome]] = deque()
        self._announced: SimpleQueue[None] = SimpleQueue()  # wakes the thread that waits for outcomes

    def __len__(self) -> int:
        return len(self._futures)

    @property
    def has_outcome(self) -> bool:
        """Whether `take` returns at once."""
        return bool(self._outcomes)

    def begin(self, task: Task, future: Future[Result]) -> None:
        """Take up a task that was submitted."""
        self._unfinished[task.index] = task
        self._futures[task.index] = future
        future.add_done_callback(lambda future: self._finish(task.index, future))

    def take(self) -> Outcome:
        """The next outcome: a result, a lost task, or an error that ends the run. Waits for it."""
        while not self._outcomes:
            self._wait()
        index, outcome = self._outcomes[0]
        self._futures.pop(index, None)
        self._outcomes.popleft()
        return outcome

    def drop_finished(self) -> None:
        """Wait for outcomes, for `POLL` seconds at most, and drop them."""
        self._wait()
        while self._outcomes:
            self._futures.pop(self._outcomes.popleft()[0], None)

    def cancel_unbegun(self) -> None:
        """Cancel the tasks that no worker has begun."""
        for future in self._futures.copy().values():
            future.cancel()

    def _finish(self, index: int, future: Future[Result]) -> None:
        """Write the result of a task and announce it, once."""
        task = self._unfinished.pop(index, None)
        if task is None:
            return
        outcome: Outcome
        is_lost = True
        try:
            outcome = future.result()
            is_lost = False
            self._write(outcome, task)
        except (BrokenExecutor, CancelledError) as error:
            outcome = error
        except BaseException as error:
            outcome = Lost(task, error) if is_lost and isinstance(error, Exception) else error
        self._outcomes.append((index, outcome))
        if self._announced.empty():
            self._announced.put(None)

    def _wait(self) -> None:
        try:
            self._announced.get(timeout=POLL)
        except Empty:
            for index, future in self._futures.copy().items():
                if future.done():
                    self._finish(index, future)
