"""The source that is passed to `read_events` → pieces of bytes.

    bytes · a file opened in binary mode · an iterable of bytes ─pieces_of▶ pieces

Rules:
- Text is rejected: its bytes were decoded already, perhaps wrongly, and its line ends may have been changed.
- Nothing is read before it is asked for, and nothing is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ..errors import ConfigError

PIECE_SIZE = 65536  # bytes
WANTED = "read_events needs the bytes of a body, a file opened in binary mode, or an iterable of bytes"


class BinaryFile(Protocol):
    """What is read piece by piece: a file, a pipe, a response."""

    def read(self, size: int, /) -> bytes: ...


def pieces_of(source: Any) -> Iterable[bytes]:
    """The pieces of a source. Raises `ConfigError` for what has none."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return [bytes(source)]
    if isinstance(source, str):
        raise ConfigError(f"{WANTED}, not a str: use text.encode(), or open(path, 'rb')")
    if hasattr(source, "__fspath__"):
        raise ConfigError(f"{WANTED}, not a path: use open(path, 'rb')")
    if hasattr(source, "read"):
        if hasattr(source, "encoding"):  # TextIOWrapper, StringIO, codecs.open
            raise ConfigError(f"{WANTED}, not a text file: use open(path, 'rb')")
        return _read_file(source)
    if isinstance(source, Mapping) or not hasattr(source, "__iter__"):
        raise ConfigError(f"{WANTED}, not {_name(source)}")
    return source  # type: ignore[no-any-return]


def checked_choices(choices: Any) -> int | None:
    """``choices``, which may be None. Raises `ConfigError` if it can't be a number of choices."""
    if choices is None or (isinstance(choices, int) and choices > 0 and choices is not True):
        return choices
    raise ConfigError(f"choices must be an integer of at least 1, not {choices!r:.60}")


def _read_file(file: Any) -> Iterator[bytes]:
    """What a file has. ``read1`` does not wait for a whole piece, where there is one."""
    read = getattr(file, "read1", None) or file.read
    while piece := read(PIECE_SIZE):
        yield piece


def as_bytes(piece: Any) -> bytes:
    """A piece as bytes. Raises `ConfigError` if it is something else."""
    if not isinstance(piece, (bytes, bytearray, memoryview)):
        raise ConfigError(f"{WANTED}, but one of its pieces is {_name(piece)}")
    return bytes(piece)


def _name(value: object) -> str:
    return "None" if value is None else f"of the type {type(value).__name__}"
