"""What a TLS terminator adds: certificates, and connections that are there before their server is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import WORDS
from ways import Proxies

from chatstream import Client, ConnectionFailed, RetryInfo
from chatstream.testing import FaultServer, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]


def https(run: Proxies, port: int) -> str:
    return run("stunnel", port).url.replace("http:", "https:")


def test_a_certificate_that_nobody_knows(run: Proxies, serve: Serve, connect: Connect) -> None:
    server = serve(text_answer(*WORDS))
    with pytest.raises(ConnectionFailed, match="can't prove who it is") as raised:
        connect(https(run, server.port)).stream("Hi")
    assert not raised.value.retryable
    assert len(raised.value.attempts) == 1
    assert server.connections == 0


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name(run: Proxies, serve: Serve, connect: Connect) -> None:
    url = https(run, serve(text_answer(*WORDS)).port).replace("127.0.0.1", "localhost")
    with pytest.raises(ConnectionFailed, match=r"can't prove who it is.*localhost") as raised:
        connect(url).stream("Hi")
    assert not raised.value.retryable


@pytest.mark.usefixtures("trusted")
def test_plain_http_to_a_port_that_speaks_tls(run: Proxies, serve: Serve, connect: Connect) -> None:
    server = serve(text_answer(*WORDS))
    with pytest.raises(ConnectionFailed, match="no response"):
        connect(run("stunnel", server.port).url).stream("Hi")
    assert server.connections == 0


@pytest.mark.usefixtures("trusted")
def test_a_server_that_comes_back_while_we_wait(run: Proxies, connect: Connect, serve: Serve) -> None:
    told: list[RetryInfo] = []
    first, second = serve(text_answer("one ")), serve(text_answer("two "))
    client = connect(https(run, first.port), on_retry=told.append)
    assert client.stream("Hi").collect().text == "one "
    first.close()  # and with it the connection in the pool, which is replaced at once
    with pytest.raises(ConnectionFailed) as raised:
        client.stream("Hi")
    assert (len(told), len(raised.value.attempts)) == (1, 2)
    assert connect(https(run, second.port)).stream("Hi").collect().text == "two "
