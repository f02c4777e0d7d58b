"""``on_wait`` of a client: called in the thread that waits, as long as no loop gets heartbeats.

Rules:
- Whoever waits does so in shares, and asks `CancelScope.next_wait` for each of them.
- What ``on_wait`` raises is kept, so that nobody takes it for an error of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .._runtime.clock import monotonic

SHORTEST_WAIT = 0.001  # seconds


class WaitAnnouncer:
    """Calls ``on_wait`` each ``interval`` seconds with the seconds since ``started``, while it is ``active``."""

    __slots__ = ("_due_at", "_interval", "_on_wait", "_started", "active", "raised")

    def __init__(
        self, started: float, on_wait: Callable[[float], object] | None = None, interval: float = math.inf
    ) -> None:
        self.raised: BaseException | None = None  # by on_wait
        self._on_wait = on_wait
        self._started = started
        self._interval = interval
        self.resume()

    def resume(self) -> None:
        """Be active, if there is something to call."""
        self.active: bool = self._on_wait is not None
        self._due_at = monotonic() + self._interval

    def share(self, most: float, exclude: Callable[[float], object]) -> float:
        """How much of a wait of ``most`` seconds ends before the next call. If it is time for one, that comes first;
        ``exclude`` gets the seconds that it took."""
        began = monotonic()
        if began >= self._due_at and self._on_wait is not None:
            try:
                self._on_wait(began - self._started)
            except BaseException as error:
                self.raised = error
                raise
            ended = monotonic()
            self._due_at = ended + self._interval
            exclude(ended - began)
        return min(most, max(self._due_at - monotonic(), SHORTEST_WAIT))
