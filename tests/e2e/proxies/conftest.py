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

import pytest
import trustme
from support import KEY

from chatstream import Client, Provider

HERE = Path(__file__).parent
START_SECONDS = 10.0
COMMANDS = {
    "nginx": ["nginx", "-e", "stderr", "-c", "nginx.conf"],
    "haproxy": ["haproxy", "-f", "haproxy.cfg"],
    "squid": ["squid", "-N", "-f", "squid.conf"],
    "stunnel": ["stunnel4", "stunnel.conf"],
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # where Debian puts servers
SQUID_PASSWORDS = "me:$apr1$EJ8mXUhj$0gJdsWf2BdZhF9xP1VAyQ1\n"  # of the user me: secret


class Configuration(Template):
    """A configuration with ``@name`` where a test has something to say: ``$`` is taken."""

    delimiter = "@"


@dataclass
class Proxy:
    """A program that runs, and its port."""

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
    """Starts nginx, haproxy, squid or stunnel before the port ``upstream``; ``more`` are lines of its configuration."""
    with ExitStack() as stack:

        def started(name: str, upstream: int = 0, *, more: str = "", timeout: str = "60s") -> Proxy:
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
