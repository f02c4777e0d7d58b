"""What servers send beside text and calls: logprobs, annotations, audio, citations, search results, timings.

the keys of a chunk that nobody else reads ─▶ ``extra``, as the server sent it, joined over the chunks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTH = 3  # objects inside objects that are joined
PIECES = ("data", "transcript")  # audio comes in pieces under these


def extra_of(body: dict[str, Any], read: frozenset[str]) -> dict[str, Any]:
    """What of ``body`` is not among the keys ``read``, and is more than a word or a number."""
    if read.issuperset(body):  # nearly always
        return {}
    return {key: value for key, value in body.items() if key not in read and value and value.__class__ in (list, dict)}


def join_extra(old: dict[str, Any], new: Mapping[str, Any], depth: int = DEPTH) -> None:
    """Put what a chunk brings to what is there: lists grow, objects are joined inside, words of them too where they
    come in pieces (audio); of anything else the last stands. ``new`` stays as it is."""
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif isinstance(before, dict) and isinstance(value, dict) and depth:
            join_extra(before, value, depth - 1)
        elif isinstance(before, str) and isinstance(value, str) and key in PIECES:
            old[key] = before + value
        elif value is not None:
            old[key] = _own(value, depth)


def _own(value: Any, depth: int) -> Any:
    """A copy of what `join_extra` may change later."""
    if isinstance(value, dict) and depth:
        return {key: _own(each, depth - 1) for key, each in value.items()}
    return list(value) if isinstance(value, list) else value
