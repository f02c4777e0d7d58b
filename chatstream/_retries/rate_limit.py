"""Rate limits: when a call may send, after a server has answered one of the client's requests with a rate limit.

    status 429 ─pause──▶ RateLimit ◀──wait── each call, before it sends
    an answer ─admitted─────▲

Rules:
- Until a server sets a limit, nothing waits.
- A pause holds back all requests of the client, until the latest time that the server has named.
- After it requests go out one by one, the call that began first before all others, at an interval: a pause lengthens
  it, each answer shortens it. Requests that were under way when a pause began do neither.
- With a `Pace`, which a `Limiter` has, that says how long the interval is, before the first rate limit, too.
- Only the monotonic clock counts: the wall clock may jump.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left, insort

from .._http.cancel_scope import CancelScope
from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from .pace import Pace

FIRST_INTERVAL = 0.05  # seconds between two requests after the first pause
LONGEST_INTERVAL = 1.0
SHORTEST_INTERVAL = 0.001  # below it, requests are not held back any more
LENGTHENED, SHORTENED = 1.5, 0.95  # by each pause, by each answer
CATCH_UP = 0.02  # seconds that a call may come late without loss of its successors' time, with a `Pace`
POLL, POLL_MORE = 0.02, 0.001  # seconds until a call that is not the next one looks again, and more per call before it
log = logging.getLogger("chatstream")


class RateLimit:
    """The pauses that a server demands, and the order of the calls that wait for their end. Shared by threads."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace
        self._interval = 0.0 if pace is None else pace.interval  # seconds between two requests; 0 without a limit
        self._paused_at = self._paused_until = self._next_at = 0.0  # of the monotonic clock
        self._waiting: list[float] = []  # when each waiting call began, in order
        self._process = os.getpid()
        self._lock = ForkSafeLock()

    @property
    def is_paused(self) -> bool:
        """Whether a pause lasts now."""
        return self._paused_until > monotonic()

    def paused_since(self, sent_at: float) -> bool:
        """Whether a pause began after ``sent_at``: requests that are rate-limited together are one event."""
        return sent_at < self._paused_at

    def pause(self, seconds: float, sent_at: float) -> None:
        """Hold back all requests for ``seconds``, because one sent at ``sent_at`` was rate-limited."""
        with self._lock.current:
            now = monotonic()
            if not self.paused_since(sent_at):
                self._paused_at = now
                self._interval = self._longer_interval(now, seconds)
            self._paused_until = max(self._paused_until, now + seconds)

    def _longer_interval(self, now: float, pause: float) -> float:
        if self._pace is not None:
            self._pace.rejected(now)
            return self._pace.interval
        longest = min(max(pause, FIRST_INTERVAL), LONGEST_INTERVAL)
        return min(max(self._interval * LENGTHENED, FIRST_INTERVAL), longest)

    def admitted(self, sent_at: float) -> None:
        """Shorten the interval, because a request sent at ``sent_at`` was answered."""
        if self._pace is not None:
            with self._lock.current:
                self._pace.admitted(monotonic(), late=self.paused_since(sent_at))
                self._interval = self._pace.interval
        elif self._interval:
            with self._lock.current:
                if not self.paused_since(sent_at):
                    shorter = self._interval * SHORTENED
                    self._interval = shorter if shorter >= SHORTEST_INTERVAL else 0.0

    def wait(self, scope: CancelScope, most: float) -> float:
        """Wait until the call of ``scope`` may send, but at most ``most`` seconds; return how long it took.

        Raises `Cancelled`, and `DeadlineExceeded` at once if the deadline comes before the end of the pause.
        """
        if not self._interval and not self.is_paused:
            return 0.0
        began = monotonic()
        try:
            self._enter(scope.started)
            while True:
                paused, delay = self._delay(scope.started)
                left = most - (monotonic() - began)
                if delay <= 0 or left <= 0:
                    return monotonic() - began
                scope.check_time_for(paused, "the end of the server's rate limit")
                if paused:
                    log.info("waiting %.3g s for the end of the server's rate limit", paused)
                scope.sleep(min(delay, left, scope.remaining()))
        finally:
            self._leave(scope.started)

    def _enter(self, began: float) -> None:
        with self._lock.current:
            if self._process != os.getpid():  # forked: the threads of these calls do not exist here
                self._process = os.getpid()
                self._waiting.clear()
            insort(self._waiting, began)

    def _leave(self, began: float) -> None:
        with self._lock.current:
            if began in self._waiting:  # an exception of a signal handler may have come before `_enter`
                self._waiting.remove(began)

    def _delay(self, began: float) -> tuple[float, float]:
        """Seconds until the pause ends, and seconds until the call may send or should ask again."""
        with self._lock.current:
            now = monotonic()
            calls_before = bisect_left(self._waiting, began)
            next_at = max(self._paused_until, self._next_at)  # when the first waiting call may send
            delay = next_at + calls_before * self._interval - now
            catch_up = self._interval
            if self._pace is not None:
                catch_up = max(catch_up, CATCH_UP)
                if delay > 0:
                    self._pace.held()
            if delay <= 0:
                self._next_at = max(next_at, now - catch_up) + self._interval
            paused = max(self._paused_until - now, 0.0)
            if calls_before:  # they may give up, or the interval may change: look again soon
                delay = min(delay, max(paused, POLL + calls_before * POLL_MORE))
            return paused, delay
