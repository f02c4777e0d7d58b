"""Connections whose waits observe the cancel scope: the cases that the fault tests do not cover."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import requests
from support import within

from chatstream import Cancelled, ConnectionFailed, DeadlineExceeded
from chatstream._http.cancel_scope import CancelScope
from chatstream.testing import chunk, head, stall, status, unread


def test_a_scoped_adapter_works_without_a_current_exchange(serve, scoped_session):
    server = serve(status(200, "fine"))
    assert scoped_session.post(server.url, timeout=5).text == "fine"
    assert scoped_session.post(server.url, timeout=None).text == "fine"
    assert server.connections == 1


def test_an_exchange_records_whether_its_connection_was_reused_and_its_request_sent(serve, scoped_session, exchange):
    server = serve(status(200, "fine"))
    scoped_session.post(server.url)
    assert (exchange.reused, exchange.sent) == (False, True)
    scoped_session.post(server.url)
    assert (exchange.reused, exchange.sent) == (True, True)
    assert exchange.response is not None


def test_a_connection_is_closed_that_one_thread_gives_up_while_another_one_reads_to_its_end(
    serve, scoped_session, exchange
):
    """The one that reads took it off the response, put it nowhere, and the one that gives it up found none to close."""
    server = serve([head(), chunk(b"a"), stall()])
    raw = scoped_session.post(server.url, stream=True).raw
    connection = raw.connection
    exchange.release()  # the one thread
    raw._fp.close()
    assert raw._fp.read1(9) == b""  # the other one
    raw.release_conn()
    raw.close()  # the one thread again
    assert connection.sock is None


def test_a_connection_that_two_threads_put_back_is_put_back_once(serve, scoped_session, exchange):
    raw = scoped_session.post(serve(status(200, "fine")).url, stream=True).raw
    pool, connection = raw._pool, raw.connection
    assert raw.read() == b"fine"
    places = pool.pool.qsize()
    pool._put_conn(connection)
    assert (pool.pool.qsize(), connection.sock is None) == (places, False)


@pytest.mark.usefixtures("trusted")
def test_a_fresh_tls_connection_is_not_taken_for_a_reused_one(serve, scoped_session, exchange, tls):
    server = serve(status(200, "fine"), tls=tls)  # urllib3 connects before it sends the request
    scoped_session.post(server.url)
    assert (exchange.reused, exchange.sent) == (False, True)
    scoped_session.post(server.url)
    assert (exchange.reused, exchange.sent) == (True, True)


def test_the_next_address_of_a_host_is_tried_if_one_refuses(serve, scoped_session, exchange, monkeypatch, refused_port):
    server = serve(status(200, "fine"))
    getaddrinfo = socket.getaddrinfo

    def two_addresses(host: str, port: int, *args: Any) -> Any:
        return getaddrinfo("127.0.0.1", refused_port, *args) + getaddrinfo("127.0.0.1", port, *args)

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    assert scoped_session.post(f"http://two.invalid:{server.port}/").text == "fine"


def test_a_host_name_without_an_address_raises_connection_error(scoped_session, exchange, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    with pytest.raises(requests.ConnectionError, match="the name has no address"):
        scoped_session.post("http://empty.invalid/")


def test_the_error_for_a_host_name_that_does_not_resolve_has_the_reason(scoped_session, exchange, monkeypatch):
    def fail(*args: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(requests.ConnectionError, match="unknown"):
        scoped_session.post("http://nowhere.invalid/")


def test_connecting_ends_after_its_timeout(scoped_session, exchange, unanswered_port):
    with within(0.2, least=0.1), pytest.raises(ConnectionFailed, match="connect_timeout"):
        scoped_session.post(f"http://127.0.0.1:{unanswered_port}/", timeout=0.1)


def test_an_exchange_records_a_request_sent_through_a_proxy(serve, scoped_session, exchange):
    proxy = serve(status(200, "fine"))
    response = scoped_session.post("http://api.invalid/", proxies={"http": f"http://127.0.0.1:{proxy.port}"})
    assert response.text == "fine"
    assert exchange.sent
    assert proxy.requests[0].path == "http://api.invalid/"


def test_the_deadline_ends_a_tls_handshake(serve, scoped_session, exchange, tls):
    server = serve([unread(), stall()], tls=tls)
    exchange.scope = CancelScope(deadline=0.1)
    with within(0.2), pytest.raises(requests.RequestException):
        scoped_session.post(server.url, timeout=5)
    assert isinstance(exchange.scope.error, DeadlineExceeded)


def test_cancel_ends_a_tls_handshake(serve, scoped_session, exchange, tls):
    server = serve([unread(), stall()], tls=tls)
    threading.Timer(0.05, exchange.scope.cancel).start()
    with within(0.25), pytest.raises((requests.RequestException, Cancelled)):
        scoped_session.post(server.url, timeout=5)
    assert isinstance(exchange.scope.error, Cancelled)


def test_a_cancelled_call_sends_no_request(serve, scoped_session, exchange):
    server = serve(status(200))
    exchange.scope.cancel()
    with pytest.raises(Cancelled):
        scoped_session.post(server.url)
    assert server.requests == []
