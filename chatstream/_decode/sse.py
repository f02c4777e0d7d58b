"""Bytes → SSE events: the only module that knows sseclient.

    bytes ─SSEDecoder.feed▶ events, as the specification dispatches them (WHATWG HTML 9.2.6)
    bytes ─BodyDecoder.feed▶ payloads, as a chat client wants them: see `_odd`

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

from ..errors import MAX_EXCERPT, StreamTooLarge
from ..types.limits import Limits
from .chunk import DONE_WORDS, BodyPayload, Payload, PlainPayload
from .lenient import check_containers
from .other_wires import not_a_stream, other_wire_of_line, refuse_glued_lines

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n" + BOM
FIELDS = (b"data", b"event", b"id", b"retry", b"")  # the last one: comments
BARE_LINES = re.compile(rb"^(?:error:(?P<error>[^\n]*\S[^\n]*)|\{[^\n]*(?:\n[^\n]+)*)", re.MULTILINE)
# A line other than data after a blank line: comments, names, errors, bare JSON, a second line of data.
UNUSUAL = re.compile(rb"\n(?:[^\nd]|(?<=[^\n]\n)d)")
FIELD_LINE = re.compile(rb"[\r\n]data:")
MAX_BLANK = 2**16
MAX_HEAD = 4 * MAX_EXCERPT + 4  # bytes: more than an excerpt, however wide its characters


class _Block(list[bytes]):
    """Whole events for sseclient, which reads the list anew for each call of `events`, and writes it into its log."""

    def __repr__(self) -> str:
        return "<the events of a server>"


class SSEDecoder:
    """Decodes one event stream. ``unusual`` says whether the newest block is more than events of one line of data."""

    __slots__ = ("_after_cr", "_block", "_buffer", "_client", "_comments", "_limits", "_lines", "_started", "unusual")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = bytearray()
        self._lines = 0  # line ends in the buffer
        self._after_cr = False
        self._comments = 0
        self.unusual = False
        self._started = False  # it is known whether the stream begins with a byte order mark
        self._block = _Block([b""])
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
        block = self.take(piece)
        return self.parse(block) if block else ()

    def take(self, piece: bytes) -> bytes:
        """The whole events that ``piece`` completes, with LF line ends; empty if there are none."""
        if not piece:
            return b""
        if not self._started:
            piece = self._without_bom(piece)
        if self._after_cr or b"\r" in piece:
            piece, self._after_cr = _with_newlines(piece, self._after_cr)
        block = piece if not self._buffer and piece.endswith(b"\n\n") else self._take_whole(piece)
        if not block:
            self._check_pending()
            return b""
        return self._checked(block)

    def take_tail(self) -> bytes:
        """The tail as a whole event."""
        tail = self.tail
        self._buffer.clear()
        return self._checked(tail) + b"\n\n"

    def parse(self, block: bytes) -> Iterator[Payload]:
        """The events of a block, and only then the check of what follows it: they are lost to no error."""
        self._block[0] = block
        events: Iterator[Payload] = self._client.events()
        return self._checking_pending(events) if self._buffer else events

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
        yield from events
        self._check_pending()

    def _checked(self, block: bytes) -> bytes:
        size, most_lines = len(block), self._limits.event_lines
        if size > self._limits.event_bytes or (size > most_lines and block.count(b"\n") > most_lines):
            for event in block.split(b"\n\n"):
                event = event.strip(b"\n")  # noqa: PLW2901
                self._check_size(len(event), event.count(b"\n") + 1)
        self.unusual = block[:1] != b"d" or UNUSUAL.search(block) is not None
        if self.unusual:
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
            raise StreamTooLarge(f"an event is longer than {self._limits.event_bytes} bytes (Limits.event_bytes)")
        if lines > self._limits.event_lines:
            raise StreamTooLarge(f"an event has more than {self._limits.event_lines} lines (Limits.event_lines)")


class BodyDecoder:
    """Decodes the body of one answer: an event stream, or one JSON text where the server did not stream."""

    __slots__ = ("_blank", "_body", "_dispatched", "_head", "_is_page", "_limits", "_read", "size", "sse")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.sse = SSEDecoder(self._limits)
        self.size = 0  # bytes so far
        self._blank = b""
        self._body: bytearray | None = None  # of an answer that is no event stream
        self._is_page = False
        self._head = b""
        self._dispatched = False  # an event was dispatched: this is an event stream
        self._read: Callable[[bytes], Iterable[Payload]] = self._read_first

    def feed(self, piece: bytes) -> Iterable[Payload]:
        """The payloads that ``piece`` completes. Raises `StreamTooLarge`."""
        self.size += len(piece)
        if self.size > self._limits.stream_bytes:
            raise StreamTooLarge(f"the stream is longer than {self._limits.stream_bytes} bytes (Limits.stream_bytes)")
        return self._read(piece)

    def close(self) -> Iterator[Payload]:
        """The payloads that the end of the bytes completes.

        Raises `ProtocolViolation` for a page or text that is not an event stream.
        """
        if self._body is not None:
            yield from self._close_body(bytes(self._body).removeprefix(BOM))
        whole_line = self.sse.tail.endswith(b"\n")
        for event in self._parse_unusual(self.sse.take_tail()):
            is_whole = event.data.strip() in DONE_WORDS or self._is_json_object(event.data)
            if is_whole or (whole_line and event.event == "error"):
                self._dispatched = True
                yield event
        self._check_kind()

    def _close_body(self, body: bytes) -> Iterator[Payload]:
        text = body.decode("utf-8", "replace")
        if body.lstrip(BLANK).startswith(b"<"):
            raise not_a_stream("an HTML page", body)
        if not (self._is_json_object(text) or text.lstrip().startswith("[")):
            yield from self._read_first_events(body)  # a bare object, and then something else
        if not self._dispatched:
            self._dispatched = True
            yield BodyPayload("message", text)

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
            self._is_page = first == b"<"
            self._body = bytearray()
            self._read = self._read_body
        else:
            self._read = self._read_first_events
        return self._read(piece)

    def _read_body(self, piece: bytes) -> Iterable[Payload]:
        """Keep a body that begins like JSON, until a field in it shows that it is an event stream after all."""
        assert self._body is not None
        searched = max(len(self._body) - 8, 0)
        is_first_line = b"\n" in piece and b"\n" not in self._body[:MAX_BLANK]
        self._body += piece
        if len(self._body) > self._limits.event_bytes:
            raise StreamTooLarge(f"the answer is longer than {self._limits.event_bytes} bytes (Limits.event_bytes)")
        if is_first_line and other_wire_of_line(line := bytes(self._body).partition(b"\n")[0]):
            return (PlainPayload("message", line.decode("utf-8", "replace")),)
        if self._is_page or FIELD_LINE.search(self._body, searched) is None:
            return ()
        body, self._body = bytes(self._body), None
        self._read = self._read_first_events
        return self._read(body)

    def _read_first_events(self, piece: bytes) -> Iterator[Payload]:
        """Keep the head of the body until the first event shows that this is an event stream."""
        self._head = (self._head + piece)[:MAX_HEAD]
        for event in self._read_events(piece):
            self._dispatched = True
            self._read = self._read_events
            yield event

    def _read_events(self, piece: bytes) -> Iterable[Payload]:
        block = self.sse.take(piece)
        if not block:
            return ()
        return self._parse_unusual(block) if self.sse.unusual else self.sse.parse(block)

    def _parse_unusual(self, block: bytes) -> Iterable[Payload]:
        return self._split_lines(self.sse.parse(BARE_LINES.sub(self._as_events, block)))

    def _split_lines(self, events: Iterable[Payload]) -> Iterator[Payload]:
        """The events; one whose lines are whole JSON objects or end markers, each, is as many events: some servers end
        an event with one line end instead of two."""
        for event in events:
            lines = event.data.split("\n") if "\n" in event.data and not self._is_json_object(event.data) else []
            if lines and all(line in DONE_WORDS or self._is_json_object(line) for line in lines):
                yield from [PlainPayload(event.event, line) for line in lines]
            else:
                yield event

    def _is_json_object(self, text: str) -> bool:
        check_containers(text, self._limits.json_containers)
        try:
            return isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            return False

    def _as_events(self, bare: re.Match[bytes]) -> bytes:
        """Lines that are no fields of SSE, as events: ``error: …`` (llama.cpp), or a JSON object without ``data:``."""
        if bare["error"] is not None:
            return b"\n\nevent: error\ndata: " + bare["error"].strip() + b"\n\n"
        lines = bare[0].split(b"\n")
        if self._is_json_object(bare[0].decode("utf-8", "replace")):
            return b"\n\n" + b"\n".join([b"data: " + line for line in lines]) + b"\n\n"
        return bare[0] if len(lines) == 1 else b"\n".join([BARE_LINES.sub(self._as_events, line) for line in lines])

    def _check_kind(self) -> None:
        head = self._head.lstrip(BLANK)
        if not self._dispatched:
            refuse_glued_lines(head)
        name = re.split(rb"[:\r\n]", head, maxsplit=1)[0]
        cut_in_name = name == head and any(field.startswith(name) for field in FIELDS)
        if not (self._dispatched or name in FIELDS or cut_in_name):
            raise not_a_stream("plain text", head)


def _with_newlines(piece: bytes, after_cr: bool) -> tuple[bytes, bool]:
    """CR and CRLF become LF at once: a CR ends its line without waiting for the LF that may follow it. Also whether
    the piece ends in a CR; ``after_cr`` says so of the piece before."""
    if after_cr:
        piece = piece.removeprefix(b"\n")
    return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), piece.endswith(b"\r")


def _comment_lines(block: bytes | bytearray) -> int:
    return block.count(b"\n:") + block.startswith(b":")
