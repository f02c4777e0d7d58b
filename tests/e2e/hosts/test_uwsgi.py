"""uWSGI as the host of Python: its workers start the server of the local provider, and it ends with them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from environments import Environments, import_path

APP = """
import json, os
from chatstream import Client
from chatstream.providers import local

client = Client("local")
if "FIRST_CALL_BEFORE_FORK" in os.environ:
    client.stream("Hi", max_tokens=1).collect()


def application(environ, start_response):
    text = client.stream("Tell me about the sea.", temperature=0, max_tokens=5).collect().text
    pid = local._Shared.server.pid
    program = os.path.realpath(f"/proc/{pid}/exe")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"text": text, "worker": os.getpid(), "server": pid, "program": program}).encode()]
"""
Ask = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def uwsgi(environment: Environments) -> Path:
    if not shutil.which("cc") or not Path("/proc/self/exe").exists():
        pytest.skip("uWSGI is not installed here: it is compiled, so it needs a C compiler, and this test needs /proc")
    return environment("uwsgi", "uwsgi>=2.0.28").with_name("uwsgi")


@pytest.fixture
def start(uwsgi: Path, tmp_path: Path) -> Iterator[Callable[..., Ask]]:
    """Returns a function that starts uWSGI with options, and returns a function that asks the application."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    with ExitStack() as stack:

        def started(*options: str, **variables: str) -> Ask:
            command = [
                uwsgi,
                "--http-socket",
                "socket",
                "--wsgi-file",
                "app.py",
                "--need-app",
                "--die-on-term",
                *options,
            ]
            environ = {**os.environ, "PYTHONPATH": import_path(), **variables}
            log = stack.enter_context((tmp_path / "log").open("w+"))
            process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            return lambda: ask(tmp_path / "socket", process)

        yield started


def ask(path: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The answer of the application, once uWSGI listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect(str(path))
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def ends(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "options", [(), ("--enable-threads",), ("--master", "--processes", "2")], ids=["plain", "threads", "workers"]
)
def test_the_local_model_server_works_inside_a_uwsgi_worker(
    start: Callable[..., Ask], options: tuple[str, ...]
) -> None:
    answer = start(*options)()
    assert answer["text"]
    assert Path(answer["program"]).name.startswith("python")


def test_a_worker_forked_after_the_first_call_has_a_model_server_of_its_own(start: Callable[..., Ask]) -> None:
    ask_again = start("--master", "--processes", "2", FIRST_CALL_BEFORE_FORK="1")
    servers = {answer["worker"]: answer["server"] for answer in (ask_again() for _ in range(4))}
    assert len(set(servers.values())) == len(servers)


def test_the_model_server_ends_with_its_worker(uwsgi: Path, start: Callable[..., Ask]) -> None:
    answer = start()()
    os.kill(answer["worker"], 9)
    assert ends(answer["server"])
