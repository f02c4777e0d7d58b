"""What squid alone does, as the proxy that HTTP_PROXY and HTTPS_PROXY name: it forbids, and asks for a password."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable

import pytest
from support import KEY, WORDS
from ways import Proxies

from chatstream import ChatStreamError, Client, ConnectionFailed, RetryInfo, UnexpectedStatus
from chatstream.testing import FaultServer, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]
ONLY_KNOWN = "http_access deny !known"
SCHEMES = ["http", "https"]

pytestmark = pytest.mark.usefixtures("trusted")


@pytest.fixture(params=SCHEMES)
def base_url(request: pytest.FixtureRequest, run: Proxies, serve: Serve) -> str:
    """Of a server that answers: plain, and behind stunnel."""
    server = serve(text_answer(*WORDS))
    if request.param == "http":
        return server.url
    return run("stunnel", server.port).url.replace("http:", "https:")


@pytest.fixture
def client(connect: Connect, base_url: str) -> Client:
    """Of that server."""
    return connect(base_url)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Names a proxy in the environment."""

    def used(url: str) -> None:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("HTTPS_PROXY", url)

    return used


def told_of(error: ChatStreamError, log: pytest.LogCaptureFixture) -> str:
    """All that anybody gets to read of an error."""
    shown = [str(error), repr(error), repr(vars(error)), repr(error.attempts), repr(error.args), log.text]
    return "\n".join([*shown, *traceback.format_exception(error), repr(pickle.dumps(error))])


def test_a_password_that_is_right(run: Proxies, connect: Connect, base_url: str, use: Callable[[str], None]) -> None:
    use(f"http://me:secret@{run('squid', more=ONLY_KNOWN).address}")
    assert connect(base_url).stream("Hi").collect().text == "".join(WORDS)


@pytest.mark.parametrize("who", ["", "me:wr0ng-passw0rd@", "wr0ng-passw0rd:secret@"])
def test_a_password_that_is_wrong(
    run: Proxies, client: Client, use: Callable[[str], None], who: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    use(f"http://{who}{run('squid', more=ONLY_KNOWN).address}")
    with pytest.raises(ConnectionFailed, match=r"proxy.*407") as raised:
        client.stream("Hi")
    assert not raised.value.retryable
    assert len(raised.value.attempts) == 1
    assert "wr0ng" not in told_of(raised.value, caplog)
    assert KEY not in told_of(raised.value, caplog)


def test_a_proxy_that_is_not_there(
    refused_port: int, connect: Connect, base_url: str, use: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[RetryInfo] = []
    use(f"http://me:s3cr3t-w0rd@127.0.0.1:{refused_port}")
    with pytest.raises(ConnectionFailed, match=r"the proxy before .* failed: .*refused") as raised:
        connect(base_url, on_retry=told.append).stream("Hi")
    assert raised.value.retryable
    assert (len(told), len(raised.value.attempts)) == (1, 2)
    assert "s3cr3t" not in told_of(raised.value, caplog)


def test_a_proxy_that_forbids(
    run: Proxies, connect: Connect, base_url: str, use: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    use(f"http://me:s3cr3t-w0rd@{run('squid', more='http_access deny all').address}")
    with pytest.raises((UnexpectedStatus, ConnectionFailed), match="403") as raised:
        connect(base_url).stream("Hi")
    assert not raised.value.retryable
    assert len(raised.value.attempts) == 1
    assert "s3cr3t" not in told_of(raised.value, caplog)


def test_a_prompt_that_is_too_large(run: Proxies, connect: Connect, serve: Serve, use: Callable[[str], None]) -> None:
    use(f"http://{run('squid', more='request_body_max_size 100 KB').address}")
    client = connect(serve(text_answer(*WORDS)).url)
    with pytest.raises(UnexpectedStatus, match="413") as raised:
        client.stream("sea " * 1_000_000)
    assert not raised.value.retryable
    assert client.stream("Hi").collect().text == "".join(WORDS)


def test_no_proxy_leads_past_it(
    connect: Connect, base_url: str, refused_port: int, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(f"http://127.0.0.1:{refused_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect(base_url).stream("Hi").collect().text == "".join(WORDS)
