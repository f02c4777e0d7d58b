"""What the tests of many prompts share: a server whose answers repeat the prompt, and what a file of results holds."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chatstream.testing import Script, Wire, cut, delta, head, status, text_answer

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Echo:
    """A step that answers a prompt with its own text. ``asked`` counts the requests by prompt.

    The first request of a prompt that ends with the digit ``fault`` is refused or breaks off.
    """

    def __init__(self, fault: int | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self._fault = fault
        self._lock = threading.Lock()

    def __call__(self, wire: Wire) -> None:
        assert wire.request is not None
        text = wire.request.json["messages"][-1]["content"]
        with self._lock:
            self.asked[text] += 1
            is_first = self.asked[text] == 1
        for step in self._script(text, is_first):
            step(wire)

    def _script(self, text: str, is_first: bool) -> Script:
        if self._fault is None or not is_first or not text.endswith(str(self._fault)):
            return text_answer(text, usage=USAGE)
        return [head(), delta("half"), cut()] if len(text) % 2 else status(503, "busy")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def texts_of(path: Path) -> list[str]:
    """The texts of the answers in a file of results."""
    return [line["turn"]["items"][0]["content"][0]["text"] for line in lines_of(path) if "turn" in line]


def texts(results: Iterable[Any]) -> list[str]:
    return [result.turn.text for result in results]


def run_program(*arguments: str, cwd: Path) -> str:
    """Stdout of a Python program, which must exit with 0 and print nothing to stderr."""
    ended = subprocess.run(
        [sys.executable, *arguments], check=False, cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    return ended.stdout
