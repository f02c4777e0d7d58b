"""The measures, each of which runs in a process of its own, in the environment of the client.

    {"measure": …, "client": …, …} as JSON, first argument ──▶ JSON on standard output

Rules:
- A client that is compared with the hand-written loop alternates with it in one process; compare only the ratio.
- CPU time is that of the whole process, because some clients use threads.
- A delay is the time from the sending of an event, which the server writes into it, until the client yields it.
"""

from __future__ import annotations

import gc
import http.client
import importlib
import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from operator import truediv
from pathlib import Path
from statistics import median, quantiles
from time import monotonic_ns, perf_counter, process_time, sleep
from typing import Any
from urllib.parse import urlsplit

from . import clients
from .clients import ReadAnswer, drained, measure_alternately
from .peers import PEERS
from .server import IDLE, ROOT, path
from .shapes import STAMP, expected

Result = dict[str, Any]


def _make_client(client: str, url: str, shape: str = "text") -> ReadAnswer:
    return getattr(clients, client)(url, shape)


def cpu(client: str, server: str, shape: str = "text", events: int = 5000, rounds: int = 7) -> Result:
    """CPU µs per event, and the ratio to the loop."""
    size = 0

    def cpu_seconds(read_answer: ReadAnswer) -> float:
        nonlocal size
        seconds, size = _timed(read_answer)
        if size not in (0, expected(shape, events)):  # 0: the client does not support the shape
            raise RuntimeError(f"received {size} of {expected(shape, events)} characters")
        return seconds

    seconds, ratio = _compare_with_loop(client, server + path(shape, events), cpu_seconds, rounds, shape=shape)
    return {"us": seconds / events * 1e6, "ratio": ratio, "shown": size > 0}


def _compare_with_loop(
    client: str, url: str, measure: Callable[[ReadAnswer], float], rounds: int, *, warm_up: int = 1, shape: str = "text"
) -> tuple[float, float]:
    """The median of the client's times, and the median of their ratios to those of the loop, alternating with it."""
    readers = {"loop": _make_client("loop", url, shape), client: _make_client(client, url, shape)}
    times = measure_alternately(readers, measure, rounds, warm_up)
    return median(times[client]), median(map(truediv, times[client], times["loop"]))


def _timed(read_answer: ReadAnswer) -> tuple[float, int]:
    """CPU seconds of this process, and the number of characters received."""
    gc.collect()
    started = process_time()
    size = drained(read_answer())
    return process_time() - started, size


def growth(client: str, server: str, shape: str = "text", sizes: tuple[int, ...] = (1000, 8000, 64000)) -> Result:
    """CPU µs per event for streams of several lengths: the better of two runs, one run for the longest."""
    drained(_make_client(client, server + path(shape, 1000), shape)())
    found = {}
    for events in sizes:
        read_answer = _make_client(client, server + path(shape, events), shape)
        found[str(events)] = min(_timed(read_answer)[0] for _ in range(1 + (events < max(sizes)))) / events * 1e6
    return found


def alone(client: str, server: str, events: int = 200, rounds: int = 11, pause: float = 0.002) -> Result:
    """CPU µs per event when each event arrives alone, and the ratio to the loop."""
    url = server + path("text", events, pause=pause)
    seconds, ratio = _compare_with_loop(client, url, lambda read_answer: _timed(read_answer)[0], rounds)
    return {"us": seconds / events * 1e6, "ratio": ratio}


def delay(client: str, server: str, framing: str = "chunked", events: int = 400, pause: float = 0.003) -> Result:
    """Milliseconds from the sending of an event until the client yields it: median and 99th percentile."""
    read_answer = _make_client(client, server + path("text", events, framing, pause))
    first = list(_delays(_make_client(client, server + path("text", 5, framing, pause))()))
    return {**_percentiles(list(_delays(read_answer()))), "whole": len(first) == 5}


def _delays(texts: Iterator[str]) -> Iterator[float]:
    """The delay of each event with a time stamp, in milliseconds, as soon as it arrives."""
    return ((monotonic_ns() - int(text)) / 1e6 for text in texts if len(text) == STAMP)


def _percentiles(delays: list[float]) -> Result:
    cuts = quantiles(delays, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "events": len(delays)}


def first(client: str, server: str, times: int = 20) -> Result:
    """Milliseconds to the first event for a new client, and for one that has a connection."""
    url = server + path("text", 3, pause=0.001)
    cold, warm = [], []
    _first_event(_make_client(client, url))
    for _ in range(times):
        started = perf_counter()
        read_answer = _make_client(client, url)
        cold.append(_first_event(read_answer, started))
        warm.append(_first_event(read_answer))
    return {"cold": median(cold) * 1e3, "warm": median(warm) * 1e3}


def _first_event(read_answer: ReadAnswer, started: float | None = None) -> float:
    started = started or perf_counter()
    texts = read_answer()
    next(text for text in texts if text)
    seconds = perf_counter() - started
    drained(texts)
    return seconds


def keepalive(client: str, server: str, requests: int = 250, warm_up: int = 30) -> Result:
    """Milliseconds per short answer over a kept-alive connection, and the ratio to the loop, which is a bare POST."""

    def seconds_for(read_answer: ReadAnswer) -> float:
        started = perf_counter()
        drained(read_answer())
        return perf_counter() - started

    seconds, ratio = _compare_with_loop(client, server + path("text", 3), seconds_for, requests, warm_up=warm_up)
    return {"ms": seconds * 1e3, "ratio": ratio}


