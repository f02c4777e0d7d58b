"""A SOCKS5 server on loopback (RFC 1928, without authentication): every name is an address of this machine."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


class SocksServer:
    """Forwards connections to the port asked for, whatever the host. A context manager.

    ``destinations`` are the hosts and ports asked for; a host is a name only if the client left the look-up to the
    proxy. A ``silent`` server accepts connections and says nothing.
    """

    def __init__(self, silent: bool = False) -> None:
        self.destinations: list[tuple[str, int]] = []
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if not self._silent:
                    self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            _, methods = _read(client, 2)
            _read(client, methods)
            client.sendall(b"\x05\x00")
            _, _, _, kind = _read(client, 4)
            host = socket.inet_ntoa(_read(client, 4)) if kind == 1 else _read(client, _read(client, 1)[0]).decode()
            port = int.from_bytes(_read(client, 2), "big")
            self.destinations.append((host, port))
            server = socket.create_connection(("127.0.0.1", port))
            self._sockets.append(server)
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            self._spawn(_forward, server, client)
            _forward(client, server)

    def __enter__(self) -> SocksServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(2)


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _forward(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until one side ends; then end the other side, too."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
