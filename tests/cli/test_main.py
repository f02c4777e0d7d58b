"""The command line, as a shell and a terminal see it."""

from __future__ import annotations

import codecs
import io
import os
import pty
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any, TextIO
from unicodedata import category

import pytest

import chatstream
from chatstream.cli.main import main
from chatstream.cli.terminal import escape_controls
from chatstream.testing import (
    FaultServer,
    Script,
    Step,
    Wire,
    chunk,
    cut,
    delta,
    done,
    end,
    event,
    finish,
    forever,
    head,
    stall,
    status,
    text_answer,
)

KEY = "sk-Zq7-the-key"
BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "clear the screen": "\x1b[2J\x1b[H",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://example.com\x1b\\text\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "device control": '\x1bP$q"p\x1b\\',
    "reset": "\x1bc",
    "8-bit CSI": "\x9b31mred",
    "8-bit OSC": "\x9d0;owned\x9c",
    "overwritten line": "rm -rf /\recho hello",
    "overwritten character": "no\b\by\x7fes",
    "bell, form feed, shift out": "\a\f\v\x0e\x0f",
    "NUL": "a\0b",
    "next line": "a\x85b",
    "bidi": f"a{BIDI}b",
    "line separators": "a\u2028b\u2029c",
}
ANSWER = text_answer("Hel", "lo")


