"""``chatstream chat``: a conversation that is kept in a file."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from consoles import Screen, open_terminal
from test_printed_output import reasoning

from chatstream import Message, item_from_dict
from chatstream.cli.main import main
from chatstream.testing import Script, Wire, cut, delta, done, end, finish, head, pause, stall, status, text_answer

PIXEL_URL = "data:image/png;base64,aGk="


@pytest.fixture
def chat(openai_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Any]]:
    """Runs ``chatstream chat`` against the given scripts; returns exit status and server."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TERM", "dumb")

    def ran(*arguments: str, scripts: list[Script]) -> tuple[int, Any]:
        server = openai_server(*scripts)
        return main(["chat", "-m", "m1", *arguments]), server

    return ran


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Screen]]:
    """Puts terminals in the place of stdin and stdout; `input` returns the given lines, or raises them."""
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    with closing(open_terminal()) as screen, closing(open_terminal()) as typed:

        def type_lines(*lines: str | BaseException) -> Screen:
            pending = [*lines, EOFError()]

            def read_line(prompt: str) -> str:
                assert prompt == "> "
                line = pending.pop(0)
                if isinstance(line, BaseException):
                    raise line
                return line

            monkeypatch.setattr("builtins.input", read_line)
            monkeypatch.setattr(sys, "stdin", typed.file)
            monkeypatch.setattr(sys, "stdout", screen.file)
            return screen

        yield type_lines


def kept(tmp_path: Path, name: str = "default") -> list[tuple[str, str]]:
    """Roles and texts of the conversation in its file."""
    lines = (tmp_path / "data/chatstream/conversations" / f"{name}.jsonl").read_text("utf-8").splitlines()
    items = [item_from_dict(json.loads(line)) for line in lines]
    return [(item.role, item.text) for item in items if isinstance(item, Message)]


def sent(server: Any, number: int = -1) -> list[tuple[str, Any]]:
    return [(each["role"], each["content"]) for each in server.requests[number].json["messages"]]


# ── messages of a pipe and of an argument ───────────────────────────────────────────────────────────────────────


