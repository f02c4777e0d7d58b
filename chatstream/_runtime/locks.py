"""A lock that is free in a child process, even if a thread of the parent held it at the fork."""

from __future__ import annotations

import os
import threading


class ForkSafeLock:
    """A reentrant lock for each process, and for each copy: ``with lock.current``."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}  # by process

    @property
    def current(self) -> threading.RLock:
        """The lock of this process.

        ``with`` takes and releases it in C, so that no exception of a signal handler or of another thread leaves it
        taken. That could happen inside an ``__enter__`` in Python.
        """
        process = os.getpid()
        return self._locks.get(process) or self._locks.setdefault(process, threading.RLock())

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        return ForkSafeLock, ()
