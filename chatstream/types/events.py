"""The values that a stream yields: events, from `Created` to `Completed`, and what they carry.

Rules:
- Events are frozen dataclasses, which ``match`` and `isinstance` narrow; `ResponseEvent` is the union of them.
- Nothing here depends on how a server spells a chunk or on how bytes arrive.
- ``choice`` is the index of the choice that an event belongs to; 0 unless the request has ``n`` above 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Union, get_args

from .._dataclass import frozen
from .._missing import explain_missing
from .items import ResponseItem
from .parts import ContentPart

Status = Literal["completed", "incomplete", "unconfirmed"]
FinishKind = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]


@frozen
class TokenUsage:
    """Token counts as the server reported them, each None if it did not. Nothing is computed or estimated.

    ``cached_input_tokens`` is the part of ``input_tokens`` that a prompt cache served. ``reasoning_output_tokens`` is
    the part of ``output_tokens`` spent on reasoning; some servers do not include it in ``output_tokens``. ``raw`` is
    the server's own object, with all that has no name here, such as the cost; it does not count for equality.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    total_tokens: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@frozen
class Created:
    """The answer has begun. This event is held back until the first event with content, right after it."""

    response_id: str | None = None
    model: str | None = None


@frozen
class OutputTextDelta:
    """A piece of the answer's text."""

    delta: str
    choice: int = 0


@frozen
class ReasoningDelta:
    """A piece of the model's reasoning.

    ``details`` are the entries of the server's ``reasoning_details`` that came with it, unchanged; ``delta`` is empty
    where these are encrypted and there is no text.
    """

    delta: str
    choice: int = 0
    details: tuple[dict[str, Any], ...] = field(default=(), hash=False)


@frozen
class RefusalDelta:
    """A piece of a refusal."""

    delta: str
    choice: int = 0


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


@frozen
class ContentPartDone:
    """A part of the message that is not text: an `OutputImage`, or an `Other` with the part as the server sent it."""

    part: ContentPart
    choice: int = 0


@frozen
class OutputItemDone:
    """A complete item: from a stream each function call, from `aggregate` also the message and the reasoning."""

    item: ResponseItem
    choice: int = 0


@frozen
class ChoiceEnd:
    """How one choice ended.

    - ``finish_reason``: as the server spelled it. ``finish_kind``: its meaning, one of OpenAI's finish reasons,
      ``error`` or ``other``.
    - ``status``: ``completed``; ``incomplete`` if it was cut off (``length``, ``content_filter``, ``error``) or ends
      inside a call; ``unconfirmed`` if the server sent no finish reason, or one that nobody knows.
    - ``extra``: other fields of the choice, unchanged: ``logprobs``, ``annotations``, ``audio``, ``citations``, …
    """

    index: int = 0
    finish_reason: str | None = None
    finish_kind: FinishKind | None = None
    status: Status = "completed"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@frozen
class Completed:
    """The answer is over. This event comes exactly once, and last.

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


@frozen
class Heartbeat:
    """No event has arrived for ``heartbeat`` seconds, an option of `Client.stream`. The stream is still open."""


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
    "events are told apart by their class, isinstance(event, OutputTextDelta), and stream.text() yields texts alone"
)
_NO_CHUNK = (
    "an event is no chunk of openai-python: its text is event.delta of an OutputTextDelta, or what stream.text() yields"
)
for _event in get_args(ResponseEvent):
    explain_missing(_event, {"delta": _BY_CLASS, "text": _BY_CLASS, "choices": _NO_CHUNK, "content": _NO_CHUNK})
