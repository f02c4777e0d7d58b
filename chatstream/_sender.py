"""The hand-written backoff loop: one call → the first good answer to it.

    Sender.send ──▶ attempt ──200──▶ Reply
                     ▲   │ refused, or no response
                     └───┘ wait_to_retry: announced, within the retry budget, interruptible

Rules:
- At most ``request_max_retries + 1`` sends; a stale pooled connection, a refused ``stream_options`` and a rate limit
  that says how long it lasts do not count.
- A rate limit makes all calls wait (see `RateLimit`), each for ``rate_limit_timeout`` in total.
- A wait that is too long to sleep is reported at once; what the server said is kept on the error.
- Every attempt is recorded, and every wait is announced before it begins.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import responses
from time import monotonic, time
from typing import Any

from ._decode.error_body import error_of_body
from ._encode.body import encode_json, request_body
from ._http.cancel_scope import CancelScope
from ._http.reply import Reply
from ._http.transport import Request, Transport
from ._rate_limit import LONGEST_INTERVAL, RateLimit
from ._redaction import Secrets, secrets_of
from ._retry import RetryBudget, RetryInfo, backoff, is_retryable, names_rate_limit, retry_after
from ._version import __version__
from .errors import (
    Attempt,
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    IdleTimeout,
    ProviderError,
    QuotaExceeded,
    RetryLimit,
    UnexpectedStatus,
    excerpt,
)
from .providers.checks import checked_model
from .providers.provider import Provider
from .types.limits import Limits
from .types.prompt import PromptLike
from .types.text import printable

BUDGET_SPENT = "the client's retry budget is used up"
RATE_LIMIT_LASTS = "the rate limit lasts longer than rate_limit_timeout"
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
    """One call of a user: what to send, its cancel scope, and the attempts made for it.

    ``sent_at`` is when the latest began, on the monotonic clock, ``limited`` the seconds waited for rate limits.
    """

    prompt: PromptLike
    model: str
    fields: Mapping[str, Any]
    scope: CancelScope
    attempts: list[Attempt] = field(default_factory=list)
    secrets: Secrets = field(default_factory=Secrets)
    sent_at: float = 0.0
    limited: float = 0.0

    def record_attempt(
        self, status: int | None, request_id: str | None, seconds: float, error: ChatStreamError | None
    ) -> None:
        """List an attempt and how it ended."""
        text = None if error is None else str(error)
        self.attempts.append(Attempt(len(self.attempts) + 1, status, text, request_id, seconds))

    def annotate(self, error: ChatStreamError) -> None:
        """Put on an error that leaves the library what is known of its call."""
        error.attempts = tuple(self.attempts)
        error.request_id = error.request_id or (self.attempts[-1].request_id if self.attempts else None)

    def redact(self, error: ChatStreamError) -> None:
        """Take the secrets of the request out of an error that holds a server's text."""
        if self.secrets:
            error.redact(self.secrets.redact)

    def redact_headers(self, reply: Reply) -> None:
        """Take the secrets of the request out of the headers and the id of its answer."""
        headers: Any = reply.headers
        for name, value in list(headers.items()):
            if (clean := self.secrets.redact(value)) != value:
                headers[name] = clean
        if reply.request_id:
            reply.request_id = self.secrets.redact(reply.request_id)


