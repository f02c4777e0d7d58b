"""The clock and the cancel switch of one call.

    connecting · sending · waiting · reading · sleeping ──all ask──▶ Watch.remaining()

Rules:
- Whoever waits asks for the time that is left just before it waits, so drips and comments extend nothing.
- The first reason to stop is the verdict; it is kept, and everyone who asks later gets the same.
- `cancel` may come from any thread; it wakes whoever waits by shutting the socket down.
- Only the monotonic clock counts: the wall clock may jump.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from ..errors import Cancelled, ChatStreamError, ConfigError, DeadlineExceeded

LONGEST_WAIT = 86400.0  # seconds; whoever waits longer asks again, and no poll overflows


class Watch:
    """Keeps the time of one call, over all its attempts. ``deadline`` is in seconds from now, None for no end."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_deadline",
        "_end",
        "_expiry",
        "_lock",
        "_owned",
        "_socket",
        "_until",
        "_verdict",
        "started",
    )

    def __init__(self, deadline: float | None = None) -> None:
        if deadline is not None and not (isinstance(deadline, (int, float)) and deadline > 0):
            raise ConfigError(f"deadline is a number of seconds above 0, not {deadline!r}")
        self.started = monotonic()
        self._verdict: ChatStreamError | None = None
        self._deadline = math.inf if deadline is None else self.started + deadline
        self._until = math.inf
        self._end = self._deadline  # the nearer of the two
        self._expiry: Callable[[], ChatStreamError] = DeadlineExceeded
        self._cancelled = threading.Event()
        self._lock = threading.RLock()  # a signal handler may cancel the thread it interrupts
        self._socket: socket.socket | None = None
        self._owned = False

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return monotonic() - self.started

    @property
    def verdict(self) -> ChatStreamError | None:
        """Why to stop, as decided before or now; None if there is no reason. Does not raise it."""
        if self._verdict is None and self._end <= monotonic():
            self._decide(self._too_late())
        return self._verdict

    def renew(self) -> None:
        """Forget a verdict that concerned one attempt only: the deadline and `cancel` find theirs again."""
        with self._lock:
            self._verdict = None
            self._until, self._end = math.inf, self._deadline
            if self._cancelled.is_set():
                self._decide(Cancelled("the stream was cancelled"))

    def allow(self, seconds: float, expiry: Callable[[], ChatStreamError]) -> None:
        """From now on wait at most ``seconds`` more; ``expiry`` makes the error when they are over."""
        self._expiry = expiry
        self._until = until = monotonic() + seconds
        self._end = until if until < self._deadline else self._deadline

    def extend(self, seconds: float) -> None:
        """Do not count ``seconds`` that the caller took for itself."""
        self._until += seconds
        self._end = min(self._until, self._deadline)

    def remaining(self) -> float:
        """Seconds that one wait may take now, a day at most. Raises the verdict when there are none, or after
        `cancel`."""
        left = self._end - monotonic()
        if self._verdict is not None or left <= 0:
            raise self._decide(self._too_late())
        return left if left < LONGEST_WAIT else LONGEST_WAIT

    def check(self) -> None:
        """Raise the verdict if there is one."""
        if self._verdict is not None:
            raise self._verdict

    def _too_late(self) -> ChatStreamError:
        return DeadlineExceeded("the deadline passed") if self._deadline <= monotonic() else self._expiry()

    def _decide(self, verdict: ChatStreamError) -> ChatStreamError:
        with self._lock:
            self._verdict = self._verdict or verdict
        return self._verdict

    def check_time_for(self, seconds: float) -> None:
        """Raise at once if the deadline comes before ``seconds`` are over."""
        self.check()
        if monotonic() + seconds >= self._deadline:
            raise self._decide(DeadlineExceeded(f"the deadline comes before the next attempt, in {seconds:.3g} s"))

    def sleep(self, seconds: float) -> None:
        """Sleep; wakes on `cancel` and raises then."""
        self._cancelled.wait(seconds)
        self.check()

    def attach(self, sock: socket.socket | None, owned: bool = False) -> None:
        """Remember the socket that `cancel` shuts down, and close the one before if it was ``owned``."""
        with self._lock:
            if self._owned and self._socket is not None:
                self._socket.close()
            self._socket, self._owned = sock, owned
        if sock is not None:
            self.check()

    def release(self) -> None:
        """Close the socket that only this watch holds; one that a connection holds stays known."""
        if self._owned:
            self.attach(None)

    def cancel(self) -> None:
        """End the call; a thread that waits for it wakes at once. May be called twice, and from any thread."""
        self._cancelled.set()
        with self._lock:
            self._decide(Cancelled("the stream was cancelled"))
            if self._socket is not None:
                with suppress(OSError):  # closed already, or never connected
                    self._socket.shutdown(socket.SHUT_RDWR)
