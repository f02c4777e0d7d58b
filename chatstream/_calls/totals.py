"""The running total of a client: attempts and token usages of its calls → `ClientUsage`, over all threads."""

from __future__ import annotations

from dataclasses import replace

from .._runtime.locks import ForkSafeLock
from ..types.usage import ClientUsage, TokenUsage


class UsageTotal:
    """Adds up. A process that was forked goes on from the total of its parent."""

    def __init__(self) -> None:
        self.usage: ClientUsage = ClientUsage()
        self._lock = ForkSafeLock()

    def add_attempt(self, number: int) -> None:
        """Count a request: the first one of a call, or a retry."""
        with self._lock.current:
            before = self.usage
            if number == 1:
                self.usage = replace(before, calls=before.calls + 1)
            else:
                self.usage = replace(before, retries=before.retries + 1)

    def add_tokens(self, tokens: TokenUsage | None) -> None:
        """Add what a server has reported, if it has, for an answer that is over."""
        if tokens is not None:
            with self._lock.current:
                self.usage = replace(self.usage, tokens=self.usage.tokens + tokens)
