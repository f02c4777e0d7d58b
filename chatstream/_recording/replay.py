"""A recording → the stream that its call returned, read by the code that reads a live one.

    file ─load▶ Exchange ─▶ Sender ─▶ RecordedReply ─bytes, at their times▶ OpenAttempt ─▶ ResponseStream

Rules:
- Nothing is sent. The last request of a call counts, because the caller received its answer.
- What broke the answer off is raised again, after the bytes that had arrived before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .._calls.attempt import OpenAttempt
from .._calls.call import Call
from .._calls.reader import CallReader
from .._calls.sender import Sender
from .._http.cancel_scope import CancelScope
from .._http.reply import REQUEST_ID_HEADERS, headers_of
from .._http.transport import Request
from .._runtime.clock import monotonic
from .._stream import ResponseStream
from ..errors import (
    Cancelled,
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    ProtocolViolation,
    StreamTooLarge,
    StreamTruncated,
)
from ..providers.provider import Provider
from ..types.limits import Limits, checked_limits
from .format import Exchange
from .load import load
from .recorder import PARSER_SETTINGS

FOREVER = 2e6  # seconds; the recording has its own timeouts
KINDS: Mapping[str, type[ChatStreamError]] = {
    kind.__name__: kind
    for kind in (
        *(Cancelled, ConfigError, ConnectionFailed, DeadlineExceeded),
        *(IdleTimeout, ProtocolViolation, StreamTooLarge, StreamTruncated),
    )
}


def replay(
    path: str | os.PathLike[str], *, speed: float = 0, call: int = -1, limits: Limits | None = None
) -> ResponseStream:
    """The stream of a recorded call: the same events, the same turn, and the same error if it broke off.

    - ``path``: a file that ``record=`` or a `Recorder` has written, or a response body that another program, such as
      curl, has saved, with or without the HTTP headers, and optionally compressed by gzip.
    - ``speed``: 1 is the original speed, 2 is twice as fast; 0 does not wait.
    - ``call``: the number of the call in the recording, counted from 0; -1 is the last.

    Raises the error of `Client.stream` if no answer began, and `ConfigError` for a file that is not a recording.
    """
    check_speed(speed)
    exchange = _last_exchange(load(path), call, os.fspath(path))
    recorded = exchange.request.get("choices")
    choices = recorded if isinstance(recorded, int) else None
    try:
        provider = _provider_of(exchange)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)} is a damaged recording: {error}") from None
    scope = CancelScope(None)
    replayed = Call("replay", _model_of(exchange) or "recorded", {}, scope, provider, extra_body=_body_of(exchange))
    limits = checked_limits(limits)
    sender = Sender(provider, RecordedTransport(exchange, speed), limits)  # type: ignore[arg-type]
    try:
        reply = sender.send(replayed)
    except BaseException as error:
        replayed.fail(error)
        raise
    attempt = OpenAttempt(reply, scope, provider, choices=choices, limits=limits, heartbeat=None)
    return ResponseStream(CallReader(attempt, replayed, sender))


def check_speed(speed: Any) -> None:
    """Raise `ConfigError` if this is not a speed."""
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0 <= speed < FOREVER:
        raise ConfigError(f"speed must be 0 (no waiting) or a factor such as 1 or 2.5, not {speed!r}")


def calls_of(exchanges: list[Exchange]) -> list[list[Exchange]]:
    """The exchanges of each call: its first request has the number 1."""
    calls: list[list[Exchange]] = []
    for exchange in exchanges:
        if exchange.attempt == 1 or not calls:
            calls.append([])
        calls[-1].append(exchange)
    return calls


class RecordedTransport:
    """Returns the recorded answer; it takes the place of a `Transport`."""

    callers_session = None

    def __init__(self, exchange: Exchange, speed: float) -> None:
        self._exchange = exchange
        self._speed = speed

    def send(self, request: Request, scope: CancelScope) -> RecordedReply:
        """The answer, once the time of its headers has come. Raises the error of a request without one."""
        reply = RecordedReply(self._exchange, self._speed, scope)
        if self._exchange.status is None:
            reply.wait_until(self._exchange.end or 0.0)
            raise error_of(self._exchange) or ConnectionFailed("the recording ends before an answer")
        reply.wait_until(self._exchange.after)
        return reply


class RecordedReply:
    """A recorded answer, read as `Reply` is."""

    reused = False

    def __init__(self, exchange: Exchange, speed: float, scope: CancelScope) -> None:
        self.status: int = exchange.status or 0
        self.headers: Mapping[str, str] = headers_of(exchange.headers)
        self.request_id: str | None = next((self.headers[h] for h in REQUEST_ID_HEADERS if h in self.headers), None)
        self._exchange = exchange
        self._pieces: Iterator[tuple[float, bytes]] = iter(exchange.pieces)
        self._next = next(self._pieces, None)
        self._speed = speed
        self._scope = scope
        self._began = monotonic()
        self._receive: Callable[[bytes], object] = len  # until something wants the pieces

    def read(self) -> bytes:
        """The next piece, when its time has come; ``b""`` at the end. Raises what broke the answer off."""
        self._scope.check()
        self.wait_until(self._due())
        if self._next is None:
            if error := error_of(self._exchange):
                raise error
            return b""
        piece = self._next[1]
        self._next = next(self._pieces, None)
        self._receive(piece)
        return piece

    def _due(self) -> float:
        """When the next piece or the end comes, in seconds of the recording."""
        return self._next[0] if self._next is not None else self._exchange.end or 0.0

    def wait_until(self, seconds: float) -> None:
        """Wait until this moment of the recording."""
        if self._speed:
            left = seconds / self._speed - (monotonic() - self._began)
            if left > 0:
                self._scope.sleep(left)

    def wait(self, seconds: float) -> bool:
        """Whether bytes, or the end, come within ``seconds``."""
        left = self._due() / self._speed - (monotonic() - self._began) if self._speed else 0.0
        self._scope.sleep(max(min(left, seconds), 0.0))
        return left <= seconds

    def record(self, receive: Callable[[bytes], object]) -> None:
        """Pass everything that is read from now on to ``receive``, too."""
        self._receive = receive

    def read_body(self, limit: int, seconds: float) -> bytes:
        """The body of an error response."""
        return self._exchange.body[:limit]

    def drain(self) -> None:
        """There is no connection."""

    def close(self) -> None:
        """There is no connection."""


def error_of(exchange: Exchange) -> ChatStreamError | None:
    """What broke the answer off; None if nothing did. An error that its bytes report is raised before this one."""
    if not exchange.error:
        return None
    name, message = str(exchange.error.get("error")), str(exchange.error.get("message"))
    kind: type[ChatStreamError] | None = KINDS.get(name)
    return kind(message) if kind else StreamTruncated(f"{name}: {message}")


def _last_exchange(exchanges: list[Exchange], call: int, name: str) -> Exchange:
    calls = calls_of(exchanges)
    try:
        return calls[call][-1]
    except IndexError:
        raise ConfigError(
            f"{name} has no call {call}: it contains {len(calls)} call{'s' * (len(calls) != 1)}"
        ) from None


def _provider_of(exchange: Exchange) -> Provider:
    """A provider with the settings that the recorded answer was read with, and that tries nothing twice."""
    url, name = str(exchange.request.get("url") or ""), str(exchange.request.get("provider") or "")
    recorded = _dict(exchange.request.get("parser"))
    settings: dict[str, Any] = {name: value for name, value in recorded.items() if name in PARSER_SETTINGS}
    if isinstance(settings.get("think_tags"), list):
        settings["think_tags"] = tuple(settings["think_tags"])
    return Provider(
        name or "recording",
        url.partition("?")[0] or "http://127.0.0.1/v1",
        request_max_retries=0,
        stream_max_retries=0,
        stream_idle_timeout=FOREVER,
        finish_grace=FOREVER,
        stream_usage=False,
        retry_budget=None,
        **settings,
    )


def _body_of(exchange: Exchange) -> dict[str, Any]:
    return {name: value for name, value in _dict(exchange.request.get("body")).items() if name != "stream"}


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _model_of(exchange: Exchange) -> str:
    return str(_body_of(exchange).get("model") or "")
