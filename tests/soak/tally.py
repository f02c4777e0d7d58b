"""What the soak measures and finds: outcomes, violations, and how late streams end.

Rules:
- Nothing here grows with the number of streams but arrays of times, which are dropped before memory is read.
- Each promise is reported in full for its first `REPORTS` violations, and counted for all.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from dataclasses import dataclass, field

CONTROL_WAIT = 0.04  # seconds
CONTROL_FACTOR = 3  # a stream may be late by this many times the lateness of the worst control
REPORTS = 10


@dataclass
class Lateness:
    """Times at which something was due, and by how much it was late. Each array is one block of memory."""

    due: array[float] = field(default_factory=lambda: array("d"))
    late: array[float] = field(default_factory=lambda: array("d"))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, due: float, ended: float) -> None:
        with self.lock:
            self.due.append(due)
            self.late.append(max(ended - due, 0.0))

    def worst(self) -> float:
        return max(self.late, default=0.0)

    def percentile(self, share: float) -> float:
        return sorted(self.late)[int(share * (len(self.late) - 1))] if self.late else 0.0

    def beyond(self, controls: Lateness) -> float:
        """The most that any entry was late beyond `CONTROL_FACTOR` times the worst control of the same time."""
        worst = 0.0
        for due, late in zip(self.due, self.late, strict=True):
            if late > worst:  # a smaller one cannot be worse after the subtraction
                worst = max(worst, late - CONTROL_FACTOR * controls.during(due, due + late))
        return worst

    def during(self, start: float, stop: float) -> float:
        """The worst lateness of the entries that were due or late between two times."""
        overlapping = (
            late
            for due, late in zip(self.due, self.late, strict=True)
            if due - CONTROL_WAIT < stop and due + late > start
        )
        return max(overlapping, default=0.0)

    def figures(self, controls: Lateness | None = None) -> dict[str, float]:
        """Count and milliseconds, for the report."""
        seconds = {"median_ms": self.percentile(0.5), "p99_ms": self.percentile(0.99), "worst_ms": self.worst()}
        if controls is not None:
            seconds["beyond_control_ms"] = self.beyond(controls)
        return {"count": len(self.late), **{name: round(1000 * value, 1) for name, value in seconds.items()}}


class Tally:
    """The results of all streams. ``violations`` counts them by promise, ``reports`` describes the first of each."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.scenarios: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.reports: list[str] = []
        self.streams = 0
        self.stream_warnings = 0
        self.socket_warnings = 0
        self.ends = Lateness()
        self.wakes = Lateness()
        self.controls = Lateness()
        self._lock = threading.Lock()

    def count(self, scenario: str, outcome: str) -> None:
        with self._lock:
            self.streams += 1
            self.outcomes[outcome] += 1
            self.scenarios[scenario] += 1

    def add_violation(self, promise: str, details: str) -> None:
        with self._lock:
            self.violations[promise] += 1
            if self.violations[promise] <= REPORTS:
                self.reports.append(f"{promise}: {details}")

    def take_figures(self) -> dict[str, object]:
        """The figures for the report; drops the arrays of times."""
        figures: dict[str, object] = {
            "streams": self.streams,
            "outcomes": dict(self.outcomes.most_common()),
            "scenarios": dict(self.scenarios.most_common()),
            "warned_of_forgotten": self.stream_warnings,
            "late": self.ends.figures(self.controls),
            "cancelled": self.wakes.figures(self.controls),
            "control": self.controls.figures(),
        }
        self.ends, self.wakes, self.controls = Lateness(), Lateness(), Lateness()
        return figures
