"""A conversation in a file: one item per line, its dict as JSON.

    name or path ──▶ file ──read─▶ items ──▶ Prompt
    new items ──append─▶ file

Rules:
- Lines are only appended, each batch at once, so that a process that dies leaves complete items.
- Only its owner can read the file. A message dict of another program counts as an item.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..types.items import Message, ResponseItem, item_from_dict
from .files import read_text
from .settings import data_home


class Conversation:
    """The items of a conversation, and the file that they are kept in. Raises `ConfigError` if that can't be read."""

    def __init__(self, name: str, *, new: bool = False) -> None:
        self.path: Path = path_of(name)
        if not name or (self.path.exists() and not self.path.is_file()):
            raise ConfigError(f"{name!r} can't be used as a conversation file")
        if new and self.path.exists():
            self._set_aside()
        self.items: list[Any] = _read(self.path) if self.path.exists() else []
        self._unwritten: list[ResponseItem] = []

    @property
    def questions(self) -> list[str]:
        """The texts of the user, for the history of the line editor."""
        return [item.text for item in self.items if isinstance(item, Message) and item.role == "user"]

    def begin(self, instructions: str) -> None:
        """Put instructions before the first message. Raises `ConfigError` if there is one."""
        if self.items:
            raise ConfigError("-s can only be used at the start of a conversation: add --new to start a new one")
        self._unwritten = [Message("system", instructions)]
        self.items += self._unwritten

    def add(self, items: Iterable[ResponseItem]) -> None:
        """Append the items, here and to the file. Raises `ConfigError` if that can't be written."""
        added = list(items)
        lines = [json.dumps(item.to_dict(), ensure_ascii=False) for item in (*self._unwritten, *added)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "ab", buffering=0) as file:
                file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
        except OSError as error:
            raise ConfigError(f"can't write {self.path}: {error.strerror}") from None
        self._unwritten = []
        self.items += added

    def _set_aside(self) -> None:
        """Keep the file under a name with the time of its last change."""
        changed = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(self.path.stat().st_mtime))
        try:
            self.path.rename(self.path.with_name(f"{self.path.stem}-{changed}{self.path.suffix}"))
        except OSError as error:
            raise ConfigError(f"can't rename {self.path}: {error.strerror}") from None


def path_of(name: str) -> Path:
    """The file of a conversation: a path as it is, a bare name below the user's data."""
    if re.fullmatch(r"[\w -]+", name):
        return data_home() / "conversations" / f"{name}.jsonl"
    return Path(name)


def _read(path: Path) -> list[Any]:
    items = []
    for number, line in enumerate(read_text(str(path)).split("\n"), 1):
        if line.strip():
            try:
                data = json.loads(line)
                items.append(data if "type" not in data and data["role"] else item_from_dict(data))
            except (ValueError, TypeError, KeyError, RecursionError):
                raise ConfigError(f"line {number} of {path} is not an item of a conversation") from None
    return items
