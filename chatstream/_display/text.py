"""Seconds, bytes and arrivals → short texts for one line.

Arrivals are pairs: seconds since the call, and how many bytes of the body had been read by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

Arrivals = Sequence[tuple[float, int]]
BARS = "▁▂▃▄▅▆▇█"


def seconds(value: float) -> str:
    """``210 ms``, or ``3.40 s`` from one second on."""
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.2f} s"


def size(value: int) -> str:
    """``512 bytes``, or ``12.3 kB`` from a thousand bytes on."""
    for unit, name in ((10**6, "MB"), (1000, "kB")):
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value} bytes"


def sparkline(arrivals: Arrivals, until: float, width: int) -> str:
    """How many bytes arrived in each part of the time from 0 to ``until``, as ``width`` bars; empty without arrivals.

    The lowest bar stands for no bytes at all, so that a wait can be seen.
    """
    if not arrivals:
        return ""
    parts, before = [0] * width, 0
    for moment, read in arrivals:
        parts[min(int(moment / until * width), width - 1)] += read - before
        before = read
    most = max(*parts, 1)
    return "".join(BARS[ceil(part / most * (len(BARS) - 1))] for part in parts)


def longest_wait(arrivals: Arrivals) -> tuple[float, float] | None:
    """Begin and end of the longest time between two arrivals; None for fewer than two."""
    return max(
        ((one[0], other[0]) for one, other in pairwise(arrivals)), key=lambda wait: wait[1] - wait[0], default=None
    )
