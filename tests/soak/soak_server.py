"""The servers of the soak, in a process of their own: what they open and keep is not the client's.

    python soak_server.py ──▶ one line of JSON: the base URLs, and the certificate to trust

Each request says in its field ``soak`` what is to be done with it (`kinds.Order`). For every line on its input the
process says how many connections are open; at the end of its input it goes.
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
from kinds import Order, script_for

from chatstream.testing import Wire
from chatstream.testing.wire import ScriptEnded


class OrderServer:
    """One listener, one thread per connection; plays the script that each request orders."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.open = 0
        self._tls = tls
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number += 1
            self._count(1)
            threading.Thread(target=self._serve, args=[Wire(sock, number, self._closing)], daemon=True).start()

    def _count(self, step: int) -> None:
        with self._lock:
            self.open += step

    def _serve(self, wire: Wire) -> None:
        with suppress(ScriptEnded, OSError, ValueError):  # the script ended it, or the client went
            if self._tls:
                wire.start_tls(self._tls)
            while True:
                order = Order(**wire.receive().json["soak"])
                with self._lock:
                    self._attempts[order.marker] += 1
                    attempt = self._attempts[order.marker]
                for step in script_for(order, attempt):
                    step(wire)
        wire.close()
        self._count(-1)

    def all_gone(self, within: float) -> int:
        """How many connections are open, once there are none or ``within`` so many seconds."""
        ends = monotonic() + within
        while self.open and monotonic() < ends:
            self._closing.wait(0.05)
        return self.open


def main() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    servers = [OrderServer(), OrderServer(context)]
    certificate = authority.cert_pem.bytes().decode()
    print(json.dumps({"urls": [server.url for server in servers], "certificate": certificate}), flush=True)
    for line in sys.stdin:
        print(sum(server.all_gone(float(line)) for server in servers), flush=True)


if __name__ == "__main__":
    main()
