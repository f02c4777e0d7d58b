"""Events → whole items: `aggregate`, `collect`, and the `Turn` that they fill.

Rules:
- Silent while the model writes; then whole items in the order of a conversation: reasoning, message, calls.
- The events themselves are not changed, and whole messages among them are merged: doing it twice changes nothing.
- Every fragment is kept once and joined once: memory and time are linear in the text.
- If the events break off, what was collected is the exception's ``partial``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any, Union, get_args

from ..errors import ChatStreamError, ConfigError, StreamTruncated
from ..types.events import (
    ChoiceEnd,
    Completed,
    ContentPartDone,
    FunctionCallDelta,
    Heartbeat,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
)
from ..types.items import CustomToolCall, FunctionCall, Message, Reasoning, ResponseItem
from ..types.parts import ContentPart, OutputText, Refusal
from ..types.turn import Timing, Turn

WANTED = "collect and aggregate need events, such as those of read_events(…) or a ResponseStream"
EVENTS = get_args(ResponseEvent)
ToolCall = Union[FunctionCall, CustomToolCall]


class _ChoicePieces:
    """The pieces of one choice. Calls keep the order in which they were handed over, and replace their pieces."""

    __slots__ = ("calls", "content", "details", "open_calls", "reasoning", "refusal")

    def __init__(self) -> None:
        self.content: list[str | ContentPart] = []  # text and other parts, in order
        self.reasoning: list[str] = []
        self.details: list[dict[str, Any]] = []
        self.refusal: list[str] = []
        self.calls: dict[str, ToolCall] = {}
        self.open_calls: dict[str, list[FunctionCallDelta]] = {}

    def items(self) -> tuple[ResponseItem, ...]:
        """The items so far. Another thread may be adding: each list and dict is copied in one step. The open calls come
        first, because `add_item` removes a call from them last."""
        open_calls = self.open_calls.copy()
        calls = self.calls.copy()
        items: list[ResponseItem] = []
        reasoning, details = "".join(self.reasoning), tuple(self.details)
        if reasoning or details:
            items.append(Reasoning(reasoning, details=details))
        parts: list[ContentPart] = []
        for is_text, group in groupby(self.content.copy(), lambda piece: isinstance(piece, str)):
            if not is_text:
                parts += group  # type: ignore[arg-type]  # no str is among them
            elif text := "".join(group):  # type: ignore[arg-type]  # nothing but str
                parts.append(OutputText(text))
        if refusal := "".join(self.refusal):
            parts.append(Refusal(refusal))
        if parts:
            items.append(Message("assistant", parts))
        return (*items, *calls.values(), *(_open_call(open_calls[id]) for id in open_calls if id not in calls))

    def add_item(self, item: ResponseItem) -> None:
        match item:
            case Message():
                for part in item.content:
                    if isinstance(part, Refusal):
                        self.refusal.append(part.refusal)
                    else:
                        self.content.append(part.text if isinstance(part, OutputText) else part)
            case Reasoning():
                self.reasoning.append(item.text)
                self.details += item.details
            case FunctionCall() | CustomToolCall():
                self.calls[item.call_id] = item
                self.open_calls.pop(item.call_id, None)
            case _:
                pass  # no stream makes others

    def add_call(self, event: FunctionCallDelta) -> None:
        if event.call_id not in self.calls:
            pieces = self.open_calls.get(event.call_id)
            if pieces is None:
                self.open_calls[event.call_id] = [event]  # never empty, for another thread that looks
            else:
                pieces.append(event)


def _open_call(pieces: list[FunctionCallDelta]) -> ToolCall:
    """A call that never was whole is ``incomplete``, whatever its arguments look like by then."""
    last = pieces[-1]
    arguments = "".join([event.delta for event in pieces])
    return (CustomToolCall if last.custom else FunctionCall)(last.name, arguments, last.call_id, "incomplete")


class Collector:
    """Collects events; `turn` shows what was collected, at any time and in any thread."""

    __slots__ = ("_choices", "_first_content", "completed")

    def __init__(self) -> None:
        self._choices: dict[int, _ChoicePieces] = {0: _ChoicePieces()}
        self._first_content = self._choices[0].content
        self.completed: Completed | None = None

    def add(self, event: ResponseEvent) -> None:
        """Take one event."""
        match event:
            case OutputTextDelta():
                self._choice(event.choice).content.append(event.delta)
            case ReasoningDelta():
                choice = self._choice(event.choice)
                choice.reasoning.append(event.delta)
                if event.details:
                    choice.details += event.details
            case RefusalDelta():
                self._choice(event.choice).refusal.append(event.delta)
            case FunctionCallDelta():
                self._choice(event.choice).add_call(event)
            case OutputItemDone():
                self._choice(event.choice).add_item(event.item)
            case ContentPartDone():
                self._choice(event.choice).content.append(event.part)
            case Completed():
                self.completed = event
            case _:
                pass  # Created and Heartbeat add nothing

    def tee(self, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """The same events, each recorded before it is handed over."""
        return map(self._record, events)

    def _record(self, event: ResponseEvent) -> ResponseEvent:
        if event.__class__ is OutputTextDelta and not event.choice:  # nearly all of them
            self._first_content.append(event.delta)
        else:
            self.add(event)
        return event

    def whole_items(self, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """Take all events (heartbeats pass through), then yield whole items in order, and ``Completed``.

        Raises `StreamTruncated` if they end without it, and `ConfigError` if they are no events.
        """
        event: Any = None
        for event in events:
            self.add(event)
            if event.__class__ is Heartbeat:
                yield event
        if not (event is None or isinstance(event, EVENTS)):
            raise ConfigError(f"{WANTED}, not values of the type {type(event).__name__}")
        if self.completed is None:
            raise StreamTruncated("the events ended without a Completed event")
        for index in self._indexes(()):
            for item in self._choice(index).items():
                yield OutputItemDone(item, index)
        yield self.completed

    def _choice(self, index: int) -> _ChoicePieces:
        if index not in self._choices:
            self._choices[index] = _ChoicePieces()
        return self._choices[index]

    def turn(
        self, snapshot: Completed | None = None, timing: Timing | None = None, provider: str | None = None
    ) -> Turn:
        """The turn as collected. ``snapshot`` is what is known of an answer that has not completed."""
        completed = self.completed  # read once, and before the items, because another thread may be adding
        end = completed or snapshot or Completed()
        ends = {choice.index: choice for choice in end.choices}
        views = tuple(
            replace(self._view(index, ends.get(index), end, completed is not None), timing=timing, provider=provider)
            for index in self._indexes(ends)
        )
        return views[0] if len(views) == 1 else replace(views[0], _choices=views)

    def _view(self, index: int, how: ChoiceEnd | None, end: Completed, is_whole: bool) -> Turn:
        how = how or ChoiceEnd(index, end.finish_reason, None, end.status)
        pieces = self._choices.get(index) or _ChoicePieces()
        return Turn(
            pieces.items(),
            how.finish_reason,
            end.token_usage,
            end.response_id,
            end.model,
            how.status if is_whole else "incomplete",
            finish_kind=how.finish_kind,
            extra=how.extra,
        )

    def _indexes(self, ends: Iterable[int]) -> list[int]:
        return sorted({*ends, *(index for index, choice in self._choices.copy().items() if choice.items())}) or [0]


def aggregate(events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
    """Yield the complete items and ``Completed`` of any events; for text ``OutputItemDone(Message)``, ``Completed``.

    Heartbeats pass through. Raises the errors of ``events``, and `StreamTruncated` if they end without ``Completed``;
    ``partial`` of the error is the part received.
    """
    collector = Collector()
    try:
        yield from collector.whole_items(events)
    except ChatStreamError as error:
        if error.partial is None:
            error.partial = collector.turn()
        raise


def collect(events: Iterable[ResponseEvent]) -> Turn:
    """The complete turn of any events. Raises as `aggregate` does."""
    collector = Collector()
    for event in aggregate(events):
        collector.add(event)
    return collector.turn()
