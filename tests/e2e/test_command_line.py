"""The command line with ``--provider local``, in a separate process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chatstream

ENVIRON = {**os.environ, "PYTHONPATH": str(Path(chatstream.__file__).parent.parent)}
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "chatstream", "-p", "local", "--temperature", "0"]


def start(*arguments: str) -> Any:
    return subprocess.Popen([*COMMAND, *arguments], env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_answer_is_printed_and_its_stats_go_to_stderr() -> None:
    with start("Tell me about", "the sea.", "--max-tokens", "8", "--stats") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.strip()
    assert out.endswith(b"\n")
    assert re.fullmatch(rb"\[\S+: length; \d+ tokens in, 8 out; first after \d+\.\d\d s, \d+\.\d\d s]\n", err)


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
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=stderr) as process:
        assert process.stdout
        assert len(process.stdout.read(5)) == 5
        process.stdout.close()
        assert process.wait(timeout=10) == 0
        assert process.stderr is None or process.stderr.read() == b""
