"""Connections whose every wait asks the watch: what the fault table does not see."""

from __future__ import annotations

import http.client
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from support import within
from urllib3.exceptions import ProtocolError

from chatstream import Cancelled, DeadlineExceeded, IdleTimeout
from chatstream.sockets import Exchange, WatchedAdapter, WatchedFile, current_exchange, whole_chunks
from chatstream.testing import chunk, end, head, send, stall, status, unread
from chatstream.watch import LONGEST_WAIT, Watch

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere sockets are polled")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session of requests over watched connections."""
    with requests.Session() as session:
        session.mount("http://", WatchedAdapter())
        session.mount("https://", WatchedAdapter())
        yield session


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """The exchange of this thread; each test gives it the watch it wants."""
    exchange = Exchange(Watch())
    token = current_exchange.set(exchange)
    yield exchange
    current_exchange.reset(token)
    exchange.watch.release()


# ── the file a response is read from ────────────────────────────────────────────────────────────────────────────


def test_a_file_gives_what_has_come_and_then_the_end(pair):
    ours, theirs = pair
    with WatchedFile(ours, Watch()) as file:
        theirs.sendall(b"abc")
        assert (file.readable(), file.read(9), file.ended) == (True, b"abc", False)
        theirs.shutdown(socket.SHUT_WR)
        assert (file.read(9), file.ended) == (b"", True)


def test_a_file_waits_no_longer_than_the_watch_allows(pair):
    watch = Watch()
    watch.allow(0.05, IdleTimeout)
    with WatchedFile(pair[0], watch) as file, within(0.1, least=0.05), pytest.raises(IdleTimeout):
        file.read(1)


def test_a_socket_that_gives_up_early_is_asked_again(pair):
    ours, theirs = pair
    watch = Watch()
    watch.allow(0.01, IdleTimeout)
    with WatchedFile(ours, watch) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        watch.allow(9, IdleTimeout)
        threading.Timer(0.03, theirs.sendall, [b"b"]).start()
        with within(0.1, least=0.02):
            assert file.read(1) == b"b"


def test_a_shorter_limit_counts_at_once(pair):
    ours, theirs = pair
    watch = Watch()
    watch.allow(9, IdleTimeout)
    with WatchedFile(ours, watch) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        watch.allow(0.02, IdleTimeout)
        with within(0.1, least=0.02), pytest.raises(IdleTimeout):
            file.read(1)


