"""The command line as a whole: usage, errors and exit status."""

from __future__ import annotations

import importlib
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from consoles import ANSWER, KEY, Screen, Shell, error_event, refusal

import chatstream
from chatstream.cli.main import main
from chatstream.testing import Script, Wire, chunk, delta, end, forever, head, stall, status, text_answer

PAGE = [head(headers={"Content-Type": "text/html"}), chunk(b"<html>\n<title>Sign in</title>\n</html>"), end()]


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        (ANSWER, ["-m", ""], "name a model"),
        (
            ANSWER,
            ["-p", "opnai"],
            "unknown built-in provider (its name is not shown, because it may be a key). Did you mean 'openai'?",
        ),
        (ANSWER, ["-p", "groq"], "Missing environment variable: `GROQ_API_KEY`. Create a key at "),
        (ANSWER, ["--deadline", "-1"], "deadline must be a number of seconds above 0"),
        (ANSWER, ["--temperature", "nan"], "temperature can't be written as JSON"),
        (refusal("Incorrect API key."), [], "unexpected status 401: Incorrect API key."),
        (refusal("Two\r\nlines\n"), [], "unexpected status 401: Two lines. The key came from "),
        (status(503, "busy"), [], "retries exhausted after 5 attempts, last status 503: busy"),
        (PAGE, [], "stream disconnected before completion: "),
        ([head(), error_event("overloaded"), end()], [], "stream disconnected before completion: overloaded"),
        ([head(), end()], [], "stream disconnected before completion: "),
        ([head(), stall()], ["--deadline", "0.05"], "the deadline of 0.05 s for all attempts has passed"),
    ],
)
def test_an_error_is_one_line_on_stderr(run: Any, script: Script, options: list[str], message: str) -> None:
    code, out, err = run(script, *options)
    assert (code, out) == (1, "")
    assert err.startswith(f"chatstream: {message}")
    assert err.index("\n") == len(err) - 1
    assert KEY not in err


def test_a_server_that_does_not_listen_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short_waits: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_listener:
        address = f"127.0.0.1:{closed_listener.getsockname()[1]}"
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{address}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert main(["Hi", "-m", "m1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"chatstream: no response from {address}: ")


@pytest.mark.parametrize("arguments", [[], ["-m"], ["Hi", "--max-tokens", "many"], ["Hi", "--loud"]])
def test_wrong_usage_exits_with_2_and_prints_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: chatstream ")


@pytest.mark.parametrize(("option", "printed"), [("--version", chatstream.__version__), ("--help", "stdin")])
def test_version_and_help_are_printed_to_stdout(capsys: pytest.CaptureFixture[str], option: str, printed: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 0
    assert printed in capsys.readouterr().out


def test_python_m_chatstream_runs_the_command_line(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    openai_server(ANSWER)
    monkeypatch.setattr(sys, "argv", ["chatstream", "Hi", "-m", "m1"])
    monkeypatch.delitem(sys.modules, "chatstream.__main__", raising=False)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("chatstream.__main__")  # runpy can't use the loader with which pytest loads plugins
    assert ended.value.code == 0
    assert capsys.readouterr().out == "Hello\n"


def test_a_question_that_begins_with_the_name_of_a_command_is_asked_in_quotes_or_by_ask(
    openai_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(text_answer("An apple a day."))
    assert main(["doctor", "who?", "-m", "m1"]) == 1
    assert capsys.readouterr().err.startswith("chatstream: this is not a server: use a URL, or a host such as ")
    assert main(["doctor who?", "-m", "m1"]) == main(["ask", "doctor", "who?", "-m", "m1"]) == 0
    assert [each.json["messages"][0]["content"] for each in server.requests] == ["doctor who?"] * 2


# ── Ctrl-C, closed pipes and full disks ─────────────────────────────────────────────────────────────────────────


def test_ctrl_c_exits_with_130_and_keeps_the_received_text(
    openai_server: Any, pipe: Screen, capsys: pytest.CaptureFixture[str], interrupt: Any
) -> None:
    def see_the_text_and_interrupt(wire: Wire) -> None:
        assert pipe.seen() == b"one "
        interrupt()

    server = openai_server([head(), delta("one "), see_the_text_and_interrupt, stall()])
    assert pipe.run() == 130
    assert pipe.seen() == b"\n"
    assert capsys.readouterr().err == ""
    assert server.client_closed()


def test_ctrl_c_in_a_shell_exits_with_130_and_no_traceback(shell: Any) -> None:
    with shell([head(), delta("one "), stall()]).start() as process:
        assert process.stdout.read(4) == b"one "
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"\n", b"")
    assert process.returncode == 130


def test_when_the_reader_of_stdout_closes_the_command_ends_without_an_error(
    openai_server: Any, pipe: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    def close_reader(wire: Wire) -> None:
        pipe.seen()
        pipe.stop_reading()

    server = openai_server([head(), delta("one "), close_reader, forever(delta("more "))])
    assert pipe.run() == 0
    assert capsys.readouterr().err == ""
    assert server.client_closed()
    print("what Python flushes at exit", file=pipe.file, flush=True)


def test_when_the_reader_closes_in_a_shell_the_exit_status_is_0(openai_server: Any) -> None:
    server = openai_server([head(), forever(delta("more "))])
    with Shell(server).start() as process:
        assert process.stdout.read(5) == b"more "
        process.stdout.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""
    assert server.client_closed()


def test_when_the_reader_of_stdout_and_stderr_closes_the_exit_status_is_0(openai_server: Any) -> None:
    with Shell(openai_server([head(), forever(delta("more "))])).start(stderr=subprocess.STDOUT) as process:
        assert process.stdout.read(5) == b"more "
        process.stdout.close()
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_an_error_of_one_line(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    openai_server(ANSWER)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["Hi", "-m", "m1"]) == 1
    assert capsys.readouterr().err == "chatstream: [Errno 28] No space left on device\n"


def test_with_stdout_closed_nothing_is_sent(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(ANSWER)
    monkeypatch.setattr(sys, "stdout", None)  # as a shell's >&- leaves it
    assert main(["Hi", "-m", "m1"]) == 1
    assert capsys.readouterr().err == "chatstream: stdout is closed: open it, or redirect it to a file\n"
    assert not server.requests


def test_with_stderr_closed_an_error_is_not_written_to_stdout(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert run(refusal("no")) == (1, "", "")
