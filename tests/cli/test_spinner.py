"""The spinner on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stderr
from typing import Any

import pytest
from consoles import ANSWER, Screen, open_terminal
from test_printed_output import reasoning

from chatstream.cli.main import main
from chatstream.cli.spinner import ERASE, LONGEST, Spinner
from chatstream.testing import Wire, delta, done, end, finish, head, pause, status


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A terminal for stderr."""
    monkeypatch.setenv("TERM", "xterm")
    with closing(open_terminal()) as screen:
        yield screen


def run(errors: Screen, *options: str) -> int:
    """The exit status of the command line, whose stderr is the terminal."""
    with redirect_stderr(errors.file):
        return main(["Hi", "-m", "m1", *options])


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_spinner_is_drawn_while_headers_and_text_are_awaited_and_erased_before_the_text(
    openai_server: Any, errors: Screen, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    seen = b""

    def before_headers(wire: Wire) -> None:
        nonlocal seen
        seen += errors.seen()
        wire.wait(0.25)

    openai_server([before_headers, head(), pause(0.25), delta("Hello"), finish(), done(), end()])
    assert run(errors, *options) == 0
    assert "⠋ waiting 0 s".encode() in seen  # before the server has answered anything
    rest = errors.seen()
    assert len(set(rest.decode()) & set("⠙⠹⠸⠼⠴")) >= 3
    assert rest.endswith(ERASE.encode())
    assert "Hello" in capsys.readouterr().out


def test_the_spinner_turns_while_reasoning_arrives_that_is_not_shown(openai_server: Any, errors: Screen) -> None:
    thoughts = [step for _ in range(6) for step in (reasoning("Hmm "), pause(0.05))]
    openai_server([head(), *thoughts, delta("Hello"), finish(), done(), end()])
    assert run(errors) == 0
    assert len(set(errors.seen().decode()) & set("⠙⠹⠸⠼⠴")) >= 2


def test_a_pause_inside_the_text_does_not_bring_the_spinner_back(
    openai_server: Any, errors: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    openai_server([head(), delta("Hel"), pause(0.3), delta("lo"), finish(), done(), end()])
    assert run(errors) == 0
    assert errors.seen().count(ERASE.encode()) <= 5


def test_the_spinner_says_why_a_call_is_repeated(openai_server: Any, errors: Screen) -> None:
    openai_server(status(503, "busy"), [pause(0.3), *ANSWER])
    assert run(errors) == 0
    assert b" status 503, retrying 0 s" in errors.seen()


def test_an_error_follows_the_erased_spinner_on_its_line(openai_server: Any, errors: Screen) -> None:
    openai_server(status(401, "no"))
    assert run(errors) == 1
    assert f"{ERASE}chatstream: unexpected status 401".encode() in errors.seen(b"\n")


@pytest.mark.parametrize("options", [["--plain"], []])
def test_no_spinner_is_drawn_on_a_dumb_terminal_or_when_it_is_not_wanted(
    openai_server: Any, errors: Screen, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    if not options:
        monkeypatch.setenv("TERM", "dumb")
    openai_server(status(401, "no"))
    assert run(errors, *options) == 1
    assert errors.seen(b"\n").startswith(b"chatstream: ")


def test_a_terminal_without_utf_8_gets_a_spinner_of_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with closing(open_terminal("ascii")) as screen:
        monkeypatch.setattr(sys, "stderr", screen.file)
        Spinner().start()
        assert screen.seen() == f"{ERASE}| waiting 0 s".encode()


def test_a_cause_from_a_server_can_neither_control_the_terminal_nor_fill_its_line(errors: Screen) -> None:
    from chatstream import RetryInfo

    with redirect_stderr(errors.file):
        spinner = Spinner()
    spinner.retry(RetryInfo(1, 4, 0.1, "no\x1b[2J\nway " * 40))
    time.sleep(0.11)
    spinner.tick()
    frames = errors.seen().decode().split(ERASE)
    assert "␛[2J way" in frames[-1]
    assert "\x1b" not in frames[-1] and len(frames[-1]) <= LONGEST  # noqa: PT018


def test_without_stderr_there_is_no_spinner(openai_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    openai_server(ANSWER)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["Hi", "-m", "m1"]) == 0
