"""One connection of a `FaultServer`, as a step of a script sees it.

Rules:
- Whoever waits here wakes when the server closes.
- A script may end the connection in any way that TCP and TLS know; the server only ever ends it politely.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import parse_headers
from typing import Any

CLIENT_POLL = 0.02  # seconds between two looks at a client whose bytes nobody reads
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as it came; ``headers`` in any case, ``connection`` counts from 1."""

    method: str
    path: str
    headers: Message
    body: bytes = field(repr=False)
    connection: int

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Over(Exception):
    """The script ended this connection itself."""


class Wire:
    """One connection, as a step sees it."""

    def __init__(self, sock: socket.socket, number: int, closing: threading.Event) -> None:
        self.number = number
        self.framing: str | int = "chunked"  # of the answer under way; set by `head`
        self.request: ReceivedRequest | None = None  # the one that is being answered
        self._sock = sock
        self._closing = closing

    def send(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self._sock.sendall(data)

    def send_body(self, data: bytes) -> None:
        """A piece of the answer's body: one HTTP chunk where the answer is chunked."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data) if self.framing == "chunked" else data)

    def wait(self, seconds: float) -> None:
        """Wait, unless the server closes."""
        if self._closing.wait(seconds):
            raise Over

    def stall(self) -> None:
        """Wait until the client goes; what it sends stays unread, and hides its leaving until the server closes."""
        while socket.socket.recv(self._sock, 1, socket.MSG_PEEK):
            self.wait(CLIENT_POLL)
        raise ConnectionAbortedError

    def hang_up(self, politely: bool = False) -> None:
        """Send FIN, over TLS with a close_notify before it only if ``politely``; then wait for the client's."""
        if politely and isinstance(self._sock, ssl.SSLSocket):
            self._sock.setblocking(False)
            with suppress(OSError):  # it wants to read the client's, which need not come
                self._sock.unwrap()
            self._sock.setblocking(True)
        self._sock.shutdown(socket.SHUT_WR)
        while socket.socket.recv(self._sock, 65536):
            pass
        raise ConnectionAbortedError

    def reset(self) -> None:
        """Send RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        raise Over

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._sock = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock.do_handshake()

    def receive(self) -> ReceivedRequest:
        """The next request, whole. Raises `ConnectionError` when the client goes instead."""
        with self._sock.makefile("rb") as file:
            line = file.readline()
            if not line:
                raise ConnectionAbortedError
            method, path, _ = line.decode("latin-1").split(" ", 2)
            headers = parse_headers(file)
            length = int(headers.get("Content-Length") or 0)
            body = file.read(length)
            if len(body) < length:
                raise ConnectionAbortedError
        self.request = ReceivedRequest(method, path, headers, body, self.number)
        return self.request

    def shut(self) -> None:
        with suppress(OSError):  # gone already
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()
