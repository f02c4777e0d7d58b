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

from .errors import ChatStreamError, ProviderError, StreamTruncated
from .events import (
    CUT,
    CallDelta,
    ChoiceDelta,
    Chunk,
    Completed,
    Created,
    ErrorDetail,
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
from .items import FunctionCall, arguments_are_whole


def make_call_id() -> str:
    """An id for a call that the server gave none: ``call_`` and 24 hex digits."""
    return f"call_{token_hex(12)}"


class _Call:
    """A tool call as its fragments come in."""

    __slots__ = ("announced", "call_id", "done", "fragments", "name", "parts")

    def __init__(self) -> None:
        self.call_id = ""
        self.name = ""
        self.fragments = 0
        self.parts: list[str] = []
        self.announced = -1  # how many of the parts the caller has been given
        self.done = False

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    @property
    def whole(self) -> bool:
        """Whether the arguments are a whole JSON object already; its last character tells cheaply when not."""
        return bool(self.parts) and self.parts[-1].rstrip().endswith("}") and arguments_are_whole(self.arguments)


class _Choice:
    """One choice: its calls in the order they began, and the keys under which fragments find them."""

    __slots__ = ("by_id", "by_slot", "calls", "finish_reason", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.calls: list[_Call] = []
        self.by_id: dict[str, _Call] = {}
        self.by_slot: dict[int, _Call] = {}

    def call_of(self, fragment: CallDelta) -> _Call:
        """The call that a fragment belongs to, by id before index before order; a new one if there is none."""
        call = self._known(fragment)
        if call is None:
            call = _Call()
            self.calls.append(call)
        if fragment.call_id:
            self.by_id[fragment.call_id] = call
            call.call_id = call.call_id or fragment.call_id
        if fragment.slot is not None:
            self.by_slot[fragment.slot] = call
        call.name = call.name or fragment.name or ""
        return call

    def _known(self, fragment: CallDelta) -> _Call | None:
        if fragment.call_id:
            # Copilot, Cerebras: a new id is a new call even under an old index, unless that call still lacks its id
            here = self.by_slot.get(fragment.slot) if fragment.slot is not None else None
            return self.by_id.get(fragment.call_id) or (here if here and not here.call_id else None)
        if fragment.slot is not None:
            call = self.by_slot.get(fragment.slot)
            # a whole call, and then a named one under the same index: another call
            return None if call and fragment.name and fragment.arguments and call.whole else call
        last = self.calls[-1] if self.calls else None
        if last and fragment.name and (last.whole or last.name != fragment.name):
            return None  # Mistral, Gemini: whole calls, one after the other, with neither index nor id
        return last


class Machine:
    """Reads the chunks of one answer of ``choices`` choices.

    ``finished`` says whether every choice asked for, and every other one that began, has its finish reason; `so_far`
    what is known of the answer.
    """

    def __init__(self, choices: int = 1, eof_completes: bool = False, new_call_id: Callable[[], str] = make_call_id):
        self.finished = False
        self._asked = choices
        self._eof_completes = eof_completes
        self._new_call_id = new_call_id
        self._choices: dict[int, _Choice] = {}
        self._created = False
        self._done = False
        self._calls_cut = False
        self._response_id: str | None = None
        self._model: str | None = None
        self._usage: TokenUsage | None = None
        self._late_usages: list[TokenUsage] = []

    def run(self, chunks: Iterable[Chunk]) -> Iterator[ResponseEvent]:
        """The events of the answer, ``Completed`` last. Raises `StreamTruncated` and `ProviderError`, and what the
        chunks raise."""
        try:
            yield from self._read_all(chunks)
        except ChatStreamError:
            for choice in self._in_order():
                yield from self._held_back(choice)
            raise
        for choice in self._in_order():
            yield from self._close_calls(choice, at_end=True)
        if not self._created:
            yield Created(self._response_id, self._model)
        yield self.so_far()

    def _read_all(self, chunks: Iterable[Chunk]) -> Iterator[ResponseEvent]:
        known = self._choices
        for chunk in chunks:
            if chunk.plain and self._created and chunk.choices[0].choice in known:
                index, text, *_ = chunk.choices[0]
                yield OutputTextDelta(text, index)
                continue
            if chunk.done:
                self._done = True
                break
            for event in self._read(chunk):
                if not self._created and event.__class__ is not Heartbeat:
                    self._created = True
                    yield Created(self._response_id, self._model)
                yield event
            if chunk.error is not None:
                raise _provider_error(chunk.error)
        if missing := self._missing():
            raise StreamTruncated(self._truncation(missing))

    def so_far(self) -> Completed:
        """What is known of the answer, in the form of its last event."""
        choices = self._in_order()
        return Completed(
            self._response_id,
            self._model,
            self._total_usage(),
            choices[0].finish_reason if choices else None,
            self._status(),
            tuple((choice.index, choice.finish_reason) for choice in choices),
        )

    # ── reading ──

    def _read(self, chunk: Chunk) -> list[ResponseEvent]:
        if chunk.heartbeat:
            return [Heartbeat()]
        self._response_id = self._response_id or chunk.response_id
        self._model = self._model or chunk.model
        if chunk.usage is not None:
            self._usage = chunk.usage
            if not chunk.choices:
                self._late_usages.append(chunk.usage)
        events: list[ResponseEvent] = []
        for delta in chunk.choices:
            self._read_choice(delta, events)
        return events

    def _read_choice(self, delta: ChoiceDelta, events: list[ResponseEvent]) -> None:
        index = delta.choice
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        if delta.reasoning:
            events.append(ReasoningDelta(delta.reasoning, index))
        if delta.text:
            events.append(OutputTextDelta(delta.text, index))
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal, index))
        for fragment in delta.calls:
            events.extend(self._read_call(choice, fragment))
        if delta.finish_reason:
            choice.finish_reason = delta.finish_reason
            events.extend(self._close_calls(choice))
        self.finished = not self._unfinished()

    def _read_call(self, choice: _Choice, fragment: CallDelta) -> Iterator[ResponseEvent]:
        started = len(choice.calls)
        call = choice.call_of(fragment)
        if len(choice.calls) > started:
            yield from self._close_calls(choice, but=call)
        if call.done:
            return  # a server repeats itself, or pads a whole call with blanks
        call.fragments += 1
        if fragment.arguments:
            call.parts.append(fragment.arguments)
        if call.call_id or call.fragments > 1:  # an id that is not there may still come with the next fragment
            yield from self._announce(choice, call)

    def _announce(self, choice: _Choice, call: _Call) -> Iterator[ResponseEvent]:
        """Give the caller what it does not have of a call: at first its name, then arguments."""
        if call.announced < len(call.parts):
            call.call_id = call.call_id or self._new_call_id()
            delta = "".join(call.parts[max(call.announced, 0) :])
            call.announced = len(call.parts)
            yield FunctionCallDelta(delta, call.call_id, call.name, choice.index)

    def _held_back(self, choice: _Choice) -> Iterator[ResponseEvent]:
        for call in choice.calls:
            yield from self._announce(choice, call)

    def _close_calls(self, choice: _Choice, but: _Call | None = None, at_end: bool = False) -> Iterator[ResponseEvent]:
        """Hand over the calls whose arguments are whole, and at the end all others too."""
        for call in choice.calls:
            if not call.done and call is not but and (at_end or call.whole):
                yield from self._announce(choice, call)
                call.done = True
                yield OutputItemDone(self._item(choice, call), choice.index)

    def _item(self, choice: _Choice, call: _Call) -> FunctionCall:
        arguments = call.arguments
        whole = arguments_are_whole(arguments) and (arguments != "" or choice.finish_reason not in CUT)
        self._calls_cut = self._calls_cut or not whole
        return FunctionCall(call.name, arguments, call.call_id, "completed" if whole else "incomplete")

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

    def _status(self) -> Status:
        reasons = [choice.finish_reason for choice in self._choices.values()]
        if self._calls_cut or any(reason in CUT for reason in reasons):
            return "incomplete"
        return "completed" if any(reasons) or self._eof_completes else "unconfirmed"

    def _total_usage(self) -> TokenUsage | None:
        """The last usage; llama.cpp sends one per choice, behind the choices: then their sum."""
        if len(self._choices) < 2 or len(self._late_usages) != len(self._choices):
            return self._usage
        return TokenUsage(*(_sum(counts) for counts in zip(*map(_counts, self._late_usages), strict=True)))


def _counts(usage: TokenUsage) -> tuple[int | None, ...]:
    return (
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_output_tokens,
        usage.total_tokens,
    )


def _sum(counts: tuple[int | None, ...]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _provider_error(detail: ErrorDetail) -> ProviderError:
    error = ProviderError(detail.message, detail.code, detail.type)
    error.retryable = detail.passing
    return error
