"""A socket → the connection of a `FaultServer`, as the steps of a script use it.

Rules:
- Every wait ends when the server closes.
- A script can end the connection in every way that TCP and TLS have. The server itself ends it with FIN.
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

POLL_INTERVAL = 0.02  # seconds between two checks whether the client has closed
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that was received. ``headers`` ignore case; ``connection`` is its number, counted from 1."""

    method: str
    path: str
    headers: Message
    body: bytes = field(repr=False)
    connection: int

    @property
    def json(self) -> Any:
        """The value of the body, which is JSON."""
        return json.loads(self.body)


class ScriptEnded(Exception):
    """The server closes, or the script has ended the connection."""


class Wire:
    """A connection: what a step can do.

    ``number`` is the number of the connection, counted from 1; ``framing`` is that of the response in progress, set by
    `head`; ``request`` is the request that is being answered.
    """

    def __init__(self, sock: socket.socket, number: int, closing: threading.Event) -> None:
        self.number = number
        self.framing: str | int = "chunked"
        self.request: ReceivedRequest | None = None
        self._sock = sock
        self._closing = closing

    def send(self, data: bytes) -> None:
        """Send bytes without framing."""
        self._sock.sendall(data)

    def send_body(self, data: bytes) -> None:
        """Send a piece of the body, as one HTTP chunk if the response is chunked."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data) if self.framing == "chunked" else data)

    def wait(self, seconds: float) -> None:
        """Wait this long, or end the script if the server closes."""
        if self._closing.wait(seconds):
            raise ScriptEnded

    def stall(self) -> None:
        """Wait until the client closes. If it sends anything, which is not read, its closing can't be seen."""
        while socket.socket.recv(self._sock, 1, socket.MSG_PEEK):
            self.wait(POLL_INTERVAL)
        raise ConnectionAbortedError

    def hang_up(self, politely: bool = False) -> None:
        """Send FIN, over TLS after a close_notify if ``politely``, and wait until the client closes too."""
        if politely and isinstance(self._sock, ssl.SSLSocket):
            self._sock.setblocking(False)
            with suppress(OSError):  # raised because the client need not send its own close_notify
                self._sock.unwrap()
            self._sock.setblocking(True)
        self._sock.shutdown(socket.SHUT_WR)
        while socket.socket.recv(self._sock, 65536):
            pass
        raise ConnectionAbortedError

    def reset(self) -> None:
        """Send RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        raise ScriptEnded

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the handshake of TLS as a server."""
        self._sock = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        if self._closing.is_set():  # `shut_down` may have found the socket that this one replaces
            raise ScriptEnded
        self._sock.do_handshake()

    def receive(self) -> ReceivedRequest:
        """Read the next request with its body. Raises `ConnectionError` if the client closes instead."""
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

    @property
    def received(self) -> ReceivedRequest:
        """The request that is being answered, for a step that runs after one."""
        return self.request  # type: ignore[return-value]

    def shut_down(self) -> None:
        """Wake the thread that reads from this connection."""
        with suppress(OSError):  # closed already
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
