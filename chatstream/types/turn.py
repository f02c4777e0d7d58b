"""Events → whole items: `aggregate`, `collect`, and the `Turn` they fill.

Rules:
- Silent while the model talks; then whole items in the order of a conversation: reasoning, message, calls.
- The events given to it are not changed, and whole messages among them are merged: doing it twice changes nothing.
- Every fragment is kept once and joined once: memory and time are linear in the text.
- If the events break off, what was collected rides on the exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from .._dataclass import frozen
from .events import (
    FinishKind,
    Status,
    TokenUsage,
)
from .items import FunctionCall, Message, Reasoning, ResponseItem
from .parts import OutputText, Refusal


@frozen
class Timing:
    """When things happened, in seconds since the call began; None where they have not.

    ``headers`` is when the last attempt's response headers came, ``first_event`` when the first event with content
    was handed over, ``total`` when the stream ended.
    """

    headers: float | None = None
    first_event: float | None = None
    total: float | None = None


@frozen
class Turn:
    """One turn of the model. ``items`` can be added to ``prompt.input`` as they are.

    With several choices it shows the first; ``choices`` has such a view of each, in order of index. ``status`` is
    ``completed``; ``incomplete`` when it was cut off (by ``length``, ``content_filter``, or inside a call, or because
    the stream has not ended yet); ``unconfirmed`` when the server ended it without a finish reason. ``finish_reason``
    is the server's term, ``finish_kind`` its meaning in OpenAI's terms. ``extra`` has what else it sent, unchanged:
    ``logprobs``, ``annotations``, ``audio``, ``citations``, ``search_results``, ``timings``, … .
    """

    items: tuple[ResponseItem, ...] = ()
    finish_reason: str | None = None
    token_usage: TokenUsage | None = None
    response_id: str | None = None
    model: str | None = None
    status: Status = "incomplete"
    timing: Timing | None = None
    finish_kind: FinishKind | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    _choices: tuple[Turn, ...] = field(default=(), repr=False)

    @property
    def choices(self) -> tuple[Turn, ...]:
        """One turn per choice; of an answer with one choice, this turn itself."""
        return self._choices or (self,)

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(part.text for part in self._parts() if isinstance(part, OutputText))

    @property
    def refusal(self) -> str:
        """The words in which the model refused, if it did."""
        return "".join(part.refusal for part in self._parts() if isinstance(part, Refusal))

    @property
    def reasoning(self) -> str:
        """The model's reasoning, as far as the server shows it."""
        return "".join(item.text for item in self.items if isinstance(item, Reasoning))

    @property
    def function_calls(self) -> tuple[FunctionCall, ...]:
        """The calls that the model asks for; one cut off has the status ``incomplete``."""
        return tuple(item for item in self.items if isinstance(item, FunctionCall))

    def parsed(self, model: Any = None) -> Any:
        """The text as JSON; as an instance of ``model``, a dataclass or pydantic model, if one is given.

        Raises ValueError when the text is not whole or does not fit.
        """
        from .schema import parsed

        return parsed(self.text, model)

    def _parts(self) -> Iterator[object]:
        for item in self.items:
            if isinstance(item, Message):
                yield from item.content
