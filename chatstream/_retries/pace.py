"""How fast requests may be sent to a server with a rate limit: what it answers → requests per second.

    admitted · refused · tokens used · x-ratelimit-* headers ─▶ Pace.interval, the seconds between two requests

Rules:
- Until a refusal there is no pace, but for the ceilings that the caller gives. The first refusal sets it to what the
  server has admitted until it admits again.
- Later refusals lower it by a tenth or more (multiplicative decrease), once in `SETTLE` seconds, and time without one
  raises it slowly (additive increase). After `STEADY` seconds the steps grow: the limit has probably risen.
- A pace that nobody waits for is not raised, because it says nothing about the limit.
- Headers count where little is left: requests go out as fast as the server says that its limit fills up, and the more
  slowly the less is left, so that several processes share it.
- Pure: every method is given the time.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping

WINDOW = 10.0  # seconds before the first refusal whose admitted requests are counted
DECREASE, LARGEST_DECREASE = 0.9, 0.5
SETTLE, SETTLE_REQUESTS = 1.0, 4  # seconds and requests that pass before the pace is lowered again
OPEN_REQUESTS = 20  # admitted between two times in which the server is closed, so that they say how fast it is
ADMITTED = 0.95  # of the requests that the server admits in a second: the pace is not lowered further at once
INCREASE, LARGEST_INCREASE = 0.006, 0.1  # of the pace, each second
INCREASE_PER_REQUEST = 0.4  # of the increase of a second, so that a slow limit is not reached too often
FIRST_INCREASE, FIRST_LOWERINGS = 0.2, 2  # each second until then: the first estimate may be far too low
STEADY, STEADY_REQUESTS = 12.0, 50  # seconds and requests without a refusal
BINDING = 1.0  # seconds since a call had to wait, in which the pace is raised
LOW, SLOWEST = 0.1, 0.1  # of a limit: headers count below it; of its rate: the pace when nothing is left
USUAL_TOKENS, TOKENS_WEIGHT = 1000.0, 0.1  # of a call that is not known yet; of the latest answer in the mean
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


class Pace:
    """The pace of one client. ``requests`` and ``tokens`` are ceilings per minute, None for none."""

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        self._ceiling = math.inf if requests is None else requests / 60
        self._tokens = math.inf if tokens is None else tokens / 60
        self._tokens_per_call = USUAL_TOKENS
        self._low: dict[str, float] = {}  # requests and tokens per second, where headers say that little is left
        self._learned = math.inf  # requests per second
        self._first: deque[float] = deque()  # when requests were admitted, until the first estimate stands
        self._held_at = self._raised_at = self._lowered_at = self._refused_at = self._open_since = -math.inf
        self._admitted = self._refused = 0  # since the pace was lowered
        self._admitted_open = 0  # since the server admits again
        self._lowerings = 0
        self._is_closed = False  # nothing was admitted since the latest refusal

    @property
    def rate(self) -> float:
        """Requests per second; infinite while no limit is known."""
        tokens = min(self._tokens, self._low.get("tokens", math.inf)) / self._tokens_per_call
        return min(self._learned, self._ceiling, self._low.get("requests", math.inf), tokens)

    @property
    def interval(self) -> float:
        """Seconds between two requests; 0 while no limit is known."""
        return 1 / self.rate

    def held(self, now: float) -> None:
        """A call waits for its turn."""
        self._held_at = now

    def admitted(self, now: float, late: bool = False) -> None:
        """A request was answered; ``late`` if it was sent before the latest refusal."""
        if self._learned == math.inf:
            self._first.append(now)
            while self._first[0] < now - WINDOW:
                self._first.popleft()
        elif self._first:
            self._first.append(now)
            self._estimate(self._raised_at if late else now)
            if not late:
                self._first.clear()
        elif not late:
            self._adapt(now)
        if not late:
            self._note_admitted(now)

    def _note_admitted(self, now: float) -> None:
        if self._is_closed:
            self._is_closed, self._open_since, self._admitted_open = False, now, 0
        self._admitted += 1
        self._admitted_open += 1
        self._raised_at = max(now, self._raised_at)

    def _estimate(self, until: float) -> None:
        """Take what the server has admitted until it admits again for what it admits in that time."""
        self._learned = len(self._first) / max(until - self._first[0], SETTLE)

    def _adapt(self, now: float) -> None:
        """Lower the pace after the server was closed for long, otherwise raise it."""
        if self._is_closed and now - self._refused_at >= SETTLE:
            if self._admitted_open >= OPEN_REQUESTS:
                speed = self._admitted_open / (now - self._open_since)
                self._learned = min(self._learned, max(speed, LARGEST_DECREASE * self._learned))
        elif now - self._held_at < BINDING:
            steady = min(now - self._lowered_at - STEADY, self._admitted / STEADY_REQUESTS - 1)
            step = min(INCREASE * (1 + max(steady, 0)), LARGEST_INCREASE)
            step = FIRST_INCREASE if self._lowerings <= FIRST_LOWERINGS else step
            self._learned *= 1 + step * min(max(now - self._raised_at, 0.0), INCREASE_PER_REQUEST)

    def refused(self, now: float, pause: float) -> None:
        """A request that was sent at the present pace was refused, and all wait for ``pause`` seconds now."""
        self._refused += 1
        if self._learned == math.inf:
            self._first = self._first or deque([now])
            self._estimate(now + pause)
            self._lower(now, 1.0)
        elif self._admitted and now - self._lowered_at >= max(SETTLE, SETTLE_REQUESTS / self._learned):
            share = self._admitted / (self._admitted + self._refused)
            speed = ADMITTED * self._admitted / (now - self._lowered_at) / self._learned
            self._lower(now, min(DECREASE, max(share, speed, LARGEST_DECREASE)))
        if not self._is_closed:
            self._is_closed, self._refused_at = True, now
        self._raised_at = now + pause

    def _lower(self, now: float, factor: float) -> None:
        self._learned *= factor
        self._lowered_at, self._admitted, self._refused = now, 0, 0
        self._lowerings += 1

    def used(self, tokens: int) -> None:
        """An answer took so many tokens."""
        self._tokens_per_call += TOKENS_WEIGHT * (tokens - self._tokens_per_call)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Read what the server says of its limits, in the headers that OpenAI and most servers send."""
        for kind in ("requests", "tokens"):
            remaining = headers.get(f"x-ratelimit-remaining-{kind}")
            if remaining is None:
                self._low.pop(kind, None)
                continue
            left, limit = _number(remaining), _number(headers.get(f"x-ratelimit-limit-{kind}", ""))
            reset = seconds_of(headers.get(f"x-ratelimit-reset-{kind}", ""))
            low = max(limit * LOW, 1.0)
            if 0 <= left <= min(low, limit - 1) and reset:
                self._low[kind] = (limit - left) / reset * max(left / low, SLOWEST)
            else:
                self._low.pop(kind, None)


def seconds_of(text: str) -> float:
    """The seconds of ``1h2m3.5s``, ``20ms`` or ``3.5``; 0 for anything else, such as a date."""
    number = _number(text)
    if number >= 0:
        return number if number < 1e8 else 0.0  # a Unix time
    match = _DURATION.fullmatch(text.strip())
    return math.fsum(float(part) * unit for part, unit in zip(match.groups("0"), _UNITS, strict=True)) if match else 0.0


def _number(text: str) -> float:
    """The number in a header; -1 if there is none."""
    return float(text) if text.isascii() and re.fullmatch(r"\s*\d{1,15}(\.\d{1,15})?\s*", text) else -1.0
