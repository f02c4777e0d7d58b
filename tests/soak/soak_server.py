"""The servers of the soak, in a separate process, so that its sockets and memory are not counted as the client's.

    python soak_server.py ──▶ one line of JSON: the base URLs, and the certificate to trust

The field ``soak`` of a request is the `scenarios.AnswerSpec` of its answer. For every line on its standard input, a
number of seconds, the process prints how many connections are still open; it exits at the end of its input.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from collections import Counter
from contextlib import suppress
from time import monotonic

import trustme
from scenarios import AnswerSpec, script_for

from chatstream.testing import Wire
from chatstream.testing.wire import ScriptEnded


class ScenarioServer:
    """A server with one thread per connection, which plays the script that each request names."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.open_connections = 0
        self._tls = tls
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_until_closed(self, seconds: float) -> int:
        """Wait until no connection is open, for at most ``seconds``; returns how many are open."""
        until = monotonic() + seconds
        while self.open_connections and monotonic() < until:
            self._closing.wait(0.05)
        return self.open_connections

    def _accept(self) -> None:
        number = 0
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number += 1
            self._count(1)
            threading.Thread(target=self._serve, args=[Wire(sock, number, self._closing)], daemon=True).start()

    def _count(self, change: int) -> None:
        with self._lock:
            self.open_connections += change

    def _serve(self, wire: Wire) -> None:
        with suppress(ScriptEnded, OSError, ValueError):  # the script or the client closed the connection
            if self._tls:
                wire.start_tls(self._tls)
            while True:
                spec = AnswerSpec(**wire.receive().json["soak"])
                with self._lock:
                    self._attempts[spec.marker] += 1
                    attempt = self._attempts[spec.marker]
                for step in script_for(spec, attempt):
                    step(wire)
        wire.close()
        self._count(-1)


def main() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    servers = [ScenarioServer(), ScenarioServer(context)]
    certificate = authority.cert_pem.bytes().decode()
    print(json.dumps({"urls": [server.url for server in servers], "certificate": certificate}), flush=True)
    for line in sys.stdin:
        print(sum(server.wait_until_closed(float(line)) for server in servers), flush=True)


if __name__ == "__main__":
    main()
