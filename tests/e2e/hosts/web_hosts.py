"""Real web servers with the applications beside this file, and a browser for their server-sent events.

Each application answers ``/answer?port=…`` with the answer of the model that listens on that port of loopback.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

HEARTBEAT = 0.4  # seconds, as the applications have it
START_SECONDS = 60.0
GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:@port", "--graceful-timeout", "1", "--worker-class"]
COMMANDS = {
    "Flask in gunicorn's sync worker": [*GUNICORN, "sync", "flask_app:app"],
    "Flask in gunicorn's gthread worker": [*GUNICORN, "gthread", "--threads", "4", "flask_app:app"],
    "Flask in gunicorn's gevent worker": [*GUNICORN, "gevent", "flask_app:app"],
    "Flask in its own server": ["-m", "flask", "--app", "flask_app", "run", "--port", "@port"],
    "Django in gunicorn's sync worker": [*GUNICORN, "sync", "django_app:application"],
    "Django in gunicorn's gthread worker": [*GUNICORN, "gthread", "--threads", "4", "django_app:application"],
    "Django in uvicorn": ["-m", "uvicorn", "--port", "@port", "django_asgi:application"],
    "FastAPI in uvicorn": ["-m", "uvicorn", "--port", "@port", "fastapi_app:app"],
}
FLASK = [name for name in COMMANDS if "Flask" in name]
NO_LINGER = struct.pack("ii", 1, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class WebHost:
    """A web server in a process of its own, on a free port."""

    def __init__(self, command: list[str], python: Path, programs: Path) -> None:
        self.port: int = free_port()
        arguments = [argument.replace("@port", str(self.port)) for argument in command]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the server
        variables = {
            "PYTHONPATH": str(programs),
            "HEARTBEAT": str(HEARTBEAT),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }
        self._process = subprocess.Popen(
            [str(python), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=os.environ | variables,
        )
        until = time.monotonic() + START_SECONDS
        while not listens(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                log = self.log
                self.close()
                pytest.fail(f"{command} does not start:\n{log}")
            time.sleep(0.05)

    @property
    def log(self) -> str:
        """What the server has printed."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def request(self, port: int, method: str = "GET") -> Browser:
        """A browser that asks for the answer of the model on ``port``."""
        return Browser(self.port, method, f"/answer?port={port}")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Browser:
    """One request, and the server-sent events of its response."""

    def __init__(self, port: int, method: str, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._connection.request(method, path, headers={"Connection": "close"})
        self._response: http.client.HTTPResponse | None = None

    @property
    def response(self) -> http.client.HTTPResponse:
        """The response, once its headers have arrived."""
        if self._response is None:
            assert isinstance(self._connection.sock, socket.socket)
            self._socket = self._connection.sock
            self._response = self._connection.getresponse()
        return self._response

    def next_event(self) -> tuple[str, Any] | None:
        """The name and the data of the next event; None at the end."""
        name, data = "message", None
        while line := self.response.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data = value if value == "[DONE]" else json.loads(value)
            elif not field and data is not None:
                return name, data
        return None

    def events(self) -> list[tuple[str, Any]]:
        """All events that are left."""
        return list(iter(self.next_event, None))

    def leave(self, reset: bool = False) -> None:
        """Close the connection, as a browser does whose tab is closed; with ``reset`` as one that is killed."""
        sock = self._connection.sock or self._socket
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        if self._response is not None:
            self._response.close()
        self._connection.close()
        sock.close()
