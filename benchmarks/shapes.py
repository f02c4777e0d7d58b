"""What the server sends: streams in the shape that OpenAI's were recorded in, 300 to 370 bytes an event.

    shape, number of events ──▶ SSE events

Rules:
- ``events`` counts those with content; a role, a finish reason, usage if asked for, and ``[DONE]`` come besides.
- In ``unlike`` each chunk has an id of its own, as behind some gateways: nothing of one helps to read the next.
- ``line`` is one line of so many MiB, and never ends.
- A text may be left open for a time stamp of `STAMP` characters, so that each event has the same size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

SHAPES = ("text", "tools", "reasoning", "unlike", "line")
STAMP = 20  # characters: nanoseconds of the monotonic clock, which all processes share
FRAGMENTS = 500  # per tool call
WORDS = (" The", " light", " of", " the", " setting", " sun", " crosses", " more", " air", ",", " and", " blue", ".")
CALL_HEAD, CALL_TAIL = '{"path": "notes.txt", "text": "', '"}'
HEAD = {
    "id": "chatcmpl-BzQ7mXn2aPl5WcTRf0uKdYh8sVtEj",
    "object": "chat.completion.chunk",
    "created": 1766000000,
    "model": "gpt-4.1-mini-2025-04-14",
    "service_tier": "default",
    "system_fingerprint": "fp_6f2eabb9a5",
}
USAGE = {"prompt_tokens": 14, "completion_tokens": 5000, "total_tokens": 5014}


def sse_events(shape: str, events: int, usage: bool = False) -> Iterator[bytes]:
    """The whole stream, one SSE event after the other."""
    if shape == "line":
        yield from [b"data: ", *[b"x" * 2**20] * events]
        return
    for number, delta in enumerate(_deltas(shape, events)):
        yield sse_event(delta, number=number if shape == "unlike" else None)
    yield from last_events(shape, usage)


def last_events(shape: str, usage: bool) -> Iterator[bytes]:
    """What follows the content: the finish reason, the usage if it was asked for, and ``[DONE]``."""
    yield sse_event({}, "tool_calls" if shape == "tools" else "stop")
    if usage:
        yield _event({**HEAD, "choices": [], "usage": USAGE, "obfuscation": "Gk3"})
    yield b"data: [DONE]\n\n"


def stamped_event(stamp: int) -> bytes:
    """An event whose text is the time at which it was sent; all are of one size."""
    return _TEMPLATE.replace(b"0" * STAMP, b"%0*d" % (STAMP, stamp))


def sse_event(delta: dict[str, Any], finish_reason: str | None = None, number: int | None = None) -> bytes:
    """One chunk; the padding is OpenAI's ``obfuscation``, which hides the length of a token. With a ``number`` it has
    an id of its own."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    padding = "x" * max(1, 9 - len(str(delta.get("content") or 8 * "-")))
    head = HEAD if number is None else {**HEAD, "id": f"chatcmpl-{number:029}"}
    return _event({**head, "choices": [choice], "usage": None, "obfuscation": padding})


def expected(shape: str, events: int) -> int:
    """How many characters a client that missed nothing has been handed."""
    return sum(len(_said(delta)) for delta in _deltas(shape, events))


def _said(delta: dict[str, Any]) -> str:
    if calls := delta.get("tool_calls"):
        return str(calls[0]["function"]["arguments"])
    return delta.get("content") or delta.get("reasoning_content") or ""


def _deltas(shape: str, events: int) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if shape in ("text", "unlike") else None}
    words = islice(cycle(WORDS), events)
    if shape in ("text", "unlike"):
        yield from ({"content": word} for word in words)
    elif shape == "reasoning":
        yield from ({"content": None, "reasoning_content": word} for word in words)
    else:
        yield from _calls(events)


def _calls(events: int) -> Iterator[dict[str, Any]]:
    for number, word in enumerate(islice(cycle(WORDS), events)):
        index, place = divmod(number, FRAGMENTS)
        call: dict[str, Any] = {"index": index, "function": {"arguments": word}}
        if place == 0:
            function = {"name": "write_file", "arguments": CALL_HEAD}
            call = {"index": index, "id": f"call_{index:08d}aYq0Lw3ZtE5n", "type": "function", "function": function}
        elif place == FRAGMENTS - 1 or number == events - 1:
            call["function"]["arguments"] = CALL_TAIL
        yield {"tool_calls": [call]}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(body, separators=(",", ":")).encode()


_TEMPLATE = sse_event({"content": "0" * STAMP})
