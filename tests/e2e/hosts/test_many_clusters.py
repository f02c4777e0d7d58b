"""Many prompts on real Dask workers, one of which is killed, and in loky; a killed driver; the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from unittest.mock import ANY

import pytest
from environments import Environments

from chatstream.testing import FaultServer, Script, Wire, cut, delta, end, event, head, stall, status, text_answer

KEY = "sk-of-the-workers"
PROGRAMS = Path(__file__).parent / "programs"
PROGRAM, CLUSTER = PROGRAMS / "many_prompts.py", PROGRAMS / "dask_cluster.py"
MOST_IN_FLIGHT = 32


def seconds_for(count: int) -> float:
    """A limit for a run, on a busy machine."""
    return 180 + 0.1 * count


FAULTS: list[Script] = [  # of the first request of each tenth prompt, in turn
    [head(), delta("half"), cut()],
    [head(), delta("half"), stall()],
    status(429, {"error": {"code": "rate_limit_exceeded"}}, {"retry-after-ms": "20"}),
    status(500, "broken"),
    [head(), delta("half"), event({"error": {"type": "server_error", "message": "broken"}}), end()],
    status(400, {"error": {"message": "refused"}}),  # which is not repeated before the next run
]


class Answers:
    """A step that answers with the prompt; the first request of one prompt in ten fails. ``asked`` counts by prompt."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.keys: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, wire: Wire) -> None:
        assert wire.request is not None
        text = wire.request.json["messages"][-1]["content"]
        with self._lock:
            self.keys.add(str(wire.request.headers["Authorization"]))
            self.asked[text] += 1
            fails = text.endswith("7") and self.asked[text] == 1
        for step in fault_of(int(text[1:])) if fails else text_answer(text):
            step(wire)


def fault_of(number: int) -> Script:
    return FAULTS[number // 10 % len(FAULTS)]


def texts_of(out: Path) -> list[str]:
    """The texts of the answers in a file of results, but for a line that is cut off."""
    lines = [json.loads(line) for line in out.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [line["turn"]["items"][0]["content"][0]["text"] for line in lines if "turn" in line]


def command(python: Path, kind: str, url: str, out: Path, count: int) -> list[str]:
    return [str(python), str(PROGRAM), kind, url, str(out), str(count)]


@pytest.mark.parametrize(
    ("kind", "count"), [("dask", 1000), ("loky", 300), pytest.param("dask", 10_000, marks=pytest.mark.soak)]
)
def test_each_prompt_is_written_once_by_workers_that_have_the_key_in_their_environment(
    environment: Environments, tmp_path: Path, kind: str, count: int
) -> None:
    """One prompt in ten fails at first; on Dask, one of the four workers is killed on the way."""
    out, answers = tmp_path / "out.jsonl", Answers()
    with FaultServer([answers]) as server:
        program = command(environment("many"), kind, server.url, out, count)
        variables = {**os.environ, "MANY_KEY": KEY}
        done = subprocess.run(
            program, capture_output=True, text=True, check=False, timeout=seconds_for(count), env=variables
        )
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    refused = sum(number % 10 == 7 and fault_of(number) is FAULTS[-1] for number in range(count))
    lost = MOST_IN_FLIGHT if kind == "dask" else 0  # with the killed worker: they are asked again
    assert first == {"answered": count - first["UnexpectedStatus"], "UnexpectedStatus": ANY, "keys": count}
    assert second == {"resumed": first["answered"], "answered": first["UnexpectedStatus"], "keys": count}
    assert refused - lost <= first["UnexpectedStatus"] <= refused
    assert 0 <= sum(answers.asked.values()) - count - count // 10 <= lost
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(count))
    assert answers.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_driver_of_a_dask_cluster_that_is_killed_goes_on_with_its_file(
    environment: Environments, tmp_path: Path, count: int
) -> None:
    out, answers = tmp_path / "out.jsonl", Answers()
    variables = {**os.environ, "MANY_KEY": KEY}
    with FaultServer([answers]) as server:
        program = command(environment("many"), "dask", server.url, out, count)
        killed = subprocess.Popen(program, env=variables, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + seconds_for(count)
        while not out.exists() or out.read_bytes().count(b"\n") < count // 3:
            assert killed.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        before = texts_of(out)
        time.sleep(3)  # until the workers of the killed scheduler have ended
        asked = answers.asked.copy()
        done = subprocess.run(
            program, capture_output=True, text=True, check=False, timeout=seconds_for(count), env=variables
        )
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["resumed"] == len(before)
    assert first["keys"] == second["keys"] == second["resumed"] + second.get("answered", 0) == count
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(count))
    assert {text: answers.asked[text] for text in before} == {text: asked[text] for text in before}
    assert answers.keys == {f"Bearer {KEY}"}


def test_chatstream_map_answers_a_file_on_the_dask_cluster_at_an_address_and_a_second_time_what_was_refused(
    environment: Environments, tmp_path: Path
) -> None:
    python, count, asked = str(environment("many")), 100, Counter[str]()

    def step(wire: Wire) -> None:
        assert wire.request is not None
        text = wire.request.json["messages"][-1]["content"]
        asked[text] += 1
        for each in FAULTS[-1] if text == "p57" and asked[text] == 1 else text_answer(text):
            each(wire)

    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"id": "r{number}", "prompt": "p{number}"}}\n' for number in range(count)), "utf-8")
    variables = {**os.environ, "MANY_KEY": KEY}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        FaultServer([step]) as server,
        subprocess.Popen([python, str(CLUSTER)], text=True, env=variables, **pipes) as cluster,
    ):
        assert cluster.stdout is not None
        options = ["--dask", cluster.stdout.readline().strip(), "--base-url", server.url, "--key-env", "MANY_KEY"]
        command = [python, "-m", "chatstream", "map", str(source), str(out), "-m", "m1", *options]
        first, second = (
            subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=seconds_for(count), env=variables
            )
            for _ in range(2)
        )
        cluster.communicate()
    assert first.returncode == 1, first.stderr
    assert "r57: unexpected status 400: refused" in first.stderr
    assert second.returncode == 0, second.stderr
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(count))
    assert sorted(asked) == sorted(f"p{number}" for number in range(count))
    assert asked.total() == count + 1
    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}
