"""The file of a run: results → lines of JSON that survive a killed process, and lines → the results of an earlier run.

    Result ─write▶ one line, appended at once                a key and its request ─find▶ the answer of an earlier run

Rules:
- A torn last line is cut off, and its prompt is asked again. One that only lacks its end gets it.
- Each key has one line. An error is replaced on resuming: its line is taken out, and its prompt is asked again.
- Nothing is cut off or taken out of a file that has a line which is no result.
- A pipe or a device is written to, and never read.
"""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO

from .._http.callers import caused_by_signal_handler
from ..errors import ConfigError
from .batch import ID, decode_batch, encode_batch
from .index import Index
from .line_file import LineFile
from .result import LINE_STARTS, Result, decode_result, dump, encode_result, load
from .tasks import Task


class Store:
    """The results in a file, open for one run: a context manager. Threads share it.

    Raises `ConfigError` if another run has the file, if it is no file of results, or if it has some and ``resume`` is
    false; and OSError if it can't be opened, read or written, or was removed before the run ends.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = True) -> None:
        self.path: str = os.fspath(path)
        self._index = Index()
        self._file = LineFile(self.path)
        self._lines: BinaryIO | None = None  # the same file for reading
        try:
            if self._file.is_regular:
                self._read(resume)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write everything to the disk, and let other runs have the file."""
        try:
            if not self._file.closed:  # as it is in a child process
                self._file.sync()
        except OSError:
            if kind is None:  # otherwise the run ends with its own error
                raise
        finally:
            self._file.close()
            if self._lines is not None:
                self._lines.close()

    def _read(self, resume: bool) -> None:
        """Index the lines, cut off a torn one, and take out those of errors."""
        size, failed, line, torn = 0, False, b"", b""
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if _is_whole(line):
                    failed |= not self._note(line, size, number)
                    size += len(line)
                else:
                    torn = line
        if torn and not _is_torn(torn):
            raise ConfigError(f"{self.path} is not a file of results: its last line is incomplete")
        if size and not resume:
            raise ConfigError(f"{self.path} already has results: continue with resume=True, or use another file")
        if torn:
            os.truncate(self.path, size)
        elif line and not line.endswith(b"\n"):
            self._file.append(b"\n")
        if failed:
            self._file.replace(self._copy_answers)
        self._lines = open(self.path, "rb")  # noqa: SIM115

    def _note(self, data: bytes, place: int, number: int) -> bool:
        """Index the line that begins at ``place``, unless it is that of an error. Whether it was indexed."""
        try:
            key, _, answered = _parts(load(data))
        except ConfigError as error:
            raise ConfigError(f"{self.path} is not a file of results: line {number}: {error}") from None
        if answered:
            self._index.put(key, place)
        return answered

    def _copy_answers(self, old: BinaryIO, new: BinaryIO) -> None:
        """Copy the lines with an answer, and index them anew."""
        self._index = Index()
        size = 0
        for number, line in enumerate(old, 1):
            if self._note(line, size, number):
                new.write(line)
                size += len(line)

    def claim(self, task: Task) -> tuple[Task, Result | None]:
        """The task with a key of its own, and the answer that an earlier run has written for it, if any.

        Raises `ConfigError` if the id was given before, or if the file has another request under it.
        """
        key, copies = task.key, self._index.claim(task.key)
        if copies and key != task.request:
            raise ConfigError(f"the id {key!r} is used twice: each prompt of a run needs its own id")
        while copies and self._index.claim(key := f"{task.key}-{copies + 1}"):
            copies += 1  # past an id of the caller's
        if copies:  # the same request without an id may be made several times
            task = Task(task.index, key, task.request, task.prompt, task.fields, task.batch)
        return task, self._find(task)

    def _find(self, task: Task) -> Result | None:
        place = self._index.place(task.key)
        if place is None or self._lines is None:
            return None
        self._lines.seek(place)
        line = load(self._lines.readline())
        _, request, _ = _parts(line)
        if request != task.request:
            raise ConfigError(
                f"{self.path} has an answer to another request under the id {task.key!r}: it belongs to another run"
            )
        try:
            found = decode_batch(line) if "custom_id" in line else decode_result(line)
        except Exception as error:  # the line has been changed, or a newer version of this library has written it
            if caused_by_signal_handler(error):
                raise
            raise ConfigError(f"{self.path} has an answer under {task.key!r} that can't be read: {error}") from None
        return Result(task.key, task.index, found.turn, None, (), found.started, found.seconds, True)

    def write(self, result: Result, task: Task) -> None:
        """Append the line of a result. Raises OSError if it can't; what was written before stays whole."""
        self._file.append(dump((encode_batch if task.batch else encode_result)(result, task.request)))


def _is_whole(line: bytes) -> bool:
    """Whether a line is more than the beginning of one. Programs and editors may leave the last one without its end."""
    if line.endswith(b"\n"):
        return True
    try:
        load(line)
    except ConfigError:
        return False
    return True


def _is_torn(line: bytes) -> bool:
    """Whether a last line without an end is the beginning of a result. Zeros after it come from a crash of the machine
    before its data was on the disk."""
    begun = line.removeprefix(BOM_UTF8).rstrip(b"\0")
    return b"\0" not in begun and any(begun[: len(start)] == start[: len(begun)] for start in LINE_STARTS)


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
    if line.keys().isdisjoint(("turn", "response", "error")):  # as a line of a batch that is to be answered
        raise ConfigError("it has neither an answer nor an error")
    return key, request, answered
