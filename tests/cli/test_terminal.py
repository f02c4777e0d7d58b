"""What a terminal and a pipe receive: control characters and encodings."""

from __future__ import annotations

import codecs
import io
import sys
from contextlib import closing
from typing import Any

import pytest
from consoles import (
    ANSWER,
    HOSTILE,
    INTACT,
    NEEDED,
    Screen,
    Shell,
    error_event,
    is_obeyed,
    json_delta,
    letters,
    open_terminal,
    refusal,
)

from chatstream.cli.main import main
from chatstream.cli.terminal import escape_controls
from chatstream.testing import chunk, done, end, event, finish, head, status, text_answer


@pytest.mark.thorough
def test_exactly_the_characters_that_a_terminal_obeys_or_that_nobody_sees_are_replaced() -> None:
    everything = [*map(chr, [*range(0x20000), *range(0xE0000, 0xE2000)])]  # the others are ideographs and private use
    changed = {each for each in everything if escape_controls(each) != each}
    assert changed == {*filter(is_obeyed, everything), *NEEDED}
    assert not any(is_obeyed(escape_controls(each)) for each in everything)


@pytest.mark.parametrize("text", INTACT.values(), ids=INTACT)
def test_joiners_and_selectors_that_a_script_or_an_emoji_needs_stay(text: str) -> None:
    assert escape_controls(text) == text


@pytest.mark.parametrize("base", ["", "a", "Z", "\n", " ", "\u200b", "\u200d", "\ufe0f", "\u0430", "\u3164"], ids=ascii)
def test_a_joiner_or_selector_after_a_character_without_a_use_for_it_is_replaced(base: str) -> None:
    for each in NEEDED:
        assert escape_controls(base + each)[-1] == "\ufffd"


def test_of_several_joiners_or_selectors_in_a_row_only_the_first_stays() -> None:
    assert escape_controls("\u06cc\u200c\u200d\u200c") == "\u06cc\u200c\ufffd\ufffd"
    assert escape_controls("\U0001f600\ufe0f\ufe0e\U000e0100") == "\U0001f600\ufe0f\ufffd\ufffd"
    assert escape_controls("\u2764\ufe0f\u200d\ufe0f\u200d") == "\u2764\ufe0f\u200d\ufffd\ufffd"


@pytest.mark.parametrize("text", (HOSTILE | INTACT).values(), ids=HOSTILE | INTACT)
def test_splitting_a_text_anywhere_does_not_change_how_it_is_escaped(text: str) -> None:
    for position in range(len(text) + 1):
        first, rest = text[:position], text[position:]
        assert escape_controls(first) + escape_controls(rest, first) == escape_controls(text)
    assert not any(map(is_obeyed, escape_controls(text)))


def test_escaped_text_stays_readable() -> None:
    assert escape_controls("\x1b[31mred\x7f\r\n\tgrün \U0001f469\u200d\U0001f680\x85\u202e") == (
        "␛[31mred␡␍\n\tgrün \U0001f469\u200d\U0001f680\ufffd\ufffd"
    )


@pytest.mark.parametrize("text", (HOSTILE | INTACT).values(), ids=HOSTILE | INTACT)
@pytest.mark.parametrize("split", [text_answer, letters])
def test_a_terminal_displays_control_characters_instead_of_obeying_them(
    openai_server: Any, terminal: Screen, text: str, split: Any
) -> None:
    openai_server(split(text))
    assert terminal.run("--plain") == 0
    assert terminal.seen(b"\n").decode() == escape_controls(text) + "\n"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_pipe_receives_control_characters_unchanged(
    openai_server: Any, capsysbinary: pytest.CaptureFixture[bytes], text: str
) -> None:
    openai_server(letters(text))
    assert main(["Hi", "-m", "m1"]) == 0
    assert capsysbinary.readouterr() == (f"{text}\n".encode(), b"")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_model_name_and_no_error_message_can_control_the_terminal(run: Any, text: str) -> None:
    named = event({"id": "c1", "model": text, "choices": [{"index": 0, "delta": {"content": "Hi"}}]})
    reason = event({"choices": [{"index": 0, "delta": {}, "finish_reason": f"stop{text}"}]})
    outputs = [
        run([head(), named, reason, done(), end()], "--stats"),
        run([head(), error_event(text), end()]),
        run(refusal(text)),
        run(status(404, text)),
        run([head(404, {"X-Request-Id": text.encode("utf-8").decode("latin-1").strip("\r\n")}), end()]),
        run(status(307, headers={"Location": "http://example.com/" + text.encode().hex()})),
        run([head(), chunk(b"data: " + text.encode() + b"\n\n"), end()]),
    ]
    for _, _, err in outputs:
        assert err.count("\n") == 1
        assert not any(map(is_obeyed, err))


