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
from dataclasses import dataclass
from itertools import chain

from sseclient import SSEClient

from .errors import MAX_EXCERPT, ProtocolViolation, StreamTooLarge, excerpt
from .events import DONE_WORDS, HEARTBEAT, Payload, PlainPayload

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n" + BOM
FIELDS = (b"data", b"event", b"id", b"retry", b"")  # the last one: comments
MAX_BLANK = 2**16
MAX_HEAD = 4 * MAX_EXCERPT + 4  # bytes: more than an excerpt, however wide its characters


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a stream is held or read; beyond it the stream ends in `StreamTooLarge`. Sizes are bytes.

    ``event_bytes`` bounds a line as well as an event, ``event_lines`` the lines of one event, ``stream_bytes`` all
    decoded bytes of one answer, ``error_body_bytes`` how much of a refusal's body is kept.
    """

    event_bytes: int = 2**20
    event_lines: int = 10_000
    stream_bytes: int = 2**28
    error_body_bytes: int = 2**16


class SSEReader:
    """Reads one stream. ``seen`` counts its events so far, ``tail`` is what was left at the end of the bytes."""

    def __init__(self, source: Iterable[bytes], limits: Limits | None = None) -> None:
        self.seen = 0
        self.tail = b""
        self._source = source
        self._limits = limits or Limits()
        self._head = b""
        self._buffer = bytearray()
        self._comments = 0

    @property
    def comments(self) -> int:
        """How many comment lines have come so far, those behind the last whole event included."""
        return self._comments + _comment_lines(self._buffer)

    def events(self) -> Iterator[Payload]:
        """The events as the SSE specification dispatches them, and nothing else."""
        for event in SSEClient(self._blocks()).events():
            if event.event != HEARTBEAT:
                self.seen += 1
            yield event

    def payloads(self) -> Iterator[Payload]:
        """The events as a chat client wants them: a plain JSON answer is one payload, a forgotten last blank line
        is forgiven. Raises `ProtocolViolation` for a page or a text that is no stream, `StreamTooLarge`."""
        first = yield from self._first_byte()
        if first in (b"{", b"["):
            body = yield from self._whole_body()
            yield PlainPayload("message", body.decode("utf-8", "replace"))
        elif first == b"<":
            raise not_a_stream("an HTML page", (yield from self._whole_body()))
        else:
            yield from self.events()
            yield from self._last_words()
            self._check_kind()

    def _first_byte(self) -> Generator[Payload, None, bytes]:
        """The first byte that is not blank; the source is left as if nothing had been read."""
        pieces = iter(self._source)
        blank = b""
        for piece in pieces:
            if not piece:
                yield PlainPayload(HEARTBEAT, "-")
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
                self.seen += 1
                yield event

    def _check_kind(self) -> None:
        head = self._head.lstrip(BLANK)
        name = re.split(rb"[:\r\n]", head, maxsplit=1)[0]
        cut_in_name = name == head and any(field.startswith(name) for field in FIELDS)
        if not (self.seen or name in FIELDS or cut_in_name):
            raise not_a_stream("a text", head)

    def _whole_body(self) -> Generator[Payload, None, bytes]:
        body = bytearray()
        for piece in self._bounded(self._source, self._limits.event_bytes):
            if not piece:
                yield PlainPayload(HEARTBEAT, "-")
            body += piece
        return bytes(body).removeprefix(BOM)

    def _blocks(self) -> Iterator[bytes]:
        """One or more whole events at a time, as soon as their last blank line is there."""
        buffer = self._buffer
        lines = 0
        for piece in _with_newlines(_without_bom(self._bounded(self._source, self._limits.stream_bytes))):
            if not piece:
                yield HEARTBEAT_BLOCK
            elif not buffer and piece.endswith(b"\n\n"):
                yield self._checked(piece)
            else:
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

    def _bounded(self, source: Iterable[bytes], limit: int) -> Iterator[bytes]:
        size = 0
        for piece in source:
            size += len(piece)
            if size > limit:
                raise StreamTooLarge(f"the stream is longer than {limit} bytes")
            if (room := MAX_HEAD - len(self._head)) > 0:
                self._head += piece[:room]
            yield piece

    def _checked(self, block: bytes) -> bytes:
        if len(block) > self._limits.event_bytes or block.count(b"\n") > self._limits.event_lines:
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


HEARTBEAT_BLOCK = f"event: {HEARTBEAT}\ndata: -\n\n".encode()


def not_a_stream(kind: str, body: bytes) -> ProtocolViolation:
    """The error for an answer that is no event stream, with the beginning of it."""
    text = excerpt(body.decode("utf-8", "replace").strip())
    return ProtocolViolation(
        f"the answer is {kind}, not an event stream; does the base URL end where the API begins "
        f"(often in /v1)? It starts with: {text!r}"
    )


def _without_bom(source: Iterable[bytes]) -> Iterator[bytes]:
    pieces = iter(source)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(BOM) or not BOM.startswith(head):
            break
    if rest := head.removeprefix(BOM):
        yield rest
    yield from pieces


def _with_newlines(source: Iterable[bytes]) -> Iterator[bytes]:
    """CR and CRLF become LF at once: a CR ends its line without waiting for the LF that may follow it."""
    after_cr = False
    for piece in source:
        if after_cr and piece:
            after_cr = False
            if piece.startswith(b"\n"):
                piece = piece[1:]  # noqa: PLW2901
                if not piece:
                    continue
        if b"\r" in piece:
            after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # noqa: PLW2901
        yield piece


def _comment_lines(block: bytes | bytearray) -> int:
    return block.count(b"\n:") + block.startswith(b":")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
