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
from copy import copy
from typing import Any, cast

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, EmptyPoolError, NameResolutionError, NewConnectionError
from urllib3.util import Retry

from .cancel_scope import CancelScope
from .response import Exchange, ScopedResponse, current_exchange, running_exchange

WAKE_SECONDS = 0.02  # a thread that waits for a place in a pool looks so often whether its call was cancelled


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
        """Give the connection up; False if no exchange has it, or if the exchange did so before."""
        exchange, self._exchange = self._exchange, None
        return exchange is not None and exchange.release()


class _TLSConnection(_Connection, HTTPSConnection):
    _wraps = True


class _Pool(HTTPConnectionPool):
    """A pool that connects anew where a fresh connection is wanted."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        exchange = running_exchange()
        connection = self._wait_for_conn(exchange.scope) if self.block else super()._get_conn(timeout)
        if exchange.fresh:
            connection.close()
        return connection

    def _wait_for_conn(self, scope: CancelScope) -> Any:
        """A connection of a pool that makes no more than so many."""
        while True:
            try:
                return super()._get_conn(WAKE_SECONDS)
            except EmptyPoolError:  # the only error after which urllib3 gives back no place that was never taken
                if scope.error is not None:
                    raise

    def _put_conn(self, conn: Any) -> None:
        """Take a connection back as soon as its body was read, but not one that was given up: that one is closed."""
        is_running = conn is not None and conn._exchange is not None
        if conn is None or conn.release():
            super()._put_conn(conn)
        elif is_running and self.block:
            super()._put_conn(None)  # its place, for which another thread may wait


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOLS = {"http": _Pool, "https": _TLSPool}


class ScopedRetry(Retry):
    """The retries that the owner of an adapter wants, with waits that the scope limits."""

    def sleep(self, response: Any = None) -> None:
        scope = running_exchange().scope
        wanted = self.get_retry_after(response) if response and self.respect_retry_after_header else None
        scope.sleep(min(wanted or self.get_backoff_time(), scope.remaining()))
        scope.remaining()


class ScopedAdapter(HTTPAdapter):
    """requests' own adapter, over connections that ask the scope."""

    @classmethod
    def like(cls, adapter: Any) -> ScopedAdapter:
        """An adapter with the settings of another one."""
        made: Any = cls.__new__(cls)
        made.__setstate__(adapter.__getstate__())
        made.poolmanager.connection_pool_kw = dict(adapter.poolmanager.connection_pool_kw)
        if type(adapter.max_retries) is Retry:
            made.max_retries = copy(adapter.max_retries)
            made.max_retries.__class__ = ScopedRetry
        return cast(ScopedAdapter, made)

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
