"""A host name → a connected socket, within the limits of a cancel scope.

    host, port ─resolve▶ addresses ─connect_any, one after the other▶ socket

Rules:
- Neither a resolver that does not answer nor an address that does not keeps the caller beyond its limits.
- The time left is shared out over the addresses, so that a good one behind silent ones is still reached.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from urllib3.util import wait_for_write

from .._runtime.clock import monotonic
from .callers import caused_by_signal_handler
from .cancel_scope import CancelScope

LOOKUP_POLL = 0.02  # seconds between two looks at the scope during a lookup
Address = tuple[int, int, int, Any]  # family, type, protocol, and the address of that family


def resolve(host: str, port: int | None, scope: CancelScope) -> list[Address]:
    """The addresses of a host; raises ``OSError`` or ``UnicodeError`` if it has none.

    ``getaddrinfo`` can't be interrupted. A name is therefore looked up in a thread, which is left behind when the time
    of the scope is over.
    """
    try:
        return _lookup(host, port, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass  # a name
    results: list[list[Address]] = []
    failures: list[BaseException] = []

    def look_up() -> None:
        try:
            results.append(_lookup(host, port))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=look_up, name="chatstream-resolver", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter exits, or the process may have no more threads
        look_up()
    while thread.is_alive():
        thread.join(min(LOOKUP_POLL, scope.next_wait()))
    if failures:
        raise failures[0]
    return results[0]


def _lookup(host: str, port: int | None, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags)
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]


def connect_any(
    addresses: Sequence[Address], scope: CancelScope, connect: Callable[[Address, float], socket.socket]
) -> socket.socket:
    """The first socket that ``connect``, given an address and the seconds that it may take, returns."""
    failure = OSError("the name has no address")
    for position, address in enumerate(addresses):
        try:
            return connect(address, scope.remaining() / (len(addresses) - position))
        except OSError as error:
            scope.check()
            if caused_by_signal_handler(error) or error is scope.waits.raised:
                raise
            failure = error
    raise failure


def connect_within(sock: socket.socket, address: Any, seconds: float, scope: CancelScope) -> None:
    """Connect ``sock`` within ``seconds``, and ask the scope again and again. Raises ``OSError``."""
    end = monotonic() + seconds
    sock.settimeout(min(seconds, scope.next_wait()))
    try:
        sock.connect(address)
    except TimeoutError as error:  # the system goes on connecting
        if caused_by_signal_handler(error):
            raise
        wait_to_write(sock, end, scope)
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def wait_to_write(sock: Any, end: float, scope: CancelScope) -> None:
    """Wait until ``sock`` takes bytes. Raises ``TimeoutError`` at ``end``, a time of the monotonic clock."""
    while not wait_for_write(sock, min(max(end - monotonic(), 0.0), scope.next_wait())):
        if monotonic() >= end:
            raise TimeoutError("timed out")
