"""The deadline, the timeouts and the cancellation of one call.

    connecting · sending · waiting · reading · sleeping ──before each wait──▶ CancelScope.remaining()

Rules:
- Code that waits asks for the remaining time just before it waits, so a slow trickle of bytes extends no limit.
- The first reason to stop becomes `error`. It is kept, and is the error that every later check raises.
- `cancel` may be called from any thread; it wakes the waiting thread by shutting the socket down.
- Only the monotonic clock counts: the wall clock may jump.
- A call belongs to the process that began it: a child that inherited it reads nothing and shuts nothing down.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from weakref import ref

from .._runtime import process
from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from ..errors import Cancelled, ChatStreamError, ConfigError, DeadlineExceeded
from .announcing import WaitAnnouncer

LONGEST_WAIT = 86400.0  # seconds; a longer wait is made in several parts, so that no poll overflows
INHERITED = "the stream belongs to the process that opened it: open one in each process, after the fork"

MakeError = Callable[[], ChatStreamError]


class CancelScope:
    """The time of one call, over all its attempts. ``deadline`` is in seconds from now, None for no limit."""

    __slots__ = (
        "__weakref__",
        "_end",
        "_error",
        "_lock",
        "_make_error",
        "_process",
        "_timeout_at",
        "_waking",
        "cancelled",
        "deadline",
        "socket",
        "started",
        "waits",
    )

    def __init__(self, deadline: float | None = None) -> None:
        self.started: float = monotonic()
        self.cancelled: bool = False
        self._error: ChatStreamError | None = None
        self.deadline: float = math.inf if deadline is None else self.started + checked_seconds("deadline", deadline)
        self._timeout_at = math.inf
        self._end = self.deadline  # the earlier of the two
        self._make_error: MakeError = DeadlineExceeded
        self._waking = threading.Lock()  # released to wake `sleep`
        self._waking.acquire()
        self._lock = ForkSafeLock()  # reentrant: a signal handler may cancel the thread that it interrupts
        self._process = process.pid
        self.socket: SocketHolder = SocketHolder()
        self.waits: WaitAnnouncer = WaitAnnouncer(self.started)

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return monotonic() - self.started

    @property
    def error(self) -> ChatStreamError | None:
        """Why to stop, decided earlier or now; None if there is no reason. Does not raise it."""
        if self._error is None and self._end <= monotonic():
            self._stop(self._expired())
        return self._error

    def reset(self) -> None:
        """Forget an error and a timeout of one attempt; the deadline and a cancellation still hold."""
        with self._lock.current:
            self._error = None
            self._timeout_at, self._end = math.inf, self.deadline
            if self.cancelled:
                self._stop(Cancelled("the stream was cancelled"))

    def set_timeout(self, seconds: float, make_error: MakeError, began: float | None = None) -> None:
        """Allow ``seconds`` from ``began`` (now by default); ``make_error`` makes the error for when they are over."""
        self._make_error = make_error
        self._timeout_at = timeout_at = (monotonic() if began is None else began) + seconds
        self._end = timeout_at if timeout_at < self.deadline else self.deadline

    @contextmanager
    def limit(self, seconds: float, make_error: MakeError) -> Iterator[None]:
        """Allow the block ``seconds``, unless the timeout in force ends before."""
        outer = self._timeout_at, self._end, self._make_error
        if monotonic() + seconds < self._timeout_at:
            self.set_timeout(seconds, make_error)
        try:
            yield
        finally:
            self._timeout_at, self._end, self._make_error = outer

    def exclude(self, seconds: float) -> None:
        """Do not count ``seconds`` that the caller spent in its own code against the timeout."""
        self._timeout_at += seconds
        self._end = min(self._timeout_at, self.deadline)

    def remaining(self) -> float:
        """Seconds that one wait may take now, a day at most. Raises `error` when none are left."""
        left = self._end - monotonic()
        if self._error is not None or left <= 0:
            raise self._stop(self._expired())
        return left if left < LONGEST_WAIT else LONGEST_WAIT

    def next_wait(self) -> float:
        """Seconds that one wait may take before it asks again; ``on_wait`` may be called. Raises `error` if none."""
        left = self.remaining()
        return self.waits.share(left, self.exclude) if self.waits.active else left

    def check(self) -> None:
        """Raise `error` if one was decided, and `ConfigError` in a process that inherited the call."""
        if self._error is not None:
            raise self._error
        if self._process != process.pid:
            raise self._stop(ConfigError(INHERITED))

    def check_cancelled(self) -> None:
        """Raise `Cancelled` after `cancel`, but nothing for another reason to stop."""
        if self.cancelled:
            raise Cancelled("the stream was cancelled")

    @property
    def interrupted(self) -> bool:
        """Whether the call was cancelled or its deadline passed; a timeout of reading does not count here."""
        return self._error is not None or self.deadline <= monotonic()

    def check_time_for(self, seconds: float, until: str = "the next attempt") -> None:
        """Raise at once if the deadline comes before ``seconds`` are over, which is when ``until`` comes."""
        self.check()
        if monotonic() + seconds >= self.deadline:
            raise self._stop(DeadlineExceeded(f"the deadline would pass before {until}, due in {seconds:.3g} s"))

    def sleep(self, seconds: float) -> None:
        """Sleep; `cancel` ends it early, and it raises then."""
        left, end = seconds, monotonic() + seconds
        while not self.cancelled and left > 0:
            self._waking.acquire(timeout=self.waits.share(left, self.exclude) if self.waits.active else left)
            left = end - monotonic()
        self.check()

    def _expired(self) -> ChatStreamError:
        if self.deadline > monotonic():
            return self._make_error()
        return DeadlineExceeded(f"the deadline of {self.deadline - self.started:.3g} s for all attempts has passed")

    def _stop(self, error: ChatStreamError) -> ChatStreamError:
        with self._lock.current:
            self._error = self._error or error
        return self._error

    @property
    def inherited(self) -> bool:
        """Whether a parent of this process began the call."""
        return self._process != process.pid

    def attach(self, sock: socket.socket | None, owned: bool = False) -> None:
        """Remember ``sock`` as the one that `cancel` shuts down; see `SocketHolder`."""
        self.socket.replace(sock, owned)
        if sock is not None:
            self.check()

    def cancel(self) -> None:
        """End the call; a thread that waits for it wakes at once. May be called twice, and from any thread."""
        if self.inherited:
            return
        with self._lock.current:
            self._stop(Cancelled("the stream was cancelled"))
            self.cancelled = True  # last: a thread that sees it raises the error
        with suppress(RuntimeError):  # released already
            self._waking.release()
        self.socket.shut_down()


class SocketHolder:
    """The socket that a call waits for. An ``owned`` one belongs to nobody else, and is closed when it is replaced."""

    __slots__ = ("_lock", "_owned", "_socket")

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._socket: socket.socket | None = None
        self._owned = False

    def replace(self, sock: socket.socket | None, owned: bool = False) -> None:
        """Hold another socket, or none."""
        with self._lock.current:
            if self._owned and self._socket is not None:
                self._socket.close()
            self._socket, self._owned = sock, owned

    def release(self) -> None:
        """Close the socket if it is owned; one that belongs to a connection stays."""
        if self._owned:
            self.replace(None)

    def shut_down(self) -> None:
        """Wake the thread that waits for the socket."""
        with self._lock.current:
            if self._socket is not None:
                shut_down(self._socket)

    def close_inherited(self) -> None:
        """Close this process's descriptor, and nothing above it: a parent's thread may hold its locks."""
        if self._socket is not None and (descriptor := _with_method(self._socket, "detach").detach()) >= 0:
            os.close(descriptor)


class Cancellable(Protocol):
    """A `CancelScope`, or a client with calls of its own."""

    def cancel(self) -> None: ...


class RunningCalls:
    """The calls that run now, so that all of them can be cancelled. Does not keep them alive. Threads may share it."""

    def __init__(self) -> None:
        self._references: set[ref[Cancellable]] = set()  # a WeakSet can't be listed while other threads add to it

    def __len__(self) -> int:
        return len(self._references)

    def add(self, call: Cancellable) -> None:
        self._references.add(ref(call, self._references.discard))

    def discard(self, call: Cancellable) -> None:
        self._references.discard(ref(call))

    def cancel(self) -> None:
        """Cancel every call, from any thread."""
        for call in filter(None, [reference() for reference in self._references.copy()]):
            call.cancel()


def checked_seconds(name: str, seconds: float) -> float:
    """The option of this name if it is a time. Raises `ConfigError`."""
    if not (isinstance(seconds, (int, float)) and seconds > 0) or seconds is True:
        raise ConfigError(f"{name} must be a number of seconds above 0, not {seconds!r}")
    return seconds


def shut_down(sock: Any) -> None:
    """Wake the thread that uses the socket.

    An SSLSocket's own ``shutdown`` also forgets the TLS state, and a thread that is about to read would get encrypted
    bytes.
    """
    sock = _with_method(sock, "shutdown")
    ssl = sys.modules.get("ssl")
    plain: Any = super(ssl.SSLSocket, sock) if ssl is not None and isinstance(sock, ssl.SSLSocket) else sock
    with suppress(OSError):  # closed already, or never connected
        plain.shutdown(socket.SHUT_RDWR)


def _with_method(sock: Any, name: str) -> Any:
    """The socket itself, or the one of the proxy inside urllib3's SSLTransport, which is no socket (TLS inside TLS)."""
    while not hasattr(sock, name):
        sock = sock.socket
    return sock
