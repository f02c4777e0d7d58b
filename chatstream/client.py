"""Client: the provider to call, and what its calls share, such as connections, defaults and the retry budget.

Rules:
- Threads may share a client; after a fork each process opens its own connections.
- Wrong arguments raise `ConfigError` before anything is sent.
- The modules that send and read, and requests with them, are loaded with the first call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn

from ._calls.hooks import CallInfo, Hooks, RequestInfo, checked_hook
from ._calls.totals import UsageTotal
from ._fields import (
    Places,
    checked_body,
    checked_timeouts,
    choices_of,
    provider_of_call,
    warn_of_typos,
    without_secrets,
)
from ._http.announcing import WaitAnnouncer
from ._http.cancel_scope import CancelScope, RunningCalls, checked_seconds
from ._missing import explain_missing, refuse_changes
from ._recording.option import begin_recording
from ._requirements import check_installed
from ._retries.limiter import Limiter, checked_limiter
from ._runtime.imports import imports
from ._runtime.locks import ForkSafeLock
from ._secrets import hidden, hidden_if_key, hidden_secrets, hidden_table, name_for_pickle
from .providers.checks import checked_headers
from .providers.provider import Provider
from .providers.resolve import DEFAULT_PROVIDER, resolve
from .types.limits import Limits, checked_limits
from .types.prompt import PromptLike, one_prompt
from .types.usage import ClientUsage

if TYPE_CHECKING:
    import requests

    from ._calls.sender import Sender
    from ._http.transport import Transport
    from ._recording.recorder import Recorder
    from ._retries.retry import RetryInfo
    from ._stream import ResponseStream


WAIT_INTERVAL = 1.0  # seconds between two calls of ``on_wait``, where the call has no heartbeat


class Client:
    """Streams answers from one provider.

    - ``provider``: the id of a built-in provider, the base URL of a server, or a `Provider`.
    - ``base_url``: the URL of a server, with ``api_key`` as its key; without it, ``api_key`` is the key for
      ``provider``. If ``api_key`` is a function, it is called before each request.
    - ``model``: the model of calls that do not name one. ``defaults``: request fields of every call, such as
      ``{"temperature": 0}``; a call may replace them. ``deadline``: the time limit of each call in seconds, all its
      attempts included.
    - ``on_request``: called with a `RequestInfo` before each request. ``on_retry``: with a `RetryInfo` before each wait
      for a retry. ``on_turn``: with a `CallInfo` after each call, however it ends.
    - ``on_wait``: called with the seconds since the call began, once a second or every ``heartbeat`` seconds, while the
      call starts the local server, connects, waits for headers or waits to retry. An exception raised by one of these
      four functions ends the call and propagates.
    - ``session``: a `requests.Session` of your own, with its proxies and certificates. ``limits``: the size limits of
      an answer. ``limiter``: a `Limiter` that keeps the calls within the rate limit of the server.

    Raises `ConfigError` for settings that can't work.
    """

    def __init__(
        self,
        provider: str | Provider = DEFAULT_PROVIDER,
        *,
        base_url: str | None = None,
        api_key: str | Callable[[], str] | None = None,
        model: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        on_request: Callable[[RequestInfo], object] | None = None,
        on_retry: Callable[[RetryInfo], object] | None = None,
        on_turn: Callable[[CallInfo], object] | None = None,
        on_wait: Callable[[float], object] | None = None,
        session: requests.Session | None = None,
        limiter: Limiter | None = None,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        **unknown: NoReturn,  # no value has this type, so a type checker rejects all; `Places` says where each belongs
    ) -> None:
        provider, model = hidden(provider), hidden_if_key(model)  # either may be a key, passed by mistake
        base_url, api_key, defaults = hidden(base_url), hidden(api_key), hidden_table(defaults)
        unknown.update(hidden_secrets(unknown))
        PLACES.reject_unknown(unknown)
        self.provider: Provider = resolve(provider, base_url, api_key)
        self.model = model
        self.defaults: Mapping[str, Any] = PLACES.checked_defaults(defaults)
        self.deadline = deadline
        self.limits: Limits = checked_limits(limits)
        self._hooks = Hooks(on_request, on_retry, on_turn)
        self._on_wait = checked_hook("on_wait", on_wait)
        self._is_local = self.provider == Provider.named("local")
        self._session = session
        self.limiter: Limiter | None = checked_limiter(limiter)
        self._transport: Transport | None = None
        self._sender: Sender | None = None
        self._lock = ForkSafeLock()
        self._total = UsageTotal()
        self._running = RunningCalls()  # its own, and clients of `_for_run` with theirs
        CancelScope(deadline)  # raises for a wrong deadline now

    def stream(
        self,
        prompt: PromptLike | None = None,
        *,
        messages: PromptLike | None = None,
        model: str | None = None,
        deadline: float | None = None,
        stream_idle_timeout: float | None = None,
        first_event_timeout: float | None = None,
        heartbeat: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        record: str | PathLike[str] | Recorder | None = None,
        **fields: Any,
    ) -> ResponseStream:
        """Send the prompt, and return a stream of the answer as soon as the response headers arrive.

        - ``prompt``: a str, a `Prompt`, or a list of items and message dicts; ``messages`` is another name for it.
        - ``deadline`` replaces the client's, ``stream_idle_timeout`` and ``first_event_timeout`` the provider's (all in
          seconds). With ``heartbeat``, the stream yields a `Heartbeat` after that many seconds without an event.
        - ``extra_headers`` replace the headers of the provider, ``extra_body`` any field of the request.
        - ``record``: a path, or a `Recorder`, to which requests and answers are written as they arrive, but no key.
        - All other ``fields`` are sent as they are. The name of an option of this or a similar library raises
          `ConfigError`; a name that looks like a misspelt field is sent, with a `UserWarning`.

        Raises `ConfigError` before sending and, if no answer begins, `ConnectionFailed`, `UnexpectedStatus` or a
        subclass of it, `IdleTimeout`, `ProtocolViolation`, `DeadlineExceeded` or `Cancelled`.
        """
        model, fields = hidden_if_key(model), hidden_secrets(fields)
        extra_headers, extra_body = hidden_table(extra_headers), hidden_table(extra_body)
        prompt = one_prompt(prompt, messages)
        if heartbeat is not None:
            checked_seconds("heartbeat", heartbeat)
        fields = self._checked_fields(fields)
        timeouts = checked_timeouts(stream_idle_timeout=stream_idle_timeout, first_event_timeout=first_event_timeout)
        headers, body = checked_headers(extra_headers, "extra_headers"), checked_body(extra_body)
        choices = choices_of({**fields, **body})
        scope = self._scope_of(deadline, heartbeat)
        with imports():
            check_installed()
            from ._calls.attempt import OpenAttempt
            from ._calls.call import Call
            from ._calls.reader import CallReader
            from ._stream import ResponseStream

        sender = self._open(scope.sleep)
        provider = provider_of_call(sender.provider, headers, timeouts)
        model = model or self.model or provider.model or ""
        recording, limiter = begin_recording(record, choices), self.limiter
        call = Call(
            prompt, model, fields, scope, provider, self._hooks, body, self._total, recording=recording, limiter=limiter
        )
        try:
            reply = sender.send(call)
        except BaseException as error:
            call.fail(error)
            raise
        attempt = OpenAttempt(reply, scope, provider, choices=choices, limits=self.limits, heartbeat=heartbeat)
        return ResponseStream(CallReader(attempt, call, sender))

    def _scope_of(self, deadline: float | CancelScope | None, heartbeat: float | None = None) -> CancelScope:
        """The scope of a call; `Fallback` passes one instead of a deadline, for all clients that it tries."""
        given = self.deadline if deadline is None else deadline
        scope = given if isinstance(given, CancelScope) else CancelScope(given)
        if self._on_wait is not None:
            scope.waits = WaitAnnouncer(scope.started, self._on_wait, heartbeat or WAIT_INTERVAL)
        self._running.add(scope)
        return scope

    def _checked_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a call and those of all calls, which may have been changed since they were checked."""
        PLACES.check_fields(merged := {**self.defaults, **fields})
        warn_of_typos(fields)
        return merged

    def models(self, *, deadline: float | None = None) -> list[str]:
        """The ids of the models that the server lists, in its order. ``deadline`` replaces the client's (seconds). The
        hooks of the client are called as for `stream`, except ``on_turn``.

        Raises the errors of `stream`, `ProviderError` if the server reports an error with status 200, and another
        `StreamError` if the response is not a list of models.
        """
        scope = self._scope_of(deadline)
        with imports():
            check_installed()
            from ._calls.call import Call
            from ._calls.models import PATH, listed_models

        sender = self._open(scope.sleep)
        hooks = Hooks(self._hooks.on_request, self._hooks.on_retry)  # there is no turn
        call = Call((), "", {}, scope, sender.provider, hooks, total=self._total, listing=PATH)
        return listed_models(sender, call, self.limits)

    def _open(self, sleep: Callable[[float], object] = time.sleep) -> Sender:
        """The sender of all calls; it starts the embedded server on first use, and again if the server has died.

        ``sleep`` waits between two checks of a server that is starting.
        """
        with imports():
            from ._calls.sender import Sender
            from ._http.transport import Transport

        provider = _local_provider(sleep) if self._is_local else self.provider
        with self._lock.current:
            if self._sender is None or self._sender.provider != provider:
                self._transport = self._transport or Transport(self._session, direct=self._is_local)
                self._sender = Sender(provider, self._transport, self.limits)
            return self._sender

    @property
    def usage(self) -> ClientUsage:
        """The tokens, the cost and the number of this client's calls so far, across all threads."""
        return self._total.usage

    def cancel(self) -> None:
        """Cancel every running call, even one that still connects or waits and has no stream yet; from any thread.

        A thread that waits for such a call raises `Cancelled` at once. To end one stream, call its ``cancel``.
        """
        self._running.cancel()

    def close(self) -> None:
        """Close the connections kept for reuse. The client may be used again."""
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        given = vars(self)  # not all of them where `__init__` raised
        return f"Client({given.get('provider')!r}, model={given.get('model')!r})"

    def __copy__(self) -> Client:
        return self._like(self.provider)

    def __deepcopy__(self, memo: dict[int, Any]) -> Client:
        return self._like(self.provider)

    def __reduce__(self) -> tuple[Callable[..., Client], tuple[Any, ...]]:
        """Pickling drops the key, the session and the hooks."""
        kept = {"model": name_for_pickle(self.model), "defaults": without_secrets(self.defaults)}
        options = {**self._options(), **kept}
        return partial(Client, **options), (self.provider,)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "defaults", "deadline", "limits", "limiter")}

    def _for_run(self, limiter: Limiter | None) -> Client:
        """A client that shares connections, budget and usage with this one, while its calls are cancelled separately.
        Calls without a model get the one of this client, which the embedded server names only when it runs."""
        provider = self._open().provider
        made = object.__new__(Client)
        limiter = checked_limiter(limiter) or self.limiter or Limiter()
        vars(made).update(vars(self), _running=RunningCalls(), model=self.model or provider.model, limiter=limiter)
        self._running.add(made)
        return made

    def _like(self, provider: Provider) -> Client:
        made = Client(provider, **self._options(), on_wait=self._on_wait, session=self._session)
        made._hooks = copy(self._hooks)
        return made


def _local_provider(sleep: Callable[[float], object]) -> Provider:
    with imports():
        from .providers.local import local_provider

    return local_provider(sleep)


_CALL = "use client.stream(messages, model=…)"
explain_missing(Client, {"chat": _CALL, "completions": _CALL, "create": _CALL, "responses": _CALL})
refuse_changes(Client, ("base_url", "api_key", "session", "on_request", "on_retry", "on_turn", "on_wait"))

PLACES = Places(
    client_options=("provider", *(Client.__init__.__kwdefaults__ or ())),
    call_options=("prompt", *(Client.stream.__kwdefaults__ or ())),
)
