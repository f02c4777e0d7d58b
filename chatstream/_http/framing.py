"""The head of an answer and the size lines of its chunks → what http.client can read in one way only.

    bytes of the head ──read_head──▶ the same head, one line per field ─▶ http.client

Rules:
- Where two readers could see two different messages, an exception of http.client says so, and nothing is guessed.
- What RFC 9112 lets a reader mend is mended: folded fields, blanks before a colon, a length or coding sent twice.
- A line may end with a bare LF where the RFC allows it: in the head and in trailers, never in the lines of chunks.
"""

from __future__ import annotations

import io
import re
from http.client import BadStatusLine, HTTPException, LineTooLong

MAX_LINE = 65536  # bytes; this limit and the next are those of http.client
MAX_LINES = 100  # of the headers, with the blank line at their end
MAX_SPLIT = 4096  # bytes of a field that is split into parts; browsers take no longer cookie
MAX_CHUNK = 2**48  # bytes; a larger chunk means broken framing
BLANKS = b" \t"
LINE_END = b"\r\n"
STATUS_LINE = re.compile(rb"HTTP/[0-9.]+[ \t]+([0-9]{3})(?!\S)")
FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\0\r\n]*(?:\r?\n[ \t][^\0\r\n]*)*)\r?\n")
NO_ANSWER = "no answer followed an interim one"
LENGTH_NAME, CODING_NAME = b"content-length", b"transfer-encoding"
LENGTH = re.compile(rb"[0-9]{1,18}")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[^\r\n]*)?\r\n")

Field = tuple[bytes, bytes]


def read_head(file: io.BufferedReader) -> bytes:
    """The head of the final answer; b"" if the peer closes before it. Interim answers (1xx) are read over.

    Raises `http.client.HTTPException` for what is not HTTP, or could be read in two ways.
    """
    status_line = _read_line(file, "status line")
    interim = False
    while (code := _status(status_line)) is not None:
        if not 100 <= code < 200 or code == 101:  # after 101 the peer speaks another protocol
            fields = _one_framing(_fields(_read_lines(file)))
            return b"".join([status_line, *(b"%b: %b\r\n" % field for field in fields), LINE_END])
        _read_lines(file)
        interim = True
        status_line = _read_line(file, "status line")
    if interim:
        raise BadStatusLine(NO_ANSWER)
    return b""


def chunk_size(line: bytes) -> int:
    """The size that the size line of a chunk gives. Raises `ValueError` for anything but hexadecimal digits."""
    found = CHUNK_LINE.fullmatch(line)
    if not found or (size := int(found[1], 16)) >= MAX_CHUNK:
        raise ValueError(f"chunk size {line[:20]!r}")
    return size


def _status(line: bytes) -> int | None:
    """The code of a status line; None if the peer closed the connection instead."""
    found = STATUS_LINE.match(line)
    if line and not found:
        raise BadStatusLine(repr(line[:100].decode("latin-1")))
    return int(found[1]) if found else None


def _read_line(file: io.BufferedReader, what: str) -> bytes:
    line = file.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise LineTooLong(what)
    return line


def _read_lines(file: io.BufferedReader) -> list[bytes]:
    """The lines up to the blank one. One that the end of the bytes cuts off is left out."""
    lines: list[bytes] = []
    while (line := _read_line(file, "header line")).endswith(b"\n") and line not in (LINE_END, b"\n"):
        lines.append(line)
        if len(lines) >= MAX_LINES:
            raise HTTPException(f"got more than {MAX_LINES} headers")
    return lines


def _fields(lines: list[bytes]) -> list[Field]:
    """Names and values, with folded lines joined. Cookies and media types too long for any client are left out:
    requests takes seconds to split a hundred of them."""
    fields: list[Field] = []
    head, end = b"".join(lines), 0
    while end < len(head):
        found = FIELD.match(head, end)
        if not found:
            number = head.count(b"\n", 0, end) + 1
            raise HTTPException(f"line {number} of the headers is invalid")  # without its text, which may hold a key
        end = found.end()
        name, value = found[1], found[2].strip(BLANKS)
        if b"\n" in value:
            value = b" ".join(part.strip(BLANKS) for part in value.splitlines())
        if len(value) <= MAX_SPLIT or name.lower() not in (b"set-cookie", b"content-type"):
            fields.append((name, value))
    return fields


def _one_framing(fields: list[Field]) -> list[Field]:
    """The fields with at most one length and one transfer coding; RFC 9112, section 6.3. A transfer coding makes a
    length void; one that this library can't read is left for its caller to reject."""
    framing = [(name.lower(), value) for name, value in fields if name.lower() in (LENGTH_NAME, CODING_NAME)]
    codings = {coding.lower() for coding in _parts(framing, CODING_NAME) if coding}
    lengths = _parts(framing, LENGTH_NAME)
    if codings == {b"chunked"}:
        return [*_without(fields, CODING_NAME), (b"Transfer-Encoding", b"chunked")]
    if not lengths:
        return fields
    if not all(map(LENGTH.fullmatch, lengths)) or len(set(map(int, lengths))) > 1:
        raise HTTPException("Content-Length is not one number")
    return [*_without(fields, LENGTH_NAME), (b"Content-Length", lengths[0])]


def _parts(framing: list[Field], wanted: bytes) -> list[bytes]:
    """The comma-separated parts of all fields of one name."""
    values = [value for name, value in framing if name == wanted]
    if any(len(value) > MAX_SPLIT for value in values):
        raise HTTPException(f"{wanted.decode()} of more than {MAX_SPLIT} bytes")
    return [part.strip(BLANKS) for value in values for part in value.split(b",")]


def _without(fields: list[Field], unwanted: bytes) -> list[Field]:
    return [field for field in fields if field[0].lower() != unwanted]
