"""Whether a call is repeated, and the waits before that, with what the calls of a client share: budget and rate limit.

    an error ─next retry?─▶ RetryInfo ─announced, slept─▶ another attempt, or the error that ends the call

Rules:
- A wait that is too long to sleep is reported at once; what the server said is kept on the error.
- A rate limit whose duration the server states is not a failure: it takes neither a retry nor anything from the budget.
- Every wait is announced before it begins, and ends early with a cancellation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from .._retries.rate_limit import LONGEST_INTERVAL, RateLimit
from .._retries.retry import RetryBudget, RetryInfo, backoff, names_rate_limit
from ..errors import ChatStreamError, ProviderError, RetryLimit, UnexpectedStatus
from ..providers.provider import Provider
from ..types.text import printable
from .call import Call

MOST_RATE_LIMITS = 25  # for one call, so that a server which names tiny waits for ever does not keep it for long
BUDGET_SPENT = "the client's retry budget is exhausted"
RATE_LIMIT_LASTS = "the rate limit lasts longer than rate_limit_timeout"
RATE_LIMITED_OFTEN = f"the call was rate-limited {MOST_RATE_LIMITS} times"
log = logging.getLogger("chatstream")
log.addHandler(logging.NullHandler())


class Backoff:
    """Decides whether a call is repeated, and waits. Shared by threads."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._budget = RetryBudget(provider.retry_budget)
        self._rate_limit = RateLimit()

    def begin(self, call: Call) -> None:
        """A request of the call is to be sent: the first one waits for the end of a rate limit."""
        self._budget.deposit()
        if not call.attempts:
            self.wait_for_rate_limit(call)

    def wait_if_paused(self, call: Call) -> bool:
        """Wait if another call met a rate limit while a request of this one was being prepared, which may take long if
        the key comes from a function. Returns whether it has waited, so that the key may have expired."""
        if not self._limit_of(call).is_paused:
            return False
        call.scope.reset()
        self.wait_for_rate_limit(call)
        return True

    def answered(self, call: Call, error: UnexpectedStatus | None, headers: Mapping[str, str]) -> None:
        """The server has answered the latest request of the call, with an ``error`` or with status 200."""
        if call.limiter is not None:
            call.limiter.observe(headers)
        if error is None or not is_rate_limit(error):
            self._limit_of(call).admitted(call.sent_at)

    def _limit_of(self, call: Call) -> RateLimit:
        """The pauses that the call heeds: those of its limiter, or those of the client."""
        return self._rate_limit if call.limiter is None else call.limiter.rate_limit

    def wait_to_retry(self, call: Call, error: ChatStreamError, counted: int, limit: int) -> int:
        """Wait before another attempt, or raise if there is to be none.

        Of the ``limit`` retries ``counted`` were made before; returns how many it will be then.
        """
        info = self._next_retry(call, error, counted, limit)
        try:
            call.scope.reset()
            call.scope.check_time_for(info.delay)
            self._notify(call, info)
            if not is_rate_limit(error):
                call.scope.sleep(info.delay)
            self.wait_for_rate_limit(call)
        except ChatStreamError as stopped:
            raise stopped from error
        return counted if info.limit is None else info.number

    def _next_retry(self, call: Call, error: ChatStreamError, counted: int, limit: int) -> RetryInfo:
        """The retry that follows ``error``. Raises the error that ends the call if there is to be none."""
        wait = error.retry_after if isinstance(error, (UnexpectedStatus, ProviderError)) else None
        from_on_wait = error is call.scope.waits.raised
        if from_on_wait or not error.retryable or (wait or 0) > self._provider.max_retry_after:
            raise error
        limited = is_rate_limit(error)
        if limited and wait is None and call.limiter is not None:  # with a limiter, no rate limit counts as a failure
            wait = backoff(len(call.attempts))
        if limited and wait is not None:
            info = self._retry_after_limit(call, error, wait, limit)
            if limit:  # otherwise the caller wants no second request
                return info
        if counted >= limit:
            raise _last_error(error)
        if not (limited and self._limit_of(call).paused_since(call.sent_at)) and not self._budget.take():
            raise _last_error(error, BUDGET_SPENT)
        delay = backoff(counted + 1) if wait is None else wait
        if limited:
            self._limit_of(call).pause(delay, call.sent_at)
        return RetryInfo(counted + 1, limit, delay, str(error), getattr(error, "status", None))

    def _retry_after_limit(self, call: Call, error: ChatStreamError, wait: float, limit: int) -> RetryInfo:
        """The retry, which does not count as one, after a rate limit that lasts ``wait`` seconds."""
        made = len(call.attempts)
        if made > limit:  # a server that always says 0 gets no endless run of requests at once
            wait = max(wait, min(backoff(made - limit), LONGEST_INTERVAL))
        self._limit_of(call).pause(wait, call.sent_at)
        if call.rate_limit_seconds + wait >= self._provider.rate_limit_timeout:
            raise _last_error(error, RATE_LIMIT_LASTS)
        if made >= MOST_RATE_LIMITS:
            raise _last_error(error, RATE_LIMITED_OFTEN)
        return RetryInfo(made, None, wait, str(error), getattr(error, "status", None))

    def wait_for_rate_limit(self, call: Call) -> None:
        """Wait while a rate limit that any call of the client has met lasts, or until a limiter lets the call send: for
        that, as long as it takes."""
        if call.limiter is not None:
            call.limiter.rate_limit.wait(call.scope, math.inf)
        else:
            most = self._provider.rate_limit_timeout - call.rate_limit_seconds
            call.rate_limit_seconds += self._rate_limit.wait(call.scope, most)

    def _notify(self, call: Call, info: RetryInfo) -> None:
        if call.log is not None:
            call.log.flush()
        log.warning("%s", printable(str(info)))
        if call.hooks.on_retry is not None:
            call.hooks.on_retry(info)


def is_rate_limit(error: ChatStreamError) -> bool:
    """Whether a server reports too many requests, before or inside a stream, and will answer later."""
    if not error.retryable:
        return False
    if isinstance(error, UnexpectedStatus):
        return names_rate_limit(error.status, error.code)
    return isinstance(error, ProviderError) and names_rate_limit(error.code, error.type)


def _last_error(error: ChatStreamError, reason: str | None = None) -> ChatStreamError:
    """``error`` as the one that ends the call: `RetryLimit` for a status, which has a ``reason``; else itself."""
    if type(error) is UnexpectedStatus:
        last = RetryLimit(error.status, error.body, error.message, error.code, error.retry_after)
        last.request_id, last.hint = error.request_id, error.hint
        last.reason = reason or last.reason
        return last
    if reason:
        error.args = (f"{error.args[0]} (not retried: {reason})", *error.args[1:])
    return error
