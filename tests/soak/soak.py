"""The soak: many threads, a few clients, a random fault each time; and what of the library's promises was broken.

    plan(seed, number) ─▶ one stream: a fault, a way to take it, a deadline ─▶ outcome ─▶ Tally ─▶ figures, exit code

    python tests/soak/soak.py --seconds 60 --seed 7

Promises, each of which must hold for every stream:
- What is raised is a `ChatStreamError`, of a kind that the fault allows; nothing ends in a quiet success that is none.
- What is received is the beginning of this stream's own answer, and all of it where the stream completed.
- It ends by its deadline + 100 ms, and 50 ms after `cancel`.
And for all of them together: afterwards the process has as many file descriptors and threads as before, the servers
have no open connection, and resident memory is within 2 MiB of what it was after the warm-up.

How it is measured:
- The servers are processes of their own, so that descriptors, threads and memory here are the client's alone.
- A machine with other work to do wakes every thread late, and 200 threads wait for one interpreter lock. So control
  threads do, without the library, what the end of a stream is made of: they wait for a socket until a time of their
  own, and close it. A stream may be late by 100 ms plus three times what the worst control was that was due or late
  while the stream was: to wake, to shut down and to close each wait for the lock anew. All figures are printed raw too.
- Streams begin at an even pace. Where the controls come late, fewer begin, and lost time is not caught up with: a
  machine that can't take 10,000 of them makes fewer, and says so.
- Memory is read twice in the same state: threads joined, clients closed, garbage collected, and what the C allocator
  keeps of freed memory given back (``malloc_trim``). The process runs with one C heap for all threads, and without
  Python's own allocator on top of it (`ALLOCATOR`): either keeps megabytes that only tell how the threads happened to
  meet. A leak is as large in any heap. The warm-up is a soak itself, of the same width.
- A forgotten stream is closed by the garbage collector, which may meet its socket first: then both warn. So at most
  as many sockets may be warned of as streams were forgotten.
- Nothing here grows with the number of streams: outcomes are counted, and times kept in arrays that are dropped
  before the memory is read.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import requests
from kinds import EVENT_LIMIT, FOREVER, KINDS, Order

from chatstream import Client, Limits, Provider, ResponseStream, Turn
from chatstream.errors import Cancelled, ChatStreamError, DeadlineExceeded, IdleTimeout
from chatstream.types.events import FunctionCallDelta, OutputTextDelta

HERE = Path(__file__).resolve().parent
LATE = 0.1  # seconds that a stream may end after its deadline
WAKE = 0.05  # seconds from `cancel` to the end of the stream
DRIFT = 2048  # KiB of resident memory
ALLOCATOR = {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}
CONTROLS = 8  # threads
EXCUSE = 3  # times the worst control's lateness
CONTROL_WAIT = 0.04  # seconds
SHOWN = 10  # cases of each kind that are told in full
ANY_TIME = {DeadlineExceeded.__name__, IdleTimeout.__name__}  # a starved server is slow with every answer
WAYS = {
    "iterate": 6,
    "collect": 6,
    "aggregate": 3,
    "text": 2,
    "heartbeat": 2,
    "break": 2,
    "forget": 1,
    "cancel": 2,
    "close": 1,
}
PATIENCE: dict[str, Any] = {
    "stream_idle_timeout": 1.2,
    "finish_grace": 0.2,
    "request_max_retries": 2,
    "stream_max_retries": 2,
}
STRANGERS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class Plan:
    """One stream, as the seed wants it. ``client`` counts from 0, ``after`` is when to cancel or close it."""

    order: Order
    way: str
    client: int
    deadline: float
    after: float
    taken: int

    def __str__(self) -> str:
        faulty = "" if self.order.faulty == FOREVER else f" ×{self.order.faulty}"
        return f"{self.order.marker} {self.order.kind}{faulty}, {self.way}, deadline {self.deadline:.2f} s"


def plan(seed: int, number: int, clients: int) -> Plan:
    draw = random.Random(f"{seed}-{number}")
    kind = draw.choices(list(KINDS), [each.weight for each in KINDS.values()])[0]
    return Plan(
        Order(
            kind,
            f"<{number}>",
            draw.choice([3, 5, 8, 60]),
            draw.choice([1, 1, FOREVER]),
            2 if draw.random() < 0.1 else 1,
            seed,
        ),
        draw.choices(list(WAYS), list(WAYS.values()))[0],
        draw.choices(range(clients), [8 if index % 3 != 2 else 3 for index in range(clients)])[0],
        draw.uniform(0.2, 3.0),
        draw.choice([0.0, 0.02, draw.uniform(0, 0.5)]),
        draw.randrange(4),
    )


# ── one stream ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Lateness:
    """Moments that were due, and how late they came; in arrays, which are one block of memory each."""

    due: array[float] = field(default_factory=lambda: array("d"))
    late: array[float] = field(default_factory=lambda: array("d"))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, due: float, ended: float) -> None:
        with self.lock:
            self.due.append(due)
            self.late.append(max(ended - due, 0.0))

    def worst(self) -> float:
        return max(self.late, default=0.0)

    def percentile(self, share: float) -> float:
        return sorted(self.late)[int(share * (len(self.late) - 1))] if self.late else 0.0

    def beyond(self, controls: Lateness) -> float:
        """The most that any of these was late beyond the worst control of the same time."""
        worst = 0.0
        for due, late in zip(self.due, self.late, strict=True):
            if late > worst:  # else it can't be worse than the worst so far
                worst = max(worst, late - EXCUSE * controls.during(due, due + late))
        return worst

    def during(self, start: float, stop: float) -> float:
        together = (
            late
            for due, late in zip(self.due, self.late, strict=True)
            if due - CONTROL_WAIT < stop and due + late > start
        )
        return max(together, default=0.0)


class Tally:
    """What came out of all streams so far. ``broken`` are promises that one of them broke, told in full."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.tales: list[str] = []
        self.streams = 0
        self.warned = 0
        self.sockets = 0  # of forgotten streams, warned of too
        self.ends = Lateness()
        self.wakes = Lateness()
        self.controls = Lateness()
        self._lock = threading.Lock()

    def count(self, made: Plan, outcome: str) -> None:
        with self._lock:
            self.streams += 1
            self.outcomes[outcome] += 1
            self.kinds[made.order.kind] += 1

    def accuse(self, promise: str, tale: str) -> None:
        with self._lock:
            self.broken[promise] += 1
            if self.broken[promise] <= SHOWN:
                self.tales.append(f"{promise}: {tale}")


