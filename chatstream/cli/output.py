"""Events of an answer → what is written to stdout: a text, Markdown on a terminal, or JSON lines.

Rules:
- A pipe or a file receives the text of the first choice and nothing else, or each event as a line of JSON.
- A terminal receives Markdown if rich is installed, and reasoning in faint letters if it can show these.
- A text that does not end its line gets a line end, even when it breaks off, so that later output starts a new line.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from typing import Protocol, TextIO

from .._runtime.imports import imports
from ..types.events import Completed, Heartbeat, OutputItemDone, OutputTextDelta, ReasoningDelta, ResponseEvent
from ..types.items import Message, Reasoning
from .spinner import Spinner
from .terminal import escape_controls

FAINT, NORMAL = "\x1b[2m", "\x1b[22m"


class TextWriter(Protocol):
    """Writes a text that arrives in pieces."""

    def write(self, text: str) -> None: ...

    def close(self) -> None:
        """End the text, so that something else can follow on a line of its own."""


def write_events(events: Iterable[ResponseEvent], options: argparse.Namespace, out: TextIO, spinner: Spinner) -> None:
    """Write the events, as they arrive, in the form that the options ask for; the spinner ends with the first text."""
    try:
        if options.json:
            _write_json(events, out, spinner)
        else:
            _write_text(events, options, out, spinner)
    finally:
        spinner.stop()


def _write_json(events: Iterable[ResponseEvent], out: TextIO, spinner: Spinner) -> None:
    """One line for each event. A terminal gets ASCII, which can't control it."""
    for event in events:
        if isinstance(event, Heartbeat):
            spinner.tick()
            continue
        spinner.stop()
        print(json.dumps(event.to_dict(), ensure_ascii=out.isatty()), file=out, flush=True)


def _write_text(events: Iterable[ResponseEvent], options: argparse.Namespace, out: TextIO, spinner: Spinner) -> None:
    styled = out.isatty() and not options.plain and os.environ.get("TERM") != "dumb"
    faint = Plain(out) if styled and not os.environ.get("NO_COLOR") else None
    answer: TextWriter = _markdown(out) if styled else Plain(out)
    writer: TextWriter | None = None  # of the latest piece
    try:
        for event in events:
            text, to = _text_of(event), answer
            if not text and faint is not None:
                text, to = _reasoning_of(event), faint
            if not text:
                if isinstance(event, Completed):  # more turns may follow, after calls of functions
                    _change(writer, None, faint, out)
                    writer = None
                elif writer is None:
                    spinner.tick()
                continue
            spinner.stop()
            if to is not writer:
                _change(writer, to, faint, out)
                writer = to
            to.write(text)
    finally:
        spinner.stop()
        _change(writer, None, faint, out)


def _change(before: TextWriter | None, after: TextWriter | None, faint: TextWriter | None, out: TextIO) -> None:
    """End one kind of text and begin another. Faint letters end before the line does, also when the text breaks off."""
    if before is not None:
        if before is faint:
            out.write(NORMAL)
        before.close()
        if after is not None:
            out.write("\n")
    if after is not None and after is faint:
        out.write(FAINT)
    out.flush()


def _text_of(event: ResponseEvent) -> str:
    """The text of the first choice in an event, which may be a piece, or all of it (`aggregate`)."""
    if isinstance(event, OutputTextDelta) and event.choice == 0:
        return event.delta
    if isinstance(event, OutputItemDone) and isinstance(event.item, Message) and event.choice == 0:
        return event.item.text
    return ""


def _reasoning_of(event: ResponseEvent) -> str:
    if isinstance(event, ReasoningDelta) and event.choice == 0:
        return event.delta
    if isinstance(event, OutputItemDone) and isinstance(event.item, Reasoning) and event.choice == 0:
        return event.item.text
    return ""


class Plain:
    """Writes a text as it arrives; on a terminal with symbols for what would control it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._end = ""  # of the text so far, which decides on joiners
        self._last = ""  # piece, as written

    def write(self, text: str) -> None:
        self._last = escape_controls(text, self._end) if self._out.isatty() else text
        self._end = (self._end + text)[-2:]
        self._out.write(self._last)
        self._out.flush()

    def close(self) -> None:
        if self._last and not self._last.endswith("\n"):
            self._out.write("\n")
            self._out.flush()
        self._end = self._last = ""


def _markdown(out: TextIO) -> TextWriter:
    """A writer of Markdown where rich is installed and the terminal can show what it draws."""
    with imports():
        try:
            from .markdown import Markdown
        except ImportError:  # no rich
            return Plain(out)
    return Markdown(out) if "utf" in (out.encoding or "").lower() else Plain(out)
