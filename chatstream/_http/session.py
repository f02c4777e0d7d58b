"""Sessions of requests as this library uses them: adapters that know scopes, no ``.netrc``, no redirects.

    a session + PrivateAdapters ─▶ a session that sends as it does, over connections that ask the scope

Rules:
- What the owner of a session mounted stays as it was; the library's own adapters are private to one `Transport`.
- Only a plain `HTTPAdapter` is replaced, with its settings. Any other one, and a mock, sends as without this library.
- The key is passed as ``auth=``, so that no ``.netrc`` entry takes its place.
- A session of the library's own keeps no cookies and reads the environment once.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from .._runtime.imports import imports
from .._runtime.locks import ForkSafeLock
from .callers import caused_by_signal_handler

if TYPE_CHECKING:
    from .adapter import ScopedAdapter

ENCODINGS = requests.utils.default_headers()["Accept-Encoding"]  # those that the installed urllib3 can decompress
MAX_UNAUTHORIZED = 65536  # bytes
POOL_SIZE = 1000  # connections kept for reuse: one per thread that streams at the same time
# The class of requests itself: requests-cache may have put its own in its place before this module is imported.
SESSION: type[requests.Session] = next(c for c in requests.Session.__mro__ if c.__module__ == "requests.sessions")
SOCKETS = ("socket", "gevent", "eventlet", "socks")  # modules whose sockets are real
log = logging.getLogger("chatstream")


class KeyAuth(AuthBase):
    """Sets the header that carries the key, if there is one. Used also without a key, so that requests reads no
    ``.netrc``."""

    def __init__(self, header: tuple[str, str] | None) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers[self._header[0]] = self._header[1]
        return request


class PrivateAdapters:
    """The adapters that send in the place of plain ones: one for each, with the same settings, until `close`."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[HTTPAdapter, tuple[object, ScopedAdapter]] = WeakKeyDictionary()
        self._lock = ForkSafeLock()
        self._explained = False

    def lend(self, session: requests.Session) -> requests.Session:
        """A session that sends once as ``session`` does, with its cookies, over private adapters.

        It is ``session`` itself where that has its own way to send, which may keep state.
        """
        if not connections_are_urllib3s():
            self._explain()
            return session
        if any(is_replaced(session, method) for method in ("request", "send", "get_adapter")):
            return session
        lent = SESSION.__new__(SESSION)
        for name in SESSION.__attrs__:
            setattr(lent, name, getattr(session, name, None))
        lent.adapters = {prefix: self._private(adapter) for prefix, adapter in list(session.adapters.items())}
        return lent

    def _private(self, adapter: Any) -> Any:
        if not _is_plain(adapter):
            return adapter
        with imports():
            from .adapter import ScopedAdapter  # inherits from urllib3's classes, which no mock may have replaced

        settings = adapter.__getstate__(), dict(adapter.poolmanager.connection_pool_kw)
        with self._lock.current:
            known, made = self._made.get(adapter, (None, None))
            if made is None or known != settings:
                made = ScopedAdapter.like(adapter)
                self._made[adapter] = settings, made
            return made

    def _explain(self) -> None:
        if not self._explained:
            self._explained = True
            made = urllib3.HTTPConnectionPool.ConnectionCls, socket.socket
            log.info("limits and cancel() take effect only between reads, because a class is replaced: %r, %r", *made)

    def close(self) -> None:
        """Close the connections kept for reuse; the next request makes new adapters."""
        with self._lock.current:
            for _, made in self._made.values():
                made.close()
            self._made.clear()


def own_session(url: str, direct: bool) -> requests.Session:
    """A session for the host of ``url``. It looks the environment's proxies and certificates up once: requests does so
    for every request, which takes a quarter of the time of a request."""
    session = requests.Session()
    if not direct:
        found = session.merge_environment_settings(url, {}, None, None, None)
        session.proxies, session.verify = found["proxies"], found["verify"]
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for prefix in list(session.adapters):
        session.mount(prefix, HTTPAdapter(pool_maxsize=POOL_SIZE))
    return session


def settings_of(session: Any, url: str | None) -> dict[str, Any]:
    """The proxies and certificates of a request to ``url``. Those that the owner of the session has set win over those
    of the environment; requests prefers the environment (requests#2018, requests#3829)."""
    verify = None if session.verify is True else session.verify
    found: dict[str, Any] = session.merge_environment_settings(url, dict(session.proxies or {}), True, verify, None)
    return found


def proxy_of(session: Any, url: str) -> str:
    """The proxy that a session uses for ``url``, without its password, and what names it; empty if there is none."""
    with suppress(Exception):  # whatever a strange session raises, the error that is being described matters more
        proxy = requests.utils.select_proxy(url, settings_of(session, url)["proxies"]) or ""
        scheme, _, address = proxy.rpartition("://")
        names = [name for name, value in os.environ.items() if name.lower().endswith("_proxy") and value == proxy]
        if proxy:
            named_by = names[0] if names else "the session or the system"
            return f"{scheme or 'http'}://{address.rpartition('@')[2].rstrip('/')}, named by {named_by}"
    return ""


def is_replaced(session: requests.Session, method: str) -> bool:
    """Whether a method of a session is not that of requests: a subclass has its own, or it was set on the session."""
    return getattr(getattr(session, method), "__func__", None) is not getattr(SESSION, method)


def connections_are_urllib3s() -> bool:
    """Whether pools make urllib3's own connections, from which those of this library inherit, over real sockets.

    urllib3-future replaces urllib3 by a module without http.client. VCR and others put their classes into the pools for
    a while, HTTPretty and others into ``socket``.
    """
    pools = (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool)
    return socket.socket.__module__.partition(".")[0] in SOCKETS and all(_is_urllib3s(p.ConnectionCls) for p in pools)


def _is_urllib3s(connection: Any) -> bool:
    return connection.__module__ == "urllib3.connection" and any(
        base.__module__ == "http.client" for base in connection.__mro__
    )


def _is_plain(adapter: Any) -> bool:
    """Whether an adapter is that of requests, with none of its methods and no pools replaced."""
    if type(adapter) is not HTTPAdapter or type(adapter.poolmanager) is not urllib3.PoolManager:
        return False
    return vars(HTTPAdapter).keys().isdisjoint(vars(adapter))


def hide_location(location: dict[str, str], response: requests.Response, **_: Any) -> None:
    """Move the header ``Location`` to the dict: requests reads the whole body of a redirect, without a limit, to find
    the next request, and raises for a target that is no URL, even where redirects are not followed."""
    if "Location" in response.headers:
        location["Location"] = response.headers.pop("Location")


def keep_unauthorized(response: requests.Response, **_: Any) -> None:
    """Read a 401 for authentication that answers it, as digest does, but no more than `MAX_UNAUTHORIZED` of its body,
    where requests reads all that comes."""
    if response.status_code != 401:
        return
    kept = bytearray()
    try:
        for piece in response.iter_content(MAX_UNAUTHORIZED):
            kept += piece
            if len(kept) >= MAX_UNAUTHORIZED:
                response.close()
                break
    except requests.RequestException as error:  # broken off: its headers are all that is needed
        if caused_by_signal_handler(error):
            raise
    response._content, response._content_consumed = bytes(kept), True  # type: ignore[attr-defined]


def response_hooks(session: requests.Session) -> list[Any]:
    """The response hooks of a session; requests takes a single function, too."""
    hooks: Any = session.hooks.get("response")
    return [hooks] if callable(hooks) else list(hooks or ())
