"""POST → bytes: `Transport`, its sessions and connections, and the reading of a response."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support import KEY, wait_for, within
from urllib3 import HTTPConnectionPool

from chatstream import Cancelled, ConnectionFailed, DeadlineExceeded, IdleTimeout, ProtocolViolation, StreamTruncated
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.reply import Reply
from chatstream._http.transport import Request, Transport
from chatstream.testing import (
    FaultServer,
    chunk,
    cut,
    drip,
    end,
    forever,
    head,
    pause,
    redirect,
    reset,
    send,
    stall,
    status,
)

FINE = [head(), chunk(b"fine"), end()]


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport()
    yield transport
    transport.close()


def request(server: FaultServer, **fields: Any) -> Request:
    return Request(**{"url": server.url + "/chat", "headers": {"X-Example": "hello"}, "body": b"{}"} | fields)


@pytest.fixture
def post() -> Iterator[Any]:
    """A function that posts a request to a server; the replies are closed at the end."""
    replies: list[Reply] = []

    def post_to(transport: Transport, server: FaultServer, scope: CancelScope | None = None) -> Reply:
        replies.append(transport.send(request(server), scope or CancelScope()))
        return replies[-1]

    yield post_to
    for reply in replies:
        reply.close()


def read_all(reply: Reply) -> bytes:
    return b"".join(iter(reply.read, b""))


# ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_headers_of_the_request_and_those_that_http_needs_are_sent(transport, serve):
    server = serve(FINE)
    with_key = request(server, key=("Authorization", f"Bearer {KEY}"))
    assert KEY not in repr(with_key)
    assert read_all(transport.send(with_key, CancelScope())) == b"fine"
    sent = {name.lower(): value for name, value in server.requests[0].headers.items()}
    assert sent.pop("host") == f"127.0.0.1:{server.port}"
    assert "gzip" in sent.pop("accept-encoding")
    sent.pop("user-agent", None)
    assert sent == {"x-example": "hello", "content-length": "2", "authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "name", ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray", "X-Request-ID"]
)
def test_the_request_id_is_read_from_any_of_the_known_headers(post, transport, serve, name):
    assert post(transport, serve(status(200, "", {name: "req_7"}))).request_id == "req_7"


def test_the_request_id_is_none_if_no_header_has_it(post, transport, serve):
    reply = post(transport, serve(status(200, "")))
    assert (reply.status, reply.request_id) == (200, None)


def test_a_redirect_without_a_location_is_not_followed(post, transport, serve):
    server = serve(status(307))
    assert post(transport, server).status == 307
    assert len(server.requests) == 1


@pytest.mark.parametrize("target", ["https://127.0.0.1:{}/v1", "http://127.0.0.1:1/v1", "//localhost:{}/v1"])
def test_a_redirect_to_another_scheme_host_or_port_is_not_followed(post, transport, serve, target):
    server = serve(FINE)
    other = serve(redirect(target.format(server.port)))
    assert post(transport, other).status == 307
    assert server.connections == 0


@pytest.mark.parametrize("code", [307, 308])
def test_a_redirect_to_the_same_origin_is_followed_once(post, transport, serve, code):
    server = serve(redirect("/elsewhere", code), redirect("/again", code), FINE)
    reply = post(transport, server)
    assert (reply.status, [each.path for each in server.requests]) == (code, ["/v1/chat", "/elsewhere"])


def test_a_response_that_cannot_carry_a_stream_raises_protocol_violation(post, transport, serve):
    for script in (
        [send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")],
        [send(b"HTTP/1.1 204 No Content\r\n\r\n")],
        [send(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n")],
        [head(headers={"Transfer-Encoding": "gzip, chunked"}), end()],
    ):
        with pytest.raises(ProtocolViolation, match="so there is no event stream to read"):
            post(transport, serve(script))


def test_status_407_raises_connection_failed_and_is_not_retryable(post, transport, serve):
    with pytest.raises(ConnectionFailed, match="proxy") as caught:
        post(transport, serve(status(407)))
    assert not caught.value.retryable


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_read_returns_bytes_as_they_arrive(post, transport, serve):
    gate = threading.Event()
    reply = post(transport, serve([head(), chunk(b"one"), wait_for(gate), chunk(b"two"), end()]))
    assert reply.read() == b"one"
    gate.set()
    assert reply.read() == b"two"
    assert [reply.read(), reply.read()] == [b"", b""]


def test_read_returns_at_most_64_kib(post, transport, serve):
    reply = post(transport, serve([head(), chunk(b"x" * 200_000), end()]))
    sizes = [len(piece) for piece in iter(reply.read, b"")]
    assert sum(sizes) == 200_000
    assert max(sizes) <= 65536


def test_after_an_error_read_returns_no_bytes_and_the_connection_is_closed(post, transport, serve):
    server = serve([head(), chunk(b"one"), pause(0.01), cut()])
    reply = post(transport, server)
    assert reply.read() == b"one"
    with pytest.raises(StreamTruncated) as caught:
        reply.read()
    assert caught.value.__context__ is None
    assert reply.read() == b""
    assert server.client_closed()


def test_buffered_bytes_are_not_read_after_cancel(post, transport, serve):
    scope = CancelScope()
    reply = post(transport, serve([send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")]), scope)
    scope.cancel()
    with pytest.raises(Cancelled):
        reply.read()


def test_wait_returns_whether_bytes_arrive_in_time_and_does_not_read_them(post, transport, serve):
    gates = [threading.Event() for _ in range(3)]
    first, second, third = map(wait_for, gates)
    reply = post(transport, serve([head(), first, chunk(b"one"), second, chunk(b"two"), third, end()]))
    for gate, data in zip(gates, (b"one", b"two", b""), strict=True):
        with within(0.1, least=0.01):
            assert not reply.wait(0.01)
        gate.set()
        with within(0.1):
            assert reply.wait(9)
        assert reply.read() == data
    assert reply.wait(9)


def test_wait_returns_true_for_bytes_that_are_buffered(post, transport, serve):
    reply = post(transport, serve([send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfine"), stall()]))
    assert reply.wait(0)
    assert reply.read() == b"fine"
    assert not reply.wait(0.01)


def test_wait_returns_true_for_bytes_that_are_decoded_but_not_read(post, transport, serve):
    reply = post(transport, serve([head(), chunk(b"x" * 100_000), stall()]))
    assert len(reply.read()) <= 65536
    assert reply.wait(1)  # the rest may not have arrived yet


def test_cancel_ends_a_wait_for_bytes(post, transport, serve):
    scope = CancelScope()
    reply = post(transport, serve([head(), stall()]), scope)
    threading.Timer(0.02, scope.cancel).start()
    with within(0.07):
        assert reply.wait(9)
    with pytest.raises(Cancelled):
        reply.wait(9)


# ── error bodies and draining ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "more",
    [[end()], [cut()], [stall()], [pause(0.01), reset()]],
    ids=["end", "closed connection", "silence", "connection reset"],
)
def test_read_body_returns_the_bytes_that_arrive_in_time(post, transport, serve, more):
    reply = post(transport, serve([head(400), chunk(b"one"), chunk(b"two"), *more]))
    with within(0.6):
        assert reply.read_body(100, 0.5) == b"onetwo"
    assert reply.read() == b""


def test_read_body_stops_at_its_limit_and_closes_the_connection(post, transport, serve):
    server = serve([head(400), forever(chunk(b"x" * 1000))])
    assert post(transport, server).read_body(2500, 1.0) == b"x" * 2500
    assert server.client_closed()


def test_read_body_returns_the_bytes_received_before_the_deadline(post, transport, serve):
    reply = post(transport, serve([head(400), chunk(b"one"), stall()]), CancelScope(deadline=0.5))
    assert reply.read_body(100, 9.0) == b"one"


def test_read_body_raises_cancelled_after_cancel(post, transport, serve):
    scope = CancelScope()
    reply = post(transport, serve([head(400), chunk(b"one"), stall()]), scope)
    threading.Timer(0.02, scope.cancel).start()
    with pytest.raises(Cancelled):
        reply.read_body(100, 9.0)


def test_draining_returns_the_connection_to_the_pool(post, transport, serve):
    server = serve([head(), chunk(b"one"), pause(0.01), end()])
    for _ in range(3):
        reply = post(transport, server)
        assert reply.read() == b"one"
        reply.drain()
    assert server.connections == 1


@pytest.mark.usefixtures("default_drain_time")
@pytest.mark.parametrize(
    "more",
    [stall(), drip(b"0" * 99, 0.01), forever(chunk(b"x" * 100))],
    ids=["silence", "single bytes", "endless chunks"],
)
def test_draining_takes_at_most_a_tenth_of_a_second(post, transport, serve, more):
    server = serve([head(), chunk(b"one"), more])
    reply = post(transport, server)
    with within(0.15):
        reply.drain()
    assert server.client_closed()


def test_cancel_ends_draining(post, transport, serve):
    scope = CancelScope()
    server = serve([head(), chunk(b"one"), stall()])
    reply = post(transport, server, scope)
    scope.cancel()
    with within(0.08):
        reply.drain()
    assert server.client_closed()


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stale_pooled_connection_is_replaced_without_an_error(post, transport, serve):
    server = serve(FINE, [reset()], FINE)
    for _ in range(2):
        assert read_all(post(transport, server)) == b"fine"
    assert server.connections == 2


def test_a_fresh_connection_that_fails_is_not_replaced(post, transport, serve):
    with pytest.raises(ConnectionFailed) as caught:
        post(transport, serve([reset()]))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("error", [IdleTimeout, DeadlineExceeded])
def test_the_wait_for_headers_ends_at_the_deadline_or_the_timeout_of_the_scope(post, transport, serve, error):
    server = serve([stall()])
    with within(0.15, least=0.05):
        scope = CancelScope(deadline=0.05 if error is DeadlineExceeded else None)
        scope.set_timeout(0.05 if error is IdleTimeout else 9, IdleTimeout)
        with pytest.raises(error):
            post(transport, server, scope)
    assert server.client_closed()


def test_cancel_ends_the_wait_for_headers(post, transport, serve):
    scope = CancelScope()
    threading.Timer(0.05, scope.cancel).start()
    with within(0.1), pytest.raises(Cancelled):
        post(transport, serve([stall()]), scope)


def test_cancel_ends_connecting(transport, unanswered_port):
    scope = CancelScope()
    threading.Timer(0.05, scope.cancel).start()
    with within(0.1), pytest.raises(Cancelled):
        transport.send(Request(f"http://127.0.0.1:{unanswered_port}/", {}, b""), scope)


def test_a_closed_transport_can_be_used_again(post, transport, serve):
    server = serve(FINE)
    transport.close()
    for number in (1, 2):
        assert read_all(post(transport, server)) == b"fine"
        transport.close()
        assert server.client_closed(number)


def test_closing_a_reply_whose_connection_is_already_pooled_does_not_affect_the_next_call(
    post, transport, serve, monkeypatch
):
    """Another thread closes the reply after urllib3 has returned the connection to the pool, but still refers to it."""
    server = serve(FINE)
    put = HTTPConnectionPool._put_conn

    def put_and_close(pool: HTTPConnectionPool, connection: Any) -> None:
        put(pool, connection)
        reply.close()

    reply = post(transport, server)
    with monkeypatch.context() as patch:
        patch.setattr(HTTPConnectionPool, "_put_conn", put_and_close)
        assert read_all(reply) == b"fine"
    replies = [post(transport, server) for _ in range(2)]
    assert [read_all(each) for each in replies] == [b"fine", b"fine"]
    assert [each.reused for each in replies] == [True, False]
    assert server.connections == 2


def test_the_connection_of_a_closed_reply_is_not_returned_to_the_pool(post, transport, serve, monkeypatch):
    """Otherwise a thread that still reads the reply would close the connection while another call uses it."""
    put: list[Any] = []
    reply = post(transport, serve(FINE))
    with monkeypatch.context() as patch:
        patch.setattr(HTTPConnectionPool, "_put_conn", lambda pool, connection: put.append(connection))
        reply.close()
    assert put == []


def test_each_process_has_its_own_session(post, transport, serve, monkeypatch):
    server = serve(FINE)
    assert read_all(post(transport, server)) == b"fine"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert read_all(post(transport, server)) == b"fine"
    assert server.connections == 2


def test_the_environment_is_read_once_per_session(post, transport, serve, monkeypatch):
    proxy, server = serve(FINE, FINE), serve(FINE)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    assert read_all(post(transport, server)) == b"fine"
    monkeypatch.delenv("http_proxy")
    assert read_all(post(transport, server)) == b"fine"
    assert (len(proxy.requests), len(server.requests)) == (2, 0)
    transport.close()
    assert read_all(post(transport, server)) == b"fine"
    assert (len(proxy.requests), len(server.requests)) == (2, 1)


def test_with_a_session_of_the_caller_the_environment_is_read_at_each_request(post, serve, monkeypatch):
    proxy, server = serve(FINE), serve(FINE)
    with requests.Session() as session:
        transport = Transport(session)
        assert read_all(post(transport, server)) == b"fine"
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert read_all(post(transport, server)) == b"fine"
    assert (len(proxy.requests), len(server.requests)) == (1, 1)


def test_a_direct_transport_ignores_the_proxies_of_the_environment(post, serve, monkeypatch):
    proxy, server = serve(status(500)), serve(FINE)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    transport = Transport(direct=True)
    assert read_all(post(transport, server)) == b"fine"
    transport.close()


# ── a session of the caller ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_a_custom_adapter_of_a_session_is_kept(post, session, serve):
    class CustomAdapter(HTTPAdapter):
        pass

    adapter = CustomAdapter()
    session.mount("http://127.0.0.1", adapter)
    reply = post(Transport(session), serve(FINE))
    assert session.get_adapter("http://127.0.0.1/") is adapter
    assert reply.wait(0)  # such an adapter does not know whether bytes have arrived
    assert read_all(reply) == b"fine"


@pytest.mark.parametrize("script", [[stall()], [head(), stall()]], ids=["headers", "body"])
def test_with_a_custom_adapter_a_silent_server_raises_idle_timeout(post, session, serve, script):
    class CustomAdapter(HTTPAdapter):
        pass

    session.mount("http://", CustomAdapter())
    server, scope = serve(script), CancelScope()
    with within(0.25, least=0.1):
        scope.set_timeout(0.1, IdleTimeout)
        with pytest.raises(IdleTimeout):
            post(Transport(session), server, scope).read()


def test_the_proxies_and_headers_of_a_session_are_used(session, serve):
    proxy = serve(FINE)
    session.proxies = {"http": f"http://127.0.0.1:{proxy.port}"}
    session.headers["X-Own"] = "mine"
    reply = Transport(session).send(Request("http://api.invalid/v1", {}, b"{}"), CancelScope())
    assert read_all(reply) == b"fine"
    assert (proxy.requests[0].path, proxy.requests[0].headers["X-Own"]) == ("http://api.invalid/v1", "mine")


def test_a_response_hook_of_a_session_may_repeat_the_request(post, session, serve):
    def repeat(response: requests.Response, **options: Any) -> requests.Response:
        """Repeat a request as digest authentication does."""
        if response.status_code != 401:
            return response
        assert response.content == b"who?"
        response.close()
        return response.connection.send(response.request, **options)

    session.hooks["response"].append(repeat)
    server, transport = serve(status(401, "who?"), FINE), Transport(session)
    assert read_all(post(transport, server)) == b"fine"
    assert post(transport, server).reused
    assert server.connections == 1


def test_closing_the_transport_does_not_close_a_session_of_the_caller(post, session, serve):
    server = serve(FINE)
    transport = Transport(session)
    assert read_all(post(transport, server)) == b"fine"
    transport.close()
    assert session.post(server.url).text == "fine"
    assert server.client_closed(1)  # the transport's own
    assert not server.client_closed(2, within=0.02)
