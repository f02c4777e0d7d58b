"""Connections through a SOCKS proxy, which ask the cancel scope before each wait. Needs PySocks (extra ``socks``)."""

from __future__ import annotations

import socket
from socket import AF_INET
from typing import Any

import socks

from .cancel_scope import CancelScope
from .connecting import Address, resolve
from .connection import ScopedConnection, ScopedPool, ScopedTLSConnection, ScopedTLSPool
from .response import running_exchange


class _Socket(socks.socksocket):
    """A socket that asks ``scope``, as long as it negotiates with its proxy, before each read."""

    scope: CancelScope | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.scope is not None:
            self.settimeout(self.scope.remaining())
        size: int = super().recv_into(*args, **kwargs)
        return size


class _SocksConnection(ScopedConnection):
    """A connection whose host is reached through a proxy: the addresses that it connects to are the proxy's."""

    _negotiates = True

    def __init__(self, _socks_options: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self._options = _socks_options
        super().__init__(*args, **kwargs)

    def _addresses(self, scope: CancelScope) -> list[Address]:
        return self._resolve(self._options["proxy_host"], self._options["proxy_port"] or 1080, scope)

    def _make_socket(self, address: Address) -> socket.socket:
        sock = _Socket(socket.AddressFamily(address[0]), socket.SocketKind(address[1]), address[2])
        options = self._options
        host, port = address[3][:2]
        sock.set_proxy(options["socks_version"], host, port, options["rdns"], options["username"], options["password"])
        return sock

    def _connect_socket(self, sock: Any, address: Address) -> None:
        host, scope = self._dns_host, running_exchange().scope
        if not self._options["rdns"]:
            host = self._local_address(resolve(host, self.port, scope))
        sock.scope = scope
        sock.connect((host, self.port))
        sock.scope = None

    def _local_address(self, addresses: list[Address]) -> str:
        """The first address that the version of the protocol can name: SOCKS4 knows no IPv6."""
        known = [each for each in addresses if self._options["socks_version"] == socks.SOCKS5 or each[0] == AF_INET]
        return str((known or addresses)[0][3][0])


class _SocksTLSConnection(_SocksConnection, ScopedTLSConnection):
    pass


class _SocksPool(ScopedPool):
    ConnectionCls = _SocksConnection  # type: ignore[assignment]


class _SocksTLSPool(ScopedTLSPool):
    ConnectionCls = _SocksTLSConnection  # type: ignore[assignment]


SOCKS_POOLS = {"http": _SocksPool, "https": _SocksTLSPool}
