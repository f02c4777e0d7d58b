"""A real server and a file → a server on loopback that records the answers once, and sends them again afterwards.

    client ─▶ RecordingServer ─▶ the real server        the first time: what it answers goes into the file
    client ─▶ RecordingServer ◀─ the file               from then on

Rules:
- A request is known if one in the file has the same method, path and JSON. Equal requests get their answers in the
  recorded order, and the last one is repeated.
- A request that is not known, and may not be recorded, gets status 400 with the difference from the recorded ones.
- The key of the provider is needed only to record, and not even then if the client sends one. It is never written.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._http.reply import Reply
from .._recording.format import Exchange
from .._recording.load import load
from .._recording.recorder import Recorder, json_of, masked_json
from .._redaction import Secrets
from ..client import Client
from ..errors import ChatStreamError, ConfigError
from ..providers.provider import Provider
from .differences import difference
from .fault_server import FaultServer
from .forwarding import BASE, forward
from .modes import DEFAULT_MODE, MODES
from .replay_server import script_of
from .scripts import NO_RETRY, Script, chunk, cut, end, head, status
from .wire import ReceivedRequest, Wire


class RecordingServer:
    """Records what ``upstream`` answers into the file at ``path``, or answers from there; a context manager.

    - ``upstream``: the id of a built-in provider, a base URL, or a `Provider`.
    - ``mode``: ``once`` records if there is no file yet. ``none`` never records. ``new_episodes`` records the requests
      that the file does not have. ``all`` and ``rewrite`` record everything anew.
    - ``speed``: of the answers from the file; see `chatstream.replay`.

    Attributes: ``url`` is the base URL for a client, ``requests`` the list of requests received. ``differences`` has a
    text for each request that is not in the recording and may not be recorded: how it differs.
    """

    def __init__(
        self,
        upstream: str | Provider,
        path: str | os.PathLike[str],
        *,
        mode: str = DEFAULT_MODE,
        speed: float = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"the record mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.path: Path = Path(path)
        self.differences: list[str] = []
        exists = self.path.exists()
        starts_anew = mode in {"all", "rewrite"}
        self._records = starts_anew or mode == "new_episodes" or (mode == "once" and not exists)
        self._known = load(self.path) if exists and not starts_anew else []
        self._played: set[int] = set()  # the places in `_known` whose answer was sent
        self._speed = speed
        self._client = Client(upstream)
        self._recorder = Recorder(self.path, append=not starts_anew)
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._recording = threading.Lock()  # one answer is recorded at a time
        self._server = FaultServer([self._answer], tls=tls)
        self.url: str = self._server.url
        self.port: int = self._server.port
        self.requests: list[ReceivedRequest] = self._server.requests

    def close(self) -> None:
        """End all connections and threads. A second call does nothing."""
        self._is_closed.set()
        self._client.cancel()
        self._server.close()
        self._client.close()

    def __enter__(self) -> RecordingServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, wire: Wire) -> None:
        """The step of every script: it answers the request of the wire."""
        request = wire.received
        with self._lock:
            exchange = self._find(request)
        if exchange is not None:
            script = script_of(exchange, self._speed)
        elif self._records:
            with self._recording:
                script = self._record(request, wire)
        else:
            script = self._rejection(request)
        for step in script:
            step(wire)

    # ── from the file ──

    def _find(self, request: ReceivedRequest) -> Exchange | None:
        """The recorded answer to a request; None if there is none."""
        asked = _asked(request)
        found = [number for number, each in enumerate(self._known) if _recorded(each, asked["path"]) == asked]
        if not found:
            return None
        number = next((each for each in found if each not in self._played), found[-1])
        self._played.add(number)
        return self._known[number]

    def _rejection(self, request: ReceivedRequest) -> Script:
        asked = _asked(request)
        what = f"{request.method} {request.path} is not in the recording {self.path.name}"
        if not self._known:
            what += ", because there is no such file: record it with --chat-record-mode=once"
        else:
            left = [each for number, each in enumerate(self._known) if number not in self._played] or self._known
            what += " (--chat-record-mode=rewrite records it anew)\n"
            what += difference(_recorded(left[0], asked["path"]), asked, "recording")
        with self._lock:
            self.differences.append(what)
        return status(400, {"error": {"message": what, "type": "not_recorded"}}, NO_RETRY)

    # ── from the real server ──

    def _record(self, request: ReceivedRequest, wire: Wire) -> Script:
        """Pass the request on, and its answer back as it arrives; returns the steps that end the answer."""
        recording = self._recorder.begin(_choices_of(request))
        reply: Reply | None = None
        failure: ChatStreamError | None = None
        try:
            self._make_folder()
            reply = forward(request, self._client, recording, self._is_closed)
            head(reply.status, {"Content-Type": reply.headers.get("Content-Type", "text/plain")})(wire)
            while piece := reply.read():
                chunk(piece)(wire)
            return [end()]
        except ConfigError as error:
            failure = error
            body = {"error": {"message": str(error), "type": "config_error"}}
            return status(400, body, NO_RETRY)
        except ChatStreamError as error:
            failure = error
            return [cut()]
        finally:
            if reply is not None:
                reply.close()
            recording.end(failure)

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the folder {self.path.parent} can't be made: {error.strerror}") from None


def _asked(request: ReceivedRequest) -> dict[str, Any]:
    """What tells a request from others: method, path and JSON, without secrets, as in a recording."""
    path = request.path.removeprefix(BASE).partition("?")[0]
    return {"method": request.method, "path": path, "body": masked_json(json_of(request.body), Secrets())}


def _recorded(exchange: Exchange, path: str) -> dict[str, Any]:
    """The same of a recorded request; its ``path`` is that one if its URL ends with it."""
    request = exchange.request
    found = urlsplit(str(request.get("url") or path)).path
    path = path if found.endswith(path) else found
    return {"method": request.get("method", "POST"), "path": path, "body": request.get("body")}


def _choices_of(request: ReceivedRequest) -> int:
    asked = json_of(request.body)
    choices = asked.get("n") if isinstance(asked, Mapping) else None
    return choices if isinstance(choices, int) and choices > 0 else 1
