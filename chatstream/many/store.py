"""The file of a run: results → lines of JSON that survive a killed process, and lines → the results of an earlier run.

    Result ─write▶ one line, appended at once                a key and its request ─find▶ the answer of an earlier run

Rules:
- A line is appended by one call of the system, so a killed process leaves at most a torn last line. It is cut off, and
  its prompt is asked again. What is written is on the disk a second later.
- Each key has one line. An error is replaced on resuming: its line is taken out, and its prompt is asked again.
- One run writes to a file at a time. The lock is the system's, and ends with the process however that ends.
- Nothing is cut off or taken out of a file that has a line which is no result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from ..errors import ConfigError
from .batch import ID, decode_batch, encode_batch
from .result import LINE_STARTS, Result, decode_result, dump, encode_result, load
from .tasks import Task

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows, where two runs on one file do not notice each other)
    fcntl = None  # type: ignore[assignment]

SYNC_INTERVAL = 1.0  # seconds between two syncs; a crash of the machine loses at most what was written in between
_open_stores: WeakSet[Store] = WeakSet()


class Store:
    """The results in a file, open for one run. Shared by threads.

    Raises `ConfigError` if another run has the file, if it is no file of results, or if it has some and ``resume`` is
    false; and OSError if it can't be opened, read or written.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = True) -> None:
        self.path: str = os.fspath(path)
        self._lock = ForkSafeLock()
        self._offsets: dict[int, int] = {}  # where the line of a key begins, by the hash of the key
        self._keys: set[int] = set()  # of this run
        self._synced_at = monotonic()
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115  # closed by `close`
        _open_stores.add(self)
        try:
            self._acquire()
            failed = self._read()
            if self._size and not resume:
                raise ConfigError(f"{self.path} already has results: continue with resume=True, or use another file")
            if failed:
                self._take_out(failed)
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        """Lock the file for this run. A file that was replaced meanwhile is another run's, too."""
        taken = f"{self.path} is in use by another run: wait until that ends, or use another file"
        if fcntl is not None:  # pragma: no branch  (not on Windows)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(taken) from None
        if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
            raise ConfigError(taken)

    def _read(self) -> set[int]:
        """Index the lines and cut off a torn one. Returns where the lines of errors begin."""
        self._size, failed, torn = 0, set[int](), b""
        with open(self.path, "rb") as file:
            for number, data in enumerate(file, 1):
                if data.endswith(b"\n"):
                    if self._index(data, number):
                        failed.add(self._size)
                    self._size += len(data)
                else:
                    torn = data
        if torn:
            if not any(torn[: len(start)] == start[: len(torn)] for start in LINE_STARTS):
                raise ConfigError(f"{self.path} is not a file of results: its last line is incomplete")
            os.truncate(self.path, self._size)
        return failed

    def _index(self, data: bytes, number: int) -> bool:
        """Note a line. Whether it is that of an error."""
        try:
            line = load(data)
            key, _, answered = _parts(line)
        except ConfigError as error:
            raise ConfigError(f"{self.path} is not a file of results: line {number}: {error}") from None
        if answered:
            self._offsets[_number(key)] = self._size
        return not answered

    def _take_out(self, failed: set[int]) -> None:
        """Replace the file by one without the lines that begin at these places, in one step."""
        fresh = f"{self.path}.tmp"
        moved, size, before = dict[int, int](), 0, 0
        with open(self.path, "rb") as old, open(fresh, "wb") as new:
            for data in old:
                if before not in failed:
                    new.write(data)
                    moved[before] = size
                    size += len(data)
                before += len(data)
            new.flush()
            os.fsync(new.fileno())
        self._offsets = {key: moved[at] for key, at in self._offsets.items()}
        old_file, self._file = self._file, open(fresh, "a+b", buffering=0)  # noqa: SIM115
        if fcntl is not None:  # pragma: no branch
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.replace(fresh, self.path)
        old_file.close()
        self._size = size

    def claim(self, task: Task) -> tuple[Task, Result | None]:
        """The task with a key of its own, and the answer that an earlier run has written for it, if any.

        Raises `ConfigError` if the id was given before, or if the file has another request under it.
        """
        key, copies = task.key, 1
        while _number(key) in self._keys:
            if task.key != task.request:
                raise ConfigError(f"the id {task.key!r} is used twice: each prompt of a run needs its own id")
            copies += 1
            key = f"{task.key}-{copies}"  # the same request without an id may be made several times
        self._keys.add(_number(key))
        return Task(task.index, key, task.request, task.prompt, task.fields, task.batch), self._find(key, task)

    def _find(self, key: str, task: Task) -> Result | None:
        at = self._offsets.get(_number(key))
        if at is None:
            return None
        with open(self.path, "rb") as file:
            file.seek(at)
            line = load(file.readline())
        _, request, _ = _parts(line)
        if request != task.request:
            raise ConfigError(
                f"{self.path} has an answer to another request under the id {key!r}: it belongs to another run"
            )
        found = decode_batch(line) if "custom_id" in line else decode_result(line)
        return Result(key, task.index, found.turn, None, (), found.started, found.seconds, True)

    def write(self, result: Result, task: Task) -> None:
        """Append the line of a result. Raises OSError if the disk is full; what was written before stays whole."""
        data = dump((encode_batch if task.batch else encode_result)(result, task.request))
        with self._lock.current:
            try:
                written = os.write(self._file.fileno(), data)
                if written < len(data):  # the disk is full, which the next call says
                    os.write(self._file.fileno(), data[written:])
            except OSError as error:
                with suppress(OSError):
                    os.truncate(self._file.fileno(), self._size)
                raise OSError(error.errno, f"can't write a result: {error.strerror}", self.path) from error
            self._size += len(data)
            if monotonic() - self._synced_at >= SYNC_INTERVAL:
                self._sync()

    def _sync(self) -> None:
        with suppress(OSError):  # a pipe or a device can't be synced
            os.fsync(self._file.fileno())
        self._synced_at = monotonic()

    def close(self) -> None:
        """Write everything to the disk, and let other runs have the file. May be called twice."""
        if not self._file.closed:
            self._sync()
            self._file.close()


def _parts(line: Mapping[str, Any]) -> tuple[str, str, bool]:
    """The key of a line, the hash of its request, and whether it has an answer. Raises `ConfigError`."""
    key: Any
    request: Any
    if "custom_id" in line:
        response = line.get("response")
        answered = isinstance(response, Mapping) and response.get("status_code") == 200
        key, request = line["custom_id"], str(line.get("id", "")).removeprefix(ID)
    else:
        key, request, answered = line.get("key"), line.get("request"), "turn" in line
    if not (isinstance(key, str) and isinstance(request, str)):
        raise ConfigError("it has no key, or no hash of a request")
    return key, request, answered


def _number(key: str) -> int:
    """A number for a key: millions of them take less memory than the keys."""
    return hash(key)


def _close_in_child() -> None:
    """Close the files of the parent: a worker that survives a killed run would hold their locks."""
    for store in list(_open_stores):
        store._file.close()


if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
    os.register_at_fork(after_in_child=_close_in_child)
