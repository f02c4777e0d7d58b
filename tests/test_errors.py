"""What every error carries, and what none of them does."""

from __future__ import annotations

import builtins
import copy
import pickle
from typing import Any

import pytest

from chatstream import (
    Attempt,
    Cancelled,
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    MissingEnvVar,
    ProtocolViolation,
    ProviderError,
    QuotaExceeded,
    RetryLimit,
    StreamError,
    StreamTooLarge,
    StreamTruncated,
    Turn,
    UnexpectedStatus,
    errors,
)

REFUSED = (503, '{"error": "busy"}', "busy", "overloaded", 2.5)
MADE: list[Any] = [
    ChatStreamError("words"),
    ConfigError("words"),
    MissingEnvVar("A_KEY", "Get one."),
    ConnectionFailed("words"),
    UnexpectedStatus(*REFUSED),
    RetryLimit(*REFUSED),
    QuotaExceeded(*REFUSED),
    StreamError("words"),
    IdleTimeout(),
    StreamTruncated("words"),
    ProtocolViolation("words"),
    StreamTooLarge("words"),
    ProviderError("words", 7, "kind"),
    DeadlineExceeded("words"),
    Cancelled("words"),
]
named = pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)


def test_all_of_the_tree_is_here():
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert {type(error) for error in MADE} == classes
    drawn = errors.__doc__.partition("Rules:")[0]
    assert all(each.__name__ in drawn for each in classes)


@named
def test_an_error_survives_a_pickle_and_a_copy(error):
    error.partial = Turn(response_id="r1")
    error.attempts = (Attempt(1, 503),)
    error.request_id = "req_7"
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))
        assert other.partial == error.partial
    del error.partial, error.attempts, error.request_id


@named
def test_an_error_knows_nothing_at_first(error):
    assert (error.partial, error.attempts, error.request_id) == (None, (), None)
    assert error.retryable is (type(error) in (ConnectionFailed, RetryLimit, IdleTimeout, StreamTruncated))


def test_errors_are_found_under_pythons_own_names_too():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(MissingEnvVar, ConfigError)
    assert issubclass(RetryLimit, UnexpectedStatus)
    assert issubclass(QuotaExceeded, UnexpectedStatus)
    assert issubclass(StreamTooLarge, ProtocolViolation)
    for each in (IdleTimeout, StreamTruncated, ProtocolViolation, ProviderError):
        assert issubclass(each, StreamError)
    for each in (IdleTimeout, DeadlineExceeded):
        assert issubclass(each, builtins.TimeoutError)


def test_a_missing_variable_is_named_with_what_to_do():
    assert str(MissingEnvVar("A_KEY")) == "Missing environment variable: `A_KEY`."
    assert str(MissingEnvVar("A_KEY", "Get one.")) == "Missing environment variable: `A_KEY`. Get one."


def test_a_status_tells_what_the_server_said():
    error = RetryLimit(*REFUSED)
    assert (error.status, error.body, error.message, error.code, error.retry_after) == REFUSED
    assert str(error) == "retries spent, last status 503: busy (retry after 2.5 s)"
    error.request_id = "req_7"
    assert str(error).endswith(", request id: req_7")
    assert str(UnexpectedStatus(404)) == "unexpected status 404: no body"
    assert UnexpectedStatus(400, "x" * 5000).message == "x" * 2045 + "…"
    assert str(QuotaExceeded(429, "", "spent")) == "quota exceeded, status 429: spent"


def test_a_stream_error_says_that_the_stream_broke():
    lead = "stream disconnected before completion: "
    assert str(StreamTruncated("words")) == lead + "words"
    assert str(IdleTimeout()) == lead + "idle timeout waiting for SSE"
    assert str(ProviderError("words")) == lead + "words"
    assert str(ProviderError("words", 7)) == lead + "words (code: 7)"
