"""Real proxies and the ways through them: a configuration beside this file → a process on a free loopback port.

Rules:
- A process is its starter's: found again and ended by its id.
- What the programs do is what they do as installed; only timeouts are short.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from types import TracebackType
from urllib.parse import urlsplit

import pytest
import trustme
from relay import Relay

from chatstream import Client
from chatstream.providers.local import LocalServer
from chatstream.testing import FaultServer

HERE = Path(__file__).parent
START_SECONDS = 10.0
COMMANDS = {
    "nginx": ["nginx", "-e", "stderr", "-c", "nginx.conf"],
    "haproxy": ["haproxy", "-f", "haproxy.cfg"],
    "squid": ["squid", "-N", "-d", "1", "-n", "chatstream@port", "-f", "squid.conf"],  # -n: of its shared memory
    "stunnel": ["stunnel4", "stunnel.conf"],
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # where Debian puts servers
SQUID_PASSWORDS = "me:$apr1$EJ8mXUhj$kaJVGfsQ23x/vi8tU8et91\n"  # the user "me" with the password "secret"

HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection "";'  # otherwise nginx asks its server in 1.0
LIVE = "proxy_buffering off;"
REVERSE = {
    "nginx": ("nginx", ""),
    "nginx-live": ("nginx", LIVE),
    "nginx-1.1": ("nginx", HTTP_1_1),
    "nginx-1.1-live": ("nginx", HTTP_1_1 + LIVE),
    "haproxy": ("haproxy", "option http-no-delay"),
}
WAYS = [*REVERSE, "squid", "stunnel", "squid-stunnel"]
FAMILIES = ["nginx", "haproxy", "squid", "stunnel", "squid-stunnel"]  # for where nginx's ways do not differ


class Configuration(Template):
    """A configuration with ``@name`` where a test has something to say: ``$`` is nginx's own."""

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
        """What the client of a reverse proxy asks."""
        return f"http://{self.address}/v1"


class Proxies:
    """Starts proxies, and ends those that it started; a context manager."""

    def __init__(self, authority: trustme.CA) -> None:
        self._authority = authority
        self._stack = ExitStack()

    def __call__(self, name: str, upstream: int = 0, *, more: str = "", timeout: int = 60) -> Proxy:
        """nginx, haproxy, squid or stunnel, before the port ``upstream``.

        ``more`` are lines of its configuration, ``timeout`` the seconds after which it gives up a silent server. Where
        the program is not installed the test is skipped, unless CHATSTREAM_REQUIRE_E2E is set.
        """
        program = shutil.which(COMMANDS[name][0], path=PATH)
        if program is None:
            assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), f"{name} is not installed"
            pytest.skip(f"{name} is not installed")
        folder = self._folder()
        proxy = _start(
            [program, *COMMANDS[name][1:]], folder, {"upstream": str(upstream), "more": more, "timeout": str(timeout)}
        )
        self._stack.callback(_end, proxy)
        return proxy

    def _folder(self) -> Path:
        """Where a program finds and leaves its files."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # squid gives up being root, and must still read
        (folder / "squid.passwords").write_text(SQUID_PASSWORDS)
        certificate = self._authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        certificate.write_to_path(str(folder / "certificate.pem"))
        return folder

    def __enter__(self) -> Proxies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def _start(command: list[str], folder: Path, settings: dict[str, str]) -> Proxy:
    """Start a program on a free port, and wait until it listens; on another port if somebody was faster."""
    *command, name = command
    until = time.monotonic() + START_SECONDS
    while True:
        port = _free_port()
        words = [word.replace("@port", str(port)) for word in command]
        text = Configuration((HERE / name).read_text("utf-8")).substitute(settings, folder=folder, port=port)
        (folder / name).write_text(text, "utf-8")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*words, str(folder / name)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
        while process.poll() is None and time.monotonic() < until:
            if _listens(port):
                return Proxy(port, process)
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert time.monotonic() < until, (folder / "log").read_text("utf-8", "replace")
        time.sleep(0.1)


def _end(proxy: Proxy) -> None:
    """Kill a program, which waits for nobody then, and clear away what squid leaves in memory."""
    proxy.process.kill()
    proxy.process.wait()
    for left in Path("/dev/shm").glob(f"chatstream{proxy.port}-*"):
        left.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Through:
    """Leads to a server by one of the `WAYS`. ``proxy`` is the first program on it, ``relay`` what counts before it."""

    proxy: Proxy
    relay: Relay

    def __init__(
        self,
        way: str,
        run: Proxies,
        connect: Callable[..., Client],
        set_variable: Callable[[str, str], None],
        enter: Callable[[AbstractContextManager[Relay]], Relay],
    ) -> None:
        self.way = way
        self._run = run
        self._connect = connect
        self._set_variable = set_variable
        self._enter = enter

    def __call__(
        self, to: int | FaultServer | LocalServer, *, timeout: int = 60, relayed: bool = False, **options: object
    ) -> Client:
        """A client that asks ``to``, a server or its port; ``relayed``: by way of ``relay``."""
        port = to if isinstance(to, int) else urlsplit(to.url if isinstance(to, FaultServer) else to.base_url).port
        assert port is not None
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
            self._set_variable(f"{scheme.upper()}_PROXY", f"http://{self._entrance(relayed)}")
        return self._connect(f"{scheme}://{address}/v1", **options)

    def _entrance(self, relayed: bool) -> str:
        if not relayed:
            return self.proxy.address
        self.relay = self._enter(Relay(self.proxy.url))
        return self.relay.url.removeprefix("http://").removesuffix("/v1")
