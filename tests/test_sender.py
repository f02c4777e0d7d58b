"""The backoff loop: which requests it sends, which failures it retries, and how it reports retries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import KEY, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    Limits,
    MissingEnvVar,
    ProtocolViolation,
    QuotaExceeded,
    RetryInfo,
    RetryLimit,
    UnexpectedStatus,
    __version__,
)
from chatstream._retries import retry
from chatstream.testing import Wire, chunk, cut, end, event, head, pause, redirect, send, stall, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")
OK = text_answer("fine")


@pytest.fixture
def sent_request(serve: Any, connect: Any) -> Callable[..., Any]:
    """A function that returns the request which a client with these options sends."""

    def send_request(fields: dict[str, Any] | None = None, **options: Any) -> Any:
        server = serve(OK)
        connect(server, **options).stream("Hi", **(fields or {})).collect()
        (request,) = server.requests
        return request

    return send_request


def error_of_sending(client: Any, **fields: Any) -> Any:
    """The error that ``client.stream`` raises before there is a stream."""
    with pytest.raises(ChatStreamError) as caught:
        client.stream("Hi", **fields)
    return caught.value


# ── the request ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_a_post_of_json_that_accepts_an_event_stream(sent_request):
    request = sent_request()
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == f"chatstream/{__version__}"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.json == {
        "model": "m1",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_headers_of_the_provider_replace_the_default_headers(sent_request):
    request = sent_request(http_headers={"user-agent": "mine", "X-Own": "1"})
    assert request.headers.get_all("User-Agent") == ["mine"]
    assert request.headers["X-Own"] == "1"


def test_key_header_sends_the_key_in_that_header_instead_of_authorization(sent_request):
    request = sent_request(key_header="api-key")
    assert (request.headers["api-key"], request.headers["Authorization"]) == (KEY, None)


def test_no_authorization_header_is_sent_without_a_key(sent_request):
    assert sent_request(api_key=None).headers["Authorization"] is None


def test_query_parameters_are_percent_encoded_in_the_url_of_the_request(sent_request):
    assert sent_request(query_params={"api-version": "1 2"}).path == "/v1/chat/completions?api-version=1%202"


def test_other_keyword_arguments_become_fields_of_the_request_body(sent_request):
    body = sent_request({"temperature": 0.5, "stop": ["\n"], "stream_options": {"include_usage": False}}).json
    assert (body["temperature"], body["stop"], body["stream_options"]) == (0.5, ["\n"], {"include_usage": False})


def test_stream_options_are_not_sent_if_stream_usage_is_false(sent_request):
    assert "stream_options" not in sent_request(stream_usage=False).json


def test_the_key_is_read_from_the_environment_at_each_attempt(serve, connect, monkeypatch):
    server = serve(status(500), OK)
    client = connect(
        server, api_key=None, env_key="TEST_KEY", on_retry=lambda info: monkeypatch.setenv("TEST_KEY", "sk-2")
    )
    monkeypatch.setenv("TEST_KEY", "sk-1")
    client.stream("Hi").collect()
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer sk-1", "Bearer sk-2"]


def test_nothing_is_sent_if_the_environment_variable_of_the_key_is_missing(serve, connect):
    server = serve(OK)
    error = error_of_sending(connect(server, api_key=None, env_key="TEST_KEY"))
    assert (type(error), str(error)) == (MissingEnvVar, "Missing environment variable: `TEST_KEY`.")
    assert (error.attempts, server.connections) == ((), 0)


# ── retries ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_attempts_lists_each_attempt_with_its_status_error_and_request_id(serve, connect):
    busy = [head(503, {"x-request-id": "req_1"}, framing="close"), chunk(b"busy"), end()]
    server = serve(busy, [cut()], status(200, "", {"x-request-id": "req_3"}))
    stream = connect(server, request_max_retries=2).stream("Hi")
    stream.close()
    first, second, third = stream.attempts
    assert (first.number, first.status, first.request_id) == (1, 503, "req_1")
    assert first.error == "unexpected status 503: busy, request id: req_1"
    assert (second.number, second.status, second.request_id) == (2, None, None)
    assert "no response" in second.error
    assert (third.number, third.status, third.error, third.request_id) == (3, 200, None, "req_3")
    assert all(0 < attempt.seconds < 5 for attempt in stream.attempts)


def test_each_retry_is_reported_to_on_retry_and_logged_with_its_delay(serve, connect, caplog, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.01)
    retries: list[RetryInfo] = []
    client = connect(serve(status(503), status(429), OK), request_max_retries=4, on_retry=retries.append)
    with within(0.5, least=0.027):
        client.stream("Hi").collect()
    assert [(info.number, info.limit, info.status) for info in retries] == [(1, 4, 503), (2, 4, 429)]
    assert 0.009 <= retries[0].delay < 0.011
    assert 0.018 <= retries[1].delay < 0.022
    assert [(record.name, record.levelname) for record in caplog.records] == [("chatstream", "WARNING")] * 2
    assert caplog.messages[0].startswith("stream error: unexpected status 503: Service Unavailable; retrying 1/4 in ")


def test_an_exception_raised_by_on_retry_propagates(serve, connect):
    class StopRetrying(Exception):
        pass

    def stop(info: RetryInfo) -> None:
        raise StopRetrying

    with pytest.raises(StopRetrying):
        connect(serve(status(503)), on_retry=stop).stream("Hi")


def test_when_all_retries_have_failed_retry_limit_has_the_details_of_the_last_response(serve, connect):
    server = serve(status(503, '{"error": {"message": "busy", "code": "overloaded"}}', {"x-request-id": "req_7"}))
    error = error_of_sending(connect(server, request_max_retries=2))
    assert (type(error), error.status, error.message, error.code) == (RetryLimit, 503, "busy", "overloaded")
    assert (error.request_id, len(error.attempts), len(server.requests)) == ("req_7", 3, 3)


def test_request_max_retries_of_zero_sends_one_request(serve, connect):
    server = serve(status(503))
    assert type(error_of_sending(connect(server, request_max_retries=0))) is RetryLimit
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("script", "kind"), [([cut()], ConnectionFailed), ([stall()], IdleTimeout)], ids=["closed connection", "silence"]
)
def test_a_failure_without_a_response_is_retried_and_keeps_its_error_class(serve, connect, script, kind):
    error = error_of_sending(connect(serve(script), stream_idle_timeout=0.4))
    assert (type(error), error.retryable, len(error.attempts)) == (kind, True, 2)


def test_a_response_that_is_not_http_is_not_retried(serve, connect):
    error = error_of_sending(connect(serve([send(b"nonsense\r\n")])))
    assert (type(error), len(error.attempts)) == (ProtocolViolation, 1)


def test_first_event_timeout_limits_the_wait_for_headers(serve, connect):
    client = connect(serve([stall()]), first_event_timeout=0.1, request_max_retries=0)
    with within(0.2, least=0.1):
        assert type(error_of_sending(client)) is IdleTimeout


def test_all_calls_of_a_client_share_one_retry_budget(serve, connect, monkeypatch):
    server = serve(status(503))
    monkeypatch.setattr(retry, "MAX_DELAY", 0.005)
    client = connect(server, request_max_retries=30)
    assert type(error_of_sending(client)) is RetryLimit
    assert len(server.requests) == 21
    assert type(error_of_sending(client)) is RetryLimit
    assert len(server.requests) == 22


def test_a_retry_limit_says_how_many_attempts_were_made(serve, connect):
    error = error_of_sending(connect(serve(status(503, "busy")), request_max_retries=2))
    assert str(error) == "retries exhausted after 3 attempts, last status 503: busy"


def test_a_retry_limit_says_that_the_retry_budget_of_the_client_is_used_up(serve, connect):
    client = connect(serve(status(503, "busy")), request_max_retries=4, retry_budget=1)
    errors = [str(error_of_sending(client)) for _ in range(2)]
    assert errors[0] == "the client's retry budget is exhausted after 2 attempts, last status 503: busy"
    assert errors[1] == "the client's retry budget is exhausted after 1 attempt, last status 503: busy"


@pytest.mark.parametrize(
    "script",
    [[cut()], [stall()], [head(), event({"error": {"message": "Busy.", "code": "overloaded"}}), end()]],
    ids=["closed connection", "silence", "error in the stream"],
)
def test_an_error_without_a_status_says_that_the_retry_budget_is_used_up(serve, connect, script):
    client = connect(serve(script), retry_budget=0, stream_idle_timeout=0.4)
    with pytest.raises(ChatStreamError) as caught:
        client.stream("Hi").collect()
    assert "(not retried: the client's retry budget is exhausted)" in str(caught.value)
    assert len(caught.value.attempts) == 1


def test_without_a_retry_budget_every_call_has_all_its_retries(serve, connect):
    server = serve(status(503))
    client = connect(server, request_max_retries=9, retry_budget=None)
    for _ in range(4):
        assert len(error_of_sending(client).attempts) == 10


# ── delays that are not slept ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("seconds", "limit", "attempts"), [("2", 1.0, 1), ("0.01", 1.0, 2)])
def test_a_retry_after_is_obeyed_only_up_to_max_retry_after(serve, connect, seconds, limit, attempts):
    error = error_of_sending(connect(serve(status(503, "", {"Retry-After": seconds})), max_retry_after=limit))
    assert (error.retry_after, len(error.attempts)) == (float(seconds), attempts)


def test_a_retry_after_past_the_deadline_raises_deadline_exceeded_at_once(serve, connect):
    with within(0.2):
        error = error_of_sending(connect(serve(status(429, "busy", {"Retry-After": "5"}))), deadline=1)
    assert (type(error), len(error.attempts)) == (DeadlineExceeded, 1)
    assert isinstance(error.__cause__, UnexpectedStatus)
    assert error.__cause__.retry_after == 5


def test_the_deadline_covers_all_attempts_of_a_request(serve, connect):
    server = serve([pause(0.1), *status(503)])
    with within(0.6, least=0.4):
        error = error_of_sending(connect(server, request_max_retries=9), deadline=0.5)
    assert type(error) is DeadlineExceeded
    assert 2 <= len(error.attempts) <= 5


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_message_of_a_refusal_is_taken_from_its_body_or_else_its_reason_phrase(serve, connect):
    assert error_of_sending(connect(serve(status(400, {"error": {"message": "No."}})))).message == "No."
    assert error_of_sending(connect(serve(status(404, "<html><title>Not here</title></html>")))).message == "Not here"
    assert error_of_sending(connect(serve(status(401)))).message == "Unauthorized"


def test_the_error_for_a_redirect_names_its_target_and_base_url(serve, connect):
    error = error_of_sending(connect(serve(redirect("http://elsewhere.invalid/v1"))))
    assert "redirects to http://elsewhere.invalid/v1" in error.message
    assert "base_url" in error.message


@pytest.mark.parametrize("code", [402, 429])
def test_an_exhausted_quota_raises_quota_exceeded_and_is_not_retried(serve, connect, code):
    error = error_of_sending(connect(serve(status(code, {"error": {"message": "Pay.", "type": "insufficient_quota"}}))))
    assert (type(error), error.status, error.retryable, len(error.attempts)) == (QuotaExceeded, code, False, 1)


def test_a_quota_code_with_status_400_raises_unexpected_status(serve, connect):
    error = error_of_sending(connect(serve(status(400, {"error": {"message": "No.", "type": "insufficient_quota"}}))))
    assert type(error) is UnexpectedStatus


def test_the_body_of_a_refusal_is_truncated_to_error_body_bytes(serve, connect):
    client = connect(serve(status(400, "x" * 1000)), limits=Limits(error_body_bytes=10))
    assert error_of_sending(client).body == "x" * 10


def test_cancel_ends_the_reading_of_an_error_body(serve, connect):
    client = connect(serve([head(), chunk(b": hello\n\n"), end()], [head(400), chunk(b"one"), stall()]))
    stream = client.stream("Hi")
    threading.Timer(0.3, stream.cancel).start()
    with within(0.4), pytest.raises(Cancelled) as caught:
        list(stream)
    assert [attempt.status for attempt in caught.value.attempts] == [200, None]


# ── usage ───────────────────────────────────────────────────────────────────────────────────────────────────────

NO_USAGE = status(400, {"error": {"message": "unknown field: stream_options"}})


def options_sent(server: Any) -> list[bool]:
    return ["stream_options" in request.json for request in server.requests]


def test_stream_options_that_a_server_refused_are_left_out_of_all_later_requests(serve, connect):
    server = serve(NO_USAGE, OK)
    client = connect(server, request_max_retries=0)
    stream = client.stream("Hi")
    assert stream.collect().text == "fine"
    assert [attempt.status for attempt in stream.attempts] == [400, 200]
    client.stream("Hi").collect()
    assert options_sent(server) == [True, False, False]


def test_calls_that_find_out_at_once_that_stream_options_are_rejected_are_all_repeated(serve, connect):
    """All but the first one failed, because another call had found out already."""
    all_wait = threading.Barrier(4)

    def reject_or_answer(wire: Wire) -> None:
        rejected = "stream_options" in wire.received.json
        if rejected:
            all_wait.wait(5)
        for step in NO_USAGE if rejected else OK:
            step(wire)

    client = connect(serve([reject_or_answer]))
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda _: client.stream("?").collect().text, range(4))] == ["fine"] * 4


def test_a_request_is_repeated_without_stream_options_only_once(serve, connect):
    server = serve(NO_USAGE)
    assert error_of_sending(connect(server)).status == 400
    assert options_sent(server) == [True, False]


@pytest.mark.parametrize(
    ("script", "fields", "options"),
    [
        (status(400, "temperature is too high"), {}, {}),
        (status(403, "stream_options are not for you"), {}, {}),
        (NO_USAGE, {"stream_options": {"include_usage": True}}, {}),
        (NO_USAGE, {}, {"stream_usage": False}),
    ],
    ids=[
        "for another field",
        "with another status",
        "of stream_options that the caller passed",
        "of a request without stream_options",
    ],
)
def test_no_other_refusal_is_repeated_without_stream_options(serve, connect, script, fields, options):
    server = serve(script, OK)
    assert type(error_of_sending(connect(server, **options), **fields)) is UnexpectedStatus
    assert len(server.requests) == 1


def test_a_request_that_cannot_be_sent_is_not_listed_in_attempts(serve, connect, tls, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    error = error_of_sending(connect(serve(OK, tls=tls)))
    assert (type(error), error.attempts) == (ConfigError, ())
