"""Connections whose every wait asks the scope: what the fault table does not see."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import requests
from support import within

from chatstream import Cancelled, DeadlineExceeded
from chatstream._http.cancel_scope import CancelScope
from chatstream.testing import stall, status, unread


def test_outside_of_a_call_nothing_is_watched(serve, watched):
    server = serve(status(200, "fine"))
    assert watched.post(server.url, timeout=5).text == "fine"
    assert watched.post(server.url, timeout=None).text == "fine"
    assert server.connections == 1


def test_an_exchange_learns_what_happened_below_http(serve, watched, exchange):
    server = serve(status(200, "fine"))
    watched.post(server.url)
    assert (exchange.reused, exchange.sent) == (False, True)
    watched.post(server.url)
    assert (exchange.reused, exchange.sent) == (True, True)
    assert exchange.response is not None


@pytest.mark.usefixtures("trusted")
def test_a_fresh_tls_connection_is_not_taken_for_a_reused_one(serve, watched, exchange, tls):
    server = serve(status(200, "fine"), tls=tls)  # urllib3 connects it before there is a request
    watched.post(server.url)
    assert (exchange.reused, exchange.sent) == (False, True)
    watched.post(server.url)
    assert (exchange.reused, exchange.sent) == (True, True)


def test_an_address_that_refuses_is_followed_by_the_next(serve, watched, exchange, monkeypatch, dead):
    server = serve(status(200, "fine"))
    real = socket.getaddrinfo

    def both(host: str, port: int, *args: Any) -> Any:
        return real("127.0.0.1", dead, *args) + real("127.0.0.1", port, *args)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert watched.post(f"http://two.invalid:{server.port}/").text == "fine"


def test_a_name_without_an_address_is_no_connection(watched, exchange, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    with pytest.raises(requests.ConnectionError, match="the name has no address"):
        watched.post("http://empty.invalid/")


def test_a_name_that_does_not_resolve_is_told_so(watched, exchange, monkeypatch):
    def nobody(*args: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(requests.ConnectionError, match="unknown"):
        watched.post("http://nowhere.invalid/")


def test_a_connect_ends_after_its_timeout(watched, exchange, deaf):
    with within(0.2, least=0.1), pytest.raises(requests.ConnectTimeout):
        watched.post(f"http://127.0.0.1:{deaf}/", timeout=0.1)


def test_connections_to_a_proxy_are_watched_too(serve, watched, exchange):
    proxy = serve(status(200, "fine"))
    answer = watched.post("http://api.invalid/", proxies={"http": f"http://127.0.0.1:{proxy.port}"})
    assert answer.text == "fine"
    assert exchange.sent
    assert proxy.requests[0].path == "http://api.invalid/"


def test_the_deadline_ends_a_connect(serve, watched, exchange, tls):
    server = serve([unread(), stall()], tls=tls)
    exchange.scope = CancelScope(deadline=0.1)
    with within(0.2), pytest.raises(requests.RequestException):
        watched.post(server.url, timeout=5)
    assert isinstance(exchange.scope.error, DeadlineExceeded)


def test_cancel_reaches_a_handshake(serve, watched, exchange, tls):
    server = serve([unread(), stall()], tls=tls)
    threading.Timer(0.05, exchange.scope.cancel).start()
    with within(0.1), pytest.raises((requests.RequestException, Cancelled)):
        watched.post(server.url, timeout=5)
    assert isinstance(exchange.scope.error, Cancelled)


def test_a_cancelled_call_does_not_even_connect(serve, watched, exchange):
    server = serve(status(200))
    exchange.scope.cancel()
    with pytest.raises(Cancelled):
        watched.post(server.url)
    assert server.requests == []
