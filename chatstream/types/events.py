"""The values that a stream yields: events, from `Created` to `Completed`, and what they carry.

Rules:
- Events are frozen dataclasses, which ``match`` and `isinstance` narrow; `ResponseEvent` is the union of them.
- Nothing here depends on how a server spells a chunk or on how bytes arrive.
- ``choice`` is the index of the choice that an event belongs to; 0 unless the request has ``n`` above 1.
- `to_dict` returns an event as a dict for storage and other programs: ``from_dict(event.to_dict())`` equals ``event``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal, Union, get_args

from .._dataclass import frozen
from .._missing import explain_missing
from ..errors import ConfigError
from .items import ResponseItem, item_from_dict
from .parts import ContentPart, part_from_dict
from .tagged import as_dict, from_tagged, require_key, tag_of, to_tagged, tuple_of
from .usage import TokenUsage

Status = Literal["completed", "incomplete", "unconfirmed"]
FinishKind = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]


@frozen
class Created:
    """The answer has begun. This event is yielded immediately before the first event with content."""

    response_id: str | None = None
    model: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Created:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data)


@frozen
class OutputTextDelta:
    """A piece of the answer's text."""

    delta: str
    choice: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputTextDelta:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data)


@frozen
class ReasoningDelta:
    """A piece of the model's reasoning.

    ``details`` are the entries of the server's ``reasoning_details`` that came with it, unchanged; ``delta`` is empty
    if they are encrypted and contain no text.
    """

    delta: str
    choice: int = 0
    details: tuple[dict[str, Any], ...] = field(default=(), hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReasoningDelta:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data, details=tuple_of(as_dict))


@frozen
class RefusalDelta:
    """A piece of a refusal."""

    delta: str
    choice: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RefusalDelta:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data)


@frozen
class FunctionCallDelta:
    """A piece of a call's arguments; ``delta`` is empty if the call has none.

    ``name`` is the whole name of the function. ``custom`` marks the call of a custom tool, whose input is free text.
    """

    delta: str
    call_id: str
    name: str
    choice: int = 0
    custom: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionCallDelta:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data)


@frozen
class ContentPartDone:
    """A part of the message that is not text: an `OutputImage`, or an `Other` with the part as the server sent it."""

    part: ContentPart
    choice: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ContentPartDone:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data, part=part_from_dict)


@frozen
class OutputItemDone:
    """A complete item. A stream yields each tool call, and `aggregate` also the message and the reasoning."""

    item: ResponseItem
    choice: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputItemDone:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data, item=item_from_dict)


@frozen
class ChoiceEnd:
    """How one choice ended.

    - ``finish_reason``: as the server spelled it. ``finish_kind``: its meaning, one of OpenAI's finish reasons,
      ``error`` or ``other``.
    - ``status``: ``completed``; ``incomplete`` if it was cut off (``length``, ``content_filter``, ``error``) or ends
      inside a call; ``unconfirmed`` if the server sent no finish reason, or an unknown one.
    - ``extra``: other fields of the choice, unchanged: ``logprobs``, ``annotations``, ``audio``, ``citations``, …
    """

    index: int = 0
    finish_reason: str | None = None
    finish_kind: FinishKind | None = None
    status: Status = "completed"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The end as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ChoiceEnd:
        """The end from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data, extra=as_dict)


@frozen
class Completed:
    """The answer has ended. This event is always the last one, and is yielded exactly once.

    ``finish_reason`` is that of the first choice, as the server spelled it; ``choices`` has the end of each choice.
    ``status`` is ``incomplete`` if any choice is, and ``unconfirmed`` if none has a known finish reason.
    """

    response_id: str | None = None
    model: str | None = None
    token_usage: TokenUsage | None = None
    finish_reason: str | None = None
    status: Status = "completed"
    choices: tuple[ChoiceEnd, ...] = field(default=(), repr=False)

    @property
    def finish_kind(self) -> FinishKind | None:
        """The meaning of the first choice's finish reason (see `ChoiceEnd`); None if there was none."""
        return self.choices[0].finish_kind if self.choices else None

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Completed:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data, token_usage=TokenUsage.from_dict, choices=tuple_of(ChoiceEnd.from_dict))


@frozen
class Heartbeat:
    """No event has arrived for ``heartbeat`` seconds (see `Client.stream`). The stream is still open."""

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Heartbeat:
        """The event from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(cls, data)


ResponseEvent = Union[
    Created,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    FunctionCallDelta,
    ContentPartDone,
    OutputItemDone,
    Completed,
    Heartbeat,
]

_BY_CLASS = (
    "not every event has it: check the class, as in isinstance(event, OutputTextDelta), or use stream.text() for text"
)
_NO_CHUNK = (
    "events are not chunks of openai-python: the text is event.delta of an OutputTextDelta, or use stream.text()"
)
# Not the deltas: Python reads every attribute of an object more slowly if its class has `__getattr__`. The first event
# of a stream is `Created`, so the hints are seen all the same.
for _event in set(get_args(ResponseEvent)) - {OutputTextDelta, ReasoningDelta, RefusalDelta, FunctionCallDelta}:
    explain_missing(_event, {"delta": _BY_CLASS, "text": _BY_CLASS, "choices": _NO_CHUNK, "content": _NO_CHUNK})

_EVENTS: dict[str, Callable[[Mapping[str, Any]], ResponseEvent]] = {
    tag_of(each): each.from_dict for each in get_args(ResponseEvent)
}


def event_from_dict(data: Mapping[str, Any]) -> ResponseEvent:
    """The event from the dict that its `to_dict` returned.

    Raises `ConfigError` if the type is unknown, a key is missing, or a value has the wrong type.
    """
    kind = require_key(data, "type")
    if not isinstance(kind, str) or kind not in _EVENTS:
        raise ConfigError(f"no event has the type {kind!r:.80}")
    return _EVENTS[kind](data)
