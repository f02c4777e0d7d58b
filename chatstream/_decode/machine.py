"""Chunks → events: the state machine of one answer.

Each choice goes through the states of `choice`; all of them share one beginning, one end and one usage.

Rules:
- Pure: no I/O, no clock, no logging. A list of chunks is a full test.
- A finish reason ends a choice, not the reading: usage and ``[DONE]`` may follow it.
- The end of the chunks is not success: without ``[DONE]``, every choice asked for must have finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from secrets import token_hex
from typing import Any

from ..errors import ProviderError, StreamTruncated
from ..types.events import Completed, Created, OutputTextDelta, ResponseEvent, Status, TokenUsage
from .choice import FINISHED, Choice
from .chunk import Chunk
from .fields import total


def make_call_id() -> str:
    """An id for a call that the server gave none: ``call_`` and 24 hex digits."""
    return f"call_{token_hex(12)}"


class Machine:
    """Reads the chunks of one answer of ``choices`` choices.

    ``finished`` says whether every choice asked for, and every other one that began, has its finish reason; ``done``
    whether the server said that the answer is over.
    """

    __slots__ = (
        "_asked",
        "_choices",
        "_created",
        "_eof_completes",
        "_extra",
        "_late_usages",
        "_model",
        "_new_call_id",
        "_response_id",
        "_usage",
        "done",
        "finished",
    )

    def __init__(self, choices: int = 1, eof_completes: bool = False, new_call_id: Callable[[], str] = make_call_id):
        self.finished = False
        self.done = False
        self._asked = choices
        self._eof_completes = eof_completes
        self._new_call_id = new_call_id
        self._choices: dict[int, Choice] = {}
        self._created = False  # the caller has got an event
        self._extra: dict[str, Any] = {}
        self._response_id: str | None = None
        self._model: str | None = None
        self._usage: TokenUsage | None = None
        self._late_usages: list[TokenUsage] = []

    def read(self, chunks: Iterable[Chunk]) -> Iterator[ResponseEvent]:
        """The events of ``chunks``, up to the one that ends the answer. Raises `ProviderError`, and what they raise."""
        for chunk in chunks:
            if chunk.text_only and self._only_adds_text(chunk):
                delta = chunk.choices[0]
                yield OutputTextDelta(delta.text, delta.choice)
                continue
            yield from self._read(chunk)
            if chunk.error is not None:
                raise ProviderError(*chunk.error[:4])
            if chunk.done:
                self.done = True
                return

    def close(self) -> Iterator[ResponseEvent]:
        """The last events, `Completed` at the end. Raises `StreamTruncated` if the answer is not over."""
        unfinished = [] if self.done or (self._eof_completes and self._choices) else self._unfinished()
        if unfinished:
            raise StreamTruncated(self._truncation(unfinished))
        last = [event for choice in self._in_order() for event in choice.close()]
        yield from self._after_created([*last, self.snapshot()])

    def abort(self) -> Iterator[ResponseEvent]:
        """What the caller does not have yet of an answer that broke off."""
        yield from self._after_created([event for choice in self._in_order() for event in choice.announce()])

    def snapshot(self) -> Completed:
        """What is known of the answer, in the form of its last event."""
        ends = tuple(choice.ending(not self._eof_completes, self._extra) for choice in self._in_order())
        first = ends[0].finish_reason if ends else None
        return Completed(
            self._response_id, self._model, self._total_usage(), first, _status({end.status for end in ends}), ends
        )

    def _only_adds_text(self, chunk: Chunk) -> bool:
        """Whether a chunk of text brings nothing new beside it: not the first event, nor a choice, an id, a model."""
        return (
            self._created
            and chunk.choices[0].choice in self._choices
            and (self._response_id is not None or chunk.response_id is None)
            and (self._model is not None or chunk.model is None)
        )

    def _read(self, chunk: Chunk) -> list[ResponseEvent]:
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
            choice = self._choices.get(delta.choice)
            if choice is None:
                choice = self._choices[delta.choice] = Choice(delta.choice, self._new_call_id)
                self.finished = False
            choice.read(delta, events)
            if delta.finish_reason:
                self.finished = not self._unfinished()
        return self._after_created(events)

    def _after_created(self, events: list[ResponseEvent]) -> list[ResponseEvent]:
        """The events, after `Created` if they are the first of the answer."""
        if events and not self._created:
            self._created = True
            events.insert(0, Created(self._response_id, self._model))
        return events

    def _in_order(self) -> list[Choice]:
        return [self._choices[index] for index in sorted(self._choices)]

    def _unfinished(self) -> list[int]:
        """The choices that were asked for or began, and have no finish reason yet."""
        absent = [i for i in range(self._asked) if i not in self._choices] if len(self._choices) < self._asked else []
        return sorted(absent + [choice.index for choice in self._choices.values() if choice.state is not FINISHED])

    def _truncation(self, unfinished: list[int]) -> str:
        if not self._choices:
            return "the answer ended before its first choice"
        if len(unfinished) == 1 and self._asked == 1 and len(self._choices) == 1:
            return "the answer ended without a finish reason"
        return f"the answer ended without a finish reason for choice {', '.join(map(str, unfinished))}"

    def _total_usage(self) -> TokenUsage | None:
        """The last usage; llama.cpp sends one per choice, after the choices: then their sum."""
        if len(self._choices) < 2 or len(self._late_usages) != len(self._choices):
            return self._usage
        return total(self._late_usages)


def _status(statuses: set[Status]) -> Status:
    """Of the whole answer: incomplete if one choice is, and as good as the best of them otherwise."""
    if "incomplete" in statuses:
        return "incomplete"
    return "completed" if "completed" in statuses else "unconfirmed"
