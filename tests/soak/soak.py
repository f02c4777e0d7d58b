"""The soak: many threads share a few clients, each stream has a random fault, and every promise is checked.

    python tests/soak/soak.py --seconds 60 --seed 7

Promises for every stream:
- It raises only a `ChatStreamError`, of a class that its scenario allows; a stream that is not whole raises one.
- The text received is the beginning of its own answer, and all of it where the stream completed.
- It ends within 100 ms of its deadline, and within 50 ms of `cancel`.
Promises for all streams together: afterwards the process has as many file descriptors and threads as before, the
servers have no open connection, and the memory allocated has grown by less than 256 KiB since the end of the warm-up.

How it is measured:
- The servers are separate processes, so that file descriptors, threads and memory here belong to the client alone.
- A busy machine wakes every thread late, and 200 threads wait for one interpreter lock. So control threads do what a
  stream does at its end, without the library: they wait for a socket until a given time, and close it. A stream may be
  late by 100 ms plus three times the lateness of the worst control that was due or late at the same time, because
  waking, shutting down and closing each wait for the lock. The report shows all figures without this correction too.
- Streams begin at an even pace. Where the controls are late fewer begin, and lost time is not made up for: a machine
  that is too slow for 10,000 streams runs fewer, and the report says so.
- Memory is read twice in the same state: threads joined, clients closed, garbage collected (`process_state.py`). The
  process runs without Python's own allocator, so that the C allocator counts every object. The warm-up is a soak with
  the same number of threads.
- The garbage collector closes a forgotten stream, and may finalize its socket first: then both warn. So at most as many
  warnings of sockets are allowed as streams were forgotten.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import requests
from one_stream import make_plan, run_stream
from process_state import ALLOCATOR, idle_state
from scenarios import EVENT_LIMIT
from tally import CONTROL_WAIT, Tally

from chatstream import Client, Limits, Provider

HERE = Path(__file__).resolve().parent
LATE = 0.1  # seconds that a stream may end after its deadline
WAKE = 0.05  # seconds from `cancel` to the end of the stream
MEMORY_GROWTH = 256  # KiB allocated
CONTROLS = 8  # threads
SETTINGS: dict[str, Any] = {
    "stream_idle_timeout": 1.2,
    "finish_grace": 0.2,
    "request_max_retries": 2,
    "stream_max_retries": 2,
}
NETWORK_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "NETRC",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


# ── threads and servers ─────────────────────────────────────────────────────────────────────────────────────────


class Soak:
    """Threads that run one stream after the other, at an even pace, until the time is over."""

    def __init__(self, clients: list[Client], seed: int, first: int, tally: Tally) -> None:
        self.tally = tally
        self._clients = clients
        self._seed = seed
        self._next = first
        self._lag = 0.0  # seconds that are added to the pace, because the last control was late
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self, threads: int, seconds: float, streams: int) -> int:
        """Run ``streams`` streams in ``seconds``, or fewer on a slow machine; returns the next number."""
        self._due, self._pace = monotonic(), seconds / streams
        self._ends = self._due + seconds
        controls = [threading.Thread(target=self._control, args=[i]) for i in range(CONTROLS)]
        workers = [threading.Thread(target=self._work) for _ in range(threads)]
        closer = threading.Thread(target=self._close_clients)
        for thread in (*controls, *workers, closer):
            thread.start()
        for thread in workers:
            thread.join()
        self._over.set()
        for thread in (*controls, closer):
            thread.join()
        return self._next

    def _work(self) -> None:
        while (number := self._take_number()) is not None:
            plan = make_plan(self._seed, number, len(self._clients))
            run_stream(self._clients[plan.client], plan, self.tally)

    def _take_number(self) -> int | None:
        with self._lock:
            number, due = self._next, max(self._due, monotonic())  # lost time is not made up for
            if due >= self._ends:
                return None
            self._next, self._due = number + 1, due + self._pace + self._lag
        if (wait := due - monotonic()) > 0:
            sleep(wait)
        return number

    def _control(self, index: int) -> None:
        """Does what a stream does at its end, without the library: waits for a socket, and closes it."""
        self._over.wait(CONTROL_WAIT * index / CONTROLS)
        while not self._over.is_set():
            ours, theirs = socket.socketpair()
            due = monotonic() + CONTROL_WAIT
            ours.settimeout(CONTROL_WAIT)
            with suppress(TimeoutError):
                ours.recv(1)
            ours.shutdown(socket.SHUT_RDWR)
            ours.close()
            theirs.close()
            self._lag = max(monotonic() - due - CONTROL_WAIT, 0.0) / 2
            self.tally.controls.record(due, monotonic())

    def _close_clients(self) -> None:
        """Closes one client after the other while threads use them; their next calls open new connections."""
        turn = 0
        while not self._over.wait(1.7):
            self._clients[turn % len(self._clients)].close()
            turn += 1


class Servers:
    """The server processes; each has one URL without TLS and one with it, in this order in ``urls``."""

    def __init__(self, count: int, stack: ExitStack) -> None:
        self.urls: list[str] = []
        self.certificates: list[str] = []
        self._processes = [self._start(stack) for _ in range(count)]
        for process in self._processes:
            assert process.stdout
            ready = json.loads(process.stdout.readline())
            self.urls += ready["urls"]
            self.certificates.append(ready["certificate"])

    def _start(self, stack: ExitStack) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "soak_server.py")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        stack.callback(process.kill)
        return process

    def open_connections(self, within: float) -> int:
        """How many connections are open on the servers, as soon as none is or after ``within`` seconds."""
        total = 0
        for process in self._processes:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{within}\n")
            process.stdin.flush()
            total += int(process.stdout.readline())
        return total


def make_clients(servers: Servers, folder: Path) -> tuple[list[Client], requests.Session]:
    """Three clients for each server, the third over TLS; these share the session returned."""
    bundle = folder / "authorities.pem"
    bundle.write_text("".join(servers.certificates))
    session = requests.Session()
    session.verify = str(bundle)
    clients = []
    for http_url, https_url in zip(servers.urls[::2], servers.urls[1::2], strict=True):
        for url, own in ((http_url, None), (http_url, None), (https_url, session)):
            provider = Provider("soak", url, api_key="sk-soak", **SETTINGS)
            clients.append(Client(provider, model="m1", session=own, limits=Limits(event_bytes=EVENT_LIMIT)))
    return clients, session


# ── the process ─────────────────────────────────────────────────────────────────────────────────────────────────


def record_unhandled(tallies: list[Tally]) -> None:
    """Count exceptions that no caller receives, and warnings of unclosed sockets, as violations."""

    def hook(args: Any) -> None:
        details = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        tallies[-1].add_violation("no untyped exception", details)

    def show_warning(message: Any, category: type[Warning], *_: Any) -> None:
        tally = tallies[-1]
        if "was neither read to its end nor closed" in str(message):
            tally.stream_warnings += 1
        elif str(message).startswith("unclosed <") and tally.outcomes["forgotten"] > tally.socket_warnings:
            tally.socket_warnings += 1
        else:
            tally.add_violation("no warning but of forgotten streams", f"{category.__name__}: {message}")

    sys.unraisablehook = threading.excepthook = hook
    warnings.showwarning = show_warning
    warnings.simplefilter("always")


# ── the run and its report ──────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    options = parse_options()
    if not ALLOCATOR.items() <= os.environ.items():  # takes effect only when the process starts
        os.execve(sys.executable, [sys.executable, *sys.argv, f"--seed={options.seed}"], os.environ | ALLOCATOR)
    for name in [name for name in os.environ if name.upper() in NETWORK_VARIABLES]:
        del os.environ[name]
    print(
        f"seed {options.seed}: {options.streams} streams in {options.seconds:g} s, {options.threads} threads",
        flush=True,
    )
    tallies = [Tally()]
    record_unhandled(tallies)
    figures = run(options, tallies)
    broken = broken_promises(figures, tallies, options.drift)
    show(figures, tallies, broken)
    sys.exit(1 if broken else 0)


def run(options: argparse.Namespace, tallies: list[Tally]) -> dict[str, Any]:
    """The warm-up, which has the first tally, and the soak, whose tally is appended; returns the figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = Servers(options.servers, stack)
        clients, session = make_clients(servers, folder)
        opened = [*clients, session]
        before = idle_state(opened)
        warm_up = Soak(clients, options.seed, 0, tallies[-1])
        streams = round(options.streams * options.warm_up / options.seconds)
        first = warm_up.run(options.threads, options.warm_up, streams)
        figures = tallies[-1].take_figures()  # as at the end, so that its memory is not counted as growth
        warm = idle_state(opened)
        tallies.append(Tally())
        Soak(clients, options.seed, first, tallies[-1]).run(options.threads, options.seconds, options.streams)
        figures = tallies[-1].take_figures()
        after = idle_state(opened)
        return figures | {
            "seed": options.seed,
            "connections_left": servers.open_connections(5.0),
            "descriptors": [before.descriptors, after.descriptors],
            "threads": [before.threads, after.threads],
            "allocated_kib": [before.allocated, warm.allocated, after.allocated],
            "resident_kib": [before.resident, warm.resident, after.resident],
        }


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Many threads share a few clients; each stream has a random fault.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds of warm-up before")
    parser.add_argument("--streams", type=int, help="number of streams; 10,000 per minute by default")
    parser.add_argument("--threads", type=int, default=200)
    parser.add_argument("--servers", type=int, default=2, help="server processes")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--drift", type=int, default=MEMORY_GROWTH, help="KiB by which allocated memory may grow")
    options = parser.parse_args()
    options.streams = options.streams or max(round(options.seconds * 10_000 / 60), 1)
    return options


