"""Connections and pools that ask the `CancelScope` of their call before each wait.

The only user of urllib3's inner names.

    ScopedAdapter ─▶ pool ─▶ connection ─▶ ScopedResponse

Rules:
- The scope knows the socket from its first packet on, so `cancel` reaches a connect and a TLS handshake.
- A connection goes back to the pool once, and the scope of its last call no longer knows its socket then.
- Outside a call of this library (the caller may use the session too) everything behaves as in requests.
"""

from __future__ import annotations

import queue
import socket
import ssl
import time
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError, EmptyPoolError, NameResolutionError, NewConnectionError
from urllib3.util import wait_for_read

from .._runtime.clock import monotonic
from ..errors import ConnectionFailed
from .advice import WRITE_HTTP
from .cancel_scope import CancelScope
from .connecting import Address, connect_any, connect_within, resolve, wait_to_write
from .response import Exchange, ScopedResponse, current_exchange, running_exchange

SEND_SIZE = 16384  # bytes sent before the scope is asked again: one TLS record
WAKE_SECONDS = 0.02  # a thread that waits for a place in a pool looks so often whether its call was cancelled


class ScopedConnection(HTTPConnection):
    """A connection that shows its socket to the scope from the first packet on."""

    response_class = ScopedResponse
    _wraps = False  # a TLS handshake replaces the socket object
    _negotiates = False  # connecting is more than connecting the socket
    _exchange: Exchange | None = None  # the running one
    _is_new = True  # it has carried no request yet; urllib3 connects for TLS before there is a request

    def connect(self) -> None:
        """Connect, with the tunnel and TLS, within the connect timeout."""
        exchange = running_exchange()
        exchange.connecting, scope = True, exchange.scope
        if not isinstance(self.timeout, (int, float)):  # the caller's own request, without a timeout
            return super().connect()
        with scope.limit(self.timeout, partial(_connect_timeout_error, self, self.timeout)):
            try:
                super().connect()
            except TimeoutError:
                scope.remaining()  # raises if the time is over
                raise

    def _new_conn(self) -> socket.socket:
        self._is_new = True
        scope = running_exchange().scope
        try:
            return connect_any(self._addresses(scope), scope, self._open)
        except TimeoutError:
            raise
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error

    def _addresses(self, scope: CancelScope) -> list[Address]:
        return self._resolve(self._dns_host, self.port, scope)

    def _resolve(self, host: str, port: int | None, scope: CancelScope) -> list[Address]:
        try:
            return resolve(host, port, scope)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(host, self, socket.gaierror(str(error))) from error

    def _open(self, address: Address, seconds: float) -> socket.socket:
        scope = running_exchange().scope
        sock = self._make_socket(address)
        try:
            for option in self.socket_options or ():
                if "udp" not in option[3:]:  # urllib3-future adds the transport
                    sock.setsockopt(*option[:3])
            if current_exchange.get():  # otherwise nobody can cancel it, or release the copy
                scope.attach(sock.dup() if self._wraps else sock, owned=self._wraps)
            sock.settimeout(seconds)
            if scope.waits.active and not self._negotiates:
                connect_within(sock, address[3], seconds, scope)
            else:
                self._connect_socket(sock, address)
            sock.settimeout(scope.remaining())
        except BaseException:
            sock.close()
            raise
        return sock

    def _make_socket(self, address: Address) -> socket.socket:
        return socket.socket(*address[:3])

    def _connect_socket(self, sock: socket.socket, address: Address) -> None:
        sock.connect(address[3])

    def _tunnel(self) -> None:
        super()._tunnel()
        self.sock.settimeout(running_exchange().scope.remaining())  # for the TLS handshake that follows

    def send(self, data: Any) -> None:
        """Send in pieces, so that the limits hold although the peer reads slowly: one piece may take as long as
        connecting may."""
        scope = running_exchange().scope
        data = memoryview(data)  # unlike bytes, it does not show the key in a frame
        for start in range(0, len(data), SEND_SIZE):
            if scope.waits.active:
                wait_to_write(self.sock, monotonic() + self._allowed(scope), scope)
            self.sock.settimeout(self._allowed(scope))
            try:
                super().send(data[start : start + SEND_SIZE])
            except ssl.SSLEOFError as error:  # the server reads no more, and may have said why
                raise BrokenPipeError(str(error)) from error  # after which urllib3 looks for its answer

    def _allowed(self, scope: CancelScope) -> float:
        left = scope.remaining()
        return min(float(self.timeout), left) if isinstance(self.timeout, (int, float)) else left

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = running_exchange()
        if self.sock is None:
            self.connect()
        exchange.reused, self._is_new = not self._is_new, False
        self._exchange = exchange
        exchange.acquire(self)
        super().request(*args, **kwargs)
        exchange.sent = True

    def take_exchange(self) -> Exchange | None:
        """The exchange that has the connection, for the one who asks first: two threads may end it."""
        exchange, self._exchange = self._exchange, None
        return exchange

    def close_unless_idle(self) -> None:
        """Close the connection if the peer has closed it, or has sent more than its answer."""
        if self.sock is not None and wait_for_read(self.sock, 0):
            self.close()


