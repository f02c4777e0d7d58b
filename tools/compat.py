"""Run the test suite on each supported Python of this machine, with the oldest and with the newest dependencies.

    setup.cfg ─classifiers▶ versions of Python      3.10, 3.11, …
              ─lower bounds▶ the oldest dependencies  requests==2.32.4, …
    version × dependencies ─▶ a virtual environment, kept for the next time ─pytest▶ one line each, and a log

Rules:
- An interpreter is looked for on PATH, then among the versions of pyenv. One that is not found is named and left out.
- The oldest dependencies are those of the library and of its extras `json`, `speed`, `otel` and `cli`. The tools of
  the tests are new.
- Tests that compare times are left out (the mark `timing`), because the tests of a run go side by side.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 900  # seconds that one run may take
EXAMPLES = {"CHATSTREAM_EXAMPLES": "0.2"}  # the laws are tried with all their examples by `make test`
TESTS = ["-q", "--numprocesses", "5", "--dist", "worksteal", "-p", "no:cacheprovider"]
MARKS = "not e2e and not soak and not timing"
LONGEST = ("cli", "decode", "faults", "fuzz", "many", "test_field.py", "test_laws.py", "test_recordings.py")
RUNTIME_EXTRAS = ("json", "speed", "otel", "cli")
DEPENDENCIES = ("oldest", "newest")
SHOWN = ("requests", "urllib3", "sseclient-py", "orjson", "jiter")


@dataclass(frozen=True)
class Run:
    """One run of the suite: a version of Python, the interpreter found for it, and `oldest` or `newest`."""

    version: str
    python: str
    dependencies: str

    @property
    def name(self) -> str:
        return f"{self.version}-{self.dependencies}"

    def is_named(self, names: list[str]) -> bool:
        return not {self.name, self.version, self.dependencies}.isdisjoint(names)


# ── what setup.cfg says ─────────────────────────────────────────────────────────────────────────────────────────


def settings() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def supported_versions() -> list[str]:
    return re.findall(r"Python :: (3\.\d+)$", settings()["metadata"]["classifiers"], re.MULTILINE)


def oldest_dependencies() -> list[str]:
    """The lower bound of each dependency at run time, as a pin."""
    config = settings()
    extras = config["options.extras_require"]
    required = [config["options"]["install_requires"], *(extras[name] for name in RUNTIME_EXTRAS)]
    return [
        f"{name}=={bound}" for name, bound in re.findall(r"^([\w.-]+)>=([\d.]+)", "\n".join(required), re.MULTILINE)
    ]


# ── interpreters ────────────────────────────────────────────────────────────────────────────────────────────────


def find_interpreter(version: str) -> str | None:
    """The first interpreter of this version that starts and can make virtual environments."""
    return next((python for python in _candidates(version) if _works(python, version)), None)


def _candidates(version: str) -> Iterator[str]:
    for folder in os.get_exec_path():
        python = Path(folder) / f"python{version}"
        if python.exists():
            yield str(python)
    patches = [
        path.name for path in (_pyenv_root() / "versions").glob(f"{version}.*") if path.name.split(".")[-1].isdigit()
    ]
    for patch in sorted(patches, key=lambda name: int(name.split(".")[-1]), reverse=True):
        yield str(_pyenv_root() / "versions" / patch / "bin" / "python")


@cache
def _pyenv_root() -> Path:
    try:
        result = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return Path(result.stdout.strip())


def _works(python: str, version: str) -> bool:
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"  # Debian packages ensurepip apart
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return result.returncode == 0 and result.stdout.strip() == version


# ── environments ────────────────────────────────────────────────────────────────────────────────────────────────


def environment(run: Run, below: Path) -> Path:
    """The virtual environment of a run; made when it is missing or setup.cfg has changed since."""
    folder = below / run.name
    stamp = folder / "made-from.txt"
    wanted = f"{run.python}\n{(ROOT / 'setup.cfg').read_text(encoding='utf-8')}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([run.python, "-m", "venv", "--clear", folder], check=True)
        _install(run, folder)
        stamp.write_text(wanted, encoding="utf-8")
    return folder


def _install(run: Run, folder: Path) -> None:
    pip = [_python_of(folder), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--use-pep517"]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(oldest_dependencies() if run.dependencies == "oldest" else []), encoding="utf-8")
    subprocess.run([*pip, "--constraint", str(constraints), "--editable", f"{ROOT}[test]"], check=True)


def _python_of(folder: Path) -> str:
    return str(folder / "bin" / "python")


def _versions(folder: Path) -> str:
    """What is installed of the dependencies: `requests 2.32.4, …`."""
    code = f"from importlib.metadata import version; print(', '.join(f'{{n}} {{version(n)}}' for n in {SHOWN}))"
    result = subprocess.run([_python_of(folder), "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def perform(run: Run, made: Future[Path], below: Path, options: list[str]) -> bool:
    """Runs the suite once in the environment made for it, and prints its summary; whether it passed."""
    try:
        folder = made.result()
    except subprocess.CalledProcessError as error:
        print(f"{run.name:12}  failed: no environment could be made: {error}", flush=True)
        return False
    log = below / f"{run.name}.log"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        try:
            command = [_python_of(folder), "-m", "pytest", *TESTS, *options]
            done = subprocess.run(
                command, cwd=ROOT, stdout=out, stderr=out, timeout=LIMIT, check=False, env=os.environ | EXAMPLES
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = -1
            out.write(f"\nstopped after {LIMIT} s\n")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    summary = lines[-1].strip("= ") if lines else "no output"
    print(f"{run.name:12}  {summary}  [{_versions(folder)}]", flush=True)
    if code:
        print(
            f"{run.name} failed after {time.monotonic() - started:.0f} s; the end of {log}:",
            *lines[-60:],
            sep="\n",
            flush=True,
        )
    return code == 0


def found_interpreters() -> dict[str, str]:
    """The interpreter of each version that is found; prints which are and which are not."""
    found = {}
    for version in supported_versions():
        if python := find_interpreter(version):
            found[version] = python
        print(f"Python {version}: {python or 'not found, left out'}", flush=True)
    return found


def planned(found: dict[str, str], quick: bool, only: list[str], skip: list[str]) -> list[Run]:
    """The runs to perform."""
    oldest = next(iter(found), "")
    runs = [
        Run(version, python, dependencies)
        for version, python in found.items()
        for dependencies in DEPENDENCIES
        if not quick or (dependencies == "oldest") is (version == oldest)
    ]
    return [run for run in runs if (not only or run.is_named(only)) and not run.is_named(skip)]


def arguments_of(run: Run, quick: bool, found: dict[str, str]) -> list[str]:
    """The arguments of pytest for a run. If quick, a Python between two others leaves out the longest parts."""
    if not quick:
        return ["-m", MARKS]
    between = list(found)[1:-1]
    ignored = [f"--ignore=tests/{name}" for name in LONGEST if run.version in between]
    return ["-m", f"{MARKS} and not thorough", *ignored]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = "a version (3.13), 'oldest', 'newest', or both (3.13-oldest); may be given several times"
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"perform these runs: {choice}")
    parser.add_argument(
        "--skip", action="append", default=[], metavar="NAME", help="leave these runs out; named likewise"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one run for each Python, without the thorough tests: the oldest dependencies on the oldest Python found, "
        "the newest on the others; the Pythons between the oldest and the newest leave out the longest parts",
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=ROOT / ".venv" / "compat",
        metavar="FOLDER",
        help="where the environments and logs are kept; 'newest' is what was newest when they were made",
    )
    parser.add_argument("--constraints", action="store_true", help="print the oldest dependencies for pip, and stop")
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    options = parser.parse_args()
    if options.constraints:
        print(*oldest_dependencies(), sep="\n")
        return 0
    below = options.environments.resolve()
    below.mkdir(parents=True, exist_ok=True)
    found = found_interpreters()
    runs = planned(found, options.quick, options.only, options.skip)
    print("runs:", *(run.name for run in runs), flush=True)
    with ThreadPoolExecutor(1) as ahead:  # while one run tests, the environment of the next is made
        made = [ahead.submit(environment, run, below) for run in runs]
        arguments = [[*arguments_of(run, options.quick, found), *options.pytest] for run in runs]
        passed = [perform(*each) for each in zip(runs, made, repeat(below), arguments)]
    print(f"{sum(passed)} of {len(runs)} runs passed")
    return 0 if runs and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
