"""Connections whose every wait asks the `Watch` of its call: the only user of urllib3's insides.

    WatchedAdapter ─▶ pool ─▶ connection ─▶ WatchedResponse

Rules:
- The socket is known to the watch from its first packet on, so `cancel` reaches a connect and a TLS handshake.
- A connection goes back to the pool once, and unknown to the watch of the call that had it.
- Outside a call of ours (a session that is the caller's own) everything behaves as if nothing were watched.
"""

from __future__ import annotations

import socket
from queue import LifoQueue
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from .cancel_scope import Watch
from .response import Exchange, WatchedResponse, current_exchange, exchange_under_way

POOL_SIZE = 1000  # connections kept for reuse: one per thread that streams at the same time


class _Connection(HTTPConnection):
    """A connection that shows its socket to the watch from the first packet on."""

    response_class = WatchedResponse
    _wraps = False  # a TLS handshake takes the socket object itself away
    _exchange: Exchange | None = None  # the one under way
    _is_new = True  # no request went over its socket yet; urllib3 opens one for TLS before there is a request

    def _new_conn(self) -> socket.socket:
        self._is_new = True
        watch = exchange_under_way().watch
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
        exchange = exchange_under_way()
        if self.sock is None:
            self.connect()
        exchange.reused, self._is_new = not self._is_new, False
        self._exchange = exchange
        exchange.enter(self.sock)
        patience = self._patience(exchange.watch)
        if self.sock.gettimeout() != patience:  # a reused socket still has its last recv's
            self.sock.settimeout(patience)
        super().request(*args, **kwargs)
        exchange.sent = True

    def leave(self) -> bool:
        """End its part in the exchange under way; False if there is none, or if that left it before."""
        exchange, self._exchange = self._exchange, None
        return exchange is not None and exchange.leave()


class _TLSConnection(_Connection, HTTPSConnection):
    _wraps = True


class _Kept(LifoQueue[Any]):
    """The connections kept for reuse. urllib3 fills up all other places beforehand, which takes a millisecond a pool;
    where nobody waits for a place (``block``), none needs to be held."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:
            super().put(item, block, timeout)


class _Pool(HTTPConnectionPool):
    """A pool that gives out a connection to be opened anew where a fresh one is wanted."""

    ConnectionCls = _Connection
    QueueCls = _Kept

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if exchange_under_way().fresh:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        """Take a connection back, which may be before its caller has looked at all that was read; but not one that its
        caller gave up: that one is closed, or about to be."""
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
