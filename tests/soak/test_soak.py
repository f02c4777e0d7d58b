"""A short soak breaks no promise; `make soak` runs a long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parent / "soak.py"


@pytest.mark.soak
def test_a_soak_of_eight_seconds_breaks_no_promise():
    options = ["--seconds=8", "--warm-up=4", "--threads=100", "--seed=7"]
    run = subprocess.run(
        [sys.executable, str(SOAK), *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["streams"] > 50
    assert len(figures["outcomes"]) > 8
