"""Call: what one call of a user sends, its state, and the notification of its hooks, log and recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from .._http.cancel_scope import CancelScope
from .._http.reply import Reply
from .._redaction import Secrets
from .._retries.limiter import Limiter
from .._secrets import visible_headers, visible_url
from ..errors import Attempt, ChatStreamError
from ..providers.provider import Provider
from ..types.prompt import PromptLike
from ..types.turn import Timing, Turn
from ..types.usage import TokenUsage
from .hooks import CallInfo, Hooks, RequestInfo
from .log import CallLog
from .totals import UsageTotal

if TYPE_CHECKING:
    from .._http.transport import Request


class Recording(Protocol):
    """What records a call; see `chatstream._recording.recorder.CallRecording`."""

    def request(self, info: RequestInfo, provider: Provider, secrets: Secrets) -> None: ...
    def response(self, reply: Reply, secrets: Secrets) -> None: ...
    def broken(self, error: BaseException) -> None: ...
    def end(self, error: BaseException | None) -> None: ...


MAX_HEADER = 4096  # characters of a value


def joined(earlier: Sequence[Attempt], later: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """All attempts, numbered anew."""
    return (*earlier, *(replace(each, number=len(earlier) + each.number) for each in later))


@dataclass(repr=False, eq=False)
class Call:
    """One call of a user: what to send, its cancel scope, and the attempts made for it.

    - ``provider``: that of the client, with the settings that the call replaces. ``hooks``, ``total``, ``limiter``:
      those of the client. ``extra_body``: fields of the body that replace all others.
    - ``listing``: the path of a list that is fetched instead of an answer to a prompt; usually empty.
    - ``attempts``: those for this provider. ``earlier``: those that a `Fallback` made for other providers before.
    - ``sent_at``: when the latest attempt began, on the monotonic clock. ``secrets``: those of its request.
    - ``asks_for_usage``: whether ``stream_options`` were added to the latest request.
    - ``rate_limit_seconds``: how long the call has waited for rate limits.
    - ``number``: tells the calls of this process apart. ``log``: None if calls are not logged. ``recording``: None if
      this one is not recorded. ``is_over``: the recording, the log and the hooks have been notified of the end.
    """

    prompt: PromptLike
    model: str
    fields: Mapping[str, Any]
    scope: CancelScope
    provider: Provider
    hooks: Hooks = field(default_factory=Hooks)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    total: UsageTotal = field(default_factory=UsageTotal)
    attempts: list[Attempt] = field(default_factory=list)
    earlier: tuple[Attempt, ...] = ()
    is_over: bool = False
    secrets: Secrets = field(default_factory=Secrets)
    sent_at: float = 0.0
    rate_limit_seconds: float = 0.0
    listing: str = ""
    number: int = field(default_factory=count(1).__next__)
    log: CallLog | None = field(default_factory=CallLog.of_call)
    recording: Recording | None = None
    limiter: Limiter | None = None
    asks_for_usage: bool = False

    def announce(self, request: Request) -> None:
        """Pass a request that is about to be sent to the log and the hooks, unless a thread has ended the call."""
        self.scope.check_cancelled()
        hooks = self.hooks.before_request()
        if not hooks and self.log is None and self.recording is None:
            return
        info = RequestInfo(
            call=self.number,
            attempt=len(self.attempts) + 1,
            elapsed=self.scope.elapsed,
            provider=self.provider.name,
            model=self.model,
            fields=self.fields,
            method=request.method,
            url=visible_url(request.url),
            headers=visible_headers(request.headers, request.key),
            body=request.body,
        )
        if self.log is not None:
            self.log.request(info, self.secrets)
        if self.recording is not None:
            self.recording.request(info, self.provider, self.secrets)
        for hook in hooks:
            hook(info)

    def answered(self, reply: Reply) -> None:
        """Pass an answer whose headers have arrived to the log and the recording."""
        if self.log is not None:
            self.log.answer(reply)
        if self.recording is not None:
            self.recording.response(reply, self.secrets)

    def end(self, get_turn: Callable[[], Turn], error: BaseException | None) -> None:
        """Pass the end of the call to the recording, the log and the hooks, once, after the connection has been dealt
        with."""
        if self.is_over:
            return
        self.is_over = True
        self.end_recording(error)
        hooks = self.hooks.after_call()
        if not hooks and self.log is None:
            return
        turn = get_turn()
        timing = turn.timing or Timing()
        info = CallInfo(self.number, self.provider.name, self.model, turn, error, tuple(self.attempts), timing)
        if self.log is not None:
            self.log.ended(info)
        for hook in hooks:
            hook(info)

    def end_recording(self, error: BaseException | None) -> None:
        if self.recording is not None:
            self.recording.end(error)

    def fail(self, error: BaseException) -> None:
        """End a call that has no answer."""
        if isinstance(error, ChatStreamError):
            self.annotate(error)
        timing = Timing(total=self.scope.elapsed)
        self.end(lambda: Turn(timing=timing), error)

    def values(self) -> list[Any]:
        """The values of all fields that are sent beside the prompt."""
        return [*self.fields.values(), *self.extra_body.values()]

    def record_attempt(
        self, status: int | None, request_id: str | None, seconds: float, error: ChatStreamError | None
    ) -> None:
        """List an attempt and how it ended."""
        if error is not None and self.recording is not None:
            self.recording.broken(error)
        text = None if error is None else str(error)
        self.attempts.append(Attempt(len(self.attempts) + 1, status, text, request_id, seconds, self.provider.name))
        self.total.add_attempt(len(self.attempts))

    def add_tokens(self, tokens: TokenUsage | None) -> None:
        """Add what the server has reported for an answer that is over."""
        self.total.add_tokens(tokens)
        if self.limiter is not None and tokens is not None:
            counted = tokens.total_tokens or (tokens.input_tokens or 0) + (tokens.output_tokens or 0)
            if counted:
                self.limiter.add_tokens(counted)

    @property
    def all_attempts(self) -> tuple[Attempt, ...]:
        """Those made for other providers, and then those of this call."""
        return joined(self.earlier, self.attempts)

    def annotate(self, error: ChatStreamError) -> None:
        """Put on an error that leaves the library what is known of its call."""
        error.attempts = self.all_attempts
        error.request_id = error.request_id or (self.attempts[-1].request_id if self.attempts else None)

    def redact(self, error: ChatStreamError) -> None:
        """Take the secrets of the request out of an error that holds a server's text."""
        if self.secrets:
            error.redact(cache(self.secrets.redact))  # an error holds the same text several times

    def redact_headers(self, reply: Reply) -> None:
        """Take the secrets of the request out of the headers and the id of its answer.

        Headers that are longer than any in use are cut, because megabytes of them would take seconds.
        """
        headers: Any = reply.headers
        for name, value in list(headers.items()):
            if (clean := self.secrets.redact(value[:MAX_HEADER])) != value:
                headers[name] = clean
        if reply.request_id:
            reply.request_id = self.secrets.redact(reply.request_id[:MAX_HEADER])
