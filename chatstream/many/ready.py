"""Results as they come → results as they are handed over: at once, or in the order of their prompts.

Rules:
- An interrupt may come at any call. A result is announced before it is given up, and so neither lost nor counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import get_ident

from .result import Result


class Ready:
    """The results to be handed over; true while there are any. ``announce`` is called with each before."""

    def __init__(self, ordered: bool, announce: Callable[[Result], None]) -> None:
        self.reader: int = 0  # the thread that has read last
        self._ordered = ordered
        self._announce = announce
        self._announced = -1  # the index of the last result
        self._ready: dict[int, Result] = {}
        self._held: dict[int, Result] = {}  # in order: those after one that is missing
        self._next = 0  # in order: the index of the next result

    def __bool__(self) -> bool:
        return bool(self._ready)

    @property
    def held(self) -> int:
        """How many results wait for an earlier one."""
        return len(self._held)

    def add(self, result: Result) -> None:
        """Make a result ready, or in order those that only waited for it. A second call changes nothing."""
        if not self._ordered:
            self._ready[result.index] = result
            return
        self._held[result.index] = result
        while self._next in self._held:
            self._ready[self._next] = self._held[self._next]
            self._next += 1
            del self._held[self._next - 1]

    def add_held(self) -> None:
        """Make those ready that wait for one that does not come any more."""
        self._ready.update(sorted(self._held.items()))

    def hand_over(self) -> Generator[Result, None, None]:
        while self._ready:
            index, result = next(iter(self._ready.items()))
            if index != self._announced:
                self._announced = index
                self._announce(result)
            self.reader = get_ident()
            del self._ready[index]  # an interrupt comes at a call, and there is none from here to the caller
            yield result
            self.reader = get_ident()  # another thread may have gone on
