"""Exceptions of requests, urllib3 and http.client → ours, at the edge of the transport.

Rules:
- Only what the network raises is converted. An exception of the caller's own, raised by a signal handler, a hook or
  ``auth``, and a programming error stay as they are.
- The error of the scope comes next: a socket that was shut down or timed out fails in many ways, for one reason.
- Only a sentence about the innermost cause is kept: the exceptions themselves hold the request, and with it the key.
- A peer that closes means truncation or a failed connection; a peer that breaks HTTP is a protocol violation.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ..errors import (
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    IdleTimeout,
    ProtocolViolation,
    StreamTruncated,
)
from .advice import advice
from .callers import causes_of, raised_by, raised_by_signal_handler, raised_while_reading
from .descriptions import describe, lacks_tls, plain, rejection, unusable_file
from .response import Exchange

UNSENDABLE: Sequence[tuple[Any, str]] = (
    (requests.exceptions.InvalidProxyURL, "the proxy URL is invalid; check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"),
    (urllib3.exceptions.ProxySchemeUnknown, "the scheme of the proxy URL must be http, https or socks5"),
    (requests.exceptions.InvalidHeader, "one of its headers can't be sent"),
    (
        (
            requests.exceptions.InvalidURL,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
            urllib3.exceptions.LocationValueError,
            UnicodeError,
        ),
        "the URL is invalid; check base_url",
    ),
)
NETWORK = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, UnicodeError)  # requests' are OSErrors
# The last two are raised by code of the caller that checks a response, as an auth may.
NOT_NETWORK = (ChatStreamError, requests.exceptions.HTTPError, requests.exceptions.InvalidJSONError)
WRAPPERS = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError)
CLOSED_MEANWHILE = (ValueError, AttributeError)  # raised by a read whose response another thread closes
MISSING_SOCKS = 'a SOCKS proxy needs PySocks: pip install "chatstream-py[socks]"'
TUNNEL = r"Tunnel connection failed: (.*)"
RETRYABLE_TUNNEL = ("408", "429", "5")  # any other answer forbids the tunnel, or wants a password
PROXY_PASSWORD = "its URL needs a valid user name and password, as in http://user:password@host:port"
NOT_HTTP = (http.client.BadStatusLine, http.client.LineTooLong, http.client.UnknownProtocol)


def map_send_error(
    error: BaseException, exchange: Exchange, url: str, callbacks: Iterable[object] = (), proxy: str = ""
) -> BaseException:
    """The error for what failed before the headers of the answer arrived. ``callbacks`` are functions of the caller,
    ``proxy`` is the proxy that was to be used, as `proxy_of` names it."""
    if unconverted := _unconverted(error, exchange, callbacks):
        return unconverted
    host = urlsplit(url).netloc
    if unsendable := _unsendable_error(error, host):
        return unsendable
    causes = causes_of(error)
    if _has_proxy_failed(error, exchange, proxy):
        return _proxy_error(causes, host, proxy)
    if rejected := rejection(causes, host):
        return connection_failed(f"the certificate of {host} was rejected: {rejected}", retryable=False)
    what = describe(causes) + ("" if proxy else advice(url, causes, exchange.connecting))
    if isinstance(error, requests.exceptions.SSLError):
        return connection_failed(f"the TLS handshake with {host} failed: {what}", retryable=_closed_by_peer(causes))
    if _is_not_http(causes):
        return ProtocolViolation(f"{host} does not speak HTTP/1.1: {what}")
    if exchange.sent and isinstance(error, requests.exceptions.ReadTimeout):
        return IdleTimeout()
    if isinstance(causes[-1], TimeoutError) and exchange.sending and not exchange.sent:
        what = "the server did not read the request in time (connect_timeout)"
    return connection_failed(f"no response from {host}: {what}")


def _unsendable_error(error: BaseException, host: str) -> ConfigError | None:
    """The error for a request that can't be sent as it is, without what it holds; None if it was sent."""
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return ConfigError(MISSING_SOCKS)
    for kinds, reason in UNSENDABLE:
        if isinstance(error, kinds):
            return ConfigError(f"the request to {host!r} can't be sent: {reason}")
    if type(error) is OSError:  # raised by requests for a CA bundle that does not exist
        return ConfigError(f"TLS can't be set up: {plain(error)}; check REQUESTS_CA_BUNDLE and session.verify")
    if wrong := unusable_file(causes_of(error)):
        return ConfigError(f"TLS can't be set up: {wrong}")
    return None


