"""What a model answers → the script of a server that gives the answer, streamed or whole, as the request wants it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from .._dataclass import frozen
from ..errors import ConfigError
from .scripts import Script, Step, done, end, event, head, pause, status

ID, CREATED = "chatcmpl-test", 1_700_000_000
PIECES = re.compile(r"\s*\S+|\s+\Z")  # a word with the blanks before it


@frozen
class Answer:
    """What the model says, thinks, refuses and calls. ``calls`` are names and the JSON texts of their arguments."""

    text: tuple[str, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    finish_reason: str = "stop"
    usage: Mapping[str, Any] = field(default_factory=dict, hash=False)
    every: float = 0.0  # seconds between two pieces

    def script(self, request: Mapping[str, Any]) -> Script:
        """The steps that answer this request."""
        if request.get("stream"):
            return [head(), *self.events(request), *self._last(request), done(), end()]
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text) or None}
        message |= {"reasoning_content": self.reasoning} if self.reasoning else {}
        message |= {"refusal": self.refusal} if self.refusal else {}
        message |= (
            {"tool_calls": [_call(number, *call) for number, call in enumerate(self.calls)]} if self.calls else {}
        )
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason, "logprobs": None}
        return status(200, {**_frame(request, "chat.completion"), "choices": [choice], "usage": self._usage(request)})

    def events(self, request: Mapping[str, Any]) -> list[Step]:
        """The pieces of the answer as the events of a stream."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in PIECES.findall(self.reasoning)]
        deltas += [{"content": piece} for piece in self.text]
        deltas += [{"refusal": piece} for piece in PIECES.findall(self.refusal)]
        for number, (name, arguments) in enumerate(self.calls):
            half = len(arguments) // 2
            first = {"index": number, **_call(number, name, "")}
            rest = [{"index": number, "function": {"arguments": part}} for part in (arguments[:half], arguments[half:])]
            deltas += [{"tool_calls": [part]} for part in (first, *rest)]
        steps: list[Step] = []
        for delta in deltas:
            steps += [pause(self.every)] if self.every and steps else []
            steps.append(_event(request, [{"index": 0, "delta": delta, "finish_reason": None}]))
        return steps

    def _last(self, request: Mapping[str, Any]) -> list[Step]:
        steps = [_event(request, [{"index": 0, "delta": {}, "finish_reason": self.finish_reason}])]
        options = request.get("stream_options")
        if isinstance(options, Mapping) and options.get("include_usage"):
            steps.append(_event(request, [], usage=self._usage(request)))
        return steps

    def _usage(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The token counts: those of ``usage``, else the numbers of words."""
        asked = len(json.dumps(request.get("messages")).split())
        answered = len(" ".join([*self.text, self.reasoning, self.refusal, *map(" ".join, self.calls)]).split())
        counted = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
        return {**counted, **self.usage}


def answer_of_calls(calls: Iterable[Any], named: Mapping[str, Any], every: float = 0.0) -> Answer:
    """The answer that calls functions: pairs of a name and arguments, and arguments by name (a list calls it often)."""
    pairs = [tuple(call) for call in calls]
    for name, arguments in named.items():
        pairs += [(name, each) for each in (arguments if isinstance(arguments, list) else [arguments])]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ConfigError('calls takes the arguments by function, as in calls(get_weather={"city": "Oslo"})')
    texts = tuple((str(name), each if isinstance(each, str) else json.dumps(each)) for name, each in pairs)
    return Answer(calls=texts, finish_reason="tool_calls", every=every)


def pieces_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The pieces in which a text arrives: ``texts``, or the words of a single one."""
    pieces = tuple(texts)
    return tuple(PIECES.findall(pieces[0])) if len(pieces) == 1 else pieces


def _call(number: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{number + 1}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _event(request: Mapping[str, Any], choices: list[Any], **more: Any) -> Step:
    return event({**_frame(request, "chat.completion.chunk"), "choices": choices, **more})


def _frame(request: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {"id": ID, "object": kind, "created": CREATED, "model": str(request.get("model") or "test")}
