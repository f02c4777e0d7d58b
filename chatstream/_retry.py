"""When to try again, and how long to wait: decisions only, no sleep and no I/O.

Rules:
- The server's word goes first: ``x-should-retry``, then ``retry-after-ms``, then ``Retry-After``.
- Without it: 408, 409, 429 and 5xx are tried again after 200 ms × 2^(n−1), within a tenth either way.
- A nonsense wait is ignored; one longer than the caller's limit is not slept but reported.
- All calls of a client share one budget, so that a failing server is not asked several times as often.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime, parsedate_tz
from threading import Lock

from ._dataclass import frozen

FIRST_DELAY = 0.2  # seconds
MAX_DELAY = 10.0  # seconds
RETRYABLE = (408, 409, 429)
_NUMBER = r"(?i:[0-9]+(\.[0-9]*)?|\.[0-9]+|inf(inity)?)"


@frozen
class RetryInfo:
    """Told to ``on_retry`` before each wait: retry ``number`` of at most ``limit``, after ``delay`` seconds."""

    number: int
    limit: int
    delay: float
    error: str
    status: int | None = None

    def __str__(self) -> str:
        return f"stream error: {self.error}; retrying {self.number}/{self.limit} in {self.delay * 1000:.0f}ms"


def backoff(number: int, jitter: float | None = None) -> float:
    """Seconds to wait before retry ``number`` (from 1). ``jitter`` in [0.9, 1.1) is drawn if not given."""
    factor = random.uniform(0.9, 1.1) if jitter is None else jitter
    return min(FIRST_DELAY * 2.0 ** min(number - 1, 16) * factor, MAX_DELAY)


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a refusal with ``status`` is worth another try (RFC 9110 15; ``x-should-retry`` as OpenAI sends it)."""
    word = headers.get("x-should-retry", "").strip().lower()
    if word in ("true", "false"):
        return word == "true"
    return status in RETRYABLE or status >= 500


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait; None if it does not say, infinity if never to come back.

    ``now`` is the wall clock as a Unix time, used only when the answer has no ``Date`` of its own to count from.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds:  # Azure sends 0 beside a real Retry-After
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
    """The time of an HTTP date (RFC 9110 5.6.7); infinity for a year past what a clock can show."""
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, OverflowError):
        parts = parsedate_tz(value)
        return math.inf if parts and parts[0] > 9999 else None


class RetryBudget:
    """A token bucket that all calls of a client share: a retry takes one token, a call brings a quarter.

    So a burst of failures is retried freely at first, and a server that is down gets at most a quarter more
    requests than calls in the long run.
    """

    CAPACITY = 20.0
    PER_CALL = 0.25

    def __init__(self) -> None:
        self._tokens = self.CAPACITY
        self._lock = Lock()

    def deposit(self) -> None:
        """Note that a call begins."""
        with self._lock:
            self._tokens = min(self._tokens + self.PER_CALL, self.CAPACITY)

    def take(self) -> bool:
        """Whether one more retry may be made."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
