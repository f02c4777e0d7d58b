"""Events → whole items: `aggregate`, `collect`, and the `Turn` they fill.

Rules:
- Silent while the model talks; then whole items in the order of a conversation: reasoning, message, calls.
- The events given to it are not changed, and whole messages among them are merged: doing it twice changes nothing.
- Every fragment is kept once and joined once: memory and time are linear in the text.
- If the events break off, what was collected rides on the exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from .._dataclass import frozen
from ..errors import ChatStreamError, StreamTruncated
from .events import (
    ChoiceEnd,
    Completed,
    Finish,
    FunctionCallDelta,
    Heartbeat,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
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
    is the server's word, ``finish`` what it means in the words of OpenAI. ``extra`` has what else it sent, as it sent
    it: ``logprobs``, ``annotations``, ``audio``, ``citations``, ``search_results``, ``timings``, … .
    """

    items: tuple[ResponseItem, ...] = ()
    finish_reason: str | None = None
    token_usage: TokenUsage | None = None
    response_id: str | None = None
    model: str | None = None
    status: Status = "incomplete"
    timing: Timing | None = None
    finish: Finish | None = None
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


class _Choice:
    """The pieces of one choice. Calls stay in the order in which they began; a whole one replaces its pieces."""

    __slots__ = ("calls", "reasoning", "refusal", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[str, FunctionCall | list[FunctionCallDelta]] = {}

    def items(self) -> tuple[ResponseItem, ...]:
        items: list[ResponseItem] = []
        if reasoning := "".join(self.reasoning):
            items.append(Reasoning(reasoning))
        text, refusal = "".join(self.text), "".join(self.refusal)
        parts = ([OutputText(text)] if text else []) + ([Refusal(refusal)] if refusal else [])
        if parts:
            items.append(Message("assistant", parts))
        return (*items, *(_call_item(call) for call in self.calls.values()))

    def add_item(self, item: ResponseItem) -> None:
        match item:
            case Message():
                for part in item.content:
                    if isinstance(part, OutputText):
                        self.text.append(part.text)
                    elif isinstance(part, Refusal):
                        self.refusal.append(part.refusal)
            case Reasoning():
                self.reasoning.append(item.text)
            case FunctionCall():
                self.calls[item.call_id] = item
            case _:
                pass  # no stream makes others

    def add_call(self, event: FunctionCallDelta) -> None:
        pieces = self.calls.setdefault(event.call_id, [])
        if isinstance(pieces, list):
            pieces.append(event)


def _call_item(call: FunctionCall | list[FunctionCallDelta]) -> FunctionCall:
    """A call that never was whole is ``incomplete``, whatever its arguments look like so far."""
    if isinstance(call, FunctionCall):
        return call
    last = call[-1]
    return FunctionCall(last.name, "".join(event.delta for event in call), last.call_id, "incomplete")


class Collector:
    """Gathers events as they pass by; `turn` shows what there is so far, at any time."""

    __slots__ = ("_choices", "_first_text", "completed")

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {0: _Choice()}
        self._first_text = self._choices[0].text
        self.completed: Completed | None = None

    def add(self, event: ResponseEvent) -> None:
        """Take one event."""
        match event:
            case OutputTextDelta():
                self._choice(event.choice).text.append(event.delta)
            case ReasoningDelta():
                self._choice(event.choice).reasoning.append(event.delta)
            case RefusalDelta():
                self._choice(event.choice).refusal.append(event.delta)
            case FunctionCallDelta():
                self._choice(event.choice).add_call(event)
            case OutputItemDone():
                self._choice(event.choice).add_item(event.item)
            case Completed():
                self.completed = event
            case _:
                pass  # Created and Heartbeat add nothing

    def pass_on(self, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """The same events, each noted before it is handed over."""
        return map(self._noted, events)

    def _noted(self, event: ResponseEvent) -> ResponseEvent:
        if event.__class__ is OutputTextDelta and not event.choice:  # nearly all of them
            self._first_text.append(event.delta)
        else:
            self.add(event)
        return event

    def gather(self, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """Take all events (heartbeats pass through), then yield whole items in order, and ``Completed``.

        Raises `StreamTruncated` if they end without it.
        """
        for event in events:
            self.add(event)
            if event.__class__ is Heartbeat:
                yield event
        if self.completed is None:
            raise StreamTruncated("the events ended without Completed")
        for index in self._indexes(()):
            for item in self._choice(index).items():
                yield OutputItemDone(item, index)
        yield self.completed

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice()
        return self._choices[index]

    def turn(self, so_far: Completed | None = None, timing: Timing | None = None) -> Turn:
        """The turn as collected. ``so_far`` tells what is known of an answer that has not completed."""
        end = self.completed or so_far or Completed()
        ends = {choice.index: choice for choice in end.choices}
        views = tuple(self._view(index, ends.get(index), end, timing) for index in self._indexes(ends))
        return views[0] if len(views) == 1 else replace(views[0], _choices=views)

    def _view(self, index: int, how: ChoiceEnd | None, end: Completed, timing: Timing | None) -> Turn:
        how = how or ChoiceEnd(index, end.finish_reason, None, end.status)
        return Turn(
            self._choice(index).items(),
            how.finish_reason,
            end.token_usage,
            end.response_id,
            end.model,
            how.status if self.completed else "incomplete",
            timing,
            how.finish,
            how.extra,
        )

    def _indexes(self, ends: Iterable[int]) -> list[int]:
        return sorted({*ends, *(index for index, choice in self._choices.items() if choice.items())}) or [0]


def aggregate(events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
    """Whole items and ``Completed`` out of any events; for a text turn ``OutputItemDone(Message)``, ``Completed``.

    Heartbeats pass through. Raises what the events raise, and `StreamTruncated` when they end without ``Completed``;
    either carries what was collected as ``partial``.
    """
    collector = Collector()
    try:
        yield from collector.gather(events)
    except ChatStreamError as error:
        if not error.has_partial:
            error.partial = collector.turn()
        raise


def collect(events: Iterable[ResponseEvent]) -> Turn:
    """The whole turn out of any events. Raises as `aggregate` does."""
    collector = Collector()
    for event in aggregate(events):
        collector.add(event)
    return collector.turn()
