"""A docstring → the description of the function, and of each of its parameters, in one line each."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"\n[ \t]*\n|^(?:Args|Arguments|Parameters|Returns|Raises|Yields):|^:\w", re.MULTILINE)
_ARGS = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n|\n)*)", re.MULTILINE)
_GOOGLE = re.compile(r"(\w+)(?:\s*\(.*?\))?\s*:(.*)", re.DOTALL)
_REST = re.compile(r"^:param\s+(?:[^:\n]+\s)?(\w+):(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def descriptions(doc: str) -> tuple[str | None, dict[str, str]]:
    """The description of the function and of each parameter, in one line each, from a dedented docstring."""
    entries = [*_REST.findall(doc), *_google_entries(doc)]
    return _one_line(_SECTION.split(doc, maxsplit=1)[0]) or None, {name: _one_line(text) for name, text in entries}


def _google_entries(doc: str) -> list[tuple[str, str]]:
    block = inspect.cleandoc("\n".join(["", *_ARGS.findall(doc + "\n")]))
    entries = (_GOOGLE.match(entry) for entry in re.split(r"^(?=\S)", block, flags=re.MULTILINE))
    return [(entry[1], entry[2]) for entry in entries if entry]


def _one_line(text: str) -> str:
    return " ".join(text.split())