def connections(client: str, server: str, streams: int = 100) -> Result:
    """How many connections are opened for ``streams`` streams, one after the other."""
    read_answer = _make_client(client, server + path("text", 5))
    before = _opened(server)
    for _ in range(streams):
        drained(read_answer())
    return {"opened": _opened(server) - before, "streams": streams}


def _opened(server: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(server).netloc)
    with closing(connection):
        connection.request("GET", "/connections")
        return int(connection.getresponse().read())


def imports(client: str, server: str, times: int = 15) -> Result:
    """CPU milliseconds of a new process for the imports of a first request, and the ratio to those of the loop.

    ``named`` is the time of the import of the library by its name alone.
    """
    named = f"import {PEERS[client].library.replace('-', '_')}"
    lines = {"loop": PEERS["loop"].imports, client: PEERS[client].imports, "named": named}
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(times + 1):
        for name, line in lines.items():
            seconds[name].append(_import(line))
    ms = {name: median(each[1:]) * 1e3 for name, each in seconds.items()}  # the first one compiles
    ratio = median(map(truediv, seconds[client][1:], seconds["loop"][1:]))
    return {"ms": ms[client], "ratio": ratio, "line": lines[client], "named": ms["named"]}


def _import(line: str) -> float:
    code = f"import time; started = time.process_time()\n{line}\nprint(time.process_time() - started)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.split()[-1])


def version(client: str, server: str) -> Result:
    """The versions of the library and of Python."""
    library = PEERS[client].library
    from_tree = library == "chatstream"
    number = importlib.import_module(library).__version__ if from_tree else importlib.metadata.version(library)
    return {"version": number, "python": platform.python_version()}


def memory(client: str, server: str, streams: int = 50) -> Result:
    """MB after one long stream, and KiB per open stream that waits for events. Requires /proc, hence Linux."""
    drained(_make_client(client, server + path())())
    used = _resident()
    read_answer = _make_client(client, server + path("text", 2, pause=IDLE))
    held = [read_answer() for _ in range(streams)]
    for texts in held[:2]:
        next(text for text in texts if text)
    before = _resident()
    for texts in held[2:]:
        next(text for text in texts if text)
    return {"mb": used / 1024, "idle": (_resident() - before) / (streams - 2)}


def hostile(client: str, server: str) -> Result:
    """MB by which the process grows for a compressed line of 200 MB and for a line of 64 MB, and the errors."""
    drained(_make_client(client, server + path())())
    found: Result = {"errors": []}
    for name, at in (("bomb", path("line", 200, "gzip")), ("line", path("line", 64))):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            drained(_make_client(client, server + at)())
        except Exception as error:
            found["errors"].append(type(error).__name__)
        found[name] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def _resident() -> int:
    """The resident memory of this process in KiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def many(client: str, server: str, threads: int = 500, seconds: float = 10.0, start: float = 5.0) -> Result:
    """Delays, whole answers and cores used by ``threads`` threads that receive 20 events per second each.

    The threads share one client, and start one after the other within ``start`` seconds.
    """
    events = int(seconds * 20)
    read_answer = _make_client(client, server + path("text", events, pause=0.05))
    answers: list[list[float]] = []  # the time and the delay of each event; numbers, which need no garbage collection
    errors: list[str] = []
    begun = perf_counter()

    def read(number: int) -> None:
        sleep(start * number / threads)
        try:
            seen: list[float] = []
            for delay in _delays(read_answer()):
                seen += (perf_counter() - begun, delay)
            answers.append(seen)
        except Exception as error:
            errors.append(type(error).__name__)

    started = process_time()
    readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    cores = (process_time() - started) / (perf_counter() - begun)
    return {
        **_percentiles_of_many(answers, first=start + 1, last=seconds),
        "whole": sum(len(answer) == 2 * events for answer in answers),
        "threads": threads,
        "cpu": cores,
        "errors": sorted(set(errors)),
    }


def _percentiles_of_many(answers: list[list[float]], first: float, last: float) -> Result:
    """The percentiles of the delays while all threads stream, and ``worst``, the 99th percentile of all delays.

    ``first`` is a second after the start of the last thread, ``last`` the time at which the first thread finishes.
    """
    delays = [each for answer in answers for each in zip(answer[::2], answer[1::2], strict=True)]
    settled = [delay for when, delay in delays if first < when < last]
    worst = _percentiles([delay for _, delay in delays])["p99"] if delays else None
    return {**(_percentiles(settled) if settled else {}), "worst": worst}


def again(client: str, server: str, runs: int = 5, interval: float = 0.005) -> Result:
    """The 99th percentiles of several runs of `many`, because a single one varies too much.

    ``interval`` is the switch interval of the interpreter in seconds; the default is Python's own.
    """
    sys.setswitchinterval(interval)
    return {"p99": sorted(many(client, server)["p99"] for _ in range(runs))}


MEASURES = {
    each.__name__: each
    for each in (cpu, alone, growth, delay, first, keepalive, connections, imports, memory, hostile, many, again)
}
MEASURES["version"] = version


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    print("\n" + json.dumps(MEASURES[arguments.pop("measure")](**arguments)), flush=True)
