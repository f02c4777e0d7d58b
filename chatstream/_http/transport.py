"""One POST or GET → its answer.

    Transport.send ─▶ Reply: status, headers, bytes

Rules:
- A pooled connection that the server closed meanwhile is replaced at once; that is no attempt of its own.
- Errors are made from the text of their cause, without the request that holds the key.
- Exceptions of requests, urllib3 and http.client are converted here and in `reply` (see `exceptions`), nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from .._dataclass import frozen
from .._runtime.frames import warn
from .._runtime.locks import ForkSafeLock
from .._secrets import HiddenQuery
from ..errors import ConfigError, ConnectionFailed, ProtocolViolation
from . import exceptions
from .cancel_scope import CancelScope
from .reply import Reply
from .response import Exchange, current_exchange
from .session import (
    ENCODINGS,
    SESSION,
    KeyAuth,
    PrivateAdapters,
    hide_location,
    is_replaced,
    keep_unauthorized,
    own_session,
    proxy_of,
    response_hooks,
    settings_of,
)

MAX_LOCATION = 8192  # bytes of a URL: servers and proxies refuse longer ones


@frozen
class Request:
    """What is sent: ``key`` is the header that carries the key, kept apart from the others.

    ``url`` and the values of the headers have reprs that hide what is secret in them.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    key: tuple[str, str] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    method: str = "POST"


