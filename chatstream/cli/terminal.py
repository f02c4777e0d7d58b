"""stdin, stdout and stderr of the command line, and what a terminal may be sent."""

from __future__ import annotations

import io
import sys
import unicodedata
from typing import TextIO

from ..errors import ConfigError

_KEPT = "\n\t"


def print_to_stderr(text: str) -> None:
    """One line on stderr, if there is one."""
    if sys.stderr is not None:
        print(escape_controls(" ".join(text.split())), file=sys.stderr)


def prepare_stdout() -> TextIO:
    """stdout, made to take every text: a terminal keeps its encoding, what can't be encoded is written as escapes."""
    if sys.stdout is None:
        raise ConfigError("stdout is closed: the answer has nowhere to go")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    return sys.stdout


def read_stdin() -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin.read() if sys.stdin is not None else ""


def escape_controls(text: str) -> str:
    """``text`` with every character that a terminal would obey replaced by a picture of it (U+2400 and U+FFFD)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_picture, text))


def _picture(character: str) -> str:
    if character in _KEPT:
        return character
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return chr(0x2400 + code) if code < 0x20 else "\u2421"
    # Cc: C1 controls; Cs: lone surrogates, which no terminal can show
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cs") or _reorders(character) else character


def _reorders(character: str) -> bool:
    return character in "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
