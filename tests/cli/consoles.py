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
}
ANSWER = text_answer("Hel", "lo")


def is_obeyed(character: str) -> bool:
    """Whether a terminal might do something other than display it."""
    return (category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t") or character in BIDI


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
        return subprocess.Popen([*self.command, *options], env=self.environ, stdout=stdout, stderr=stderr)


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
