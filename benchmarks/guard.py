"""What the tests hold chatstream to: a ratio of CPU times in one run, and counts.

    python -m benchmarks.guard counts|imports|<shape> ──▶ JSON

Rules:
- The server is another process; the clients share this one and take turns, so what slows one slows the other.
- CPU time of this thread, not seconds; the median of the ratios of all rounds.
- What is counted is counted without a socket, one event per piece: it is the same on every machine.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import truediv
from statistics import median
from time import thread_time
from typing import Any

from .clients import Ask, collect, drained, in_turns, loop, stream, words_of
from .peers import PEERS
from .server import ROOT, path, running
from .shapes import expected, sse_events

EVENTS = 5000
ROUNDS = 9


def cpu_ratios(shape: str, rounds: int = ROUNDS, events: int = EVENTS) -> dict[str, float]:
    """CPU time of ``stream()`` and ``collect()`` over that of the script writer's loop."""
    with running() as server:
        url = server + path(shape, events)
        asks = {make.__name__: make(url, shape) for make in (loop, stream, collect)}
        times = in_turns(asks, partial(_took, size=expected(shape, events)), rounds)
    return {name: median(map(truediv, times[name], times["loop"])) for name in ("stream", "collect")}


def _took(ask: Ask, size: int) -> float:
    """CPU seconds of this thread; ``size`` is how many characters have to come."""
    gc.collect()
    started = thread_time()
    came = drained(ask())
    seconds = thread_time() - started
    if came != size:
        raise RuntimeError(f"{came} characters came of {size}")
    return seconds


def counts(events: int) -> dict[str, dict[str, float]]:
    """Function calls and bytes of memory per event, of chatstream and of the loop."""
    pieces = list(sse_events("text", events))
    readers = {"stream": _read, "loop": _loop}
    return {
        name: {"calls": _calls(reader(pieces)) / events, "bytes": _peak(reader, pieces) / events}
        for name, reader in readers.items()
    }


def _read(pieces: Iterable[bytes]) -> Iterator[Any]:
    from chatstream import read_events

    return read_events(pieces)


def _loop(pieces: Iterable[bytes]) -> Iterator[str]:
    from sseclient import SSEClient

    for event in SSEClient(iter(pieces)).events():
        if event.data != "[DONE]":
            yield words_of(json.loads(event.data))


def _calls(items: Iterator[Any]) -> int:
    """How many functions, of Python and of C, are entered until all items are there."""
    count = 0

    def note(_frame: object, kind: str, _argument: object) -> None:
        nonlocal count
        count += kind.endswith("call")

    sys.setprofile(note)
    try:
        deque(items, maxlen=0)
    finally:
        sys.setprofile(None)
    return count


def _peak(reader: Callable[[list[bytes]], Iterator[Any]], pieces: list[bytes]) -> int:
    """The most memory that is taken at any time until all items have been there."""
    gc.collect()
    tracemalloc.start()
    try:
        deque(reader(pieces), maxlen=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


AUDIT = """
import sys
texts = 0
def note(event, arguments):
    global texts
    texts += event == "exec" and arguments[0].co_filename == "<string>"
sys.addaudithook(note)
{}
print(texts)
"""


def texts_compiled() -> dict[str, int]:
    """How many texts are compiled before a client can ask: methods that are written when a class is made, and the
    like. It is most of what an import takes beside the reading of its files."""
    lines = {"loop": PEERS["loop"].imports, "stream": PEERS["stream"].imports}
    return {name: int(_printed(AUDIT.format(line))) for name, line in lines.items()}


def _printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def _counts_of_both() -> dict[int, dict[str, dict[str, float]]]:
    return {events: counts(events) for events in (1000, 8000)}


if __name__ == "__main__":
    asked = sys.argv[1]
    guards = {"counts": _counts_of_both, "imports": texts_compiled}
    print(json.dumps(guards[asked]() if asked in guards else cpu_ratios(asked)))
