"""stdin → text, text → stdout and stderr, and text → text that a terminal displays without obeying any of it.

Rules:
- stdin is read as UTF-8. stdout is written as UTF-8, except to a terminal, which keeps its own encoding.
- A model or a server must not control the terminal: escape sequences, control characters, marks that reorder text and
  characters that nobody sees are displayed as symbols. Pipes and files receive the text unchanged.
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator
from typing import TextIO

from ..errors import ConfigError

# Replaced wherever they stand, because nobody sees them and hardly any text on a terminal needs them: the soft hyphen,
# the grapheme joiner, fillers, zero-width spaces, marks that reorder text (Unicode Standard Annex 9), line and
# paragraph separators, deprecated formats, tags. This costs the flags of England, Scotland and Wales.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
# Joiners and variation selectors: emoji, Arabic, Indic, Mongolian and Han text is wrong without them. One may follow a
# character that has a use for it; several in a row, or one after a Latin letter or a blank, can only hide something.
_JOINERS = "\u200c\u200d"
_SELECTORS = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_JOINING = ("Lo", "Lm", "Mn", "Mc", "So", "Sk", "Sm")
_VARYING = ("Lo", "So", "Sm", "Sk", "Po", "Pd", "Nd")


def read_stdin() -> str:
    """All text of stdin, with U+FFFD for bytes that are not UTF-8; empty if stdin is closed."""
    return "".join(read_lines())


def read_lines() -> Iterator[str]:
    """The lines of stdin, as they arrive, with their ends; none if stdin is closed."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    while sys.stdin is not None and (line := sys.stdin.readline()):
        yield line


def stdin_is_piped() -> bool:
    """Whether stdin is a pipe, a file or a socket, which somebody put there to be read; no terminal, not nothing."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or an object without a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


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


def escape_controls(text: str, before: str = "") -> str:
    """``text`` with a symbol in place of each character that a terminal would obey, or that nobody would see; line ends
    and tabs stay. ``before`` is the end of the text that was displayed before, at most two characters count.

    ASCII controls become their control pictures (U+2400 to U+2421), all others U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    displayed = []
    before = before[-2:]
    for character in text:
        displayed.append(_displayed(character, before))
        before = before[-1:] + character
    return "".join(displayed)


def _displayed(character: str, before: str) -> str:
    if character in "\n\t":
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return "\u2421"
    if character in _JOINERS or _SELECTORS.match(character):
        return character if _has_use(character, before) else "\ufffd"
    # Cc: C1 controls. Cs: lone surrogates, which no terminal can display.
    is_obeyed = unicodedata.category(character) in ("Cc", "Cs") or _UNSEEN.match(character)
    return "\ufffd" if is_obeyed else character


def _has_use(character: str, before: str) -> bool:
    """Whether the character ``before`` can be joined or varied; a selector may stand between it and a joiner."""
    if character in _JOINERS and _SELECTORS.match(before[-1:]):
        before = before[:-1]
    base = before[-1:]
    if not base or _SELECTORS.match(base) or _UNSEEN.match(base):
        return False
    return unicodedata.category(base) in (_JOINING if character in _JOINERS else _VARYING)
