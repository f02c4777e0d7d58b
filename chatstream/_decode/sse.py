"""Bytes → SSE events: the only module that knows sseclient.

    bytes ─SSEDecoder.feed▶ events, as the specification dispatches them (WHATWG HTML 9.2.6)
    bytes ─BodyDecoder.feed▶ payloads, as a chat client wants them

Rules:
- sseclient gets whole events only, in UTF-8 and with LF line ends, however the bytes were cut on the way.
- Half an event is never dispatched. At the end of the bytes a whole ``data: [DONE]`` line, or a whole JSON object,
  counts without its blank line, which some servers forget.
- Every buffer has a bound (`Limits`), and no byte is searched twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator

from sseclient import SSEClient

from ..errors import MAX_EXCERPT, ProtocolViolation, StreamTooLarge, excerpt
from ..types.limits import Limits
from .chunk import DONE_WORDS, BodyPayload, Payload

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n" + BOM
FIELDS = (b"data", b"event", b"id", b"retry", b"")  # the last one: comments
MAX_BLANK = 2**16
MAX_HEAD = 4 * MAX_EXCERPT + 4  # bytes: more than an excerpt, however wide its characters


class SSEDecoder:
    """Decodes one event stream."""

    __slots__ = ("_after_cr", "_block", "_buffer", "_client", "_comments", "_limits", "_lines", "_started")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = bytearray()
        self._lines = 0  # line ends in the buffer
        self._after_cr = False
        self._comments = 0
        self._started = False  # it is known whether the stream begins with a byte order mark
        self._block = [b""]  # whole events for sseclient, which reads the list anew for each call of `events`
        self._client = SSEClient(self._block)  # type: ignore[arg-type]  # any iterable will do

    @property
    def comments(self) -> int:
        """How many comment lines have arrived, those after the last whole event included."""
        return self._comments + _comment_lines(self._buffer)

    @property
    def tail(self) -> bytes:
        """The beginning of an event that is not whole."""
        return bytes(self._buffer)

    def feed(self, piece: bytes) -> Iterable[Payload]:
        """The events that ``piece`` completes. Raises `StreamTooLarge`."""
        if not piece:
            return ()
        if not self._started:
            piece = self._without_bom(piece)
        if self._after_cr or b"\r" in piece:
            piece, self._after_cr = _with_newlines(piece, self._after_cr)
        block = self._take_whole(piece)
        if not block:
            self._check_pending()
            return ()
        self._block[0] = self._checked(block)
        events: Iterator[Payload] = self._client.events()
        return self._checking_pending(events) if self._buffer else events

    def feed_tail(self) -> Iterable[Payload]:
        """The events of the tail, as if a blank line followed it."""
        tail = self.tail
        self._buffer.clear()
        self._block[0] = self._checked(tail) + b"\n\n"
        events: Iterator[Payload] = self._client.events()
        return events

    def _without_bom(self, piece: bytes) -> bytes:
        """The bytes after a byte order mark, if there is one; none until that is known."""
        head = bytes(self._buffer) + piece
        if len(head) < len(BOM) and BOM.startswith(head):
            self._buffer[:] = head
            return b""
        self._started = True
        self._buffer.clear()
        return head.removeprefix(BOM)

    def _take_whole(self, piece: bytes) -> bytes:
        """One or more whole events, if ``piece`` completes any; what follows them stays in the buffer."""
        buffer = self._buffer
        if not buffer and piece.endswith(b"\n\n"):
            return piece
        block = b""
        searched = max(len(buffer) - 1, 0)
        buffer += piece
        self._lines += piece.count(b"\n")
        if end := buffer.rfind(b"\n\n", searched) + 1:
            block = bytes(buffer[: end + 1])
            del buffer[: end + 1]
            self._lines = buffer.count(b"\n")
        return block

    def _checking_pending(self, events: Iterator[Payload]) -> Iterator[Payload]:
        """The events, and only then the check of what follows them: they are lost to no error."""
        yield from events
        self._check_pending()

    def _checked(self, block: bytes) -> bytes:
        size, most_lines = len(block), self._limits.event_lines
        if size > self._limits.event_bytes or (size > most_lines and block.count(b"\n") > most_lines):
            for event in block.split(b"\n\n"):
                event = event.strip(b"\n")  # noqa: PLW2901
                self._check_size(len(event), event.count(b"\n") + 1)
        if b"\n:" in block or block.startswith(b":"):
            self._comments += _comment_lines(block)
        if not block.isascii():  # sseclient decodes strictly; the specification wants U+FFFD
            block = block.decode("utf-8", "replace").encode()
        return block

    def _check_pending(self) -> None:
        """Check the event that is not whole yet as it is checked later: without the line ends around it."""
        before, after = self._buffer.startswith(b"\n"), self._buffer.endswith(b"\n")
        self._check_size(len(self._buffer) - before - after, self._lines - before + (not after))

    def _check_size(self, size: int, lines: int) -> None:
        if size > self._limits.event_bytes:
            raise StreamTooLarge(f"an event is longer than {self._limits.event_bytes} bytes")
        if lines > self._limits.event_lines:
            raise StreamTooLarge(f"an event has more than {self._limits.event_lines} lines")


class BodyDecoder:
    """Decodes the body of one answer: an event stream, or one JSON text where the server did not stream."""

    __slots__ = ("_blank", "_body", "_dispatched", "_head", "_limits", "_read", "_size", "sse")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.sse = SSEDecoder(self._limits)
        self._size = 0
        self._blank = b""
        self._body: bytearray | None = None  # of an answer that is no event stream
        self._head = b""
        self._dispatched = False  # an event was dispatched: this is an event stream
        self._read: Callable[[bytes], Iterable[Payload]] = self._read_first

    def feed(self, piece: bytes) -> Iterable[Payload]:
        """The payloads that ``piece`` completes. Raises `StreamTooLarge`."""
        self._size += len(piece)
        if self._size > self._limits.stream_bytes:
            raise StreamTooLarge(f"the stream is longer than {self._limits.stream_bytes} bytes")
        return self._read(piece)

    def close(self) -> Iterator[Payload]:
        """The payloads that the end of the bytes completes.

        Raises `ProtocolViolation` for a page or a text that is no event stream.
        """
        if self._body is not None:
            body = bytes(self._body).removeprefix(BOM)
            if body.lstrip(BLANK).startswith(b"<"):
                raise not_a_stream("an HTML page", body)
            yield BodyPayload("message", body.decode("utf-8", "replace"))
            return
        for event in self.sse.feed_tail():
            if event.data.strip() in DONE_WORDS or _is_json_object(event.data):
                self._dispatched = True
                yield event
        self._check_kind()

    def _read_first(self, piece: bytes) -> Iterable[Payload]:
        """Wait for the first byte that is not blank; it tells a JSON text and a page from an event stream."""
        first = piece.lstrip(BLANK)[:1]
        piece, self._blank = self._blank + piece, b""
        if not first:
            if len(piece) > MAX_BLANK:
                raise StreamTooLarge(f"the answer begins with more than {MAX_BLANK} blank bytes")
            self._blank = piece
            return ()
        if first in b"{[<":
            self._body = bytearray()
            self._read = self._read_body
        else:
            self._read = self._read_first_events
        return self._read(piece)

    def _read_body(self, piece: bytes) -> Iterable[Payload]:
        assert self._body is not None
        self._body += piece
        if len(self._body) > self._limits.event_bytes:
            raise StreamTooLarge(f"the stream is longer than {self._limits.event_bytes} bytes")
        return ()

    def _read_first_events(self, piece: bytes) -> Iterator[Payload]:
        """Keep the head of the body until the first event shows that this is an event stream."""
        self._head = (self._head + piece)[:MAX_HEAD]
        for event in self.sse.feed(piece):
            self._dispatched = True
            self._read = self.sse.feed
            yield event

    def _check_kind(self) -> None:
        head = self._head.lstrip(BLANK)
        name = re.split(rb"[:\r\n]", head, maxsplit=1)[0]
        cut_in_name = name == head and any(field.startswith(name) for field in FIELDS)
        if not (self._dispatched or name in FIELDS or cut_in_name):
            raise not_a_stream("a text", head)


def not_a_stream(kind: str, body: bytes) -> ProtocolViolation:
    """The error for an answer that is no event stream, with the beginning of it."""
    text = excerpt(body.decode("utf-8", "replace").strip())
    return ProtocolViolation(
        f"the answer is {kind}, not an event stream; does the base URL end where the API begins "
        f"(often in /v1)? It starts with: {text!r}"
    )


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
