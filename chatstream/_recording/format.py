"""The form of a recording: requests and their answers ↔ the bytes of an SSE file.

    : chatstream recording 1
    : request {"method": "POST", "url": …, "headers": …, "body": …}
    : response {"status": 200, "headers": …, "after": 0.412}
    : 0.512031 226
    data: {…}                       ◀ 226 bytes of the body, which arrived 0.512031 s after the request was sent
    : 0.533120 9 0.540002 214
    data: {…}                       ◀ 223 bytes, which arrived in two pieces
    : end 1.234000

Rules:
- Every line that is not the body's is a comment of an event stream, so what reads such a stream reads a recording.
- The body stands as it arrived, in runs of whole lines. The comment before a run counts its bytes, so no byte of a body
  can be taken for a comment of the recording, and the pieces come back as they were.
- A byte order mark at the beginning of a body is recorded as a comment, because inside the file it would not be one.
- The last line of a body gets a line end where it has none; the count tells that it is not the body's.
- An answer that broke ends with ``cut`` and the error instead of ``end``. Both are missing if the program was killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, NoReturn

from .._dataclass import frozen
from ..errors import ConfigError, excerpt

MAGIC = b": chatstream recording "
VERSION = b"1"
BOM = b"\xef\xbb\xbf"
LINE_ENDS = (b"\n", b"\r")
LONGEST = 1e9  # seconds
MOST_DIGITS = 15  # of a count of bytes
EDITED = (
    "the length of a body differs from its comment; if the file was edited, or its line ends were changed, delete the "
    "lines that begin with a colon, and the rest can be replayed without times"
)

Piece = tuple[float, bytes]  # seconds since the request was sent, and what arrived then


@frozen
class Exchange:
    """A request and its answer. ``status`` is None where no answer came, ``end`` None where the recorder was killed.

    Times are seconds since the request was sent. ``error`` is what broke the answer off, with ``error`` (its class) and
    ``message``; ``whole`` says whether the body came to its own end.
    """

    request: Mapping[str, Any] = field(default_factory=dict, hash=False)
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    after: float = 0.0
    pieces: tuple[Piece, ...] = ()
    end: float | None = None
    whole: bool = False
    error: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def body(self) -> bytes:
        """The body of the answer, byte for byte."""
        return b"".join(piece for _, piece in self.pieces)

    @property
    def attempt(self) -> int:
        """1 for the first request of a call."""
        number = self.request.get("attempt")
        return number if isinstance(number, int) else 1


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def first_line() -> bytes:
    return MAGIC + VERSION + b"\n"


def note(name: str, *values: Any) -> bytes:
    """A comment: a name, numbers of seconds, and JSON, which never has a line end inside."""
    shown = [f"{value:.6f}" if isinstance(value, float) else json.dumps(value) for value in values]
    return " ".join((":", name, *shown)).encode() + b"\n"


class BodyWriter:
    """The pieces of one body → runs of whole lines with their comments.

    What follows the last line end waits for the rest of its line, so that each run is redacted as a whole, and a file
    that ends early ends with a whole line.
    """

    def __init__(self, redact: Callable[[bytes], bytes]) -> None:
        self._redact = redact
        self._waiting: list[Piece] = []
        self._begun = False

    def feed(self, seconds: float, piece: bytes) -> bytes:
        """What is to be written once ``piece`` has arrived."""
        cut = max(piece.rfind(b"\n"), piece.rfind(b"\r", 0, -1)) + 1  # an LF may follow a CR at the end
        if cut:
            self._waiting.append((seconds, piece[:cut]))
            written = self.close()
            piece = piece[cut:]
        else:
            written = b""
        if piece:
            self._waiting.append((seconds, piece))
        return written

    def close(self) -> bytes:
        """What waits for the end of its line."""
        data = b"".join(piece for _, piece in self._waiting)
        arrivals = [(seconds, len(piece)) for seconds, piece in self._waiting]
        self._waiting.clear()
        if not data:
            return b""
        clean = self._redact(data)
        if clean != data:
            data, arrivals = clean, [(arrivals[-1][0], len(clean))]
        counts = " ".join(f"{seconds:.6f} {size}" for seconds, size in arrivals)
        mark = b""
        if not self._begun and data.startswith(BOM):
            mark, data = b": bom\n", data.removeprefix(BOM)
        self._begun = True
        return mark + f": {counts}\n".encode() + data + (b"" if data.endswith(LINE_ENDS) else b"\n")


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


def is_recording(data: bytes) -> bool:
    return data.startswith(MAGIC)


def exchanges_of(data: bytes, source: str) -> list[Exchange]:
    """The exchanges of a recording. Raises `ConfigError` that names ``source`` for one that is damaged."""
    return _Reader(data, source).read()


class _Reader:
    """Reads a recording from its beginning to its end; a last line that was cut off is left out."""

    def __init__(self, data: bytes, source: str) -> None:
        self._data = data
        self._source = source
        self._at = 0
        self._line = 0  # where the comment that is being read begins
        self._found: list[dict[str, Any]] = []  # the fields of an `Exchange` each
        self._mark = b""  # a byte order mark, which the next piece begins with

    def read(self) -> list[Exchange]:
        version = self._next_line()[len(MAGIC) :].strip()
        if version != VERSION:
            raise ConfigError(
                f"{self._source} is a recording in format version {excerpt(version.decode('utf-8', 'replace'))!r}; "
                f"this version of chatstream reads version {VERSION.decode()}"
            )
        if self._data[self._at - 2 : self._at] == b"\r\n":
            self._fail(EDITED)
        while self._at < len(self._data):
            line = self._next_line()
            if line.strip():
                self._read_note(line)
        return [Exchange(**{**each, "pieces": _joined(each["pieces"])}) for each in self._found]

    def _next_line(self) -> bytes:
        """The next line without its end; empty if the file ends before it does."""
        self._line = self._at
        end = self._data.find(b"\n", self._at)
        self._at = len(self._data) if end < 0 else end + 1
        return b"" if end < 0 and self._found else self._data[self._line : self._at].rstrip(b"\r\n")

    def _read_note(self, line: bytes) -> None:
        if not line.startswith(b": "):
            self._fail(EDITED)
        name, _, rest = line[2:].decode("utf-8", "replace").partition(" ")
        if name == "request":
            self._found.append({"request": self._object(rest), "pieces": []})
            return
        if not self._found:
            self._fail("it has an answer before the first request")
        newest = self._found[-1]
        if name == "response":
            newest |= self._response(self._object(rest))
        elif name == "bom":
            self._mark = BOM
        elif name in ("end", "cut"):
            seconds, _, error = rest.partition(" ")
            newest |= {"end": self._number(seconds), "whole": name == "end"}
            newest["error"] = self._object(error) if error else None
        elif name[:1].isdigit():
            newest["pieces"] += self._pieces(line[2:].split())
        # any other comment was added by hand

    def _response(self, found: Mapping[str, Any]) -> dict[str, Any]:
        status, headers, after = found.get("status"), found.get("headers"), self._number(found.get("after"))
        if not isinstance(status, int) or not isinstance(headers, dict):
            self._fail("its response has no status or no headers")
        return {"status": status, "headers": {str(k): str(v) for k, v in headers.items()}, "after": after}

    def _pieces(self, numbers: list[bytes]) -> list[Piece]:
        """The pieces that follow a comment; fewer of them where the file ends early."""
        texts = [each.decode("utf-8", "replace") for each in numbers]
        times = [self._number(each) for each in texts[::2]]
        sizes = [self._count(each) for each in texts[1::2]]
        if len(times) != len(sizes):
            self._fail("a time has no count of bytes")
        end = self._at + sum(sizes) - len(self._mark)
        data, self._mark = self._mark + self._data[self._at : end], b""
        is_cut = end > len(self._data)
        self._at = min(end, len(self._data))
        if not is_cut and not data.endswith(LINE_ENDS):
            self._at += 1
            if self._data[end : end + 1] not in (b"\n", b""):
                self._fail(EDITED)
        pieces, at = [], 0
        for seconds, size in zip(times, sizes, strict=True):
            pieces.append((seconds, data[at : at + size]))
            at += size
        return pieces

    def _number(self, value: Any) -> float:
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = -1.0
        return seconds if 0 <= seconds < LONGEST else self._fail(f"{excerpt(str(value))!r} is not a number of seconds")

    def _count(self, text: str) -> int:
        is_count = text.isdecimal() and len(text) <= MOST_DIGITS
        return int(text) if is_count else self._fail(f"{excerpt(text)!r} is not a count of bytes")

    def _object(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self._fail("a comment has no JSON object")
        return found

    def _fail(self, what: str) -> NoReturn:
        line = self._data.count(b"\n", 0, self._line) + 1
        raise ConfigError(f"{self._source} is a damaged recording, line {line}: {what}")


def _joined(parts: list[Piece]) -> tuple[Piece, ...]:
    """The pieces as they arrived: what has the same time was one."""
    pieces: list[Piece] = []
    for seconds, part in parts:
        if pieces and pieces[-1][0] == seconds:
            pieces[-1] = (seconds, pieces[-1][1] + part)
        elif part:
            pieces.append((seconds, part))
    return tuple(pieces)
