"""The body of a response → its bytes, as they arrive, whichever adapter made the response.

    requests.Response ─▶ read1(size) ─▶ bytes, as soon as any arrive; none at the end

Rules:
- A connection of this library is read directly if the body is chunked and not compressed.
- A body that a response hook or a cache has read already is taken from the response.
- Any other response is read as its adapter allows: the scope is checked before and after each read. Its socket, if it
  can be found, gets a timeout, and `cancel` shuts it down.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import requests
import urllib3

from ..errors import ProtocolViolation
from .cancel_scope import CancelScope, shut_down
from .response import Exchange, ScopedResponse

PIECE_SIZE = 4096  # bytes; a response that is not urllib3's may wait until it has as many

Read1 = Callable[[int], bytes]


def own_response(response: requests.Response, exchange: Exchange) -> ScopedResponse | None:
    """What was read from a connection of this library for ``response``; None if it was not, or not to be read again."""
    own = exchange.response
    is_own = own is not None and getattr(response.raw, "_fp", None) is own
    return own if is_own and not _is_consumed(response) else None


def reader(response: requests.Response, own: ScopedResponse | None, scope: CancelScope) -> Read1:
    """The function that reads the body of ``response``."""
    if own is None:
        return UnscopedBody(response, scope).read1
    return own.read1 if own.bare_chunks else partial(response.raw.read1, decode_content=True)


class UnscopedBody:
    """The body of a response that came from another adapter, from a cache or from a mock."""

    def __init__(self, response: requests.Response, scope: CancelScope) -> None:
        self._raw: Any = response.raw
        self._scope = scope
        consumed = _is_consumed(response)
        self._read = _read_kept(response) if consumed else _read_raw(response)
        self._socket = None if consumed else _socket_of(response.raw)
        if self._socket is not None:
            scope.attach(self)  # type: ignore[arg-type]  # it has what the scope calls

    def read1(self, size: int) -> bytes:
        """The next bytes, even if they come after the limit: the scope keeps its error, and the next read raises it."""
        left = self._scope.remaining()
        if self._has_connection():
            with suppress(OSError):  # closed, and what it sent is read already
                self._socket.settimeout(left)  # type: ignore[union-attr]
        data = self._read(size)
        if self._scope.error is not None and not data:  # a connection that was shut down looks as if it had ended
            self._scope.check()
        return data

    def shutdown(self, how: int) -> None:
        """Wake the thread that reads. Called by `CancelScope.cancel`."""
        if self._has_connection():
            shut_down(self._socket)

    def detach(self) -> int:
        """The descriptor, for a child process that inherited it to close; -1 if there is none."""
        return self._socket.detach() if self._has_connection() else -1  # type: ignore[union-attr]

    def _has_connection(self) -> bool:
        """Whether the socket serves this response; after its end it may serve another one."""
        return self._socket is not None and self._raw.connection is not None


def _is_consumed(response: Any) -> bool:
    """Whether a hook or a cache has read the body, or has closed the response before its end."""
    if getattr(response, "_content", False) is not False or getattr(response, "_content_consumed", False):
        return True
    raw = response.raw
    is_closed = response.status_code == 200 and isinstance(raw, urllib3.HTTPResponse) and raw.closed
    return is_closed and raw.headers.get("Content-Length", "1").strip("0") != ""


def _read_kept(response: Any) -> Read1:
    """Read what ``response.text`` or ``response.content`` has kept."""
    return _raise_consumed if response._content is False else io.BytesIO(response.content or b"").read1


def _raise_consumed(size: int) -> bytes:
    raise ProtocolViolation("a response hook of the session has consumed or closed the body")


def _read_raw(response: requests.Response) -> Read1:
    raw: Any = response.raw
    if isinstance(raw, urllib3.HTTPResponse):
        return partial(raw.read1, decode_content=True)
    pieces = response.iter_content(PIECE_SIZE)
    return lambda size: next(pieces, b"")


def _socket_of(raw: Any) -> socket.socket | None:
    """The socket behind urllib3's response, also after http.client has closed the connection on its side."""
    if not isinstance(raw, urllib3.HTTPResponse):
        return None
    found = getattr(getattr(raw, "_sock_shutdown", None), "__self__", None) or getattr(raw.connection, "sock", None)
    return found if isinstance(found, socket.socket) else None
