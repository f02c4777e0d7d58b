"""What can go wrong, and what each error carries.

    ChatStreamError
    ├── ConfigError (ValueError)        wrong arguments or settings, or a stream used in a wrong way
    │   └── MissingEnvVar
    ├── InvalidArguments (ValueError)   the model called a tool with wrong arguments
    ├── MaxTurnsExceeded                the model still requests tool calls after the last allowed turn
    ├── ConnectionFailed                no response: refused, reset, DNS, TLS, proxy
    ├── UnexpectedStatus                status, body, message, code, retry_after
    │   ├── RetryLimit                  retries exhausted
    │   └── QuotaExceeded
    ├── StreamError                     "stream disconnected before completion: …"
    │   ├── IdleTimeout (TimeoutError)
    │   ├── StreamTruncated
    │   ├── ProtocolViolation           not SSE, not JSON, invalid framing
    │   │   └── StreamTooLarge          a line, an event or the stream over its limit
    │   └── ProviderError               the server reported an error inside the stream
    ├── DeadlineExceeded (TimeoutError)
    └── StreamClosed                    read after it was closed, or after its loop ended early
        └── Cancelled

Rules:
- Nothing is lost: what was received before the error is its ``partial``.
- No secret of a call, such as its key, is in a message, an attribute, a pickle or a frame.
- Exceptions of other libraries are converted to these in `_http`, `_decode.sse` and `_decode.chunks`, nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ._dataclass import frozen

if TYPE_CHECKING:  # for readers and type checkers only
    from .types.turn import Turn

MAX_EXCERPT = 2048  # bytes of a broken payload that an error shows


def excerpt(text: str) -> str:
    """The first 2 kB of ``text``."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_EXCERPT else data[: MAX_EXCERPT - 3].decode("utf-8", "ignore") + "…"


def _redacted(value: object, redact: Callable[[str], str]) -> object:
    """A text, or a code of digits, without the secrets in it."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    clean = redact(text)
    return value if clean == text else clean


@frozen
class Attempt:
    """One request that was made for a call.

    ``status`` is None if no response arrived, ``error`` None if the request succeeded. ``seconds`` is the time until
    the response headers arrived, or until the request failed. ``provider`` is the name of the provider.
    """

    number: int
    status: int | None = None
    error: str | None = None
    request_id: str | None = None
    seconds: float = 0.0
    provider: str = ""


class ChatStreamError(Exception):
    """The base class of all exceptions that this library defines.

    ``partial`` is the turn that was received before the error, or None if no answer had begun. ``attempts`` are the
    requests made for the call, ``request_id`` is the server's id of the last of them, ``retryable`` says whether the
    same call may succeed later.
    """

    partial: Turn | None = None
    attempts: tuple[Attempt, ...] = ()
    request_id: str | None = None
    retryable: bool = False

    def redact(self, redact: Callable[[str], str]) -> None:
        """Pass every text of this error through ``redact``: some servers repeat the key that they reject.

        The stack frames of its traceback are dropped, because they hold what the server sent.
        """
        self.args: tuple[Any, ...] = tuple(_redacted(each, redact) for each in self.args)
        for name, value in vars(self).items():
            setattr(self, name, _redacted(value, redact))
        self.with_traceback(None)


class ConfigError(ChatStreamError, ValueError):
    """Arguments or settings are wrong, or a stream is used in a wrong way. The message says what to change.

    Wrong arguments of a request are found before anything is sent.
    """


class MissingEnvVar(ConfigError):
    """A required environment variable, usually that of the key, is unset or blank."""

    def __init__(self, variable: str, instructions: str | None = None) -> None:
        super().__init__(variable, instructions)
        self.variable = variable
        self.instructions = instructions

    def __str__(self) -> str:
        hint = f" {self.instructions}" if self.instructions else ""
        return f"Missing environment variable: `{self.variable}`.{hint}"


class InvalidArguments(ChatStreamError, ValueError):
    """The model called a tool with arguments that are cut off or do not match its parameters.

    The function was not called. The message says what is wrong, and can be sent back to the model.
    """


class MaxTurnsExceeded(ChatStreamError):
    """The model was still calling functions when ``max_turns`` of `run_tools` was reached.

    The last calls were made, and the conversation has their outputs. ``partial`` is the last turn.
    """

    def __init__(self, max_turns: int) -> None:
        super().__init__(max_turns)
        self.max_turns = max_turns

    def __str__(self) -> str:
        return (
            f"the model was still calling functions after {self.max_turns} turn{'s' * (self.max_turns > 1)}: raise "
            "max_turns, or continue the conversation, in which every call has an output"
        )


class ConnectionFailed(ChatStreamError):
    """No response arrived: refused, reset, name not resolved, TLS or proxy failure."""

    retryable = True


class UnexpectedStatus(ChatStreamError):
    """The server answered with a status other than 200.

    ``status`` is the HTTP status, ``body`` the text of the response (at most 64 KiB), ``message`` the error message
    found in it, ``code`` the server's error code (a str, an int, or None), and ``retry_after`` the delay in seconds
    that the server requested. ``hint`` is advice that this library puts at the end of ``str(error)``; it may be empty.
    """

    headline: ClassVar[str] = "unexpected status"
    hint: str = ""

    def __init__(
        self,
        status: int,
        body: str = "",
        message: str = "",
        code: str | int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, body, message, code, retry_after)
        self.status = status
        self.body = body
        self.message: str = message or excerpt(body)
        self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = f" (retry after {self.retry_after:g} s)" if self.retry_after is not None else ""
        named = f", request id: {self.request_id}" if self.request_id else ""
        text = f"{self.headline} {self.status}: {self.message or 'no body'}{wait}{named}"
        if not self.hint:
            return text
        text = text.rstrip()
        return f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {self.hint}"


class RetryLimit(UnexpectedStatus):
    """The server answered with 408, 409, 429 or 5xx, and the call is not retried any more.

    ``reason`` says why: the retries of the call or the retry budget of the client are exhausted, the rate limit lasts
    longer than ``rate_limit_timeout``, or the call was rate-limited 25 times.
    """

    headline = "last status"
    retryable = True
    reason: str = "retries exhausted"

    def __str__(self) -> str:
        made = len(self.attempts)
        after = f" after {made} attempt{'s' if made > 1 else ''}" if made else ""
        return f"{self.reason}{after}, {super().__str__()}"


class QuotaExceeded(UnexpectedStatus):
    """The account's quota is exhausted. Waiting does not help, so the call is not retried."""

    headline = "quota exceeded, status"


