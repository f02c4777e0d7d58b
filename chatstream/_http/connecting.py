"""A host name → a connected socket, within the limits of a cancel scope.

    host, port ─resolve▶ addresses ─connect_any, one after the other▶ socket

Rules:
- Neither a resolver that does not answer nor an address that does not keeps the caller beyond its limits.
- The time left is shared out over the addresses, so that a good one behind silent ones is still reached.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

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
    except (OSError, UnicodeError):
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
        thread.join(min(LOOKUP_POLL, scope.remaining()))
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
            if caused_by_signal_handler(error):
                raise
            failure = error
    raise failure
