"""The file of a run as the system sees it: whole lines are appended, and stay whole through a full disk or a crash.

    a line ─append▶ the file, locked for this run, and synced at most once per second

Rules:
- A line is appended by one call of the system, so a killed process leaves at most a torn last line.
- What a full disk leaves of a line is cut off at once, or else before the next line.
- One run has the file at a time. The lock is the system's, and ends with the process however that ends.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import BinaryIO
from weakref import WeakSet

from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from ..errors import ConfigError

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows, where two runs on one file do not notice each other)
    fcntl = None  # type: ignore[assignment]

SYNC_INTERVAL = 1.0  # seconds between two syncs; a crash of the machine loses at most what was written in between
NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP)  # by a pipe or a device
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of Lustre as it is mounted by default, of some NFS
_open_files: WeakSet[LineFile] = WeakSet()


class LineFile:
    """A file to which one run appends lines. Threads share it.

    Raises `ConfigError` if another run has the file, and OSError if it can't be opened or written, or was removed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = ForkSafeLock()
        self._torn = 0  # bytes at the end of the file that are the beginning of a line, for which there was no room
        self._synced_at = monotonic()
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by `close`
        _open_files.add(self)
        try:
            self._acquire()
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        return self._file.closed

    @property
    def is_regular(self) -> bool:
        """Whether it is a file on a disk, and no pipe or device."""
        return stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def _acquire(self) -> None:
        """Lock the file for this run. A file that was replaced meanwhile is another run's, too."""
        taken = f"{self.path} is in use by another run: wait until that ends, or use another file"
        try:
            _lock(self._file)
        except BlockingIOError:
            raise ConfigError(taken) from None
        if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
            raise ConfigError(taken)

    def append(self, line: bytes) -> None:
        """Append a whole line, or nothing. Raises OSError if it can't; what was written before stays whole."""
        with self._lock.current:
            if self._file.closed:  # by the end of the run; its number may be that of another file now
                raise OSError(errno.EBADF, "can't write a result: the run has ended", self.path)
            self._write(line)
            if monotonic() - self._synced_at >= SYNC_INTERVAL:
                self.sync()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            self._cut_off()
            while written < len(data):  # after a part, the next call says what is wrong with the disk
                written += os.write(self._file.fileno(), data[written:])
        except OSError as error:
            self._torn += written
            with suppress(OSError):  # a file system that is full may refuse this, too
                self._cut_off()
            raise OSError(error.errno, f"can't write a result: {error.strerror}", self.path) from error

    def _cut_off(self) -> None:
        if self._torn:
            os.truncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - self._torn)
            self._torn = 0

    def sync(self) -> None:
        """Write everything to the disk. Raises OSError if it can't, or if the file is no longer there."""
        descriptor = self._file.fileno()
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in NOT_SYNCED:
                raise OSError(error.errno, f"can't write the results: {error.strerror}", self.path) from error
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the file of results was removed before the run ended", self.path)
        self._synced_at = monotonic()

    def close(self) -> None:
        """Let other runs have the file."""
        with self._lock.current:
            if fcntl is not None and not self._file.closed:  # pragma: no branch  (not on Windows)
                with suppress(OSError):  # of a file system without locks
                    fcntl.flock(self._file, fcntl.LOCK_UN)  # a child that was forked just now may have it, too
            self._file.close()

    def close_in_child(self) -> None:
        """Close the file in a forked process. The lock stays with the parent."""
        self._file.close()

    def replace(self, copy: Callable[[BinaryIO, BinaryIO], None]) -> None:
        """Replace the file by what ``copy`` makes of the old one in a new one, in one step."""
        path = os.path.realpath(self.path)
        fresh = f"{path}.tmp"
        with ExitStack() as undo:
            undo.callback(_remove, fresh)
            with open(path, "rb") as old, open(fresh, "wb") as new:
                copy(old, new)
                new.flush()
                os.fsync(new.fileno())
            os.chmod(fresh, stat.S_IMODE(os.stat(path).st_mode))
            file = undo.enter_context(open(fresh, "ab", buffering=0))
            _lock(file)
            os.replace(fresh, path)
            undo.pop_all()
        self._file.close()
        self._file = file


def _lock(file: BinaryIO) -> None:
    """Lock a file for this run, where its file system has locks. Raises BlockingIOError if another run has it."""
    if fcntl is not None:  # pragma: no branch  (not on Windows)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)


def _close_in_child() -> None:
    """Close the files of the parent: a worker that survives a killed run would hold their locks."""
    for file in list(_open_files):
        file.close_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
    os.register_at_fork(after_in_child=_close_in_child)
