"""Properties of decoding that hold for any bytes, for the tests and for `make fuzz`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from chatstream import read_events
from chatstream._decode.sse import SSEDecoder
from chatstream.errors import ChatStreamError

GENERATED_ID = re.compile("call_[0-9a-f]{24}")  # of a call for which the server sent no id


def decoded(source: Iterable[bytes], choices: int = 1) -> str:
    """The events of `read_events`, or its error, as one text in which generated ids are numbered."""
    lines: list[str] = []
    try:
        lines += map(repr, read_events(source, choices=choices))
    except ChatStreamError as error:
        lines += [type(error).__name__, str(error), repr(error.partial), repr(error.retryable)]
    numbers: dict[str, str] = {}
    return GENERATED_ID.sub(lambda found: numbers.setdefault(found[0], f"generated-{len(numbers)}"), "\n".join(lines))


def sse_result(source: Iterable[bytes]) -> list[tuple[str, str]]:
    """The SSE events of a stream, then its error, or else the number of its comments and its tail."""
    decoder = SSEDecoder()
    events = []
    try:
        for piece in source:
            events += [(event.event, event.data) for event in decoder.feed(piece)]
    except ChatStreamError as error:
        return [*events, (type(error).__name__, str(error))]
    return [*events, (f"{decoder.comments} comments", repr(decoder.tail.lstrip(b"\n")))]


def split(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces that end at ``places``, each taken modulo its length."""
    if not data:
        return []
    at = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:stop] for start, stop in pairwise(at)]


def single_bytes(data: bytes, most: int = 300) -> list[bytes]:
    """``data`` byte by byte; of long data only both ends, where streams differ most."""
    return split(data, [*range(min(len(data), most)), *range(max(len(data) - most, 0), len(data))])


def check_read_events(data: bytes, places: Iterable[int], choices: int = 1) -> None:
    """`read_events` raises nothing but `ChatStreamError`, and its result does not depend on the size of the pieces."""
    whole = decoded(split(data, ()), choices)
    assert decoded(split(data, places), choices) == whole
    assert decoded(single_bytes(data), choices) == whole


def check_sse(data: bytes, places: Iterable[int]) -> None:
    """The same for the SSE decoder alone."""
    whole = sse_result(split(data, ()))
    assert sse_result(split(data, places)) == whole
    assert sse_result(single_bytes(data)) == whole
