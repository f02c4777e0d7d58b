"""Bytes → all that a caller can see of them, and the laws that hold for any bytes; for the tests and `make fuzz`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from chatstream import read_events
from chatstream._decode.sse import SSEDecoder
from chatstream.errors import ChatStreamError

MADE_UP = re.compile("call_[0-9a-f]{24}")  # ids of calls that the server gave none


def outcome(source: Iterable[bytes], choices: int = 1) -> str:
    """All events, how the stream ended and the partial turn, in one text; made-up ids are numbered."""
    seen: list[str] = []
    try:
        seen += map(repr, read_events(source, choices=choices))
    except ChatStreamError as error:
        seen += [type(error).__name__, str(error), repr(error.partial), repr(error.retryable)]
    numbers: dict[str, str] = {}
    return MADE_UP.sub(lambda found: numbers.setdefault(found[0], f"made-{len(numbers)}"), "\n".join(seen))


def events(source: Iterable[bytes]) -> list[tuple[str, str]]:
    """The SSE events, the tail and the comments of a stream, and its error if it has one."""
    decoder = SSEDecoder()
    seen = []
    try:
        for piece in source:
            seen += [(event.event, event.data) for event in decoder.feed(piece)]
    except ChatStreamError as error:
        return [*seen, (type(error).__name__, str(error))]
    return [*seen, (f"{decoder.comments} comments", repr(decoder.tail.lstrip(b"\n")))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces; a place beyond its end counts from the beginning again."""
    if not data:
        return []
    at = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:stop] for start, stop in pairwise(at)]


def alone(data: bytes, most: int = 300) -> list[bytes]:
    """Every byte a piece of its own, the first and the last of many: that is where streams differ."""
    return cut(data, [*range(min(len(data), most)), *range(max(len(data) - most, 0), len(data))])


def check_answer(data: bytes, places: Iterable[int], choices: int = 1) -> None:
    """The laws of `read_events`: it ends in events or in an error of the house, and cutting changes nothing."""
    whole = outcome(cut(data, ()), choices)
    assert outcome(cut(data, places), choices) == whole
    assert outcome(alone(data), choices) == whole


def check_events(data: bytes, places: Iterable[int]) -> None:
    """The same for the room of SSE alone."""
    whole = events(cut(data, ()))
    assert events(cut(data, places)) == whole
    assert events(alone(data)) == whole