def test_each_line_of_a_pipe_is_a_message_of_one_conversation(
    chat: Any, stdin: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(b"Hello\n\nAnd you?\n")
    code, server = chat(scripts=[text_answer("Hi."), text_answer("Fine.")])
    assert (code, capsys.readouterr()) == (0, ("Hi.\nFine.\n", ""))
    assert sent(server) == [("user", "Hello"), ("assistant", "Hi."), ("user", "And you?")]
    assert kept(tmp_path) == [("user", "Hello"), ("assistant", "Hi."), ("user", "And you?"), ("assistant", "Fine.")]


def test_a_conversation_goes_on_in_another_run(chat: Any, tmp_path: Path) -> None:
    for number in range(3):
        code, server = chat("-C", "trip", f"Message {number}", scripts=[text_answer(f"Answer {number}")])
        assert code == 0
    assert [text for _, text in sent(server)] == ["Message 0", "Answer 0", "Message 1", "Answer 1", "Message 2"]
    assert len(kept(tmp_path, "trip")) == 6


def test_a_conversation_may_be_any_file_and_is_readable_by_its_owner_alone(chat: Any, tmp_path: Path) -> None:
    path = tmp_path / "some" / "where.jsonl"
    assert chat("-C", str(path), "Hi", scripts=[text_answer("Ho")])[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text("utf-8").splitlines()) == 2


def test_message_dicts_of_another_program_are_a_conversation(chat: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"role": "system", "content": "Be brief."}\n\n{"role": "user", "content": "A"}\n', "utf-8")
    _, server = chat("-C", str(path), "B", scripts=[text_answer("C")])
    assert sent(server)[0] == ("system", "Be brief.")


def test_instructions_are_kept_with_the_conversation_and_can_not_be_changed_later(
    chat: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat("-s", "Be brief.", "Hi", scripts=[text_answer("Ho")])
    _, server = chat("And?", scripts=[text_answer("No")])
    assert sent(server)[0] == ("system", "Be brief.")
    capsys.readouterr()
    for repeated in ("Be long.", "Be brief."):
        code, server = chat("-s", repeated, "Hi", scripts=[text_answer("Ho")])
        assert (code, server.requests) == (1, [])
        expected = "chatstream: -s can only be used at the start of a conversation: add --new to start a new one"
        assert capsys.readouterr().err.strip() == expected


def test_a_new_conversation_keeps_the_file_of_the_old_one(chat: Any, tmp_path: Path) -> None:
    for _ in range(2):
        _, server = chat("--new", "-s", "Be brief.", "Hi", scripts=[text_answer("Ho")])
        assert sent(server) == [("system", "Be brief."), ("user", "Hi")]
    names = sorted(path.name for path in (tmp_path / "data/chatstream/conversations").iterdir())
    assert len(names) == 2
    assert names[0].startswith("default-2")


def test_files_and_images_belong_to_the_first_message(chat: Any, stdin: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A", "utf-8")
    stdin(b"One\nTwo\n")
    options = ["-f", str(tmp_path / "a.txt"), "-i", PIXEL_URL]
    _, server = chat(*options, scripts=[text_answer("1"), text_answer("2")])
    assert sent(server)[-1] == ("user", "Two")
    assert sent(server)[0][1][1]["image_url"]["url"] == PIXEL_URL


def test_a_pipe_follows_a_message_that_is_given(chat: Any, stdin: Any) -> None:
    stdin(b"the diff\n")
    _, server = chat("Review:", scripts=[text_answer("1")])
    assert sent(server) == [("user", "Review:\n\nthe diff")]


@pytest.mark.parametrize(
    ("script", "code", "answer"),
    [
        ([head(), delta("Half"), cut()], 1, "Half"),
        ([head(), reasoning("Hmm"), cut()], 1, None),
        (status(401, "no"), 1, None),
        ([head(), finish(), done(), end()], 0, None),
    ],
)
def test_a_message_is_kept_with_the_part_of_its_answer_that_arrived(
    chat: Any, tmp_path: Path, script: Script, code: int, answer: str | None
) -> None:
    assert chat("Hi", scripts=[script])[0] == code
    path = tmp_path / "data/chatstream/conversations/default.jsonl"
    assert (kept(tmp_path) if path.exists() else []) == ([("user", "Hi"), ("assistant", answer)] if answer else [])


def test_an_error_ends_the_conversation_of_a_pipe(chat: Any, stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(b"One\nTwo\n")
    code, server = chat(scripts=[status(401, "no")])
    assert (code, len(server.requests), capsys.readouterr().err.count("\n")) == (1, 1, 1)


def test_ctrl_c_keeps_the_partial_answer_and_exits_with_130(chat: Any, tmp_path: Path, interrupt: Any) -> None:
    code, _ = chat("Hi", scripts=[[head(), delta("Half"), pause(0.1), interrupt, stall()]])
    assert code == 130
    assert kept(tmp_path) == [("user", "Hi"), ("assistant", "Half")]


@pytest.mark.parametrize("given", [None, b"", b"\n \n"])
def test_without_a_terminal_and_without_a_message_chat_is_an_error(
    chat: Any, stdin: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: bytes | None
) -> None:
    monkeypatch.setattr(sys, "stdin", None) if given is None else stdin(given)
    assert chat(scripts=[])[0] == 1
    assert capsys.readouterr().err.startswith(
        "chatstream: no message: type one on a terminal, pass one as an argument, or pipe lines into stdin"
    )


@pytest.mark.parametrize("line", ["{", "3", "null", '"text"', "[]", '{"a": 1}', '{"type": "message", "role": "user"}'])
def test_a_corrupt_conversation_is_an_error_that_names_the_line(
    chat: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"role": "user", "content": "A"}\n' + line, "utf-8")
    code, server = chat("-C", str(path), "Hi", scripts=[text_answer("Ho")])
    assert (code, server.requests) == (1, [])
    assert capsys.readouterr().err == f"chatstream: line 2 of {path} is not an item of a conversation\n"


def test_a_conversation_that_can_not_be_read_or_written_is_an_error_of_one_line(
    chat: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for name in (str(tmp_path), "/dev/null", ""):
        assert chat("-C", name, "Hi", scripts=[text_answer("Ho")])[0] == 1
        assert capsys.readouterr().err == f"chatstream: {name!r} can't be used as a conversation file\n"
    assert chat("-C", str(tmp_path / "file" / "x.jsonl"), "Hi", scripts=[text_answer("Ho")])[0] == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("Ho\n", f"chatstream: can't write {tmp_path}/file/x.jsonl: File exists\n")
    monkeypatch.setattr(Path, "rename", lambda path, to: path.rmdir())
    assert chat("-C", str(tmp_path / "file"), "--new", "Hi", scripts=[text_answer("Ho")])[0] == 1
    assert capsys.readouterr().err == f"chatstream: can't rename {tmp_path}/file: Not a directory\n"


# ── messages that are typed ─────────────────────────────────────────────────────────────────────────────────────


def test_typed_messages_are_answered_until_the_end_of_the_input(
    chat: Any, keyboard: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    screen = keyboard("Hello", " ", KeyboardInterrupt(), "And you?")
    assert chat(scripts=[text_answer("Hi."), text_answer("Fine.")])[0] == 0
    assert screen.seen(b"Fine.\n\n") == b"Hi.\nFine.\n\n"
    err = capsys.readouterr().err
    assert err.startswith(f"[{tmp_path}/data/chatstream/conversations/default.jsonl: 0 messages; Ctrl-D ends]\n")
    assert err.endswith("(Ctrl-D ends the conversation)\n")


def test_an_error_does_not_end_a_typed_conversation(
    chat: Any, keyboard: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    keyboard("One", "Two")
    assert chat(scripts=[status(401, "no"), text_answer("2")])[0] == 0
    assert "\nchatstream: unexpected status 401: no" in capsys.readouterr().err
    assert kept(tmp_path) == [("user", "Two"), ("assistant", "2")]


def test_ctrl_c_ends_one_answer_of_a_typed_conversation(
    chat: Any, keyboard: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, interrupt: Any
) -> None:
    def see_the_text_and_interrupt(wire: Wire) -> None:
        screen.seen(b"Half")
        interrupt()

    screen = keyboard("One", "Two")
    _, server = chat(scripts=[[head(), delta("Half"), see_the_text_and_interrupt, stall()], text_answer("2")])
    assert sent(server) == [("user", "One"), ("assistant", "Half"), ("user", "Two")]
    assert "(stopped; the part received is kept)" in capsys.readouterr().err


def test_earlier_messages_come_back_in_the_line_editor(chat: Any, keyboard: Any) -> None:
    readline = pytest.importorskip("readline")
    chat("Earlier\nmessage", scripts=[text_answer("1")])
    keyboard()
    chat(scripts=[text_answer("2")])
    history = [readline.get_history_item(number + 1) for number in range(readline.get_current_history_length())]
    assert history == ["Earlier message"]


def test_a_terminal_without_readline_is_enough(chat: Any, keyboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "readline", None)
    screen = keyboard("Hello")
    assert chat(scripts=[text_answer("Hi.")])[0] == 0
    assert screen.seen(b"\n\n") == b"Hi.\n\n"


def test_prompt_toolkit_edits_the_messages_where_it_is_installed(
    chat: Any, keyboard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "prompt_toolkit")
    pytest.importorskip("prompt_toolkit")
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    keyboard()
    with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
        typed.send_text("One\x1b\rTwo\r\x1b[A\x15\x04")
        code, server = chat(scripts=[text_answer("1")])
    assert (code, sent(server)) == (0, [("user", "One\nTwo")])
