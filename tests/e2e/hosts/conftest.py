"""Fixtures of the tests with real hosts: environments with their packages, and programs that run in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from environments import Environments
from web_hosts import COMMANDS, WebHost, free_port, listens

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
PROGRAM_SECONDS = 60.0
START_SECONDS = 60.0
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def environment() -> Environments:
    """A function from the name of an environment to its interpreter."""
    return Environments()


@pytest.fixture(scope="session")
def run(environment: Environments) -> Run:
    """Runs a program of the folder ``programs`` in an environment, with strings as arguments and other environment
    variables as keywords. Returns what it prints, a JSON object in each line, joined into one; ``failure`` says why it
    ended early or not at all."""

    def run_program(
        where: str, program: str, *arguments: str, seconds: float = PROGRAM_SECONDS, **variables: str
    ) -> dict[str, Any]:
        command = [str(environment(where)), "-X", "faulthandler", str(PROGRAMS / program), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=seconds, env=os.environ | variables
            )
        except subprocess.TimeoutExpired:
            return {"failure": f"{program} does not end within {seconds} s"}
        found: dict[str, Any] = {}
        for line in done.stdout.splitlines():
            found |= json.loads(line)
        if done.returncode:
            found["failure"] = done.stderr[-3000:]
        return found

    return run_program


@pytest.fixture(scope="session")
def web_host(environment: Environments) -> Iterator[Callable[[str], WebHost]]:
    """A function that starts one of `web_hosts.COMMANDS`; each runs until the end of the tests."""
    running: dict[str, WebHost] = {}

    def started(name: str) -> WebHost:
        if name not in running:
            running[name] = WebHost(COMMANDS[name], environment("web"), PROGRAMS)
        return running[name]

    yield started
    for host in running.values():
        host.close()


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The URL of a Redis server that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), "redis-server is not installed"
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + START_SECONDS
    while not listens(port):
        assert process.poll() is None, "redis-server ends at once"
        assert time.monotonic() < until, "redis-server does not listen"
        time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait()
