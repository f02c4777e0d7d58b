"""Two requests → what differs between them, in the lines of a test report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import unified_diff
from typing import Any

MOST_LINES = 60
MOST_CHARACTERS = 300  # of a line, because a picture is one


def text_of(request: Mapping[str, Any]) -> str:
    """The text of the last message of a request."""
    messages = request.get("messages")
    newest = messages[-1] if isinstance(messages, list) and messages else {}
    content = newest.get("content") if isinstance(newest, Mapping) else None
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def check_fields(request: Mapping[str, Any], text: str | None, fields: Mapping[str, Any]) -> None:
    """Raise `AssertionError` if the request ends with another text, or has other values in these ``fields``."""
    wanted: dict[str, Any] = dict(fields)
    found: dict[str, Any] = {name: request[name] for name in fields if name in request}
    if text is not None:
        wanted["the last text"], found["the last text"] = text, text_of(request)
    if wanted != found:
        raise AssertionError("the request differs from what the test expects\n" + difference(wanted, found, "test"))


def difference(wanted: Any, found: Any, source: str) -> str:
    """The lines of two JSON values that differ; ``source`` names where the first is from."""
    before, after = _lines(wanted), _lines(found)
    lines = list(unified_diff(before, after, source, "request", lineterm="", n=2))
    cut = [*lines[:MOST_LINES], f"… {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else lines
    return "\n".join(line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS] + "…" for line in cut)


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=repr).splitlines()
