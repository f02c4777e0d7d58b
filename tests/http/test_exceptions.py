"""Exceptions of other libraries become ours: the cases that no server of the fault table makes."""

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


def sending(error: Exception, **known: Any) -> Any:
    exchange = Exchange(CancelScope())
    exchange.__dict__ |= known
    return map_send_error(error, exchange, "https://api.example.com/v1")


def reading(error: Exception, **known: Any) -> Any:
    exchange = Exchange(CancelScope())
    exchange.__dict__ |= known
    return map_read_error(error, exchange)


def response(ended: bool) -> Any:
    """A response whose peer has sent its FIN, or has not."""
    return SimpleNamespace(file=SimpleNamespace(ended=ended))


@pytest.mark.parametrize("of", [lambda error, exchange: map_send_error(error, exchange, URL), map_read_error])
def test_the_verdict_of_the_watch_goes_first(of):
    exchange = Exchange(CancelScope(deadline=1e-9))
    error = of(OSError("whatever"), exchange)
    assert isinstance(error, DeadlineExceeded)
    assert error is of(OSError("whatever"), exchange)
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
)
def test_what_can_not_be_sent_is_told_without_a_word_of_it(error):
    ours = sending(error)
    assert type(ours) is ConfigError
    assert "api.example.com" in str(ours)
    assert type(error).__name__ in str(ours)
    assert "secret" not in str(ours)


def test_certificates_in_no_file():
    ours = sending(OSError("Could not find a suitable TLS CA certificate bundle, invalid path: x"))
    assert type(ours) is ConfigError
    assert "REQUESTS_CA_BUNDLE" in str(ours)


def test_certificates_that_prove_nothing():
    ours = sending(requests.exceptions.SSLError(MaxRetryError(None, "/", ssl.SSLCertVerificationError("expired"))))
    assert (type(ours), ours.retryable) == (ConnectionFailed, False)
    assert "expired" in str(ours)


@pytest.mark.parametrize(
    ("cause", "again"), [(ssl.SSLEOFError(), True), (ConnectionResetError(), True), (ssl.SSLError("version"), False)]
)
def test_tls_is_tried_again_only_when_the_peer_closed(cause, again):
    ours = sending(requests.exceptions.SSLError(cause))
    assert (type(ours), ours.retryable) == (ConnectionFailed, again)


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("Tunnel connection failed: 407 Who", False),
        ("Tunnel connection failed: 403 Forbidden", False),
        ("Tunnel connection failed: 429 Too Many Requests", True),
        ("Tunnel connection failed: 503 Service Unavailable", True),
        ("refused", True),
    ],
)
def test_a_proxy_is_tried_again_unless_it_forbids_or_wants_a_password(words, again):
    ours = sending(requests.exceptions.ProxyError(MaxRetryError(None, "/", OSError(words))))
    assert (type(ours), ours.retryable) == (ConnectionFailed, again)


def test_passwords_of_urls_are_taken_out():
    ours = sending(requests.exceptions.ProxyError("no way to http://me:secret@proxy:8080/ today"))
    assert "secret" not in str(ours)
    assert "http://***@proxy:8080/ today" in str(ours)


@pytest.mark.parametrize(
    "cause", [http.client.BadStatusLine("x"), http.client.LineTooLong("header line"), http.client.UnknownProtocol("x")]
)
def test_nonsense_is_not_http(cause):
    assert type(sending(requests.ConnectionError(ProtocolError("aborted", cause)))) is ProtocolViolation


def test_a_peer_that_closed_talks_no_nonsense():
    cause = http.client.RemoteDisconnected("closed without response")
    ours = sending(requests.ConnectionError(ProtocolError("aborted", cause)))
    assert (type(ours), ours.retryable) == (ConnectionFailed, True)
    assert "closed without response" in str(ours)


def test_a_timeout_is_idle_only_when_the_request_left():
    error = requests.exceptions.ReadTimeout("slow")
    assert type(sending(error, sent=True)) is IdleTimeout
    assert type(sending(error)) is ConnectionFailed


def test_the_innermost_cause_has_the_word():
    inner = NewConnectionError(None, "[Errno 111] Connection refused")
    error = requests.ConnectionError(MaxRetryError(None, "/", inner))
    error.__cause__ = error  # a circle is no trouble
    assert "[Errno 111] Connection refused" in str(sending(error))


def test_an_error_without_words_is_named():
    assert str(sending(requests.ConnectionError(ConnectionResetError()))).endswith("ConnectionResetError")


def test_a_read_that_takes_too_long_is_idle():
    assert type(reading(ReadTimeoutError(None, "/", "slow"))) is IdleTimeout


def test_a_body_that_can_not_be_decoded():
    ours = reading(urllib3.exceptions.DecodeError("failed to decode it", OSError("bad header")))
    assert type(ours) is ProtocolViolation
    assert "bad header" in str(ours)


@pytest.mark.parametrize(
    ("of", "kind"),
    [(response(ended=False), ProtocolViolation), (response(ended=True), StreamTruncated), (None, StreamTruncated)],
)
def test_a_short_chunk_is_a_broken_framing_unless_the_peer_closed(of, kind):
    assert type(reading(ProtocolError("broken", IncompleteRead(1, 2)), response=of)) is kind


def test_a_chunk_line_without_an_end_is_broken_in_any_case():
    assert (
        type(reading(ProtocolError("broken", http.client.LineTooLong("chunk size")), response=response(ended=True)))
        is ProtocolViolation
    )


def test_a_reset_is_truncation():
    ours = reading(ProtocolError("broken", ConnectionResetError(104, "reset by peer")), response=response(ended=False))
    assert type(ours) is StreamTruncated
    assert "reset by peer" in str(ours)