def is_obeyed(character: str) -> bool:
    """Whether a terminal might do something other than show it."""
    return (category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t") or character in BIDI


@pytest.fixture
def asked(serve: Any, monkeypatch: pytest.MonkeyPatch, short_waits: None) -> Callable[..., FaultServer]:
    """Starts a server with the scripts given, and makes it the one that the command line asks."""

    def started(*scripts: Script) -> FaultServer:
        server = serve(*scripts)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return server

    return started


@pytest.fixture
def run(asked: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line on a question against the script given: exit status, stdout, stderr."""

    def ran(script: Script, *options: str) -> tuple[int, str, str]:
        asked(script)
        code = main(["Hi", "-m", "m1", *options])
        return code, *capsys.readouterr()

    return ran


class Shell:
    """``python -m chatstream`` in a process of its own, developer mode on: leaks would show on stderr."""

    def __init__(self, server: FaultServer) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
        own = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
        self.environ = inherited | own | {"PYTHONPATH": str(Path(chatstream.__file__).parent.parent)}
        self.command = [sys.executable, "-X", "dev", "-W", "error", "-m", "chatstream", "Hi", "-m", "m1"]

    def run(self, *options: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        command = [*self.command, *options]
        ended = subprocess.run(command, env=self.environ, input=stdin, capture_output=True, timeout=30, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    def start(self, *options: str, stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE) -> Any:
        return subprocess.Popen([*self.command, *options], env=self.environ, stdout=stdout, stderr=stderr)


@pytest.fixture
def shell(asked: Any) -> Callable[..., Shell]:
    return lambda *scripts: Shell(asked(*scripts))


class Screen:
    """What stdout may be: ``file`` is what is written to, `seen` tells what has arrived."""

    def __init__(self, reader: int, writer: int, encoding: str) -> None:
        self.file: TextIO = open(writer, "w", encoding=encoding)  # noqa: SIM115
        self._reader = open(reader, "rb", buffering=0)  # noqa: SIM115

    def run(self, *options: str) -> int:
        """The command line, with this as its stdout."""
        with redirect_stdout(self.file):
            return main(["Hi", "-m", "m1", *options])

    def seen(self, end: bytes = b"") -> bytes:
        """What has been written since the last look; waits until there is something, with ``end`` behind it."""
        data = b""
        while not data or not data.endswith(end):
            assert select.select([self._reader], [], [], 5)[0], f"nothing comes after {data!r}"
            data += self._reader.read(65536) or b""
        return data

    def go(self) -> None:
        """Read no more."""
        self._reader.close()

    def close(self) -> None:
        self.file.close()
        self._reader.close()


def open_terminal(encoding: str = "utf-8") -> Screen:
    master, slave = pty.openpty()
    tty.setraw(slave)  # no line end of its own making
    return Screen(master, slave, encoding)


@pytest.fixture
def terminal() -> Iterator[Screen]:
    with closing(open_terminal()) as screen:
        yield screen


@pytest.fixture
def pipe() -> Iterator[Screen]:
    with closing(Screen(*os.pipe(), "utf-8")) as screen:
        yield screen


def letters(text: str) -> Script:
    """An answer of one character per event."""
    return text_answer(*text)


def of_json(content: str) -> Step:
    """A delta whose content is spelled in JSON."""
    return event('{"id": "c1", "choices": [{"index": 0, "delta": {"content": "' + content + '"}}]}')


# ── what goes in and what comes out ─────────────────────────────────────────────────────────────────────────────


def test_stdout_has_the_answer_and_nothing_else(run: Any) -> None:
    assert run(ANSWER) == (0, "Hello\n", "")


def test_an_answer_that_ends_its_line_gets_no_second_line_end(run: Any) -> None:
    assert run(text_answer("Hello", "\n")) == (0, "Hello\n", "")


def test_an_empty_answer_is_no_line(run: Any) -> None:
    assert run([head(), finish(), done(), end()]) == (0, "", "")


def test_only_the_first_choice_is_shown(run: Any) -> None:
    both = [head(), delta("first"), delta("second", choice=1), finish(), finish(choice=1), done(), end()]
    assert run(both) == (0, "first\n", "")


def test_a_refusal_is_told_on_stderr(run: Any) -> None:
    refusal = event({"id": "c1", "choices": [{"index": 0, "delta": {"refusal": "I can't\nhelp \x1b[1mwith that."}}]})
    code, out, err = run([head(), refusal, finish(), done(), end()])
    assert (code, out) == (0, "")
    assert err == "chatstream: the model refused: I can't help ␛[1mwith that.\n"


def test_words_options_and_the_system_prompt_become_the_request(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = asked(ANSWER)
    words = ["Why", "-m", "m1", "is the sky", "-s", "Be short.", "--max-tokens", "5", "--temperature", "0", "blue?"]
    assert main(words) == 0
    body = server.requests[0].json
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Why is the sky blue?"},
    ]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m1", 5, 0)
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_what_is_not_asked_for_is_not_sent(asked: Any) -> None:
    server = asked(ANSWER)
    main(["Hi", "-m", "m1"])
    assert server.requests[0].json.keys() == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("größer\n".encode(), "größer"),
        (b"gr\xf6\xdfer", "gr\ufffd\ufffder"),
        (b"", ""),
    ],
)
def test_a_dash_stands_for_stdin(asked: Any, monkeypatch: pytest.MonkeyPatch, given: bytes, expected: str) -> None:
    server = asked(ANSWER)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))
    assert main(["Review:", "-m", "m1", "-"]) == 0
    assert server.requests[0].json["messages"][0]["content"] == f"Review: {expected}".strip()


def test_every_dash_stands_for_the_same_text(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = asked(ANSWER)
    monkeypatch.setattr(sys, "stdin", io.StringIO("twice"))
    assert main(["-", "-", "-m", "m1"]) == 0
    assert server.requests[0].json["messages"][0]["content"] == "twice twice"


def test_stats_go_to_stderr(run: Any) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    code, out, err = run(text_answer("Hello", reason="length", usage=usage), "--stats")
    assert (code, out) == (0, "Hello\n")
    assert err.startswith("[m1: length; 3 tokens in, 2 out; first after 0.")
    assert err.endswith(" s]\n")


def test_stats_tell_of_a_server_that_reports_nothing(run: Any) -> None:
    *_, err = run([head(), delta("Hello"), done(), end()], "--stats")
    assert err.startswith("[m1: unconfirmed; no usage reported; first after 0.")


def test_the_package_is_the_command_line(
    asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(ANSWER)
    monkeypatch.setattr(sys, "argv", ["chatstream", "Hi", "-m", "m1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("chatstream", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == "Hello\n"


def test_text_is_shown_as_it_comes(asked: Any, pipe: Screen) -> None:
    def read_it_first(wire: Wire) -> None:
        read.append(pipe.seen())

    read: list[bytes] = []
    asked([head(), delta("one "), read_it_first, delta("two"), read_it_first, finish(), done(), end()])
    assert pipe.run() == 0
    assert read == [b"one ", b"two"]


# ── how it ends ─────────────────────────────────────────────────────────────────────────────────────────────────


def refusal(message: str) -> Script:
    return status(401, {"error": {"message": message, "code": "invalid_api_key"}})


def error_event(message: str) -> Step:
    return event({"error": {"message": message, "code": "server_error"}})


PAGE = [head(headers={"Content-Type": "text/html"}), chunk(b"<html>\n<title>Sign in</title>\n</html>"), end()]


@pytest.mark.parametrize(
    ("script", "options", "told"),
    [
        (ANSWER, ["-m", ""], "name a model"),
        (ANSWER, ["-p", "opnai"], "there is no ready-made provider 'opnai'. Did you mean 'openai'?"),
        (ANSWER, ["-p", "groq"], "Missing environment variable: `GROQ_API_KEY`. Create a key at "),
        (ANSWER, ["--deadline", "-1"], "deadline is a number of seconds above 0"),
        (ANSWER, ["--temperature", "nan"], "temperature can't be written as JSON"),
        (refusal("Incorrect API key."), [], "unexpected status 401: Incorrect API key."),
        (refusal("Two\r\nlines\n"), [], "unexpected status 401: Two lines\n"),
        (status(503, "busy"), [], "retries spent, last status 503: busy"),
        (PAGE, [], "stream disconnected before completion: "),
        ([head(), error_event("overloaded"), end()], [], "stream disconnected before completion: overloaded"),
        ([head(), end()], [], "stream disconnected before completion: "),
        ([head(), stall()], ["--deadline", "0.05"], "the deadline passed"),
    ],
)
def test_an_error_is_one_line_on_stderr(run: Any, script: Script, options: list[str], told: str) -> None:
    code, out, err = run(script, *options)
    assert (code, out) == (1, "")
    assert err.startswith(f"chatstream: {told}")
    assert err.index("\n") == len(err) - 1
    assert KEY not in err


def test_without_a_key_nothing_is_sent(
    asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = asked(ANSWER)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main(["Hi", "-m", "m1"]) == 1
    assert capsys.readouterr().err.startswith("chatstream: Missing environment variable: `OPENAI_API_KEY`. ")
    assert not server.requests


def test_without_a_question_nothing_is_sent(
    asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = asked(ANSWER)
    monkeypatch.setattr(sys, "stdin", None)  # as a shell's <&- leaves it
    assert main(["-", "-m", "m1"]) == 1
    assert capsys.readouterr().err.startswith("chatstream: there is no question: ")
    assert not server.requests


def test_a_server_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short_waits: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{address}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert main(["Hi", "-m", "m1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"chatstream: no response from {address}: ")


@pytest.mark.parametrize("fault", [cut(), end(), error_event("overloaded")])
def test_what_has_come_stays_when_the_answer_breaks_off(run: Any, fault: Step) -> None:
    code, out, err = run([head(), delta("one "), delta("two"), fault, end()], "--stats")
    assert (code, out) == (1, "one two\n")
    assert err.startswith("chatstream: stream disconnected before completion: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["-m"], ["Hi", "--max-tokens", "many"], ["Hi", "--loud"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: chatstream ")


@pytest.mark.parametrize(("option", "told"), [("--version", chatstream.__version__), ("--help", "stdin")])
def test_what_it_tells_of_itself(capsys: pytest.CaptureFixture[str], option: str, told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 0
    assert told in capsys.readouterr().out


def test_ctrl_c_keeps_what_has_come(asked: Any, pipe: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(wire: Wire) -> None:
        assert pipe.seen() == b"one "
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    server = asked([head(), delta("one "), interrupt, stall()])
    assert pipe.run() == 130
    assert pipe.seen() == b"\n"
    assert capsys.readouterr().err == ""
    assert server.client_closed()


def test_ctrl_c_in_a_shell(shell: Any) -> None:
    with shell([head(), delta("one "), stall()]).start() as process:
        assert process.stdout.read(4) == b"one "
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"\n", b"")
    assert process.returncode == 130


def test_a_reader_that_goes_ends_it_quietly(asked: Any, pipe: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    def go(wire: Wire) -> None:
        pipe.seen()
        pipe.go()

    server = asked([head(), delta("one "), go, forever(delta("more "))])
    assert pipe.run() == 0
    assert capsys.readouterr().err == ""
    assert server.client_closed()
    print("Python's own last words", file=pipe.file, flush=True)


def test_a_reader_that_goes_in_a_shell(asked: Any) -> None:
    server = asked([head(), forever(delta("more "))])
    with Shell(server).start() as process:
        assert process.stdout.read(5) == b"more "
        process.stdout.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""
    assert server.client_closed()


def test_a_reader_of_both_that_goes(asked: Any) -> None:
    with Shell(asked([head(), forever(delta("more "))])).start(stderr=subprocess.STDOUT) as process:
        assert process.stdout.read(5) == b"more "
        process.stdout.close()
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk(asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked(ANSWER)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["Hi", "-m", "m1"]) == 1
    assert capsys.readouterr().err == "chatstream: [Errno 28] No space left on device\n"


def test_without_a_stdout_nothing_is_sent(
    asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = asked(ANSWER)
    monkeypatch.setattr(sys, "stdout", None)  # as a shell's >&- leaves it
    assert main(["Hi", "-m", "m1"]) == 1
    assert capsys.readouterr().err == "chatstream: stdout is closed: the answer has nowhere to go\n"
    assert not server.requests


def test_without_a_stderr_stdout_stays_clean(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert run(refusal("no")) == (1, "", "")


# ── what a terminal gets to see ─────────────────────────────────────────────────────────────────────────────────


def test_of_all_characters_those_that_a_terminal_obeys_are_replaced() -> None:
    everything = "".join(map(chr, range(0x20000)))  # all that have names are here, but ideographs and tags
    pictures = escape_controls(everything)
    assert not any(map(is_obeyed, pictures))
    changed = {old for old, new in zip(everything, pictures, strict=True) if old != new}
    assert changed == set(filter(is_obeyed, everything))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_wherever_it_is_split_nothing_is_obeyed(text: str) -> None:
    for position in range(len(text) + 1):
        assert escape_controls(text[:position]) + escape_controls(text[position:]) == escape_controls(text)
    assert not any(map(is_obeyed, escape_controls(text)))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("split", [text_answer, letters])
def test_a_terminal_is_shown_what_it_would_obey(asked: Any, terminal: Screen, text: str, split: Any) -> None:
    asked(split(text))
    assert terminal.run() == 0
    assert terminal.seen(b"\n").decode() == escape_controls(text) + "\n"


def test_pictures_keep_the_text_readable() -> None:
    assert escape_controls("\x1b[31mred\x7f\r\n\tgrün \U0001f469\u200d\U0001f680\x85\u202e") == (
        "␛[31mred␡␍\n\tgrün \U0001f469\u200d\U0001f680\ufffd\ufffd"
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_pipe_gets_the_bytes_as_they_are(asked: Any, capsysbinary: pytest.CaptureFixture[bytes], text: str) -> None:
    asked(letters(text))
    assert main(["Hi", "-m", "m1"]) == 0
    assert capsysbinary.readouterr() == (f"{text}\n".encode(), b"")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_name_and_no_message_is_obeyed(run: Any, text: str) -> None:
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


def test_a_terminal_in_a_shell(shell: Any, terminal: Screen) -> None:
    everything = "".join(HOSTILE.values())
    named = event({"id": "c1", "model": everything, "choices": [{"index": 0, "delta": {"content": everything}}]})
    ours = shell([head(), named, finish(), done(), end()])
    with ours.start("--stats", stdout=terminal.file, stderr=terminal.file) as process:
        assert process.wait(timeout=30) == 0
    seen = terminal.seen(b" s]\n").decode()
    assert seen.startswith(escape_controls(everything))
    assert not any(map(is_obeyed, seen))


def test_a_terminal_of_few_characters_gets_escapes(asked: Any) -> None:
    asked(text_answer("grün \x1b[1m"))
    with closing(open_terminal("ascii")) as terminal:
        assert terminal.run() == 0
        assert terminal.seen(b"\n") == b"gr\\xfcn \\u241b[1m\n"


# ── encodings ───────────────────────────────────────────────────────────────────────────────────────────────────

POSIX = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C"}, POSIX], ids=["ascii", "C", "POSIX"])
def test_a_pipe_gets_utf_8_whatever_the_locale(shell: Any, environ: dict[str, str]) -> None:
    ours = shell(text_answer("grün ", "\U0001f680"))
    ours.environ |= environ
    assert ours.run() == (0, "grün \U0001f680\n".encode(), b"")


def test_stdin_is_utf_8_whatever_the_locale(asked: Any) -> None:
    server = asked(ANSWER)
    ours = Shell(server)
    ours.environ |= POSIX
    assert ours.run("-", stdin="grün".encode()) == (0, b"Hello\n", b"")
    assert server.requests[0].json["messages"][0]["content"] == "Hi grün"


def test_an_error_can_be_told_in_ascii(shell: Any) -> None:
    ours = shell(refusal("Schlüssel \x1b[1m fehlt"))
    ours.environ |= {"PYTHONIOENCODING": "ascii"}
    assert ours.run() == (1, b"", b"chatstream: unexpected status 401: Schl\\xfcssel \\u241b[1m fehlt\n")


def test_half_a_character_is_written_as_an_escape(asked: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    asked([head(), of_json("a\\ud83d"), of_json("b"), finish(), done(), end()])
    assert main(["Hi", "-m", "m1"]) == 0
    assert capsysbinary.readouterr().out == b"a\\ud83db\n"


def test_half_a_character_is_shown_as_none(asked: Any, terminal: Screen) -> None:
    asked([head(), of_json("a\\ud83d"), of_json("b"), finish(), done(), end()])
    assert terminal.run() == 0
    assert terminal.seen(b"\n").decode() == "a\ufffdb\n"


def test_a_stdout_of_the_caller_is_written_to_as_it_is(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(text_answer("grün\x1b"))
    monkeypatch.setattr(sys, "stdout", own := io.StringIO())
    assert main(["Hi", "-m", "m1"]) == 0
    assert own.getvalue() == "grün\x1b\n"


def test_a_byte_order_mark_is_text(asked: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    asked(text_answer("\ufeffHi"))
    assert main(["Hi", "-m", "m1"]) == 0
    assert capsysbinary.readouterr().out == codecs.BOM_UTF8 + b"Hi\n"


# ── other ways in ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_provider_may_come_from_a_file(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = asked(text_answer("Hello"))
    config = tmp_path / "own.toml"
    config.write_text(f'[model_providers.mine]\nbase_url = "{server.url}"\nmodel = "m7"\n')
    assert main(["Hi", "-c", str(config), "-p", "mine"]) == 0
    assert (capsys.readouterr().out, server.requests[0].json["model"]) == ("Hello\n", "m7")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chatstream", "Hi", "-c", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.toml" in done.stderr
    assert done.stderr.count("\n") == 1


def test_doctor_reports_on_a_server(
    asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = asked(text_answer("a"))
    monkeypatch.setenv("OTHER_KEY", "sk-9876543210")
    assert main(["doctor", server.url, "-m", "m7", "--key-env", "OTHER_KEY"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{server.url}\nprotocol        HTTP/1.1, chunked\n")
    assert server.requests[0].headers["Authorization"] == "Bearer sk-9876543210"
    assert server.requests[0].json["model"] == "m7"


def test_doctor_needs_the_key_it_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "http://127.0.0.1:1/v1", "--key-env", "NO_SUCH_KEY"]) == 1
    assert capsys.readouterr().err == "chatstream: Missing environment variable: `NO_SUCH_KEY`.\n"


def test_doctor_without_a_url_is_a_question(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = asked(text_answer("An apple a day."))
    assert main(["doctor", "who?", "-m", "m1"]) == 0
    assert (capsys.readouterr().out, len(server.requests)) == ("An apple a day.\n", 1)