class Transport:
    """One blocking session, shared by threads, made anew after a fork.

    ``session`` is the caller's own; without one, ``direct`` ignores the proxies of the environment.
    """

    def __init__(self, session: requests.Session | None = None, direct: bool = False) -> None:
        self.callers_session = session
        self._direct = direct
        self._session: requests.Session | None = None
        self._adapters = PrivateAdapters()
        self._process = 0
        self._warned = False
        self._lock = ForkSafeLock()

    def send(self, request: Request, scope: CancelScope) -> Reply:
        """Send one request and wait for the headers of its answer, whatever its status.

        Follows one 307 or 308 to the same origin. Raises `ConnectionFailed`, `ProtocolViolation`, `ConfigError` for
        what can't be sent, and the error of the scope.
        """
        self._warn_of_two_keys(request)
        reply = self._send(request, scope)
        if reply.status in (307, 308) and (target := _same_origin(request.url, reply.headers.get("Location", ""))):
            reply.close()
            reply = self._send(replace(request, url=target), scope)
        return reply

    def _send(self, request: Request, scope: CancelScope) -> Reply:
        fresh = False
        while True:
            exchange = Exchange(scope, fresh)
            token = current_exchange.set(exchange)
            try:
                return self._checked(Reply(self._response_to(request, scope), exchange), request.url)
            except BaseException as error:
                exchange.abandon()
                proxy = proxy_of(self._session, request.url)
                failure = exceptions.map_send_error(error, exchange, request.url, self._callbacks(), proxy)
            finally:
                current_exchange.reset(token)
                scope.socket.release()
            if not (exchange.reused and isinstance(failure, ConnectionFailed)):
                raise failure
            fresh = True  # the server may have closed every other connection of the pool too

    def _response_to(self, request: Request, scope: CancelScope) -> requests.Response:
        session = self._open_session(request.url)
        location: dict[str, str] = {}
        response = self._call_session(request, session, scope, partial(hide_location, location))
        if not hasattr(response, "status_code"):  # FuturesSession
            raise ConfigError(f"the session returned a {type(response).__name__} instead of a response")
        response.headers.update(location)
        if scope.error is not None:  # an adapter that was mounted by the session's owner does not ask the scope
            response.close()
        scope.check()
        return response

    def _call_session(
        self, request: Request, session: requests.Session, scope: CancelScope, hook: Callable[..., None]
    ) -> requests.Response:
        """The response of the session, which calls ``hook`` with it.

        Neither auth nor the settings of proxies are in a variable, because a frame would show their passwords.
        """
        lent = self._adapters.lend(session)
        if lent is session:
            request = _plain(request)
        timeout = request.connect_timeout, scope.remaining()  # for adapters that do not ask the scope
        options: dict[str, Any] = {"allow_redirects": False, "timeout": timeout}
        if is_replaced(session, "request"):  # it may add what else identifies the caller, as OAuth2Session does
            options |= {"data": request.body, "hooks": {"response": [*response_hooks(session), hook]}, "stream": True}
            return session.request(
                request.method, request.url, headers=dict(request.headers), auth=self._auth(request, session), **options
            )
        prepared = self._prepare(request, session)
        prepared.hooks["response"].append(hook)
        return lent.send(prepared, **options, **settings_of(session, prepared.url))

    def _prepare(self, request: Request, session: requests.Session) -> requests.PreparedRequest:
        unprepared = requests.Request(request.method, request.url, dict(request.headers), data=request.body)
        unprepared.auth = self._auth(request, session)
        if self.callers_session is None:
            unprepared.headers["Accept-Encoding"] = ENCODINGS
            return unprepared.prepare()
        prepared = session.prepare_request(unprepared)
        if unprepared.auth is session.auth:
            prepared.hooks["response"].insert(0, keep_unauthorized)
        return prepared

    def _checked(self, reply: Reply, url: str) -> Reply:
        """Raise for a response without a stream: a proxy's own, a last interim one, one with a compressed transfer."""
        framing = reply.headers.get("Transfer-Encoding", "chunked").lower()
        if reply.status == 407:  # through a tunnel it is an exception of requests
            reply.close()
            raise exceptions.proxy_password_error(url, proxy_of(self._session, url))
        if reply.status < 200 or reply.status in (204, 205) or framing not in ("chunked", "identity"):
            reply.close()
            what = f"status {reply.status}" if framing == "chunked" else f"Transfer-Encoding: {framing}"
            raise ProtocolViolation(f"the server answered with {what}, so there is no event stream to read")
        return reply

    def _auth(self, request: Request, session: requests.Session) -> Any:
        """What identifies the caller: the key of the provider, else what its session has."""
        if not session.auth or _has_key(request):
            return KeyAuth(request.key)
        return session.auth

    def _warn_of_two_keys(self, request: Request) -> None:
        if not self._warned and getattr(self.callers_session, "auth", None) is not None and _has_key(request):
            self._warned = True
            warn("the session's auth is not used, because the provider has a key: leave one of them out")

    def _callbacks(self) -> list[object]:
        """The functions of the caller that its session calls."""
        session = self._session
        return [*response_hooks(session), session.auth] if isinstance(session, SESSION) else []

    def _open_session(self, url: str) -> requests.Session:
        with self._lock.current:
            if self._process != os.getpid():
                self._session, self._adapters, self._process = self.callers_session, PrivateAdapters(), os.getpid()
            # not one that requests-cache has put in the place of requests' own, or took away since
            if self._session is None or (self.callers_session is None and type(self._session) is not requests.Session):
                self._session = own_session(url, self._direct)
            if not isinstance(self._session, SESSION):
                raise ConfigError(f"session must be a requests.Session, not {type(self._session).__qualname__}")
            return self._session

    def close(self) -> None:
        """Close the connections in the pool; the next request opens new ones. A caller's session stays open."""
        with self._lock.current:
            self._adapters.close()
            if self._session is not None and self.callers_session is None:
                if self._process == os.getpid():  # a thread of the parent may hold a lock of an inherited pool
                    self._session.close()
                self._session = None


def _has_key(request: Request) -> bool:
    return request.key is not None or "authorization" in map(str.lower, request.headers)


def _plain(request: Request) -> Request:
    """The request with plain texts in its headers: a cache or a mock may write them to a file."""
    headers = {name: str(value) for name, value in request.headers.items()}
    return replace(request, headers=headers, key=request.key and (request.key[0], str(request.key[1])))


def _same_origin(url: str, location: str) -> str | None:
    """The URL that a redirect leads to, if it is one of the same origin."""
    try:
        target = urljoin(url, location.encode("latin-1").decode())  # http.client decodes headers as Latin-1
        is_same = urlsplit(target)[:2] == urlsplit(url)[:2]
    except ValueError:  # no URL, or no UTF-8
        return None
    return HiddenQuery(target) if is_same and 0 < len(location) <= MAX_LOCATION else None
