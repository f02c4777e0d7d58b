"""The measures of `tests/test_speed.py`: ratios of CPU times within one run, and counts.

    python -m benchmarks.guard counts|imports|<shape> ──▶ JSON

Rules:
- The server is a separate process; the clients alternate in this one, so that other load slows all of them equally.
- Times are CPU times of this thread; a ratio is the median of the ratios of all rounds.
- Counts are taken without a socket, with one event per piece, so that they are the same on every machine.
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

from .clients import ReadAnswer, collect, drained, loop, measure_alternately, stream, text_of_chunk
from .peers import PEERS
from .server import ROOT, path, running
from .shapes import expected, sse_events

EVENTS = 5000
ROUNDS = 9


def cpu_ratios(shape: str, rounds: int = ROUNDS, events: int = EVENTS) -> dict[str, float]:
    """CPU time of ``stream()`` and ``collect()`` relative to that of the hand-written loop."""
    with running() as server:
        url = server + path(shape, events)
        clients = {make.__name__: make(url, shape) for make in (loop, stream, collect)}
        times = measure_alternately(clients, partial(_cpu_seconds, size=expected(shape, events)), rounds)
    return {name: median(map(truediv, times[name], times["loop"])) for name in ("stream", "collect")}


def _cpu_seconds(read_answer: ReadAnswer, size: int) -> float:
    """CPU seconds of this thread for an answer of ``size`` characters."""
    gc.collect()
    started = thread_time()
    received = drained(read_answer())
    seconds = thread_time() - started
    if received != size:
        raise RuntimeError(f"received {received} of {size} characters")
    return seconds


def counts(events: int) -> dict[str, dict[str, float]]:
    """Function calls and bytes of memory per event, for chatstream and for the loop."""
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
            yield text_of_chunk(json.loads(event.data))


def _calls(items: Iterator[Any]) -> int:
    """The number of calls of Python and C functions while all items are read."""
    count = 0

    def count_call(_frame: object, kind: str, _argument: object) -> None:
        nonlocal count
        count += kind.endswith("call")

    sys.setprofile(count_call)
    try:
        deque(items, maxlen=0)
    finally:
        sys.setprofile(None)
    return count


def _peak(reader: Callable[[list[bytes]], Iterator[Any]], pieces: list[bytes]) -> int:
    """The peak of memory while all items are read."""
    gc.collect()
    tracemalloc.start()
    try:
        deque(reader(pieces), maxlen=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


AUDIT = """
import sys
sources = 0
def count_source(event, arguments):
    global sources
    sources += event == "exec" and arguments[0].co_filename == "<string>"
sys.addaudithook(count_source)
{}
print(sources)
"""


def sources_compiled() -> dict[str, int]:
    """How many source texts are compiled before a client can send a request, like the methods of a dataclass.

    Apart from loading modules they are most of the time that an import takes.
    """
    lines = {"loop": PEERS["loop"].imports, "stream": PEERS["stream"].imports}
    return {name: int(_output(AUDIT.format(line))) for name, line in lines.items()}


def _output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def _counts_of_short_and_long() -> dict[int, dict[str, dict[str, float]]]:
    return {events: counts(events) for events in (1000, 8000)}


if __name__ == "__main__":
    name = sys.argv[1]
    guards = {"counts": _counts_of_short_and_long, "imports": sources_compiled}
    print(json.dumps(guards[name]() if name in guards else cpu_ratios(name)))
