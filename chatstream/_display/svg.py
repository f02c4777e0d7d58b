"""Arrivals → a picture of them, without any other package.

pairs of seconds and bytes ─▶ SVG ─save▶ a file
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import floor, log10

from .text import Arrivals, longest_wait, seconds

WIDTH, HEIGHT = 640, 240  # pixels, as all numbers below
LEFT, RIGHT, TOP, BOTTOM = 56, 624, 28, 200
LABELS = 90  # from here to an edge there is no room for a label in the middle of its place
# As a file, the picture follows the colours of the system; inside a page, those of the text around it.
_COLOURS = "<style>svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"


class SVG:
    """A picture as SVG: shown by notebooks, and written to a file by `save`."""

    def __init__(self, shapes: str) -> None:
        self._shapes = shapes

    def __str__(self) -> str:
        """The text of a file."""
        return _document(_COLOURS + self._shapes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file. Raises OSError if that is not possible."""
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(f"{self}\n")

    def _repr_svg_(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return _document(self._shapes)


def _document(inner: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" style="max-width:100%;height:auto"'
    name = "bytes read over the time since the call"
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" {size}>{inner}</svg>'


def arrivals_svg(arrivals: Arrivals, until: float, first_text: float | None) -> SVG:
    """A line of the bytes read over the seconds since the call; the longest wait is shaded, the first text marked."""
    return SVG("".join(_shapes(arrivals, until, first_text)))


def _shapes(arrivals: Arrivals, until: float, first_text: float | None) -> Iterator[str]:
    most = max((read for _, read in arrivals), default=0) or 1

    def x(moment: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * moment / until, 1)

    def y(read: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * read / most, 1)

    for tick in _ticks(until):
        yield _line(x(tick), BOTTOM, x(tick), BOTTOM + 4)
        yield _label(x(tick), BOTTOM + 18, f"{tick:.6g}", "middle")
    unit, name = (1000, "kB") if most >= 2000 else (1, "bytes")
    for tick in _ticks(most / unit):
        yield _line(LEFT, y(tick * unit), RIGHT, y(tick * unit), 'opacity=".15"')
        yield _label(LEFT - 6, y(tick * unit) + 4, f"{tick:.6g}", "end")
    yield _label((LEFT + RIGHT) / 2, BOTTOM + 36, "seconds since the call")
    yield _label(LEFT - 6, TOP - 12, name, "end")
    wait = longest_wait(arrivals)
    if wait is not None and wait[1] > wait[0]:
        is_low = next(read for moment, read in arrivals if moment == wait[0]) < most / 2
        yield from _wait(x(wait[0]), x(wait[1]), is_low, f"{seconds(wait[1] - wait[0])} without data")
    steps = "".join(f"H{x(moment):g}V{y(read):g}" for moment, read in arrivals)
    yield f'<path d="M{x(0):g} {y(0):g}{steps}H{x(until):g}" fill="none" stroke="#3b82f6" stroke-width="2"/>'
    if first_text is not None:
        yield _line(x(first_text), TOP, x(first_text), BOTTOM, 'stroke-dasharray="4 3"')
        yield _label(x(first_text), TOP - 12, f"first text {seconds(first_text)}")


def _wait(begin: float, end: float, is_low: bool, text: str) -> Iterator[str]:
    """The shade of a wait; its label is where the line is not, inside or on the side with more room."""
    box = f'x="{begin:g}" y="{TOP}" width="{end - begin:g}" height="{BOTTOM - TOP}"'
    yield f'<rect {box} fill="#d97706" opacity=".2"/>'
    y = TOP + 16 if is_low else BOTTOM - 8
    if end - begin > 2 * LABELS:
        yield _label((begin + end) / 2, y, text, "middle")
    elif begin + end < LEFT + RIGHT:
        yield _label(end + 6, y, text, "start")
    else:
        yield _label(begin - 6, y, text, "end")


def _ticks(most: float) -> list[float]:
    """Four to ten round numbers from 0 up to ``most``."""
    step = 10.0 ** floor(log10(most))
    step = next(step * part for part in (1, 0.5, 0.2) if most / step / part >= 4 or part == 0.2)
    return [number * step for number in range(int(most / step * 1.000001) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, more: str = "") -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="currentColor" {more}/>'


def _label(x: float, y: float, text: str, anchor: str = "") -> str:
    anchor = anchor or ("start" if x < LEFT + LABELS else "end" if x > RIGHT - LABELS else "middle")
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {place} font-family="sans-serif" font-size="12" fill="currentColor">{text}</text>'
