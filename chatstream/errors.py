"""What can go wrong, and what each error carries.

    ChatStreamError
    ├── ConfigError (ValueError)        nothing was sent
    │   └── MissingEnvVar
    ├── ConnectionFailed                no response: refused, reset, DNS, TLS, proxy
    ├── UnexpectedStatus                status, body, message, code, retry_after
    │   ├── RetryLimit                  retries spent
    │   └── QuotaExceeded
    ├── StreamError                     "stream disconnected before completion: …"
    │   ├── IdleTimeout (TimeoutError)
    │   ├── StreamTruncated
    │   ├── ProtocolViolation           not SSE, not JSON, broken framing
    │   │   └── StreamTooLarge          a line, an event or the stream over its limit
    │   └── ProviderError               the server reported an error inside the stream
    ├── DeadlineExceeded (TimeoutError)
    └── Cancelled

Rules:
- Nothing is lost: what was received before the error is its ``partial``.
- The key is in no message, no attribute and no pickle.
- An exception of another library becomes one of these at an edge (transport, sse, chunks), nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ._dataclass import frozen

if TYPE_CHECKING:  # for readers and type checkers only
    from .types.turn import Turn

MAX_EXCERPT = 2048  # bytes of a broken payload that an error shows (M9)


def excerpt(text: str) -> str:
    """The first 2 kB of ``text``."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_EXCERPT else data[: MAX_EXCERPT - 3].decode("utf-8", "ignore") + "…"


def _without(secret: str, value: object) -> object:
    return value.replace(secret, "***") if isinstance(value, str) else value


@frozen
class Attempt:
    """One request that was made. ``status`` is None if no response came, ``error`` None if it went well.

    ``seconds`` is how long it took until its headers, or until it failed.
    """

    number: int
    status: int | None = None
    error: str | None = None
    request_id: str | None = None
    seconds: float = 0.0


class ChatStreamError(Exception):
    """The root: ``except ChatStreamError`` catches whatever this library raises on purpose.

    ``attempts`` are the requests made so far, ``request_id`` is the server's name for the last of them, ``retryable``
    says whether the same call may succeed later.
    """

    _received: Turn | None = None
    attempts: tuple[Attempt, ...] = ()
    request_id: str | None = None
    retryable: bool = False

    @property
    def partial(self) -> Turn:
        """The turn received before the error; an empty one when nothing was."""
        from .types.turn import Turn

        return self._received or Turn()

    @partial.setter
    def partial(self, turn: Turn) -> None:
        self._received = turn

    def redact(self, secret: str) -> None:
        """Take ``secret`` out of every text of this error: some servers repeat the key that they refuse."""
        self.args = tuple(_without(secret, each) for each in self.args)
        for name, value in vars(self).items():
            setattr(self, name, _without(secret, value))

    @property
    def has_partial(self) -> bool:
        """Whether anything was received before the error."""
        return self._received is not None


class ConfigError(ChatStreamError, ValueError):
    """The call can't be right as it is; nothing was sent. The message says what to change."""


class MissingEnvVar(ConfigError):
    """The environment variable that names the key is unset or blank."""

    def __init__(self, variable: str, instructions: str | None = None) -> None:
        super().__init__(variable, instructions)
        self.variable = variable
        self.instructions = instructions

    def __str__(self) -> str:
        hint = f" {self.instructions}" if self.instructions else ""
        return f"Missing environment variable: `{self.variable}`.{hint}"


class ConnectionFailed(ChatStreamError):
    """No response came: refused, reset, name not resolved, TLS or proxy trouble."""

    retryable = True


class UnexpectedStatus(ChatStreamError):
    """The server answered with a status other than 200.

    ``status`` is the HTTP status, ``body`` its text (at most 64 KiB), ``message`` the human sentence found in it,
    ``code`` the server's own code (a word, a number, or None), ``retry_after`` the seconds it asked to wait.
    """

    headline: ClassVar[str] = "unexpected status"

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
        self.message = message or excerpt(body)
        self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = f" (retry after {self.retry_after:g} s)" if self.retry_after is not None else ""
        named = f", request id: {self.request_id}" if self.request_id else ""
        return f"{self.headline} {self.status}: {self.message or 'no body'}{wait}{named}"


class RetryLimit(UnexpectedStatus):
    """The last of all allowed attempts was refused too."""

    headline = "retries spent, last status"
    retryable = True


class QuotaExceeded(UnexpectedStatus):
    """The account has nothing left to spend: waiting does not help, so it was not tried again."""

    headline = "quota exceeded, status"


class StreamError(ChatStreamError):
    """The answer began, or was due to begin, and did not come to its end."""

    def __str__(self) -> str:
        return f"stream disconnected before completion: {super().__str__()}"


class IdleTimeout(StreamError, TimeoutError):
    """No complete event came within the idle time."""

    retryable = True

    def __init__(self, message: str = "idle timeout waiting for SSE") -> None:
        super().__init__(message)


class StreamTruncated(StreamError):
    """The bytes ended before the answer did."""

    retryable = True


class ProtocolViolation(StreamError):
    """What came is not Chat Completions over SSE: not SSE, not JSON, or broken HTTP framing."""


class StreamTooLarge(ProtocolViolation):
    """A line, an event or the whole stream grew over its limit (see `Limits`)."""


class ProviderError(StreamError):
    """The server reported an error inside a stream that had begun with status 200.

    ``message`` is its sentence, ``code`` its code as sent (a word, a number, or None), ``type`` its kind.
    """

    def __init__(
        self, message: str, code: str | int | None = None, type: str | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message, code, type, retryable)
        self.retryable = retryable
        self.message = message
        self.code = code
        self.type = type

    def __str__(self) -> str:
        code = f" (code: {self.code})" if self.code is not None else ""
        return f"stream disconnected before completion: {self.message}{code}"


class DeadlineExceeded(ChatStreamError, TimeoutError):
    """The overall time for this call is over, counted over all its attempts."""


class Cancelled(ChatStreamError):
    """`ResponseStream.cancel` was called."""
