"""Servers with a rate limit: pure ones for simulations, and a real one in a process of its own.

limited_server.py RATE BURST [CHANGE_AFTER RATE]…   serves until stdin is closed, and prints its port first
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from typing import Any

from chatstream.testing import FaultServer, Wire, status, text_answer


class Bucket:
    """Admits ``rate`` requests a second in the long run, and ``burst`` of them at once. Pure: it is given the time."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self._burst, self._level, self._at = rate, burst, burst, 0.0

    def ask(self, now: float) -> float | None:
        """None if a request is admitted, else the seconds until one is."""
        self._level = min(self._burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return None
        return (1 - self._level) / self.rate

    def quota(self, now: float) -> tuple[float, float, float]:
        """The requests of a full bucket, those that are left, and the seconds until it is full again."""
        return self._burst, int(self._level), (self._burst - self._level) / self.rate


class Window:
    """Admits ``rate`` × ``seconds`` requests in each window of so many seconds."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate, self._seconds, self._window, self._count = rate, seconds, -1.0, 0

    def ask(self, now: float) -> float | None:
        """As `Bucket.ask`."""
        window = now // self._seconds
        if window != self._window:
            self._window, self._count = window, 0
        if self._count < self.rate * self._seconds:
            self._count += 1
            return None
        return (window + 1) * self._seconds - now

    def quota(self, now: float) -> tuple[float, float, float]:
        """As `Bucket.quota`."""
        most = self.rate * self._seconds
        return most, max(most - self._count, 0), (self._window + 1) * self._seconds - now


class SlidingWindow:
    """Admits ``rate`` × ``seconds`` requests in the latest so many seconds, at any time."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate, self._seconds = rate, seconds
        self._admitted: deque[float] = deque()

    def ask(self, now: float) -> float | None:
        """As `Bucket.ask`."""
        while self._admitted and self._admitted[0] <= now - self._seconds:
            self._admitted.popleft()
        over = len(self._admitted) - self.rate * self._seconds
        if over < 0:
            self._admitted.append(now)
            return None
        return self._admitted[int(over)] + self._seconds - now

    def quota(self, now: float) -> tuple[float, float, float]:
        """As `Bucket.quota`."""
        most = self.rate * self._seconds
        return most, max(most - len(self._admitted), 0), self._admitted[-1] + self._seconds - now


class LimitedAnswers:
    """A step that answers what ``bucket`` admits. ``log`` has the time of each request, and whether it was admitted."""

    def __init__(self, bucket: Bucket | Window, *, says_when: bool = True, seconds: float = 0.05) -> None:
        self.log: list[tuple[float, bool]] = []
        self.bucket = bucket
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._says_when, self._seconds = says_when, seconds

    def __call__(self, wire: Wire) -> None:
        with self._lock:
            now = time.monotonic() - self._began
            wait = self.bucket.ask(now)
            self.log.append((now, wait is None))
        if self._seconds:
            wire.wait(self._seconds)
        refusal = status(429, {"error": {"code": "rate_limit_exceeded"}}, self._headers(wait))
        for step in text_answer("fine") if wait is None else refusal:
            step(wire)

    def _headers(self, wait: float | None) -> dict[str, Any]:
        return {"retry-after-ms": f"{wait * 1000:.0f}"} if wait is not None and self._says_when else {}


def speed(log: list[tuple[float, bool]], begin: float, end: float) -> tuple[float, float]:
    """Admitted requests per second between two times, and the part of all requests that was refused."""
    admitted = [is_admitted for at, is_admitted in log if begin <= at < end]
    return sum(admitted) / (end - begin), 1 - sum(admitted) / max(len(admitted), 1)


def main() -> None:
    rate, burst, *changes = map(float, sys.argv[1:])
    at_once = changes == [0.0]
    answers = LimitedAnswers(Bucket(rate, burst), seconds=0.0 if at_once else 0.05)
    with FaultServer([answers]) as server:
        print(server.port, flush=True)
        for after, changed in zip(changes[::2], changes[1::2], strict=not at_once):
            threading.Timer(after, lambda to=changed: setattr(answers.bucket, "rate", to)).start()
        sys.stdin.read()
        print(json.dumps(answers.log), flush=True)


if __name__ == "__main__":
    main()
