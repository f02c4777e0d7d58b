"""Bytes → events: the whole decoder, which is fed with bytes, and whose state can be read.

    bytes ─BodyDecoder▶ payloads ─ChunkReader▶ chunks ─ThinkTags▶ chunks ─Machine▶ events

Rules:
- The parser is fed, and never looks for bytes itself: a socket, a file and a list read alike.
- Its state can be read between two pieces; the code that feeds it sets the timers.
- `feed` and `close` are lazy: what they return is to be exhausted before the next call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import ChatStreamError, StreamTruncated
from ..types.events import Completed, ResponseEvent
from ..types.limits import Limits, checked_limits
from .aggregate import Collector
from .chunk import Chunk, Payload
from .chunks import ChunkReader
from .machine import Machine
from .other_wires import ROOT_OF_API
from .sources import BinaryFile, as_bytes, checked_choices, pieces_of
from .sse import BodyDecoder
from .think_tags import ThinkTags

EMPTY_BODY = f"the answer ended before any content arrived: its body is empty; {ROOT_OF_API}"


class EventParser:
    """Parses the body of one answer.

    ``choices`` is the number of choices requested, None if it is not known. ``eof_completes``, ``skip_undecodable``
    and ``think_tags`` are settings of the `Provider`.
    """

    __slots__ = ("_body", "_machine", "_reader", "_think_tags")

    def __init__(
        self,
        choices: int | None = None,
        limits: Limits | None = None,
        *,
        eof_completes: bool = False,
        skip_undecodable: bool = False,
        think_tags: Sequence[str] = (),
    ) -> None:
        self._body = BodyDecoder(limits)
        self._reader = ChunkReader(skip_undecodable, limits)
        self._think_tags = ThinkTags(think_tags, choices == 1) if think_tags else None
        self._machine = Machine(choices, eof_completes)

    def feed(self, piece: bytes) -> Iterator[ResponseEvent]:
        """The events that ``piece`` completes. Raises `ProtocolViolation`, `StreamTooLarge`, `ProviderError`."""
        return self._machine.read(self._chunks(self._body.feed(piece)))

    def close(self) -> Iterator[ResponseEvent]:
        """The events that the end of the bytes completes, `Completed` last. Raises as `feed`, and `StreamTruncated`."""
        if not self._machine.done:
            yield from self._machine.read(self._chunks(self._body.close()))
            yield from self._release_held()
        if not self._body.size:
            raise StreamTruncated(EMPTY_BODY)
        yield from self._machine.close(self._reader.newest.strip())

    def abort(self) -> Iterator[ResponseEvent]:
        """What was held back, for the caller of a stream that broke off. The answer does not complete."""
        yield from self._release_held()
        yield from self._machine.abort()

    def _chunks(self, payloads: Iterable[Payload]) -> Iterator[Chunk]:
        chunks = self._reader.read(payloads)
        return chunks if self._think_tags is None else self._think_tags.split(chunks)

    def _release_held(self) -> Iterator[ResponseEvent]:
        if self._think_tags is not None:
            yield from self._machine.read(self._think_tags.flush())

    # ── its state ──

    @property
    def done(self) -> bool:
        """Whether the server said that the answer is over; nothing after it is read."""
        return self._machine.done

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason; usage and ``[DONE]`` may still follow."""
        return self._machine.finished

    @property
    def reports(self) -> int:
        """How often the token usage has changed."""
        return self._machine.usage.changes

    @property
    def payloads(self) -> int:
        """How many payloads have arrived."""
        return self._reader.seen

    @property
    def comments(self) -> int:
        """How many comment lines have arrived."""
        return self._body.sse.comments

    @property
    def skipped(self) -> int:
        """How many payloads were no JSON, and were left out."""
        return self._reader.skipped

    @property
    def raw(self) -> dict[str, Any] | None:
        """The server's JSON behind the newest event; None if there was none."""
        return self._reader.raw

    def snapshot(self) -> Completed:
        """What is known of the answer, in the form of its last event."""
        return self._machine.snapshot()


def read_events(
    source: bytes | BinaryFile | Iterable[bytes], *, choices: int | None = None, limits: Limits | None = None
) -> Iterator[ResponseEvent]:
    """The events of an answer that was recorded: its body as bytes, as a file opened in binary mode, or as any iterable
    of pieces of bytes.

    ``choices`` is the number of choices requested (``n``); without it each index is a choice. ``limits``: size limits.
    Raises the errors of a live stream (`StreamError` or a subclass, with ``partial``), and `ConfigError` for
    arguments of other types; closes nothing.
    """
    parser = EventParser(checked_choices(choices), checked_limits(limits))
    return _checked_events(parser, pieces_of(source))


def _checked_events(parser: EventParser, pieces: Iterable[bytes]) -> Iterator[ResponseEvent]:
    collector = Collector()
    try:
        yield from collector.tee(_events(parser, pieces))
    except ChatStreamError as error:
        error.partial = collector.turn(parser.snapshot())
        raise


def _events(parser: EventParser, pieces: Iterable[bytes]) -> Iterator[ResponseEvent]:
    try:
        for piece in pieces:
            yield from parser.feed(piece if piece.__class__ is bytes else as_bytes(piece))
            if parser.done:
                break
        yield from parser.close()
    except ChatStreamError:
        yield from parser.abort()
        raise
