"""The hand-written backoff loop: one call → the first good answer to it.

    Sender.send ──▶ attempt ──200──▶ Reply
                     ▲   │ refused, or no response
                     └───┘ pause: told, budgeted, interruptible

Rules:
- At most ``request_max_retries + 1`` sends; a stale pooled connection and a refused ``stream_options`` do not count.
- A wait that is too long to sleep is reported at once; what the server said is kept on the error.
- Every attempt is listed, every wait is told before it is slept.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import responses
from time import time
from typing import Any

from ._decode.error_body import error_of_body
from ._encode.body import encode_json, request_body
from ._http.cancel_scope import Watch
from ._http.transport import Reply, Request, Transport
from ._retry import RetryBudget, RetryInfo, asked_wait, backoff, is_retryable
from ._version import __version__
from .errors import (
    Attempt,
    Cancelled,
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    QuotaExceeded,
    RetryLimit,
    UnexpectedStatus,
)
from .providers.provider import Provider
from .types.limits import Limits
from .types.prompt import PromptLike

BODY_SECONDS = 0.8  # how long the body of a refusal may take
OWN_HEADERS = {
    "Accept": "text/event-stream",
    "Content-Type": "application/json",
    "User-Agent": f"chatstream/{__version__}",
}
log = logging.getLogger("chatstream")
log.addHandler(logging.NullHandler())


@dataclass(repr=False, eq=False)
class Call:
    """One call of a user: what to ask, its clock, and the attempts made for it so far."""

    prompt: PromptLike
    model: str
    fields: Mapping[str, Any]
    watch: Watch
    attempts: list[Attempt] = field(default_factory=list)
    key: str | None = None

    def note(self, status: int | None, request_id: str | None, seconds: float, error: ChatStreamError | None) -> None:
        """List an attempt, and how it ended."""
        if error is not None:
            self._redact(error)
        words = None if error is None else str(error)
        self.attempts.append(Attempt(len(self.attempts) + 1, status, words, request_id, seconds))

    def _redact(self, error: ChatStreamError) -> None:
        if self.key:
            error.redact(self.key)

    def explain(self, error: ChatStreamError) -> ChatStreamError:
        """The error with what is known of the call on it, and without the key."""
        self._redact(error)
        error.attempts = tuple(self.attempts)
        error.request_id = error.request_id or (self.attempts[-1].request_id if self.attempts else None)
        return error


class Sender:
    """Sends calls to one provider. ``refuses_usage`` remembers that its server rejects ``stream_options``."""

    def __init__(
        self,
        provider: Provider,
        transport: Transport,
        limits: Limits,
        on_retry: Callable[[RetryInfo], object] | None = None,
    ) -> None:
        self.provider = provider
        self.refuses_usage = False
        self._transport = transport
        self._limits = limits
        self._on_retry = on_retry
        self._budget = RetryBudget()

    def send(self, call: Call) -> Reply:
        """The first answer with status 200. Raises `UnexpectedStatus` and its kinds, `ConnectionFailed`,
        `ProtocolViolation`, `IdleTimeout`, `DeadlineExceeded`, `Cancelled`, `ConfigError`."""
        self._budget.deposit()
        retries = 0
        while True:
            try:
                return self._attempt(call)
            except (UnexpectedStatus, ConnectionFailed, IdleTimeout) as error:
                if self._usage_refused(error, call):
                    continue
                retries += 1
                self.pause(call, error, retries, self.provider.request_max_retries)

    def pause(self, call: Call, error: ChatStreamError, number: int, limit: int) -> None:
        """Wait before retry ``number`` of ``limit``, or raise if there is to be none."""
        call.explain(error)
        asked = error.retry_after if isinstance(error, UnexpectedStatus) else None
        if not error.retryable or (asked or 0) > self.provider.max_retry_after:
            raise error
        if number > limit or not self._budget.take():
            raise _spent(error)
        delay = backoff(number) if asked is None else asked
        try:
            call.watch.renew()
            call.watch.check_time_for(delay)
            self._tell(RetryInfo(number, limit, delay, str(error), getattr(error, "status", None)))
            call.watch.sleep(delay)
        except (Cancelled, DeadlineExceeded) as over:
            raise call.explain(over) from error

    def _tell(self, info: RetryInfo) -> None:
        log.warning("%s", info)
        if self._on_retry is not None:
            self._on_retry(info)

    def _attempt(self, call: Call) -> Reply:
        request = self._request(call)
        started = call.watch.elapsed
        call.watch.renew()
        call.watch.allow(self.provider.first_event_timeout or self.provider.stream_idle_timeout, IdleTimeout)
        try:
            reply = self._transport.post(request, call.watch)
            seconds = call.watch.elapsed - started
            refusal = None if reply.status == 200 else self._refusal(reply)
        except ConfigError:
            raise
        except ChatStreamError as error:
            call.note(None, None, call.watch.elapsed - started, error)
            call.explain(error)
            raise
        call.note(reply.status, reply.request_id, seconds, refusal)
        if refusal is not None:
            raise call.explain(refusal)
        return reply

    def _request(self, call: Call) -> Request:
        provider = self.provider
        body = request_body(
            call.prompt,
            model=call.model,
            fields=call.fields,
            echo_reasoning=provider.echo_reasoning,
            stream_usage=provider.stream_usage and not self.refuses_usage,
            other_tools=provider.other_tools,
            developer_role=provider.developer_role,
        )
        headers = provider.headers()
        given = {name.lower() for name in headers}
        headers |= {name: value for name, value in OWN_HEADERS.items() if name.lower() not in given}
        key = provider.auth_header()
        call.key = key[1].removeprefix("Bearer ") if key else None
        provider.warn_if_plain()
        return Request(provider.url(call.model), headers, encode_json(body), key, provider.connect_timeout)

    def _refusal(self, reply: Reply) -> UnexpectedStatus:
        """The error for an answer that is not 200, with what its body says."""
        body = reply.read_body(self._limits.error_body_bytes, BODY_SECONDS).decode("utf-8", "replace")
        detail = error_of_body(body)
        message = detail.message or responses.get(reply.status, "")
        if target := reply.headers.get("Location"):
            message = f"the server redirects to {target}, which was not asked; set base_url to it if you trust it"
        wait = asked_wait(reply.headers, time())
        kind = QuotaExceeded if reply.status in (402, 429) and detail.quota else UnexpectedStatus
        ever = wait is None or math.isfinite(wait)
        refusal = kind(reply.status, body, message, detail.code, wait if ever else None)
        refusal.retryable = ever and kind is UnexpectedStatus and is_retryable(reply.status, reply.headers)
        refusal.request_id = reply.request_id
        return refusal

    def _usage_refused(self, error: ChatStreamError, call: Call) -> bool:
        """Whether the server rejected ``stream_options`` just now, for the first time, and it was ours (C9)."""
        if self.refuses_usage or "stream_options" in call.fields or not self.provider.stream_usage:
            return False
        if not isinstance(error, UnexpectedStatus) or error.status not in (400, 422):
            return False
        self.refuses_usage = "stream_options" in error.body or "include_usage" in error.body
        return self.refuses_usage


def _spent(error: ChatStreamError) -> ChatStreamError:
    """The same refusal, as the last of several; an error without a status stays what it is."""
    if type(error) is not UnexpectedStatus:
        return error
    last = RetryLimit(error.status, error.body, error.message, error.code, error.retry_after)
    last.attempts, last.request_id = error.attempts, error.request_id
    return last
