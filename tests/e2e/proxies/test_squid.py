"""What only squid does, as the proxy in HTTP_PROXY and HTTPS_PROXY: it denies access and requires a password."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable

import pytest
from proxy_programs import ProxyStarter
from support import KEY, WORDS

from chatstream import ChatStreamError, Client, ConnectionFailed, RetryInfo, UnexpectedStatus
from chatstream.testing import FaultServer, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]
UseProxy = Callable[[str], None]
REQUIRE_PASSWORD = "http_access deny !authenticated"

pytestmark = pytest.mark.usefixtures("trusted")


@pytest.fixture(params=["http", "https"])
def base_url(request: pytest.FixtureRequest, start_proxy: ProxyStarter, serve: Serve) -> str:
    """The base URL of a server, which over https stands behind stunnel."""
    server = serve(text_answer(*WORDS))
    if request.param == "http":
        return server.url
    return start_proxy("stunnel", server.port).url.replace("http:", "https:")


@pytest.fixture
def client(connect: Connect, base_url: str) -> Client:
    """A client of that server."""
    return connect(base_url)


@pytest.fixture
def use_proxy(monkeypatch: pytest.MonkeyPatch) -> UseProxy:
    """Sets a proxy in the environment."""

    def use(url: str) -> None:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("HTTPS_PROXY", url)

    return use


def everything_about(error: ChatStreamError, log: pytest.LogCaptureFixture) -> str:
    """All text that shows an error: its attributes, its traceback, its pickle, and the log."""
    shown = [str(error), repr(error), repr(vars(error)), repr(error.attempts), repr(error.args), log.text]
    return "\n".join([*shown, *traceback.format_exception(error), repr(pickle.dumps(error))])


def test_a_request_with_the_right_proxy_password_succeeds(
    start_proxy: ProxyStarter, connect: Connect, base_url: str, use_proxy: UseProxy
) -> None:
    use_proxy(f"http://me:secret@{start_proxy('squid', more=REQUIRE_PASSWORD).address}")
    assert connect(base_url).stream("Hi").collect().text == "".join(WORDS)


@pytest.mark.parametrize(
    "user", ["", "me:wr0ng-passw0rd@", "wr0ng-passw0rd:secret@"], ids=["nobody", "wrong-password", "unknown-user"]
)
def test_a_wrong_proxy_password_raises_connection_failed_without_showing_it(
    start_proxy: ProxyStarter, client: Client, use_proxy: UseProxy, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    use_proxy(f"http://{user}{start_proxy('squid', more=REQUIRE_PASSWORD).address}")
    with pytest.raises(ConnectionFailed, match=r"proxy.*407") as raised:
        client.stream("Hi")
    assert not raised.value.retryable
    assert len(raised.value.attempts) == 1
    assert "wr0ng" not in everything_about(raised.value, caplog)
    assert KEY not in everything_about(raised.value, caplog)


def test_an_unreachable_proxy_raises_connection_failed_without_showing_its_password(
    refused_port: int, connect: Connect, base_url: str, use_proxy: UseProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    retries: list[RetryInfo] = []
    use_proxy(f"http://me:s3cr3t-w0rd@127.0.0.1:{refused_port}")
    with pytest.raises(ConnectionFailed, match=r"the proxy for .* failed: .*refused") as raised:
        connect(base_url, on_retry=retries.append).stream("Hi")
    assert raised.value.retryable
    assert (len(retries), len(raised.value.attempts)) == (1, 2)
    assert "s3cr3t" not in everything_about(raised.value, caplog)


def test_a_proxy_that_denies_access_raises_an_error_with_status_403_and_is_not_retried(
    start_proxy: ProxyStarter,
    connect: Connect,
    base_url: str,
    use_proxy: UseProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use_proxy(f"http://me:s3cr3t-w0rd@{start_proxy('squid', more='http_access deny all').address}")
    with pytest.raises((UnexpectedStatus, ConnectionFailed), match="403") as raised:
        connect(base_url).stream("Hi")
    assert not raised.value.retryable
    assert len(raised.value.attempts) == 1
    assert "s3cr3t" not in everything_about(raised.value, caplog)


def test_a_prompt_over_the_body_limit_of_squid_raises_status_413(
    start_proxy: ProxyStarter, connect: Connect, serve: Serve, use_proxy: UseProxy
) -> None:
    use_proxy(f"http://{start_proxy('squid', more='request_body_max_size 100 KB').address}")
    client = connect(serve(text_answer(*WORDS)).url)
    with pytest.raises(UnexpectedStatus, match="413") as raised:
        client.stream("sea " * 1_000_000)
    assert not raised.value.retryable
    assert client.stream("Hi").collect().text == "".join(WORDS)


def test_a_host_in_no_proxy_is_reached_without_the_proxy(
    connect: Connect, base_url: str, refused_port: int, use_proxy: UseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_proxy(f"http://127.0.0.1:{refused_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect(base_url).stream("Hi").collect().text == "".join(WORDS)
