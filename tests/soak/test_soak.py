"""A short soak keeps all promises; the long ones are `make soak`'s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parent / "soak.py"


@pytest.mark.soak
def test_a_short_soak_keeps_all_promises():
    # memory has not come to rest after so short a warm-up
    options = ["--seconds=8", "--warm-up=4", "--threads=100", "--seed=7", "--drift=8192"]
    run = subprocess.run(
        [sys.executable, str(SOAK), *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["streams"] > 50
    assert len(figures["outcomes"]) > 8
