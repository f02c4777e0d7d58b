"""One POST → its answer.

    Transport.post ─▶ Reply: status, headers, bytes

Rules:
- A pooled connection that the server closed meanwhile is replaced at once; that is no attempt of its own.
- Errors are made from the text of their cause, without the request that holds the key.
- Exceptions of requests, urllib3 and http.client are converted here and in `reply` (see `exceptions`), nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from functools import partial
from urllib.parse import urljoin, urlsplit

import requests

from .._dataclass import frozen
from .._locks import ForkSafeLock
from ..errors import ChatStreamError, ConnectionFailed, ProtocolViolation
from . import exceptions
from .cancel_scope import CancelScope
from .reply import Reply
from .response import Exchange, current_exchange
from .session import ENCODINGS, KeyAuth, hide_location, own_session, with_scopes

MAX_LOCATION = 8192  # bytes of a URL: servers and proxies refuse longer ones


@frozen
class Request:
    """What is sent: ``key`` is the header that carries the key, kept apart from the others."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    key: tuple[str, str] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0


class Transport:
    """One blocking session, shared by threads, made anew after a fork.

    ``session`` is the caller's own; without one, ``direct`` ignores the proxies of the environment.
    """

    def __init__(self, session: requests.Session | None = None, direct: bool = False) -> None:
        self.given = session
        self._direct = direct
        self._session: requests.Session | None = None
        self._process = 0
        self._lock = ForkSafeLock()

    def post(self, request: Request, scope: CancelScope) -> Reply:
        """Send one request and wait for the headers of its answer, whatever its status.

        Follows one 307 or 308 to the same origin. Raises `ConnectionFailed`, `ProtocolViolation`, `ConfigError` for
        what can't be sent, and the error of the scope.
        """
        reply = self._post(request, scope)
        if reply.status in (307, 308) and (target := _same_origin(request.url, reply.headers.get("Location", ""))):
            reply.close()
            reply = self._post(replace(request, url=target), scope)
        return reply

    def _post(self, request: Request, scope: CancelScope) -> Reply:
        fresh = False
        while True:
            exchange = Exchange(scope, fresh)
            token = current_exchange.set(exchange)
            try:
                return _checked(Reply(self._send(request, scope), exchange))
            except ChatStreamError:
                raise
            except Exception as error:
                failure = exceptions.map_send_error(error, exchange, request.url)
            finally:
                current_exchange.reset(token)
                scope.release()
            if not (exchange.reused and isinstance(failure, ConnectionFailed)):
                raise failure
            fresh = True  # the server may have closed every other connection of the pool too

    def _send(self, request: Request, scope: CancelScope) -> requests.Response:
        session = self._open_session(request.url)
        prepared = self._prepared(request, session)
        settings = session.merge_environment_settings(prepared.url, {}, True, None, None)
        limits = (request.connect_timeout, scope.remaining())  # for an adapter that the session's owner mounted
        location: dict[str, str] = {}
        prepared.hooks["response"].append(partial(hide_location, location))
        response = session.send(prepared, timeout=limits, allow_redirects=False, **settings)
        response.headers.update(location)
        return response

    def _prepared(self, request: Request, session: requests.Session) -> requests.PreparedRequest:
        """The prepared request; a session that was given adds its owner's headers, cookies and hooks."""
        asked = requests.Request(
            "POST", request.url, dict(request.headers), data=request.body, auth=KeyAuth(request.key)
        )
        if self.given is not None:
            return session.prepare_request(asked)
        asked.headers["Accept-Encoding"] = ENCODINGS
        return asked.prepare()

    def _open_session(self, url: str) -> requests.Session:
        with self._lock:
            if self._session is None or self._process != os.getpid():
                self._session = with_scopes(self.given) if self.given is not None else own_session(url, self._direct)
                self._process = os.getpid()
            return self._session

    def close(self) -> None:
        """Close the connections in the pool; the next request opens new ones. A given session is its owner's."""
        with self._lock:
            if self._session is not None and self.given is None:
                if self._process == os.getpid():  # a thread of the parent may hold a lock of an inherited pool
                    self._session.close()
                self._session = None


def _same_origin(url: str, location: str) -> str | None:
    """The URL that a redirect leads to, if it is one of the same origin."""
    try:
        target = urljoin(url, location.encode("latin-1").decode())  # http.client decodes headers as Latin-1
        is_same = urlsplit(target)[:2] == urlsplit(url)[:2]
    except ValueError:  # no URL, or no UTF-8
        return None
    return target if is_same and 0 < len(location) <= MAX_LOCATION else None


def _checked(reply: Reply) -> Reply:
    """Refuse answers that carry no stream: a proxy's own, an interim one that is the last, a compressed transfer."""
    if reply.status == 407:  # through a tunnel it is an exception of requests
        reply.close()
        raise exceptions.failed("the proxy wants another name or password (407)", retryable=False)
    framing = reply.headers.get("Transfer-Encoding", "chunked").strip().lower()
    if reply.status < 200 or reply.status in (204, 205) or framing not in ("chunked", "identity"):
        reply.close()
        what = f"status {reply.status}" if framing == "chunked" else f"Transfer-Encoding: {framing}"
        raise ProtocolViolation(f"the server answered with {what}, which carries no stream")
    return reply
