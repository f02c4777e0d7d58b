"""An answer while it arrives → one live output of a notebook, or text in a terminal.

    events ─▶ turn so far ─at most ten times a second▶ Markdown of a display that is updated

Rules:
- The last piece is shown a moment after it has arrived: heartbeats come while nothing else does.
- Jupyter's server passes on a megabyte of outputs a second by default, and then no more, so a long answer is updated
  less often.
- Nothing in an answer is run by the notebook, and nothing in it controls the terminal.
- An interrupt ends the stream. To a person at a prompt it is a way to say "enough"; a script is interrupted as ever.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, Protocol

from ._display.markdown import as_entities, harmless
from ._runtime.clock import monotonic
from .types.events import Heartbeat, OutputTextDelta, RefusalDelta, ResponseEvent
from .types.turn import Turn

INTERVAL = 0.1  # seconds between two updates, at least; also until a heartbeat
CHARACTERS = 100_000  # that updates send in a second, about
# What moves the cursor, hides or reorders text: all controls but the line end and the tab, and the marks of direction.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Stream(Iterable[ResponseEvent], Protocol):
    """What is shown: a `ResponseStream`."""

    @property
    def turn(self) -> Turn: ...
    def close(self) -> None: ...


def show(stream: Stream) -> Turn:
    """Show an answer until its end, and return it as received. Raises the errors of the stream."""
    shell = _ipython()
    screen = _Notebook(stream) if shell and _has_markdown(shell) else _Terminal()
    try:
        for event in stream:
            screen.add(event)
    except KeyboardInterrupt:
        if not (shell or hasattr(sys, "ps1")):
            raise
    finally:
        stream.close()  # the interrupt may have come between two events
        screen.end()
    turn = stream.turn
    if shell:
        _show_once(shell, turn)
    return turn


def _ipython() -> Any:
    """The shell of IPython that runs this code, or None."""
    package: Any = sys.modules.get("IPython")  # where it runs, it is loaded
    return package and package.get_ipython()


def _has_markdown(shell: Any) -> bool:
    return "text/markdown" in shell.display_formatter.active_types


def _show_once(shell: Any, turn: Turn) -> None:
    """Let the value of this cell, if it is ``turn``, be displayed by nothing else."""
    cell = shell.execution_count

    def displayed(value: Turn) -> None:
        if value is not turn or shell.execution_count != cell:
            raise NotImplementedError  # the display goes on as usual

    shell.display_formatter.ipython_display_formatter.for_type(Turn, displayed)


class _Terminal:
    """Prints the text of the first choice."""

    def __init__(self) -> None:
        self._last = "\n"
        self._is_terminal = sys.stdout is not None and sys.stdout.isatty()

    def add(self, event: ResponseEvent) -> None:
        if isinstance(event, (OutputTextDelta, RefusalDelta)) and not event.choice:
            self._last = event.delta or self._last
            print(_CONTROLS.sub("\ufffd", event.delta) if self._is_terminal else event.delta, end="", flush=True)

    def end(self) -> None:
        if not self._last.endswith("\n"):
            print(flush=True)


class _Notebook:
    """Updates one output of a notebook."""

    def __init__(self, stream: Stream) -> None:
        from IPython.display import DisplayHandle  # type: ignore[import-not-found,unused-ignore]

        new_handle: Any = DisplayHandle  # which has no types
        self._stream = stream
        self._handle = new_handle()
        self._send = self._handle.display  # and `update` afterwards
        self._is_behind = False
        self._publish("…")

    def add(self, event: ResponseEvent) -> None:
        self._is_behind = self._is_behind or not isinstance(event, Heartbeat)
        if self._is_behind and monotonic() >= self._due:
            self._publish(markdown_of(self._stream.turn))

    def end(self) -> None:
        turn = self._stream.turn
        self._publish(f"{markdown_of(turn)}\n\n{_note(turn)}")

    def _publish(self, markdown: str) -> None:
        self._send({"text/markdown": markdown, "text/plain": self._stream.turn.text}, raw=True)
        self._send, self._is_behind = self._handle.update, False
        self._due = monotonic() + max(INTERVAL, len(markdown) / CHARACTERS)


def markdown_of(turn: Turn) -> str:
    """All choices of a turn: the reasoning folded, the text, and the calls as code."""
    blocks = []
    for number, choice in enumerate(turn.choices, 1):
        if len(turn.choices) > 1:
            blocks.append(f"**Choice {number}**")
        if choice.reasoning:
            blocks.append(f"<details><summary>Reasoning</summary>{_lines(choice.reasoning)}</details>")
        blocks += [harmless(text) for text in (choice.text, choice.refusal) if text]
        blocks += [f"<code>{as_entities(call)}</code>" for call in choice._calls()]
    return "\n\n".join(blocks) or "…"


def _lines(text: str) -> str:
    return f'<div style="white-space:pre-wrap">{as_entities(text)}</div>'


def _note(turn: Turn) -> str:
    return f"<small>{as_entities(turn._summary())}</small>"