def test_in_a_shell_neither_answer_nor_statistics_can_control_the_terminal(shell: Any, terminal: Screen) -> None:
    everything = "".join(HOSTILE.values())
    named = event({"id": "c1", "model": everything, "choices": [{"index": 0, "delta": {"content": everything}}]})
    command = shell([head(), named, finish(), done(), end()])
    with command.start("--stats", "--plain", stdout=terminal.file, stderr=terminal.file) as process:
        assert process.wait(timeout=30) == 0
    seen = terminal.seen(b" s]\n").decode()
    assert seen.startswith(escape_controls(everything))
    assert not any(map(is_obeyed, seen))


def test_a_terminal_with_an_ascii_encoding_receives_backslash_escapes(openai_server: Any) -> None:
    openai_server(text_answer("grün \x1b[1m"))
    with closing(open_terminal("ascii")) as terminal:
        assert terminal.run("--plain") == 0
        assert terminal.seen(b"\n") == b"gr\\xfcn \\u241b[1m\n"


# ── encodings ───────────────────────────────────────────────────────────────────────────────────────────────────


POSIX = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C"}, POSIX], ids=["ascii", "C", "POSIX"])
def test_a_pipe_receives_utf_8_whatever_the_locale(shell: Any, environ: dict[str, str]) -> None:
    command = shell(text_answer("grün ", "\U0001f680"))
    command.environ |= environ
    assert command.run() == (0, "grün \U0001f680\n".encode(), b"")


def test_stdin_is_read_as_utf_8_whatever_the_locale(openai_server: Any) -> None:
    server = openai_server(ANSWER)
    command = Shell(server)
    command.environ |= POSIX
    assert command.run("-", stdin="grün".encode()) == (0, b"Hello\n", b"")
    assert server.requests[0].json["messages"][0]["content"] == "Hi grün"


def test_an_error_is_printed_to_an_ascii_stderr_with_backslash_escapes(shell: Any) -> None:
    command = shell(refusal("Schlüssel \x1b[1m fehlt"))
    command.environ |= {"PYTHONIOENCODING": "ascii"}
    code, out, err = command.run()
    assert (code, out) == (1, b"")
    assert err.startswith(b"chatstream: unexpected status 401: Schl\\xfcssel \\u241b[1m fehlt. ")


def test_a_lone_surrogate_is_written_to_a_pipe_as_a_replacement_character(
    openai_server: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    openai_server([head(), json_delta("a\\ud83d"), json_delta("b"), finish(), done(), end()])
    assert main(["Hi", "-m", "m1"]) == 0
    assert capsysbinary.readouterr().out == "a\ufffdb\n".encode()


def test_a_lone_surrogate_is_displayed_on_a_terminal_as_a_replacement_character(
    openai_server: Any, terminal: Screen
) -> None:
    openai_server([head(), json_delta("a\\ud83d"), json_delta("b"), finish(), done(), end()])
    assert terminal.run("--plain") == 0
    assert terminal.seen(b"\n").decode() == "a\ufffdb\n"


def test_a_stdout_replaced_by_the_caller_receives_the_text_unchanged(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    openai_server(text_answer("grün\x1b"))
    monkeypatch.setattr(sys, "stdout", own := io.StringIO())
    assert main(["Hi", "-m", "m1"]) == 0
    assert own.getvalue() == "grün\x1b\n"


def test_a_byte_order_mark_in_the_answer_is_kept(
    openai_server: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    openai_server(text_answer("\ufeffHi"))
    assert main(["Hi", "-m", "m1"]) == 0
    assert capsysbinary.readouterr().out == codecs.BOM_UTF8 + b"Hi\n"
