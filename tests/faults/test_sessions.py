"""Sessions of the caller: what is mounted, patched, hooked and set on them, and mocks that stand in.

The libraries that do so are not needed here; their ways to do it are imitated.
"""

from __future__ import annotations

import base64
import io
import os
import pickle
import re
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from http.client import HTTPConnection as PlainConnection
from types import MethodType
from typing import Any
from unittest.mock import patch

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth
from support import KEY, REST, THREE, body, cancelled, text_of, within
from urllib3.util import Retry

from chatstream import (
    Cancelled,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    Heartbeat,
    IdleTimeout,
    ProtocolViolation,
    UnexpectedStatus,
)
from chatstream.testing import (
    chunk,
    cut,
    delta,
    done,
    drip,
    end,
    finish,
    forever,
    head,
    pause,
    redirect,
    stall,
    status,
    text_answer,
)

ANSWER = body("Mocked.") + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
FINE = text_answer("Fine.")


class OwnAdapter(HTTPAdapter):
    """An adapter that the owner of a session mounted, such as one for a source address."""


class CountingSession(requests.Session):
    """A session that keeps state while it sends."""

    sent = 0

    def send(self, request: Any, **options: Any) -> requests.Response:
        self.sent += 1
        return super().send(request, **options)


class MockAdapter(BaseAdapter):
    """An adapter without connections: it answers with whatever ``make`` returns."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make
        self.sent = 0

    def send(self, request: Any, **options: Any) -> requests.Response:
        self.sent += 1
        made = self.make()
        return made if isinstance(made, requests.Response) else HTTPAdapter().build_response(request, made)

    def close(self) -> None:
        pass


def raw_response(content: bytes = ANSWER, **options: Any) -> urllib3.HTTPResponse:
    return urllib3.HTTPResponse(io.BytesIO(content), status=200, preload_content=False, **options)


@pytest.fixture
def session(authority, tmp_path) -> Iterator[requests.Session]:
    """A session that trusts the tests' authority."""
    bundle = tmp_path / "session.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with requests.Session() as session:
        session.verify = str(bundle)
        yield session


@pytest.fixture(params=["http", "https"])
def context(request, tls):
    """The server's TLS context; None for plain HTTP."""
    return tls if request.param == "https" else None


@pytest.fixture
def own(session) -> requests.Session:
    """A session whose owner has mounted a subclass of `HTTPAdapter`."""
    session.mount("http://", OwnAdapter())
    session.mount("https://", OwnAdapter())
    return session


# ── what the owner mounted ──────────────────────────────────────────────────────────────────────────────────────


def test_the_adapters_of_a_session_are_the_same_before_during_and_after_a_call(serve, connect, session):
    before = dict(session.adapters), dict(vars(session))
    client = connect(serve(FINE), session=session)
    with client.stream("?") as stream:
        next(stream)
        assert (dict(session.adapters), dict(vars(session))) == before
    assert client.stream("?").collect().text == "Fine."
    client.close()
    assert (dict(session.adapters), dict(vars(session))) == before
    assert {type(adapter) for adapter in session.adapters.values()} == {HTTPAdapter}


def test_closing_the_client_closes_its_connections_and_none_of_the_session(serve, connect, session):
    server = serve(FINE)
    assert session.post(server.url).status_code == 200
    client = connect(server, session=session)
    assert client.stream("?").collect().text == "Fine."
    client.close()
    assert server.client_closed(2)
    assert not server.client_closed(1, within=0.02)
    assert client.stream("?").collect().text == "Fine."
    assert session.post(server.url).status_code == 200
    assert server.connections == 3


def test_a_session_that_its_owner_has_closed_can_be_used_again_as_in_requests(serve, connect, session):
    client = connect(serve(FINE), session=session)
    for _ in range(2):
        assert client.stream("?").collect().text == "Fine."
        session.close()


def test_a_plain_adapter_with_settings_keeps_them_and_the_limits_hold(serve, connect, session, refused_port):
    adapter = HTTPAdapter(max_retries=3, pool_connections=2, pool_maxsize=1, pool_block=True)
    session.mount("http://", adapter)
    client = connect(serve(FINE, [stall()]), session=session, deadline=0.3)
    assert client.stream("?").collect().text == "Fine."
    with within(0.5, least=0.2), pytest.raises(DeadlineExceeded):
        client.stream("?")
    assert session.get_adapter("http://a") is adapter
    with pytest.raises(ConnectionFailed):
        connect(f"http://127.0.0.1:{refused_port}", session=session, request_max_retries=0).stream("?")


