"""Connections whose every wait asks the `Watch` of its call: the only user of urllib3's and http.client's insides.

    WatchedAdapter ─▶ pool ─▶ connection ─▶ response file ──each recv──▶ Watch.remaining()

Rules:
- The socket is known to the watch from its first packet on, so `cancel` reaches a connect and a TLS handshake.
- A limit holds against any drip, because it is asked again before every single recv.
- Outside a call of ours (a session that is the caller's own) everything behaves as if nothing were watched.
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

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import wait_for_read

from .watch import Watch

BUFFER_SIZE = 32768  # bytes taken from a socket at once; each open stream holds such a buffer
POOL_SIZE = 1000  # connections kept for reuse: one per thread that streams at the same time
MAX_CHUNK = 2**48  # bytes; a larger chunk is a broken framing, not an answer
LINE_END = b"\r\n"
NOBODY = Watch()
TIMEVAL = struct.Struct("ll")  # seconds, µs
KERNEL_WAITS = sys.platform == "linux" and TIMEVAL.size == 16  # elsewhere SO_RCVTIMEO takes something else
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class Exchange:
    """What is known below HTTP of the request under way in this thread."""

    def __init__(self, watch: Watch, fresh: bool = False) -> None:
        self.watch = watch
        self.fresh = fresh  # take no connection that served another request
        self.reused = False  # the connection served another request before
        self.sent = False  # the request left whole
        self.response: WatchedResponse | None = None


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)


def _exchange() -> Exchange:
    return current_exchange.get() or Exchange(Watch())


class WatchedFile(io.RawIOBase):
    """The raw side of a response. ``ended`` says that the peer sent its FIN, ``probing`` forbids to touch the wire."""

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
        exchange = _exchange()
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
        if not 0 <= size < MAX_CHUNK:
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


class _Connection(HTTPConnection):
    """A connection that shows its socket to the watch from the first packet on."""

    response_class = WatchedResponse
    _wraps = False  # a TLS handshake takes the socket object itself away
    _watch = NOBODY  # then that of the call under way
    _is_new = True  # no request went over its socket yet; urllib3 opens one for TLS before there is a request

    def _new_conn(self) -> socket.socket:
        self._is_new = True
        watch = _exchange().watch
        failure = OSError("the name has no address")
        for family, kind, protocol, address in self._addresses():
            sock = socket.socket(family, kind, protocol)
            try:
                self._open(sock, address, watch)
                return sock
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                watch.check()
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection within {self.timeout} s")
        raise NewConnectionError(self, str(failure))

    def _addresses(self) -> list[tuple[int, int, int, Any]]:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from None
        return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]

    def _open(self, sock: socket.socket, address: Any, watch: Watch) -> None:
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        if current_exchange.get():  # else nobody could cancel, nor release
            watch.attach(sock.dup() if self._wraps else sock, owned=self._wraps)
        sock.settimeout(self._patience(watch))
        sock.connect(address)
        watch.check()

    def _patience(self, watch: Watch) -> float:
        left = watch.remaining()
        return min(float(self.timeout), left) if isinstance(self.timeout, (int, float)) else left

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = _exchange()
        if self.sock is None:
            self.connect()
        exchange.reused, self._is_new = not self._is_new, False
        self._watch = exchange.watch
        self._watch.attach(self.sock)
        patience = self._patience(exchange.watch)
        if self.sock.gettimeout() != patience:  # a reused socket still has its last recv's
            self.sock.settimeout(patience)
        super().request(*args, **kwargs)
        exchange.sent = True

    def leave(self) -> bool:
        """The socket is the next call's now: the watch of this one must not shut it down."""
        watch, self._watch = self._watch, NOBODY
        watch.attach(None)
        return watch is not NOBODY  # else it was left before: two threads may end one call


class _TLSConnection(_Connection, HTTPSConnection):
    _wraps = True


class _Pool(HTTPConnectionPool):
    """A pool that gives out a connection to be opened anew where a fresh one is wanted."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if _exchange().fresh:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        """Take a connection back, which may be before its caller has looked at all that was read."""
        if conn is None or conn.leave():
            super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOLS = {"http": _Pool, "https": _TLSPool}


class WatchedAdapter(HTTPAdapter):
    """requests' own adapter, over connections that ask the watch."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def close(self) -> None:
        """Close the connections kept for reuse, those too whose pool lives on in an answer that somebody holds."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # it can't be iterated over
                manager.pools[key].close()
        super().close()