def _connect_timeout_error(connection: ScopedConnection, seconds: float) -> ConnectionFailed:
    connected = connection.sock is not None  # and silent, to TLS or to the request for a tunnel
    peer = connection.host if connection.proxy is None else f"the proxy {connection.host}"
    what = f"no answer from {peer}" if connected else f"could not connect to {peer}"
    hint = WRITE_HTTP if connected and connection.proxy is None else ""
    return ConnectionFailed(f"{what} within {seconds:g} s (connect_timeout){hint}")


class ScopedTLSConnection(ScopedConnection, HTTPSConnection):
    """The same over TLS, to a server or to a proxy."""

    _wraps = True

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        """TLS with the proxy. For TLS inside it urllib3 calls ``recv`` as often as one read needs, so each one asks."""
        outer = super()._connect_tls_proxy(hostname, sock)
        receive = outer.recv

        def receive_within_limits(size: int) -> bytes:
            outer.settimeout((self._exchange or running_exchange()).scope.remaining())
            return receive(size)

        outer.recv = receive_within_limits  # type: ignore[method-assign,assignment]
        return outer


class ConnectionStack:
    """The connections of a pool: a `queue.LifoQueue` without its lock. That is acquired in Python, so an exception of a
    signal handler may leave it acquired, and the next call would wait for it for ever."""

    def __init__(self, maxsize: int) -> None:
        self._kept: list[Any] = []
        self._maxsize = maxsize

    def get(self, block: bool, timeout: float | None = None) -> Any:
        """The connection put last; with ``block`` also one that is put within ``timeout`` seconds."""
        if block and not self._kept:
            time.sleep(timeout or 0)
        try:
            return self._kept.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, connection: Any, block: bool = False) -> None:
        if len(self._kept) >= self._maxsize:
            raise queue.Full
        self._kept.append(connection)

    def qsize(self) -> int:
        return len(self._kept)


class ScopedPool(HTTPConnectionPool):
    """A pool that connects anew where a fresh connection is wanted."""

    ConnectionCls = ScopedConnection
    QueueCls: Any = ConnectionStack

    def _get_conn(self, timeout: float | None = None) -> Any:
        exchange = running_exchange()
        try:
            connection = self._wait_for_conn(exchange.scope) if self.block else super()._get_conn(timeout)
        except ClosedPoolError:  # by `Client.close` in another thread
            connection = self._new_conn()
        if exchange.fresh:
            connection.close()
        return connection

    def _wait_for_conn(self, scope: CancelScope) -> Any:
        """A connection of a pool that blocks when all of its connections are in use."""
        while True:
            try:
                return super()._get_conn(min(WAKE_SECONDS, scope.next_wait()))
            except EmptyPoolError:
                if scope.error is not None:
                    raise
            except ClosedPoolError:
                raise
            except Exception as error:  # after any other one, urllib3 gives back a place that was never taken
                raise EmptyPoolError(self, str(error)) from error

    def _put_conn(self, conn: Any) -> None:
        """Take a connection back as soon as its body was read, but not one that was given up: that one is closed."""
        exchange = None if conn is None else conn.take_exchange()
        if conn is None:
            super()._put_conn(None)
        elif exchange is not None and exchange.release():
            conn.close_unless_idle()
            super()._put_conn(conn)
        elif exchange is not None:
            conn.close()  # the thread that gives it up may find nothing to close any more
            if self.block:
                super()._put_conn(None)  # its place, for which another thread may wait


class ScopedTLSPool(ScopedPool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = ScopedTLSConnection
