"""`Client.models`: the ids that a server lists, with the limits, retries and errors of any other call."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from support import KEY, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Client,
    DeadlineExceeded,
    IdleTimeout,
    Limits,
    ProtocolViolation,
    Provider,
    ProviderError,
    RetryLimit,
    StreamTooLarge,
    StreamTruncated,
    UnexpectedStatus,
)
from chatstream.testing import chunk, cut, end, head, pause, reset, send, stall, status, text_answer

LISTED = {"object": "list", "data": [{"id": "zeta", "object": "model"}, {"id": "alpha"}]}
OK = status(200, LISTED)


def error_of(client: Client, **options: Any) -> ChatStreamError:
    with pytest.raises(ChatStreamError) as caught:
        client.models(**options)
    return caught.value


def test_the_ids_come_in_the_order_of_the_server(serve, connect):
    server = serve(OK)
    assert connect(server).models() == ["zeta", "alpha"]


def test_the_request_is_a_get_with_the_key_and_without_a_body(serve, connect):
    server = serve(OK)
    connect(server, http_headers={"X-Title": "My App"}, query_params={"v": "1"}).models()
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("GET", "/v1/models?v=1", b"")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert (request.headers["Accept"], request.headers["X-Title"]) == ("application/json", "My App")
    assert "Content-Type" not in request.headers


@pytest.mark.parametrize(
    ("base_url", "options", "url"),
    [
        ("https://h/v1/", {}, "https://h/v1/models"),
        ("https://h", {}, "https://h/models"),
        ("https://h/v1/chat/completions?a=b", {}, "https://h/v1/models?a=b"),
        ("https://h", {"path": "/v2/chat/completions"}, "https://h/v2/models"),
        ("https://h", {"path": "/openai/deployments/{model}/chat/completions"}, "https://h/openai/models"),
    ],
)
def test_the_list_lies_beside_the_chat_completions(base_url, options, url):
    assert Provider("x", base_url, **options).endpoint("/models") == url


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ([{"id": "a"}, {"id": "b"}], ["a", "b"]),
        ({"models": [{"name": "a", "model": "b"}]}, ["a"]),
        ({"result": [{"name": "a"}]}, ["a"]),
        ({"data": ["a", "b"]}, ["a", "b"]),
        ({"data": [{"id": "a"}, {"id": None}, {}, 7, {"id": "a"}]}, ["a", "a"]),
        ({"data": []}, []),
        ({"data": [{"id": "\ud83d"}]}, ["\ufffd"]),
    ],
    ids=["Together", "Ollama, Cohere", "Cloudflare", "names", "odd entries", "none", "half a character"],
)
def test_lists_are_read_as_servers_spell_them(serve, connect, body, ids):
    assert connect(serve([head(), chunk(json.dumps(body).encode()), end()])).models() == ids


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_list_in_many_pieces_is_whole(serve, connect, framing):
    body = json.dumps({"data": [{"id": f"model-{number}"} for number in range(9000)]}).encode()
    pieces = [chunk(body[start : start + 9999]) for start in range(0, len(body), 9999)]
    assert len(connect(serve([head(framing=framing), *pieces, end()])).models()) == 9000


@pytest.mark.usefixtures("trusted")
def test_the_connection_is_used_again_by_a_stream(serve, connect, tls):
    server = serve(OK, text_answer("fine"), tls=tls)
    client = connect(server)
    client.models()
    assert client.stream("Hi").collect().text == "fine"
    assert server.connections == 1


def test_a_session_of_the_caller_sends_the_request(serve, connect):
    import requests

    class Session(requests.Session):
        def request(self, method: Any, url: Any, **options: Any) -> Any:  # type: ignore[override]
            methods.append(method)
            return super().request(method, url, **options)

    methods: list[str] = []
    with Session() as session:
        assert connect(serve(OK), session=session).models() == ["zeta", "alpha"]
    assert methods == ["GET"]


@pytest.mark.usefixtures("short_waits")
class TestFailures:
    @pytest.mark.parametrize("first", [status(503, "busy"), [reset()], [cut()]], ids=["503", "rst", "fin"])
    def test_a_request_that_fails_is_repeated(self, serve, connect, first):
        server = serve(first, OK)
        assert connect(server).models() == ["zeta", "alpha"]
        assert len(server.requests) == 2

    def test_a_list_that_breaks_off_is_fetched_again(self, serve, connect):
        server = serve([head(framing=500), chunk(b'{"data": ['), cut()], OK)
        assert connect(server).models() == ["zeta", "alpha"]
        assert len(server.requests) == 2

    def test_a_list_that_breaks_off_each_time_raises_stream_truncated(self, serve, connect):
        server = serve([head(framing=500), chunk(b'{"data": ['), cut()])
        error = error_of(connect(server))
        assert (type(error), len(error.attempts), len(server.requests)) == (StreamTruncated, 2, 2)

    def test_retries_that_are_spent_raise_retry_limit(self, serve, connect):
        error = error_of(connect(serve(status(500, "no"))))
        assert (type(error), len(error.attempts)) == (RetryLimit, 2)

    def test_a_400_that_names_stream_options_is_not_repeated(self, serve, connect):
        server = serve(status(400, "stream_options"))
        assert type(error_of(connect(server))) is UnexpectedStatus
        assert len(server.requests) == 1

    def test_a_404_names_the_url_that_was_asked(self, serve, connect):
        server = serve(status(404))
        assert f"{server.url}/models" in str(error_of(connect(server)))

    def test_a_secret_that_the_server_repeats_is_in_no_error(self, serve, connect):
        for script in (status(401, KEY), status(200, {"error": {"message": KEY}}), status(200, f"nonsense {KEY}")):
            error = error_of(connect(serve(script)))
            assert KEY not in f"{error} {vars(error)}"

    def test_an_error_with_status_200_raises_provider_error(self, serve, connect):
        error = error_of(connect(serve(status(200, {"error": {"message": "no", "code": "x"}}))))
        assert (type(error), error.code) == (ProviderError, "x")

    @pytest.mark.parametrize("body", ["<html>Welcome</html>", "text", "", "{}", '{"data": 1}', "7", "[" * 9000])
    def test_an_answer_that_is_no_list_raises_protocol_violation_with_its_beginning(self, serve, connect, body):
        server = serve(status(200, body))
        error = error_of(connect(server))
        assert (type(error), len(server.requests)) == (ProtocolViolation, 1)
        assert f"it begins with: {body[:20]!r}"[:-1] in str(error)

    def test_a_list_that_is_too_long_raises_stream_too_large(self, serve, connect):
        server = serve([head(), chunk(b"[" + b" " * 5000), stall()])
        assert type(error_of(connect(server, limits=Limits(event_bytes=4000)))) is StreamTooLarge

    def test_a_list_of_too_many_containers_raises_stream_too_large(self, serve, connect):
        server = serve(status(200, {"data": [[]] * 500}))
        assert type(error_of(connect(server, limits=Limits(json_containers=100)))) is StreamTooLarge

    def test_silence_in_the_body_raises_idle_timeout(self, serve, connect):
        server = serve([head(), chunk(b"["), stall()])
        with within(0.8, least=0.4):
            assert type(error_of(connect(server, stream_idle_timeout=0.2))) is IdleTimeout

    def test_a_deadline_covers_the_list(self, serve, connect):
        server = serve([head(), send(b""), stall()])
        for options in ({"deadline": 0.2}, {}):
            with within(0.5, least=0.2):
                assert type(error_of(connect(server, deadline=0.2), **options)) is DeadlineExceeded

    def test_cancel_ends_the_request(self, serve, connect):
        client = connect(serve([stall()]))
        threading.Timer(0.1, client.cancel).start()
        with within(0.3, least=0.1):
            assert type(error_of(client)) is Cancelled


# ── hooks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_hooks_of_the_client_hear_of_a_list_except_on_turn(serve, connect):
    server = serve(status(503, headers={"Retry-After": "0"}), OK)
    heard: list[Any] = []
    client = connect(server, on_request=heard.append, on_retry=heard.append, on_turn=pytest.fail)
    assert client.models() == ["zeta", "alpha"]
    assert [type(each).__name__ for each in heard] == ["RequestInfo", "RetryInfo", "RequestInfo"]
    assert {(each.method, each.url) for each in heard[::2]} == {("GET", f"{server.url}/models")}


def test_an_exception_of_a_hook_ends_the_fetching_of_a_list(serve, connect):
    server = serve(OK)

    def refuse(_: object) -> None:
        raise LookupError("not now")

    with pytest.raises(LookupError, match="not now"):
        connect(server, on_request=refuse).models()
    assert server.requests == []


def test_on_wait_is_called_while_a_list_is_awaited(serve, connect, monkeypatch):
    monkeypatch.setattr("chatstream.client.WAIT_INTERVAL", 0.05)
    waits: list[float] = []
    assert connect(serve([pause(0.3), *OK]), on_wait=waits.append).models() == ["zeta", "alpha"]
    assert len(waits) >= 4
