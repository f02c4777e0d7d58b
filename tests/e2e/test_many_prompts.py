"""Many prompts on the embedded model: in threads, killed and resumed, and on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chatstream

COUNT = 20
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(chatstream.__file__).parent.parent)}
PYTHON = [sys.executable, "-W", "error"]
PROGRAM = f"""
import sys
from chatstream import Client, map_prompts

prompts = (f"Say the number {{number}}." for number in range({COUNT}))
with Client("local") as client:
    for result in map_prompts(client, prompts, out=sys.argv[1], concurrency=2, temperature=0, max_tokens=4):
        print(result.index, result.resumed, result.error, flush=True)
"""


def start(*arguments: str) -> Any:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*PYTHON, *arguments], env=ENVIRON, text=True, **pipes)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of results."""
    data = path.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def test_a_killed_run_of_threads_on_the_local_model_is_resumed_without_asking_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with start("-c", PROGRAM, str(out)) as process:
        for _ in range(COUNT // 3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    before = lines_of(out)
    assert COUNT // 3 <= len(before) < COUNT
    with start("-c", PROGRAM, str(out)) as process:
        printed, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    results = [line.split() for line in printed.splitlines()]
    assert sorted(int(index) for index, _, _ in results) == list(range(COUNT))
    assert sum(resumed == "True" for _, resumed, _ in results) == len(before)
    assert {error for _, _, error in results} == {"None"}
    lines = lines_of(out)
    assert lines[: len(before)] == before
    assert len({line["key"] for line in lines}) == len(lines) == COUNT
    assert all(line["turn"]["items"] for line in lines)


def test_chatstream_map_answers_prompts_and_batch_lines_by_the_local_model_and_continues_a_killed_run(
    tmp_path: Path,
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [batch_line(number) if number % 2 else prompt_line(number) for number in range(COUNT)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    options = ("-p", "local", "--concurrency", "2", "--temperature", "0", "--max-tokens", "4")
    command = ("-m", "chatstream", "map", str(source), str(out), *options)
    with start(*command) as process:
        until = time.monotonic() + 60
        while not out.exists() or len(lines_of(out)) < COUNT // 3:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = lines_of(out)
    assert len(before) < COUNT
    with start(*command) as process:
        printed, err = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, "")
    assert err == f"chatstream: all {COUNT} prompts are answered in {out}\n"
    found = lines_of(out)
    assert found[: len(before)] == before
    keys = [line.get("key", line.get("custom_id")) for line in found]
    assert sorted(keys) == sorted(f"r{number}" for number in range(COUNT))
    assert all(text_of(line).strip() for line in found)


def prompt_line(number: int) -> dict[str, Any]:
    return {"id": f"r{number}", "prompt": f"Say the number {number}."}


def batch_line(number: int) -> dict[str, Any]:
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": f"Say the number {number}."}]}
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def text_of(line: dict[str, Any]) -> str:
    """The text of an answer in a line of either format."""
    if "custom_id" in line:
        return str(line["response"]["body"]["choices"][0]["message"]["content"])
    return str(line["turn"]["items"][0]["content"][0]["text"])
