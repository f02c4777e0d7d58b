"""Markdown that arrives in pieces → a terminal, drawn by rich; imported where rich is installed.

    text ─split into blocks▶ whole blocks, printed for good
                            └▶ the last block, drawn again as it grows

Rules:
- Only the last block can still change, so only it is parsed and drawn again, and that at most ten times a second.
- What rich draws is escaped, after entities such as ``&#27;`` have become characters.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TextIO

from markdown_it import MarkdownIt
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown as Document
from rich.segment import Segment, SegmentLines

from .._runtime.clock import monotonic
from .terminal import escape_controls

_LINE_END = re.compile("\r\n|\r|\n")  # what CommonMark takes for one
INTERVAL = 0.1  # seconds between two drawings of the last block


class Markdown:
    """Writes Markdown to a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._console = Console(file=out, highlight=False)
        self._parser = MarkdownIt().enable("table")
        self._text = ""  # of the last block
        self._live: Live | None = None
        self._due_at = 0.0
        self._has_printed = False

    def write(self, text: str) -> None:
        self._text += text
        began = monotonic()
        if began >= self._due_at:
            self._draw()
            ended = monotonic()
            self._due_at = ended + max(INTERVAL, 4 * (ended - began))  # a long block takes long to draw

    def close(self) -> None:
        """Print the last block for good."""
        self._stop_drawing()
        for block in self._blocks():
            self._print(block)
        self._text, self._due_at = "", 0.0
        self._has_printed = False

    def _draw(self) -> None:
        """Print the blocks that are whole, and draw the last one."""
        *whole, last = self._blocks()
        if whole:
            self._stop_drawing()
            for block in whole:
                self._print(block)
        self._text = last
        lines = self._lines(last)[-max(1, self._console.height - 2) :]
        if self._has_printed:
            lines = [[], *lines]
        if self._live is None:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(SegmentLines(lines, new_lines=True), refresh=True)

    def _stop_drawing(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: str) -> None:
        lines = self._lines(text)
        if lines:
            blank: list[list[Segment]] = [[]] if self._has_printed else []
            self._console.print(SegmentLines([*blank, *lines], new_lines=True), end="")
            self._has_printed = True

    def _blocks(self) -> list[str]:
        """The text, cut where blocks begin, as far as whole lines show. All but the last can't change any more."""
        whole = self._text[: self._text.rfind("\n") + 1]
        line_starts = [0, *(each.end() for each in _LINE_END.finditer(whole))]
        tokens = [token for token in self._parser.parse(whole) if token.level == 0 and token.map]
        starts = [line_starts[token.map[0]] for token in tokens if token.map]
        bounds = [0, *dict.fromkeys(starts[1:]), len(self._text)]
        return [self._text[start:end] for start, end in pairwise(bounds)]

    def _lines(self, text: str) -> list[list[Segment]]:
        """The lines that rich draws for ``text``, escaped, without blank lines around them and blanks at their ends."""
        drawn = self._console.render_lines(Document(text, hyperlinks=False), pad=False)
        lines = [[Segment(escape_controls(each.text), each.style) for each in line] for line in drawn]
        for line in lines:
            while line and line[-1].text.endswith(" ") and not (line[-1].style and line[-1].style.bgcolor):
                last = line.pop()
                if text_left := last.text.rstrip(" "):
                    line.append(Segment(text_left, last.style))
        shown = [number for number, line in enumerate(lines) if any(each.text.strip() for each in line)]
        return lines[shown[0] : shown[-1] + 1] if shown else []
