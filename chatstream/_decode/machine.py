"""Chunks → events: the state machine of one answer.

Each choice goes through the states of `choice`; all of them share one beginning, one end and one usage.

Rules:
- Pure: no I/O, no clock, no logging. A list of chunks is a full test.
- A finish reason ends a choice, not the reading: usage and ``[DONE]`` may follow it.
- The end of the chunks is not success: without ``[DONE]``, every choice requested must have finished.
- If one choice was requested, there is one choice, whatever its index says: some servers number the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from secrets import token_hex
from typing import Any

from ..errors import ProtocolViolation, ProviderError, StreamTruncated, excerpt
from ..types.events import Completed, Created, OutputTextDelta, ResponseEvent, Status
from ..types.text import has_surrogates, without_surrogates
from ..types.usage import TokenUsage
from .choice import FINISHED, Choice
from .chunk import ChoiceDelta, Chunk
from .fields import cost_of, counts_of, joined, merge, sum_of_counts

MOST_NAMED = 10  # choices that an error names


def make_call_id() -> str:
    """An id for a call that the server gave none: ``call_`` and 24 hex digits."""
    return f"call_{token_hex(12)}"


class UsageReports:
    """The reports of token usage in one answer. ``changes`` counts those that brought something new."""

    __slots__ = ("_counts", "_late", "_raw", "changes")

    def __init__(self) -> None:
        self.changes = 0
        self._counts: dict[str, int] = {}
        self._raw: dict[str, Any] = {}
        self._late: list[dict[str, int]] = []

    def add(self, usage: dict[str, Any], late: bool) -> None:
        """Take a report; a ``late`` one came without choices."""
        self.changes += merge(self._raw, usage)
        counts = counts_of(usage)
        self._counts |= counts
        if late and counts:
            self._late.append(counts)

    def total(self, choices: int, extra: dict[str, Any]) -> TokenUsage | None:
        """All reports as one; llama.cpp sends one for each of several choices, after them: then their sum.

        ``extra`` is what the server sent beside the choices: some put the cost there.
        """
        counts = sum_of_counts(self._late) if 2 <= choices == len(self._late) else self._counts
        if not counts:
            return None
        return TokenUsage(**counts, raw=joined(self._raw), cost=cost_of({**extra, "usage": self._raw}))


class Machine:
    """Reads the chunks of one answer; ``choices`` is the number of choices requested, None if it is not known.

    ``finished`` says whether every choice requested, and every other one that began, has its finish reason; ``done``
    whether the server said that the answer is over.
    """

    __slots__ = (
        "_absent",
        "_asked",
        "_choices",
        "_created",
        "_eof_completes",
        "_extra",
        "_model",
        "_names_known",
        "_new_call_id",
        "_note",
        "_only_one",
        "_open",
        "_response_id",
        "_steady",
        "done",
        "finished",
        "usage",
    )

    def __init__(
        self, choices: int | None = 1, eof_completes: bool = False, new_call_id: Callable[[], str] = make_call_id
    ) -> None:
        self.finished = False
        self.done = False
        self._asked = choices or 0
        self._only_one = choices == 1
        self._eof_completes = eof_completes
        self._new_call_id = new_call_id
        self._choices: dict[int, Choice] = {}
        self._absent = self._asked  # how many of the choices requested have not begun
        self._open = 0  # how many choices began and have not finished
        self._steady: set[int] = set()  # choices that have begun and hold nothing back
        self._created = False  # the caller has got an event
        self._extra: dict[str, Any] = {}
        self._response_id: str | None = None
        self._model: str | None = None
        self._names_known = False
        self.usage = UsageReports()
        self._note = ""

    def read(self, chunks: Iterable[Chunk]) -> Iterator[ResponseEvent]:
        """The events of ``chunks``, up to the one that ends the answer. Raises `ProviderError`, `ProtocolViolation`."""
        for chunk in chunks:
            if chunk.text_only:
                delta = chunk.choices[0]
                index = 0 if self._only_one else delta.choice
                if (
                    index in self._steady
                    and (delta.text.isascii() or not has_surrogates(delta.text))
                    and (self._names_known or (chunk.response_id, chunk.model) == (self._response_id, self._model))
                ):
                    yield OutputTextDelta(delta.text, index)
                    continue
            if not chunk.plain:
                self._read_rest(chunk)
            yield from self._read_choices(chunk)
            if chunk.plain:
                continue
            if chunk.error is not None:
                raise ProviderError(*chunk.error[:4], chunk.error.retry_after)
            if chunk.done:
                self.done = True
                return

    def close(self, newest: str = "") -> Iterator[ResponseEvent]:
        """The last events, `Completed` at the end. Raises `StreamTruncated` if the answer is not over; its message
        quotes ``newest``, the newest JSON of the server, if no choice arrived."""
        if not self._choices or not (self.finished or self.done or self._eof_completes):
            raise StreamTruncated(_truncation(self._choices, self._asked, self._note or newest))
        last = [event for choice in self._in_order() for event in choice.close()]
        yield from self._after_created([*last, self.snapshot()])

    def abort(self) -> Iterator[ResponseEvent]:
        """What the caller does not have yet of an answer that broke off."""
        yield from self._after_created([event for choice in self._in_order() for event in choice.abort()])

    def snapshot(self) -> Completed:
        """What is known of the answer, in the form of its last event."""
        ends = tuple(choice.ending(not self._eof_completes, self._extra) for choice in self._in_order())
        first = ends[0].finish_reason if ends else None
        return Completed(
            self._response_id,
            self._model,
            self.usage.total(len(self._choices), self._extra),
            first,
            _status({end.status for end in ends}),
            ends,
        )

    def _read_choices(self, chunk: Chunk) -> list[ResponseEvent]:
        if not self._names_known:
            self._response_id = self._response_id or without_surrogates(chunk.response_id or "") or None
            self._model = self._model or without_surrogates(chunk.model or "") or None
            self._names_known = self._response_id is not None and self._model is not None
        events: list[ResponseEvent] = []
        for delta in chunk.choices:
            self._read_choice(delta, events)
        return events if self._created else self._after_created(events)

    def _read_rest(self, chunk: Chunk) -> None:
        """Read what a chunk has beside its choices."""
        if chunk.undecodable and not self.finished:  # after the last finish reason anything may follow
            raise ProtocolViolation(chunk.undecodable)
        self._note = self._note or chunk.note
        if chunk.usage is not None:
            self.usage.add(chunk.usage, late=not chunk.choices)
        if chunk.extra:
            self._extra.update(chunk.extra)

    def _read_choice(self, delta: ChoiceDelta, events: list[ResponseEvent]) -> None:
        index = 0 if self._only_one else delta.choice
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = Choice(index, self._new_call_id)
            self._open += 1
            self._absent -= 0 <= index < self._asked
        state = choice.state
        choice.read(delta, events)
        if choice.state is not state:
            self._open -= choice.state is FINISHED
            self.finished = not (self._open or self._absent)
        if choice.halves is not None:
            self._steady.discard(index)
        elif delta.text and events:
            self._steady.add(index)

    def _after_created(self, events: list[ResponseEvent]) -> list[ResponseEvent]:
        """The events, after `Created` if they are the first of the answer."""
        if events and not self._created:
            self._created = True
            events.insert(0, Created(self._response_id, self._model))
        return events

    def _in_order(self) -> list[Choice]:
        return [self._choices[index] for index in sorted(self._choices)]


def _truncation(choices: dict[int, Choice], asked: int, note: str) -> str:
    """What is missing of an answer that ended too soon; ``note`` is what the server said in place of a choice."""
    if not choices:
        return "the answer ended before any content arrived" + (f"; the server said: {excerpt(note)}" if note else "")
    if asked <= 1 and len(choices) == 1:
        return "the answer ended without a finish reason"
    absent = [index for index in range(min(asked, len(choices) + MOST_NAMED)) if index not in choices]
    begun = [choice.index for choice in choices.values() if choice.state is not FINISHED]
    unfinished = sorted(absent + begun)[:MOST_NAMED]
    return f"the answer ended without a finish reason for choice {', '.join(map(str, unfinished))}"


def _status(statuses: set[Status]) -> Status:
    """Of the whole answer: incomplete if one choice is, and as good as the best of them otherwise."""
    if "incomplete" in statuses:
        return "incomplete"
    return "completed" if "completed" in statuses else "unconfirmed"
