"""What keeps a call from its server: resolvers, addresses and proxies that do not answer, and slow uploads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import requests.adapters
from proxy_server import ProxyServer, http_connect, silent, socks4, socks5
from support import THREE, alarm, cancelled, server_context, within

from chatstream import Cancelled, ChatStreamError, Client, ConfigError, ConnectionFailed, DeadlineExceeded
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.connecting import resolve
from chatstream.testing import Wire, drip, head, stall, text_answer, unread

OK = text_answer("fine")
NAME = "model.invalid"  # a name that no resolver knows (RFC 2606)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that replaces the lookup of names: their addresses, and the seconds that a lookup takes."""
    getaddrinfo = socket.getaddrinfo

    def replace(addresses: list[tuple[str, int]], seconds: float = 0.0) -> None:
        def look_up(host: str, port: int, *settings: int) -> Any:
            if host != NAME or socket.AI_NUMERICHOST in settings:
                return getaddrinfo(host, port, *settings)
            time.sleep(seconds)
            return [each for address in addresses for each in getaddrinfo(*address, *settings)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return replace


@pytest.fixture
def client_of(connect: Callable[..., Client]) -> Callable[..., Client]:
    """A function that makes a client without retries, and without a key, which may not be sent over plain http."""
    return lambda to, **options: connect(to, **{"request_max_retries": 0, "api_key": None, **options})


def error_of(client: Client, prompt: str = "Hi", **options: Any) -> ChatStreamError:
    with pytest.raises(ChatStreamError) as caught:
        client.stream(prompt, **options).collect()
    return caught.value


# ── the resolver ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_is_resolved_and_its_server_answers(client_of, serve, resolver):
    server = serve(OK)
    resolver([("127.0.0.1", server.port)])
    assert client_of(f"http://{NAME}:{server.port}/v1").stream("Hi").collect().text == "fine"


def test_a_slow_resolver_does_not_delay_the_deadline(client_of, resolver):
    resolver([], seconds=2.0)
    with within(0.5, least=0.2):
        error = error_of(client_of(f"http://{NAME}/v1"), deadline=0.2)
    assert isinstance(error, DeadlineExceeded)


def test_a_slow_resolver_does_not_delay_the_connect_timeout(client_of, resolver):
    resolver([], seconds=2.0)
    with within(0.5, least=0.2):
        error = error_of(client_of(f"http://{NAME}/v1", connect_timeout=0.2))
    assert isinstance(error, ConnectionFailed)
    assert "within 0.2 s (connect_timeout)" in str(error)


def test_a_slow_resolver_does_not_delay_cancel(client_of, resolver):
    resolver([], seconds=2.0)
    client = client_of(f"http://{NAME}/v1")
    threading.Timer(0.1, client.cancel).start()
    with within(0.2, least=0.1):
        assert isinstance(error_of(client), Cancelled)


def test_a_name_is_resolved_in_place_where_no_thread_can_start(monkeypatch, resolver):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    resolver([("127.0.0.1", 80)])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert resolve(NAME, 80, CancelScope())[0][3] == ("127.0.0.1", 80)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RuntimeError("no")], ids=repr)
def test_what_a_resolver_raises_in_its_thread_passes_to_the_caller(client_of, monkeypatch, error):
    def look_up(host: str, port: int, *settings: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "a name") if socket.AI_NUMERICHOST in settings else error

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(type(error)) as caught:
        client_of(f"http://{NAME}/v1").stream("Hi")
    assert caught.value is error


