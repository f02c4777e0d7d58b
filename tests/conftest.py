"""What every test gets: an environment of nobody, and servers and clients that are closed behind it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from support import KEY, server_context

from chatstream import Client, Provider, _retry
from chatstream._http import transport
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.connection import ScopedAdapter
from chatstream._http.response import Exchange, current_exchange
from chatstream.testing import FaultServer

STRANGERS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DRAIN_SECONDS = transport.DRAIN_SECONDS  # the library's own
CLIENT_OPTIONS = ("model", "deadline", "on_retry", "session", "limits")

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]


@pytest.fixture(autouse=True)
def _environment_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No proxy, no certificate bundle, no key and no ``.netrc`` of whoever runs the tests."""
    for name in list(os.environ):
        if name.upper() in STRANGERS or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


@pytest.fixture(autouse=True)
def _time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of an answer may be a while behind its last event, so that a busy machine costs no connection."""
    monkeypatch.setattr(transport, "DRAIN_SECONDS", 2.0)


@pytest.fixture
def drains_as_always(_time_to_drain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of how long draining takes."""
    monkeypatch.setattr(transport, "DRAIN_SECONDS", DRAIN_SECONDS)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal, in children too: a shell has what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backoff as always, only a hundred times as fast."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.002)
    monkeypatch.setattr(_retry, "MAX_DELAY", 0.1)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a `FaultServer` with the scripts given."""
    with ExitStack() as stack:
        yield lambda *scripts, **options: stack.enter_context(FaultServer(*scripts, **options))


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes a client of a server, or of a URL, that tries all twice; takes `Client`'s and `Provider`'s options."""
    with ExitStack() as stack:

        def connected(to: FaultServer | str, **options: Any) -> Client:
            own = {"model": "m1"} | {name: options.pop(name) for name in CLIENT_OPTIONS if name in options}
            url = to if isinstance(to, str) else to.url
            fields = {
                "name": "test",
                "base_url": url,
                "api_key": KEY,
                "request_max_retries": 1,
                "stream_max_retries": 1,
            }
            provider = Provider(**fields | options)
            return stack.enter_context(Client(provider, **own))

        yield connected


@pytest.fixture
def watched() -> Iterator[requests.Session]:
    """A session of requests over watched connections."""
    with requests.Session() as session:
        session.mount("http://", ScopedAdapter())
        session.mount("https://", ScopedAdapter())
        yield session


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """The exchange of this thread; a test may give it the scope it wants."""
    exchange = Exchange(CancelScope())
    token = current_exchange.set(exchange)
    yield exchange
    current_exchange.reset(token)
    exchange.scope.release()


@pytest.fixture
def dead() -> Iterator[int]:
    """A port that refuses: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that nobody answers: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in crowd:
            each.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """An authority that nobody trusts unless told to."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1."""
    return server_context(authority, "127.0.0.1")


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes requests trust the authority, in the way its users do."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
