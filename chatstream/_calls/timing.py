"""When the bytes and the events of one answer arrived.

    each read ─▶ Arrivals ─timing▶ Timing

Rules:
- An event has arrived when the read that completed it has returned, whenever the caller asks for it.
- Only the time of reads counts as waiting: the caller's own code between two events makes no gap.
- A piece of bytes may complete many events. Only its first one is noted, and the first text of all.
- The reads are kept for the plot, `MOST_READS` at most: of a long answer, one for each part of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil, log2

from .._runtime.clock import monotonic
from ..types.events import OutputTextDelta, ResponseEvent
from ..types.turn import Timing
from ..types.usage import TokenUsage

MOST_READS = 200  # 23 kB; each turn keeps them


class Arrivals:
    """The times of one answer, on the monotonic clock; ``started`` is when its call began.

    Whoever reads sets ``read_at`` when a read has ended, adds to ``waited``, ``bytes`` and ``reads``, calls `thin` when
    there are more than `MOST_READS`, and sets ``first_text``: a method for each would cost as much as all the rest.
    """

    __slots__ = (
        "_gap",
        "_last",
        "bytes",
        "first_event",
        "first_text",
        "headers",
        "read_at",
        "reads",
        "started",
        "waited",
    )

    def __init__(self, started: float) -> None:
        self.headers: float = monotonic()
        self.read_at: float = self.headers  # when the latest read ended
        self.bytes: int = 0
        self.first_event: float | None = None
        self.first_text: float | None = None
        self.reads: list[tuple[float, int]] = []  # seconds since the call, and all bytes read by then
        self.started: float = started
        self._last = 0.0  # when the latest event arrived
        self.waited: float = 0.0  # seconds since then
        self._gap: float | None = None

    def note(self) -> None:
        """Note the first event of the latest read."""
        if self.first_event is None:
            self.first_event = self.read_at
        elif self._gap is None or self.waited > self._gap:
            self._gap = self.waited
        self._last = self.read_at
        self.waited = 0.0

    def noted(self, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """The events that the end of the bytes completes, noted as those of one read."""
        for event in events:
            self.note()
            if self.first_text is None and event.__class__ is OutputTextDelta:
                self.first_text = self.read_at
            yield event

    def thin(self) -> None:
        """Keep the last read of each part of the time, of about half of `MOST_READS` parts.

        A read that remains has the bytes of those before it, so these are shown late by less than a part. The length of
        the parts is a power of two: no later call divides the parts of this one, so no delay adds up.
        """
        most = self.reads[-1][0] or 1.0
        part = 2.0 ** ceil(log2(most / (MOST_READS // 2)))
        self.reads[:] = {read[0] // part: read for read in self.reads}.values()  # in one step, for other threads

    def timing(self, total: float | None, retries: int, reused: bool, usage: TokenUsage | None) -> Timing:
        """The times so far, in seconds since the call began."""
        first_text = self._since_start(self.first_text)  # read before `first_event`, which is set before it
        return Timing(
            self.headers - self.started,
            self._since_start(self.first_event),
            total,
            first_text,
            self._tokens_per_second(usage),
            self._gap,
            self.bytes,
            retries,
            reused,
            tuple(self.reads),
        )

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self.started

    def _tokens_per_second(self, usage: TokenUsage | None) -> float | None:
        if usage is None or not usage.output_tokens or self.first_event is None or self._last <= self.first_event:
            return None
        return usage.output_tokens / (self._last - self.first_event)
