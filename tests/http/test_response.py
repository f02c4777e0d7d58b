"""One request and its answer below HTTP: what the fault table does not see."""

from __future__ import annotations

import http.client
import itertools
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from support import within
from urllib3.exceptions import ProtocolError

from chatstream import Cancelled, IdleTimeout
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.response import Exchange, ScopedFile, whole_chunks
from chatstream.testing import chunk, cut, end, head, send, stall


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


# ── the file a response is read from ────────────────────────────────────────────────────────────────────────────


def test_a_file_gives_what_has_come_and_then_the_end(pair):
    ours, theirs = pair
    with ScopedFile(ours, CancelScope()) as file:
        theirs.sendall(b"abc")
        assert (file.readable(), file.read(9), file.ended) == (True, b"abc", False)
        theirs.shutdown(socket.SHUT_WR)
        assert (file.read(9), file.ended) == (b"", True)


def gives_up(file: ScopedFile, scope: CancelScope, seconds: float) -> None:
    """Reading ends when the scope has allowed so many seconds, and these are over."""
    with within(seconds + 0.1, least=seconds):
        scope.set_timeout(seconds, IdleTimeout)
        with pytest.raises(IdleTimeout):
            file.read(1)


def test_a_file_waits_no_longer_than_the_watch_allows(pair):
    scope = CancelScope()
    with ScopedFile(pair[0], scope) as file:
        gives_up(file, scope, 0.05)


def test_a_socket_that_gives_up_early_is_asked_again(pair, monkeypatch):
    ours, theirs = pair
    scope = CancelScope()
    asked = itertools.chain([0.01], itertools.repeat(9.0))  # how long the first recv may take, and all others
    monkeypatch.setattr(CancelScope, "remaining", lambda _: next(asked))
    with ScopedFile(ours, scope) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        with within(0.1, least=0.03):
            threading.Timer(0.03, theirs.sendall, [b"b"]).start()
            assert file.read(1) == b"b"


def test_a_shorter_limit_counts_at_once(pair):
    ours, theirs = pair
    scope = CancelScope()
    scope.set_timeout(9, IdleTimeout)
    with ScopedFile(ours, scope) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        gives_up(file, scope, 0.02)


def test_a_file_that_is_cancelled_gives_nothing_more(pair):
    scope = CancelScope()
    scope.attach(pair[0])
    with ScopedFile(pair[0], scope) as file:
        threading.Timer(0.02, scope.cancel).start()
        with within(0.07), pytest.raises(Cancelled):
            file.read(1)


def test_in_the_main_thread_signals_extend_no_wait(pair):
    scope = CancelScope()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        with ScopedFile(pair[0], scope) as file:
            gives_up(file, scope, 0.06)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_file_tells_whether_anything_comes(pair):
    ours, theirs = pair
    with ScopedFile(ours, CancelScope()) as file:
        with within(0.1, least=0.02):
            assert not file.wait(0.02)
        theirs.sendall(b"a")
        with within(0.02):
            assert file.wait(9)


def test_what_tls_has_decrypted_counts_as_come(pair):
    class Decrypted(socket.socket):
        def pending(self) -> int:
            return 1

    with Decrypted(fileno=pair[0].detach()) as sock, ScopedFile(sock, CancelScope()) as file:
        assert file.wait(0)


def test_a_file_keeps_its_socket_open(pair):
    ours, theirs = pair
    file = ScopedFile(ours, CancelScope())
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


def test_chunks_of_every_kind_are_joined(serve, watched, exchange):
    pieces = [b"a", b"b" * 100_000, b"c", b"d"]
    server = serve([head(), *map(chunk, pieces), send(b"1;x=y\r\ne\r\n"), chunk(b"f"), end()])
    with watched.post(server.url, stream=True) as response:
        read = b""
        while data := response.raw.read1(65536):
            read += data
    assert read == b"".join(pieces) + b"ef"


@pytest.mark.parametrize("size", [b"-1", b"%x" % 2**48])
def test_a_chunk_of_impossible_size_is_refused(serve, watched, exchange, size):
    server = serve([head(), send(size + b"\r\nabc"), stall()])
    with watched.post(server.url, stream=True) as response, pytest.raises(ProtocolError) as caught:
        response.raw.read1(9)
    assert isinstance(caught.value.__cause__, http.client.IncompleteRead)


@pytest.mark.parametrize("line", [b"0", b"00", b"2", b""])
def test_a_chunk_size_that_is_cut_is_no_end(serve, watched, exchange, line):
    server = serve([head(), chunk(b"abc"), send(line), cut()])
    with watched.post(server.url, stream=True) as response:
        assert response.raw.read1(9) == b"abc"
        with pytest.raises(ProtocolError):
            response.raw.read1(9)
    assert exchange.response.file.ended


# ── whose the connection is ─────────────────────────────────────────────────────────────────────────────────────


def test_an_exchange_is_left_once(pair):
    exchange = Exchange(CancelScope())
    exchange.scope.attach(pair[0])
    assert [exchange.release(), exchange.release()] == [True, False]
    exchange.scope.cancel()
    pair[0].sendall(b"still open")
