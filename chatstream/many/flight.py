"""Tasks in flight → their outcomes. `threads` and `futures` say where the tasks run.

    begin ─▶ an entry ─ask▶ its result, written ─▶ an outcome ─▶ wait, drop

Rules:
- An outcome is written where a task finishes: in the thread that has finished it.
- Ctrl-C may come between any two steps of the thread that begins and waits. So a task is in flight from before it is
  submitted until its outcome was dropped, and what an interrupt has left undone is found by looking.
- A task is asked for once, and has one outcome, whoever finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from queue import Empty, SimpleQueue
from threading import get_ident

from .._dataclass import frozen
from .._http.callers import caused_by_signal_handler
from .result import Result
from .store import Store
from .tasks import Task

POLL = 0.05  # seconds until what an interrupt has left undone is looked for


@frozen
class Lost:
    """A task that an executor has lost, which still works."""

    task: Task
    error: Exception


Outcome = Result | Lost | BaseException


class Entry:
    """A task in flight, and its future if it has one."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.future: Future[Result] | None = None
        self._claims: list[None] = [None]

    @property
    def claimed(self) -> bool:
        return not self._claims

    def claim(self) -> bool:
        """Whether nobody has claimed the entry before: one of several threads gets True."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True


class Flight(ABC):
    """The tasks in flight; true while there are any. One thread begins and drops them."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._entries: dict[int, Entry] = {}
        self._outcomes: deque[tuple[int, Outcome]] = deque()
        self._announced: SimpleQueue[None] = SimpleQueue()  # wakes the thread that waits for outcomes
        self._asking: set[int] = set()  # the threads of this process that ask

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def has_outcome(self) -> bool:
        """Whether `wait` returns at once."""
        return bool(self._outcomes)

    @property
    def is_asking_here(self) -> bool:
        """Whether this is a thread that asks, which can't wait for the end of what is in flight."""
        return get_ident() in self._asking

    @abstractmethod
    def begin(self, task: Task) -> None:
        """Submit a task. Raises `ConfigError` if it can't be sent to a worker."""

    @abstractmethod
    def cancel_unbegun(self) -> None:
        """Cancel the tasks that no worker has begun."""

    @abstractmethod
    def end(self) -> None:
        """Let the threads go that are waiting for tasks."""

    @abstractmethod
    def _find(self) -> None:
        """Do what an interrupt has left undone."""

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
        while self._entries and not self._outcomes:
            self._wait_briefly()
        return self._outcomes[0][1] if self._outcomes else None

    def drop(self) -> None:
        """Drop the next outcome. Its task is not in flight any more."""
        self._entries.pop(self._outcomes[0][0], None)
        self._outcomes.popleft()

    def drop_finished(self) -> None:
        """Wait for outcomes, for `POLL` seconds at most, and drop them."""
        self._wait_briefly()
        while self._outcomes:
            self.drop()

    def _ask_here(self, ask: Callable[[Task], Result], task: Task) -> Result:
        """Ask for a task in this thread."""
        self._asking.add(get_ident())
        try:
            return ask(task)
        finally:
            self._asking.discard(get_ident())

    def _finish(self, entry: Entry, result: Callable[[], Result]) -> None:
        """Write the result of an entry that nobody has claimed before, and announce it."""
        outcome: Outcome
        is_lost = True
        try:
            if not entry.claim():
                return
            outcome = result()
            is_lost = False
            self.write(outcome, entry.task)
        except (BrokenExecutor, CancelledError) as error:
            outcome = error
        except Exception as error:
            outcome = Lost(entry.task, error) if is_lost and not caused_by_signal_handler(error) else error
        except BaseException as error:
            outcome = error
        self._outcomes.append((entry.task.index, outcome))
        if self._announced.empty():
            self._announced.put(None)

    def _wait_briefly(self) -> None:
        try:
            self._announced.get(timeout=POLL)
        except Empty:
            self._find()
