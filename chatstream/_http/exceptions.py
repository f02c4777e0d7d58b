"""Exceptions of requests, urllib3 and http.client → ours, at the edge of the transport.

Rules:
- Only what the network raises is converted. An exception of the caller's own, raised by a signal handler, a hook or
  ``auth``, and a programming error stay as they are.
- The error of the scope comes next: a socket that was shut down or timed out fails in many ways, for one reason.
- Only the text of the innermost cause is kept: the exceptions themselves hold the request, and with it the key.
- A peer that closes means truncation or a failed connection; a peer that breaks HTTP is a protocol violation.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterable
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
    excerpt,
)
from .callers import causes_of, raised_by, raised_by_signal_handler, raised_while_reading
from .response import Exchange

UNSENDABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    urllib3.exceptions.LocationParseError,
    UnicodeError,
)
NETWORK = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, UnicodeError)  # requests' are OSErrors
NOT_NETWORK = (requests.exceptions.HTTPError, requests.exceptions.InvalidJSONError)  # of who looks at an answer
WRAPPERS = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError)
CLOSED_MEANWHILE = (ValueError, AttributeError)  # what a read raises whose response another thread closes
MISSING_SOCKS = 'a SOCKS proxy needs PySocks: pip install "chatstream-py[socks]"'
REFUSED_TUNNEL = r"Tunnel connection failed: 4(?!08|29)"  # forbidden, or a wrong password
NOT_HTTP = (http.client.BadStatusLine, http.client.LineTooLong, http.client.UnknownProtocol)


def map_send_error(
    error: BaseException, exchange: Exchange, url: str, callbacks: Iterable[object] = ()
) -> BaseException:
    """The error for what failed before the headers of the answer arrived. ``callbacks`` are functions of the caller."""
    if decided := _not_of_the_network(error, exchange, callbacks):
        return decided
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return ConfigError(MISSING_SOCKS)
    if isinstance(error, UNSENDABLE):
        return ConfigError(f"the request to {host!r} can't be sent ({type(error).__name__}): check URL, headers, proxy")
    if type(error) is OSError:  # raised by requests for a CA bundle that does not exist
        return ConfigError(f"TLS can't be set up, check REQUESTS_CA_BUNDLE and verify: {error}")
    causes = causes_of(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return failed(f"the certificate of {host} was rejected: {_describe(causes[-1])}", retryable=False)
    if isinstance(error, requests.exceptions.SSLError):
        return failed(f"no TLS with {host}: {_describe(causes[-1])}", retryable=_closed_by_peer(causes))
    if isinstance(error, requests.exceptions.ProxyError) and not exchange.sent:  # otherwise the server behind it failed
        refused = any(re.search(REFUSED_TUNNEL, str(cause)) for cause in causes)
        return failed(f"the proxy before {host} failed: {_describe(causes[-1])}", retryable=not refused)
    if _is_not_http(causes):
        return ProtocolViolation(f"{host} does not speak HTTP/1.1: {_describe(causes[-1])}")
    if exchange.sent and isinstance(error, requests.exceptions.ReadTimeout):
        return IdleTimeout()
    return failed(f"no response from {host}: {_describe(causes[-1])}")


def map_read_error(error: BaseException, exchange: Exchange) -> BaseException:
    """The error for what failed in the body of an answer."""
    if decided := _not_of_the_network(error, exchange):
        return decided
    causes = causes_of(error)
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return IdleTimeout()
    if isinstance(error, urllib3.exceptions.DecodeError):
        return ProtocolViolation(f"the body is not what its Content-Encoding says: {_describe(causes[-1])}")
    ended = exchange.response is None or exchange.response.file.ended
    broken = any(isinstance(cause, http.client.IncompleteRead) for cause in causes) and not ended
    if broken or any(isinstance(cause, http.client.LineTooLong) for cause in causes):
        return ProtocolViolation(f"the chunked framing of the body is broken: {_describe(causes[-1])}")
    return StreamTruncated(f"the connection broke off ({_describe(causes[-1])})")


def _not_of_the_network(
    error: BaseException, exchange: Exchange, callbacks: Iterable[object] = ()
) -> BaseException | None:
    """The caller's own exception, the error of the scope, or a programming error; None if the network failed."""
    causes = causes_of(error)
    if any(raised_while_reading(each, exchange.response) for each in causes):
        callbacks = ()  # the answer failed while a hook was reading it
    theirs = [
        each
        for each in causes
        if raised_by_signal_handler(each) or raised_by(each, callbacks) or _is_early_timeout(each, exchange)
    ]
    if theirs:  # urllib3 and requests give the exception that they put around it the same traceback
        return next((each for each in theirs if not isinstance(each, WRAPPERS)), theirs[-1])
    if isinstance(error, (*NETWORK, *CLOSED_MEANWHILE)) and (stopped := exchange.scope.error):
        return stopped
    return None if isinstance(error, NETWORK) and not isinstance(error, (ChatStreamError, *NOT_NETWORK)) else error


def _is_early_timeout(error: BaseException, exchange: Exchange) -> bool:
    """Whether a timeout while reading is not the socket's, of which none leaves `ScopedFile`."""
    own = isinstance(error, TimeoutError) and not isinstance(error, ChatStreamError)
    return own and raised_while_reading(error, exchange.response)


def failed(message: str, retryable: bool = True) -> ConnectionFailed:
    failure = ConnectionFailed(message)
    failure.retryable = retryable
    return failure


def _closed_by_peer(causes: list[BaseException]) -> bool:
    return any(isinstance(cause, (ConnectionError, ssl.SSLEOFError, TimeoutError)) for cause in causes)


def _is_not_http(causes: list[BaseException]) -> bool:
    if any(isinstance(cause, ConnectionError) for cause in causes):  # RemoteDisconnected is a BadStatusLine too
        return False
    return any(isinstance(cause, NOT_HTTP) or type(cause) is http.client.HTTPException for cause in causes)


def _describe(error: BaseException) -> str:
    """The type and text of an exception, without a password that a URL in it may carry."""
    text = re.sub(r"//[^\s'\"]*@", "//***@", str(error))  # up to the last @, which a password may contain, too
    return excerpt(f"{type(error).__name__}: {text}" if text else type(error).__name__)
