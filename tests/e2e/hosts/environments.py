"""Names of environments → Python interpreters that have chatstream and the packages of that name.

Rules:
- An environment is made once and kept beside the packages of the interpreter that runs the tests, until what it is
  made of changes. chatstream is installed from this tree, and follows its changes.
- Processes that test side by side make one at a time: an editable installation writes into this tree.
- Where it can't be installed, its tests are skipped, unless CHATSTREAM_REQUIRE_E2E is set.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSTALL_SECONDS = 240
PROGRAM_SECONDS = 180  # on a busy machine
PACKAGES = {
    # gunicorn's gevent worker and kombu need packaging without asking for it
    "web": ("gunicorn", "flask", "django", "fastapi", "uvicorn", "gevent", "eventlet", "packaging"),
    "mcp": ("mcp>=2,<3",),
    "notebook": ("nbclient>=0.10", "ipykernel>=6.29", "xllamacpp>=2026.10"),
    "many": ("distributed", "loky", "tqdm"),
    "ray": ("ray",),
    "spark": ("pyspark",),
    "workers": ("celery[redis]", "rq", "PySocks", "packaging"),
    "streamlit": ("streamlit",),
    "gradio": ("gradio",),
    "clients": ("openai", "pytest"),
    "mocks": (
        *("vcrpy", "responses", "requests-mock", "pook", "requests-cache"),
        *("requests-toolbelt", "freezegun", "time-machine"),
    ),
}


class Environments:
    """Makes the environments that are asked for. Each is tried once."""

    def __init__(self) -> None:
        self._failures: dict[str, str | None] = {}

    def __call__(self, name: str, *packages: str) -> Path:
        """The interpreter of the environment ``name``, with its `PACKAGES` or others; skips the test without it."""
        packages = packages or PACKAGES[name]
        folder = Path(sys.prefix) / "hosts" / f"{name}-{_digest(packages)}"
        python = folder / "bin" / "python"
        if name not in self._failures:
            with _one_at_a_time(folder.parent):
                self._failures[name] = None if (folder / "complete").exists() else _make(folder, python, packages)
        if failure := self._failures[name]:
            assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), failure
            pytest.skip(f"the environment {name!r} can't be installed: {failure.splitlines()[-1]}")
        return python


@contextmanager
def _one_at_a_time(below: Path) -> Iterator[None]:
    below.mkdir(exist_ok=True)
    with (below / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(packages: tuple[str, ...]) -> str:
    """Changes with what an environment is made of."""
    made_of = [sys.version, str(ROOT), *packages, (ROOT / "setup.cfg").read_text("utf-8")]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]


def _make(folder: Path, python: Path, packages: tuple[str, ...]) -> str | None:
    """Make an environment; returns what went wrong, if anything. The pip of this interpreter installs the packages."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    # most modules of large packages are never imported, so none is compiled ahead
    install = ["install", "--quiet", "--no-compile", "--use-pep517", "--editable", str(ROOT), *packages]
    try:
        venv.create(folder, clear=True, with_pip=False, symlinks=True)
        done = subprocess.run([*pip, *install], capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode:
        return done.stderr.strip() or f"pip ends with status {done.returncode}"
    (folder / "complete").touch()
    return None


def run_program(
    python: Path | str, text: str, folder: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program of this text in ``folder``, with these variables besides those of the environment."""
    file = folder / "program.py"
    file.write_text(text, "utf-8")
    return subprocess.run(
        [str(python), str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROGRAM_SECONDS,
        env=os.environ | variables,
        cwd=folder,
    )


def import_path(*first: Path) -> str:
    """``PYTHONPATH`` for a program that imports what this process imports, and before it what is in ``first``."""
    return os.pathsep.join([*map(str, first), *(entry or os.getcwd() for entry in sys.path)])
