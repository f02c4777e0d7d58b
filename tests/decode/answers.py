"""Builds the bytes of answers and reads them in several ways, for the tests of how servers spell a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from chatstream import (
    ChatStreamError,
    CustomToolCall,
    FunctionCall,
    FunctionCallDelta,
    OutputTextDelta,
    Turn,
    collect,
    read_events,
)

STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
DONE = b"data: [DONE]\n\n"
SIZES = (0, 1, 7)  # of the pieces; 0 for the whole


class Answer(NamedTuple):
    """What became of an answer: its turn (the partial one after an error), its events, and its error."""

    turn: Turn
    events: list[Any]
    error: ChatStreamError | None


def sse(*bodies: Any, done: bool = True) -> bytes:
    """One event per body: an object as JSON, text as it stands; and the end marker if ``done``."""
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return b"".join(b"data: %b\n\n" % text.encode() for text in texts) + (DONE if done else b"")


def chunk(delta: Any = None, finish: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with one choice; ``more`` are further fields of the chunk."""
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def text(content: Any, index: int = 0) -> dict[str, Any]:
    """A chunk with text, or with whatever content."""
    return chunk({"content": content}, index=index)


def calls(*entries: Any, finish: Any = None) -> dict[str, Any]:
    """A chunk with entries of ``tool_calls``."""
    return chunk({"tool_calls": list(entries)}, finish)


def part(
    arguments: Any = None, name: str | None = None, id: str | None = None, index: int | None = None, **more: Any
) -> dict[str, Any]:
    """An entry of ``tool_calls`` with the keys that are given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    keys = {"index": index, "id": id, **more}
    return {**{key: value for key, value in keys.items() if value is not None}, "function": function}


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)] if size else [data]


def read(data: bytes, choices: int | None = 1) -> Answer:
    """The answer in ``data``, which is the same whole, byte by byte, and in sevens."""
    whole, *others = (_read(in_pieces(data, size), choices) for size in SIZES)
    for other in others:
        assert _comparable(other) == _comparable(whole)
    return whole


def _read(source: Iterable[bytes], choices: int | None) -> Answer:
    events: list[Any] = []
    try:
        for event in read_events(source, choices=choices):
            events.append(event)
    except ChatStreamError as error:
        return Answer(error.partial or Turn(), events, error)
    return Answer(collect(events), events, None)


def _comparable(answer: Answer) -> tuple[Any, ...]:
    """All of an answer but the generated ids of its calls."""
    views = [
        (view.text, view.reasoning, view.refusal, called(view), view.finish_reason, view.status, dict(view.extra))
        for view in answer.turn.choices
    ]
    return [type(event) for event in answer.events], views, answer.turn.token_usage, repr(answer.error)


def turn_of(*bodies: Any, choices: int | None = 1) -> Turn:
    """The turn of a stream of these bodies that completes."""
    turn, _, error = read(sse(*bodies), choices)
    assert error is None, error
    return turn


def called(turn: Turn) -> list[tuple[str, str]]:
    """The name and the arguments (or the input) of each call."""
    items = [item for item in turn.items if isinstance(item, (FunctionCall, CustomToolCall))]
    return [(item.name, item.input if isinstance(item, CustomToolCall) else item.arguments) for item in items]


def ids(turn: Turn) -> list[str]:
    """The ids of the calls, all distinct; a generated one is ``*``."""
    found = [item.call_id for item in turn.items if isinstance(item, (FunctionCall, CustomToolCall))]
    assert len(set(found)) == len(found)
    return ["*" if call_id.startswith("call_") and len(call_id) == 29 else call_id for call_id in found]


def deltas(answer: Answer) -> list[tuple[str, str]]:
    """The name and the piece of each delta of a call."""
    return [(event.name, event.delta) for event in answer.events if isinstance(event, FunctionCallDelta)]


def texts(answer: Answer, choice: int = 0) -> list[str]:
    """The text deltas of one choice."""
    return [event.delta for event in answer.events if isinstance(event, OutputTextDelta) and event.choice == choice]
