"""A TCP relay: forwards all bytes between clients and a real server, and counts the connections of the clients."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit


class Relay:
    """Listens on loopback and forwards to ``target``, a base URL; when it changes, new connections use the new one.

    ``key`` is what the server requires. ``connections`` counts the connections that clients have opened.
    """

    def __init__(self, base_url: str, key: str | None = None) -> None:
        self.target = base_url
        self.key = key
        self.connections = 0
        self._closed: dict[int, threading.Event] = {}
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._start(self._accept)

    def client_closed(self, connection: int, within: float) -> bool:
        """Whether the client closes its ``connection``, counted from 1, within ``within`` seconds."""
        return self._closed[connection].wait(within)

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._sockets):
            _shut_down(each)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is shut down on exit
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self.connections += 1
                closed = self._closed[self.connections] = threading.Event()
                parts = urlsplit(self.target)
                try:
                    server = socket.create_connection((parts.hostname, parts.port))
                except OSError:
                    _shut_down(client)
                    continue
                self._sockets.append(server)
                self._start(_forward, client, server, closed)
                self._start(_forward, server, client, threading.Event())


def _forward(source: socket.socket, target: socket.socket, ended: threading.Event) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    ended.set()
    _shut_down(source)
    _shut_down(target)


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