def _has_proxy_failed(error: BaseException, exchange: Exchange, proxy: str) -> bool:
    """Whether a proxy failed, and not the server behind it."""
    if isinstance(error, requests.exceptions.SSLError) or exchange.sent:
        return False
    return isinstance(error, requests.exceptions.ProxyError) or (exchange.connecting and bool(proxy))


def _proxy_error(causes: list[BaseException], host: str, proxy: str) -> ConnectionFailed:
    last = causes[-1]
    tunnel = re.search(TUNNEL, str(last))
    retryable = _closed_by_peer(causes) or not (isinstance(last, ssl.SSLError) or _is_not_http(causes))
    what = describe(causes, "it")
    if tunnel:
        what = f"it answered {tunnel[1]}"
        retryable = tunnel[1].startswith(RETRYABLE_TUNNEL)
    elif rejected := rejection(causes, "the proxy"):
        what = f"its certificate was rejected: {rejected}"
    elif lacks_tls(last):
        what += "; write http:// in its URL"
    if what.startswith("it answered 407") or type(last).__name__ == "SOCKS5AuthError":  # PySocks may be missing
        what, retryable = f"{what}; {PROXY_PASSWORD}", False
    return connection_failed(f"the proxy for {host} failed: {what}{_named(proxy)}", retryable)


def proxy_password_error(url: str, proxy: str) -> ConnectionFailed:
    """The error for a 407 that came as an answer."""
    reason = f"it answered 407 Proxy Authentication Required; {PROXY_PASSWORD}"
    return connection_failed(f"the proxy for {urlsplit(url).netloc} failed: {reason}{_named(proxy)}", retryable=False)


def _named(proxy: str) -> str:
    return f" (the proxy is {proxy})" if proxy else ""


def map_read_error(error: BaseException, exchange: Exchange) -> BaseException:
    """The error for what failed in the body of an answer."""
    if unconverted := _unconverted(error, exchange):
        return unconverted
    causes = causes_of(error)
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return IdleTimeout()
    if isinstance(error, urllib3.exceptions.DecodeError):
        return ProtocolViolation(f"the body is not what its Content-Encoding says: {plain(causes[-1])}")
    ended = exchange.response is None or exchange.response.file.ended
    too_long = any(isinstance(cause, http.client.LineTooLong) for cause in causes)
    if too_long or (not ended and any(isinstance(cause, http.client.IncompleteRead) for cause in causes)):
        what = describe(causes) if too_long else "a chunk has no valid size or no line end"
        return ProtocolViolation(f"the chunked framing of the body is broken: {what}")
    return StreamTruncated(f"the connection broke off: {describe(causes)}")


def _unconverted(error: BaseException, exchange: Exchange, callbacks: Iterable[object] = ()) -> BaseException | None:
    """What is raised as it is: the caller's own exception, the error of the scope, or a programming error; None if the
    network failed."""
    if exchange.scope.waits.raised is not None:
        return exchange.scope.waits.raised
    causes = causes_of(error)
    if any(raised_while_reading(each, exchange.response) for each in causes):
        callbacks = ()  # the answer failed while a hook was reading it
    callers_own = [
        each
        for each in causes
        if raised_by_signal_handler(each) or raised_by(each, callbacks) or _is_early_timeout(each, exchange)
    ]
    if callers_own:  # an exception of urllib3 or requests around it has the same traceback
        return next((each for each in callers_own if not isinstance(each, WRAPPERS)), callers_own[-1])
    if isinstance(error, (*NETWORK, *CLOSED_MEANWHILE)) and (stopped := exchange.scope.error):
        return stopped
    return None if isinstance(error, NETWORK) and not isinstance(error, NOT_NETWORK) else error


def _is_early_timeout(error: BaseException, exchange: Exchange) -> bool:
    """Whether this is a timeout of the caller, such as `gevent.Timeout`: `ScopedFile` raises none of the socket's."""
    if not isinstance(error, TimeoutError) or isinstance(error, ChatStreamError):
        return False
    return raised_while_reading(error, exchange.response)


def connection_failed(message: str, retryable: bool = True) -> ConnectionFailed:
    failure = ConnectionFailed(message)
    failure.retryable = retryable
    return failure


def _closed_by_peer(causes: list[BaseException]) -> bool:
    return any(isinstance(cause, (ConnectionError, ssl.SSLEOFError, TimeoutError)) for cause in causes)


def _is_not_http(causes: list[BaseException]) -> bool:
    if any(isinstance(cause, ConnectionError) for cause in causes):  # RemoteDisconnected is a BadStatusLine too
        return False
    return any(isinstance(cause, NOT_HTTP) or type(cause) is http.client.HTTPException for cause in causes)
