"""SOCKS proxies with PySocks, and without it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
from socks_server import SocksServer
from support import REST, THREE, WORDS

from chatstream.testing import chunk, forever, head, pause, stall

TEXT = "".join(WORDS)
SCRIPTS = {
    "idle": ([head(), *THREE, stall()], "IdleTimeout"),
    "deadline": ([head(), *THREE, forever(chunk(b": hi\n\n"), pause(0.05))], "DeadlineExceeded"),
    "cancel": ([head(), *THREE, stall()], "Cancelled"),
}


@pytest.fixture
def proxy() -> Iterator[SocksServer]:
    with SocksServer() as proxy:
        yield proxy


def variables(scheme: str, proxy: SocksServer) -> dict[str, str]:
    return {"ALL_PROXY": f"{scheme}://127.0.0.1:{proxy.port}", "NO_PROXY": ""}


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_an_answer_arrives_through_a_socks_proxy(run, serve, proxy, scheme):
    server = serve([head(), *THREE, *REST])
    host = "model.invalid" if scheme == "socks5h" else "127.0.0.1"  # a name that only the proxy can look up
    url = f"http://{host}:{server.port}/v1"
    found = run("workers", "through_socks.py", "answer", url, **variables(scheme, proxy))
    assert (found["text"], found["error"]) == (TEXT, None), found
    assert proxy.destinations == [(host, server.port)]


def test_an_answer_over_tls_arrives_through_a_socks_proxy(run, serve, proxy, tls, trusted):
    server = serve([head(), *THREE, *REST], tls=tls)
    found = run("workers", "through_socks.py", "answer", server.url, **variables("socks5h", proxy))
    assert (found["text"], found["error"]) == (TEXT, None), found
    assert len(proxy.destinations) == 1


@pytest.fixture(params=["http", "https"])
def context(request: pytest.FixtureRequest, tls: ssl.SSLContext, trusted: None) -> ssl.SSLContext | None:
    """The TLS context of the server, if it has one."""
    return tls if request.param == "https" else None


@pytest.mark.parametrize("scenario", SCRIPTS)
def test_limits_and_cancellation_hold_through_a_socks_proxy(run, serve, proxy, context, scenario):
    script, error = SCRIPTS[scenario]
    server = serve(script, tls=context)
    found = run("workers", "through_socks.py", scenario, server.url, **variables("socks5h", proxy))
    assert (found["error"], found["text"]) == (error, TEXT), found
    assert found["seconds"] < (0.3 if scenario == "cancel" else 2.5)
    assert proxy.destinations


@pytest.mark.parametrize(
    ("scenario", "error"), [("connect", "ConnectionFailed"), ("deadline", "DeadlineExceeded"), ("cancel", "Cancelled")]
)
def test_limits_and_cancellation_hold_while_a_socks_proxy_says_nothing(run, scenario, error):
    with SocksServer(silent=True) as proxy:
        url = "http://model.invalid/v1"
        found = run("workers", "through_socks.py", scenario, url, **variables("socks5h", proxy))
    assert found.get("error") == error, found
    assert found["seconds"] < (0.3 if scenario == "cancel" else 2.5)


def test_without_pysocks_a_socks_proxy_is_a_config_error_that_names_the_package(run, serve, proxy):
    server = serve([head(), *THREE, *REST])
    found = run("mocks", "through_socks.py", "answer", server.url, **variables("socks5h", proxy))
    assert found["error"] == "ConfigError", found
    assert "PySocks" in found["message"]
    assert server.requests == []
