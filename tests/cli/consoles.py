"""A shell and a terminal for the tests of the command line, and the answers that they receive."""

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
    """Whether a terminal might do something other than show it."""
    return (category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t") or character in BIDI


class Shell:
    """``python -m chatstream`` in a process of its own, developer mode on: leaks would show on stderr."""

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
    """What stdout may be: ``file`` is what is written to, `seen` tells what has arrived."""

    def __init__(self, reader: int, writer: int, encoding: str) -> None:
        self.file: TextIO = open(writer, "w", encoding=encoding)  # noqa: SIM115
        self._reader = open(reader, "rb", buffering=0)  # noqa: SIM115

    def run(self, *options: str) -> int:
        """The command line, with this as its stdout."""
        with redirect_stdout(self.file):
            return main(["Hi", "-m", "m1", *options])

    def seen(self, end: bytes = b"") -> bytes:
        """What has been written since the last look; waits until there is something, with ``end`` behind it."""
        data = b""
        while not data or not data.endswith(end):
            assert select.select([self._reader], [], [], 5)[0], f"nothing comes after {data!r}"
            data += self._reader.read(65536) or b""
        return data

    def go(self) -> None:
        """Read no more."""
        self._reader.close()

    def close(self) -> None:
        self.file.close()
        self._reader.close()


def open_terminal(encoding: str = "utf-8") -> Screen:
    master, slave = pty.openpty()
    tty.setraw(slave)  # no line end of its own making
    return Screen(master, slave, encoding)


def letters(text: str) -> Script:
    """An answer of one character per event."""
    return text_answer(*text)


def of_json(content: str) -> Step:
    """A delta whose content is spelled in JSON."""
    return event('{"id": "c1", "choices": [{"index": 0, "delta": {"content": "' + content + '"}}]}')


def refusal(message: str) -> Script:
    return status(401, {"error": {"message": message, "code": "invalid_api_key"}})


def error_event(message: str) -> Step:
    return event({"error": {"message": message, "code": "server_error"}})