def run_one(client: Client, made: Plan, tally: Tally) -> None:
    """One stream from its call to its end, judged."""
    due = monotonic() + made.deadline
    try:
        outcome = take(client, made, tally)
    except ChatStreamError as error:
        ended = monotonic()
        outcome = type(error).__name__
        judge_error(made, error, tally)
    except BaseException as error:
        ended = monotonic()
        outcome = f"!{type(error).__name__}"
        tally.accuse("no untyped exception", f"{made}\n{''.join(traceback.format_exception(error))}")
    else:
        ended = monotonic()
    if ended > due:
        tally.ends.note(due, ended)
    tally.count(made, outcome)


def take(client: Client, made: Plan, tally: Tally) -> str:
    """Open the stream and take it in the way that was planned; returns how it ended, or raises."""
    order = made.order
    more: dict[str, Any] = {"n": order.choices} if order.choices > 1 else {}
    beat = 0.03 if made.way == "heartbeat" else None
    stream = client.stream(order.marker, deadline=made.deadline, heartbeat=beat, soak=asdict(order), **more)
    if made.way == "forget":
        return forget(stream, made)
    if stream.request_id not in (None, order.marker):
        tally.accuse("no mixed answers", f"{made}: request id {stream.request_id}")
    with interrupted(stream, made, tally):
        outcome = read(stream, made, tally)
    judge_turn(made, stream.turn, outcome, tally)
    return outcome


def forget(stream: ResponseStream, made: Plan) -> str:
    for _ in range(made.taken):
        next(stream, None)
    return "forgotten"


