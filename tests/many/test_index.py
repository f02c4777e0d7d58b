"""The keys of a run: how often each was claimed, where its line is, and how little memory that takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatstream import Message, Result, Turn
from chatstream.many.index import Index
from chatstream.many.result import dump, encode_result

PROGRAM = Path(__file__).with_name("store_memory.py")
FEW, MANY = 1_000, 100_000


def test_an_index_counts_the_claims_of_each_key_and_knows_its_place_however_many_there_are():
    index, count = Index(), 5000
    for number in range(count):
        index.put(f"key {number}", number * 7)
    for number in range(0, 2 * count, 2):
        assert index.claim(f"key {number}") == 0
        assert index.claim(f"key {number}") == 1
    for number in range(2 * count):
        assert index.place(f"key {number}") == (number * 7 if number < count else None)
        assert index.claim(f"key {number}") == (0 if number % 2 else 2)


@pytest.mark.parametrize("key", ["", "\ud800", "é\0\n", "k" * 100_000])
def test_any_text_is_a_key(key):
    index = Index()
    index.put(key, 2**40)
    assert index.place(key) == 2**40
    assert index.claim(key) == 0
    assert index.place(key + "x") is None


def write_answers(path: Path, count: int) -> None:
    """The file of a run whose prompts are answered."""
    line = dump(encode_result(Result("KEY", turn=Turn((Message("assistant", "fine"),))), "KEY"))
    with path.open("wb") as file:
        file.writelines(line.replace(b"KEY", b"%032x" % number) for number in range(count))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_memory_of_a_run_with_a_file_stays_nearly_the_same_from_a_thousand_prompts_to_a_hundred_thousand(
    tmp_path, is_resumed
):
    path = tmp_path / "out.jsonl"
    if is_resumed:
        write_answers(path, MANY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(PROGRAM), str(path), str(FEW), str(MANY)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert sum(map(float, done.stdout.split())) < 8.0  # MiB
