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
import socket
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


class Exchange:
    """What is known below HTTP of the request under way in this thread."""

    def __init__(self, watch: Watch, fresh: bool = False) -> None:
        self.watch = watch
        self.fresh = fresh  # take no connection that served another request
        self.reused = False  # the connection served another request before
        self.sent = False  # the request left whole
        self.file: WatchedFile | None = None  # where the response comes from


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
        self._reference = sock.makefile("rb", buffering=0)  # keeps the socket open as long as this file is

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.probing:
            return None
        self._socket.settimeout(self._watch.remaining())
        try:
            size = self._socket.recv_into(buffer)
        except TimeoutError:
            self._watch.remaining()
            raise
        self._watch.check()
        self.ended = not size
        return size

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


class _Response(http.client.HTTPResponse):
    """A response read through a `WatchedFile`; it refuses chunk sizes that http.client takes at their word."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        exchange = _exchange()
        self.fp.close()
        self._file = exchange.file = WatchedFile(sock, exchange.watch)
        self.fp = io.BufferedReader(self._file, BUFFER_SIZE)

    def begin(self) -> None:
        super().begin()
        self._packed = "Content-Encoding" in self.headers

    def _read1_chunked(self, n: int) -> bytes:
        """One chunk, as http.client reads it, and those behind it that are here already, without asking for more."""
        data: bytes = super()._read1_chunked(n)  # type: ignore[misc]  # not in the stubs
        if not data or self.chunk_left or self._packed:  # what is packed is unpacked chunk by chunk: one may be broken
            return data
        here = self._file.buffered(self.fp)
        if len(here) <= len(b"\r\n"):  # no more than the end of this chunk
            return data
        parts, size = whole_chunks(here, n - len(data))
        self.fp.read(size)
        return b"".join([data, *parts])

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]  # not in the stubs
        if not 0 <= size < MAX_CHUNK:
            raise ValueError(f"chunk size {size}")
        return size


def whole_chunks(buffer: bytes, limit: int) -> tuple[list[bytes], int]:
    """The plain, whole chunks at the start of ``buffer``, each behind the line end of the one before it, up to
    ``limit`` bytes; and how many bytes of the buffer they are. What is not plain is left to http.client."""
    parts: list[bytes] = []
    end = 0
    while buffer.startswith(b"\r\n", end):
        line_end = buffer.find(b"\r\n", end + 2, end + 20)
        digits = buffer[end + 2 : line_end]
        if line_end < 0 or not digits.isalnum():
            break
        try:
            size = int(digits, 16)
        except ValueError:
            break
        start = line_end + 2
        limit -= size
        if not size or limit < 0 or start + size > len(buffer):
            break
        parts.append(buffer[start : start + size])
        end = start + size
    return parts, end


class _Connection(HTTPConnection):
    """A connection that shows its socket to the watch from the first packet on."""

    response_class = _Response
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
            watch.attach(sock.dup(), owned=True)  # a TLS handshake takes the socket object itself away
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
        exchange.watch.attach(self.sock)
        self.sock.settimeout(self._patience(exchange.watch))  # a reused socket still has its last recv's
        super().request(*args, **kwargs)
        exchange.sent = True


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """A pool that gives out a connection to be opened anew where a fresh one is wanted."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if _exchange().fresh:
            connection.close()
        return connection


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
