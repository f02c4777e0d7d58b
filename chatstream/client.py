"""Client: which provider to ask, and what calls share: connections, defaults, limits, the retry budget.

Rules:
- Threads may share a client; after a fork each process opens connections of its own.
- A misuse is a `ConfigError` before anything is sent.
- The modules that send and read, and requests with them, are loaded with the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import ref

from ._http.cancel_scope import CancelScope
from ._imports import imports
from ._locks import ForkSafeLock
from ._requirements import check_installed
from ._secrets import concealed, hidden, hidden_secrets
from .errors import ChatStreamError, ConfigError
from .providers.provider import Provider
from .types.limits import Limits
from .types.prompt import PromptLike

if TYPE_CHECKING:
    import requests

    from ._http.transport import Transport
    from ._retry import RetryInfo
    from ._sender import Sender
    from ._stream import ResponseStream


class Client:
    """Streams answers from one provider.

    ``provider`` is the id of a ready-made provider or a `Provider`, ``model`` the default for its calls, ``deadline``
    the seconds that each call may take over all its attempts. ``on_retry`` is called with a `RetryInfo` before each
    wait; ``session`` is a `requests.Session` of your own, with its proxies and certificates; ``limits`` bounds what is
    read.
    """

    def __init__(
        self,
        provider: str | Provider = "openai",
        *,
        model: str | None = None,
        deadline: float | None = None,
        on_retry: Callable[[RetryInfo], object] | None = None,
        session: requests.Session | None = None,
        limits: Limits = Limits(),  # noqa: B008  # frozen
    ) -> None:
        provider, model = hidden(provider), concealed(model)  # either may be a key, given by mistake
        self.provider: Provider = _provider(provider)
        self.model = model
        self.deadline = deadline
        self.limits = limits
        self._on_retry = on_retry
        self._is_local = self.provider == Provider.named("local")
        self._session = session
        self._transport: Transport | None = None
        self._sender: Sender | None = None
        self._lock = ForkSafeLock()
        self._scopes: set[ref[CancelScope]] = set()  # of running calls; a WeakSet can't be listed while others add
        CancelScope(deadline)  # refuses a wrong deadline now

    def stream(
        self,
        prompt: PromptLike,
        *,
        model: str | None = None,
        deadline: float | None = None,
        heartbeat: float | None = None,
        **fields: Any,
    ) -> ResponseStream:
        """Send the prompt, and return the answer as soon as its headers arrive.

        ``prompt`` is a text, a `Prompt`, or a list of items and message dicts. ``deadline`` replaces the client's
        (seconds). With ``heartbeat`` the loop gets a `Heartbeat` each time that so many seconds pass without an event.
        All other ``fields`` are sent as they are. Raises `ConfigError` before sending; `ConnectionFailed`,
        `UnexpectedStatus`, `IdleTimeout`, `ProtocolViolation`, `DeadlineExceeded` when no answer begins.
        """
        model, fields = concealed(model), hidden_secrets(fields)
        if heartbeat is not None and not (isinstance(heartbeat, (int, float)) and heartbeat > 0):
            raise ConfigError(f"heartbeat is a number of seconds above 0, not {heartbeat!r}")
        choices = fields.get("n") or 1
        if not isinstance(choices, int) or choices < 1:
            raise ConfigError(f"n is how many choices you want, 1 or more, not {choices!r}")
        scope = CancelScope(self.deadline if deadline is None else deadline)
        self._scopes.add(ref(scope, self._scopes.discard))
        with imports():
            check_installed()
            from ._attempt import OpenAttempt
            from ._call import Call
            from ._reader import CallReader
            from ._stream import ResponseStream

        sender = self._open()
        call = Call(prompt, model or self.model or sender.provider.model or "", fields, scope)
        try:
            reply = sender.send(call)
        except ChatStreamError as error:
            call.annotate(error)
            raise
        attempt = OpenAttempt(reply, scope, sender.provider, choices=choices, limits=self.limits, heartbeat=heartbeat)
        return ResponseStream(CallReader(attempt, call, sender))

    def _open(self) -> Sender:
        """The sender of all calls; it starts the embedded server on first use, and again if the server has died."""
        with imports():
            from ._http.transport import Transport
            from ._sender import Sender

        provider = _running() if self._is_local else self.provider
        with self._lock.current:
            if self._sender is None or self._sender.provider != provider:
                self._transport = self._transport or Transport(self._session, direct=self._is_local)
                self._sender = Sender(provider, self._transport, self.limits, self._on_retry)
            return self._sender

    def cancel(self) -> None:
        """End every running call, from any thread: also one that connects or waits, and has no stream yet.

        Whoever waits for one gets `Cancelled` at once. To end one stream, call its own ``cancel``.
        """
        for scope in filter(None, [running() for running in self._scopes.copy()]):
            scope.cancel()

    def close(self) -> None:
        """Close the connections kept for reuse. The client may be used again."""
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        given = vars(self)  # not all of them where `__init__` raised
        return f"Client({given.get('provider')!r}, model={given.get('model')!r})"

    def __copy__(self) -> Client:
        return self._like(self.provider)

    def __deepcopy__(self, memo: dict[int, Any]) -> Client:
        return self._like(self.provider)

    def __reduce__(self) -> tuple[Callable[..., Client], tuple[Any, ...]]:
        """A pickled client comes back without its key, its session and its ``on_retry``."""
        return _unpickled, (self.provider, self.model, self.deadline, self.limits)

    def _like(self, provider: Provider) -> Client:
        return Client(
            provider,
            model=self.model,
            deadline=self.deadline,
            on_retry=self._on_retry,
            session=self._session,
            limits=self.limits,
        )


def _running() -> Provider:
    with imports():
        from .providers.local import local_provider

    return local_provider()


def _provider(given: object) -> Provider:
    if isinstance(given, Provider):
        return given
    if isinstance(given, str):
        return Provider.named(given)
    raise ConfigError(f"provider is the id of a ready-made one or a Provider, not {type(given).__name__}")


MOST_SHARED = 16  # clients; each keeps connections for reuse
_shared: dict[Provider, Client] = {}  # the one used last comes last
_sharing = ForkSafeLock()


def shared_client(provider: str | Provider) -> Client:
    """The client behind `chatstream.stream`: one for each provider, so that its connections are used again.

    Only the clients used last are kept. The connections of another one are closed; its open streams go on.
    """
    provider = hidden(provider)
    resolved = _provider(provider)
    with _sharing.current:
        client = _shared[resolved] = _shared.pop(resolved) if resolved in _shared else Client(resolved)
        dropped = _shared.pop(next(iter(_shared))) if len(_shared) > MOST_SHARED else None
    if dropped is not None:
        dropped.close()
    return client


def _unpickled(provider: Provider, model: str | None, deadline: float | None, limits: Limits) -> Client:
    return Client(provider, model=model, deadline=deadline, limits=limits)
