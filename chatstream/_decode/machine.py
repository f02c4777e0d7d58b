"""Chunks → events: the state machine of one answer.

Each choice goes its own way, all of them share one end:

    waiting ──content──▶ open ──finish_reason──▶ finished
                          │ ▲                        │
                          └─┘ text, reasoning,       └─ all choices asked for, or [DONE] ─▶ Completed
                              refusal, calls

Rules:
- Pure: no I/O, no clock, no logging. A list of chunks is a full test.
- A finish reason ends a choice, not the reading: usage and [DONE] may follow it.
- The end of the chunks is not success: without [DONE], every choice asked for must have finished.
- A call is done when its arguments are whole and something else begins; at the latest at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from secrets import token_hex
from typing import Any

from ..errors import ChatStreamError, ProviderError, StreamTruncated
from ..types.events import (
    ChoiceEnd,
    Completed,
    Created,
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
from .chunk import CallDelta, ChoiceDelta, Chunk
from .fields import join_extra, total
from .tool_calls import CallTable, OpenCall

CUT = ("length", "content_filter")  # after these an answer is not whole


def make_call_id() -> str:
    """An id for a call that the server gave none: ``call_`` and 24 hex digits."""
    return f"call_{token_hex(12)}"


class _Choice:
    """One choice of the answer."""

    __slots__ = ("calls", "cut", "extra", "finish", "finish_reason", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.finish: Finish | None = None
        self.calls = CallTable()
        self.cut = False  # a call of it is not whole
        self.extra: dict[str, Any] = {}

    def end(self, trusted: bool, extra: dict[str, Any]) -> ChoiceEnd:
        """How it ended, or stands. ``trusted`` says that no finish reason is needed."""
        status: Status = "completed" if self.finish_reason or trusted else "unconfirmed"
        if self.cut or self.finish in CUT:
            status = "incomplete"
        return ChoiceEnd(self.index, self.finish_reason, self.finish, status, {**extra, **self.extra})


class Machine:
    """Reads the chunks of one answer of ``choices`` choices.

    ``finished`` says whether every choice asked for, and every other one that began, has its finish reason; `so_far`
    what is known of the answer.
    """

    __slots__ = (
        "_asked",
        "_choices",
        "_done",
        "_eof_completes",
        "_extra",
        "_late_usages",
        "_model",
        "_new_call_id",
        "_open",
        "_response_id",
        "_usage",
        "finished",
    )

    def __init__(self, choices: int = 1, eof_completes: bool = False, new_call_id: Callable[[], str] = make_call_id):
        self.finished = False
        self._asked = choices
        self._eof_completes = eof_completes
        self._new_call_id = new_call_id
        self._choices: dict[int, _Choice] = {}
        self._open = False  # something was handed over
        self._done = False
        self._extra: dict[str, Any] = {}
        self._response_id: str | None = None
        self._model: str | None = None
        self._usage: TokenUsage | None = None
        self._late_usages: list[TokenUsage] = []

    def run(self, chunks: Iterable[Chunk]) -> Iterator[ResponseEvent]:
        """The events of the answer, ``Completed`` last. Raises `StreamTruncated` and `ProviderError`, and what the
        chunks raise."""
        try:
            for chunk in chunks:
                if chunk.plain and self._only_goes_on(chunk):
                    delta = chunk.choices[0]
                    yield OutputTextDelta(delta.text, delta.choice)
                    continue
                yield from self._read(chunk)
                if chunk.error is not None:
                    raise ProviderError(*chunk.error[:4])
                if chunk.done:
                    self._done = True
                    break
            if missing := self._missing():
                raise StreamTruncated(self._truncation(missing))
        except ChatStreamError:
            yield from self._opened([event for choice in self._in_order() for event in self._announce_all(choice)])
            raise
        last = [event for choice in self._in_order() for event in self._close_calls(choice, at_end=True)]
        yield from self._opened([*last, self.so_far()])

    def so_far(self) -> Completed:
        """What is known of the answer, in the form of its last event."""
        ends = tuple(choice.end(self._eof_completes, self._extra) for choice in self._in_order())
        first = ends[0].finish_reason if ends else None
        return Completed(self._response_id, self._model, self._total_usage(), first, _status(ends), ends)

    # ── reading ──

    def _only_goes_on(self, chunk: Chunk) -> bool:
        """Whether a plain chunk brings nothing new but its text: not the first event, nor a choice, an id, a model."""
        return (
            self._open
            and chunk.choices[0].choice in self._choices
            and (self._response_id is not None or chunk.response_id is None)
            and (self._model is not None or chunk.model is None)
        )

    def _opened(self, events: list[ResponseEvent]) -> list[ResponseEvent]:
        """The events, behind `Created` if they are the first of the answer."""
        if events and not self._open:
            self._open = True
            events.insert(0, Created(self._response_id, self._model))
        return events

    def _read(self, chunk: Chunk) -> list[ResponseEvent]:
        if chunk.heartbeat:
            return [Heartbeat()]
        self._response_id = self._response_id or chunk.response_id
        self._model = self._model or chunk.model
        if chunk.usage is not None:
            self._usage = chunk.usage
            if not chunk.choices:
                self._late_usages.append(chunk.usage)
        if chunk.extra:
            self._extra.update(chunk.extra)
        events: list[ResponseEvent] = []
        for delta in chunk.choices:
            self._read_choice(delta, events)
        return self._opened(events)

    def _read_choice(self, delta: ChoiceDelta, events: list[ResponseEvent]) -> None:
        index = delta.choice
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
            self.finished = False
        if delta.reasoning:
            events.append(ReasoningDelta(delta.reasoning, index))
        if delta.text:
            events.append(OutputTextDelta(delta.text, index))
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal, index))
        for fragment in delta.calls:
            self._read_call(choice, fragment, events)
        if delta.extra:
            join_extra(choice.extra, delta.extra)
        if delta.finish_reason:
            choice.finish_reason, choice.finish = delta.finish_reason, delta.finish
            events.extend(self._close_calls(choice))
            self.finished = not self._unfinished()

    def _read_call(self, choice: _Choice, fragment: CallDelta, events: list[ResponseEvent]) -> None:
        started = len(choice.calls.calls)
        call = choice.calls.call_of(fragment)
        if len(choice.calls.calls) > started:
            events.extend(self._announce_all(choice, but=call))  # the ids of those before will not come any more
            events.extend(self._close_calls(choice, but=call))
        if call.done:
            return  # a server repeats itself, or pads a whole call with blanks
        call.add(fragment.arguments)
        if call.call_id or call.fragments > 1:  # an id that is not there may still come with the next fragment
            events.extend(self._announce(choice, call))

    def _announce(self, choice: _Choice, call: OpenCall) -> list[ResponseEvent]:
        """What the caller does not have of a call: at first its name, then arguments."""
        delta = call.news()
        if delta is None:
            return []
        call.call_id = call.call_id or self._new_call_id()
        return [FunctionCallDelta(delta, call.call_id, call.name, choice.index)]

    def _announce_all(self, choice: _Choice, but: OpenCall | None = None) -> Iterator[ResponseEvent]:
        for call in choice.calls.calls:
            if call is not but:
                yield from self._announce(choice, call)

    def _close_calls(
        self, choice: _Choice, but: OpenCall | None = None, at_end: bool = False
    ) -> Iterator[ResponseEvent]:
        """Hand over calls in the order they began, up to the first that is not whole yet; at the end all of them."""
        for call in choice.calls.calls:
            if call is but or not (at_end or call.done or call.whole):
                return
            if not call.done:
                yield from self._announce(choice, call)
                call.done = True
                item = call.item(cut=choice.finish in CUT)
                choice.cut = choice.cut or item.status != "completed"
                yield OutputItemDone(item, choice.index)

    # ── ending ──

    def _in_order(self) -> list[_Choice]:
        return [self._choices[index] for index in sorted(self._choices)]

    def _unfinished(self) -> list[int]:
        """The choices that began or were asked for, and have no finish reason yet."""
        absent = [i for i in range(self._asked) if i not in self._choices] if len(self._choices) < self._asked else []
        return sorted(absent + [choice.index for choice in self._choices.values() if not choice.finish_reason])

    def _missing(self) -> list[int]:
        """The choices whose end was not seen, unless the server, or the provider's settings, say that it is over."""
        return [] if self._done or (self._eof_completes and self._choices) else self._unfinished()

    def _truncation(self, missing: list[int]) -> str:
        if not self._choices:
            return "the answer ended before its first choice"
        if len(missing) == 1 and self._asked == 1 and len(self._choices) == 1:
            return "the answer ended without a finish reason"
        return f"the answer ended without a finish reason for choice {', '.join(map(str, missing))}"

    def _total_usage(self) -> TokenUsage | None:
        """The last usage; llama.cpp sends one per choice, behind the choices: then their sum."""
        if len(self._choices) < 2 or len(self._late_usages) != len(self._choices):
            return self._usage
        return total(self._late_usages)


def _status(ends: tuple[ChoiceEnd, ...]) -> Status:
    """Of the whole answer: cut if one choice is, and as good as the best of them otherwise."""
    statuses = {end.status for end in ends}
    if "incomplete" in statuses:
        return "incomplete"
    return "completed" if "completed" in statuses else "unconfirmed"
