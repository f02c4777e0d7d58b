"""The streams that the server sends, with chunks as recorded from OpenAI: 300 to 370 bytes per event.

    shape, number of events ──▶ SSE events

Rules:
- ``events`` counts the events with content; the role, the finish reason, the usage if requested, and ``[DONE]`` are
  sent besides.
- In ``unlike`` each chunk has its own id, as behind some gateways, so that no chunk predicts the next one.
- ``line`` is a single line of ``events`` MiB without an end.
- In place of a text an event may have a time stamp of `STAMP` characters; all these events have the same size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

SHAPES = ("text", "tools", "reasoning", "unlike", "line")
STAMP = 20  # characters: nanoseconds of the monotonic clock, which all processes share
FRAGMENTS = 500  # per tool call
TOKENS = (" The", " light", " of", " the", " setting", " sun", " crosses", " more", " air", ",", " and", " blue", ".")
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
    """The events after the content: the finish reason, the usage if requested, and ``[DONE]``."""
    yield sse_event({}, "tool_calls" if shape == "tools" else "stop")
    if usage:
        yield _event({**HEAD, "choices": [], "usage": USAGE, "obfuscation": "Gk3"})
    yield b"data: [DONE]\n\n"


def stamped_event(stamp: int) -> bytes:
    """An event whose text is the time at which it was sent; all these events have the same size."""
    return _TEMPLATE.replace(b"0" * STAMP, b"%0*d" % (STAMP, stamp))


def sse_event(delta: dict[str, Any], finish_reason: str | None = None, number: int | None = None) -> bytes:
    """One chunk; with a ``number`` it has its own id.

    The padding is OpenAI's ``obfuscation``, which hides the length of a token.
    """
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    padding = "x" * max(1, 9 - len(str(delta.get("content") or 8 * "-")))
    head = HEAD if number is None else {**HEAD, "id": f"chatcmpl-{number:029}"}
    return _event({**head, "choices": [choice], "usage": None, "obfuscation": padding})


def expected(shape: str, events: int) -> int:
    """How many characters the text of the whole stream has."""
    return sum(len(_text_of(delta)) for delta in _deltas(shape, events))


def _text_of(delta: dict[str, Any]) -> str:
    if calls := delta.get("tool_calls"):
        return str(calls[0]["function"]["arguments"])
    return delta.get("content") or delta.get("reasoning_content") or ""


def _deltas(shape: str, events: int) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if shape in ("text", "unlike") else None}
    tokens = islice(cycle(TOKENS), events)
    if shape in ("text", "unlike"):
        yield from ({"content": token} for token in tokens)
    elif shape == "reasoning":
        yield from ({"content": None, "reasoning_content": token} for token in tokens)
    else:
        yield from _calls(events)


def _calls(events: int) -> Iterator[dict[str, Any]]:
    for number, token in enumerate(islice(cycle(TOKENS), events)):
        index, place = divmod(number, FRAGMENTS)
        call: dict[str, Any] = {"index": index, "function": {"arguments": token}}
        if place == 0:
            function = {"name": "write_file", "arguments": CALL_HEAD}
            call = {"index": index, "id": f"call_{index:08d}aYq0Lw3ZtE5n", "type": "function", "function": function}
        elif place == FRAGMENTS - 1 or number == events - 1:
            call["function"]["arguments"] = CALL_TAIL
        yield {"tool_calls": [call]}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(body, separators=(",", ":")).encode()


_TEMPLATE = sse_event({"content": "0" * STAMP})
