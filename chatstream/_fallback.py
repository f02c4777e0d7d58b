"""fallback: a prompt and several clients → the answer of the first one that answers.

    prompt ─▶ first client ─error▶ second client ─error▶ … ─▶ ResponseStream

Rules:
- Each client is tried once, with the retries of its own provider; an earlier client is not tried again.
- Another client is tried only while the caller has received nothing: before the first event, or with `aggregate`
  and `collect` until the end.
- All clients share one cancel scope, so that the deadline and a cancellation hold for the whole call.
- The last error has the attempts of all providers, and the error of the one before as its cause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ._calls.call import joined
from ._decode.error_body import QUOTA_CODES
from ._http.cancel_scope import CancelScope, RunningCalls
from ._recording.option import with_one_recorder
from .client import Client
from .errors import (
    Attempt,
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    ProviderError,
    RetryLimit,
    StreamError,
    StreamTooLarge,
    UnexpectedStatus,
)
from .types.prompt import PromptLike, as_list
from .types.text import printable

if TYPE_CHECKING:
    from ._calls.reader import CallReader
    from ._stream import ResponseStream

STATUSES = (402, 404, 408, 409, 410, 429)  # and 5xx: what another provider may do better with the same request
CODES = (*QUOTA_CODES, "not_found")  # the same, in an error that is reported inside a stream
log = logging.getLogger("chatstream")


def fallback(clients: Sequence[Client], *, when: Callable[[ChatStreamError], bool] | None = None) -> Fallback:
    """Several clients, tried in order: the next one if a provider rejects the request or can't be reached.

    The result has the method ``stream`` of a client. ``when`` takes an error and says whether to try the next client;
    by default it is tried if the provider caused the error, but not if the request, the settings or the deadline did.
    Raises `ConfigError` for an argument that is not a client.
    """
    listed = as_list(clients, "clients")
    if not listed:
        raise ConfigError("fallback needs at least one client: fallback([Client(…), Client(…)])")
    for each in listed:
        if not isinstance(each, Client):
            raise ConfigError(f"fallback needs clients, not {type(each).__name__}: fallback([Client(…), Client(…)])")
    return Fallback(listed, is_fault_of_provider if when is None else when)


def is_fault_of_provider(error: ChatStreamError) -> bool:
    """Whether the provider is at fault, so that another one may answer the same request."""
    if isinstance(error, UnexpectedStatus):
        return isinstance(error, RetryLimit) or _is_failure_status(error.status)
    if isinstance(error, ProviderError):
        named = f"{error.code} {error.type}".lower()
        return error.retryable or _is_failure_status(error.code) or any(each in named for each in CODES)
    return isinstance(error, (ConnectionFailed, StreamError)) and not isinstance(error, StreamTooLarge)


def _is_failure_status(status: str | int | None) -> bool:
    number = int(status) if str(status).isdecimal() else 0  # type: ignore[arg-type]  # not None then
    return number in STATUSES or 500 <= number < 600


class Fallback:
    """Clients that are tried in order. Returned by `fallback`; threads may share it."""

    def __init__(self, clients: Sequence[Client], when: Callable[[ChatStreamError], bool]) -> None:
        self.clients: tuple[Client, ...] = tuple(clients)
        self._when = when
        self._running = RunningCalls()

    def stream(
        self,
        prompt: PromptLike | None = None,
        *,
        messages: PromptLike | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> ResponseStream:
        """Send the prompt to the first client, and to each next one if the one before failed; return the stream.

        ``deadline`` limits the whole call over all clients; the default is the shortest deadline of the clients.
        ``options`` are those of `Client.stream`, and go to each client that is tried. ``provider`` of the stream, and
        of its turn, is the name of the provider that answered.

        Raises the error of the last client.
        """
        if deadline is None:
            deadline = min((each.deadline for each in self.clients if each.deadline is not None), default=None)
        scope = CancelScope(deadline)
        self._running.add(scope)
        options = {"prompt": prompt, "messages": messages, "deadline": scope, **with_one_recorder(options)}
        return _Route(self.clients, self._when, scope, options).open()

    def cancel(self) -> None:
        """Cancel every running call of this object, from any thread; threads that wait for one raise `Cancelled`."""
        self._running.cancel()

    def close(self) -> None:
        """Close the connections that the clients keep for reuse."""
        for client in self.clients:
            client.close()

    def __enter__(self) -> Fallback:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"fallback({list(self.clients)!r})"


class _Route:
    """The route of one call from client to client."""

    def __init__(
        self,
        clients: Sequence[Client],
        when: Callable[[ChatStreamError], bool],
        scope: CancelScope,
        options: dict[str, Any],
    ) -> None:
        self._rest: Iterator[Client] = iter(clients[1:])
        self._client = clients[0]
        self._when = when
        self._scope = scope
        self._options = options
        self._attempts: tuple[Attempt, ...] = ()
        self._error: ChatStreamError | None = None  # of the client before

    def open(self) -> ResponseStream:
        """The stream of the first client, starting with the current one, that begins to answer."""
        while True:
            try:
                stream = self._client.stream(**self._options)
            except ChatStreamError as error:
                error.attempts = joined(self._attempts, error.attempts)
                self._choose_next(error)
            else:
                reader = stream._reader
                reader.call.earlier, reader.ask_next = self._attempts, self._ask_next
                return stream

    def _ask_next(self, reader: CallReader, error: ChatStreamError) -> None:
        """Let ``reader`` continue with the answer of the next client, after ``error`` has ended its call."""
        call = reader.call
        call.annotate(error)
        turn = partial(reader.attempt.turn, call.scope.elapsed, len(call.all_attempts) - 1)
        call.end(turn, None if reader.ended else error)
        try:
            self._choose_next(error)
            reader.adopt(self.open()._reader)
        except ChatStreamError as last:
            call.earlier, call.attempts = last.attempts, []
            raise

    def _choose_next(self, error: ChatStreamError) -> None:
        """Make the next client the current one, or raise ``error`` if there is none that may be tried."""
        error.__cause__ = error.__cause__ or self._error
        from_on_wait = error is self._scope.waits.raised
        following = None if from_on_wait or not self._when(error) else next(self._rest, None)
        if following is None:
            raise error
        log.warning("%s", printable(f"{self._client.provider.name}: {error}; trying {following.provider.name} next"))
        self._client._running.discard(self._scope)
        self._client, self._error, self._attempts = following, error, error.attempts
