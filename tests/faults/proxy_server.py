"""Proxies on loopback for tests: HTTP CONNECT, with or without TLS, and SOCKS5."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

Negotiate = Callable[[socket.socket], tuple[str, int]]


def http_connect(sock: socket.socket) -> tuple[str, int]:
    """Reads a CONNECT request and accepts it."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(1)
    sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    host, _, port = request.split()[1].decode().rpartition(":")
    return host, int(port)


def socks5(sock: socket.socket) -> tuple[str, int]:
    """Reads the requests of SOCKS5 (RFC 1928), without a password, and accepts them."""
    sock.recv(sock.recv(2)[1])
    sock.sendall(b"\x05\x00")
    kind = sock.recv(4)[3]
    host = socket.inet_ntoa(sock.recv(4)) if kind == 1 else sock.recv(sock.recv(1)[0]).decode()
    (port,) = struct.unpack("!H", sock.recv(2))
    sock.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    return host, port


def socks4(sock: socket.socket) -> tuple[str, int]:
    """Reads a request of SOCKS4 for an address, and accepts it."""
    _, port, address = struct.unpack("!HH4s", sock.recv(8))
    while sock.recv(1) != b"\0":  # the name of the user
        pass
    sock.sendall(b"\0\x5a" + bytes(6))
    return socket.inet_ntoa(address), port


def silent(sock: socket.socket) -> tuple[str, int]:
    """Answers nothing until the client closes."""
    while sock.recv(65536):
        pass
    raise ConnectionError("the client has closed")


class ProxyServer:
    """A proxy that connects every name to 127.0.0.1. ``hosts`` are the names and addresses that clients asked for."""

    def __init__(self, negotiate: Negotiate, tls: ssl.SSLContext | None = None) -> None:
        self.hosts: list[str] = []
        self._negotiate = negotiate
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> ProxyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is shut down at the end
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, IndexError):  # the client has closed
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                self._sockets.append(client)
            host, port = self._negotiate(client)
            self.hosts.append(host)
            server = socket.create_connection(("127.0.0.1", port))
            self._sockets.append(server)
            self._start(_forward, client, server)
            _forward(server, client)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
