"""What the tests hold chatstream to: a ratio of CPU times in one run, and counts.

    python -m benchmarks.guard counts|<shape> ──▶ JSON

Rules:
- The server is another process; the clients share this one and take turns, so what slows one slows the other.
- CPU time of this thread, not seconds; the median of the ratios of all rounds.
- What is counted is counted without a socket, one event per piece: it is the same on every machine.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import truediv
from statistics import median
from time import thread_time
from typing import Any

from .clients import Ask, collect, drained, loop, stream, words_of
from .server import path, running
from .shapes import expected, sse_events

EVENTS = 5000
ROUNDS = 9


def cpu_ratios(shape: str, rounds: int = ROUNDS, events: int = EVENTS) -> dict[str, float]:
    """CPU time of ``stream()`` and ``collect()`` over that of the script writer's loop."""
    with running() as server:
        url = server + path(shape, events)
        asks = {make.__name__: make(url, shape) for make in (loop, stream, collect)}
        times = in_turns(asks, rounds, expected(shape, events))
    return {name: median(map(truediv, times[name], times["loop"])) for name in ("stream", "collect")}


def in_turns(asks: dict[str, Ask], rounds: int, size: int | None = None) -> dict[str, list[float]]:
    """CPU seconds of each client in each round; the first, in which everything is loaded, does not count.

    ``size`` is how many characters each has to get.
    """
    times: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(rounds + 1):
        for name, ask in asks.items():
            gc.collect()
            started = thread_time()
            came = drained(ask())
            if number:
                times[name].append(thread_time() - started)
            if size not in (None, came):
                raise RuntimeError(f"{name} got {came} characters of {size}")
    return times


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


def _counts_of_both() -> dict[int, dict[str, dict[str, float]]]:
    return {events: counts(events) for events in (1000, 8000)}


if __name__ == "__main__":
    print(json.dumps(_counts_of_both() if sys.argv[1] == "counts" else cpu_ratios(sys.argv[1])))