@pytest.mark.parametrize("ending", ["complete", "closed"])
def test_a_pool_that_blocks_gets_its_place_back_after_each_stream(serve, connect, session, context, ending):
    session.mount("http", HTTPAdapter(pool_maxsize=1, pool_block=True))
    client = connect(serve(text_answer("one", "two"), tls=context), session=session, deadline=5.0)
    for _ in range(3):
        with client.stream("?") as stream:
            next(stream)
            if ending == "complete":
                assert stream.collect().text == "onetwo"


def test_waiting_for_a_place_in_a_pool_that_blocks_ends_at_the_deadline_and_by_cancel(serve, connect, session):
    session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
    server = serve([head(), *THREE, stall()])
    client = connect(server, session=session)
    with client.stream("?") as stream:
        next(stream)
        with within(0.4, least=0.2), pytest.raises(DeadlineExceeded):
            client.stream("?", deadline=0.2)
        timer = threading.Timer(0.2, client.cancel)
        timer.start()
        with within(0.3, least=0.2), pytest.raises(Cancelled):
            client.stream("?")
        timer.join()
    assert len(server.requests) == 1


def test_the_deadline_holds_while_the_retries_of_an_adapter_wait(connect, session, refused_port):
    retries = Retry(5, backoff_factor=30, respect_retry_after_header=True)
    session.mount("http://", HTTPAdapter(max_retries=retries))
    client = connect(f"http://127.0.0.1:{refused_port}", session=session, deadline=0.3)
    with within(0.5, least=0.2), pytest.raises(DeadlineExceeded):
        client.stream("?")
    assert type(retries) is Retry


def test_the_retries_of_an_adapter_are_made_and_wait_as_the_server_asks(serve, connect, session):
    session.mount("http://", HTTPAdapter(max_retries=Retry(2, status_forcelist=[503], allowed_methods=None)))
    server = serve(status(503, "busy", {"Retry-After": "0"}), status(503, "busy"), FINE)
    assert connect(server, session=session, request_max_retries=0).stream("?").collect().text == "Fine."
    assert len(server.requests) == 3


def test_retries_of_a_class_of_the_owner_are_used_as_they_are(serve, connect, session):
    class OwnRetry(Retry):
        pass

    session.mount("http://", HTTPAdapter(max_retries=OwnRetry(1, status_forcelist=[503], allowed_methods=None)))
    server = serve(status(503, "busy"), FINE)
    assert connect(server, session=session, request_max_retries=0).stream("?").collect().text == "Fine."


def test_what_the_owner_changes_on_a_session_between_two_calls_is_respected(serve, connect, session, tls):
    server, proxy = serve(FINE, tls=tls), serve(FINE)
    client = connect(server, session=session, request_max_retries=0)
    assert client.stream("?").collect().text == "Fine."
    session.verify = True
    with pytest.raises(ConnectionFailed, match="certificate"):
        client.stream("?")
    session.verify = False
    session.mount("https://", OwnAdapter())
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
        assert client.stream("?").collect().text == "Fine."
    plain = connect("http://api.invalid/v1", session=session, api_key=None)
    session.proxies = {"http": f"http://127.0.0.1:{proxy.port}"}
    session.headers["X-Own"] = "mine"
    assert plain.stream("?").collect().text == "Fine."
    assert proxy.requests[0].headers["X-Own"] == "mine"


def test_what_the_owner_sets_on_a_session_wins_over_the_environment(serve, connect, session, tls, monkeypatch):
    server, proxy = serve(FINE, tls=tls), serve(FINE)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert connect(server, session=session).stream("?").collect().text == "Fine."
    session.proxies = {"http": f"http://127.0.0.1:{proxy.port}"}
    plain = connect("http://api.invalid/v1", session=session, api_key=None)
    assert plain.stream("?").collect().text == "Fine."
    session.verify = False
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
        assert connect(server, session=session).stream("?").collect().text == "Fine."


