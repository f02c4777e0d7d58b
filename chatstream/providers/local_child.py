"""Options → a llama.cpp server in a child process, and the address at which it listens.

    options ─stdin▶ child ─stdout▶ one line, the address
                          ─stderr▶ the log, also what native code writes to stdout

Rules:
- The child is a Python interpreter, never the program that runs now: a frozen program would start itself again.
- The address has a pipe of its own. The log repeats what clients send (a grammar, a name), so nothing is read from it.
- Keys of this process stay here: the child gets only the variables that it needs. Its own key comes on stdin, because
  other users can see arguments.
- The child imports from the two folders that this process found, and runs no code of ``PYTHONSTARTUP`` or `site`.
- The child exits when its stdin is closed, so it never outlives this process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ConnectionFailed

LOG_TAIL = 4096  # bytes of the server's log that are kept
NO_INTERPRETER = (
    "the local provider runs its server with a Python interpreter, and this program ({}) comes without one: "
    'start a llama.cpp server yourself, and use Client("llamacpp") or its base_url'
)
_INTERPRETER = re.compile(r"(python|pypy|graalpy)[\d.]*[dtw]*(\.exe)?", re.IGNORECASE)
_ENVIRONMENT = re.compile(  # of the process, of Windows, of the loader, of libraries that compute
    r"PATH|HOME|TMPDIR|LANG|LC_\w+|XDG_CACHE_HOME|XDG_RUNTIME_DIR|SYSTEMROOT|WINDIR|TEMP|TMP|USERPROFILE|LOCALAPPDATA|"
    r"(DY)?LD_LIBRARY_PATH|(CUDA|GGML|HIP|HSA|KMP|LLAMA|OMP|ROCR|VK)_(?!.*(KEY|TOKEN|SECRET|PASS))\w+"
)
_ADDRESS = re.compile(rb"http://(127\.0\.0\.1:\d{1,5})\s*")
_CHILD = """
import json, os, sys
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
options = json.loads(sys.stdin.buffer.readline())
sys.path += options["folders"]
from chatstream.providers.local_child import serve
server = serve(options)
print(server.listening_address, file=channel)
channel.close()
sys.stdin.buffer.read()
os._exit(0)
"""  # os._exit, because there is nothing to save


def find_interpreter() -> str:
    """The path of the interpreter that runs this process, or of the same version beside its standard library.

    Raises `ConfigError` if there is none: in a frozen program, and in some programs that embed Python.
    """
    if not getattr(sys, "frozen", False):  # PyInstaller, cx_Freeze, py2exe, py2app
        for path in _interpreters():
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    raise ConfigError(NO_INTERPRETER.format(sys.executable or "with Python embedded"))


def _interpreters() -> Iterator[str]:
    """Where the interpreter may be; last ``sys.executable``, which names the host in uWSGI and others."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}{getattr(sys, 'abiflags', '')}"
    for prefix in (sys.base_prefix, sys.prefix):
        yield os.path.join(prefix, "bin", name)
        yield os.path.join(prefix, "python.exe")
    executable = sys.executable or ""
    if os.path.isabs(executable) and _INTERPRETER.fullmatch(os.path.basename(executable)):
        yield executable


def environment() -> dict[str, str]:
    """The variables of this process that the child needs: no keys, no proxies, nothing that makes Python run code."""
    return {name: value for name, value in os.environ.items() if _ENVIRONMENT.fullmatch(name)}


class Child:
    """A child process that runs a server. ``process`` is the process; ``log`` is the end of its log, without the key.

    Raises `ConfigError` if there is no interpreter, and `ConnectionFailed` if the system can't start it.
    """

    def __init__(self, key: str) -> None:
        self.log: bytes = b""
        self._key = key
        self._first_line: bytes | None = None
        self._readers: list[threading.Thread] = []
        try:  # without buffers: a fork would copy the lock of a buffer that a thread is reading, and never release it
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [find_interpreter(), "-I", "-S", "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise ConnectionFailed(f"the local model server could not be started: {error}") from error

    def configure(self, options: dict[str, Any]) -> None:
        """Send the options of `serve`, and read what the child writes until it ends."""
        self._read(self._read_address, "chatstream-local-address")
        self._read(self._read_log, "chatstream-local-log")
        sent = json.dumps({**options, "api_key": self._key, "folders": _folders()}).encode() + b"\n"
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the child has ended, or was stopped
            self.process.stdin.write(sent)

    def address(self) -> str | None:
        """Host and port of the server, None if the child has not sent them yet.

        Raises `ConnectionFailed` if it sends anything but a port of 127.0.0.1.
        """
        if not self._first_line:
            return None
        if not (found := _ADDRESS.fullmatch(self._first_line)):
            raise ConnectionFailed(f"the local model server gave an address that is not loopback: {self._first_line!r}")
        return found[1].decode()

    def await_log(self) -> None:
        """Wait until the log of a child that has ended is complete, for at most a second."""
        for reader in self._readers:
            reader.join(timeout=1.0)

    def kill(self) -> None:
        """End the child at once, because it has nothing to save."""
        self.process.kill()
        self.process.wait()
        self.close_stdin()

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _read(self, target: Callable[[], None], name: str) -> None:
        reader = threading.Thread(target=target, name=name, daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read_address(self) -> None:
        """Read the first line of stdout, or what there is of it when the child ends."""
        assert self.process.stdout is not None
        with self.process.stdout as channel:
            self._first_line = channel.readline(100)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as output:
            while piece := output.read(LOG_TAIL):
                self.log = (self.log + piece).replace(self._key.encode(), b"***")[-LOG_TAIL:]


def _folders() -> list[str]:
    """The folders from which this process imports chatstream and llama.cpp."""
    llama = importlib.util.find_spec("xllamacpp")
    assert llama is not None
    package = llama.submodule_search_locations
    found = [Path(__file__).parents[2], Path(package[0] if package else str(llama.origin)).parent]
    return [str(folder.absolute()) for folder in found]


def serve(options: dict[str, Any]) -> Any:
    """Start a server with these options and return it. Runs in the child."""
    llama = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path, params.model_alias = options["model_path"], {options["model"]}
    params.hostnames, params.port = ["127.0.0.1"], 0  # 0: the system chooses a free one
    params.api_keys = [options["api_key"]]
    params.n_ctx, params.n_parallel = options["n_ctx"], options["n_parallel"]
    params.use_jinja, params.chat_template = True, options["chat_template"] or ""
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    # By default any web page may call the server.
    params.cors_origins = params.cors_methods = params.cors_headers = ""
    params.cors_credentials, params.ui = False, False
    params.verbosity = 1  # errors
    return llama.Server(params)
