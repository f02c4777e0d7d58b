"""What is measured, inside the environment of the client: one measure a process.

    {"measure": …, "client": …, …} as JSON, first argument ──▶ JSON on standard output

Rules:
- What is compared with the script writer's loop takes turns with it in one process: the ratio is what counts.
- CPU time is that of the whole process: some clients work in threads of their own.
- A delay is the time from an event's sending, which the server writes into it, to its coming out of the client.
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
from .clients import Ask, drained, in_turns
from .peers import PEERS
from .server import IDLE, ROOT, path
from .shapes import STAMP, expected

Result = dict[str, Any]


def _ask(client: str, url: str, shape: str = "text") -> Ask:
    return getattr(clients, client)(url, shape)


def cpu(client: str, server: str, shape: str = "text", events: int = 5000, rounds: int = 7) -> Result:
    """CPU µs per event, and its ratio to the loop's."""
    size = 0

    def took(ask: Ask) -> float:
        nonlocal size
        seconds, size = _timed(ask)
        if size not in (0, expected(shape, events)):  # 0: what the client has no place for
            raise RuntimeError(f"{size} characters came of {expected(shape, events)}")
        return seconds

    seconds, ratio = _beside_the_loop(client, server + path(shape, events), took, rounds, shape=shape)
    return {"us": seconds / events * 1e6, "ratio": ratio, "shown": size > 0}


def _beside_the_loop(
    client: str, url: str, took: Callable[[Ask], float], rounds: int, *, warm_up: int = 1, shape: str = "text"
) -> tuple[float, float]:
    """The median of what the client ``took``, and that of its ratios to the loop, which takes turns with it."""
    asks = {"loop": _ask("loop", url, shape), client: _ask(client, url, shape)}
    times = in_turns(asks, took, rounds, warm_up)
    return median(times[client]), median(map(truediv, times[client], times["loop"]))


def _timed(ask: Ask) -> tuple[float, int]:
    gc.collect()
    started = process_time()
    size = drained(ask())
    return process_time() - started, size


def growth(client: str, server: str, shape: str = "text", sizes: tuple[int, ...] = (1000, 8000, 64000)) -> Result:
    """CPU µs per event of streams of several lengths, each the better of two; the longest once."""
    drained(_ask(client, server + path(shape, 1000), shape)())
    found = {}
    for events in sizes:
        ask = _ask(client, server + path(shape, events), shape)
        found[str(events)] = min(_timed(ask)[0] for _ in range(1 + (events < max(sizes)))) / events * 1e6
    return found


def alone(client: str, server: str, events: int = 200, rounds: int = 11, pause: float = 0.002) -> Result:
    """CPU µs per event when each comes alone, and its ratio to the loop's."""
    url = server + path("text", events, pause=pause)
    seconds, ratio = _beside_the_loop(client, url, lambda ask: _timed(ask)[0], rounds)
    return {"us": seconds / events * 1e6, "ratio": ratio}


def delay(client: str, server: str, framing: str = "chunked", events: int = 400, pause: float = 0.003) -> Result:
    """Milliseconds from sending an event to having it: median and 99th percentile."""
    ask = _ask(client, server + path("text", events, framing, pause))
    first = list(_delays(_ask(client, server + path("text", 5, framing, pause))()))
    return {**_percentiles(list(_delays(ask()))), "whole": len(first) == 5}


def _delays(words: Iterator[str]) -> Iterator[float]:
    """In milliseconds, one for each event, as it comes."""
    return ((monotonic_ns() - int(word)) / 1e6 for word in words if len(word) == STAMP)


def _percentiles(delays: list[float]) -> Result:
    cuts = quantiles(delays, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "events": len(delays)}


def first(client: str, server: str, times: int = 20) -> Result:
    """Milliseconds to the first event: of a client just made, and of one that has a connection."""
    url = server + path("text", 3, pause=0.001)
    cold, warm = [], []
    _first_event(_ask(client, url))
    for _ in range(times):
        started = perf_counter()
        ask = _ask(client, url)
        cold.append(_first_event(ask, started))
        warm.append(_first_event(ask))
    return {"cold": median(cold) * 1e3, "warm": median(warm) * 1e3}


def _first_event(ask: Ask, started: float | None = None) -> float:
    started = started or perf_counter()
    words = ask()
    next(word for word in words if word)
    took = perf_counter() - started
    drained(words)
    return took


def keepalive(client: str, server: str, requests: int = 250, warm_up: int = 30) -> Result:
    """Milliseconds for one short answer after the other over a connection kept alive, and their ratio to the loop's,
    which is a bare POST."""

    def took(ask: Ask) -> float:
        started = perf_counter()
        drained(ask())
        return perf_counter() - started

    seconds, ratio = _beside_the_loop(client, server + path("text", 3), took, requests, warm_up=warm_up)
    return {"ms": seconds * 1e3, "ratio": ratio}


