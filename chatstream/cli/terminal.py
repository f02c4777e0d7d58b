"""stdin → text, text → stdout and stderr, and text → text that a terminal displays without obeying any of it.

Rules:
- stdin is read as UTF-8. stdout is written as UTF-8, except to a terminal, which keeps its own encoding.
- A model or a server must not control the terminal: escape sequences, control characters and marks that reorder text
  are displayed as symbols. Pipes and files receive the text unchanged.
"""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from typing import TextIO

from ..errors import ConfigError

# Marks and overrides of the bidirectional algorithm (Unicode Standard Annex 9), and the line and paragraph separators.
_REORDERING = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"


def read_stdin() -> str:
    """All text of stdin, with U+FFFD for bytes that are not UTF-8; empty if stdin is closed."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin.read() if sys.stdin is not None else ""


def prepare_stdout() -> TextIO:
    """stdout, set up so that it accepts any text; characters that it can't encode become backslash escapes.

    Raises `ConfigError` if stdout is closed.
    """
    if sys.stdout is None:
        raise ConfigError("stdout is closed: open it, or redirect it to a file")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    return sys.stdout


def discard_stdout() -> None:
    """Send what stdout still buffers to the null device, because Python flushes it at exit and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_to_stderr(text: str) -> None:
    """Print ``text`` to stderr as one line, without control characters; do nothing if stderr is closed."""
    if sys.stderr is not None:
        print(escape_controls(" ".join(text.split())), file=sys.stderr)


def escape_controls(text: str) -> str:
    """``text`` with a symbol in place of each character that a terminal would obey; line ends and tabs stay.

    ASCII controls become their control pictures (U+2400 to U+2421), all others U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_displayed, text))


def _displayed(character: str) -> str:
    if character in "\n\t":
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return "\u2421"
    # Cc: C1 controls. Cs: lone surrogates, which no terminal can display.
    is_obeyed = unicodedata.category(character) in ("Cc", "Cs") or character in _REORDERING
    return "\ufffd" if is_obeyed else character
