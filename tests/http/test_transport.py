"""POST → bytes: sessions, connections and what is read of an answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support import KEY, once, within
from urllib3 import HTTPConnectionPool

from chatstream import Cancelled, ConnectionFailed, DeadlineExceeded, IdleTimeout, ProtocolViolation, StreamTruncated
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.connection import ScopedAdapter
from chatstream._http.transport import Reply, Request, Transport
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
    return Request(**{"url": server.url + "/chat", "headers": {"X-Word": "hello"}, "body": b"{}"} | fields)


@pytest.fixture
def post() -> Iterator[Any]:
    """Sends a request to a server, and closes what came of it."""
    replies: list[Reply] = []

    def posted(transport: Transport, server: FaultServer, scope: CancelScope | None = None) -> Reply:
        replies.append(transport.post(request(server), scope or CancelScope()))
        return replies[-1]

    yield posted
    for reply in replies:
        reply.close()


def read_all(reply: Reply) -> bytes:
    return b"".join(iter(reply.read, b""))


# ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_sent_but_what_was_asked(transport, serve):
    server = serve(FINE)
    with_key = request(server, key=("Authorization", f"Bearer {KEY}"))
    assert KEY not in repr(with_key)
    assert read_all(transport.post(with_key, CancelScope())) == b"fine"
    sent = {name.lower(): value for name, value in server.requests[0].headers.items()}
    assert sent.pop("host") == f"127.0.0.1:{server.port}"
    assert "gzip" in sent.pop("accept-encoding")
    sent.pop("user-agent", None)
    assert sent == {"x-word": "hello", "content-length": "2", "authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "name", ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray", "X-Request-ID"]
)
def test_a_request_id_is_found_under_any_name(post, transport, serve, name):
    assert post(transport, serve(status(200, "", {name: "req_7"}))).request_id == "req_7"


def test_an_answer_may_have_no_request_id(post, transport, serve):
    reply = post(transport, serve(status(200, "")))
    assert (reply.status, reply.request_id) == (200, None)


def test_a_redirect_to_nowhere_is_not_followed(post, transport, serve):
    server = serve(status(307))
    assert post(transport, server).status == 307
    assert len(server.requests) == 1


@pytest.mark.parametrize("target", ["https://127.0.0.1:{}/v1", "http://127.0.0.1:1/v1", "//localhost:{}/v1"])
def test_an_origin_is_scheme_host_and_port(post, transport, serve, target):
    server = serve(FINE)
    other = serve(redirect(target.format(server.port)))
    assert post(transport, other).status == 307
    assert server.connections == 0


@pytest.mark.parametrize("code", [307, 308])
def test_a_redirect_on_the_origin_is_followed_once(post, transport, serve, code):
    server = serve(redirect("/elsewhere", code), redirect("/again", code), FINE)
    reply = post(transport, server)
    assert (reply.status, [each.path for each in server.requests]) == (code, ["/v1/chat", "/elsewhere"])


def test_what_carries_no_stream_is_refused(post, transport, serve):
    for script in (
        [send(b"HTTP/1.1 103 Early Hints\r\n\r\n")],
        [send(b"HTTP/1.1 204 No Content\r\n\r\n")],
        [send(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n")],
        [head(headers={"Transfer-Encoding": "gzip, chunked"}), end()],
    ):
        with pytest.raises(ProtocolViolation, match="carries no stream"):
            post(transport, serve(script))


def test_a_proxy_that_wants_a_password_is_no_server(post, transport, serve):
    with pytest.raises(ConnectionFailed, match="proxy") as caught:
        post(transport, serve(status(407)))
    assert not caught.value.retryable


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_are_given_as_they_come(post, transport, serve):
    gate = threading.Event()
    reply = post(transport, serve([head(), chunk(b"one"), once(gate), chunk(b"two"), end()]))
    assert reply.read() == b"one"
    gate.set()
    assert reply.read() == b"two"
    assert [reply.read(), reply.read()] == [b"", b""]


def test_a_read_gives_at_most_64_kib(post, transport, serve):
    reply = post(transport, serve([head(), chunk(b"x" * 200_000), end()]))
    sizes = [len(piece) for piece in iter(reply.read, b"")]
    assert sum(sizes) == 200_000
    assert max(sizes) <= 65536


def test_an_error_of_reading_is_the_last_word(post, transport, serve):
    server = serve([head(), chunk(b"one"), pause(0.01), cut()])
    reply = post(transport, server)
    assert reply.read() == b"one"
    with pytest.raises(StreamTruncated) as caught:
        reply.read()
    assert caught.value.__context__ is None
    assert reply.read() == b""
    assert server.client_closed()


def test_what_is_buffered_is_not_read_after_cancel(post, transport, serve):
    scope = CancelScope()
    reply = post(transport, serve([send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")]), scope)
    scope.cancel()
    with pytest.raises(Cancelled):
        reply.read()


def test_one_can_wait_for_bytes_without_reading_them(post, transport, serve):
    gates = [threading.Event() for _ in range(3)]
    first, second, third = map(once, gates)
    reply = post(transport, serve([head(), first, chunk(b"one"), second, chunk(b"two"), third, end()]))
    for gate, data in zip(gates, (b"one", b"two", b""), strict=True):
        with within(0.1, least=0.01):
            assert not reply.wait(0.01)
        gate.set()
        with within(0.1):
            assert reply.wait(9)
        assert reply.read() == data
    assert reply.wait(9)


def test_waiting_sees_what_is_buffered(post, transport, serve):
    reply = post(transport, serve([send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfine"), stall()]))
    assert reply.wait(0)
    assert reply.read() == b"fine"
    assert not reply.wait(0.01)


def test_waiting_sees_what_is_decoded(post, transport, serve):
    reply = post(transport, serve([head(), chunk(b"x" * 100_000), stall()]))
    assert len(reply.read()) <= 65536
    assert reply.wait(1)  # the rest may still be on its way


def test_waiting_is_watched(post, transport, serve):
    scope = CancelScope()
    reply = post(transport, serve([head(), stall()]), scope)
    threading.Timer(0.02, scope.cancel).start()
    with within(0.07):
        assert reply.wait(9)
    with pytest.raises(Cancelled):
        reply.wait(9)


# ── the beginning of a body, and its end ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "more", [[end()], [cut()], [stall()], [pause(0.01), reset()]], ids=["end", "fin", "silence", "rst"]
)
def test_of_a_body_there_is_what_comes_in_time(post, transport, serve, more):
    reply = post(transport, serve([head(400), chunk(b"one"), chunk(b"two"), *more]))
    with within(0.6):
        assert reply.read_body(100, 0.5) == b"onetwo"
    assert reply.read() == b""


def test_a_body_is_read_as_far_as_it_is_wanted(post, transport, serve):
    server = serve([head(400), forever(chunk(b"x" * 1000))])
    assert post(transport, server).read_body(2500, 1.0) == b"x" * 2500
    assert server.client_closed()


def test_a_body_is_kept_when_the_deadline_passes(post, transport, serve):
    reply = post(transport, serve([head(400), chunk(b"one"), stall()]), CancelScope(deadline=0.5))
    assert reply.read_body(100, 9.0) == b"one"


def test_a_body_is_not_wanted_after_cancel(post, transport, serve):
    scope = CancelScope()
    reply = post(transport, serve([head(400), chunk(b"one"), stall()]), scope)
    threading.Timer(0.02, scope.cancel).start()
    with pytest.raises(Cancelled):
        reply.read_body(100, 9.0)


def test_a_drained_answer_gives_its_connection_back(post, transport, serve):
    server = serve([head(), chunk(b"one"), pause(0.01), end()])
    for _ in range(3):
        reply = post(transport, server)
        assert reply.read() == b"one"
        reply.drain()
    assert server.connections == 1


@pytest.mark.usefixtures("drains_as_always")
@pytest.mark.parametrize("more", [stall(), drip(b"0" * 99, 0.01), forever(chunk(b"x" * 100))])
def test_draining_takes_a_tenth_of_a_second_at_most(post, transport, serve, more):
    server = serve([head(), chunk(b"one"), more])
    reply = post(transport, server)
    with within(0.15):
        reply.drain()
    assert server.client_closed()


def test_draining_ends_with_cancel(post, transport, serve):
    scope = CancelScope()
    server = serve([head(), chunk(b"one"), stall()])
    reply = post(transport, server, scope)
    scope.cancel()
    with within(0.08):
        reply.drain()
    assert server.client_closed()


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stale_connection_is_replaced_without_a_word(post, transport, serve):
    server = serve(FINE, [reset()], FINE)
    for _ in range(2):
        assert read_all(post(transport, server)) == b"fine"
    assert server.connections == 2


def test_a_fresh_connection_is_not(post, transport, serve):
    with pytest.raises(ConnectionFailed) as caught:
        post(transport, serve([reset()]))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("error", [IdleTimeout, DeadlineExceeded])
def test_headers_are_waited_for_as_long_as_the_watch_allows(post, transport, serve, error):
    server = serve([stall()])
    with within(0.15, least=0.05):
        scope = CancelScope(deadline=0.05 if error is DeadlineExceeded else None)
        scope.set_timeout(0.05 if error is IdleTimeout else 9, IdleTimeout)
        with pytest.raises(error):
            post(transport, server, scope)
    assert server.client_closed()


def test_cancel_reaches_whoever_waits_for_headers(post, transport, serve):
    scope = CancelScope()
    threading.Timer(0.05, scope.cancel).start()
    with within(0.1), pytest.raises(Cancelled):
        post(transport, serve([stall()]), scope)


def test_cancel_reaches_whoever_connects(transport, deaf):
    scope = CancelScope()
    threading.Timer(0.05, scope.cancel).start()
    with within(0.1), pytest.raises(Cancelled):
        transport.post(Request(f"http://127.0.0.1:{deaf}/", {}, b""), scope)


def test_a_closed_transport_can_be_used_again(post, transport, serve):
    server = serve(FINE)
    transport.close()
    for number in (1, 2):
        assert read_all(post(transport, server)) == b"fine"
        transport.close()
        assert server.client_closed(number)


def test_who_closes_a_reply_that_has_just_ended_takes_its_connection_from_nobody(post, transport, serve, monkeypatch):
    """Another thread closes while the connection is in the pool again, and urllib3 has not let go of it yet."""
    server = serve(FINE)
    put = HTTPConnectionPool._put_conn

    def put_and_close(pool: HTTPConnectionPool, connection: Any) -> None:
        put(pool, connection)
        reply.close()

    reply = post(transport, server)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(HTTPConnectionPool, "_put_conn", put_and_close)
        assert read_all(reply) == b"fine"
    together = [post(transport, server) for _ in range(2)]
    assert [read_all(each) for each in together] == [b"fine", b"fine"]
    assert [each.reused for each in together] == [True, False]
    assert server.connections == 2


def test_a_connection_that_is_given_up_is_not_put_back(post, transport, serve, monkeypatch):
    """Else who reads it, in another thread, would close it under the call that has it then."""
    put: list[Any] = []
    reply = post(transport, serve(FINE))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(HTTPConnectionPool, "_put_conn", lambda pool, connection: put.append(connection))
        reply.close()
    assert put == []


def test_each_process_has_a_session_of_its_own(post, transport, serve, monkeypatch):
    server = serve(FINE)
    assert read_all(post(transport, server)) == b"fine"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert read_all(post(transport, server)) == b"fine"
    assert server.connections == 2


def test_the_environment_is_asked_once_per_session(post, transport, serve, monkeypatch):
    proxy, server = serve(FINE, FINE), serve(FINE)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    assert read_all(post(transport, server)) == b"fine"
    monkeypatch.delenv("http_proxy")
    assert read_all(post(transport, server)) == b"fine"
    assert (len(proxy.requests), len(server.requests)) == (2, 0)
    transport.close()
    assert read_all(post(transport, server)) == b"fine"
    assert (len(proxy.requests), len(server.requests)) == (2, 1)


def test_a_given_session_asks_the_environment_each_time(post, serve, monkeypatch):
    proxy, server = serve(FINE), serve(FINE)
    with requests.Session() as session:
        transport = Transport(session)
        assert read_all(post(transport, server)) == b"fine"
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert read_all(post(transport, server)) == b"fine"
    assert (len(proxy.requests), len(server.requests)) == (1, 1)


def test_a_direct_transport_passes_by_the_proxies(post, serve, monkeypatch):
    proxy, server = serve(status(500)), serve(FINE)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    transport = Transport(direct=True)
    assert read_all(post(transport, server)) == b"fine"
    transport.close()


# ── a session of the caller's own ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_a_plain_adapter_is_replaced(post, session, serve):
    transport = Transport(session)
    assert read_all(post(transport, serve(FINE))) == b"fine"
    assert {type(adapter) for adapter in session.adapters.values()} == {ScopedAdapter}


def test_an_adapter_of_the_owner_stays(post, session, serve):
    class Own(HTTPAdapter):
        pass

    own = Own()
    session.mount("http://127.0.0.1", own)
    reply = post(Transport(session), serve(FINE))
    assert session.get_adapter("http://127.0.0.1/") is own
    assert reply.wait(0)  # it can't tell
    assert read_all(reply) == b"fine"


@pytest.mark.parametrize("script", [[stall()], [head(), stall()]], ids=["headers", "body"])
def test_over_an_adapter_of_the_owner_a_silence_has_an_end_too(post, session, serve, script):
    class Own(HTTPAdapter):
        pass

    session.mount("http://", Own())
    server, scope = serve(script), CancelScope()
    with within(0.25, least=0.1):
        scope.set_timeout(0.1, IdleTimeout)
        with pytest.raises(IdleTimeout):
            post(Transport(session), server, scope).read()


def test_what_the_session_brings_is_used(session, serve):
    proxy = serve(FINE)
    session.proxies = {"http": f"http://127.0.0.1:{proxy.port}"}
    session.headers["X-Own"] = "mine"
    reply = Transport(session).post(Request("http://api.invalid/v1", {}, b"{}"), CancelScope())
    assert read_all(reply) == b"fine"
    assert (proxy.requests[0].path, proxy.requests[0].headers["X-Own"]) == ("http://api.invalid/v1", "mine")


def test_a_session_may_answer_a_refusal_itself(post, session, serve):
    def again(response: requests.Response, **options: Any) -> requests.Response:
        """What digest authentication does."""
        if response.status_code != 401:
            return response
        assert response.content == b"who?"
        response.close()
        return response.connection.send(response.request, **options)

    session.hooks["response"].append(again)
    server, transport = serve(status(401, "who?"), FINE), Transport(session)
    assert read_all(post(transport, server)) == b"fine"
    assert post(transport, server).reused
    assert server.connections == 1


def test_a_session_is_closed_by_its_owner(post, session, serve):
    server = serve(FINE)
    transport = Transport(session)
    assert read_all(post(transport, server)) == b"fine"
    transport.close()
    assert session.post(server.url).text == "fine"
    assert not server.client_closed(within=0.02)
