"""One choice of an answer: its deltas → events, and the state it is in.

Rules:
- A finish reason ends a choice; what follows it still belongs to the answer.
- A call is announced when its name is known and its id is, or can't come any more.
- Calls are handed over in the order in which they began, each as soon as it is whole and something else begins. One
  without arguments waits for the end of the answer, because they may still come.
- Half of a surrogate pair waits for its other half in the next piece of the same text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, Union

from ..types.events import (
    ChoiceEnd,
    ContentPartDone,
    FinishKind,
    FunctionCallDelta,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
    Status,
)
from ..types.text import HIGH_SURROGATE, has_surrogates, without_surrogates
from .chunk import CallDelta, ChoiceDelta
from .fields import join_extra, joined
from .tool_calls import CallTable, OpenCall

State = Literal["waiting", "open", "finished"]
Input = Literal["delta", "finish_reason"]
TextDelta = Union[type[OutputTextDelta], type[ReasoningDelta], type[RefusalDelta]]
WAITING: Final = "waiting"  # requested, but nothing of it has arrived
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
CUT = ("length", "content_filter", "error")  # after these an answer is not whole


class Choice:
    """One choice; ``new_call_id`` makes ids for calls that the server gave none."""

    __slots__ = (
        "_calls",
        "_closed",
        "_cut",
        "_extra",
        "_finish_kind",
        "_finish_reason",
        "_new_call_id",
        "halves",
        "index",
        "state",
    )

    def __init__(self, index: int, new_call_id: Callable[[], str]) -> None:
        self.index = index
        self.state: State = WAITING
        self.halves: dict[TextDelta, str] | None = None  # high surrogates that wait, by the text they end
        self._new_call_id = new_call_id
        self._finish_reason: str | None = None
        self._finish_kind: FinishKind | None = None
        self._calls: CallTable | None = None
        self._closed = 0  # how many calls were handed over
        self._cut = False  # one of its calls is not whole
        self._extra: dict[str, Any] | None = None

    def read(self, delta: ChoiceDelta, events: list[ResponseEvent]) -> None:
        """Append the events of one delta to ``events``."""
        _, text, reasoning, refusal, calls, finish_reason, finish_kind, extra, parts, details = delta
        if reasoning or details:
            if self.halves is not None or not reasoning.isascii():
                reasoning = self._whole_text(ReasoningDelta, reasoning)
            if reasoning or details:
                events.append(ReasoningDelta(reasoning, self.index, details))
        if text:
            self._add_text(OutputTextDelta, text, events)
        for part in parts:
            if isinstance(part, str):
                self._add_text(OutputTextDelta, part, events)
            else:
                events.append(ContentPartDone(part, self.index))
        if refusal:
            self._add_text(RefusalDelta, refusal, events)
        for fragment in calls:
            self._read_call(fragment, events)
        if extra:
            self._extra = self._extra or {}
            join_extra(self._extra, extra)
        if finish_reason:
            self._finish_kind = finish_kind  # before the reason, for another thread that looks
            self._finish_reason = finish_reason
            self.state = TRANSITIONS[self.state, "finish_reason"]
            events.extend(self._close_calls())
        elif self.state is WAITING:
            self.state = TRANSITIONS[self.state, "delta"]

    def close(self) -> list[ResponseEvent]:
        """What was held back, and all calls that were not handed over yet, at the end of the answer."""
        return [*self._release_halves(), *self._close_calls(at_end=True)]

    def abort(self) -> list[ResponseEvent]:
        """What was held back of an answer that broke off."""
        events = self._release_halves()
        for call in self._calls.calls[self._closed :] if self._calls else ():
            self._announce(call, events, final=True)
        return events

    def ending(self, needs_reason: bool, extra: dict[str, Any]) -> ChoiceEnd:
        """How the choice ended, or stands. ``extra`` is what the server sent for all choices."""
        reason = self._finish_reason
        kind = self._finish_kind if reason else None
        status: Status = "completed" if reason or not needs_reason else "unconfirmed"
        if self._cut or kind in CUT:
            status = "incomplete"
        elif kind == "other":
            status = "unconfirmed"
        own = {**extra, **joined(self._extra or {})}
        return ChoiceEnd(self.index, reason, kind, status, own)

    # ── texts ──

    def _add_text(self, kind: TextDelta, text: str, events: list[ResponseEvent]) -> None:
        if text := self._whole_text(kind, text):
            events.append(kind(text, self.index))

    def _whole_text(self, kind: TextDelta, text: str) -> str:
        """The text without half characters; one at its end waits for the next piece."""
        if self.halves is None and not has_surrogates(text):
            return text
        self.halves = self.halves or {}
        text = self.halves.pop(kind, "") + text
        if HIGH_SURROGATE.search(text):
            text, self.halves[kind] = text[:-1], text[-1]
        self.halves = self.halves or None
        return without_surrogates(text)

    def _release_halves(self) -> list[ResponseEvent]:
        halves, self.halves = self.halves or {}, None
        return [kind(without_surrogates(half), self.index) for kind, half in halves.items()]

    # ── calls ──

    def _read_call(self, fragment: CallDelta, events: list[ResponseEvent]) -> None:
        table = self._calls = self._calls or CallTable(self._new_call_id)
        begun = len(table.calls)
        call = table.call_of(fragment)
        if len(table.calls) > begun > 0:
            self._announce(table.calls[begun - 1], events)  # no id follows for it
            events.extend(self._close_calls())
        call.add(fragment)
        if call.call_id or call.fragments > 1:  # an id that is missing may still come with the next fragment
            self._announce(call, events)

    def _announce(self, call: OpenCall, events: list[ResponseEvent], final: bool = False) -> None:
        """What the caller does not have of a call; its name has to be known, unless this is the end."""
        if not (call.name or final):
            return
        unsent = call.take_unsent(final)
        if unsent is not None:
            call.call_id = call.call_id or self._new_call_id()
            events.append(FunctionCallDelta(unsent, call.call_id, call.name, self.index, call.custom))

    def _close_calls(self, at_end: bool = False) -> list[ResponseEvent]:
        """Hand over calls in the order in which they began, up to the first that is not whole; at the end all."""
        events: list[ResponseEvent] = []
        calls = self._calls.calls if self._calls else []
        while self._closed < len(calls):
            call = calls[self._closed]
            if not at_end and (not call.whole or call.empty or not call.name):
                break
            self._announce(call, events, final=True)
            call.done = True
            self._closed += 1
            item = call.item(cut=self._finish_kind in CUT)
            self._cut = self._cut or item.status != "completed"
            events.append(OutputItemDone(item, self.index))
        return events
