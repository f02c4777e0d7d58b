"""Virtual environments for programs that run chatstream: a frozen program, another host of Python."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

Environment = Callable[..., Path]


def make_environment(folder: Path, *packages: str) -> Path:
    """The interpreter of an environment in ``folder`` that has these packages; it is kept for the next run.

    Where they can't be installed the test is skipped, or fails if CHATSTREAM_REQUIRE_E2E is set.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    made = folder / "made"
    wanted = f"{sys.version}\n{packages}\n"
    if not (made.is_file() and made.read_text(encoding="utf-8") == wanted):
        venv.create(folder, clear=True, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            refuse = pytest.fail if os.environ.get("CHATSTREAM_REQUIRE_E2E") else pytest.skip
            refuse(f"pip can't install {' '.join(packages)}: {done.stderr[-500:]}")
        made.write_text(wanted, encoding="utf-8")
    return python


def import_path(*first: Path) -> str:
    """``PYTHONPATH`` for a program that imports what this process imports, and before it what is in ``first``."""
    return os.pathsep.join([*map(str, first), *(entry or os.getcwd() for entry in sys.path)])
