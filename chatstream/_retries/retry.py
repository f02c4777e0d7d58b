"""When to try again, and how long to wait: decisions only, no sleep and no I/O.

Rules:
- The headers of the server take precedence: ``x-should-retry``, then ``retry-after-ms``, then ``Retry-After``.
- Otherwise 408, 409, 429 and 5xx are retried after 200 ms × 2^(n−1), varied at random by up to 10 % either way.
- A delay that makes no sense is ignored; one above the limit of the caller is reported instead of slept.
- All calls of a client share one budget, so that a failing server does not receive several times as many requests.
- A rate limit that says how long it lasts is no failure: it takes nothing from the budget.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime, parsedate_tz

from .._dataclass import frozen
from .._runtime.locks import ForkSafeLock

FIRST_DELAY = 0.2  # seconds
MAX_DELAY = 10.0  # seconds
RETRYABLE = (408, 409, 429)
RATE_LIMIT_CODES = ("rate_limit", "ratelimit", "too_many_requests")
_NUMBER = r"(?i:[0-9]+(\.[0-9]*)?|\.[0-9]+|inf(inity)?)"


@frozen
class RetryInfo:
    """Passed to ``on_retry`` before retry ``number`` of at most ``limit``, which follows after ``delay`` seconds.

    ``limit`` is None after a rate limit that says how long it lasts, because such retries do not count.
    """

    number: int
    limit: int | None
    delay: float
    error: str
    status: int | None = None

    def __str__(self) -> str:
        count = "" if self.limit is None else f"{self.number}/{self.limit} "
        return f"stream error: {self.error}; retrying {count}in {self.delay * 1000:.0f}ms"


def backoff(number: int, jitter: float | None = None) -> float:
    """Seconds to wait before retry ``number`` (from 1). ``jitter`` is drawn from [0.9, 1.1) by default."""
    factor = random.uniform(0.9, 1.1) if jitter is None else jitter
    return min(FIRST_DELAY * 2.0 ** min(number - 1, 16) * factor, MAX_DELAY)


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a response with ``status`` is worth a retry (RFC 9110 15; ``x-should-retry`` as OpenAI sends it)."""
    value = headers.get("x-should-retry", "").strip().lower()
    if value in ("true", "false"):
        return value == "true"
    return status in RETRYABLE or status >= 500


def names_rate_limit(*codes: str | int | None) -> bool:
    """Whether one of a server's ``codes`` (status, code, type) says that there were too many requests."""
    named = [str(code).lower() for code in codes]
    return "429" in named or any(word in code for code in named for word in RATE_LIMIT_CODES)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server requests to wait; None if it requests no delay, infinity for ``inf`` or a date past
    the year 9999.

    ``now`` is the wall clock as a Unix time, used only if the response has no ``Date`` header to count from.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds:  # Azure sends 0 beside a valid Retry-After
        return milliseconds / 1000
    value = headers.get("Retry-After", "").strip()
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    date = _unix_time(value)
    if date is None:
        return None
    wait = date - (_unix_time(headers.get("Date", "")) or now)
    return wait if wait > 0 else None


def _seconds(value: str) -> float | None:
    value = value.strip()
    return float(value) if value.isascii() and re.fullmatch(_NUMBER, value) else None


def _unix_time(value: str) -> float | None:
    """The time of an HTTP date (RFC 9110 5.6.7); infinity for a date past the year 9999."""
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, OverflowError):
        parts = parsedate_tz(value)
        return math.inf if parts and parts[0] > 9999 else None


class RetryBudget:
    """A token bucket that all calls of a client share: a retry takes one token, and each call returns a quarter of one.

    A short burst of failures is therefore retried freely, while a server that is down receives at most a quarter more
    requests than there are calls in the long run. ``capacity`` None is a budget without end.
    """

    PER_CALL = 0.25

    def __init__(self, capacity: float | None = 20) -> None:
        self._capacity: float = math.inf if capacity is None else capacity
        self._tokens = self._capacity
        self._lock = ForkSafeLock()

    def deposit(self) -> None:
        """Return a quarter of a token, because a call begins."""
        with self._lock.current:
            self._tokens = min(self._tokens + self.PER_CALL, self._capacity)

    def take(self) -> bool:
        """Take one token for a retry; False if there is none."""
        with self._lock.current:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
