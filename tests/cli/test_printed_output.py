"""What a terminal, a pipe and a program receive of an answer: reasoning, JSON lines, whole answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from consoles import ANSWER, HOSTILE, Screen, is_obeyed

from chatstream import Completed, Created, OutputItemDone, OutputTextDelta, event_from_dict
from chatstream.testing import Script, Step, cut, delta, done, end, event, finish, head, stall, text_answer

THOUGHTS = ["Let me ", "think."]


def reasoning(text: str) -> Step:
    return event({"id": "c1", "choices": [{"index": 0, "delta": {"reasoning_content": text}}]})


THINKING: Script = [head(), *map(reasoning, THOUGHTS), delta("Yes"), delta(".\n"), finish(), done(), end()]


@pytest.fixture(autouse=True)
def _ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "chatstream.cli.markdown", None)


# ── reasoning ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("without_rich")
@pytest.mark.parametrize("options", [[], ["--aggregate"]])
def test_a_terminal_shows_reasoning_in_faint_letters_before_the_answer(
    openai_server: Any, terminal: Screen, options: list[str]
) -> None:
    openai_server(THINKING)
    assert terminal.run(*options) == 0
    assert terminal.seen(b"Yes.\n") == b"\x1b[2mLet me think.\x1b[22m\n\nYes.\n"


def test_reasoning_alone_ends_its_line_and_its_faint_letters(openai_server: Any, terminal: Screen) -> None:
    openai_server([head(), reasoning("Hmm"), cut()])
    assert terminal.run() == 1
    assert terminal.seen(b"\n") == b"\x1b[2mHmm\x1b[22m\n"


@pytest.mark.usefixtures("without_rich")
def test_reasoning_between_two_texts_is_set_apart_from_both(openai_server: Any, terminal: Screen) -> None:
    openai_server([head(), delta("One"), reasoning("Hmm"), delta("two"), finish(), done(), end()])
    assert terminal.run() == 0
    assert terminal.seen(b"two\n") == b"One\n\n\x1b[2mHmm\x1b[22m\n\ntwo\n"


@pytest.mark.parametrize(
    ("environ", "options"), [({"NO_COLOR": "1"}, []), ({"TERM": "dumb"}, []), ({}, ["--plain"])], ids=str
)
def test_reasoning_is_not_shown_where_it_can_not_be_told_from_the_answer(
    openai_server: Any, terminal: Screen, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], options: list[str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    openai_server(THINKING)
    assert terminal.run(*options) == 0
    assert b"think" not in terminal.seen(b"\n")


def test_a_pipe_receives_no_reasoning(run: Any) -> None:
    assert run(THINKING) == (0, "Yes.\n", "")
    assert run(THINKING, "--aggregate") == (0, "Yes.\n", "")


@pytest.mark.usefixtures("without_rich")
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_reasoning_can_not_control_the_terminal(openai_server: Any, terminal: Screen, text: str) -> None:
    openai_server([head(), reasoning(text), delta("."), finish(), done(), end()])
    assert terminal.run() == 0
    seen = terminal.seen(b".\n").decode()
    assert not any(map(is_obeyed, seen.replace("\x1b[2m", "").replace("\x1b[22m", "")))


# ── JSON lines ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_event_is_a_line_of_json(run: Any) -> None:
    code, out, err = run(text_answer("grün\u2028", "lo"), "--json")
    events = [event_from_dict(json.loads(line)) for line in out.split("\n")[:-1]]
    assert (code, err) == (0, "")
    assert [type(each) for each in events] == [Created, OutputTextDelta, OutputTextDelta, Completed]
    assert events[1] == OutputTextDelta("grün\u2028")


def test_json_of_a_whole_answer_has_whole_items(run: Any) -> None:
    _, out, _ = run(ANSWER, "--json", "--aggregate")
    first, last = [event_from_dict(json.loads(line)) for line in out.splitlines()]
    assert isinstance(first, OutputItemDone)
    assert isinstance(last, Completed)


def test_json_lines_that_arrived_before_an_error_are_printed(run: Any) -> None:
    code, out, err = run([head(), delta("one"), cut()], "--json")
    assert (code, len(out.splitlines()), err.count("\n")) == (1, 2, 1)


def test_json_on_a_terminal_can_not_control_it(openai_server: Any, terminal: Screen) -> None:
    openai_server(text_answer("".join(HOSTILE.values())))
    assert terminal.run("--json") == 0
    seen = terminal.seen(b"}\n").decode()
    assert seen.isascii()
    assert not any(map(is_obeyed, seen))


# ── whole answers ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_answer_is_printed_after_a_restart_without_a_trace(
    openai_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from chatstream.cli.main import main

    server = openai_server([head(), delta("brok"), cut()], text_answer("whole"))
    assert main(["Hi", "-m", "m1", "--aggregate"]) == 0
    assert (capsys.readouterr(), len(server.requests)) == (("whole\n", ""), 2)


def test_nothing_of_an_answer_that_stays_broken_is_printed(run: Any) -> None:
    code, out, err = run([head(), delta("one "), stall()], "--aggregate", "--deadline", "0.1")
    assert (code, out) == (1, "")
    assert err.startswith("chatstream: the deadline of 0.1 s for all attempts has passed")
