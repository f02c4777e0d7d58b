"""One POST → its answer, and the answer's bytes.

    Transport.post ──▶ Reply: status, headers ──read()──▶ bytes, as they come

Rules:
- ``read1`` returns what has arrived at once, in every framing and encoding, and bounds what a bomb expands to.
- A pooled connection that the server closed meanwhile is replaced at once; that is no attempt of its own.
- The key is passed as ``auth=``, and errors are made from the text of their cause, without the request that holds it.
- Exceptions of requests, urllib3 and http.client are converted here (see `exceptions`), nowhere else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from .._dataclass import frozen
from ..errors import ChatStreamError, ConnectionFailed, DeadlineExceeded, IdleTimeout, ProtocolViolation, StreamError
from . import exceptions
from .cancel_scope import CancelScope
from .connection import ScopedAdapter
from .response import Exchange, current_exchange

MAX_LOCATION = 8192  # bytes of a URL: servers and proxies refuse longer ones
READ_SIZE = 65536  # bytes, the most that one read returns
DRAIN_SECONDS = 0.1
ENCODINGS = requests.utils.default_headers()["Accept-Encoding"]  # those that the installed urllib3 can decompress
REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray")


class _KeyAuth(AuthBase):
    """Sets the header that carries the key, if there is one. Given in any case, so that no ``.netrc`` entry is used."""

    def __init__(self, header: tuple[str, str] | None) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers[self._header[0]] = self._header[1]
        return request


@frozen
class Request:
    """What is sent: ``key`` is the header that carries the key, kept apart from the others."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    key: tuple[str, str] | None = field(default=None, repr=False)
    connect_timeout: float = 10.0


class Reply:
    """An answer whose headers have arrived; its body is read on demand."""

    __slots__ = (
        "_ended",
        "_exchange",
        "_full",
        "_read1",
        "_response",
        "_scope",
        "headers",
        "request_id",
        "reused",
        "status",
        "version",
    )

    def __init__(self, response: requests.Response, exchange: Exchange) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.request_id: str | None = next(
            (response.headers[h] for h in REQUEST_ID_HEADERS if h in response.headers), None
        )
        self.version = "1.0" if response.raw.version == 10 else "1.1"
        self.reused: bool = exchange.reused  # the connection served another request before
        self._response = response
        self._exchange = exchange
        self._scope = exchange.scope
        self._read1 = _reader(response, exchange)
        self._full = False  # the last read may have left decoded bytes in urllib3's buffer
        self._ended = False

    def read(self) -> bytes:
        """The next bytes of the decoded body, at most 64 KiB, as soon as any arrive; ``b""`` at the end.

        Raises `StreamTruncated` when the body ends before its framing does, `ProtocolViolation` when the framing is
        broken, and the error of the scope. After an error the connection is closed.
        """
        if self._ended:
            return b""
        try:
            self._scope.check()  # buffered bytes would be returned after `cancel` too
            data: bytes = self._read1(READ_SIZE)
        except Exception as error:
            failure = exceptions.map_read_error(error, self._exchange)
        else:
            self._full = len(data) == READ_SIZE
            if not data:
                self._finish()
            return data
        self.close()
        raise failure

    def _finish(self) -> None:
        """Give the connection back to the pool, where another call may take it."""
        self._ended = True
        self._response.raw.release_conn()

    def wait(self, seconds: float) -> bool:
        """Whether bytes, or the end, arrive within ``seconds``; to be called between two reads."""
        response = self._exchange.response
        return self._full or self._ended or response is None or response.wait(seconds)

    def read_body(self, limit: int, seconds: float) -> bytes:
        """The beginning of the body, as much as arrives within ``limit`` bytes and ``seconds``. Closes."""
        body = b""
        self._scope.reset()
        self._scope.set_timeout(seconds, IdleTimeout)
        try:
            while len(body) < limit and (data := self.read()):
                body += data
        except (StreamError, DeadlineExceeded):
            pass  # what has arrived is enough
        self.close()
        return body[:limit]

    def drain(self) -> None:
        """Read the rest for at most `DRAIN_SECONDS`, so that the connection can be used again; otherwise close it."""
        try:
            self.read_body(READ_SIZE, DRAIN_SECONDS)
        except ChatStreamError:
            self.close()

    def close(self) -> None:
        """Give the connection up, unless its answer was read to the end. May be called twice."""
        self._ended = True
        if self._exchange.release():  # otherwise another call may have the connection
            self._response.close()


def _reader(response: requests.Response, exchange: Exchange) -> Callable[[int], bytes]:
    """How the body is read: uncompressed chunks directly, anything else by urllib3, which decompresses, and checks
    Content-Length."""
    if exchange.response is not None and exchange.response.bare_chunks:
        return exchange.response.read1
    return partial(response.raw.read1, decode_content=True)


class Transport:
    """One blocking session, shared by threads, made anew after a fork.

    ``session`` is the caller's own; without one, ``direct`` ignores the proxies of the environment.
    """

    def __init__(self, session: requests.Session | None = None, direct: bool = False) -> None:
        self.given = session
        self._direct = direct
        self._session: requests.Session | None = None
        self._process = 0
        self._lock = threading.Lock()

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
        prepared.hooks["response"].append(partial(_hide_location, location))
        response = session.send(prepared, timeout=limits, allow_redirects=False, **settings)
        response.headers.update(location)
        return response

    def _prepared(self, request: Request, session: requests.Session) -> requests.PreparedRequest:
        """The prepared request; a session that was given adds its owner's headers, cookies and hooks."""
        asked = requests.Request(
            "POST", request.url, dict(request.headers), data=request.body, auth=_KeyAuth(request.key)
        )
        if self.given is not None:
            return session.prepare_request(asked)
        asked.headers["Accept-Encoding"] = ENCODINGS
        return asked.prepare()

    def _open_session(self, url: str) -> requests.Session:
        with self._lock:
            if self._session is None or self._process != os.getpid():
                self._session = _with_scopes(self.given) if self.given is not None else _own_session(url, self._direct)
                self._process = os.getpid()
            return self._session

    def close(self) -> None:
        """Close the connections in the pool; the next request opens new ones. A given session is its owner's."""
        with self._lock:
            if self._session is not None and self.given is None:
                self._session.close()
                self._session = None


def _own_session(url: str, direct: bool) -> requests.Session:
    """A session for the host of ``url``. It looks the environment's proxies and certificates up once: requests does so
    for every request, which takes a quarter of the time of a request."""
    session = requests.Session()
    if not direct:
        found = session.merge_environment_settings(url, {}, None, None, None)
        session.proxies, session.verify = found["proxies"], found["verify"]
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return _with_scopes(session)


def _with_scopes(session: requests.Session) -> requests.Session:
    """Replace the adapters of requests by those that know scopes; one that the session's owner mounted stays."""
    for prefix, adapter in list(session.adapters.items()):
        if type(adapter) in (HTTPAdapter, ScopedAdapter):
            session.mount(prefix, ScopedAdapter())
    return session


def _hide_location(location: dict[str, str], response: requests.Response, **_: Any) -> None:
    """Move the header ``Location`` to the dict: requests reads the whole body of a redirect, without a limit, to find
    the next request, and raises for a target that is no URL, even where redirects are not followed."""
    if "Location" in response.headers:
        location["Location"] = response.headers.pop("Location")


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
