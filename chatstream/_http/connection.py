"""Connections and pools that ask the `CancelScope` of their call before each wait.

The only user of urllib3's inner names.

    ScopedAdapter ─▶ pool ─▶ connection ─▶ ScopedResponse

Rules:
- The scope knows the socket from its first packet on, so `cancel` reaches a connect and a TLS handshake.
- A connection goes back to the pool once, and the scope of its last call no longer knows its socket then.
- Outside a call of this library (the caller may use the session too) everything behaves as in requests.
"""

from __future__ import annotations

import socket
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import wait_for_read

from .cancel_scope import CancelScope
from .response import Exchange, ScopedResponse, current_exchange, running_exchange

POOL_SIZE = 1000  # connections kept for reuse: one per thread that streams at the same time


class _Connection(HTTPConnection):
    """A connection that shows its socket to the scope from the first packet on."""

    response_class = ScopedResponse
    _wraps = False  # a TLS handshake replaces the socket object
    _exchange: Exchange | None = None  # the running one
    _is_new = True  # it has carried no request yet; urllib3 connects for TLS before there is a request

    def _new_conn(self) -> socket.socket:
        self._is_new = True
        scope = running_exchange().scope
        failure = OSError("the name has no address")
        for family, kind, protocol, address in self._addresses():
            sock = socket.socket(family, kind, protocol)
            try:
                self._open(sock, address, scope)
                return sock
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                scope.check()
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

    def _open(self, sock: socket.socket, address: Any, scope: CancelScope) -> None:
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        if current_exchange.get():  # otherwise nobody can cancel it, or release the copy
            scope.attach(sock.dup() if self._wraps else sock, owned=self._wraps)
        sock.settimeout(self._allowed(scope))
        sock.connect(address)
        scope.check()

    def _allowed(self, scope: CancelScope) -> float:
        left = scope.remaining()
        return min(float(self.timeout), left) if isinstance(self.timeout, (int, float)) else left

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = running_exchange()
        if self.sock is None:
            self.connect()
        exchange.reused, self._is_new = not self._is_new, False
        self._exchange = exchange
        exchange.acquire(self.sock)
        timeout = self._allowed(exchange.scope)
        if self.sock.gettimeout() != timeout:  # a reused socket still has that of its last recv
            self.sock.settimeout(timeout)
        super().request(*args, **kwargs)
        exchange.sent = True

    def release(self) -> bool:
        """Give the connection up; False if no exchange has it, or if the exchange did so before.

        It is closed if the peer closed it, or has sent more than its answer.
        """
        exchange, self._exchange = self._exchange, None
        if exchange is None or not exchange.release():
            return False
        if self.sock is not None and wait_for_read(self.sock, 0):
            self.close()
        return True


class _TLSConnection(_Connection, HTTPSConnection):
    _wraps = True


class _Pool(HTTPConnectionPool):
    """A pool that connects anew where a fresh connection is wanted."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if running_exchange().fresh:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        """Take a connection back as soon as its body was read, but not one that was given up: that one is closed."""
        if conn is None or conn.release():
            super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOLS = {"http": _Pool, "https": _TLSPool}


class ScopedAdapter(HTTPAdapter):
    """requests' own adapter, over connections that ask the scope."""

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