@contextmanager
def interrupted(stream: ResponseStream, made: Plan, tally: Tally) -> Iterator[None]:
    """Another thread cancels or closes the stream after a while, if that is the plan."""
    if made.way not in ("cancel", "close"):
        yield
        return
    cancelled: list[float] = []

    def interrupt() -> None:
        cancelled.append(monotonic())
        try:
            stream.cancel() if made.way == "cancel" else stream.close()
        except BaseException as error:
            tally.accuse("no untyped exception", f"{made}, interrupted: {error!r}")

    timer = threading.Timer(made.after, interrupt)
    timer.start()
    try:
        yield
    except Cancelled:
        if cancelled and (ended := monotonic()):
            tally.wakes.note(cancelled[0], ended)
        raise
    finally:
        timer.cancel()
        timer.join()


def read(stream: ResponseStream, made: Plan, tally: Tally) -> str:
    match made.way:
        case "collect":
            stream.collect()
        case "aggregate":
            for _ in stream.aggregate():
                pass
        case "text":
            text = "".join(stream.text())
            if text != stream.turn.text:
                tally.accuse("what was handed over is the turn", f"{made}: {text!r}")
        case "break":
            with stream:
                for number, _ in enumerate(stream):
                    if number == made.taken:
                        return "broken off"
        case _:
            read_events(stream, made, tally)
    return "whole" if stream.turn.status != "incomplete" or made.way != "close" else "closed"


def read_events(stream: ResponseStream, made: Plan, tally: Tally) -> None:
    said = ["", ""]
    for event in stream:
        if isinstance(event, (OutputTextDelta, FunctionCallDelta)):
            said[event.choice] += event.delta
    if [*map(said_by, stream.turn.choices)] != said[: len(stream.turn.choices)]:
        tally.accuse("what was handed over is the turn", f"{made}: {said!r}")


# ── the judges ──────────────────────────────────────────────────────────────────────────────────────────────────


def said_by(turn: Turn) -> str:
    return turn.text + "".join(call.arguments for call in turn.function_calls)


def judge_error(made: Plan, error: ChatStreamError, tally: Tally) -> None:
    name = type(error).__name__
    allowed = KINDS[made.order.kind].outcomes | ANY_TIME
    if name not in allowed and not (made.way == "cancel" and name == Cancelled.__name__):
        tally.accuse("every fault ends in its own error", f"{made}: {name}: {error}")
    strange = set(re.findall(r"<\d+>", str(error))) - {made.order.marker}
    if strange or error.request_id not in (None, made.order.marker):
        tally.accuse("no mixed answers", f"{made}: {error} (request id {error.request_id})")
    judge_turn(made, error.partial, name, tally)


def judge_turn(made: Plan, turn: Turn, outcome: str, tally: Tally) -> None:
    order = made.order
    expected = f'"{order.said}"' if order.kind == "call" else order.said
    may_be_whole = "whole" in KINDS[order.kind].outcomes or order.faulty != FOREVER
    said = [said_by(view) for view in turn.choices]
    if not all(any(each.startswith(text) for each in (expected, order.said)) for text in said):
        tally.accuse("no mixed answers", f"{made}, {outcome}: {said}")
    elif outcome == "whole" and not (may_be_whole and said == [expected] * order.choices):
        tally.accuse("no quiet success", f"{made}: {said}, {turn.status}")


# ── all of them ─────────────────────────────────────────────────────────────────────────────────────────────────


class Soak:
    """Threads that take one stream after the other, at the pace asked for, until the time is over."""

    def __init__(self, clients: list[Client], seed: int, first: int, tally: Tally) -> None:
        self.tally = tally
        self._clients = clients
        self._seed = seed
        self._next = first
        self._lag = 0.0  # seconds to go slower by, as the last control came late
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self, threads: int, seconds: float, streams: int) -> int:
        """Make ``streams`` in ``seconds``, or fewer where the machine can't; returns the next number."""
        self._due, self._pace = monotonic(), seconds / streams
        self._ends = self._due + seconds
        controls = [threading.Thread(target=self._control, args=[i]) for i in range(CONTROLS)]
        workers = [threading.Thread(target=self._work) for _ in range(threads)]
        janitor = threading.Thread(target=self._tidy)
        for thread in (*controls, *workers, janitor):
            thread.start()
        for thread in workers:
            thread.join()
        self._over.set()
        for thread in (*controls, janitor):
            thread.join()
        return self._next

    def _work(self) -> None:
        while (number := self._take_number()) is not None:
            made = plan(self._seed, number, len(self._clients))
            run_one(self._clients[made.client], made, self.tally)

    def _take_number(self) -> int | None:
        with self._lock:
            number, due = self._next, max(self._due, monotonic())  # time that was lost is not caught up with
            if due >= self._ends:
                return None
            self._next, self._due = number + 1, due + self._pace + self._lag
        if (wait := due - monotonic()) > 0:
            sleep(wait)
        return number

    def _control(self, index: int) -> None:
        """What the end of a stream is made of, without the library: a socket, a time, a close."""
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
            self.tally.controls.note(due, monotonic())

    def _tidy(self) -> None:
        """Now and then somebody closes a client that others are using: they go on with new connections."""
        turn = 0
        while not self._over.wait(1.7):
            self._clients[turn % len(self._clients)].close()
            turn += 1


