"""The command line with ``--provider local``, in a separate process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chatstream
from chatstream import Message, item_from_dict

ENVIRON = {**os.environ, "PYTHONPATH": str(Path(chatstream.__file__).parent.parent)}
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "chatstream", "-p", "local", "--temperature", "0"]


def start(*arguments: str) -> Any:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *arguments], env=ENVIRON, **pipes)


def test_an_answer_is_printed_and_its_stats_go_to_stderr() -> None:
    with start("Tell me about", "the sea.", "--max-tokens", "8", "--stats") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.strip()
    assert out.endswith(b"\n")
    assert re.fullmatch(
        rb"\[\S+: length; \d+ tokens in, 8 out; first event after \d+\.\d\d s, end after \d+\.\d\d s]\n", err
    )


def test_a_refusal_by_the_server_is_printed_as_one_line() -> None:
    with start("sea " * 5000) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert re.fullmatch(rb"chatstream: unexpected status 400: .* exceeds the available context size .*\n", err)


def test_ctrl_c_keeps_the_text_received_and_exits_with_130() -> None:
    with start("Tell me about the sea.", "--max-tokens", "500") as process:
        start_of_text = process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert (start_of_text + rest).endswith(b"\n")
    assert err == b""


@pytest.mark.parametrize("stderr", [subprocess.PIPE, subprocess.STDOUT], ids=["separate-stderr", "stderr-in-stdout"])
def test_a_closed_output_pipe_ends_the_command_without_an_error(stderr: int) -> None:
    command = [*COMMAND, "Tell me about the sea.", "--max-tokens", "500"]
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": stderr}
    with subprocess.Popen(command, env=ENVIRON, **pipes) as process:
        assert process.stdout
        assert len(process.stdout.read(5)) == 5
        process.stdout.close()
        assert process.wait(timeout=10) == 0
        assert process.stderr is None or process.stderr.read() == b""


# ── conversations, recordings, a terminal ───────────────────────────────────────────────────────────────────────


def run(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Runs a command with ``stdin`` as a pipe; returns exit status, stdout and stderr."""
    command = [*COMMAND[: COMMAND.index("-p")], *arguments]
    done = subprocess.run(command, env=ENVIRON, input=stdin, capture_output=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


LOCAL = ("-p", "local", "--temperature", "0", "--max-tokens", "12")


def test_a_conversation_of_three_turns_is_continued_in_a_second_process(tmp_path: Path) -> None:
    file = str(tmp_path / "talk.jsonl")
    code, out, err = run("chat", "-C", file, *LOCAL, stdin=b"My name is Ada.\nWhat is the sea?\n")
    assert (code, err) == (0, b"")
    assert out.strip()
    code, out, err = run("chat", "-C", file, *LOCAL, "What is my name?")
    assert (code, err) == (0, b"")
    assert out.strip()
    messages = [item_from_dict(json.loads(line)) for line in Path(file).read_text("utf-8").splitlines()]
    assert [item.role for item in messages if isinstance(item, Message)] == ["user", "assistant"] * 3


def test_a_recorded_answer_is_replayed_and_served(tmp_path: Path) -> None:
    file = str(tmp_path / "run.sse")
    code, out, err = run("Tell me about the sea.", *LOCAL, "--record", file)
    assert (code, err) == (0, b"")
    assert run("replay", file) == (0, out, b"")
    command = [*COMMAND[: COMMAND.index("-p")], "serve", file]
    with subprocess.Popen(command, env=ENVIRON, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        assert server.stdout
        url = server.stdout.readline().decode().strip()
        assert run("Tell me about the sea.", "--base-url", url, "-m", "any") == (0, out, b"")
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=10) == 130


def test_a_terminal_shows_a_spinner_and_the_same_text_as_a_pipe() -> None:
    pexpect = pytest.importorskip("pexpect")
    code, out, _ = run("Tell me about the sea.", *LOCAL)
    assert code == 0
    environ = {**ENVIRON, "TERM": "xterm-256color"}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "chatstream", "Tell me about the sea.", *LOCAL],
        env=environ,
        encoding="utf-8",
        timeout=60,
    )
    child.expect_exact("waiting 0 s")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", child.before.rpartition("\x1b[2K")[2])
    assert out.decode().split()[-1] in shown
    assert "\x1b[K" in child.before


def test_the_chat_of_a_terminal_is_continued_in_a_second_process(tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    environ = {**ENVIRON, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_DATA_HOME": str(tmp_path)}
    prompt = r">( |\x08\x1b\[2C)"
    for number, messages in enumerate((["My name is Ada.", "What is the sea?"], ["What is my name?"])):
        child = pexpect.spawn(
            sys.executable, ["-m", "chatstream", "chat", *LOCAL], env=environ, encoding="utf-8", timeout=60
        )
        child.expect_exact(f"{2 * number} messages; Ctrl-D ends]")
        for message in messages:
            child.expect(prompt)
            child.send(f"{message}\r")
            child.expect_exact("waiting 0 s")
        child.expect_exact("\x1b[K")
        child.expect(prompt)
        child.sendeof()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
    lines = (tmp_path / "chatstream" / "conversations" / "default.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 6
