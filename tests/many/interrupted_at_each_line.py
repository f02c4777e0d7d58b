"""A program for a test: runs of `map_prompts` in which Ctrl-C comes at one line after the other of the main thread.

    python interrupted_at_each_line.py ORDERED [FILE]

It does not come at a ``yield``: Python calls signal handlers only at calls, when a function begins or goes on, and at
backward jumps. Prints what was lost or repeated, with the line at which Ctrl-C came, and at last how many runs there
were. Nothing is sent: the function that asks the model is replaced.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from linecache import getline
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import Any

from chatstream import Client, Message, OutputText, Provider, Result, Turn
from chatstream.many import mapping

TURN = Turn(items=(Message("assistant", (OutputText("x"),)),))
PROMPTS = [{"prompt": name, "id": name} for name in "abcd"]
FILES = {str(Path(mapping.__file__).with_name(f"{name}.py")) for name in ("flight", "mapping", "run", "threads")}
NOT_REACHED = 20  # runs that end before the line, after which there are no more lines: their number varies


class Interrupt:
    """Raises KeyboardInterrupt at a line, counted from 1, and notes where that was."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and not getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("yield "):
            self._left -= 1
            if not self._left:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self


def run(client: Client, interrupt: Interrupt, ordered: bool, out: Path | None) -> list[str]:
    """One run; returns what is wrong with it."""
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    def ask(_: Client, task: Any) -> Result:
        with lock:
            asked[task.key] += 1
        sleep(0.001)
        return Result(task.key, task.index, TURN)

    mapping.ask = ask  # type: ignore[assignment]
    if out is not None:
        out.unlink(missing_ok=True)
    results = mapping.map_prompts(client, PROMPTS, concurrency=2, ordered=ordered, out=out)
    got: list[Result] = []
    began, ended = monotonic(), "not interrupted"
    sys.settrace(interrupt)
    try:
        got.extend(results)
    except KeyboardInterrupt:
        ended = ""
    finally:
        sys.settrace(None)
    took = monotonic() - began
    results.close()
    wrong = [ended] if ended and interrupt.where else []
    wrong += [f"took {took:.1f} s"] if took > 5 else []
    wrong += differences("handed over", asked, [result.key for result in got])
    if out is not None:
        lines = out.read_text().splitlines() if out.exists() else []
        wrong += differences("in the file", asked, [json.loads(line)["key"] for line in lines])
    return wrong


def differences(what: str, asked: Counter[str], found: list[str]) -> list[str]:
    return [
        f"{key} asked for {asked[key]} times, {found.count(key)} times {what}"
        for key in sorted({*asked, *found})
        if (asked[key], found.count(key)) != (1, 1)
    ]


def main() -> None:
    ordered, out = sys.argv[1] == "True", Path(sys.argv[2]) if len(sys.argv) > 2 else None
    client = Client(Provider("test", "http://127.0.0.1:9/v1"), model="m1")
    line = not_reached = 0
    while not_reached < NOT_REACHED:
        line += 1
        interrupt = Interrupt(line)
        wrong = run(client, interrupt, ordered, out)
        not_reached = 0 if interrupt.where else not_reached + 1
        for each in wrong:
            print(f"{interrupt.where}: {each}")
    print(f"{line - NOT_REACHED} runs")


if __name__ == "__main__":
    main()