def test_a_session_of_the_owner_without_settings_has_those_of_the_environment(
    serve, connect, tls, trusted, monkeypatch
):
    server, proxy = serve(FINE, tls=tls), serve(FINE)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    with requests.Session() as session:
        assert connect(server, session=session).stream("?").collect().text == "Fine."
        plain = connect("http://api.invalid/v1", session=session, api_key=None)
        assert plain.stream("?").collect().text == "Fine."
    assert len(proxy.requests) == 1


def test_settings_that_the_owner_changes_on_a_plain_adapter_hold_from_the_next_call_on(serve, connect, session):
    adapter = session.get_adapter("http://a")
    server = serve(FINE)
    client = connect(server, session=session)
    assert client.stream("?").collect().text == "Fine."
    adapter.poolmanager.connection_pool_kw["source_address"] = ("127.0.0.2", 0)
    assert client.stream("?").collect().text == "Fine."
    assert client.stream("?").collect().text == "Fine."
    assert server.connections == 2


def test_cookies_and_hooks_of_a_session_belong_to_its_owner_before_and_after(serve, connect, session):
    seen = []
    session.hooks["response"] = lambda response, **_: seen.append(response.status_code)
    server = serve([head(headers={"Set-Cookie": "a=1"}), *THREE, *REST])
    client = connect(server, session=session)
    for _ in range(2):
        client.stream("?").collect()
    assert session.cookies["a"] == "1"
    assert server.requests[1].headers["Cookie"] == "a=1"
    assert seen == [200, 200]


@pytest.mark.parametrize("change", ["method", "pools"])
def test_a_plain_adapter_that_its_owner_has_patched_is_used_as_it_is(serve, connect, session, change):
    adapter, used = session.get_adapter("http://a"), []
    if change == "method":
        send = adapter.send
        adapter.send = lambda *args, **options: used.append(1) or send(*args, **options)
    else:

        class OwnManager(urllib3.PoolManager):
            def connection_from_host(self, *args: Any, **options: Any) -> Any:
                used.append(1)
                return super().connection_from_host(*args, **options)

        adapter.poolmanager = OwnManager()
    assert connect(serve(FINE), session=session).stream("?").collect().text == "Fine."
    assert used == [1]


# ── adapters and sessions of other classes ──────────────────────────────────────────────────────────────────────


def test_a_mounted_subclass_streams_over_its_own_connections_and_uses_them_again(serve, connect, own, context):
    adapter = own.get_adapter("http://a")
    server = serve(text_answer("one ", "two"), tls=context)
    client = connect(server, session=own)
    for _ in range(2):
        assert client.stream("?").collect().text == "one two"
    assert server.connections == 1
    assert own.get_adapter("http://a") is adapter
    client.close()
    assert not server.client_closed(within=0.02)


@pytest.mark.parametrize("events", [[], THREE], ids=["before the first event", "after three events"])
def test_with_a_mounted_subclass_the_deadline_ends_a_silent_stream(serve, connect, own, context, events):
    client = connect(serve([head(), *events, stall()], tls=context), session=own, deadline=0.4)
    with within(0.6, least=0.3), pytest.raises(DeadlineExceeded) as caught:
        client.stream("?").collect()
    assert caught.value.partial.text == ("one two three " if events else "")


def test_with_a_mounted_subclass_comments_do_not_extend_the_idle_limit(serve, connect, own, context):
    client = connect(
        serve([head(), *THREE, forever(chunk(b": x\n\n"), pause(0.02))], tls=context),
        session=own,
        stream_idle_timeout=0.3,
    )
    with within(0.5, least=0.2), pytest.raises(IdleTimeout):
        list(client.stream("?"))


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_with_a_mounted_subclass_cancel_wakes_a_blocked_reader(serve, connect, own, context, framing):
    server = serve([head(framing=framing), *THREE, stall()], tls=context)
    assert cancelled(connect(server, session=own).stream("?")).partial.text == "one two three "


def test_with_a_mounted_subclass_cancel_leaves_the_state_of_tls_to_the_thread_that_reads(serve, connect, own, tls):
    """Without it, the thread that was about to read took encrypted bytes for the answer."""
    stream = connect(serve([head(), *THREE, stall()], tls=tls), session=own).stream("?")
    sock = stream._reader.attempt.reply._response.raw.connection.sock
    stream.cancel()
    assert sock.version() is not None
    with pytest.raises(Cancelled):
        list(stream)


