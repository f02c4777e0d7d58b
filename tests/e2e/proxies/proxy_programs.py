"""Real proxy programs: a configuration template beside this file → a process on a free loopback port.

Rules:
- A process is found and ended only by the id under which it was started.
- The programs run with their defaults, except for timeouts, which are short.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from types import TracebackType

import pytest
import trustme

HERE = Path(__file__).parent
START_SECONDS = 30.0
COMMANDS = {
    "nginx": ["nginx", "-e", "stderr", "-c", "nginx.conf"],
    "haproxy": ["haproxy", "-f", "haproxy.cfg"],
    "squid": ["squid", "-N", "-d", "1", "-n", "chatstream@port", "-f", "squid.conf"],  # -n names its shared memory
    "stunnel": ["stunnel4", "stunnel.conf"],
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # Debian installs servers in sbin
SQUID_PASSWORDS = "me:$apr1$EJ8mXUhj$kaJVGfsQ23x/vi8tU8et91\n"  # the user "me" with the password "secret"


class ConfigurationTemplate(Template):
    """A configuration with placeholders like ``@port``, because nginx uses ``$`` itself."""

    delimiter = "@"


@dataclass
class Proxy:
    """A running proxy program and its port."""

    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL for clients of a reverse proxy."""
        return f"http://{self.address}/v1"


class ProxyStarter:
    """Starts proxy programs, and ends them on exit; a context manager."""

    def __init__(self, authority: trustme.CA) -> None:
        self._authority = authority
        self._stack = ExitStack()

    def __call__(self, name: str, upstream: int = 0, *, more: str = "", timeout: int = 60) -> Proxy:
        """Start nginx, haproxy, squid or stunnel in front of the port ``upstream``.

        ``more`` is inserted into the configuration; after ``timeout`` seconds of silence the program gives up its
        server. Where the program is not installed the test is skipped, unless CHATSTREAM_REQUIRE_E2E is set.
        """
        program = shutil.which(COMMANDS[name][0], path=PATH)
        if program is None:
            assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), f"{name} is not installed"
            pytest.skip(f"{name} is not installed")
        settings = {"upstream": str(upstream), "more": more, "timeout": str(timeout)}
        proxy = _start([program, *COMMANDS[name][1:]], self._make_folder(), settings)
        self._stack.callback(_end, proxy)
        return proxy

    def _make_folder(self) -> Path:
        """A temporary folder with the files that a program reads; it writes its own files there."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # squid drops its root privileges, and must still read
        (folder / "squid.passwords").write_text(SQUID_PASSWORDS)
        certificate = self._authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        certificate.write_to_path(str(folder / "certificate.pem"))
        return folder

    def __enter__(self) -> ProxyStarter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def _start(command: list[str], folder: Path, settings: dict[str, str]) -> Proxy:
    """Start a program on a free port and wait until it listens; try another port if this one was taken meanwhile."""
    until = time.monotonic() + START_SECONDS
    while True:
        port = _free_port()
        process = _spawn(command, folder, port, settings)
        while process.poll() is None and time.monotonic() < until:
            if _listens(port):
                return Proxy(port, process)
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert time.monotonic() < until, (folder / "log").read_text("utf-8", "replace")
        time.sleep(0.1)


def _spawn(command: list[str], folder: Path, port: int, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    """Fill the configuration template, whose name is the last argument, and start the program with it."""
    *arguments, name = command
    arguments = [argument.replace("@port", str(port)) for argument in arguments]
    template = ConfigurationTemplate((HERE / name).read_text("utf-8"))
    (folder / name).write_text(template.substitute(settings, folder=folder, port=port), "utf-8")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*arguments, str(folder / name)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )


def _end(proxy: Proxy) -> None:
    """Kill a program, and remove the shared memory that squid leaves behind."""
    proxy.process.kill()
    proxy.process.wait()
    for leftover in Path("/dev/shm").glob(f"chatstream{proxy.port}-*"):
        leftover.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