def in_a_thread(read: Callable[[], Any]) -> Any:
    """What ``read`` returns or raises in a thread that is not the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read).result()


def waiting_in_kernel(file: WatchedFile) -> WatchedFile:
    in_a_thread(file.wait_in_kernel)
    return file


@on_linux
def test_where_recv_itself_waits_the_limits_are_the_same(pair):
    ours, theirs = pair
    watch = Watch()
    watch.allow(9, IdleTimeout)
    with waiting_in_kernel(WatchedFile(ours, watch)) as file:
        assert ours.gettimeout() is None
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        watch.allow(0.02, IdleTimeout)
        with within(0.1, least=0.02), pytest.raises(IdleTimeout):
            file.read(1)


@on_linux
def test_where_recv_itself_waits_it_is_asked_again_too(pair):
    ours, theirs = pair
    watch = Watch()
    watch.allow(0.01, IdleTimeout)
    with waiting_in_kernel(WatchedFile(ours, watch)) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        watch.allow(9, IdleTimeout)
        threading.Timer(0.03, theirs.sendall, [b"b"]).start()
        with within(0.1, least=0.02):
            assert file.read(1) == b"b"


@on_linux
def test_where_recv_itself_waits_cancel_wakes_it(pair):
    watch = Watch()
    watch.attach(pair[0])
    with waiting_in_kernel(WatchedFile(pair[0], watch)) as file:
        threading.Timer(0.02, watch.cancel).start()
        with within(0.07), pytest.raises(Cancelled):
            file.read(1)


def test_in_the_main_thread_signals_extend_no_wait(pair):
    watch = Watch()
    watch.allow(0.06, IdleTimeout)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        with WatchedFile(pair[0], watch) as file:
            file.wait_in_kernel()
            with within(0.2, least=0.06), pytest.raises(IdleTimeout):
                file.read(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_socket_of_another_kind_waits_as_it_knows(pair):
    class Wrapped(socket.socket):
        pass

    with Wrapped(fileno=pair[0].detach()) as sock, waiting_in_kernel(WatchedFile(sock, Watch())) as file:
        pair[1].sendall(b"a")
        assert file.read(1) == b"a"
        assert sock.gettimeout() == LONGEST_WAIT


def test_a_file_that_is_cancelled_gives_nothing_more(pair):
    watch = Watch()
    watch.attach(pair[0])
    with WatchedFile(pair[0], watch) as file:
        threading.Timer(0.02, watch.cancel).start()
        with within(0.07), pytest.raises(Cancelled):
            file.read(1)


def test_a_file_tells_whether_anything_comes(pair):
    ours, theirs = pair
    with WatchedFile(ours, Watch()) as file:
        with within(0.1, least=0.02):
            assert not file.wait(0.02)
        theirs.sendall(b"a")
        with within(0.02):
            assert file.wait(9)


def test_what_tls_has_decrypted_counts_as_come(pair):
    class Decrypted(socket.socket):
        def pending(self) -> int:
            return 1

    with Decrypted(fileno=pair[0].detach()) as sock, WatchedFile(sock, Watch()) as file:
        assert file.wait(0)


def test_a_file_keeps_its_socket_open(pair):
    ours, theirs = pair
    file = WatchedFile(ours, Watch())
    ours.close()
    theirs.sendall(b"a")
    assert file.read(1) == b"a"
    file.close()


# ── whole chunks at once ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("buffer", "parts", "size"),
    [
        (b"", [], 0),
        (b"\r\n", [], 0),
        (b"3\r\nabc\r\n", [b"abc"], 8),
        (b"3\r\nabc\r\n2\r\nde\r\n", [b"abc", b"de"], 15),
        (b"3\r\nabc\r\n2\r\nde\r", [b"abc"], 8),
        (b"3\r\nabc\r\n2\r\nd", [b"abc"], 8),
        (b"3\r\nabc\r\n2", [b"abc"], 8),
        (b"3\r\nabc", [], 0),
        (b"3\r\nabcd", [], 0),
        (b"3\r\nabc\r\n0\r\n\r\n", [b"abc"], 8),
        (b"3;name=value\r\nabc\r\n", [], 0),
        (b"-3\r\nabc\r\n", [], 0),
        (b"xyz\r\nabc\r\n", [], 0),
        (b"1_0\r\nabc\r\n", [], 0),
        (b"0" * 20 + b"3\r\nabc\r\n", [], 0),
        (b"\r\n3\r\nabc\r\n", [], 0),
        (b"A\r\n" + b"a" * 10 + b"\r\n", [b"a" * 10], 15),
        (b"b\r\n" + b"a" * 11 + b"\r\n", [], 0),
        (b"6\r\nabcdef\r\n5\r\nabcde\r\n", [b"abcdef"], 11),
    ],
)
def test_plain_and_whole_chunks_are_taken_at_once(buffer, parts, size):
    assert whole_chunks(buffer, limit=10) == (parts, size)


def test_chunks_of_every_kind_are_joined(serve, session, exchange):
    pieces = [b"a", b"b" * 100_000, b"c", b"d"]
    server = serve([head(), *map(chunk, pieces), send(b"1;x=y\r\ne\r\n"), chunk(b"f"), end()])
    with session.post(server.url, stream=True) as response:
        read = b""
        while data := response.raw.read1(65536):
            read += data
    assert read == b"".join(pieces) + b"ef"


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_outside_of_a_call_nothing_is_watched(serve, session):
    server = serve(status(200, "fine"))
    assert session.post(server.url, timeout=5).text == "fine"
    assert session.post(server.url, timeout=None).text == "fine"
    assert server.connections == 1


def test_an_exchange_learns_what_happened_below_http(serve, session, exchange):
    server = serve(status(200, "fine"))
    session.post(server.url)
    assert (exchange.reused, exchange.sent) == (False, True)
    session.post(server.url)
    assert (exchange.reused, exchange.sent) == (True, True)
    assert exchange.response is not None


@pytest.mark.usefixtures("trusted")
def test_a_fresh_tls_connection_is_not_taken_for_a_reused_one(serve, session, exchange, tls):
    server = serve(status(200, "fine"), tls=tls)  # urllib3 connects it before there is a request
    session.post(server.url)
    assert (exchange.reused, exchange.sent) == (False, True)
    session.post(server.url)
    assert (exchange.reused, exchange.sent) == (True, True)


def test_an_address_that_refuses_is_followed_by_the_next(serve, session, exchange, monkeypatch, dead):
    server = serve(status(200, "fine"))
    real = socket.getaddrinfo

    def both(host: str, port: int, *args: Any) -> Any:
        return real("127.0.0.1", dead, *args) + real("127.0.0.1", port, *args)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert session.post(f"http://two.invalid:{server.port}/").text == "fine"


def test_a_name_without_an_address_is_no_connection(session, exchange, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    with pytest.raises(requests.ConnectionError, match="the name has no address"):
        session.post("http://empty.invalid/")


def test_a_name_that_does_not_resolve_is_told_so(session, exchange, monkeypatch):
    def nobody(*args: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(requests.ConnectionError, match="unknown"):
        session.post("http://nowhere.invalid/")


def test_a_connect_ends_after_its_timeout(session, exchange, deaf):
    with within(0.2, least=0.1), pytest.raises(requests.ConnectTimeout):
        session.post(f"http://127.0.0.1:{deaf}/", timeout=0.1)


def test_connections_to_a_proxy_are_watched_too(serve, session, exchange):
    proxy = serve(status(200, "fine"))
    answer = session.post("http://api.invalid/", proxies={"http": f"http://127.0.0.1:{proxy.port}"})
    assert answer.text == "fine"
    assert exchange.sent
    assert proxy.requests[0].path == "http://api.invalid/"


def test_the_deadline_ends_a_connect(serve, session, exchange, tls):
    server = serve([unread(), stall()], tls=tls)
    exchange.watch = Watch(deadline=0.1)
    with within(0.2), pytest.raises(requests.RequestException):
        session.post(server.url, timeout=5)
    assert isinstance(exchange.watch.verdict, DeadlineExceeded)


def test_cancel_reaches_a_handshake(serve, session, exchange, tls):
    server = serve([unread(), stall()], tls=tls)
    threading.Timer(0.05, exchange.watch.cancel).start()
    with within(0.1), pytest.raises((requests.RequestException, Cancelled)):
        session.post(server.url, timeout=5)
    assert isinstance(exchange.watch.verdict, Cancelled)


def test_a_cancelled_call_does_not_even_connect(serve, session, exchange):
    server = serve(status(200))
    exchange.watch.cancel()
    with pytest.raises(Cancelled):
        session.post(server.url)
    assert server.requests == []


@pytest.mark.parametrize("size", [b"-1", b"%x" % 2**48])
def test_a_chunk_of_impossible_size_is_refused(serve, session, exchange, size):
    server = serve([head(), send(size + b"\r\nabc"), stall()])
    with session.post(server.url, stream=True) as response, pytest.raises(ProtocolError) as caught:
        response.raw.read1(9)
    assert isinstance(caught.value.__cause__, http.client.IncompleteRead)
