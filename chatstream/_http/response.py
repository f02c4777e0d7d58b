"""One request and its answer below HTTP: a socket → the bytes of a body, as they arrive.

    socket ──CancelScope.remaining() before each recv──▶ ScopedFile ─▶ ScopedResponse ─read1▶ bytes

Rules:
- A limit holds against any trickle of bytes, because it is checked before every single recv.
- Whole chunks are taken out of the buffer at once; every other framing is read as http.client reads it.
- A socket that holds bytes behind its answer is shut down: they would be taken for the next call's answer.
- A connection is released once: two threads may end one call, and by then it may serve the next call.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import socket
import threading
from contextvars import ContextVar
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.util import wait_for_read
from urllib3.util.ssltransport import SSLTransport

from .._runtime.clock import monotonic
from .callers import raised_by_signal_handler
from .cancel_scope import CancelScope, shut_down
from .framing import LINE_END, MAX_LINE, chunk_size, read_head

BUFFER_SIZE = 32768  # bytes taken from a socket at once; each open stream holds such a buffer
TOO_EARLY = 0.1  # seconds before the socket's time; a timeout is not the socket's then, but `gevent.Timeout`, say
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class Exchange:
    """The request that this thread is making, as far as it is known below HTTP, and whether it owns its connection."""

    def __init__(self, scope: CancelScope, fresh: bool = False) -> None:
        self.scope = scope
        self.fresh = fresh  # take no connection that served another request
        self.reused = False  # the connection served another request before
        self.connecting: bool = False  # a connection of this library is being made, for all it takes before the request
        self.sending: bool = False  # the request is being sent, or was sent, over such a connection
        self.sent = False  # the whole request was sent
        self.response: ScopedResponse | None = None
        self._connection: HTTPConnection | None = None
        self._released = threading.Lock()

    def acquire(self, connection: HTTPConnection) -> None:
        """Own a connection for one request: more than one where a session answers a 401 itself (digest)."""
        self._connection = connection
        self.connecting = False
        self.sending = True
        self._released = threading.Lock()
        self.scope.attach(connection.sock)

    def release(self) -> bool:
        """Give the connection up, to the next call or to be closed; False if that was done already."""
        if not self._released.acquire(blocking=False):
            return False
        self.scope.attach(None)  # it must not shut down a socket that serves another call now
        return True

    def abandon(self) -> None:
        """Close the connection, if there is one and it was not given up: nobody will read its answer."""
        self.scope.socket.shut_down()  # closed, it stays open as long as an exception's frames hold a file of it
        if self._connection is not None and self.release():
            self._connection.close()
            if self.response is not None:
                self.response.close()


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)


def running_exchange() -> Exchange:
    """The exchange of this thread; outside a call of this library, one without limits."""
    return current_exchange.get() or Exchange(CancelScope())


def has_decrypted(sock: socket.socket | SSLTransport) -> bool:
    """Whether TLS, or TLS inside TLS, holds bytes that no poll of the socket shows."""
    if isinstance(sock, SSLTransport):
        return bool(sock.incoming.pending or sock.sslobj.pending()) or has_decrypted(sock.socket)
    return bool(getattr(sock, "pending", int)())


class ScopedFile(io.RawIOBase):
    """The raw side of a response. ``ended`` says that the peer sent its FIN, ``peeking`` forbids reading the socket."""

    __slots__ = ("_reference", "_scope", "_socket", "_timeout", "ended", "peeking")

    def __init__(self, sock: socket.socket, scope: CancelScope) -> None:
        self.ended: bool = False
        self.peeking: bool = False
        self._socket = sock
        self._scope = scope
        self._timeout = math.inf  # the socket's own; a shorter one than allowed only makes it ask the scope early
        self._reference = sock.makefile("rb", buffering=0)  # keeps the socket open as long as this file is

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.peeking:
            return None
        size = None
        while size is None:
            left = self._scope.next_wait() if self._scope.waits.active else self._scope.remaining()
            if self._timeout > left:
                self._timeout = left
                self._socket.settimeout(left)
            began = monotonic()
            try:
                size = self._socket.recv_into(buffer)
            except (TimeoutError, BlockingIOError) as error:  # whether the time is over is for the scope to say
                too_early = error.errno is None and monotonic() - began < self._timeout - TOO_EARLY
                if too_early or raised_by_signal_handler(error):
                    raise
                self._timeout = math.inf
        if not size:
            self._scope.check()  # a cancelled socket ends just as one that the peer closed
            self.ended = True
        return size

    def buffered(self, reader: io.BufferedReader) -> bytes:
        """What ``reader``, which reads from this file, holds already."""
        self.peeking = True
        try:
            return reader.peek(1)
        finally:
            self.peeking = False

    def wait(self, seconds: float) -> bool:
        """Whether the socket has bytes, or its end, within ``seconds``."""
        if has_decrypted(self._socket):
            return True
        return wait_for_read(self._socket, min(seconds, self._scope.remaining()))

    @property
    def cancelled(self) -> bool:
        """Whether the call was cancelled, which has shut the socket down."""
        return self._scope.cancelled

    def has_unread(self, reader: io.BufferedReader) -> bool:
        """Whether the buffer of ``reader``, or TLS, holds bytes that nobody has read."""
        return bool(self.buffered(reader)) or has_decrypted(self._socket)

    def shut_down(self) -> None:
        """End the connection for reading and writing, so that no pool takes it for a live one. A parent's goes on."""
        if not self._scope.inherited:
            shut_down(self._socket)

    def close(self) -> None:
        self._reference.close()
        super().close()