def broken_promises(figures: dict[str, Any], tallies: list[Tally], drift: int) -> list[str]:
    """The promises that were broken, each with its figure."""
    violations = [f"{promise}: {count}" for tally in tallies for promise, count in tally.violations.items()]
    limits = {
        f"ended by deadline + {LATE * 1000:.0f} ms": figures["late"]["beyond_control_ms"] <= 1000 * LATE,
        f"awake {WAKE * 1000:.0f} ms after cancel": figures["cancelled"]["beyond_control_ms"] <= 1000 * WAKE,
        "file descriptors as before": figures["descriptors"][0] == figures["descriptors"][1],
        "threads as before": figures["threads"][0] == figures["threads"][1],
        "no connection left open": figures["connections_left"] == 0,
        f"allocated memory within {drift} KiB": figures["allocated_kib"][2] - figures["allocated_kib"][1] < drift,
        "more than a fifth of all streams are whole": figures["outcomes"].get("whole", 0) > 0.2 * figures["streams"],
    }
    return violations + [promise for promise, kept in limits.items() if not kept]


def show(figures: dict[str, Any], tallies: list[Tally], broken: list[str]) -> None:
    for name, count in figures["outcomes"].items():
        print(f"{count:8} {name}")
    print(f"{figures['streams']:8} streams")
    for name in ("late", "cancelled", "control"):
        print(f"{name:>10}: " + ", ".join(f"{key} {value}" for key, value in figures[name].items()))
    for name in ("descriptors", "threads", "allocated_kib", "resident_kib"):
        print(f"{name}: " + " → ".join(map(str, figures[name])))
    for report in [report for tally in tallies for report in tally.reports]:
        print(f"\n✗ {report}")
    print(json.dumps(figures))
    for promise in broken:
        print(f"broken promise: {promise}", file=sys.stderr)


if __name__ == "__main__":
    main()
