"""One request and its answer below HTTP: a socket → the bytes of a body, as they come.

    socket ──each recv asks Watch.remaining()──▶ WatchedFile ─▶ WatchedResponse ─read1▶ bytes

Rules:
- A limit holds against any drip, because it is asked again before every single recv.
- Plain chunks are taken out of the buffer whole; every other framing is read as http.client reads it.
- A connection is left once: two threads may end one call, and it may be the next call's by then.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import socket
import struct
import sys
import threading
from contextvars import ContextVar
from typing import Any

from urllib3.util import wait_for_read

from .cancel_scope import Watch

BUFFER_SIZE = 32768  # bytes taken from a socket at once; each open stream holds such a buffer
MAX_CHUNK = 2**48  # bytes; a larger chunk is a broken framing, not an answer
LINE_END = b"\r\n"
TIMEVAL = struct.Struct("ll")  # seconds, µs
KERNEL_WAITS = sys.platform == "linux" and TIMEVAL.size == 16  # elsewhere SO_RCVTIMEO takes something else
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class Exchange:
    """What is known below HTTP of the request under way in this thread, and whose the connection is."""

    def __init__(self, watch: Watch, fresh: bool = False) -> None:
        self.watch = watch
        self.fresh = fresh  # take no connection that served another request
        self.reused = False  # the connection served another request before
        self.sent = False  # the request left whole
        self.response: WatchedResponse | None = None
        self._left = threading.Lock()

    def enter(self, sock: socket.socket) -> None:
        """Have a connection for one request: more than one where a session answers a refusal itself (digest)."""
        self._left = threading.Lock()
        self.watch.attach(sock)

    def leave(self) -> bool:
        """Leave the connection, to the next call or to be closed; False if that was done already."""
        if not self._left.acquire(blocking=False):
            return False
        self.watch.attach(None)  # it must not shut down what is another's now
        return True


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)


def exchange_under_way() -> Exchange:
    """This thread's exchange; one that nobody waits for, outside a call of ours."""
    return current_exchange.get() or Exchange(Watch())


class WatchedFile(io.RawIOBase):
    """The raw side of a response. ``ended`` says that the peer sent its FIN, ``probing`` forbids to touch the wire."""

    __slots__ = ("_in_kernel", "_patience", "_reference", "_socket", "_watch", "ended", "probing")

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self.ended = False
        self.probing = False
        self._socket = sock
        self._watch = watch
        self._patience = math.inf  # the socket's timeout; one that is shorter than it may be only makes it ask early
        self._in_kernel = False
        self._reference = sock.makefile("rb", buffering=0)  # keeps the socket open as long as this file is

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.probing:
            return None
        size = None
        while size is None:
            left = self._watch.remaining()
            if self._patience > left:
                self._limit(left)
            try:
                size = self._socket.recv_into(buffer)
            except (TimeoutError, BlockingIOError):  # whether the time is over is the watch's to say
                self._patience = math.inf
        if not size:
            self._watch.check()  # `cancel` ends it just as the peer does
            self.ended = True
        return size

    def _limit(self, seconds: float) -> None:
        """Let a recv take so long."""
        self._patience = seconds
        if self._in_kernel:
            timeval = TIMEVAL.pack(*divmod(math.ceil(seconds * 1e6), 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        else:
            self._socket.settimeout(seconds)

    def wait_in_kernel(self) -> None:
        """Let recv itself wait from now on: a poll before it has each thread ask for the interpreter twice an event.

        Not in the main thread, where recv begins its time anew after a signal (PEP 475), nor with TLS, which waits
        itself.
        """
        in_main = threading.current_thread() is threading.main_thread()
        if KERNEL_WAITS and not in_main and type(self._socket) is socket.socket:
            self._socket.settimeout(None)
            self._in_kernel, self._patience = True, math.inf

    def buffered(self, reader: io.BufferedReader) -> bytes:
        """What ``reader``, which reads from this file, holds already."""
        self.probing = True
        try:
            return reader.peek(1)
        finally:
            self.probing = False

    def wait(self, seconds: float) -> bool:
        """Whether the socket has bytes, or its end, within ``seconds``."""
        if getattr(self._socket, "pending", int)():  # decrypted bytes that no poll knows of
            return True
        return wait_for_read(self._socket, min(seconds, self._watch.remaining()))

    def close(self) -> None:
        self._reference.close()
        super().close()


class WatchedResponse(http.client.HTTPResponse):
    """A response read from a `WatchedFile`; it refuses chunk sizes that http.client takes at their word.

    ``plain`` says that its body comes in chunks and is not packed: then `read1` is all that is needed to read it.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        exchange = exchange_under_way()
        exchange.response = self
        self.fp.close()
        self.file = WatchedFile(sock, exchange.watch)
        self.fp = io.BufferedReader(self.file, BUFFER_SIZE)
        self.plain = False

    def begin(self) -> None:
        super().begin()
        self.plain = bool(self.chunked) and "Content-Encoding" not in self.headers
        self.file.wait_in_kernel()

    def wait(self, seconds: float) -> bool:
        """Whether there are bytes, or the end, within ``seconds``; for between two reads."""
        # the line end of the last chunk may be there already, and says nothing
        return self.fp is None or self.file.buffered(self.fp) not in (b"", LINE_END) or self.file.wait(seconds)

    def read1(self, n: int = -1) -> bytes:
        """All whole chunks that are here, or come next; what is not plain, not whole or not small is read as
        http.client reads it. What is packed is unpacked chunk by chunk: one of them may be broken."""
        if self.plain and self.fp is not None:
            if self.chunk_left == 0 and self.file.buffered(self.fp).startswith(LINE_END):
                self.fp.read(len(LINE_END))
                self.chunk_left = None
            if self.chunk_left is None:
                parts, size = whole_chunks(self.fp.peek(1), n)
                if parts:
                    self.fp.read(size)
                    return b"".join(parts)
        return super().read1(n)

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]  # not in the stubs
        if self.file.ended or not 0 <= size < MAX_CHUNK:  # the end came before that of the line
            raise ValueError(f"chunk size {size}")
        return size


def whole_chunks(buffer: bytes, limit: int) -> tuple[list[bytes], int]:
    """The plain, whole chunks at the start of ``buffer``, up to ``limit`` bytes; and how many bytes of the buffer they
    are with all around them. What is not plain is left to http.client."""
    parts: list[bytes] = []
    end = 0
    while found := CHUNK_SIZE.match(buffer, end):
        start = found.end()
        size = int(found[1], 16)
        limit -= size
        if not size or limit < 0 or not buffer.startswith(LINE_END, start + size):
            break
        parts.append(buffer[start : start + size])
        end = start + size + len(LINE_END)
    return parts, end
