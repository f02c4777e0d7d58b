"""Sessions of requests as this library uses them: adapters that know scopes, no ``.netrc``, no redirects.

Rules:
- The key is passed as ``auth=``, so that no ``.netrc`` entry takes its place.
- A session of the library's own keeps no cookies and reads the environment once.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from .connection import ScopedAdapter

ENCODINGS = requests.utils.default_headers()["Accept-Encoding"]  # those that the installed urllib3 can decompress


class KeyAuth(AuthBase):
    """Sets the header that carries the key, if there is one. Given in any case, so that no ``.netrc`` entry is used."""

    def __init__(self, header: tuple[str, str] | None) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers[self._header[0]] = self._header[1]
        return request


def own_session(url: str, direct: bool) -> requests.Session:
    """A session for the host of ``url``. It looks the environment's proxies and certificates up once: requests does so
    for every request, which takes a quarter of the time of a request."""
    session = requests.Session()
    if not direct:
        found = session.merge_environment_settings(url, {}, None, None, None)
        session.proxies, session.verify = found["proxies"], found["verify"]
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return with_scopes(session)


def with_scopes(session: requests.Session) -> requests.Session:
    """Replace the adapters of requests by those that know scopes; one that the session's owner mounted stays."""
    for prefix, adapter in list(session.adapters.items()):
        if type(adapter) in (HTTPAdapter, ScopedAdapter):
            session.mount(prefix, ScopedAdapter())
    return session


def hide_location(location: dict[str, str], response: requests.Response, **_: Any) -> None:
    """Move the header ``Location`` to the dict: requests reads the whole body of a redirect, without a limit, to find
    the next request, and raises for a target that is no URL, even where redirects are not followed."""
    if "Location" in response.headers:
        location["Location"] = response.headers.pop("Location")


def callbacks(session: requests.Session | None) -> list[object]:
    """The functions of the caller that a session calls: its response hooks and its ``auth``."""
    if session is None:
        return []
    hooks = session.hooks.get("response") or []
    return [*(hooks if isinstance(hooks, (list, tuple)) else [hooks]), session.auth]
