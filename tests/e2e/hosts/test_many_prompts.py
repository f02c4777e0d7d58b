"""Many prompts on a real Dask cluster of four workers, one of which is killed, and in loky; a kill of the driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from environments import Environments

from chatstream.testing import FaultServer, Wire, cut, delta, head, status, text_answer

KEY = "sk-of-the-workers"
PROGRAM = Path(__file__).parent / "programs" / "many_prompts.py"
SECONDS = 240.0


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
        fault = status(503, "busy") if len(text) % 2 else [head(), delta("half"), cut()]
        for step in fault if fails else text_answer(text):
            step(wire)


def texts_of(out: Path) -> list[str]:
    whole = [line for line in out.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [json.loads(line)["turn"]["items"][0]["content"][0]["text"] for line in whole]


def command(python: Path, kind: str, url: str, out: Path, count: int) -> list[str]:
    return [str(python), str(PROGRAM), kind, url, str(out), str(count)]


@pytest.mark.parametrize(("kind", "count"), [("dask", 1000), ("loky", 300)])
def test_each_prompt_is_written_once_by_workers_that_have_the_key_in_their_environment(
    environment: Environments, tmp_path: Path, kind: str, count: int
) -> None:
    """On Dask, one of the four workers is killed on the way."""
    out, answers = tmp_path / "out.jsonl", Answers()
    with FaultServer([answers]) as server:
        program = command(environment("many"), kind, server.url, out, count)
        done = subprocess.run(
            program, capture_output=True, text=True, check=False, timeout=SECONDS, env={**os.environ, "MANY_KEY": KEY}
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"answered": count, "errors": []}
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(count))
    assert answers.keys == {f"Bearer {KEY}"}


def test_a_driver_of_a_dask_cluster_that_is_killed_goes_on_with_its_file(
    environment: Environments, tmp_path: Path
) -> None:
    out, answers, count = tmp_path / "out.jsonl", Answers(), 1000
    variables = {**os.environ, "MANY_KEY": KEY}
    with FaultServer([answers]) as server:
        program = command(environment("many"), "dask", server.url, out, count)
        killed = subprocess.Popen(program, env=variables, stderr=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + SECONDS
        while not out.exists() or out.read_bytes().count(b"\n") < count // 3:
            assert killed.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        before = texts_of(out)
        time.sleep(3)  # until the workers of the killed scheduler have ended
        asked = answers.asked.copy()
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=SECONDS, env=variables)
        assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(count))
    assert {text: answers.asked[text] for text in before} == {text: asked[text] for text in before}