def test_with_a_mounted_subclass_a_cancellation_before_the_headers_is_seen_when_they_arrive(serve, connect, own):
    server = serve([pause(0.3), head(), *THREE, stall()])
    client = connect(server, session=own)
    timer = threading.Timer(0.1, client.cancel)
    timer.start()
    with within(0.5, least=0.2), pytest.raises(Cancelled):
        client.stream("?")
    timer.join()
    assert server.client_closed()


def test_cancelling_a_finished_stream_leaves_a_connection_alone_that_another_call_has(serve, connect, own):
    client = connect(serve(FINE, [head(), *THREE, pause(0.2), *REST]), session=own)
    first = client.stream("?")
    first.collect()
    second = client.stream("?")
    next(second)
    first.cancel()
    assert second.collect().text == "one two three "


def test_with_a_mounted_subclass_a_heartbeat_waits_for_the_next_read_and_events_arrive(serve, connect, own):
    server = serve([head(), delta("one"), pause(0.15), finish(), done(), end()])
    events = list(connect(server, session=own).stream("?", heartbeat=0.03))
    assert text_of(events) == "one"
    assert [type(event) for event in events].count(Heartbeat) <= 1  # five would be due in the pause


def test_a_session_class_with_its_own_send_keeps_its_state(serve, connect):
    with CountingSession() as session:
        client = connect(serve(FINE), session=session)
        for _ in range(3):
            assert client.stream("?").collect().text == "Fine."
        assert session.sent == 3


def test_a_session_class_with_its_own_get_adapter_decides_on_the_adapter(serve, connect):
    class OwnSession(requests.Session):
        def get_adapter(self, url: str) -> Any:
            return mock

    mock = MockAdapter(raw_response)
    server = serve(FINE)
    assert connect(server, session=OwnSession()).stream("?").collect().text == "Mocked."
    assert server.requests == []


def test_a_session_class_with_its_own_request_adds_what_identifies_the_caller(serve, connect):
    class TokenSession(requests.Session):
        def request(self, method: Any, url: Any, data: Any = None, headers: Any = None, **options: Any) -> Any:
            return super().request(method, url, data=data, headers={**headers, "X-Token": "t1"}, **options)

    seen, server = [], serve(redirect("/elsewhere", 302), status(401, "no"), FINE)
    session = TokenSession()
    session.hooks = {"response": lambda response, **_: seen.append(response.status_code)}
    client = connect(server, session=session, api_key=None)
    with pytest.raises(UnexpectedStatus, match="elsewhere"):
        client.stream("?")
    session.hooks = {}
    with pytest.raises(UnexpectedStatus, match="401: no"):
        client.stream("?")
    assert client.stream("?").collect().text == "Fine."
    assert [each.headers["X-Token"] for each in server.requests] == ["t1"] * 3
    assert server.requests[0].json["messages"]
    assert seen == [302]


def test_an_object_that_is_no_session_of_requests_is_a_config_error(serve, connect):
    server = serve(FINE)
    with pytest.raises(ConfigError, match=r"session must be a requests\.Session, not object"):
        connect(server, session=object()).stream("?")
    assert server.requests == []


def test_a_session_that_returns_no_response_is_a_config_error(serve, connect):
    class FuturesSession(requests.Session):
        def request(self, *args: Any, **options: Any) -> Any:
            return object()

    with pytest.raises(ConfigError, match="returned a object instead of a response"):
        connect(serve(FINE), session=FuturesSession()).stream("?")


# ── mocks ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[False, True], ids=["own session", "given session"])
def options(request, session) -> dict[str, Any]:
    return {"session": session} if request.param else {}


class RecordedConnection(PlainConnection):
    """What VCR puts into the pools: a connection that sends nothing and plays an answer."""

    played = 0
    proxy_is_verified = is_verified = is_connected = True
    is_closed = False

    def __init__(self, host: str, port: int | None = None, **options: Any) -> None:
        super().__init__(host, port)

    def request(self, *args: Any, headers: Any = None, **options: Any) -> None:
        type(self).headers = headers

    def getresponse(self) -> Any:
        type(self).played += 1
        return raw_response()