def test_an_address_is_not_looked_up_in_a_thread(monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    assert resolve("127.0.0.1", 80, CancelScope())[0][3] == ("127.0.0.1", 80)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_address_behind_addresses_that_do_not_answer_is_reached(client_of, serve, resolver, unanswered_port):
    server = serve(OK)
    dead = ("127.0.0.1", unanswered_port)
    resolver([dead, dead, ("127.0.0.1", server.port)])
    client = client_of(f"http://{NAME}:{server.port}/v1", connect_timeout=0.9)
    with within(0.9, least=0.6):
        assert client.stream("Hi").collect().text == "fine"


def test_addresses_that_do_not_answer_share_the_connect_timeout(client_of, resolver, unanswered_port):
    resolver([("127.0.0.1", unanswered_port)] * 3)
    with within(0.5, least=0.3):
        error = error_of(client_of(f"http://{NAME}:{unanswered_port}/v1", connect_timeout=0.3))
    assert isinstance(error, ConnectionFailed)
    assert error.retryable


def test_the_last_of_several_refusals_is_reported(client_of, resolver, refused_port):
    resolver([("127.0.0.1", refused_port)] * 2)
    assert "refused" in str(error_of(client_of(f"http://{NAME}:{refused_port}/v1")))


@pytest.mark.usefixtures("trusted")
def test_a_tls_handshake_that_is_never_answered_ends_at_the_connect_timeout(client_of, serve, tls):
    with within(0.5, least=0.2):
        error = error_of(client_of(serve([unread(), stall()], tls=tls), connect_timeout=0.2))
    assert isinstance(error, ConnectionFailed)


@pytest.mark.usefixtures("trusted")
def test_a_tls_handshake_that_drips_ends_at_the_connect_timeout(client_of, serve, tls):
    record = b"\x16\x03\x03\x40\x00\x02" + b"x" * 1000
    with within(0.6, least=0.3):
        error = error_of(client_of(serve([unread(), drip(record, 0.02)], tls=tls), connect_timeout=0.3))
    assert isinstance(error, ConnectionFailed)


# ── uploads ─────────────────────────────────────────────────────────────────────────────────────────────────────


def slow_reader(rate: int) -> Any:
    """A step that reads the request with ``rate`` bytes per second."""

    def step(wire: Wire) -> None:
        while wire._sock.recv(rate // 20):
            wire.wait(0.05)

    return step


class TestSlowUpload:
    PROMPT = "x" * 15_000_000  # more than the buffers of both sockets hold

    @pytest.fixture(params=["http", "https"])
    def server(self, request: pytest.FixtureRequest, serve: Any) -> Any:
        tls = None
        if request.param == "https":
            request.getfixturevalue("trusted")
            tls = request.getfixturevalue("tls")

        def start_tls(wire: Wire) -> None:
            if tls is not None:
                wire.start_tls(tls)

        return serve([unread(), start_tls, slow_reader(1_500_000)], tls=tls)

    def test_a_slow_upload_ends_at_the_deadline(self, client_of, server):
        client = client_of(server)
        with within(1.3, least=0.9):
            error = error_of(client, self.PROMPT, deadline=1.0)
        assert isinstance(error, DeadlineExceeded)

    def test_a_slow_upload_ends_at_the_first_event_timeout(self, client_of, server):
        client = client_of(server, first_event_timeout=0.5)
        with within(0.8, least=0.4), pytest.raises(ChatStreamError):
            client.stream(self.PROMPT)

    def test_cancel_ends_a_slow_upload(self, client_of, server):
        client = client_of(server)
        threading.Timer(0.5, client.cancel).start()
        with within(0.7, least=0.5):
            assert isinstance(error_of(client, self.PROMPT), Cancelled)

    def test_an_upload_may_take_longer_than_the_connect_timeout_as_long_as_it_goes_on(self, client_of, server):
        client = client_of(server, connect_timeout=0.4)
        with within(1.3, least=0.9):
            assert isinstance(error_of(client, self.PROMPT, deadline=1.0), DeadlineExceeded)


def refusing_early(then: Callable[[socket.socket], object]) -> Callable[[Wire], None]:
    """A step that reads the headers of a request, refuses it, and does not read its body."""

    def step(wire: Wire) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += wire._sock.recv(1)
        wire.send(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 4\r\n\r\nbig!")
        wire.wait(0.05)
        then(wire._sock)
        wire.stall()

    return step


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "then",
    [lambda sock: sock.close(), lambda sock: socket.socket.shutdown(sock, socket.SHUT_RDWR)],
    ids=["closes", "shuts-down"],
)
def test_a_refusal_during_an_upload_is_raised_and_its_connection_is_not_used_again(client_of, serve, tls, scheme, then):
    start = [lambda wire: wire.start_tls(tls)] if scheme == "https" else []
    server = serve([unread(), *start, refusing_early(then)])
    client = client_of(server.url.replace("http:", f"{scheme}:"))
    for calls in (1, 2):
        assert str(error_of(client, "x" * 8_000_000)).startswith("unexpected status 413: big!")
        assert server.connections == calls


# ── proxies ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ProxyServer]]:
    """A function that starts a proxy, named by ``ALL_PROXY``."""
    started: list[ProxyServer] = []

    def start(scheme: str, negotiate: Any, host: str = "127.0.0.1", **options: Any) -> ProxyServer:
        started.append(ProxyServer(negotiate, **options))
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{host}:{started[-1].port}")
        return started[-1]

    yield start
    for each in started:
        each.__exit__(None, None, None)


def test_a_proxy_that_is_silent_after_connect_ends_at_the_connect_timeout(client_of, proxy):
    proxy("http", silent)
    with within(0.5, least=0.2):
        error = error_of(client_of(f"https://{NAME}/v1", connect_timeout=0.2))
    assert isinstance(error, ConnectionFailed)


def test_a_proxy_that_drips_its_answer_ends_at_the_connect_timeout(client_of, proxy):
    def drip_answer(sock: socket.socket) -> tuple[str, int]:
        while True:
            sock.sendall(b"H")
            time.sleep(0.02)

    proxy("http", drip_answer)
    with within(0.6, least=0.3):
        error = error_of(client_of(f"https://{NAME}/v1", connect_timeout=0.3))
    assert isinstance(error, ConnectionFailed)


@pytest.fixture
def https_pair(authority: Any, serve: Any, proxy: Any) -> Any:
    """A function that starts a server behind a proxy, both with TLS; returns the URL of the server."""

    def start(*scripts: Any) -> str:
        proxy("https", http_connect, tls=server_context(authority, "127.0.0.1"))
        server = serve(*scripts, tls=server_context(authority, NAME))
        return f"https://{NAME}:{server.port}/v1"

    return start


@pytest.mark.usefixtures("trusted")
class TestHttpsProxy:
    def test_a_stream_through_an_https_proxy_is_complete(self, client_of, https_pair):
        client = client_of(https_pair(OK))
        assert [client.stream("Hi").collect().text for _ in range(2)] == ["fine", "fine"]

    def test_cancel_wakes_a_stream_through_an_https_proxy(self, client_of, https_pair):
        cancelled(client_of(https_pair([head(), *THREE, stall()])).stream("Hi"))

    def test_closing_a_stream_through_an_https_proxy_raises_nothing(self, client_of, https_pair):
        stream = client_of(https_pair([head(), *THREE, stall()])).stream("Hi")
        for _ in zip(stream, range(3), strict=False):
            pass
        with within(0.1):
            stream.close()

    def test_breaking_out_of_a_stream_through_an_https_proxy_raises_nothing(self, client_of, https_pair):
        with within(1.0):
            for _ in client_of(https_pair([head(), *THREE, stall()])).stream("Hi").text():
                break

    def test_a_deadline_ends_a_stream_that_drips_tls_through_an_https_proxy(self, client_of, https_pair):
        def drip_record(wire: Wire) -> None:
            for _ in range(200):
                wire.send(b":")
                wire.wait(0.02)

        client = client_of(https_pair([head(), *THREE, drip_record]))
        with within(0.9, least=0.4):
            assert isinstance(error_of(client, deadline=0.5), DeadlineExceeded)

    def test_an_https_proxy_that_is_silent_ends_at_the_connect_timeout(self, client_of, proxy, authority):
        proxy("https", silent, tls=server_context(authority, "127.0.0.1"))
        with within(0.6, least=0.2):
            error = error_of(client_of(f"https://{NAME}/v1", connect_timeout=0.3))
        assert isinstance(error, ConnectionFailed)


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
class TestSocksProxy:
    def test_a_stream_through_a_socks_proxy_is_complete_and_its_connection_reused(
        self, client_of, serve, proxy, resolver, scheme
    ):
        server, relay = serve(OK), proxy(scheme, socks5)
        resolver([("127.0.0.1", server.port)])
        client = client_of(f"http://{NAME}:{server.port}/v1")
        assert [client.stream("Hi").collect().text for _ in range(2)] == ["fine", "fine"]
        assert relay.hosts == [NAME if scheme == "socks5h" else "127.0.0.1"]

    def test_cancel_wakes_a_stream_through_a_socks_proxy(self, client_of, serve, proxy, resolver, scheme):
        server = serve([head(), *THREE, stall()])
        proxy(scheme, socks5)
        resolver([("127.0.0.1", server.port)])
        cancelled(client_of(f"http://{NAME}:{server.port}/v1").stream("Hi"))

    def test_a_socks_proxy_that_is_silent_ends_at_the_connect_timeout(self, client_of, proxy, resolver, scheme):
        proxy(scheme, silent)
        resolver([("127.0.0.1", 80)])
        with within(0.6, least=0.2):
            error = error_of(client_of(f"http://{NAME}/v1", connect_timeout=0.3))
        assert isinstance(error, ConnectionFailed)

    def test_a_slow_stream_through_a_socks_proxy_ends_at_its_idle_timeout(
        self, client_of, serve, proxy, resolver, scheme
    ):
        server = serve([head(), *THREE, stall()])
        proxy(scheme, socks5)
        resolver([("127.0.0.1", server.port)])
        client = client_of(f"http://{NAME}:{server.port}/v1", stream_idle_timeout=0.3, stream_max_retries=0)
        with within(0.6, least=0.3):
            assert type(error_of(client)).__name__ == "IdleTimeout"


@pytest.mark.usefixtures("trusted")
def test_tls_through_a_socks_proxy_is_verified_against_the_name_of_the_server(client_of, serve, proxy, authority):
    proxy("socks5h", socks5)
    good = serve(OK, tls=server_context(authority, NAME))
    assert client_of(f"https://{NAME}:{good.port}/v1").stream("Hi").collect().text == "fine"
    other = serve(OK, tls=server_context(authority, "other.invalid"))
    assert "certificate" in str(error_of(client_of(f"https://{NAME}:{other.port}/v1")))


def test_a_socks_proxy_that_drips_its_answer_ends_at_the_connect_timeout(client_of, proxy):
    def drip_answer(sock: socket.socket) -> tuple[str, int]:
        sock.recv(10)
        for byte in b"\x05\x00\x05\x00\x00\x03\xff" + b"x" * 300:
            sock.sendall(bytes([byte]))
            time.sleep(0.02)
        return NAME, 80

    proxy("socks5h", drip_answer)
    with within(0.6, least=0.3):
        error = error_of(client_of(f"http://{NAME}/v1", connect_timeout=0.3))
    assert isinstance(error, ConnectionFailed)


def test_an_exception_of_a_signal_handler_passes_while_the_first_of_two_socks_proxies_is_silent(
    client_of, proxy, resolver, monkeypatch
):
    error = OSError("too long")

    def handler(number: int, frame: Any) -> None:
        raise error

    relays = [ProxyServer(silent), ProxyServer(socks5)]
    resolver([("127.0.0.1", relay.port) for relay in relays])
    monkeypatch.setenv("HTTP_PROXY", f"socks5h://{NAME}:1080")
    with relays[0], relays[1], alarm(handler, 0.2), within(0.5, least=0.2), pytest.raises(type(error)) as caught:
        client_of("http://127.0.0.1:1/v1").stream("Hi")
    assert caught.value is error
    assert relays[1].hosts == []


def test_a_name_with_an_ipv6_address_first_is_reached_through_socks4(client_of, serve, proxy, monkeypatch):
    server, relay, getaddrinfo = serve(OK), proxy("socks4", socks4), socket.getaddrinfo

    def look_up(host: str, port: int, *settings: int) -> Any:
        if host != NAME or socket.AI_NUMERICHOST in settings:
            return getaddrinfo(host, port, *settings)
        return [each for address in ("::1", "127.0.0.1") for each in getaddrinfo(address, port, *settings)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert client_of(f"http://{NAME}:{server.port}/v1").stream("Hi").collect().text == "fine"
    assert relay.hosts == ["127.0.0.1"]


def test_a_socks_proxy_that_refuses_raises_connection_failed(client_of, proxy):
    def refuse(sock: socket.socket) -> tuple[str, int]:
        sock.recv(10)
        sock.sendall(b"\x05\xff")
        raise ConnectionError

    proxy("socks5h", refuse)
    assert isinstance(error_of(client_of(f"http://{NAME}/v1")), ConnectionFailed)


def test_a_socks_proxy_without_pysocks_raises_config_error_that_says_what_to_install(client_of, proxy, monkeypatch):
    def missing(*args: Any, **options: Any) -> None:
        """What requests has in place of urllib3's class where PySocks is not installed."""
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", missing)
    proxy("socks5h", socks5)
    error = error_of(client_of(f"http://{NAME}/v1"))
    assert isinstance(error, ConfigError)
    assert 'pip install "chatstream-py[socks]"' in str(error)


def test_socket_options_that_name_a_transport_are_understood(client_of, serve):
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, "tcp"), (socket.IPPROTO_UDP, 1, 1, "udp")]
    with requests.Session() as session:
        adapter: Any = session.get_adapter("http://127.0.0.1/")
        adapter.poolmanager.connection_pool_kw["socket_options"] = options
        assert client_of(serve(OK), session=session).stream("Hi").collect().text == "fine"
