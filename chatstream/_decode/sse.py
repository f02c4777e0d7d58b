"""Bytes → SSE payloads: the only room that knows sseclient.

    Iterable[bytes] ─▶ whole, normalised events ─sseclient▶ payload

Rules (WHATWG HTML 9.2.6, and what chat servers make of it):
- sseclient sees only whole events, in UTF-8 and with LF line ends, however the bytes were cut on the way.
- Half an event is never handed on. At the end of the bytes a whole ``data: [DONE]`` line, or a whole JSON object,
  counts without its blank line: some servers forget it.
- Every buffer has a bound (`Limits`), and no byte is searched twice.
- An empty piece of bytes means that time has passed: it becomes a payload named `HEARTBEAT`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain

from sseclient import SSEClient

from ..errors import MAX_EXCERPT, ProtocolViolation, StreamTooLarge, excerpt
from ..types.limits import Limits
from .chunk import DONE_WORDS, HEARTBEAT, Payload, PlainPayload

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n" + BOM
FIELDS = (b"data", b"event", b"id", b"retry", b"")  # the last one: comments
MAX_BLANK = 2**16
MAX_HEAD = 4 * MAX_EXCERPT + 4  # bytes: more than an excerpt, however wide its characters


class SSEReader:
    """Reads one stream. ``tail`` is what was left at the end of the bytes."""

    __slots__ = ("_buffer", "_comments", "_head", "_is_stream", "_limits", "_source", "tail")

    def __init__(self, source: Iterable[bytes], limits: Limits | None = None) -> None:
        self.tail = b""
        self._source = source
        self._limits = limits or Limits()
        self._head = b""
        self._buffer = bytearray()
        self._comments = 0
        self._is_stream = False  # an event has come

    @property
    def comments(self) -> int:
        """How many comment lines have come so far, those behind the last whole event included."""
        return self._comments + _comment_lines(self._buffer)

    def events(self) -> Iterator[Payload]:
        """The events as the SSE specification dispatches them, and nothing else."""
        events: Iterator[Payload] = SSEClient(self._blocks()).events()
        return events

    def payloads(self) -> Iterator[Payload]:
        """The events as a chat client wants them: a plain JSON answer is one payload, a forgotten last blank line
        is forgiven. Raises `ProtocolViolation` for a page or a text that is no stream, `StreamTooLarge`."""
        return chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[Iterable[Payload]]:
        """The payloads, a few at a time, until the first event tells that this is a stream; from then on sseclient's
        events go to the reader untouched."""
        first = yield from self._first_byte()
        if first in (b"{", b"["):
            body = yield from self._whole_body()
            yield (PlainPayload("message", body.decode("utf-8", "replace")),)
        elif first == b"<":
            raise not_a_stream("an HTML page", (yield from self._whole_body()))
        else:
            events = self.events()
            for event in events:
                self._is_stream = event.event != HEARTBEAT
                yield (event,)
                if self._is_stream:
                    break
            yield events
            yield self._last_words()
            self._check_kind()

    def _first_byte(self) -> Generator[Iterable[Payload], None, bytes]:
        """The first byte that is not blank; the source is left as if nothing had been read."""
        pieces = iter(self._source)
        blank = b""
        for piece in pieces:
            if not piece:
                yield BEAT
            elif first := piece.lstrip(BLANK)[:1]:
                self._source = chain((blank + piece,), pieces)
                return first
            elif len(blank := blank + piece) > MAX_BLANK:
                raise StreamTooLarge(f"the answer begins with more than {MAX_BLANK} blank bytes")
        self._source = iter((blank,))
        return b""

    def _last_words(self) -> Iterator[Payload]:
        for event in SSEClient(iter([self.tail + b"\n\n"])).events():
            if event.data.strip() in DONE_WORDS or _is_json_object(event.data):
                self._is_stream = True
                yield event

    def _check_kind(self) -> None:
        head = self._head.lstrip(BLANK)
        name = re.split(rb"[:\r\n]", head, maxsplit=1)[0]
        cut_in_name = name == head and any(field.startswith(name) for field in FIELDS)
        if not (self._is_stream or name in FIELDS or cut_in_name):
            raise not_a_stream("a text", head)

    def _whole_body(self) -> Generator[Iterable[Payload], None, bytes]:
        body = bytearray()
        for piece in self._source:
            if not piece:
                yield BEAT
            body += piece
            _check_length(len(body), self._limits.event_bytes)
        return bytes(body).removeprefix(BOM)

    def _blocks(self) -> Iterator[bytes]:
        """One or more whole events at a time, as soon as their last blank line is there."""
        buffer = self._buffer
        size = lines = 0
        after_cr = False
        for piece in _without_bom(self._source):
            if not piece:
                yield HEARTBEAT_BLOCK
                continue
            size += len(piece)
            _check_length(size, self._limits.stream_bytes)
            if not self._is_stream:
                self._head = (self._head + piece)[:MAX_HEAD]
            if after_cr or b"\r" in piece:
                piece, after_cr = _with_newlines(piece, after_cr)  # noqa: PLW2901
            if not buffer and piece.endswith(b"\n\n"):
                yield self._checked(piece)
                continue
            searched = max(len(buffer) - 1, 0)
            buffer += piece
            lines += piece.count(b"\n")
            if end := buffer.rfind(b"\n\n", searched) + 1:
                block = bytes(buffer[: end + 1])
                del buffer[: end + 1]
                lines = buffer.count(b"\n")
                yield self._checked(block)
            self._check_pending(lines)
        self.tail = self._checked(bytes(buffer))
        buffer.clear()

    def _checked(self, block: bytes) -> bytes:
        if len(block) > self._limits.event_bytes or (
            len(block) > self._limits.event_lines and block.count(b"\n") > self._limits.event_lines
        ):
            for event in block.split(b"\n\n"):
                event = event.strip(b"\n")  # noqa: PLW2901
                self._check_size(len(event), event.count(b"\n") + 1)
        if b"\n:" in block or block.startswith(b":"):
            self._comments += _comment_lines(block)
        if not block.isascii():  # sseclient decodes strictly; the specification wants U+FFFD
            block = block.decode("utf-8", "replace").encode()
        return block

    def _check_pending(self, line_ends: int) -> None:
        """Check the event that is not whole yet as it will be checked then: without the line ends around it."""
        before, after = self._buffer.startswith(b"\n"), self._buffer.endswith(b"\n")
        self._check_size(len(self._buffer) - before - after, line_ends - before + (not after))

    def _check_size(self, size: int, lines: int) -> None:
        if size > self._limits.event_bytes:
            raise StreamTooLarge(f"an event is longer than {self._limits.event_bytes} bytes")
        if lines > self._limits.event_lines:
            raise StreamTooLarge(f"an event has more than {self._limits.event_lines} lines")


BEAT = (PlainPayload(HEARTBEAT, "-"),)
HEARTBEAT_BLOCK = f"event: {HEARTBEAT}\ndata: -\n\n".encode()


def _check_length(size: int, limit: int) -> None:
    if size > limit:
        raise StreamTooLarge(f"the stream is longer than {limit} bytes")


def not_a_stream(kind: str, body: bytes) -> ProtocolViolation:
    """The error for an answer that is no event stream, with the beginning of it."""
    text = excerpt(body.decode("utf-8", "replace").strip())
    return ProtocolViolation(
        f"the answer is {kind}, not an event stream; does the base URL end where the API begins "
        f"(often in /v1)? It starts with: {text!r}"
    )


def _without_bom(source: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, without a byte order mark before them. Reads as many as it takes to know."""
    pieces = iter(source)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(BOM) or not BOM.startswith(head):
            break
    return chain(filter(None, (head.removeprefix(BOM),)), pieces)


def _with_newlines(piece: bytes, after_cr: bool) -> tuple[bytes, bool]:
    """CR and CRLF become LF at once: a CR ends its line without waiting for the LF that may follow it. Also whether
    the piece ends in a CR; ``after_cr`` says so of the piece before."""
    if after_cr:
        piece = piece.removeprefix(b"\n")
    return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), piece.endswith(b"\r")


def _comment_lines(block: bytes | bytearray) -> int:
    return block.count(b"\n:") + block.startswith(b":")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