def test_a_cassette_answers_alone_and_real_connections_serve_before_and_after_it(serve, connect, options):
    server = serve(FINE)
    client = connect(server, **options)
    RecordedConnection.played = 0
    with patch.object(urllib3.HTTPConnectionPool, "ConnectionCls", RecordedConnection):
        assert client.stream("?").collect().text == "Mocked."
    assert server.requests == []
    assert client.stream("?").collect().text == "Fine."
    with patch.object(urllib3.HTTPConnectionPool, "ConnectionCls", RecordedConnection):
        assert client.stream("?").collect().text == "Mocked."
    assert client.stream("?").collect().text == "Fine."
    assert (RecordedConnection.played, len(server.requests), server.connections) == (2, 2, 1)


class HeadersKept:
    """Keeps the headers that a session of another class sends, as caches do."""

    headers: Any = None

    def send(self, request: Any, **options: Any) -> requests.Response:
        type(self).headers = request.headers
        return super().send(request, **options)  # type: ignore[misc]


class CachingSession(HeadersKept, requests.Session):
    pass


class TokenSession(HeadersKept, requests.Session):
    def request(self, *args: Any, headers: Any = None, **options: Any) -> requests.Response:
        return super().request(*args, headers={**headers, "X-Tenant": "t1"}, **options)


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("kept_by", [RecordedConnection, CachingSession, TokenSession])
def test_headers_that_a_cassette_or_a_cache_keeps_can_be_written_and_read_again(serve, connect, key, kept_by):
    """YAML refuses subclasses of str, and a pickle has None in the place of a hidden text."""
    mocked = patch.object(urllib3.HTTPConnectionPool, "ConnectionCls", RecordedConnection)
    with requests.Session() if kept_by is RecordedConnection else kept_by() as session:
        session.auth = None if key else ("me", "hunter2-battery")
        client = connect(serve(FINE), session=session, api_key=key, http_headers={"X-Token": "t0ken-4711-x"})
        with mocked if kept_by is RecordedConnection else nullcontext():
            client.stream("?").collect()
    headers = dict(kept_by.headers)
    assert headers["X-Token"] == "t0ken-4711-x"
    assert headers["Authorization"].startswith(f"Bearer {key}" if key else "Basic ")
    assert {type(value) for value in headers.values()} == {str}
    assert pickle.loads(pickle.dumps(headers)) == headers


def test_why_limits_are_looked_at_between_reads_only_is_logged_once(serve, connect, caplog):
    client = connect(serve(FINE))
    with caplog.at_level("INFO"), patch.object(urllib3.HTTPConnectionPool, "ConnectionCls", RecordedConnection):
        for _ in range(2):
            client.stream("?").collect()
    assert [record.getMessage() for record in caplog.records if "between reads" in record.getMessage()] == [
        f"limits and cancel() take effect only between reads, because a class is replaced: {RecordedConnection!r}, "
        "<class 'socket.socket'>"
    ]


