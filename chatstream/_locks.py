"""A lock that a child process finds free, whoever held it in the parent at the fork."""

from __future__ import annotations

import os
import threading


class ForkSafeLock:
    """A reentrant lock, for ``with``; each process has its own, and so has each copy."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}  # by process

    def __enter__(self) -> None:
        process = os.getpid()
        lock = self._locks.get(process) or self._locks.setdefault(process, threading.RLock())
        lock.acquire()

    def __exit__(self, *error: object) -> None:
        lock = self._locks.get(os.getpid())
        if lock is not None:  # a signal handler may fork inside the block
            lock.release()

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        return ForkSafeLock, ()
