"""The error classes: their attributes, messages, bases and pickles."""

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
    InvalidArguments,
    MaxTurnsExceeded,
    MissingEnvVar,
    ProtocolViolation,
    ProviderError,
    QuotaExceeded,
    RetryLimit,
    StreamClosed,
    StreamError,
    StreamTooLarge,
    StreamTruncated,
    Turn,
    UnexpectedStatus,
    errors,
)

REFUSAL = (503, '{"error": "busy"}', "busy", "overloaded", 2.5)
ERRORS: list[Any] = [
    ChatStreamError("reason"),
    ConfigError("reason"),
    MissingEnvVar("A_KEY", "Get one."),
    InvalidArguments("reason"),
    MaxTurnsExceeded(10),
    ConnectionFailed("reason"),
    UnexpectedStatus(*REFUSAL),
    RetryLimit(*REFUSAL),
    QuotaExceeded(*REFUSAL),
    StreamError("reason"),
    IdleTimeout(),
    StreamTruncated("reason"),
    ProtocolViolation("reason"),
    StreamTooLarge("reason"),
    ProviderError("reason", 7, "kind"),
    DeadlineExceeded("reason"),
    StreamClosed("reason"),
    Cancelled("reason"),
]
every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def test_every_error_class_is_tested_here_and_drawn_in_the_tree_of_the_module():
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert {type(error) for error in ERRORS} == classes
    tree = errors.__doc__.partition("Rules:")[0]
    assert all(each.__name__ in tree for each in classes)


@every_error
def test_an_error_keeps_its_attributes_when_it_is_pickled_or_copied(error):
    error.partial = Turn(response_id="r1")
    error.attempts = (Attempt(1, 503),)
    error.request_id = "req_7"
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))
        assert other.partial == error.partial
    del error.partial, error.attempts, error.request_id


@every_error
def test_a_new_error_has_no_partial_turn_attempts_or_request_id(error):
    assert (error.partial, error.attempts, error.request_id) == (None, (), None)
    assert error.retryable is (type(error) in (ConnectionFailed, RetryLimit, IdleTimeout, StreamTruncated))


def test_errors_are_caught_by_their_base_classes_and_by_the_builtin_ones():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(MissingEnvVar, ConfigError)
    assert issubclass(InvalidArguments, ValueError)
    assert not issubclass(InvalidArguments, ConfigError)
    assert issubclass(RetryLimit, UnexpectedStatus)
    assert issubclass(QuotaExceeded, UnexpectedStatus)
    assert issubclass(StreamTooLarge, ProtocolViolation)
    for each in (IdleTimeout, StreamTruncated, ProtocolViolation, ProviderError):
        assert issubclass(each, StreamError)
    assert issubclass(Cancelled, StreamClosed)
    for each in (IdleTimeout, DeadlineExceeded):
        assert issubclass(each, builtins.TimeoutError)


def test_a_missing_environment_variable_is_named_with_the_instructions_of_the_provider():
    assert str(MissingEnvVar("A_KEY")) == "Missing environment variable: `A_KEY`."
    assert str(MissingEnvVar("A_KEY", "Get one.")) == "Missing environment variable: `A_KEY`. Get one."


def test_a_status_error_shows_the_message_of_the_server_and_the_request_id():
    error = RetryLimit(*REFUSAL)
    assert (error.status, error.body, error.message, error.code, error.retry_after) == REFUSAL
    assert str(error) == "retries exhausted, last status 503: busy (retry after 2.5 s)"
    error.attempts = (Attempt(1, 503),)
    assert str(error) == "retries exhausted after 1 attempt, last status 503: busy (retry after 2.5 s)"
    error.attempts, error.reason = (Attempt(1, 503), Attempt(2, 503)), "no more"
    assert str(error) == "no more after 2 attempts, last status 503: busy (retry after 2.5 s)"
    error.request_id = "req_7"
    assert str(error).endswith(", request id: req_7")
    assert str(UnexpectedStatus(404)) == "unexpected status 404: no body"
    assert UnexpectedStatus(400, "x" * 5000).message == "x" * 2045 + "…"
    assert str(QuotaExceeded(429, "", "spent")) == "quota exceeded, status 429: spent"


def test_a_stream_error_begins_with_stream_disconnected_before_completion():
    prefix = "stream disconnected before completion: "
    assert str(StreamTruncated("reason")) == prefix + "reason"
    assert str(IdleTimeout()) == prefix + "idle timeout waiting for SSE"
    assert str(ProviderError("reason")) == prefix + "reason"
    assert str(ProviderError("reason", 7)) == prefix + "reason (code: 7)"