def body_settings(provider: Provider) -> dict[str, Any]:
    """The settings of a provider that `request_body` takes."""
    return {
        "echo_reasoning": provider.echo_reasoning,
        "echo_reasoning_always": provider.echo_reasoning_always,
        "echo_reasoning_scope": provider.echo_reasoning_scope,
        "check_history": provider.check_history,
        "stream_usage": provider.stream_usage,
        "other_tools": provider.other_tools,
        "developer_role": provider.developer_role,
    }


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
        self.refuses_usage: bool = False
        self._transport = transport
        self._limits = limits
        self._on_retry = on_retry
        self._budget = RetryBudget(provider.retry_budget)
        self._rate_limit = RateLimit()

    def send(self, call: Call) -> Reply:
        """The first answer with status 200. Raises `UnexpectedStatus` and its kinds, `ConnectionFailed`,
        `ProtocolViolation`, `IdleTimeout`, `DeadlineExceeded`, `Cancelled`, `ConfigError`."""
        self._budget.deposit()
        retries = 0
        if not call.attempts:
            self._wait_for_rate_limit(call)
        while True:
            try:
                return self._attempt(call)
            except (UnexpectedStatus, ConnectionFailed, IdleTimeout) as error:
                if self._usage_refused(error, call):
                    continue
                retries = self.wait_to_retry(call, error, retries, self.provider.request_max_retries)

    def wait_to_retry(self, call: Call, error: ChatStreamError, counted: int, limit: int) -> int:
        """Wait before another attempt, or raise if there is to be none.

        Of the ``limit`` retries ``counted`` were made before; returns how many it will be then.
        """
        info = self._next_retry(call, error, counted, limit)
        try:
            call.scope.reset()
            call.scope.check_time_for(info.delay)
            self._notify(info)
            if not _is_rate_limit(error):
                call.scope.sleep(info.delay)
            self._wait_for_rate_limit(call)
        except ChatStreamError as stopped:
            raise stopped from error
        return counted if info.limit is None else info.number

    def _next_retry(self, call: Call, error: ChatStreamError, counted: int, limit: int) -> RetryInfo:
        """The retry that follows ``error``. Raises the error that ends the call if there is to be none."""
        wanted = error.retry_after if isinstance(error, (UnexpectedStatus, ProviderError)) else None
        if not error.retryable or (wanted or 0) > self.provider.max_retry_after:
            raise error
        status, limited = getattr(error, "status", None), _is_rate_limit(error)
        if limited and wanted is not None:
            made = len(call.attempts)
            if made > limit:  # a server that says 0 each time is not asked at once for ever
                wanted = max(wanted, min(backoff(made - limit), LONGEST_INTERVAL))
            self._rate_limit.pause(wanted, call.sent_at)
            if call.limited + wanted >= self.provider.rate_limit_timeout:
                raise _last_error(error, RATE_LIMIT_LASTS)
            if limit:
                return RetryInfo(made, None, wanted, str(error), status)
        if counted >= limit:
            raise _last_error(error)
        if not (limited and self._rate_limit.paused_since(call.sent_at)) and not self._budget.take():
            raise _last_error(error, BUDGET_SPENT)
        delay = backoff(counted + 1) if wanted is None else wanted
        if limited:
            self._rate_limit.pause(delay, call.sent_at)
        return RetryInfo(counted + 1, limit, delay, str(error), status)

    def _wait_for_rate_limit(self, call: Call) -> None:
        call.limited += self._rate_limit.wait(call.scope, self.provider.rate_limit_timeout - call.limited)

    def _notify(self, info: RetryInfo) -> None:
        log.warning("%s", printable(str(info)))
        if self._on_retry is not None:
            self._on_retry(info)

    def _attempt(self, call: Call) -> Reply:
        request = self._request(call)
        scope = call.scope
        started = scope.elapsed
        call.sent_at = monotonic()
        scope.reset()
        scope.set_timeout(self.provider.first_event_timeout or self.provider.stream_idle_timeout, IdleTimeout)
        try:
            reply = self._transport.post(request, scope)
            seconds = scope.elapsed - started
            call.redact_headers(reply)
            refusal = None if reply.status == 200 else self._refusal(reply)
        except ConfigError as error:
            call.redact(error)
            raise error
        except ChatStreamError as error:
            call.redact(error)
            call.record_attempt(None, None, scope.elapsed - started, error)
            raise error  # a bare raise restores the dropped frames in Python 3.10
        if refusal is not None:
            call.redact(refusal)
        call.record_attempt(reply.status, reply.request_id, seconds, refusal)
        if refusal is None or not _is_rate_limit(refusal):
            self._rate_limit.admitted(call.sent_at)
        if refusal is not None:
            raise refusal
        return reply

    def _request(self, call: Call) -> Request:
        provider = self.provider
        settings = body_settings(provider)
        settings["stream_usage"] = provider.stream_usage and not self.refuses_usage
        body = request_body(call.prompt, model=call.model, fields=call.fields, **settings)
        headers = provider.headers()
        given = {name.lower() for name in headers}
        headers |= {name: value for name, value in OWN_HEADERS.items() if name.lower() not in given}
        key = provider.auth_header()
        url = provider.url(checked_model(call.model))
        call.secrets = secrets_of(url, headers, key, call.fields, self._transport.given)
        provider.warn_if_plain()
        return Request(url, headers, encode_json(body), key, provider.connect_timeout)

    def _refusal(self, reply: Reply) -> UnexpectedStatus:
        """The error for an answer that is not 200, made from its body and headers."""
        body = reply.read_body(self._limits.error_body_bytes, BODY_SECONDS).decode("utf-8", "replace")
        detail = error_of_body(body)
        message = detail.message or responses.get(reply.status, "")
        if target := reply.headers.get("Location"):
            message = (
                f"the server redirects to {excerpt(target)}, which is not followed; set base_url to it if you trust it"
            )
        wait = retry_after(reply.headers, time())
        if wait is None:
            wait = detail.retry_after
        kind = QuotaExceeded if reply.status in (402, 429) and detail.quota else UnexpectedStatus
        ever = wait is None or math.isfinite(wait)
        refusal = kind(reply.status, body, message, detail.code, wait if ever else None)
        refusal.retryable = ever and kind is UnexpectedStatus and is_retryable(reply.status, reply.headers)
        refusal.request_id = reply.request_id
        return refusal

    def _usage_refused(self, error: ChatStreamError, call: Call) -> bool:
        """Whether the server has just rejected ``stream_options``, for the first time, and this library added it."""
        if self.refuses_usage or "stream_options" in call.fields or not self.provider.stream_usage:
            return False
        if not isinstance(error, UnexpectedStatus) or error.status not in (400, 422):
            return False
        self.refuses_usage = "stream_options" in error.body or "include_usage" in error.body
        return self.refuses_usage


def _is_rate_limit(error: ChatStreamError) -> bool:
    """Whether a server refused because of too many requests, before or inside a stream, and will answer later."""
    if not error.retryable:
        return False
    if isinstance(error, UnexpectedStatus):
        return names_rate_limit(error.status, error.code)
    return isinstance(error, ProviderError) and names_rate_limit(error.code, error.type)


def _last_error(error: ChatStreamError, reason: str | None = None) -> ChatStreamError:
    """The same refusal, as the last of several; an error without a status keeps its class."""
    if type(error) is UnexpectedStatus:
        last = RetryLimit(error.status, error.body, error.message, error.code, error.retry_after)
        last.request_id = error.request_id
        last.reason = reason or last.reason
        return last
    if reason:
        error.args = (f"{error.args[0]} (not repeated: {reason})", *error.args[1:])
    return error
