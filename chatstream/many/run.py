"""Entries → results, of which a bounded number is in flight at a time.

    entries ─make▶ tasks, at most ``concurrency`` in flight ─▶ written as they finish ─▶ handed over

Rules:
- An entry is taken when there is room for it, so a generator of millions is never in memory.
- A finished result waits for one more entry at most, because entries may come slowly.
- A task that the executor has lost is submitted once more: Dask's may lose some when a worker is killed.
- A result is written where it finishes, and not when the caller asks for it: a slow loop loses no answer.
- In order, no more than `LOOKAHEAD` × ``concurrency`` results wait for an earlier one.
- What the entries raise is raised after the results of what is in flight.
- After Ctrl-C no more entries are taken; what is in flight is handed over, and then KeyboardInterrupt is raised. A
  second one cancels what is in flight in this process.
- A loop that is left early waits for what is in flight if there is a file to write it to, and cancels it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from time import time
from typing import Any

from .._http.callers import caused_by_signal_handler
from .._runtime import process
from ..errors import ConfigError
from .flight import Flight, Lost
from .ready import Ready
from .result import Result
from .store import Store
from .tasks import Task, unmade_task

LOOKAHEAD = 8


class Entries:
    """The entries of a run, counted from 0. They end at an exception of the iterable, which is kept in ``error``.
    One of a signal handler is raised at once."""

    def __init__(self, entries: Iterable[Any]) -> None:
        self._numbered = enumerate(entries)
        self.error: Exception | None = None

    def take(self) -> tuple[int, Any] | None:
        """The next entry with its number; None after the last one."""
        try:
            return next(self._numbered, None) if self.error is None else None
        except Exception as error:
            if caused_by_signal_handler(error):
                raise
            self.error = error
            return None


class Run:
    """One run. One thread uses it.

    ``make`` makes the task of an entry. ``cancel`` ends the calls in flight, None if they are in other processes.
    """

    def __init__(
        self,
        flight: Flight,
        ready: Ready,
        make: Callable[[int, Any], Task],
        cancel: Callable[[], None] | None,
        *,
        concurrency: int,
        store: Store | None,
    ) -> None:
        self._flight = flight
        self._ready = ready
        self._make = make
        self._cancel = cancel
        self._concurrency = concurrency
        self._store = store
        self._lost: set[int] = set()  # the indices of tasks that were submitted once more
        self._waits_at_end = store is not None
        self._process = process.pid

    def results(self, entries: Iterable[Any]) -> Generator[Result, None, None]:
        """The results of all entries, as they finish or in order. Raises what ``entries`` raises, the errors of the
        executor, and OSError if a result can't be written."""
        taken = Entries(entries)
        try:
            while self._fill(taken):
                yield from self._ready.hand_over()
        except KeyboardInterrupt:
            self._waits_at_end = False  # after a second one
            while self._flight:
                self._take()
            self._ready.add_held()
            yield from self._ready.hand_over()
            raise
        if taken.error is not None:
            raise taken.error

    def _fill(self, entries: Entries) -> bool:
        """Submit entries until there is a result. False if there will be none."""
        if self._process != process.pid:
            raise ConfigError("a run of map_prompts can't go on in a forked process: call map_prompts there")
        while not self._ready:
            entry = entries.take() if self._has_room() else None
            if entry is not None:
                self._begin(*entry)
                if not self._flight.has_outcome:
                    continue
            elif not self._flight:
                return False
            self._take()
        return True

    def _has_room(self) -> bool:
        waiting = len(self._flight) + self._ready.held
        return len(self._flight) < self._concurrency and waiting < LOOKAHEAD * self._concurrency

    def _begin(self, index: int, given: Any) -> None:
        """Submit the task of an entry, unless it has a result already."""
        task, result = self._prepare(index, given)
        if result is None:
            try:
                self._flight.submit(task)
            except ConfigError as error:
                result = self._failed(task, error)
        if result is not None:
            self._ready.add(result)

    def _prepare(self, index: int, given: Any) -> tuple[Task, Result | None]:
        """The task of an entry, and its result if it has one already: that of an earlier run, or an error."""
        wrong: Exception | None = None
        try:
            task = self._make(index, given)
        except Exception as error:
            if caused_by_signal_handler(error):
                raise
            task, wrong = unmade_task(index, given), error
        if self._store is not None:
            try:
                task, earlier = self._store.claim(task)
            except ConfigError as error:  # not written, because the line of this key belongs to another prompt
                return task, _without_turn(task, error)
            if earlier is not None:
                return task, earlier
        return task, None if wrong is None else self._failed(task, wrong)

    def _failed(self, task: Task, error: Exception) -> Result:
        """The result of a task that could not be begun, written."""
        result = _without_turn(task, error)
        self._flight.write(result, task)
        return result

    def _take(self) -> None:
        """Wait for a task to finish. Raises what ends the run."""
        if (outcome := self._flight.wait()) is None:
            return
        if isinstance(outcome, Lost):
            task, outcome = outcome.task, outcome.error
            if task.index not in self._lost:
                self._lost.add(task.index)
                self._flight.drop()
                self._flight.submit(task)
                return
        if isinstance(outcome, BaseException):
            self._waits_at_end = False
            self._flight.drop()
            raise outcome
        self._ready.add(outcome)
        self._flight.drop()  # not before: until then an interrupt lets it be taken again

    def end(self) -> None:
        """End what is in flight: wait for it if it is written to a file, else cancel it. A forked process has none of
        its threads, and leaves it to the parent. Raises OSError as `results` does."""
        if self._process != process.pid:
            return
        try:
            if self._waits_at_end:
                self._flight.drain()
        finally:
            self._flight.stop_writing()
            self._flight.cancel_unbegun()  # not before, because Dask cancels what it has begun, too
            while self._flight and self._cancel is not None:
                self._cancel()
                self._flight.drop_finished()


def _without_turn(task: Task, error: Exception) -> Result:
    return Result(task.key, task.index, error=error.with_traceback(None), started=time())
