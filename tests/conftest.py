"""Fixtures for all tests: an environment without the settings of the user, and servers and clients that get closed."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from support import KEY, no_garbage_collection, server_context

from chatstream import Client, Provider
from chatstream._http import reply
from chatstream._http.adapter import ScopedAdapter
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.response import Exchange, current_exchange
from chatstream._retries import retry
from chatstream.testing import FaultServer

pytest_plugins = ["pytester"]

NETWORK_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "NETRC",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
DRAIN_SECONDS = reply.DRAIN_SECONDS  # the library's own value
CLIENT_OPTIONS = (
    *("model", "defaults", "deadline", "on_request", "on_retry", "on_turn", "on_wait", "session", "limits"),
    "limiter",
)

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remove the proxies, certificate bundles and keys of the user who runs the tests, and use an empty home."""
    for name in list(os.environ):
        if name.upper() in NETWORK_VARIABLES or name.startswith(("OPENAI_", "CHATSTREAM_LOG", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


@pytest.fixture(autouse=True)
def _long_drain_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow more time for draining, because on a busy machine the end of a response may arrive late."""
    monkeypatch.setattr(reply, "DRAIN_SECONDS", 2.0)


@pytest.fixture
def default_drain_time(_long_drain_time: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own drain time, for tests that measure it."""
    monkeypatch.setattr(reply, "DRAIN_SECONDS", DRAIN_SECONDS)


@pytest.fixture(scope="session", autouse=True)
def _default_sigint_handler() -> Iterator[None]:
    """Handle SIGINT as in a terminal: a process that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupt() -> Iterator[Callable[..., None]]:
    """A function that interrupts the main thread, as Ctrl-C and a notebook's stop button do."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("an interrupt can't be sent here")
    with no_garbage_collection():
        yield lambda *_: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual backoff with delays a hundred times shorter."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.002)
    monkeypatch.setattr(retry, "MAX_DELAY", 0.1)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that starts a `FaultServer` with the given scripts."""
    with ExitStack() as stack:
        yield lambda *scripts, **options: stack.enter_context(FaultServer(*scripts, **options))


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A function that makes a client of a server or URL, with one retry and one restart by default.

    It takes the options of `Client` and of `Provider`.
    """
    with ExitStack() as stack:

        def make_client(to: FaultServer | str, **options: Any) -> Client:
            client_options = {"model": "m1"} | {name: options.pop(name) for name in CLIENT_OPTIONS if name in options}
            url = to if isinstance(to, str) else to.url
            fields = {
                "name": "test",
                "base_url": url,
                "api_key": KEY,
                "request_max_retries": 1,
                "stream_max_retries": 1,
            }
            provider = Provider(**fields | options)
            return stack.enter_context(Client(provider, **client_options))

        yield make_client


@pytest.fixture
def scoped_session() -> Iterator[requests.Session]:
    """A session of requests with the adapter that observes cancel scopes."""
    with requests.Session() as session:
        session.mount("http://", ScopedAdapter())
        session.mount("https://", ScopedAdapter())
        yield session


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """The current exchange of this thread; a test may replace its scope."""
    exchange = Exchange(CancelScope())
    token = current_exchange.set(exchange)
    yield exchange
    current_exchange.reset(token)
    exchange.scope.socket.release()


@pytest.fixture
def switch_often() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port that refuses connections: it is bound, but nothing listens on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def unanswered_port() -> Iterator[int]:
    """A port where connecting gets no answer, because the listener's queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that is trusted only with the fixture ``trusted``."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1."""
    return server_context(authority, "127.0.0.1")


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make requests trust the authority through ``REQUESTS_CA_BUNDLE``, as users do."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