def test_connections_that_are_not_made_with_http_client_are_left_as_they_are(serve, connect):
    """As urllib3-future does, which takes the place of urllib3 under its name."""

    class OtherConnection:
        """Delegates to a real connection, and has no base class of http.client."""

        def __init__(self, *args: Any, **options: Any) -> None:
            vars(self)["real"] = urllib3.connection.HTTPConnection(*args, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(self.real, name, value)

    OtherConnection.__module__ = "urllib3.connection"
    server = serve(text_answer("one", "two"))
    client = connect(server)
    with patch.object(urllib3.HTTPConnectionPool, "ConnectionCls", OtherConnection):
        for _ in range(2):
            assert client.stream("?").collect().text == "onetwo"
    assert server.connections == 1


def test_sockets_that_a_mock_has_replaced_are_used_as_requests_uses_them(serve, connect, monkeypatch):
    import socket

    made = []

    class MockSocket(socket.socket):
        def __init__(self, *args: Any, **options: Any) -> None:
            made.append(1)
            super().__init__(*args, **options)

    server = serve(FINE)
    client = connect(server)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", MockSocket)
        assert client.stream("?").collect().text == "Fine."
    assert made
    assert client.stream("?").collect().text == "Fine."


def test_a_patched_send_of_all_adapters_lets_no_request_out(serve, connect, options):
    """As ``responses`` does."""

    def send(adapter: Any, request: Any, **_: Any) -> requests.Response:
        if refuse:
            raise requests.ConnectionError("no answer is registered")
        return adapter.build_response(request, raw_response())

    server, refuse = serve(FINE), False
    client = connect(server, request_max_retries=0, **options)
    with patch.object(HTTPAdapter, "send", send):
        assert client.stream("?").collect().text == "Mocked."
        refuse = True
        with pytest.raises(ConnectionFailed, match="no answer is registered"):
            client.stream("?")
    assert server.requests == []
    assert client.stream("?").collect().text == "Fine."


def test_a_patched_urlopen_of_all_pools_lets_no_request_out(serve, connect, options):
    """As ``pook`` does."""
    server = serve(FINE)
    client = connect(server, **options)
    assert client.stream("?").collect().text == "Fine."
    with patch.object(urllib3.HTTPConnectionPool, "urlopen", lambda *args, **options: raw_response()):
        assert client.stream("?").collect().text == "Mocked."
    assert client.stream("?").collect().text == "Fine."
    assert (len(server.requests), server.connections) == (2, 1)


def test_a_get_adapter_that_a_mock_leaves_on_a_session_changes_no_later_call(serve, connect, session):
    """As ``requests_mock`` does, which patches ``send``, sets ``get_adapter`` and restores a bound method."""
    mock, real = MockAdapter(raw_response), requests.Session.send

    def send(target: requests.Session, request: Any, **options: Any) -> requests.Response:
        before = target.get_adapter
        target.get_adapter = lambda url: mock  # type: ignore[method-assign]
        try:
            return real(target, request, **options)
        finally:
            target.get_adapter = before  # type: ignore[method-assign]

    server = serve(FINE, [stall()])
    client = connect(server, session=session, deadline=0.3)
    with patch.object(requests.Session, "send", send):
        assert client.stream("?").collect().text == "Mocked."
        session.get("http://127.0.0.1:9/")  # by the owner: the session has a get_adapter of its own now
    assert "get_adapter" in vars(session)
    assert client.stream("?").collect().text == "Fine."
    with within(0.5, least=0.2), pytest.raises(DeadlineExceeded):
        client.stream("?")
    assert mock.sent == 2


def test_a_send_that_is_set_on_one_session_is_used(serve, connect, session):
    server = serve(FINE)
    client = connect(server, session=session)
    mock = MockAdapter(raw_response)
    session.send = MethodType(lambda self, request, **options: mock.send(request), session)
    assert client.stream("?").collect().text == "Mocked."
    del session.send
    assert client.stream("?").collect().text == "Fine."
    assert len(server.requests) == 1


def test_a_session_class_that_is_put_in_the_place_of_requests_own_is_used_while_it_is_there(serve, connect):
    """As ``requests_cache.install_cache`` does."""
    made: list[CountingSession] = []

    class Installed(CountingSession):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    server = serve(FINE)
    client = connect(server)
    assert client.stream("?").collect().text == "Fine."
    with patch.object(requests, "Session", Installed):
        for _ in range(2):
            assert client.stream("?").collect().text == "Fine."
    assert client.stream("?").collect().text == "Fine."
    assert [session.sent for session in made] == [2]


class ReadOnly:
    """A raw response that can read, and nothing else."""

    status, reason, headers = 200, "OK", urllib3.HTTPHeaderDict()

    def __init__(self, *pieces: bytes, seconds: float = 0.0) -> None:
        self.pieces, self.seconds = list(pieces), seconds

    def read(self, size: int) -> bytes:
        time.sleep(self.seconds)
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        pass


def ready_response() -> requests.Response:
    """A response made by hand, without a raw one."""
    response = requests.Response()
    response.status_code, response._content, response._content_consumed = 200, ANSWER, True
    return response


@pytest.mark.parametrize(
    "make", [raw_response, lambda: ReadOnly(ANSWER), ready_response], ids=["urllib3", "file", "response"]
)
def test_a_response_without_a_socket_is_read_to_its_end(connect, session, make):
    session.mount("mock", mock := MockAdapter(make))
    session.mount("http://mock", mock)
    stream = connect("http://mock/v1", api_key=None, session=session).stream("?", heartbeat=1.0)
    assert stream.collect().text == "Mocked."
    stream.cancel()
    assert mock.sent == 1


def test_limits_are_looked_at_between_the_reads_of_a_response_without_a_socket(connect, session):
    def slow() -> ReadOnly:
        return ReadOnly(body("one "), body("two "), body("three "), seconds=0.15)

    session.mount("http://mock", MockAdapter(slow))
    client = connect("http://mock/v1", api_key=None, session=session, stream_max_retries=0, stream_idle_timeout=5)
    with pytest.raises(DeadlineExceeded) as caught:
        client.stream("?", deadline=0.2).collect()
    assert caught.value.partial.text == "one two "
    limits = {"first_event_timeout": 0.5, "stream_idle_timeout": 0.1, "stream_max_retries": 0}
    impatient = connect("http://mock/v1", api_key=None, session=session, **limits)
    with pytest.raises(IdleTimeout) as late:
        impatient.stream("?").collect()
    assert late.value.partial.text == "one two "
    stream = client.stream("?")
    next(stream)
    stream.cancel()
    with pytest.raises(Cancelled):
        list(stream)


# ── bodies that were read already ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("adapter", "name"), [(HTTPAdapter, "text"), (HTTPAdapter, "content"), (OwnAdapter, "text")])
def test_what_a_response_hook_has_read_is_streamed_from_the_response(serve, connect, session, adapter, name):
    session.mount("http://", adapter())
    kept = []
    session.hooks["response"].append(lambda response, **_: kept.append(getattr(response, name)))
    server = serve(text_answer("one ", "two"))
    client = connect(server, session=session)
    for _ in range(2):
        assert client.stream("?").collect().text == "one two"
    assert (len(kept), len(server.requests), server.connections) == (2, 2, 1)


def test_an_error_body_that_a_response_hook_has_read_is_in_the_error(serve, connect, session):
    session.hooks["response"].append(lambda response, **_: response.text and None)
    with pytest.raises(UnexpectedStatus, match="401: who are you"):
        connect(serve(status(401, "who are you")), session=session).stream("?")


@pytest.mark.parametrize("adapter", [HTTPAdapter, OwnAdapter])
@pytest.mark.parametrize(
    "consume",
    [
        lambda response: list(response.iter_lines()),
        lambda response: next(response.iter_lines()),
        lambda response: response.raw.read(),
        lambda response: response.close(),
    ],
    ids=["all lines", "one line", "raw", "close"],
)
def test_a_stream_that_a_response_hook_has_consumed_is_an_error_after_one_request(
    serve, connect, session, adapter, consume
):
    session.mount("http://", adapter())
    session.hooks["response"].append(lambda response, **_: consume(response) and None)
    server = serve(FINE, status(500, "broken"))
    client = connect(server, session=session, request_max_retries=0)
    with pytest.raises(ProtocolViolation, match="a response hook of the session has consumed or closed the body"):
        client.stream("?").collect()
    assert len(server.requests) == 1
    with pytest.raises(UnexpectedStatus, match="500"):
        client.stream("?")


def test_the_limits_hold_while_a_response_hook_reads(serve, connect, session, context):
    session.hooks["response"].append(lambda response, **_: response.text and None)
    client = connect(serve([head(), *THREE, stall()], tls=context), session=session, deadline=0.3)
    with within(0.5, least=0.2), pytest.raises(DeadlineExceeded):
        client.stream("?")


def test_a_response_of_another_request_that_a_hook_returns_is_read(serve, connect, session):
    other = serve(text_answer("Other."))
    session.hooks["response"].append(lambda response, **_: requests.post(other.url, stream=True))
    assert connect(serve(FINE), session=session).stream("?").collect().text == "Other."


# ── authentication of the session ───────────────────────────────────────────────────────────────────────────────


class Token(AuthBase):
    """Authentication by a header of its own."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Token"] = "t1"
        return request


def set_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"AWS4 {len(request.body or b'')}"  # signatures need the body
    return request


BASIC = "Basic " + base64.b64encode(b"ann:secret").decode()


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (("ann", "secret"), f"Authorization: {BASIC}"),
        (HTTPBasicAuth("ann", "secret"), f"Authorization: {BASIC}"),
        (Token(), "X-Token: t1"),
        (set_token, "Authorization: AWS4 "),
    ],
    ids=["pair", "basic", "AuthBase", "callable"],
)
def test_the_auth_of_a_session_is_used_if_the_provider_has_no_key(serve, connect, session, auth, header):
    with open(os.environ["NETRC"], "w") as netrc:
        netrc.write("machine 127.0.0.1 login wrong password wrong\n")
    session.auth = auth
    server = serve(FINE)
    assert connect(server, session=session, api_key=None).stream("?").collect().text == "Fine."
    assert header in str(server.requests[0].headers)


@pytest.mark.parametrize("auth", [None, ()], ids=["none", "empty"])
def test_without_auth_and_key_no_netrc_entry_is_used(serve, connect, session, auth):
    with open(os.environ["NETRC"], "w") as netrc:
        netrc.write("machine 127.0.0.1 login wrong password wrong\n")
    session.auth = auth
    server = serve(FINE)
    assert connect(server, session=session, api_key=None).stream("?").collect().text == "Fine."
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "settings",
    [{}, {"api_key": None, "http_headers": {"authorization": f"Bearer {KEY}"}}],
    ids=["api_key", "http_headers"],
)
def test_a_key_of_the_provider_wins_over_the_auth_of_a_session_and_says_so_once(serve, connect, session, settings):
    session.auth = ("ann", "secret")
    server = serve(FINE)
    client = connect(server, session=session, **settings)
    with pytest.warns(UserWarning, match="the session's auth is not used") as warned:
        assert client.stream("?").collect().text == "Fine."
    assert [each.filename for each in warned] == [__file__]
    assert client.stream("?").collect().text == "Fine."  # a second warning would be an error
    assert {each.headers["Authorization"] for each in server.requests} == {f"Bearer {KEY}"}


CHALLENGE = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth"'}


@pytest.mark.parametrize("adapter", [HTTPAdapter, OwnAdapter])
def test_digest_authentication_answers_a_refusal_with_the_same_body(serve, connect, session, context, adapter):
    session.mount("http", adapter())
    session.auth = HTTPDigestAuth("ann", "secret")
    server = serve(status(401, "who?", CHALLENGE), FINE, tls=context)
    stream = connect(server, session=session, api_key=None).stream("?")
    assert stream.collect().text == "Fine."
    assert len(stream.attempts) == 1
    assert server.connections == 1
    refused, answered = server.requests
    assert refused.body == answered.body
    assert re.match(r'Digest username="ann".*nonce="n1"', answered.headers["Authorization"])


def test_digest_authentication_that_fails_is_a_refusal_with_its_body(serve, connect, session):
    session.auth = HTTPDigestAuth("ann", "wrong")
    server = serve(status(401, "who?", CHALLENGE))
    with pytest.raises(UnexpectedStatus, match="401: who"):
        connect(server, session=session, api_key=None).stream("?")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        [head(401, CHALLENGE), forever(chunk(b"x" * 65536))],
        [head(401, CHALLENGE), chunk(b"half"), cut()],
    ],
    ids=["endless", "cut"],
)
def test_digest_authentication_reads_a_bounded_part_of_a_refusal(serve, connect, session, refusal):
    session.auth = HTTPDigestAuth("ann", "secret")
    server = serve(refusal, FINE)
    with within(1.0):
        assert connect(server, session=session, api_key=None).stream("?").collect().text == "Fine."
    assert server.connections == 2


@pytest.mark.parametrize("script", [[stall()], drip(b"", 0.02)], ids=["silent", "drip"])
def test_the_deadline_holds_for_the_second_request_of_digest_authentication(serve, connect, session, script):
    session.auth = HTTPDigestAuth("ann", "secret")
    server = serve(status(401, "who?", CHALLENGE), script if isinstance(script, list) else [script])
    client = connect(server, session=session, api_key=None, deadline=0.3)
    with within(0.5, least=0.2), pytest.raises(DeadlineExceeded):
        client.stream("?").collect()


def test_a_connection_for_which_a_pool_has_no_place_is_closed(serve, connect, session):
    session.mount("http://", HTTPAdapter(pool_maxsize=1))
    server = serve(FINE)
    client = connect(server, session=session)
    streams = [client.stream("Hi") for _ in range(2)]
    assert [stream.collect().text for stream in streams] == ["Fine.", "Fine."]
    assert server.client_closed(2)
    assert client.stream("Hi").collect().text == "Fine."
    assert server.connections == 2
