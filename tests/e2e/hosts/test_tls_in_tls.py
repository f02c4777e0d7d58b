"""Proxies with an ``https`` address: the TLS of the server runs inside the TLS of the proxy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from support import REST, THREE, WORDS, cancelled, wait_for, within

from chatstream import Client, DeadlineExceeded, IdleTimeout, Provider
from chatstream.testing import FaultServer, chunk, forever, head, pause, stall

TEXT = "".join(WORDS)
POLL_SECONDS = 0.002


class TLSProxy:
    """An HTTP proxy behind TLS that knows CONNECT alone. ``tunnels`` counts what it has connected."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.tunnels = 0
        self._context = context
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        with self._listener:
            while not self._closing.is_set():
                with suppress(TimeoutError):
                    raw, _ = self._listener.accept()
                    self._threads.append(threading.Thread(target=self._serve, args=(raw,), daemon=True))
                    self._threads[-1].start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(10)
        with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as client:
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(4096)
            method, address, _ = request.split(b"\r\n")[0].decode().split(" ")
            assert method == "CONNECT"
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as server:
                self.tunnels += 1
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                client.setblocking(False)
                server.setblocking(False)
                self._forward(client, server)

    def _forward(self, client: ssl.SSLSocket, server: socket.socket) -> None:
        """Pass bytes on in both directions until one side ends: TLS can be read and written by one thread only."""
        while not self._closing.wait(POLL_SECONDS):
            for source, sink in ((client, server), (server, client)):
                with suppress(BlockingIOError, ssl.SSLWantReadError):
                    data = source.recv(65536)
                    if not data:
                        return
                    sink.sendall(data)

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def proxy(tls: ssl.SSLContext) -> Iterator[TLSProxy]:
    proxy = TLSProxy(tls)
    yield proxy
    proxy.close()


@pytest.fixture
def connect(proxy: TLSProxy, trusted: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    """Makes a client that reaches a server through the proxy."""
    monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
    clients: list[Client] = []

    def connected(server: FaultServer, **options: Any) -> Client:
        provider = Provider("test", server.url, request_max_retries=0, stream_max_retries=0, **options)
        clients.append(Client(provider, model="any", deadline=4))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


def test_answers_arrive_through_tls_in_tls_over_one_tunnel(serve, connect, tls, proxy):
    client = connect(serve([head(), *THREE, *REST], tls=tls))
    assert [client.stream("Hi").collect().text for _ in range(3)] == [TEXT] * 3
    assert proxy.tunnels == 1


@pytest.mark.parametrize("events", [0, 3])
def test_cancelling_a_stream_in_tls_in_tls_wakes_its_reader(serve, connect, tls, events):
    stream = connect(serve([head(), *THREE[:events], stall()], tls=tls)).stream("Hi")
    for _ in range(events and events + 1):
        next(stream)
    cancelled(stream)


def test_cancelling_a_call_in_tls_in_tls_that_waits_for_its_headers_wakes_it(serve, connect, tls):
    client = connect(serve([stall()], tls=tls))
    timer = threading.Timer(0.5, client.cancel)
    timer.start()
    with within(1.5), pytest.raises(Exception, match="cancelled"):
        client.stream("Hi")
    timer.join()


@pytest.mark.parametrize("how", ["close", "break", "drop"])
def test_leaving_a_stream_in_tls_in_tls_raises_nothing_and_closes_the_connection(serve, connect, tls, how):
    server = serve([head(), *THREE, stall()], tls=tls)
    stream = connect(server).stream("Hi")
    with within(0.5):
        for _ in stream:
            if how == "close":
                stream.close()
            break
        del stream
    assert server.client_closed()


def test_the_idle_limit_and_the_deadline_hold_in_tls_in_tls(serve, connect, tls):
    silent = connect(serve([head(), *THREE, stall()], tls=tls), stream_idle_timeout=0.5)
    with within(1.5), pytest.raises(IdleTimeout) as caught:
        silent.stream("Hi").collect()
    assert caught.value.partial.text == TEXT
    comments = connect(serve([head(), *THREE, forever(chunk(b": hi\n\n"), pause(0.02))], tls=tls))
    with within(1.5), pytest.raises(DeadlineExceeded):
        comments.stream("Hi", deadline=0.5).collect()


def test_heartbeats_are_made_in_tls_in_tls_and_no_event_is_missed(serve, connect, tls):
    gate = threading.Event()
    body = connect(serve([head(), *THREE, wait_for(gate), *THREE, *REST], tls=tls)).stream("Hi").sse(heartbeat=0.05)
    pieces = []
    for piece in body:
        pieces.append(piece)
        if pieces[-3:] == [b":\n\n"] * 3:
            gate.set()
    assert sum(b'"text"' in piece for piece in pieces) == 6
    assert pieces[-1] == b"data: [DONE]\n\n"
