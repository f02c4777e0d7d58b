"""One choice of an answer: its deltas → events, and the state it is in.

Rules:
- A finish reason ends a choice; what follows it still belongs to the answer.
- A call is announced when its id is known, or can't come any more.
- Calls are handed over in the order in which they began, each as soon as it is whole and something else begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from ..types.events import (
    ChoiceEnd,
    FinishKind,
    FunctionCallDelta,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
    Status,
)
from .chunk import CallDelta, ChoiceDelta
from .fields import join_extra
from .tool_calls import CallTable, OpenCall

State = Literal["waiting", "open", "finished"]
Input = Literal["delta", "finish_reason"]
WAITING: Final = "waiting"  # asked for, and nothing of it has arrived
OPEN: Final = "open"
FINISHED: Final = "finished"
TRANSITIONS: dict[tuple[State, Input], State] = {
    (WAITING, "delta"): OPEN,
    (WAITING, "finish_reason"): FINISHED,
    (OPEN, "delta"): OPEN,
    (OPEN, "finish_reason"): FINISHED,
    (FINISHED, "delta"): FINISHED,  # Azure, OpenRouter: usage, annotations or text after the finish reason
    (FINISHED, "finish_reason"): FINISHED,  # OpenRouter: repeats it with the usage
}
CUT = ("length", "content_filter")  # after these an answer is not whole


class Choice:
    """One choice; ``new_call_id`` makes ids for calls that the server gave none."""

    __slots__ = ("_calls", "_cut", "_extra", "_finish_kind", "_finish_reason", "_new_call_id", "index", "state")

    def __init__(self, index: int, new_call_id: Callable[[], str]) -> None:
        self.index = index
        self.state: State = WAITING
        self._new_call_id = new_call_id
        self._finish_reason: str | None = None
        self._finish_kind: FinishKind | None = None
        self._calls = CallTable()
        self._cut = False  # one of its calls is not whole
        self._extra: dict[str, Any] = {}

    def read(self, delta: ChoiceDelta, events: list[ResponseEvent]) -> None:
        """Append the events of one delta to ``events``."""
        index = self.index
        if delta.reasoning:
            events.append(ReasoningDelta(delta.reasoning, index))
        if delta.text:
            events.append(OutputTextDelta(delta.text, index))
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal, index))
        for fragment in delta.calls:
            self._read_call(fragment, events)
        if delta.extra:
            join_extra(self._extra, delta.extra)
        if delta.finish_reason:
            self._finish_reason, self._finish_kind = delta.finish_reason, delta.finish_kind
            self.state = TRANSITIONS[self.state, "finish_reason"]
            events.extend(self._close_calls())
        elif self.state is WAITING:
            self.state = TRANSITIONS[self.state, "delta"]

    def close(self) -> Iterator[ResponseEvent]:
        """All calls that were not handed over yet, at the end of the answer."""
        return self._close_calls(at_end=True)

    def announce(self, but: OpenCall | None = None) -> Iterator[ResponseEvent]:
        """What the caller does not have yet of the calls: first a name, then arguments."""
        for call in self._calls.calls:
            if call is not but:
                yield from self._announce(call)

    def ending(self, needs_reason: bool, extra: dict[str, Any]) -> ChoiceEnd:
        """How the choice ended, or stands. ``extra`` is what the server sent for all choices."""
        status: Status = "completed" if self._finish_reason or not needs_reason else "unconfirmed"
        if self._cut or self._finish_kind in CUT:
            status = "incomplete"
        return ChoiceEnd(self.index, self._finish_reason, self._finish_kind, status, {**extra, **self._extra})

    def _read_call(self, fragment: CallDelta, events: list[ResponseEvent]) -> None:
        begun = len(self._calls.calls)
        call = self._calls.call_of(fragment)
        if len(self._calls.calls) > begun:
            events.extend(self.announce(but=call))  # no id follows for the calls before it
            events.extend(self._close_calls(but=call))
        if call.done:
            return  # a server repeats itself, or pads a whole call with blanks
        call.add(fragment.arguments)
        if call.call_id or call.fragments > 1:  # an id that is missing may still come with the next fragment
            events.extend(self._announce(call))

    def _announce(self, call: OpenCall) -> list[ResponseEvent]:
        unsent = call.take_unsent()
        if unsent is None:
            return []
        call.call_id = call.call_id or self._new_call_id()
        return [FunctionCallDelta(unsent, call.call_id, call.name, self.index)]

    def _close_calls(self, but: OpenCall | None = None, at_end: bool = False) -> Iterator[ResponseEvent]:
        """Hand over calls in the order in which they began, up to the first that is not whole; at the end all."""
        for call in self._calls.calls:
            if call is but or not (at_end or call.done or call.whole):
                return
            if not call.done:
                yield from self._announce(call)
                call.done = True
                item = call.item(cut=self._finish_kind in CUT)
                self._cut = self._cut or item.status != "completed"
                yield OutputItemDone(item, self.index)
