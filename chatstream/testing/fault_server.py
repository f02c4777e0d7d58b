"""Scripts → a Chat Completions server on loopback that sends the bytes, pauses and faults of each script.

A script is a list of steps. Each request is answered by the next script, and when none is left, by the last one.

>>> from chatstream import Client, Provider, StreamTruncated
>>> from chatstream.testing import FaultServer, cut, delta, head, status, text_answer
>>> broken = [head(), delta("Hel"), cut()]
>>> with FaultServer(status(503), text_answer("Hello"), broken) as server:
...     client = Client(Provider("test", server.url), model="any")
...     print(client.stream("Hi").collect().text)
...     print(len(server.requests), server.requests[0].json["model"])
...     try:
...         list(client.stream("Hi"))
...     except StreamTruncated as error:
...         print(error.partial.text, error.retryable)
...     client.close()
Hello
2 any
Hel True

Rules:

- The server speaks HTTP/1.1 with keep-alive on a free port of 127.0.0.1, with TLS if it has a context for it. Each
  connection has a thread.
- A step waits only if its script says so, and every wait ends when the server closes.
- A script that ends without `end`, `cut` or `reset` leaves the response open, and the client waits for the rest.
- A step is a function that takes the `Wire`, so that a test can define its own.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

from .scripts import Script, read_nothing, status
from .wire import ReceivedRequest, ScriptEnded, Wire


class FaultServer:
    """A server that answers each request with the next script; a context manager that closes it.

    ``tls`` is a server-side context, for https. With ``repeat`` the last script answers all further requests; without
    it they are answered with status 400.

    Attributes: ``url`` is the base URL of the server, ``port`` its port, ``requests`` the list of requests received,
    ``connections`` the number of connections accepted. ``changed`` is a `threading.Condition` that is
    notified when a client closes a connection; hold its lock in a step that changes something connections share.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, repeat: bool = True) -> None:
        self.requests: list[ReceivedRequest] = []
        self.connections: int = 0
        self._scripts = list(scripts)
        if not repeat or not scripts:
            self._scripts.append(status(400, "no script is left for this request"))
        self._played = 0
        self._tls = tls
        self._closed: set[int] = set()
        self.changed: threading.Condition = threading.Condition()
        self._closing = threading.Event()
        self._wires: list[Wire] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url: str = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def client_closed(self, connection: int = 1, within: float = 1.0) -> bool:
        """Whether the client closes its ``connection``, counted from 1, ``within`` this many seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: connection in self._closed, within)

    def close(self) -> None:
        """End all connections and threads. A second call does nothing."""
        if not self._closing.is_set():
            self._closing.set()
            with suppress(OSError):  # reset if a client that comes now has woken the thread already
                socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the accepting thread
            self._threads[0].join()
            for wire in self._wires:
                wire.shut_down()
            for thread in self._threads:
                thread.join()

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _accept(self) -> None:
        with self._listener:
            while True:
                sock, _ = self._listener.accept()
                if self._closing.is_set():
                    sock.close()
                    return
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # so that each step is sent at once
                self.connections += 1
                self._wires.append(Wire(sock, self.connections, self._closing))
                self._threads.append(threading.Thread(target=self._serve, args=self._wires[-1:], daemon=True))
                self._threads[-1].start()

    def _serve(self, wire: Wire) -> None:
        with suppress(ScriptEnded):
            try:
                self._answer_requests(wire)
            except (OSError, ValueError):  # the client has closed, perhaps in the middle of a request
                self._record_closed(wire)
        wire.close()

    def _answer_requests(self, wire: Wire) -> None:
        with self.changed:
            script = self._take_script() if self._next_script()[:1] == [read_nothing] else []
        for step in script:
            step(wire)
        if self._tls:
            wire.start_tls(self._tls)
        while True:
            request = wire.receive()
            with self.changed:
                self.requests.append(request)
                script = self._take_script()
            for step in script:
                step(wire)

    def _record_closed(self, wire: Wire) -> None:
        with self.changed:
            self._closed.add(wire.number)
            self.changed.notify_all()

    def _next_script(self) -> Script:
        return list(self._scripts[min(self._played, len(self._scripts) - 1)])

    def _take_script(self) -> Script:
        with self.changed:
            script = self._next_script()
            self._played += 1
            return script