class Servers:
    """The processes that answer; ``urls`` of plain ones and one of TLS for each."""

    def __init__(self, count: int, stack: ExitStack) -> None:
        self.urls: list[str] = []
        self.certificates: list[str] = []
        self._processes = [self._start(stack) for _ in range(count)]
        for process in self._processes:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            self.urls += told["urls"]
            self.certificates.append(told["certificate"])

    def _start(self, stack: ExitStack) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "soak_server.py")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        stack.callback(process.kill)
        return process

    def open_connections(self, within: float) -> int:
        """How many connections the servers still have, once there are none or after so many seconds."""
        left = 0
        for process in self._processes:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{within}\n")
            process.stdin.flush()
            left += int(process.stdout.readline())
        return left


def connect(servers: Servers, folder: Path) -> tuple[list[Client], requests.Session]:
    """Three clients for each server, the third of them over TLS, in a session of the caller's own."""
    bundle = folder / "authorities.pem"
    bundle.write_text("".join(servers.certificates))
    session = requests.Session()
    session.verify = str(bundle)
    clients = []
    for plain, secret in zip(servers.urls[::2], servers.urls[1::2], strict=True):
        for url, own in ((plain, None), (plain, None), (secret, session)):
            provider = Provider("soak", url, api_key="sk-soak", **PATIENCE)
            clients.append(Client(provider, model="m1", session=own, limits=Limits(event_bytes=EVENT_LIMIT)))
    return clients, session


# ── the process ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class State:
    """What the process holds; memory in KiB."""

    descriptors: int
    threads: int
    memory: int


def settle(opened: list[Any]) -> State:
    """The process at rest: everything that can be given back is."""
    for each in opened:
        each.close()
    for _ in range(3):
        gc.collect()
    with suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
    return State(len(os.listdir("/proc/self/fd")), threading.active_count(), resident())


def resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def watch_the_house(tallies: list[Tally]) -> None:
    """Errors that have no caller, and sockets that nobody closed, are broken promises too."""

    def hook(args: Any) -> None:
        tale = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        tallies[-1].accuse("no untyped exception", tale)

    def warned(message: Any, category: type[Warning], *_: Any) -> None:
        if "was neither read to its end nor closed" in str(message):
            tallies[-1].warned += 1
        elif str(message).startswith("unclosed <") and (tally := tallies[-1]).outcomes["forgotten"] > tally.sockets:
            tally.sockets += 1
        else:
            tallies[-1].accuse("no warning but of forgotten streams", f"{category.__name__}: {message}")

    sys.unraisablehook = threading.excepthook = hook
    warnings.showwarning = warned
    warnings.simplefilter("always")