def connections(client: str, server: str, streams: int = 100) -> Result:
    """How many connections are opened for so many streams, one after the other."""
    ask = _ask(client, server + path("text", 5))
    before = _opened(server)
    for _ in range(streams):
        drained(ask())
    return {"opened": _opened(server) - before, "streams": streams}


def _opened(server: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(server).netloc)
    with closing(connection):
        connection.request("GET", "/connections")
        return int(connection.getresponse().read())


def imports(client: str, server: str, times: int = 15) -> Result:
    """CPU milliseconds that a new process takes until a client can ask, and their ratio to those of the loop; and
    what the import of the library by its name takes of them."""
    named = f"import {PEERS[client].library.replace('-', '_')}"
    lines = {"loop": PEERS["loop"].imports, client: PEERS[client].imports, "named": named}
    took: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(times + 1):
        for name, line in lines.items():
            took[name].append(_import(line))
    ms = {name: median(each[1:]) * 1e3 for name, each in took.items()}  # the first one compiles
    ratio = median(map(truediv, took[client][1:], took["loop"][1:]))
    return {"ms": ms[client], "ratio": ratio, "line": lines[client], "named": ms["named"]}


def _import(line: str) -> float:
    code = f"import time; started = time.process_time()\n{line}\nprint(time.process_time() - started)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.split()[-1])


def version(client: str, server: str) -> Result:
    """What was measured, and on which Python."""
    library = PEERS[client].library
    from_tree = library == "chatstream"
    number = importlib.import_module(library).__version__ if from_tree else importlib.metadata.version(library)
    return {"version": number, "python": platform.python_version()}


def memory(client: str, server: str, streams: int = 50) -> Result:
    """MB after one long stream, and KiB for each stream that is open and waits. Read from /proc: Linux only."""
    drained(_ask(client, server + path())())
    used = _resident()
    ask = _ask(client, server + path("text", 2, pause=IDLE))
    held = [ask() for _ in range(streams)]
    for words in held[:2]:
        next(word for word in words if word)
    before = _resident()
    for words in held[2:]:
        next(word for word in words if word)
    return {"mb": used / 1024, "idle": (_resident() - before) / (streams - 2)}


def hostile(client: str, server: str) -> Result:
    """MB that the process grows to for a bomb (200 MB of one line, packed) and for a line of 64 MB, and the errors."""
    drained(_ask(client, server + path())())
    found: Result = {"errors": []}
    for name, at in (("bomb", path("line", 200, "gzip")), ("line", path("line", 64))):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            drained(_ask(client, server + at)())
        except Exception as error:
            found["errors"].append(type(error).__name__)
        found[name] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def _resident() -> int:
    """KiB of this process in memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def many(client: str, server: str, threads: int = 500, seconds: float = 10.0, start: float = 5.0) -> Result:
    """So many threads with 20 events a second each: delays, whole answers, cores used.

    The threads share one client, and begin one after the other within ``start`` seconds. The delays are those of the
    time in which all of them stream, from a second after the last began until the first is done; ``worst`` is the
    99th percentile of all, beginnings and ends included.
    """
    events = int(seconds * 20)
    ask = _ask(client, server + path("text", events, pause=0.05))
    answers: list[list[float]] = []  # when each event was there, and its delay; numbers, so that none is collected
    errors: list[str] = []
    begun = perf_counter()

    def read(number: int) -> None:
        sleep(start * number / threads)
        try:
            seen: list[float] = []
            for delay in _delays(ask()):
                seen += (perf_counter() - begun, delay)
            answers.append(seen)
        except Exception as error:
            errors.append(type(error).__name__)

    started = process_time()
    crowd = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    used = (process_time() - started) / (perf_counter() - begun)
    delays = [each for answer in answers for each in zip(answer[::2], answer[1::2], strict=True)]
    settled = [delay for when, delay in delays if start + 1 < when < seconds]
    return {
        **(_percentiles(settled) if settled else {}),
        "worst": _percentiles([delay for _, delay in delays])["p99"] if delays else None,
        "whole": sum(len(answer) == 2 * events for answer in answers),
        "threads": threads,
        "cpu": used,
        "errors": sorted(set(errors)),
    }


def again(client: str, server: str, crowds: int = 5, interval: float = 0.005) -> Result:
    """The 99th percentiles of so many crowds, one after the other: a single one says little. ``interval`` is how many
    seconds a thread waits for the interpreter before it asks for it; Python's own is the default."""
    sys.setswitchinterval(interval)
    return {"p99": sorted(many(client, server)["p99"] for _ in range(crowds))}


MEASURES = {
    each.__name__: each
    for each in (cpu, alone, growth, delay, first, keepalive, connections, imports, memory, hostile, many, again)
}
MEASURES["version"] = version


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print("\n" + json.dumps(MEASURES[asked.pop("measure")](**asked)), flush=True)
