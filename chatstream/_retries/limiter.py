"""`Limiter`: keeps the calls of a client, or of several, at the pace that their server allows."""

from __future__ import annotations

from collections.abc import Mapping

from .._runtime.locks import ForkSafeLock
from ..errors import ConfigError
from .pace import Pace
from .rate_limit import RateLimit


class Limiter:
    """Adapts the rate of requests to the server's rate limit, by delaying calls.

    It learns the limit from 429 responses and from the headers ``Retry-After`` and ``x-ratelimit-*``.
    ``requests_per_minute`` and ``tokens_per_minute`` are upper bounds. The tokens of a call are not known in advance;
    the mean of the counts reported so far is used. Pass it to the clients that share a limit, ``Client(limiter=…)``, or
    to one run, ``map_prompts(…, limiter=…)``. Threads may share it. Pickling keeps only the upper bounds: each process
    adapts separately, and the bounds apply to each process.

    Raises `ConfigError` for an upper bound that is not a number above 0.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self.requests_per_minute: float | None = _checked("requests_per_minute", requests_per_minute)
        self.tokens_per_minute: float | None = _checked("tokens_per_minute", tokens_per_minute)
        self._pace = Pace(requests_per_minute, tokens_per_minute)
        self._lock = ForkSafeLock()
        self.rate_limit: RateLimit = RateLimit(self._pace)

    @property
    def requests_per_second(self) -> float | None:
        """The present pace; None while no limit is known."""
        rate = self._pace.rate
        return rate if rate < float("inf") else None

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer."""
        with self._lock.current:
            self._pace.observe(headers)

    def add_tokens(self, tokens: int) -> None:
        """Learn how many tokens a call has taken."""
        with self._lock.current:
            self._pace.used(tokens)

    def __reduce__(self) -> tuple[type[Limiter], tuple[float | None, float | None]]:
        return Limiter, (self.requests_per_minute, self.tokens_per_minute)

    def __repr__(self) -> str:
        return f"Limiter({self.requests_per_minute}, {self.tokens_per_minute})"


def _checked(name: str, value: float | None) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")):
        return value
    raise ConfigError(f"{name} must be a number above 0, not {value!r}")


def checked_limiter(limiter: Limiter | None) -> Limiter | None:
    """The option ``limiter``. Raises `ConfigError` if it is something else."""
    if limiter is None or isinstance(limiter, Limiter):
        return limiter
    raise ConfigError(f"limiter must be a Limiter, not {type(limiter).__name__}")
