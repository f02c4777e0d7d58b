"""A file → the exchanges in it: a recording of this library, or what another program has saved of an answer.

Rules:
- A file may contain only the body, as saved by ``curl --no-buffer``, or headers and body (``curl --include``). Such an
  answer has no times.
- Both may be compressed by gzip.
- Anything else is a `ConfigError` that names the file and what is wrong with it.
"""

from __future__ import annotations

import os
import re
import zlib
from email.parser import BytesHeaderParser
from typing import NoReturn

from ..errors import ConfigError
from ..types.limits import Limits
from .format import Exchange, exchanges_of, is_recording

GZIP = b"\x1f\x8b"
HTTP = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})[^\n]*\n")
HEAD_END = re.compile(rb"\r?\n\r?\n")
FIELD = re.compile(rb"(?:data|event|id|retry)?:|[\r\n](?:data|event|id|retry)?:")
BLANK = b" \t\r\n\xef\xbb\xbf"
FRAMING = ("transfer-encoding", "content-length", "content-encoding", "connection")  # the body is saved without it
SHOWN = 40  # characters of an unrecognized file that the message shows


def load(path: str | os.PathLike[str]) -> list[Exchange]:
    """The exchanges in a file, at least one. Raises `ConfigError`."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} can't be read: {getattr(error, 'strerror', None) or error}") from None
    return parse(data, name)


def parse(data: bytes, name: str) -> list[Exchange]:
    """The exchanges in the bytes of a file; ``name`` is for messages."""
    if data.startswith(GZIP):
        data = _unpacked(data, name)
    if is_recording(data):
        found = exchanges_of(data, name)
        return found if found else _fail(name, "is a recording without a request")
    if not data.strip():
        _fail(name, "is empty")
    status, headers, body = _response(data, name)
    first = body.lstrip(BLANK)[:1]
    if status == 200 and not (first in (b"{", b"[") or FIELD.match(body) or FIELD.search(body)):
        shown = body[:SHOWN].decode("utf-8", "replace")
        _fail(name, f"is neither a recording nor the body of a stream: it begins with {shown!r}")
    if "content-type" not in headers:
        headers["content-type"] = "application/json" if first in (b"{", b"[") else "text/event-stream"
    return [Exchange(status=status, headers=headers, pieces=((0.0, body),) if body else (), end=0.0, whole=True)]


def _response(data: bytes, name: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a saved answer; interim answers before it are passed over."""
    status, headers = 200, dict[str, str]()
    while found := HTTP.match(data):
        end = HEAD_END.search(data, found.end() - 1)
        if end is None:
            _fail(name, "ends inside its HTTP headers")
        lines = BytesHeaderParser().parsebytes(data[found.end() : end.end()])
        status, headers, data = int(found[1]), {k.lower(): str(v) for k, v in lines.items()}, data[end.end() :]
    return status, {name: value for name, value in headers.items() if name not in FRAMING}, data


def _unpacked(data: bytes, name: str) -> bytes:
    most = Limits().stream_bytes
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(data, most)
    except zlib.error as error:
        _fail(name, f"is damaged: {error}")
    if unpacker.unconsumed_tail:
        _fail(name, f"is longer than {most} bytes")
    return unpacked


def _fail(name: str, what: str) -> NoReturn:
    raise ConfigError(f"{name} {what}")
