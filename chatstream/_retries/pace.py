"""How fast requests may be sent to a server with a rate limit: what it answers → requests per second.

    admitted · rejected · tokens used · x-ratelimit-* headers ─▶ Pace.interval, the seconds between two requests

Rules:
- A rejection is a response that says that there are too many requests (status 429). Until the first one there is no
  pace, except the ceilings of the caller. It sets the pace to what the server has admitted until it admits again.
- Each later rejection lowers the pace by a fifth. The pace then returns to where it was rejected, fast at first and
  slowly near that point, and leaves it the faster the longer there is no rejection: the limit has probably risen. This
  is the rule of CUBIC (RFC 9438) with a square in place of the cube.
- A server that rejects everything for long counts in windows of time. The pace is then what it has admitted on average,
  and returns as slowly as they follow each other.
- A pace that no call waits for is not raised, because it says nothing about the limit.
- Headers count where little is left: requests go out as fast as the server says that its limit fills up, and the more
  slowly the less is left, so that several processes share it.
- Pure: the time is an argument of each method that needs it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

DECREASE = 0.2  # of the pace, by a rejection. Two processes out of four may lower theirs, and the sum is within 15 %
RETURN = 15.0  # seconds until the pace is where it was rejected; it has doubled after three times that, in a minute
LONGEST_RETURN = 60.0  # seconds, where a server was closed for long: most windows last a minute at most
STEP = 0.2  # seconds that an answer counts at most: 75 answers for a return, so that fewer than 3 % are rejected
FIRST = 1.0  # seconds of the first return and of the first average, which may be far from the limit; then they double
WEIGHT = 4.0  # requests at the present pace that an average counts besides, because a few answers say little
LOW, SLOWEST = 0.1, 0.25  # of a limit: headers count below it; of its rate when nothing is left, for four processes
USUAL_TOKENS = 1000.0  # of a call, until the first answer
TOKENS_WEIGHT = 0.1  # of the latest answer in the mean; the first ten weigh the same
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


class _Opening(NamedTuple):
    """A moment at which the server began to admit requests, and the totals until then."""

    at: float
    admitted: int  # requests
    closed: float  # seconds in which the server rejected all


class Pace:
    """The pace of one client. ``requests`` and ``tokens`` are ceilings per minute, None for none.

    The server is closed from a rejection until it admits a request again.
    """

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        self._max_requests = math.inf if requests is None else requests / 60
        self._max_tokens = math.inf if tokens is None else tokens / 60
        self._tokens_per_call, self._counted = USUAL_TOKENS, 0
        self._low: dict[str, float] = {}  # requests and tokens per second, where headers say that little is left
        self._limit = math.inf  # requests per second: where the server is thought to reject
        self._is_known = False  # the limit has been measured
        self._return_time = FIRST  # seconds in which the pace returns to the limit
        self._returned = 1.0  # part of that time that has passed; above 1 the pace is above the limit
        self._admitted = 0  # requests
        self._admitted_at = -math.inf  # the latest of them
        self._has_waited = False  # a call had to wait for its turn since then
        self._is_closed = False
        self._closed_at = -math.inf
        self._closed = 0.0  # seconds
        self._openings = [_Opening(-math.inf, 0, 0.0)]  # the last two

    @property
    def _learned(self) -> float:
        """Requests per second, as rejections have taught."""
        distance = self._returned - 1
        return self._limit * (1 + DECREASE * distance * abs(distance))

    @property
    def rate(self) -> float:
        """Requests per second; infinite while no limit is known."""
        tokens = min(self._max_tokens, self._low.get("tokens", math.inf)) / self._tokens_per_call
        return min(self._learned, self._max_requests, self._low.get("requests", math.inf), tokens)

    @property
    def interval(self) -> float:
        """Seconds between two requests; 0 while no limit is known."""
        return 1 / self.rate

    def held(self) -> None:
        """A call waits for its turn."""
        self._has_waited = True

    def admitted(self, now: float, late: bool = False) -> None:
        """A request was answered; ``late`` if it was sent before the latest rejection."""
        self._forget_the_past(now)
        if not late:
            if self._is_closed:
                self._reopen(now)
            elif self._has_waited and self._is_known:
                self._return_by_one_answer(now)
            self._admitted_at, self._has_waited = now, False
        self._admitted += 1

    def rejected(self, now: float) -> None:
        """A request that was sent at the present pace was rejected."""
        self._forget_the_past(now)
        if not self._is_closed:
            self._limit = self._learned if self._is_known else 1.0  # until it admits again
            self._is_closed, self._closed_at, self._returned = True, now, 0.0

    def _forget_the_past(self, now: float) -> None:
        """Until the first rejection, the averages leave out what is long ago."""
        if not self._is_known and not self._is_closed and now - self._openings[-1].at > RETURN:
            was_idle = now - self._admitted_at > RETURN
            self._openings = [*([] if was_idle else self._openings[-1:]), _Opening(now, self._admitted, 0.0)]

    def _return_by_one_answer(self, now: float) -> None:
        usual = min(self._return_time, RETURN)
        seconds = self._return_time if self._returned < 1 else usual
        self._returned += min((now - self._admitted_at) / seconds, STEP / usual)

    def _reopen(self, now: float) -> None:
        """The server admits again: measure its limit over the time since it began to admit before."""
        self._closed += now - self._closed_at
        before = self._openings[0]  # of two, because the time since the last one may be very short
        seconds, closed = now - before.at, self._closed - before.closed
        admitted = self._admitted - before.admitted + WEIGHT
        was_closed_for_long = closed > DECREASE * seconds
        if not self._is_known:
            self._limit, self._returned = admitted / max(seconds, FIRST), 1.0
        else:
            self._return_time = max(self._return_time / 2, min(self._return_time * 2, RETURN))
            if was_closed_for_long:
                self._limit = min(self._limit, admitted / (seconds + WEIGHT / self._limit))
        if was_closed_for_long:
            self._return_time = max(self._return_time, min(now - self._openings[-1].at, LONGEST_RETURN))
        self._openings = [self._openings[-1], _Opening(now, self._admitted, self._closed)]
        self._is_closed, self._is_known = False, True

    def used(self, tokens: int) -> None:
        """An answer took so many tokens."""
        self._counted += 1
        self._tokens_per_call += max(1 / self._counted, TOKENS_WEIGHT) * (tokens - self._tokens_per_call)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Read what the server says of its limits, in the headers that OpenAI and most servers send."""
        for kind in ("requests", "tokens"):
            remaining = headers.get(f"x-ratelimit-remaining-{kind}")
            if remaining is None:
                self._low.pop(kind, None)
                continue
            left, limit = _number(remaining), _number(headers.get(f"x-ratelimit-limit-{kind}", ""))
            reset = seconds_of(headers.get(f"x-ratelimit-reset-{kind}", ""))
            low = limit * LOW
            if 0 <= left <= min(max(low, 1.0), limit - 1) and reset:
                is_small = low < 1  # nothing is left of such a limit most of the time
                self._low[kind] = (limit - left) / reset * (1.0 if is_small else max(left / low, SLOWEST))
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
