"""The result of one prompt of many, as a value and as a line of a file.

    Result ─encode_result▶ one line of JSON ─decode_result▶ Result

Rules:
- A line begins with its key, so that the beginning of a line tells whether a file is one of results.
- The line of an answer can be read back; that of an error is for people and programs, and is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._dataclass import frozen
from .._missing import explain_missing
from ..errors import Attempt, ConfigError
from ..types.turn import Turn

LINE_STARTS = (b'{"key": "', b'{"custom_id": "')  # of a line of `encode_result`, and of one of a batch
_json = json.JSONEncoder(default=str).encode


@frozen
class Result:
    """The outcome of one prompt: an answer or an error.

    - ``key``: the caller's id of the prompt, or else a hash of its request. ``index``: its place, counted from 0.
    - ``turn``: the answer, None after an error. ``error``: what ended the call, with its ``partial`` turn, None after
      an answer.
    - ``attempts``: every request made for it. ``started``: the Unix time of its beginning; ``seconds``: its duration.
    - ``resumed``: whether it was read from the file of an earlier run; such a result has no attempts.
    """

    key: str
    index: int = 0
    turn: Turn | None = None
    error: Exception | None = None
    attempts: tuple[Attempt, ...] = ()
    started: float = 0.0
    seconds: float = 0.0
    resumed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON; an error is a dict with its ``type``, ``message`` and ``partial`` turn."""
        made: dict[str, Any] = {"key": self.key, "index": self.index}
        if self.turn is not None:
            made["turn"] = self.turn.to_dict()
        if self.error is not None:
            partial: Turn | None = getattr(self.error, "partial", None)
            made["error"] = {"type": type(self.error).__name__, "message": str(self.error)}
            made["error"] |= {} if partial is None else {"partial": partial.to_dict()}
        made["attempts"] = [{"status": each.status, "error": each.error} for each in self.attempts]
        return made | {"started": round(self.started, 3), "seconds": round(self.seconds, 6)}


_TURN = "the answer is result.turn, with its text in result.turn.text; it is None after an error, result.error"
explain_missing(
    Result,
    {
        **dict.fromkeys(("text", "content", "message", "choices", "response", "usage", "parsed"), _TURN),
        **dict.fromkeys(("id", "custom_id"), "use result.key"),
        "prompt": "keep the prompts in a list, and use prompts[result.index]",
    },
)


def encode_result(result: Result, request: str) -> dict[str, Any]:
    """The line of a result; ``request`` is the hash of its request."""
    made = result.to_dict()
    return {"key": made.pop("key"), "request": request, **made}


def decode_result(line: Mapping[str, Any]) -> Result:
    """The result with an answer that `encode_result` has written. Raises `ConfigError` for another line."""
    turn = Turn.from_dict(line["turn"])
    return Result(line["key"], turn=turn, started=line["started"], seconds=line["seconds"], resumed=True)


def dump(line: Mapping[str, Any]) -> bytes:
    """A line of a file, with its end. It is ASCII, so that no character in it can be taken for the end of a line."""
    return _json(line).encode() + b"\n"


def load(data: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises `ConfigError` if it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"it is a JSON {type(value).__name__}, not an object")
    return value
