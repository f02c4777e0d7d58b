"""Exceptions of other libraries become errors of this library: the cases that the fault tests do not cover."""

from __future__ import annotations

import http.client
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3
from urllib3.exceptions import IncompleteRead, MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from chatstream import ConfigError, ConnectionFailed, DeadlineExceeded, IdleTimeout, ProtocolViolation, StreamTruncated
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.exceptions import map_read_error, map_send_error
from chatstream._http.response import Exchange

URL = "https://me:secret@api.example.com/v1"


def error_of_sending(error: Exception, **attributes: Any) -> Any:
    """The error to which ``error`` is mapped while a request is sent by an exchange with these ``attributes``."""
    exchange = Exchange(CancelScope())
    exchange.__dict__ |= attributes
    return map_send_error(error, exchange, "https://api.example.com/v1")


def error_of_reading(error: Exception, **attributes: Any) -> Any:
    """The error to which ``error`` is mapped while a response is read."""
    exchange = Exchange(CancelScope())
    exchange.__dict__ |= attributes
    return map_read_error(error, exchange)


def response(ended: bool) -> Any:
    """A response whose peer has closed the connection if ``ended``."""
    return SimpleNamespace(file=SimpleNamespace(ended=ended))


@pytest.mark.parametrize(
    "map_error",
    [lambda error, exchange: map_send_error(error, exchange, URL), map_read_error],
    ids=["while sending", "while reading"],
)
def test_the_error_of_the_scope_takes_precedence_over_the_exception(map_error):
    exchange = Exchange(CancelScope(deadline=1e-9))
    error = map_error(OSError("whatever"), exchange)
    assert isinstance(error, DeadlineExceeded)
    assert error is map_error(OSError("whatever"), exchange)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("//me:secret@"),
        requests.exceptions.MissingSchema(),
        requests.exceptions.InvalidHeader("Authorization: secret"),
        requests.exceptions.InvalidProxyURL("//me:secret@"),
        urllib3.exceptions.LocationParseError("//me:secret@"),
        UnicodeEncodeError("idna", "secret", 0, 1, "too long"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_invalid_request_becomes_a_config_error_that_does_not_repeat_its_content(error):
    mapped = error_of_sending(error)
    assert type(mapped) is ConfigError
    assert "api.example.com" in str(mapped)
    assert type(error).__name__ in str(mapped)
    assert "secret" not in str(mapped)


def test_a_missing_certificate_bundle_becomes_a_config_error_that_names_the_variable():
    mapped = error_of_sending(OSError("Could not find a suitable TLS CA certificate bundle, invalid path: x"))
    assert type(mapped) is ConfigError
    assert "REQUESTS_CA_BUNDLE" in str(mapped)


def test_a_failed_certificate_verification_becomes_connection_failed_and_is_not_retryable():
    mapped = error_of_sending(
        requests.exceptions.SSLError(MaxRetryError(None, "/", ssl.SSLCertVerificationError("expired")))
    )
    assert (type(mapped), mapped.retryable) == (ConnectionFailed, False)
    assert "expired" in str(mapped)


@pytest.mark.parametrize(
    ("cause", "retryable"),
    [(ssl.SSLEOFError(), True), (ConnectionResetError(), True), (ssl.SSLError("version"), False)],
    ids=["EOF", "connection reset", "wrong version"],
)
def test_a_tls_error_is_retryable_only_if_the_peer_closed_the_connection(cause, retryable):
    mapped = error_of_sending(requests.exceptions.SSLError(cause))
    assert (type(mapped), mapped.retryable) == (ConnectionFailed, retryable)


@pytest.mark.parametrize(
    ("message", "retryable"),
    [
        ("Tunnel connection failed: 407 Proxy Authentication Required", False),
        ("Tunnel connection failed: 403 Forbidden", False),
        ("Tunnel connection failed: 429 Too Many Requests", True),
        ("Tunnel connection failed: 503 Service Unavailable", True),
        ("refused", True),
    ],
)
def test_a_proxy_error_is_retryable_unless_the_proxy_forbids_access_or_requires_a_password(message, retryable):
    mapped = error_of_sending(requests.exceptions.ProxyError(MaxRetryError(None, "/", OSError(message))))
    assert (type(mapped), mapped.retryable) == (ConnectionFailed, retryable)


def test_passwords_in_urls_are_redacted():
    mapped = error_of_sending(requests.exceptions.ProxyError("no way to http://me:secret@proxy:8080/ today"))
    assert "secret" not in str(mapped)
    assert "http://***@proxy:8080/ today" in str(mapped)


@pytest.mark.parametrize(
    "cause",
    [http.client.BadStatusLine("x"), http.client.LineTooLong("header line"), http.client.UnknownProtocol("x")],
    ids=lambda cause: type(cause).__name__,
)
def test_a_malformed_response_becomes_protocol_violation(cause):
    assert type(error_of_sending(requests.ConnectionError(ProtocolError("aborted", cause)))) is ProtocolViolation


def test_a_connection_closed_without_a_response_becomes_connection_failed():
    cause = http.client.RemoteDisconnected("closed without response")
    mapped = error_of_sending(requests.ConnectionError(ProtocolError("aborted", cause)))
    assert (type(mapped), mapped.retryable) == (ConnectionFailed, True)
    assert "closed without response" in str(mapped)


def test_a_read_timeout_becomes_idle_timeout_only_if_the_request_was_sent():
    error = requests.exceptions.ReadTimeout("slow")
    assert type(error_of_sending(error, sent=True)) is IdleTimeout
    assert type(error_of_sending(error)) is ConnectionFailed


def test_the_message_is_that_of_the_innermost_cause():
    inner = NewConnectionError(None, "[Errno 111] Connection refused")
    error = requests.ConnectionError(MaxRetryError(None, "/", inner))
    error.__cause__ = error  # a cycle must not loop forever
    assert "[Errno 111] Connection refused" in str(error_of_sending(error))


def test_an_exception_without_a_message_is_described_by_its_class():
    assert str(error_of_sending(requests.ConnectionError(ConnectionResetError()))).endswith("ConnectionResetError")


def test_a_read_timeout_of_urllib3_becomes_idle_timeout():
    assert type(error_of_reading(ReadTimeoutError(None, "/", "slow"))) is IdleTimeout


def test_a_body_that_cannot_be_decompressed_becomes_protocol_violation():
    mapped = error_of_reading(urllib3.exceptions.DecodeError("failed to decode it", OSError("bad header")))
    assert type(mapped) is ProtocolViolation
    assert "bad header" in str(mapped)


@pytest.mark.parametrize(
    ("read_from", "kind"),
    [(response(ended=False), ProtocolViolation), (response(ended=True), StreamTruncated), (None, StreamTruncated)],
    ids=["an open connection", "a closed connection", "no response"],
)
def test_an_incomplete_chunk_becomes_protocol_violation_unless_the_peer_closed_the_connection(read_from, kind):
    assert type(error_of_reading(ProtocolError("broken", IncompleteRead(1, 2)), response=read_from)) is kind


def test_a_chunk_size_line_that_is_too_long_becomes_protocol_violation():
    assert (
        type(
            error_of_reading(
                ProtocolError("broken", http.client.LineTooLong("chunk size")), response=response(ended=True)
            )
        )
        is ProtocolViolation
    )


def test_a_connection_reset_while_reading_becomes_stream_truncated():
    mapped = error_of_reading(
        ProtocolError("broken", ConnectionResetError(104, "reset by peer")), response=response(ended=False)
    )
    assert type(mapped) is StreamTruncated
    assert "reset by peer" in str(mapped)
