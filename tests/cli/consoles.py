"""What the tests of the command line share: a shell, a terminal, a pipe, and the answers of a scripted server."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tty
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO
from unicodedata import category

import chatstream
from chatstream.cli.main import main
from chatstream.testing import FaultServer, Script, Step, event, status, text_answer

KEY = "sk-Zq7-the-key"
BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# What Unicode calls default ignorable, without the joiners U+200C and U+200D and the variation selectors; and U+FFF9 to
# U+FFFB, which annotate text.
UNSEEN = [
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180E, 0x180E)),
    *((0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)),
    *((0xE0000, 0xE00FF), (0xE01F0, 0xE0FFF)),
]
NEEDED = "\u180b\u180c\u180d\u180f\u200c\u200d" + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "clear the screen": "\x1b[2J\x1b[H",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://example.com\x1b\\text\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "device control": '\x1bP$q"p\x1b\\',
    "reset": "\x1bc",
    "8-bit CSI": "\x9b31mred",
    "8-bit OSC": "\x9d0;owned\x9c",
    "overwritten line": "rm -rf /\recho hello",
    "overwritten character": "no\b\by\x7fes",
    "bell, form feed, shift out": "\a\f\v\x0e\x0f",
    "NUL": "a\0b",
    "next line": "a\x85b",
    "bidi": f"a{BIDI}b",
    "line separators": "a\u2028b\u2029c",
    "zero width": "pay\u200bpal\ufeff\u2060 a\u200db\u200cc",
    "tags": "".join(chr(0xE0000 + ord(letter)) for letter in "ignore all") + "\U000e007f",
    "deprecated formats": "a\u206a\u206fb\u2061\u2064",
    "annotations": "a\ufff9b\ufffac\ufffb",
    "bytes in variation selectors": "\U0001f600" + "".join(chr(0xE0100 + byte) for byte in b"rm -rf"),
    "bits in joiners": "\u06cc" + "\u200c\u200d\u200d\u200c",
    "soft hyphen and fillers": "r\xadm\u3164\u115f\u034f",
}
# Texts that are wrong without their invisible characters.
INTACT = {
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "skin tone and joiner": "\U0001f469\U0001f3fd\u200d\U0001f680",
    "selector and joiner": "\u2764\ufe0f\u200d\U0001f525",
    "flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "keycap": "1\ufe0f\u20e3 #\ufe0f\u20e3",
    "text style": "\u2695\ufe0e",
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi": "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",
    "Mongolian": "\u1820\u180b",
    "Japanese": "\u845b\U000e0100",
}
ANSWER = text_answer("Hel", "lo")


def is_obeyed(character: str) -> bool:
    """Whether a terminal might do something other than display it, or display nothing."""
    if category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return character not in "\n\t"
    return any(first <= ord(character) <= last for first, last in UNSEEN)


class Shell:
    """``python -m chatstream Hi`` in another process, in developer mode, so that leaks appear on stderr."""

    def __init__(self, server: FaultServer) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
        own = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
        self.environ = inherited | own | {"PYTHONPATH": str(Path(chatstream.__file__).parent.parent)}
        self.command = [sys.executable, "-X", "dev", "-W", "error", "-m", "chatstream", "Hi", "-m", "m1"]

    def run(self, *options: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        command = [*self.command, *options]
        ended = subprocess.run(command, env=self.environ, input=stdin, capture_output=True, timeout=30, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    def start(self, *options: str, stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE) -> Any:
        return subprocess.Popen(
            [*self.command, *options], env=self.environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )


class Screen:
    """A terminal or a pipe in the place of stdout: `file` is its writing end, `seen` returns what has arrived."""

    def __init__(self, reader: int, writer: int, encoding: str) -> None:
        self.file: TextIO = open(writer, "w", encoding=encoding)  # noqa: SIM115
        self._reader = open(reader, "rb", buffering=0)  # noqa: SIM115

    def run(self, *options: str) -> int:
        """Run the command line with this as its stdout; returns its exit status."""
        with redirect_stdout(self.file):
            return main(["Hi", "-m", "m1", *options])

    def seen(self, end: bytes = b"") -> bytes:
        """The bytes written since the last call; waits until there are some, and until they end with ``end``."""
        data = b""
        while not data or not data.endswith(end):
            assert select.select([self._reader], [], [], 5)[0], f"nothing arrives after {data!r}"
            data += self._reader.read(65536) or b""
        return data

    def stop_reading(self) -> None:
        """Close the reading end."""
        self._reader.close()

    def close(self) -> None:
        self.file.close()
        self._reader.close()


def open_terminal(encoding: str = "utf-8") -> Screen:
    master, slave = pty.openpty()
    tty.setraw(slave)  # so that it does not change line ends
    return Screen(master, slave, encoding)


def letters(text: str) -> Script:
    """An answer with one character per event."""
    return text_answer(*text)


def json_delta(content: str) -> Step:
    """A delta whose content is given as the inside of a JSON string."""
    return event('{"id": "c1", "choices": [{"index": 0, "delta": {"content": "' + content + '"}}]}')


def refusal(message: str) -> Script:
    return status(401, {"error": {"message": message, "code": "invalid_api_key"}})


def error_event(message: str) -> Step:
    return event({"error": {"message": message, "code": "server_error"}})