class ScopedResponse(http.client.HTTPResponse):
    """A response read from a `ScopedFile`; it rejects framing that http.client takes unchecked.

    ``bare_chunks`` says that its body comes in chunks and is not compressed: then `read1` alone reads it.
    """

    fp: io.BufferedReader
    chunk_left: int | None

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        exchange, unscoped = running_exchange(), self.fp
        self.file: ScopedFile = ScopedFile(sock, exchange.scope)
        self.fp = io.BufferedReader(self.file, BUFFER_SIZE)
        unscoped.close()
        self.bare_chunks: bool = False
        exchange.response = self

    def begin(self) -> None:
        """Read the head. Raises `http.client.HTTPException` if it could be read in two ways."""
        file = self.fp
        self.fp = io.BytesIO(read_head(file))  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            self.fp = file
        if self.chunked and (self.version == 10 or "Content-Length" in self.headers):
            self.will_close = True  # a proxy may have framed it otherwise; RFC 9112, section 6.1
        self.bare_chunks = bool(self.chunked) and "Content-Encoding" not in self.headers

    def flush(self) -> None:
        """Nothing is written. http.client's own asks for the buffer, which another thread may be closing."""

    def wait(self, seconds: float) -> bool:
        """Whether there are bytes, or the end, within ``seconds``; to be called between two reads."""
        # the line end of the last chunk may have arrived already, and is no sign of another one
        return self.fp is None or self.file.buffered(self.fp) not in (b"", LINE_END) or self.file.wait(seconds)

    def read1(self, n: int = -1) -> bytes:
        """All whole chunks that are buffered, or arrive next; anything else is read as http.client reads it.

        A compressed body is read chunk by chunk, because one of the chunks may be broken.
        """
        if self.bare_chunks and self.fp is not None:
            if self.chunk_left == 0 and self.file.buffered(self.fp).startswith(LINE_END):
                self.fp.read(len(LINE_END))
                self.chunk_left = None
            if self.chunk_left is None:
                parts, size = whole_chunks(self.fp.peek(1), n)
                if parts:
                    self.fp.read(size)
                    return b"".join(parts)
        return super().read1(n)

    def _get_chunk_left(self) -> int | None:
        """http.client's own takes any two bytes for the line end of a chunk, and any ValueError for a false size."""
        if self.chunk_left == 0:
            for byte in LINE_END:
                if self.fp.read(1) != bytes([byte]):
                    self._close_conn()
                    raise http.client.IncompleteRead(b"")
            self.chunk_left = None
        if self.chunk_left is None:
            self.chunk_left = self._read_next_chunk_size() or None
            if self.chunk_left is None:
                self._read_and_discard_trailer()  # type: ignore[attr-defined]  # not in the stubs
                self._close_conn()
        return self.chunk_left

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise http.client.LineTooLong("chunk size")
        try:
            return chunk_size(line)
        except ValueError:
            self._close_conn()
            raise http.client.IncompleteRead(b"") from None

    def _close_conn(self) -> None:
        """Drop what the buffer holds: at the end of the body by the thread that reads, or where any thread gives it up.

        After `CancelScope.cancel`, another thread may still be reading, and has the buffer to itself.
        """
        buffered, self.fp = self.fp, None  # type: ignore[assignment]
        if buffered is None:
            return
        begun = self.headers is not None  # otherwise it is a proxy's, and the bytes behind it are the server's
        if begun and not self.file.cancelled and self.file.has_unread(buffered):
            self.file.shut_down()
        buffered.close()


def whole_chunks(buffer: bytes, limit: int) -> tuple[list[bytes], int]:
    """The whole chunks at the start of ``buffer``, up to ``limit`` bytes, and how many bytes of the buffer they take
    with their framing. Chunks with extensions, and the last one, are left to http.client."""
    parts: list[bytes] = []
    end, length = 0, len(buffer)
    while end < length and (found := CHUNK_SIZE.match(buffer, end)):
        start = found.end()
        size = int(found[1], 16)
        limit -= size
        if not size or limit < 0 or not buffer.startswith(LINE_END, start + size):
            break
        parts.append(buffer[start : start + size])
        end = start + size + len(LINE_END)
    return parts, end
