"""What a stream says: first to the machine, as chunks of one spelling; then to the caller, as events.

    payload ─chunks▶ Chunk ─machine▶ ResponseEvent

Rules:
- Chunks, the inner words, are named tuples: one is made per SSE event, at a third of a frozen dataclass's price.
- Events, the public words, are frozen dataclasses: they narrow under ``match`` and ``isinstance``.
- Nothing here knows how any server spells it, nor how the bytes came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Union

from .._dataclass import frozen
from .items import ResponseItem

Status = Literal["completed", "incomplete", "unconfirmed"]
FinishKind = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]


@frozen
class TokenUsage:
    """Token counts as the server reported them; None where it gave none. Nothing is added up or guessed.

    ``cached_input_tokens`` is the part of ``input_tokens`` that a prompt cache served, ``reasoning_output_tokens``
    the part of ``output_tokens`` spent on reasoning (some servers count it beside instead).
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    total_tokens: int | None = None


@frozen
class Created:
    """The answer has begun; held back until its first event with content."""

    response_id: str | None = None
    model: str | None = None


@frozen
class OutputTextDelta:
    """A piece of the answer's text."""

    delta: str
    choice: int = 0


@frozen
class ReasoningDelta:
    """A piece of the model's reasoning."""

    delta: str
    choice: int = 0


@frozen
class RefusalDelta:
    """A piece of a refusal."""

    delta: str
    choice: int = 0


@frozen
class FunctionCallDelta:
    """A piece of a function call's arguments; ``delta`` may be empty when only the name is known yet."""

    delta: str
    call_id: str
    name: str
    choice: int = 0


@frozen
class OutputItemDone:
    """A whole item: from a stream each function call, from `aggregate` also the message and the reasoning."""

    item: ResponseItem
    choice: int = 0


@frozen
class ChoiceEnd:
    """How one choice ended.

    ``finish_reason`` is the server's word, ``finish_kind`` what it means in the words of OpenAI. ``status`` is
    ``completed``, ``incomplete`` (cut by ``length`` or ``content_filter``, or inside a call) or ``unconfirmed`` (the
    server gave no finish reason). ``extra`` has what else it sent, as it sent it: ``logprobs``, ``annotations``,
    ``audio``, ``citations``, ``search_results``, … .
    """

    index: int = 0
    finish_reason: str | None = None
    finish_kind: FinishKind | None = None
    status: Status = "completed"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@frozen
class Completed:
    """The answer is whole; always the last event, and exactly once.

    ``finish_reason`` is the first choice's, as the server spelled it; ``choices`` tells how each choice ended.
    ``status`` is that of the whole answer: ``incomplete`` if one choice is, ``unconfirmed`` if the server said
    ``[DONE]`` but gave no finish reason at all.
    """

    response_id: str | None = None
    model: str | None = None
    token_usage: TokenUsage | None = None
    finish_reason: str | None = None
    status: Status = "completed"
    choices: tuple[ChoiceEnd, ...] = field(default=(), repr=False)

    @property
    def finish_kind(self) -> FinishKind | None:
        """What the first choice's finish reason means in the words of OpenAI."""
        return self.choices[0].finish_kind if self.choices else None


@frozen
class Heartbeat:
    """Nothing has arrived for the ``heartbeat`` seconds that the caller asked for; the stream is still open."""


ResponseEvent = Union[
    Created,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    FunctionCallDelta,
    OutputItemDone,
    Completed,
    Heartbeat,
]
