"""Virtual environments, created once: ``requirements-<name>.txt`` ──▶ an interpreter with these packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def interpreter(name: str, where: Path) -> str:
    """The interpreter of the environment ``name`` in the folder ``where``.

    The environment is created where it is missing or its requirements have changed.
    """
    folder = where / name
    made_from = folder / "made-from.txt"
    requirements = _requirements(name)
    if not made_from.exists() or made_from.read_text() != requirements:
        print(f"creating an environment for {name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        _install(folder, name)
        made_from.write_text(requirements)
    return str(folder / "bin" / "python")


def _requirements(name: str) -> str:
    return "".join((HERE / f"requirements-{each}.txt").read_text() for each in ("loop", name)) + sys.version


def _install(folder: Path, name: str) -> None:
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "-r", HERE / f"requirements-{name}.txt"], check=True)
