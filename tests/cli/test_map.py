"""``chatstream map IN OUT``."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatstream import map_prompts
from chatstream.cli.main import main
from chatstream.testing import FaultServer, status, text_answer

LINES = [
    {"prompt": "a", "id": "1", "model": "m1"},
    {"custom_id": "2", "body": {"model": "of the file", "messages": [{"role": "user", "content": "b"}]}},
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return [str(source), str(tmp_path / "out.jsonl")]


def keys(path: str) -> list[str]:
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return sorted(line.get("key") or line["custom_id"] for line in lines)


def test_a_file_of_prompts_is_answered_in_a_file_of_results(openai_server, files, capsys):
    server = openai_server(text_answer("fine"))
    command = ["map", *files, "--concurrency", "2", "-o", "seed=1", "--temperature", "0.5"]
    assert main(command) == 0
    assert keys(files[1]) == ["1", "2"]
    assert capsys.readouterr() == ("", f"chatstream: all 2 prompts are answered in {files[1]}\n")
    assert all((each.json["seed"], each.json["temperature"]) == (1, 0.5) for each in server.requests[:1])
    assert main(command) == 0
    assert len(server.requests) == 2


def test_a_dash_stands_for_stdin_and_for_stdout(files, tmp_path):
    """In a process of its own, whose stdin and stdout are pipes."""
    with FaultServer(text_answer("fine")) as server:
        command = [sys.executable, "-m", "chatstream", "map", "-", "-", "--base-url", server.url, "-m", "m1"]
        given = Path(files[0]).read_bytes()
        done = subprocess.run(command, input=given, capture_output=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.stderr, done.returncode) == (b"chatstream: all 2 prompts are answered in -\n", 0)
    assert len(done.stdout.splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_model_of_the_command_replaces_those_of_the_lines(openai_server, files):
    server = openai_server(text_answer("fine"))
    assert main(["map", *files, "-m", "m1"]) == 0
    assert [each.json["model"] for each in server.requests] == ["m1", "m1"]


def test_a_prompt_that_fails_is_named_and_asked_again_by_the_same_command(openai_server, files, capsys):
    server = openai_server(text_answer("fine"), status(400, "No."), text_answer("fine"))
    assert main(["map", *files, "-m", "m1", "--concurrency", "1"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "chatstream: 2: unexpected status 400: No.",
        "chatstream: 1 of 2 prompts failed: run the same command again to retry them",
    ]
    assert main(["map", *files, "-m", "m1"]) == 0
    assert len(server.requests) == 3


def test_a_terminal_shows_the_progress(openai_server, files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    openai_server(text_answer("fine"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["map", *files, "-m", "m1"]) == 0
    assert capsys.readouterr().err.startswith("2 done, 0 failed")


@pytest.mark.parametrize("name", sorted(inspect.signature(map_prompts).parameters.keys() - {"client", "fields"}))
def test_an_option_of_a_run_is_no_field_of_its_requests(openai_server, files, capsys, name):
    openai_server(text_answer("fine"))
    assert main(["map", *files, "-m", "m1", "-o", f"{name}=true"]) == 1
    assert capsys.readouterr().err.startswith(f"chatstream: {name}=True is not a request field: it belongs to ")


def test_the_ceilings_of_the_command_hold(openai_server, files, monkeypatch):
    openai_server(text_answer("fine"))
    assert main(["map", *files, "-m", "m1", "--requests-per-minute", "0"]) == 1
    assert main(["map", *files, "-m", "m1", "--requests-per-minute", "6000", "--tokens-per-minute", "6e6"]) == 0


def test_a_missing_file_and_a_missing_key_are_one_line_each(openai_server, files, capsys):
    openai_server(text_answer("fine"))
    assert main(["map", "nowhere.jsonl", files[1], "-m", "m1"]) == 1
    assert main(["map", *files, "-m", "m1", "--key-env", "NO_SUCH_KEY"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "nowhere.jsonl" in errors[0]
    assert "NO_SUCH_KEY" in errors[1]


# ── on a cluster ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def dask(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Puts a stand-in for a Dask cluster in place, whose executor is a pool of threads; the addresses asked for."""
    from concurrent.futures import ThreadPoolExecutor

    addresses: list[Any] = []

    class Cluster:
        def __init__(self, address: str, set_as_default: bool) -> None:
            addresses.append(address)
            if "nowhere" in address:
                raise OSError("timed out")
            self._pool = ThreadPoolExecutor(2)

        def get_executor(self) -> ThreadPoolExecutor:
            return self._pool

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self._pool.shutdown()

    def resolve_address(address: str) -> str:
        if ":" not in address:
            raise ValueError(f"missing port number in address {address!r}")
        return address

    comm = SimpleNamespace(resolve_address=resolve_address)
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Cluster, comm=comm))
    return addresses


def test_the_prompts_are_answered_on_the_cluster_at_an_address(openai_server, files, dask, monkeypatch):
    server = openai_server(text_answer("fine"))
    monkeypatch.setenv("MY_KEY", "sk-of-the-worker")
    arguments = ["--dask", "tcp://127.0.0.1:8786", "--base-url", server.url, "--key-env", "MY_KEY"]
    assert main(["map", *files, "-m", "m1", *arguments]) == 0
    assert dask == ["tcp://127.0.0.1:8786"]
    assert keys(files[1]) == ["1", "2"]
    assert {each.headers["Authorization"] for each in server.requests} == {"Bearer sk-of-the-worker"}


def test_a_cluster_that_is_not_there_or_not_installed_is_one_line(openai_server, files, dask, capsys, monkeypatch):
    openai_server(text_answer("fine"))
    assert main(["map", *files, "-m", "m1", "--dask", "tcp://nowhere:1"]) == 1
    assert main(["map", *files, "-m", "m1", "--dask", "localhost"]) == 1
    assert dask == ["tcp://nowhere:1"]
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["map", *files, "-m", "m1", "--dask", "tcp://127.0.0.1:1"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "chatstream: there is no Dask scheduler at tcp://nowhere:1: timed out"
    assert (
        errors[1] == "chatstream: there is no Dask scheduler at localhost: missing port number in address 'localhost'"
    )
    assert "chatstream-py[dask]" in errors[2]