class StreamError(ChatStreamError):
    """The response is not a complete answer: it broke off, timed out, was malformed, or reported an error."""

    def __str__(self) -> str:
        return f"stream disconnected before completion: {super().__str__()}"


class IdleTimeout(StreamError, TimeoutError):
    """No complete event arrived within the idle timeout."""

    retryable = True

    def __init__(self, message: str = "idle timeout waiting for SSE") -> None:
        super().__init__(message)


def idle_timeout(seconds: float, setting: str) -> IdleTimeout:
    """An `IdleTimeout` with a note, which tracebacks show from Python 3.11 on, that names the setting."""
    error = IdleTimeout()
    vars(error)["__notes__"] = [f"nothing arrived for {seconds:g} s; the limit is {setting}"]
    return error


class StreamTruncated(StreamError):
    """The connection or the response ended before the answer was complete."""

    retryable = True


class ProtocolViolation(StreamError):
    """The response is not a stream of Chat Completions: it is not SSE, not JSON, or its HTTP framing is broken."""


class StreamTooLarge(ProtocolViolation):
    """A line, an event or the whole stream exceeds its limit (see `Limits`)."""


class ProviderError(StreamError):
    """The server reported an error inside a stream that had begun with status 200.

    ``message`` is the server's error message, ``code`` its error code (a str, an int, or None), ``type`` its error
    type, and ``retry_after`` the delay in seconds that it requested.
    """

    def __init__(
        self,
        message: str,
        code: str | int | None = None,
        type: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code, type, retryable, retry_after)
        self.retryable = retryable
        self.message = message
        self.code = code
        self.type = type
        self.retry_after = retry_after

    def __str__(self) -> str:
        code = f" (code: {self.code})" if self.code is not None else ""
        return f"stream disconnected before completion: {self.args[0]}{code}"


class DeadlineExceeded(ChatStreamError, TimeoutError):
    """The deadline of the call passed; it covers all of its attempts."""


class StreamClosed(ChatStreamError):
    """The stream was closed or cancelled, or its loop was left, before the answer was complete.

    Reading the stream afterwards raises this error; ``partial`` is the part received.
    """


class Cancelled(StreamClosed):
    """`ResponseStream.cancel` or `Client.cancel` was called."""
