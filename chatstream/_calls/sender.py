"""The hand-written backoff loop: one call → the first good answer to it.

    Sender.send ──▶ attempt ──200──▶ Reply
                     ▲   │ rejected, or no response
                     └───┘ wait_to_retry: announced, within the retry budget, interruptible

Rules:
- At most ``request_max_retries + 1`` sends; a stale pooled connection, a rejected ``stream_options`` and a rate limit
  that says how long it lasts do not count.
- Every attempt is recorded. Whether another one follows, and when, is for `Backoff` to say.
"""

from __future__ import annotations

import math
from functools import partial
from http.client import responses
from time import time
from typing import Any

from .._decode.error_body import error_of_body
from .._encode.body import encode_json, request_body
from .._http.reply import Reply
from .._http.transport import Request, Transport
from .._redaction import secrets_of
from .._retries.retry import is_retryable, retry_after
from .._runtime.clock import monotonic
from .._version import __version__
from ..errors import (
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    IdleTimeout,
    QuotaExceeded,
    UnexpectedStatus,
    excerpt,
    idle_timeout,
)
from ..providers.checks import checked_model
from ..providers.provider import Provider
from ..types.limits import Limits
from .backoff import Backoff
from .call import Call
from .hints import hint_of

BODY_SECONDS = 0.8  # how long the body of an error response may take
OWN_HEADERS = {
    "Accept": "text/event-stream",
    "Content-Type": "application/json",
    "User-Agent": f"chatstream/{__version__}",
}

LISTING_HEADERS = {"Accept": "application/json", "User-Agent": OWN_HEADERS["User-Agent"]}


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
    """Sends calls to one provider. ``rejects_usage`` remembers that its server rejects ``stream_options``."""

    def __init__(self, provider: Provider, transport: Transport, limits: Limits) -> None:
        self.provider = provider
        self.rejects_usage: bool = False
        self.transport: Transport = transport
        self._limits = limits
        self.backoff: Backoff = Backoff(provider)

    def send(self, call: Call) -> Reply:
        """The first answer with status 200. Raises `UnexpectedStatus` and its kinds, `ConnectionFailed`,
        `ProtocolViolation`, `IdleTimeout`, `DeadlineExceeded`, `Cancelled`, `ConfigError`."""
        self.backoff.begin(call)
        retries = 0
        while True:
            request = self._request(call)
            if self.backoff.wait_if_paused(call):
                continue
            call.announce(request)
            try:
                return self._attempt(call, request)
            except (UnexpectedStatus, ConnectionFailed, IdleTimeout) as error:
                if self._has_just_rejected_usage(error, call):
                    continue
                retries = self.backoff.wait_to_retry(call, error, retries, self.provider.request_max_retries)

    def _attempt(self, call: Call, request: Request) -> Reply:
        scope, provider = call.scope, call.provider
        started = scope.elapsed
        call.sent_at = monotonic()
        scope.reset()
        setting = "first_event_timeout" if provider.first_event_timeout else "stream_idle_timeout"
        timeout: float = getattr(provider, setting)
        scope.set_timeout(timeout, partial(idle_timeout, timeout, setting))
        try:
            reply = self.transport.send(request, scope)
            seconds = scope.elapsed - started
            if self.transport.callers_session is not None:
                self._find_secrets(call, request, reply)
            call.redact_headers(reply)
            call.answered(reply)
            failure = None if reply.status == 200 else self._status_error(reply, request, call.model)
        except ConfigError as error:
            call.redact(error)
            raise error
        except ChatStreamError as error:
            call.redact(error)
            call.record_attempt(None, None, scope.elapsed - started, error)
            raise error  # a bare raise restores the dropped frames in Python 3.10
        if failure is not None:
            call.redact(failure)
        call.record_attempt(reply.status, reply.request_id, seconds, failure)
        self.backoff.answered(call, failure, reply.headers)
        if failure is not None:
            raise failure
        return reply

    def _request(self, call: Call) -> Request:
        provider = call.provider
        url = provider.endpoint(call.listing) if call.listing else provider.url(checked_model(call.model))
        body, own = (b"", LISTING_HEADERS) if call.listing else (self._body(call), OWN_HEADERS)
        headers = provider.headers()
        present = {name.lower() for name in headers}
        headers |= {name: value for name, value in own.items() if name.lower() not in present}
        key = provider.auth_header()
        call.secrets = secrets_of(url, headers, key, call.values(), self.transport.callers_session)
        provider.warn_if_plain()
        return Request(url, headers, body, key, provider.connect_timeout, "GET" if call.listing else "POST")

    def _find_secrets(self, call: Call, request: Request, reply: Reply) -> None:
        """Find the secrets again, with what the auth, the parameters and the cookies of a session have added."""
        url, headers = reply.sent_url or request.url, reply.sent_headers or request.headers
        call.secrets = secrets_of(url, headers, request.key, call.values(), self.transport.callers_session)

    def _body(self, call: Call) -> bytes:
        settings = body_settings(call.provider)
        settings["stream_usage"] = call.asks_for_usage = call.provider.stream_usage and not self.rejects_usage
        body = request_body(call.prompt, model=call.model, fields=call.fields, extra_body=call.extra_body, **settings)
        return encode_json(body)

    def _status_error(self, reply: Reply, request: Request, model: str) -> UnexpectedStatus:
        """The error for an answer that is not 200, made from its body and headers, and a hint from its request."""
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
        ends = wait is None or math.isfinite(wait)
        error = kind(reply.status, body, message, detail.code, wait if ends else None)
        error.retryable = ends and kind is UnexpectedStatus and is_retryable(reply.status, reply.headers)
        error.request_id = reply.request_id
        session = self.transport.callers_session
        error.hint = hint_of(error, request, self.provider, model=model, headers=reply.headers, session=session)
        return error

    def _has_just_rejected_usage(self, error: ChatStreamError, call: Call) -> bool:
        """Whether the server has just rejected ``stream_options`` that this library added. Calls in several threads may
        find out at once."""
        by_caller = "stream_options" in call.fields or "stream_options" in call.extra_body
        if call.listing or by_caller or not call.asks_for_usage:
            return False
        if not isinstance(error, UnexpectedStatus) or error.status not in (400, 422):
            return False
        rejected = "stream_options" in error.body or "include_usage" in error.body
        self.rejects_usage = self.rejects_usage or rejected
        return rejected
