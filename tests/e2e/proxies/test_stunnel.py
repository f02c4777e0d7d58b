"""What a TLS terminator adds: certificates, and connections that open although their server is not running."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from proxy_programs import ProxyStarter
from support import WORDS

from chatstream import Client, ConnectionFailed, RetryInfo
from chatstream.testing import FaultServer, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]


def start_tls(start_proxy: ProxyStarter, port: int) -> str:
    """Starts stunnel before a port; returns its base URL."""
    return start_proxy("stunnel", port).url.replace("http:", "https:")


def test_an_untrusted_certificate_raises_connection_failed_and_is_not_retried(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    server = serve(text_answer(*WORDS))
    with pytest.raises(ConnectionFailed, match=r"the certificate of 127\.0\.0\.1:\d+ was rejected") as raised:
        connect(start_tls(start_proxy, server.port)).stream("Hi")
    assert not raised.value.retryable
    assert len(raised.value.attempts) == 1
    assert server.connections == 0


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_raises_connection_failed_with_the_name_requested(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    url = start_tls(start_proxy, serve(text_answer(*WORDS)).port).replace("127.0.0.1", "localhost")
    with pytest.raises(ConnectionFailed, match=r"the certificate of localhost:\d+ was rejected.*localhost") as raised:
        connect(url).stream("Hi")
    assert not raised.value.retryable


@pytest.mark.usefixtures("trusted")
def test_an_http_request_to_a_tls_port_raises_connection_failed(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    server = serve(text_answer(*WORDS))
    with pytest.raises(ConnectionFailed, match="no response"):
        connect(start_proxy("stunnel", server.port).url).stream("Hi")
    assert server.connections == 0


@pytest.mark.usefixtures("trusted")
def test_a_server_that_stops_behind_its_tls_terminator_raises_connection_failed_after_one_retry(
    start_proxy: ProxyStarter, connect: Connect, serve: Serve
) -> None:
    retries: list[RetryInfo] = []
    first, second = serve(text_answer("one ")), serve(text_answer("two "))
    client = connect(start_tls(start_proxy, first.port), on_retry=retries.append)
    assert client.stream("Hi").collect().text == "one "
    first.close()  # closes the pooled connection too, which is replaced at once
    with pytest.raises(ConnectionFailed) as raised:
        client.stream("Hi")
    assert (len(retries), len(raised.value.attempts)) == (1, 2)
    assert connect(start_tls(start_proxy, second.port)).stream("Hi").collect().text == "two "