def main() -> None:
    asked = arguments()
    if not ALLOCATOR.items() <= os.environ.items():  # must be there when the process starts
        os.execve(sys.executable, [sys.executable, *sys.argv, f"--seed={asked.seed}"], os.environ | ALLOCATOR)
    for name in [name for name in os.environ if name.upper() in STRANGERS]:
        del os.environ[name]
    print(f"seed {asked.seed}: {asked.streams} streams in {asked.seconds:g} s, {asked.threads} threads", flush=True)
    tallies = [Tally()]
    watch_the_house(tallies)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = Servers(asked.servers, stack)
        clients, session = connect(servers, folder)
        opened = [*clients, session]
        before = settle(opened)
        warm_up = Soak(clients, asked.seed, 0, tallies[-1])
        first = warm_up.run(asked.threads, asked.warm_up, round(asked.streams * asked.warm_up / asked.seconds))
        figures = figures_of(tallies[-1])  # as at the end: what it costs is no drift either
        warm = settle(opened)
        tallies.append(Tally())
        Soak(clients, asked.seed, first, tallies[-1]).run(asked.threads, asked.seconds, asked.streams)
        figures = figures_of(tallies[-1])
        after = settle(opened)
        figures |= {
            "seed": asked.seed,
            "connections_left": servers.open_connections(5.0),
            "descriptors": [before.descriptors, after.descriptors],
            "threads": [before.threads, after.threads],
            "memory_kib": [before.memory, warm.memory, after.memory],
        }
    broken = verdict(figures, tallies, asked.drift)
    show(figures, tallies, broken)
    sys.exit(1 if broken else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Many threads, a few clients, a random fault each time.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds, before them")
    parser.add_argument("--streams", type=int, help="in that time; 10,000 a minute if not given")
    parser.add_argument("--threads", type=int, default=200)
    parser.add_argument("--servers", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--drift", type=int, default=DRIFT, help="KiB that memory may grow by")
    asked = parser.parse_args()
    asked.streams = asked.streams or max(round(asked.seconds * 10_000 / 60), 1)
    return asked


def figures_of(tally: Tally) -> dict[str, Any]:
    """What was measured, in numbers; times in milliseconds. The arrays of it are dropped."""
    figures = {
        "streams": tally.streams,
        "outcomes": dict(tally.outcomes.most_common()),
        "kinds": dict(tally.kinds.most_common()),
        "warned_of_forgotten": tally.warned,
        "late": told_lateness(tally.ends, tally.controls),
        "cancelled": told_lateness(tally.wakes, tally.controls),
        "control": told_lateness(tally.controls),
    }
    tally.ends, tally.wakes, tally.controls = Lateness(), Lateness(), Lateness()
    return figures


def told_lateness(times: Lateness, controls: Lateness | None = None) -> dict[str, float]:
    told = {
        "count": len(times.late),
        "median_ms": times.percentile(0.5),
        "p99_ms": times.percentile(0.99),
        "worst_ms": times.worst(),
    }
    if controls is not None:
        told["beyond_control_ms"] = times.beyond(controls)
    return {name: value if name == "count" else round(1000 * value, 1) for name, value in told.items()}


def verdict(figures: dict[str, Any], tallies: list[Tally], drift: int) -> list[str]:
    """The promises that were broken, each with its figure."""
    broken = [f"{promise}: {count}" for tally in tallies for promise, count in tally.broken.items()]
    limits = {
        f"ended by deadline + {LATE * 1000:.0f} ms": figures["late"]["beyond_control_ms"] <= 1000 * LATE,
        f"awake {WAKE * 1000:.0f} ms after cancel": figures["cancelled"]["beyond_control_ms"] <= 1000 * WAKE,
        "file descriptors as before": figures["descriptors"][0] == figures["descriptors"][1],
        "threads as before": figures["threads"][0] == figures["threads"][1],
        "no connection left open": figures["connections_left"] == 0,
        f"memory within {drift} KiB": figures["memory_kib"][2] - figures["memory_kib"][1] < drift,
        "most answers that are whole came whole": figures["outcomes"].get("whole", 0) > 0.2 * figures["streams"],
    }
    return broken + [promise for promise, kept in limits.items() if not kept]


def show(figures: dict[str, Any], tallies: list[Tally], broken: list[str]) -> None:
    for name, count in figures["outcomes"].items():
        print(f"{count:8} {name}")
    print(f"{figures['streams']:8} streams")
    for name in ("late", "cancelled", "control"):
        print(f"{name:>10}: " + ", ".join(f"{key} {value}" for key, value in figures[name].items()))
    for name in ("descriptors", "threads", "memory_kib"):
        print(f"{name}: " + " → ".join(map(str, figures[name])))
    for tale in [tale for tally in tallies for tale in tally.tales]:
        print(f"\n✗ {tale}")
    print(json.dumps(figures))
    for promise in broken:
        print(f"broken promise: {promise}", file=sys.stderr)


if __name__ == "__main__":
    main()
