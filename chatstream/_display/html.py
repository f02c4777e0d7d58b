"""Rows of text → small pieces of HTML for a notebook.

Rules:
- Every text is escaped here: it comes from a model or a server, and a notebook runs what it trusts.
- No colours but that of the notebook's text, more or less opaque, so that light and dark themes show it alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_CELL = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'
_TEXT = 'style="white-space:pre-wrap;overflow-wrap:anywhere"'


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Names and values below each other, under a title."""
    lines = [f"<tr><th {_CELL}>{escape(name)}</th><td {_CELL}>{escape(value)}</td></tr>" for name, value in rows]
    return f"<table><caption {_CELL}><b>{escape(title)}</b></caption><tbody>{''.join(lines)}</tbody></table>"


def text(value: str) -> str:
    """A text with its lines and blanks as they are."""
    return f"<div {_TEXT}>{escape(value)}</div>"


def code(value: str) -> str:
    """A line of code."""
    return f"<div><code {_TEXT}>{escape(value)}</code></div>"


def heading(value: str) -> str:
    """A line in bold letters, above others."""
    return f"<div><b>{escape(value)}</b></div>"


def folded(title: str, value: str) -> str:
    """A text that is shown after a click on its title."""
    return f"<details><summary>{escape(title)}</summary>{text(value)}</details>"


def note(value: str) -> str:
    """A line in smaller and fainter letters."""
    return f'<div style="opacity:.7;font-size:90%">{escape(value)}</div>'
