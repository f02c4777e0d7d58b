"""Real proxies, each a process of its test on a free loopback port, and the ways to a server through them.

Where a program is not installed its tests are skipped, unless CHATSTREAM_REQUIRE_E2E is set.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from relay import Relay
from support import KEY

from chatstream import Client, Provider
from chatstream.local import LocalServer

HERE = Path(__file__).parent
START_SECONDS = 10.0
COMMANDS = {
    "nginx": ["nginx", "-e", "stderr", "-c", "nginx.conf"],
    "haproxy": ["haproxy", "-f", "haproxy.cfg"],
    "squid": ["squid", "-N", "-f", "squid.conf"],
    "stunnel": ["stunnel4", "stunnel.conf"],
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # where Debian puts servers
SQUID_PASSWORDS = "me:$apr1$EJ8mXUhj$kaJVGfsQ23x/vi8tU8et91\n"  # of the user me: secret


class Configuration(Template):
    """A configuration with ``@name`` where a test has something to say: ``$`` is taken."""

    delimiter = "@"


@dataclass
class Proxy:
    """A program that runs, its port, and what a test needs of it."""

    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What a reverse proxy gives to a `Provider`."""
        return f"http://{self.address}/v1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(command: list[str], folder: Path, settings: dict[str, Any]) -> Proxy:
    """Start a program on a free port, and wait until it listens; another port if somebody was faster."""
    until = time.monotonic() + START_SECONDS
    while True:
        port = _free_port()
        text = (HERE / command[-1]).read_text("utf-8")
        (folder / command[-1]).write_text(Configuration(text).substitute(settings, folder=folder, port=port))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command[:-1], str(folder / command[-1])], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
        while process.poll() is None and time.monotonic() < until:
            if _listens(port):
                return Proxy(port, process)
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert time.monotonic() < until, (folder / "log").read_text("utf-8", "replace")


@pytest.fixture
def run(authority: trustme.CA) -> Iterator[Callable[..., Proxy]]:
    """Starts nginx, haproxy, squid or stunnel before the port ``upstream``.

    ``more`` are lines of its configuration, ``timeout`` the seconds after which it gives up a silent server.
    """
    with ExitStack() as stack:

        def started(name: str, upstream: int = 0, *, more: str = "", timeout: int = 60) -> Proxy:
            command = [shutil.which(COMMANDS[name][0], path=PATH) or "", *COMMANDS[name][1:]]
            if not command[0]:
                assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), f"{name} is not installed"
                pytest.skip(f"{name} is not installed")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)  # squid leaves root behind
            (folder / "squid.passwords").write_text(SQUID_PASSWORDS)
            certificate = authority.issue_cert("127.0.0.1")
            certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "certificate.pem"))
            proxy = _run(command, folder, {"upstream": upstream, "more": more, "timeout": timeout})
            stack.callback(proxy.process.wait)
            stack.callback(proxy.process.kill)
            return proxy

        yield started


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Makes a client of a URL that tries all twice; its options are those of `Provider`."""
    with ExitStack() as stack:

        def connected(url: str, *, on_retry: Any = None, **options: Any) -> Client:
            own = {"request_max_retries": 1, "stream_max_retries": 1, "api_key": KEY, "model": "m1"}
            provider = Provider(**{"name": "test", "base_url": url} | own | options)
            return stack.enter_context(Client(provider, on_retry=on_retry))

        yield connected


# ── the ways ────────────────────────────────────────────────────────────────────────────────────────────────────

HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection "";'  # nginx asks its server in 1.0 otherwise
LIVE = "proxy_buffering off;"
REVERSE = {
    "nginx": ("nginx", ""),
    "nginx-live": ("nginx", LIVE),
    "nginx-1.1": ("nginx", HTTP_1_1),
    "nginx-1.1-live": ("nginx", HTTP_1_1 + LIVE),
    "haproxy": ("haproxy", "option http-no-delay"),
}
WAYS = [*REVERSE, "squid", "stunnel", "squid-stunnel"]
FAMILIES = ["nginx", "haproxy", "squid", "stunnel", "squid-stunnel"]  # where nginx's ways do not differ


class Through:
    """Leads to a server by one way: ``proxy`` is the first program on it."""

    proxy: Proxy
    relay: Relay | None = None

    def __init__(self, way: str, run: Callable[..., Proxy], connect: Callable[..., Client], set_proxy: Any) -> None:
        self.way = way
        self._run = run
        self._connect = connect
        self._set_proxy = set_proxy

    def __call__(
        self, to: int | FaultServer | LocalServer, *, timeout: int = 60, relayed: bool = False, **options: Any
    ) -> Client:
        """A client that asks ``to``, a server or a port. ``relayed``: through ``relay``, which counts, first."""
        port = to if isinstance(to, int) else _port(to)
        if self.way in REVERSE:
            program, more = REVERSE[self.way]
            self.proxy = self._run(program, port, more=more, timeout=timeout)
            return self._connect(f"http://{self._entrance(relayed)}/v1", **options)
        scheme, address = "http", f"127.0.0.1:{port}"
        if "stunnel" in self.way:
            self.proxy = self._run("stunnel", port, timeout=timeout)
            scheme, address = "https", self._entrance(relayed and self.way == "stunnel")
        if "squid" in self.way:
            self.proxy = self._run("squid", timeout=timeout)
            self._set_proxy(f"{scheme.upper()}_PROXY", f"http://{self._entrance(relayed)}")
        return self._connect(f"{scheme}://{address}/v1", **options)

    def _entrance(self, relayed: bool) -> str:
        if not relayed:
            return self.proxy.address
        self.relay = Relay(self.proxy.url).__enter__()
        return urlsplit(self.relay.url).netloc

    def close(self) -> None:
        if self.relay:
            self.relay.__exit__(None, None, None)


def _port(server: FaultServer | LocalServer) -> int:
    return server.port if isinstance(server, FaultServer) else int(urlsplit(server.base_url).port or 0)


@pytest.fixture(params=WAYS)
def through(
    request: pytest.FixtureRequest,
    run: Callable[..., Proxy],
    connect: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    trusted: None,
) -> Iterator[Through]:
    """Every way that there is; the client's side of it."""
    way = Through(request.param, run, connect, monkeypatch.setenv)
    yield way
    way.close()
