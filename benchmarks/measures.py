"""What is measured, inside the environment of the client: one measure a process.

    {"measure": …, "client": …, …} as JSON, first argument ──▶ JSON on standard output

Rules:
- A measure of CPU time runs the script writer's loop in the same process, in turns: the ratio is what counts.
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
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from operator import truediv
from pathlib import Path
from statistics import median, quantiles
from time import monotonic_ns, perf_counter, process_time, sleep
from typing import Any
from urllib.parse import urlsplit

from . import clients
from .clients import Ask, drained
from .peers import PEERS
from .server import IDLE, ROOT, path
from .shapes import STAMP, expected

Result = dict[str, Any]


def _ask(client: str, url: str, shape: str = "text") -> Ask:
    return getattr(clients, client)(url, shape)


def cpu(client: str, server: str, shape: str = "text", events: int = 5000, rounds: int = 7) -> Result:
    """CPU µs per event, and its ratio to the loop's; median of the rounds, after one that does not count."""
    url = server + path(shape, events)
    asks = {"loop": _ask("loop", url, shape), client: _ask(client, url, shape)}
    times: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(rounds + 1):
        for name, ask in asks.items():
            took, size = _timed(ask)
            if size not in (0, expected(shape, events)):  # 0: what the client has no place for
                raise RuntimeError(f"{name} got {size} characters of {expected(shape, events)}")
            if number:
                times[name].append(took)
    ratio = median(map(truediv, times[client], times["loop"]))
    return {"us": median(times[client]) / events * 1e6, "ratio": ratio, "shown": size > 0}


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


def alone(client: str, server: str, events: int = 500, pause: float = 0.002) -> Result:
    """CPU µs per event when each comes alone, and its ratio to the loop's."""
    url = server + path("text", events, pause=pause)
    asks = {"loop": _ask("loop", url), client: _ask(client, url)}
    times = {name: [_timed(ask)[0] for _ in range(3)][1:] for name, ask in asks.items()}
    return {"us": min(times[client]) / events * 1e6, "ratio": min(times[client]) / min(times["loop"])}


def delay(client: str, server: str, framing: str = "chunked", events: int = 400, pause: float = 0.003) -> Result:
    """Milliseconds from sending an event to having it: median and 99th percentile."""
    ask = _ask(client, server + path("text", events, framing, pause))
    drained_once = _delays(_ask(client, server + path("text", 5, framing, pause))())
    return {**_percentiles(_delays(ask())), "whole": len(drained_once) == 5}


def _delays(words: Iterator[str]) -> list[float]:
    """In milliseconds, one for each event."""
    return [(monotonic_ns() - int(word)) / 1e6 for word in words if len(word) == STAMP]


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


def imports(client: str, server: str, times: int = 7) -> Result:
    """CPU milliseconds that the client's imports take in a new process, and their ratio to those of the loop."""
    lines = {"loop": PEERS["loop"].imports, client: PEERS[client].imports}
    took: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(times + 1):
        for name, line in lines.items():
            took[name].append(_import(line))
    ms = {name: median(each[1:]) * 1e3 for name, each in took.items()}  # the first one compiles
    return {"ms": ms[client], "ratio": ms[client] / ms["loop"], "line": lines[client]}


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


def _resident() -> int:
    """KiB of this process in memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def many(client: str, server: str, threads: int = 500, seconds: float = 6.0) -> Result:
    """So many threads with 20 events a second each: delays after the first two seconds, whole answers, CPU.

    The threads start within two seconds and share one client.
    """
    events = int(seconds * 20)
    ask = _ask(client, server + path("text", events, pause=0.05))
    delays: list[list[float]] = []
    errors: list[str] = []

    def read(number: int) -> None:
        sleep(2.0 * number / threads)
        try:
            delays.append(_delays(ask()))
        except Exception as error:
            errors.append(type(error).__name__)

    started = process_time(), perf_counter()
    crowd = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    used = (process_time() - started[0]) / (perf_counter() - started[1])
    settled = [each for answer in delays for each in answer[40:]]
    whole = sum(len(answer) == events for answer in delays)
    return {
        **(_percentiles(settled) if settled else {}),
        "whole": whole,
        "threads": threads,
        "cpu": used,
        "errors": sorted(set(errors)),
    }


MEASURES = {each.__name__: each for each in (cpu, alone, growth, delay, first, connections, imports, memory, many)}
MEASURES["version"] = version


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print("\n" + json.dumps(MEASURES[asked.pop("measure")](**asked)), flush=True)
