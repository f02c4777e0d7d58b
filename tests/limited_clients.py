"""Processes that ask a server with a rate limit, in a simulation: their `RateLimit` and `Pace` are the real ones.

Simulation(server, processes).run(until)  ─▶ log, as that of `LimitedAnswers`
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from itertools import count
from typing import Any
from unittest.mock import patch

from limited_server import speed

from chatstream._retries import rate_limit
from chatstream._retries.pace import Pace
from chatstream._retries.rate_limit import RateLimit
from chatstream._retries.retry import backoff

TICK = 1e-6  # seconds: a call does not wake too early because of rounding


class Process:
    """A process: its limit, and the calls that wait: when each began, and the number of its requests."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.limit = RateLimit(self.pace)
        self.waiting: list[tuple[float, int]] = []
        self.wakes_at = math.inf


class Simulation:
    """Processes whose threads ask again as soon as they are answered, which takes 50 to 150 ms.

    A server that ``says_when`` sends Retry-After, and one with ``headers`` sends ``x-ratelimit-*``.
    """

    def __init__(
        self, server: Any, processes: int, *, says_when: bool = True, headers: bool = False, seed: int = 1
    ) -> None:
        self.log: list[tuple[float, bool]] = []
        self.processes = [Process() for _ in range(processes)]
        self._now = 0.0
        self._server, self._says_when, self._headers = server, says_when, headers
        self._random = random.Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        for number in range(32 if server.rate < 100 else 64):
            self._after(self._random.random() / 100, self._begin, self.processes[number % processes])

    def _after(self, seconds: float, what: Callable[..., None], *values: Any) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), what, values))

    def run(self, until: float) -> None:
        """Let the time pass."""
        with patch.object(rate_limit, "monotonic", lambda: self._now):
            while self._events[0][0] < until:
                self._now, _, what, values = heapq.heappop(self._events)
                what(*values)

    def _begin(self, process: Process) -> None:
        self._wait(process, (self._now, 1))

    def _wait(self, process: Process, call: tuple[float, int]) -> None:
        """As `RateLimit.wait`: without a limit, a call is sent at once."""
        if process.limit._interval:
            heapq.heappush(process.waiting, call)
            self._wake(process)
        else:
            self._send(process, call)

    def _wake(self, process: Process) -> None:
        if self._now > process.wakes_at - TICK:
            process.wakes_at = math.inf
        while process.waiting:
            _, delay = process.limit._delay(process.waiting[0][0])
            if delay > 0:
                if self._now + delay < process.wakes_at - 2 * TICK:
                    process.wakes_at = self._now + delay + TICK
                    self._after(delay + TICK, self._wake, process)
                return
            self._send(process, heapq.heappop(process.waiting))

    def _send(self, process: Process, call: tuple[float, int]) -> None:
        self._after(self._random.random() / 500, self._arrive, process, call, self._now)

    def _arrive(self, process: Process, call: tuple[float, int], sent_at: float) -> None:
        wait = self._server.ask(self._now)
        self.log.append((self._now, wait is None))
        headers = {}
        if self._headers:
            limit, left, reset = self._server.quota(self._now)
            values = {"limit": f"{limit:g}", "remaining": f"{left:g}", "reset": f"{reset:.3f}s"}
            headers = {f"x-ratelimit-{name}-requests": value for name, value in values.items()}
        self._after(0.05 + self._random.random() / 10, self._answer, process, call, sent_at, (wait, headers))

    def _answer(self, process: Process, call: tuple[float, int], sent_at: float, answer: Any) -> None:
        wait, headers = answer
        process.pace.observe(headers)
        if wait is None:
            process.limit.admitted(sent_at)
            self._begin(process)
            return
        began, requests = call
        process.limit.pause(wait if self._says_when else backoff(requests, self._random.uniform(0.9, 1.1)), sent_at)
        self._wait(process, (began, requests + 1))


def settled(
    make_server: Callable[[float], Any], limit: float, processes: int, **more: Any
) -> list[tuple[float, float]]:
    """Admitted requests ÷ those that the limit allows, and the part that is refused: at a limit, at twice that limit,
    and at the first again, each after a minute, or after 100 answers of a process if that takes longer.
    """
    server = make_server(limit)
    simulation = Simulation(server, processes, **more)
    settling, measuring = (60 * math.ceil(max(wanted / limit, 60) / 60) for wanted in (100 * processes, 400))
    found, now = [], 0
    for rate in (limit, 2 * limit, limit):
        server.rate = rate
        now += settling + max(measuring, 120)
        simulation.run(now)
        admitted, refused = speed(simulation.log, now - max(measuring, 120), now)
        found.append((admitted / rate, refused))
    return found
