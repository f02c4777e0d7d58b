"""The command line in a process of its own, on a real pseudo-terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from consoles import KEY, Shell
from test_printed_output import reasoning

from chatstream.testing import Script, delta, done, end, finish, head, pause, stall, text_answer

pexpect = pytest.importorskip("pexpect")
PROMPT = r">( |\x08\x1b\[2C)"  # written, or the cursor moved
STYLE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@pytest.fixture
def start(openai_server: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts ``python -m chatstream`` on a terminal, against a server that plays the given scripts."""
    with ExitStack() as stack:

        def started(*arguments: str, scripts: list[Script], **environ: str) -> Any:
            shell = Shell(openai_server(*scripts))
            shell.environ |= {"TERM": "xterm-256color", "XDG_DATA_HOME": str(tmp_path), "LANG": "C.UTF-8", **environ}
            shell.environ["PROMPT_TOOLKIT_NO_CPR"] = "1"  # pexpect answers no questions about the cursor
            child = pexpect.spawn(
                sys.executable,
                ["-m", "chatstream", *arguments],
                env=shell.environ,
                encoding="utf-8",
                timeout=20,
                dimensions=(24, 60),
            )
            stack.callback(child.close, force=True)
            return child

        yield started


def rest_of(child: Any) -> str:
    """What is written until the process ends."""
    child.expect(pexpect.EOF)
    child.wait()
    return str(child.before)


def test_a_terminal_shows_a_spinner_reasoning_and_markdown_one_after_the_other(start: Any) -> None:
    pytest.importorskip("rich")
    slow = [pause(0.3), head(), pause(0.3), reasoning("Let me think."), delta("- one\n- *two*\n\nThe end.")]
    child = start("Hi", "-m", "m1", scripts=[[*slow, finish(), done(), end()]])
    child.expect_exact("\r\x1b[K⠋ waiting 0 s")
    child.expect_exact("⠙")
    child.expect_exact("\r\x1b[K\x1b[2mLet me think.\x1b[22m\r\n")
    rest = rest_of(child)
    assert "⠋" not in rest
    assert STYLE.sub("", rest).endswith(" • one\r\n • two\r\n\r\nThe end.\r\n")
    assert "\x1b[3mtwo\x1b[0m" in rest
    assert child.exitstatus == 0


def test_a_terminal_shows_the_text_as_it_is_where_markdown_is_not_wanted(start: Any) -> None:
    child = start("Hi", "-m", "m1", "--plain", scripts=[text_answer("- *one*")])
    assert rest_of(child) == "- *one*\r\n"


def test_ctrl_c_on_a_terminal_keeps_what_arrived_and_shows_the_cursor(start: Any) -> None:
    child = start("Hi", "-m", "m1", scripts=[[head(), delta("Some *text"), stall()]])
    child.expect_exact("Some *text")
    child.sendintr()
    rest = rest_of(child)
    assert (child.exitstatus, "Traceback" in rest) == (130, False)
    assert "Some *text" in rest or rest.endswith("\r\n")
    assert rest.rfind("\x1b[?25h") >= rest.rfind("\x1b[?25l")


def test_ctrl_c_on_a_terminal_erases_the_spinner(start: Any) -> None:
    child = start("Hi", "-m", "m1", scripts=[[stall()]])
    child.expect_exact("waiting")
    child.sendintr()
    rest = rest_of(child)
    assert (child.exitstatus, rest[-4:]) == (130, "\r\x1b[K"), (child.signalstatus, rest)


@pytest.mark.parametrize("editor", ["prompt_toolkit", "readline"])
def test_a_conversation_of_three_turns_is_continued_in_a_second_process(
    start: Any, tmp_path: Path, editor: str
) -> None:
    """Ctrl-C ends the second answer, whose beginning is kept; Ctrl-D ends the first process."""
    environ = {}
    if editor == "readline":
        (tmp_path / "prompt_toolkit.py").write_text("raise ImportError('not here')", encoding="utf-8")
        environ = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    scripts = [text_answer("Answer 1"), [head(), delta("Half 2"), stall()]]
    child = start("chat", "-m", "m1", "--plain", scripts=scripts, **environ)
    child.expect_exact("0 messages; Ctrl-D ends]")
    child.expect(PROMPT)
    child.send("Question 1\r")
    child.expect_exact("Answer 1")
    child.expect(PROMPT)
    child.send("Question 2\r")
    child.expect_exact("Half 2")
    child.sendintr()
    child.expect_exact("(stopped; the part received is kept)")
    child.expect(PROMPT)
    child.sendeof()
    assert "Traceback" not in rest_of(child)
    assert child.exitstatus == 0

    child = start("chat", "-m", "m1", "--plain", scripts=[text_answer("Answer 3")], **environ)
    child.expect_exact("2 messages; Ctrl-D ends]")
    child.expect(PROMPT)
    child.send("\x1b[A")
    child.expect_exact("Question 2")
    child.send("\x15Question 3\r")
    child.expect_exact("Answer 3")
    child.expect(PROMPT)
    child.sendeof()
    rest_of(child)
    kept = (tmp_path / "chatstream" / "conversations" / "default.jsonl").read_text(encoding="utf-8")
    assert re.findall(r'"text": "([^"]*)"', kept) == [
        *("Question 1", "Answer 1", "Question 2", "Half 2", "Question 3", "Answer 3")
    ]
    assert KEY not in kept


def test_an_error_is_one_line_after_the_erased_spinner(start: Any) -> None:
    child = start("Hi", "-m", "m1", "-p", "opnai", scripts=[])
    assert re.fullmatch(r"(\r\x1b\[K.*)?chatstream: unknown built-in provider \(.*\r\n", rest_of(child))
    assert child.exitstatus == 1
