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

POOL = "HTTPSConnectionPool(host='a', port=1)"
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
    ("error", "check"),
    [
        (requests.exceptions.InvalidURL("//me:secret@"), "check base_url"),
        (requests.exceptions.MissingSchema(), "check base_url"),
        (requests.exceptions.InvalidHeader("Authorization: secret"), "headers"),
        (requests.exceptions.InvalidProxyURL("//me:secret@"), "check HTTP_PROXY"),
        (urllib3.exceptions.ProxySchemeUnknown("secret"), "the scheme of the proxy URL must be http, https or socks5"),
        (urllib3.exceptions.LocationParseError("//me:secret@"), "check base_url"),
        (UnicodeEncodeError("idna", "secret", 0, 1, "too long"), "check base_url"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_invalid_request_becomes_a_config_error_that_says_what_to_check_and_repeats_none_of_it(error, check):
    mapped = error_of_sending(error)
    assert type(mapped) is ConfigError
    assert "api.example.com" in str(mapped)
    assert check in str(mapped)
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
    assert "the server closed the connection without an answer" in str(mapped)


def test_a_read_timeout_becomes_idle_timeout_only_if_the_request_was_sent():
    error = requests.exceptions.ReadTimeout("slow")
    assert type(error_of_sending(error, sent=True)) is IdleTimeout
    assert type(error_of_sending(error)) is ConnectionFailed


def test_the_message_is_that_of_the_innermost_cause():
    inner = NewConnectionError(None, "[Errno 111] Connection refused")
    error = requests.ConnectionError(MaxRetryError(None, "/", inner))
    error.__cause__ = error  # a cycle must not loop forever
    assert str(error_of_sending(error)).endswith(": Connection refused")


def test_an_error_of_the_system_is_described_by_its_text():
    error = requests.ConnectionError(ProtocolError("aborted", OSError(113, "No route to host")))
    assert str(error_of_sending(error)) == "no response from api.example.com: no route to host"


def test_an_exception_without_a_message_is_described_by_what_its_class_means():
    mapped = error_of_sending(requests.ConnectionError(ConnectionResetError()))
    assert str(mapped) == "no response from api.example.com: the server closed the connection (reset)"
    assert (
        str(error_of_sending(requests.ConnectionError())) == "no response from api.example.com: the connection failed"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{POOL}: Max retries exceeded with url: /?key=secret (Caused by no luck)", "no luck"),
        (
            "NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7f>: No way: [Errno 5] x')",
            "'no way: x'",
        ),
        ("foreign.ReadTimeoutError: The read failed", "the read failed"),
        ("IncompleteRead(3 bytes read)", "3 bytes read"),
        ("ConnectionResetError(104)", "104"),
        ("TimeoutError", "the connection failed"),
    ],
)
def test_a_text_that_nobody_knows_is_shown_without_names_of_classes(text, shown):
    mapped = str(error_of_sending(requests.ConnectionError(text)))
    assert mapped.lower() == f"no response from api.example.com: {shown}"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no version of TLS in common"),
        ("TLSV1_UNRECOGNIZED_NAME", "does not recognize this host name"),
        ("TLSV1_ALERT_UNKNOWN_CA", "session.cert"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "tlsv1 alert internal error"),
        ("RECORD_LAYER_FAILURE", "write http:// in base_url"),
        ("", "no words"),
    ],
)
def test_a_tls_error_is_described_by_what_its_reason_means(reason, said):
    cause = ssl.SSLError("no words")
    cause.reason = reason
    assert said in str(error_of_sending(requests.exceptions.SSLError(cause)))


def test_names_that_urllib3_compares_itself_are_a_rejected_certificate_too():
    cause = urllib3.util.ssl_match_hostname.CertificateError("hostname 'a' doesn't match 'b'")
    mapped = error_of_sending(requests.exceptions.SSLError(MaxRetryError(None, "/", cause)))
    assert (type(mapped), mapped.retryable) == (ConnectionFailed, False)
    assert "was issued for a different host name than api.example.com" in str(mapped)


@pytest.mark.parametrize("code", [18, 19, 20, 21])
def test_every_reason_not_to_trust_a_certificate_names_the_bundle_and_the_session(code):
    cause = ssl.SSLCertVerificationError("no")
    cause.verify_code, cause.verify_message = code, "no"
    mapped = str(error_of_sending(requests.exceptions.SSLError(cause)))
    assert "REQUESTS_CA_BUNDLE" in mapped
    assert "session.verify" in mapped


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
    assert str(mapped).endswith("the connection broke off: the server closed the connection (reset)")
