"""Imports on first use, and forks: a fork waits until no thread is inside ``with imports():``.

The import system has a lock for each module, which stays held in a child whose parent was importing in another thread.
"""

from __future__ import annotations

import os
from _thread import RLock, get_ident  # `threading` takes longer to import than this package
from time import sleep

_preparing, _importing = RLock(), RLock()
_hooked: list[RLock] = []  # locks that forks take
_forks: list[tuple[int, RLock]] = []  # threads that fork, with the locks that they have or wait for
_ready: list[bool] = []


def imports() -> RLock:
    """The lock to hold around imports on first use.

    Hooks of forks run in reverse order, and the hook of logging takes the lock that each `getLogger` needs: a fork that
    has it must not wait for imports. So logging is imported first, and the hook of this lock is registered after it.
    """
    if not _ready:
        with _preparing:
            if _importing not in _hooked:
                import logging  # noqa: F401

                _take_in_forks(_importing)
        while _forks:  # one that began before does not take the lock
            sleep(0.001)
        _ready.append(True)
    return _importing


def _take_in_forks(lock: RLock) -> None:
    def before() -> None:
        _forks.append((get_ident(), lock))
        lock.acquire()

    def after() -> None:
        if (get_ident(), lock) in _forks:  # otherwise this hook was registered while the fork was under way
            _forks.remove((get_ident(), lock))
            lock.release()

    def after_in_child() -> None:
        _forks[:] = [each for each in _forks if each[0] == get_ident()]  # the child has no other thread
        after()

    _hooked.append(lock)
    if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)


_take_in_forks(_preparing)
