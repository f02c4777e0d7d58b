"""Sockets, chunks and exchanges below HTTP: the cases that the fault tests do not cover."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support import alarm, within
from urllib3.exceptions import ProtocolError

from chatstream import Cancelled, IdleTimeout
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.response import Exchange, ScopedFile, ScopedResponse, whole_chunks
from chatstream.testing import chunk, cut, end, head, send, stall


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


# ── the file from which a response is read ──────────────────────────────────────────────────────────────────────


def test_reading_a_scoped_file_returns_the_available_bytes_and_then_the_end(pair):
    ours, theirs = pair
    with ScopedFile(ours, CancelScope()) as file:
        theirs.sendall(b"abc")
        assert (file.readable(), file.read(9), file.ended) == (True, b"abc", False)
        theirs.shutdown(socket.SHUT_WR)
        assert (file.read(9), file.ended) == (b"", True)


def assert_read_times_out(file: ScopedFile, scope: CancelScope, seconds: float) -> None:
    """Set a timeout of ``seconds``, and check that a read ends when it has passed."""
    with within(seconds + 0.1, least=seconds):
        scope.set_timeout(seconds, IdleTimeout)
        with pytest.raises(IdleTimeout):
            file.read(1)


def test_a_read_ends_at_the_timeout_of_its_scope(pair):
    scope = CancelScope()
    with ScopedFile(pair[0], scope) as file:
        assert_read_times_out(file, scope, 0.05)


def test_a_socket_timeout_before_that_of_the_scope_does_not_end_a_read(pair, monkeypatch):
    ours, theirs = pair
    scope = CancelScope()
    timeouts = itertools.chain([0.01], itertools.repeat(9.0))  # of the first recv, and of all others
    monkeypatch.setattr(CancelScope, "remaining", lambda _: next(timeouts))
    with ScopedFile(ours, scope) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        with within(0.1, least=0.03):
            threading.Timer(0.03, theirs.sendall, [b"b"]).start()
            assert file.read(1) == b"b"


def test_a_shortened_timeout_applies_to_the_next_read(pair):
    ours, theirs = pair
    scope = CancelScope()
    scope.set_timeout(9, IdleTimeout)
    with ScopedFile(ours, scope) as file:
        theirs.sendall(b"a")
        assert file.read(1) == b"a"
        assert_read_times_out(file, scope, 0.02)


def test_cancel_ends_a_read_of_a_scoped_file(pair):
    scope = CancelScope()
    scope.attach(pair[0])
    with ScopedFile(pair[0], scope) as file:
        threading.Timer(0.02, scope.cancel).start()
        with within(0.07), pytest.raises(Cancelled):
            file.read(1)


def test_signals_in_the_main_thread_do_not_extend_the_timeout_of_a_read(pair):
    scope = CancelScope()
    with alarm(lambda *_: None, 0.01, 0.01), ScopedFile(pair[0], scope) as file:
        assert_read_times_out(file, scope, 0.06)


def test_wait_of_a_scoped_file_returns_whether_bytes_arrive_in_time(pair):
    ours, theirs = pair
    with ScopedFile(ours, CancelScope()) as file:
        with within(0.1, least=0.02):
            assert not file.wait(0.02)
        theirs.sendall(b"a")
        with within(0.02):
            assert file.wait(9)


def test_wait_of_a_scoped_file_returns_true_for_bytes_that_tls_has_already_decrypted(pair):
    class Decrypted(socket.socket):
        def pending(self) -> int:
            return 1

    with Decrypted(fileno=pair[0].detach()) as sock, ScopedFile(sock, CancelScope()) as file:
        assert file.wait(0)


def test_a_scoped_file_does_not_shut_down_the_connection_of_a_parent_process(pair, monkeypatch):
    ours, theirs = pair
    with ScopedFile(ours, CancelScope()) as file:
        monkeypatch.setattr(CancelScope, "inherited", True)
        file.shut_down()
        theirs.sendall(b"a")
        assert file.read(1) == b"a"


def test_a_scoped_file_keeps_its_socket_open(pair):
    ours, theirs = pair
    file = ScopedFile(ours, CancelScope())
    ours.close()
    theirs.sendall(b"a")
    assert file.read(1) == b"a"
    file.close()


# ── complete chunks ─────────────────────────────────────────────────────────────────────────────────────────────


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
def test_complete_chunks_without_extensions_are_taken_from_the_buffer_together(buffer, parts, size):
    assert whole_chunks(buffer, limit=10) == (parts, size)


def test_chunks_of_any_size_and_with_extensions_are_read(serve, scoped_session, exchange):
    pieces = [b"a", b"b" * 100_000, b"c", b"d"]
    server = serve([head(), *map(chunk, pieces), send(b"1;x=y\r\ne\r\n"), chunk(b"f"), end()])
    with scoped_session.post(server.url, stream=True) as response:
        read = b""
        while data := response.raw.read1(65536):
            read += data
    assert read == b"".join(pieces) + b"ef"


@pytest.mark.parametrize("size", [b"-1", b"%x" % 2**48])
def test_a_chunk_of_impossible_size_raises_protocol_error(serve, scoped_session, exchange, size):
    server = serve([head(), send(size + b"\r\nabc"), stall()])
    with scoped_session.post(server.url, stream=True) as response, pytest.raises(ProtocolError) as caught:
        response.raw.read1(9)
    assert isinstance(caught.value.__cause__, http.client.IncompleteRead)


@pytest.mark.parametrize("line", [b"0", b"00", b"2", b""])
def test_a_connection_closed_inside_a_chunk_size_is_not_the_end_of_the_body(serve, scoped_session, exchange, line):
    server = serve([head(), chunk(b"abc"), send(line), cut()])
    with scoped_session.post(server.url, stream=True) as response:
        assert response.raw.read1(9) == b"abc"
        with pytest.raises(ProtocolError):
            response.raw.read1(9)
    assert exchange.response.file.ended


@pytest.mark.usefixtures("switch_often")
def test_closing_a_response_that_another_thread_reads_raises_nothing_in_the_thread_that_closes(exchange):
    """The one that closed looked into the buffer, which the other one might be freeing at that moment."""
    for _ in range(1500):
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        with ours, theirs:
            exchange.scope = CancelScope()
            exchange.scope.attach(ours)
            response = ScopedResponse(ours)
            response.begin()
            at_once = threading.Barrier(2)
            reading = threading.Thread(target=read_until_closed, args=(response, at_once))
            reading.start()
            at_once.wait(5)
            exchange.scope.cancel()
            response.close()
            reading.join(5)
            assert response.isclosed()


def test_a_response_whose_buffer_another_thread_has_closed_can_be_closed(exchange, pair):
    response = begun_response(pair)
    exchange.scope.cancel()
    response.fp.close()
    response.close()
    assert response.isclosed()


def test_the_buffer_of_a_response_is_dropped_once_although_two_threads_drop_it(exchange, pair):
    response = begun_response(pair)
    buffered = response.fp
    for _ in range(2):
        response._close_conn()
        assert response.fp is None
        assert buffered.closed


def begun_response(pair: tuple[socket.socket, socket.socket]) -> ScopedResponse:
    """A response of which the head and one of nine bytes have arrived."""
    ours, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")
    response = ScopedResponse(ours)
    response.begin()
    return response


def read_until_closed(response: ScopedResponse, at_once: threading.Barrier) -> None:
    at_once.wait(5)
    with suppress(AttributeError, ValueError, http.client.HTTPException, Cancelled):
        while response.read1(9):
            pass


# ── exchanges ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exchange_can_be_released_only_once(pair):
    exchange = Exchange(CancelScope())
    exchange.scope.attach(pair[0])
    assert [exchange.release(), exchange.release()] == [True, False]
    exchange.scope.cancel()
    pair[0].sendall(b"still open")
