"""A program frozen by PyInstaller: it streams, and the local provider does not start it again."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import Environments, import_path
from support import WORDS

from chatstream.testing import FaultServer, text_answer

PROGRAM = """
import os, sys

with open(os.environ["STARTS"], "a+") as starts:  # one byte for each process that runs this program
    starts.write(".")
    starts.seek(0)
    if len(starts.read()) > 5:
        sys.exit("started again and again")

import chatstream
from chatstream import Client, Provider

assert sys.frozen
for name in chatstream.__all__:
    getattr(chatstream, name)

if sys.argv[1] == "local":
    Client("local").stream("Hi")
else:
    provider = Provider.from_toml(sys.argv[1], "own")
    print(chatstream.stream("Hi", provider=provider, model="any").collect().text)
"""


@pytest.fixture(scope="module")
def program(environment: Environments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frozen program. What stands in for llama.cpp is in it, so that the local provider finds the package."""
    if os.name == "posix" and not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip("PyInstaller needs a Python that was built with a shared library")
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "xllamacpp.py").touch()
    python = environment("pyinstaller", "pyinstaller>=6.10")
    command = [python, "-m", "PyInstaller", "--log-level", "ERROR", "--hidden-import", "xllamacpp", "program.py"]
    paths = {"PYTHONPATH": import_path(folder), "PYINSTALLER_CONFIG_DIR": str(folder / "cache")}
    environ = {**os.environ, **paths}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "dist" / "program" / "program"


def run(program: Path, folder: Path, argument: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run the program; returns what it did and how many processes have run it."""
    starts = folder / "starts"
    environ = {**os.environ, "STARTS": str(starts), **variables}
    done = subprocess.run([program, argument], env=environ, capture_output=True, text=True, check=False, timeout=60)
    return done, len(starts.read_text(encoding="utf-8"))


def test_a_frozen_program_streams_from_a_provider_of_a_toml_file(
    program: Path, serve: Callable[..., FaultServer], tmp_path: Path
) -> None:
    server = serve(text_answer(*WORDS))
    file = tmp_path / "providers.toml"
    file.write_text(f'[model_providers.own]\nbase_url = "{server.url}"\n', encoding="utf-8")
    done, starts = run(program, tmp_path, str(file))
    assert done.stderr == ""
    assert (done.returncode, done.stdout, starts) == (0, "".join(WORDS) + "\n", 1)


def test_a_frozen_program_is_not_started_again_by_the_local_provider(program: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.touch()
    done, starts = run(program, tmp_path, "local", CHATSTREAM_MODEL=str(model))
    assert starts == 1
    assert done.returncode == 1
    assert "ConfigError: the local provider runs its server with a Python interpreter" in done.stderr
    assert f"this program ({program}) comes without one: start a llama.cpp server yourself" in done.stderr
