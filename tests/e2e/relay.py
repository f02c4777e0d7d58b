"""A wire with a counter: hands every byte on between clients and a real server, and tells of their connections."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit


class Relay:
    """Listens on loopback for ``base_url``; set another one, and new connections go there.

    ``connections`` counts those that clients opened, `client_closed` waits until one of them has been closed.
    """

    def __init__(self, base_url: str) -> None:
        self.target = base_url
        self.connections = 0
        self._closed: dict[int, threading.Event] = {}
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._start(self._accept)

    def client_closed(self, connection: int, within: float) -> bool:
        """Whether the client closes its ``connection`` (they count from 1) within so many seconds."""
        return self._closed[connection].wait(within)

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._sockets):
            _shut(each)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # shut at the end
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self.connections += 1
                gone = self._closed[self.connections] = threading.Event()
                parts = urlsplit(self.target)
                try:
                    server = socket.create_connection((parts.hostname, parts.port))
                except OSError:
                    _shut(client)
                    continue
                self._sockets.append(server)
                self._start(_hand_on, client, server, gone)
                self._start(_hand_on, server, client, threading.Event())


def _hand_on(source: socket.socket, target: socket.socket, ended: threading.Event) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    ended.set()
    _shut(source)
    _shut(target)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
