"""``on_wait`` of a client: called by the thread that waits, until the stream is read, whose loop gets heartbeats.

Rules:
- A wait is split into shares: before each of them the thread asks `CancelScope.next_wait` how long it may be.
- An exception of ``on_wait`` is kept, so that it is not taken for an error of the network.
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
        """Seconds of a wait of ``most`` seconds that end before the next call of ``on_wait``.

        If a call is due, it is made first, and ``exclude`` is called with the seconds that it took.
        """
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
