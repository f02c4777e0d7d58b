"""Fixtures: a scripted server behind the provider ``openai``, and the command line run in several ways."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from consoles import KEY, Screen, Shell, open_terminal

from chatstream.cli.main import main
from chatstream.testing import FaultServer, Script


@pytest.fixture
def openai_server(serve: Any, monkeypatch: pytest.MonkeyPatch, short_waits: None) -> Callable[..., FaultServer]:
    """Starts a server that plays the given scripts, and points the provider ``openai`` to it."""

    def started(*scripts: Script) -> FaultServer:
        server = serve(*scripts)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return server

    return started


@pytest.fixture
def run(openai_server: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs ``chatstream Hi`` against a server that plays the given script; returns exit status, stdout and stderr."""

    def ran(script: Script, *options: str) -> tuple[int, str, str]:
        openai_server(script)
        code = main(["Hi", "-m", "m1", *options])
        return code, *capsys.readouterr()

    return ran


@pytest.fixture
def shell(openai_server: Any) -> Callable[..., Shell]:
    """Starts a server that plays the given scripts; returns a `Shell` whose command line asks it."""
    return lambda *scripts: Shell(openai_server(*scripts))


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Puts a pipe with the given bytes in the place of stdin."""
    with ExitStack() as stack:

        def piped(data: bytes) -> None:
            reader, writer = os.pipe()
            os.write(writer, data)
            os.close(writer)
            monkeypatch.setattr(sys, "stdin", stack.enter_context(open(reader, encoding="utf-8")))

        yield piped


@pytest.fixture
def terminal() -> Iterator[Screen]:
    with closing(open_terminal()) as screen:
        yield screen


@pytest.fixture
def pipe() -> Iterator[Screen]:
    with closing(Screen(*os.pipe(), "utf-8")) as screen:
        yield screen
