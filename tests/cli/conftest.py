"""Fixtures: a server that the command line asks, and the ways to run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from consoles import KEY, Screen, Shell, open_terminal

from chatstream.cli.main import main
from chatstream.testing import FaultServer, Script


@pytest.fixture
def openai_server(serve: Any, monkeypatch: pytest.MonkeyPatch, short_waits: None) -> Callable[..., FaultServer]:
    """Starts a server with the scripts given, and makes it the one that the command line asks."""

    def started(*scripts: Script) -> FaultServer:
        server = serve(*scripts)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return server

    return started


@pytest.fixture
def run(openai_server: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line on a question against the script given: exit status, stdout, stderr."""

    def ran(script: Script, *options: str) -> tuple[int, str, str]:
        openai_server(script)
        code = main(["Hi", "-m", "m1", *options])
        return code, *capsys.readouterr()

    return ran


@pytest.fixture
def shell(openai_server: Any) -> Callable[..., Shell]:
    return lambda *scripts: Shell(openai_server(*scripts))


@pytest.fixture
def terminal() -> Iterator[Screen]:
    with closing(open_terminal()) as screen:
        yield screen


@pytest.fixture
def pipe() -> Iterator[Screen]:
    with closing(Screen(*os.pipe(), "utf-8")) as screen:
        yield screen
