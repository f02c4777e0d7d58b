"""One call after the other → a recording in a file, written as the answer arrives.

    Call, Reply ─▶ Recorder ─format▶ the file

Rules:
- Only listed headers are written. Every text is redacted, also the body of the answer: a server may repeat a secret
  anywhere in it.
- Whole lines are written at once, unbuffered: what a program has received before it is killed can be replayed.
- A file that can't be written raises `ConfigError` before anything is sent. If a later write fails, the answer goes on,
  the recording ends, and a `UserWarning` says so.
- Only the process that began a call writes its recording.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import IO, Any

from .._calls.hooks import RequestInfo
from .._http.reply import REQUEST_ID_HEADERS, Reply
from .._redaction import Secrets
from .._runtime.clock import monotonic
from .._runtime.frames import warn
from .._runtime.locks import ForkSafeLock
from .._secrets import MASK, is_named_secret, is_secret, visible_url
from ..errors import ChatStreamError, ConfigError
from ..providers.provider import Provider
from .format import MAGIC, BodyWriter, first_line, is_recording, note

REQUEST_HEADERS = ("accept", "content-type", "user-agent")
RESPONSE_HEADERS = (
    *("content-type", "date", "server", "retry-after", "retry-after-ms", "x-should-retry", "location"),
    *REQUEST_ID_HEADERS,
)
RATE_LIMITS = ("x-ratelimit-", "ratelimit")  # what such headers begin with
PARSER_SETTINGS = ("eof_completes", "skip_undecodable", "think_tags")

_recorded_paths: set[str] = set()  # of open files: two calls would spoil each other's recording
_lock = ForkSafeLock()


class Recorder:
    """Writes what calls send and receive into a file that `replay` and `chatstream.testing.ReplayServer` read.

    ``target`` is a path, or a file that is opened for writing bytes. The first call replaces the file at a path, unless
    ``append`` is true; the calls that follow are added to it. One call is recorded at a time.
    """

    def __init__(self, target: str | os.PathLike[str] | IO[bytes], *, append: bool = False) -> None:
        if hasattr(target, "encoding"):
            raise ConfigError("a Recorder needs a file opened in binary mode: open(path, 'wb')")
        self._path = None if hasattr(target, "write") else checked_path(target)
        self._file: Any = target if self._path is None else None
        self._replaces = not append
        self._reserved = ""  # the path in `_recorded_paths` while the file is open
        self._call: CallRecording | None = None
        self._lock = ForkSafeLock()

    def begin(self, choices: int) -> CallRecording:
        """The recording of a call for so many choices. Raises `ConfigError` while another call is recorded."""
        with self._lock.current:
            if self._call is not None and not self._call.ended:
                raise ConfigError(
                    "the Recorder is already recording another call: end that call first, or use one Recorder per call"
                )
            self._call = CallRecording(self, choices)
            return self._call

    def open(self) -> Any:
        """The file, ready for another call. Raises `OSError` and `ValueError`."""
        is_new = self._replaces
        if self._path is not None:
            self._reserve(os.path.realpath(self._path))
            self._file = open(self._path, "wb" if is_new else "a+b", buffering=0)  # noqa: SIM115  # closed by `close`
            if not is_new and not (is_new := not self._file.tell()):
                self._file.seek(0)
                if not is_recording(self._file.read(len(MAGIC))):
                    raise ValueError("it exists, and is not a recording")
        self._replaces = False
        _write(self._file, first_line() if is_new else b"\n")
        return self._file

    def _reserve(self, path: str) -> None:
        with _lock.current:
            if path in _recorded_paths:
                raise ValueError("another call is being recorded there")
            _recorded_paths.add(path)
        self._reserved = path

    def close(self) -> None:
        """Close the file, if it was opened here."""
        _recorded_paths.discard(self._reserved)
        self._reserved = ""
        if self._path is not None and self._file is not None:
            self._file.close()

    def __repr__(self) -> str:
        return f"Recorder({self._path or self._file!r})"


class CallRecording:
    """The recording of one call: all of its requests, and their answers."""

    def __init__(self, recorder: Recorder, choices: int) -> None:
        self.ended: bool = False
        self._recorder = recorder
        self._choices = choices
        self._file: Any = None  # None before the first request, and after a failure to write
        self._secrets = Secrets()
        self._sent_at = 0.0
        self._body: BodyWriter | None = None  # of the answer that is being read
        self._is_open = False  # the latest exchange has no end yet
        self._lock = ForkSafeLock()  # a call may be closed by another thread than the one that reads
        self._process = os.getpid()

    def request(self, info: RequestInfo, provider: Provider, secrets: Secrets) -> None:
        """A request is about to be sent. Raises `ConfigError` if the file can't be written."""
        with self._lock.current:
            self._finish(None)
            self._secrets, self._sent_at = secrets, monotonic()
            try:
                if info.attempt == 1:
                    self._file = self._recorder.open()
                blank = b"" if info.attempt == 1 else b"\n"  # ends an event that the answer before has left open
                self._write(blank + self._request_note(info, provider))
            except (OSError, ValueError) as error:
                self._file = None
                self._recorder.close()
                raise ConfigError(f"record: {self._recorder!r} can't be written: {_reason(error)}") from None
            self._is_open = True

    def response(self, reply: Reply, secrets: Secrets) -> None:
        """The headers of an answer have arrived; from now on what is read of its body is recorded."""
        with self._lock.current:
            self._secrets = secrets
            kept = {name.lower(): value for name, value in reply.headers.items() if _is_kept(name.lower())}
            headers = {name: secrets.redact(visible_url(value)) for name, value in kept.items()}
            found = {"status": reply.status, "headers": headers, "after": round(monotonic() - self._sent_at, 6)}
            self._body = BodyWriter(self._redacted)
            self._try(note("response", found))
        reply.record(self._receive, self.broken)

    def broken(self, error: BaseException) -> None:
        """The answer broke off, or none came."""
        with self._lock.current:
            self._finish(error)

    def end(self, error: BaseException | None) -> None:
        """The call has ended."""
        with self._lock.current:
            if self.ended:
                return
            self._finish(error)
            self._file = None
            try:
                self._recorder.close()
            finally:
                self.ended = True  # last: from now on another call may use the recorder

    def _receive(self, piece: bytes) -> None:
        with self._lock.current:
            if self._body is not None and piece:
                self._try(self._body.feed(monotonic() - self._sent_at, piece))
            elif not piece:
                self._finish(None, whole=True)

    def _finish(self, error: BaseException | None, whole: bool = False) -> None:
        """Write how the latest exchange has ended, unless that is written."""
        if not self._is_open:
            return
        self._is_open = False
        rest = b"" if self._body is None else self._body.close()
        self._body = None
        values: list[Any] = [monotonic() - self._sent_at]
        if isinstance(error, ChatStreamError):
            message = str(error.args[0]) if error.args else ""
            values.append({"error": type(error).__name__, "message": self._secrets.redact(message)})
        self._try(rest + note("end" if whole else "cut", *values))

    def _request_note(self, info: RequestInfo, provider: Provider) -> bytes:
        redact = self._secrets.redact
        headers = {name.lower(): redact(str(value)) for name, value in info.headers.items()}
        found = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "attempt": info.attempt,
            "provider": redact(info.provider),
            "choices": self._choices,
            "parser": {name: getattr(provider, name) for name in PARSER_SETTINGS if getattr(provider, name)},
            "method": info.method,
            "url": redact(visible_url(info.url)),
            "headers": {name: headers[name] for name in REQUEST_HEADERS if name in headers},
            "body": _masked_body(info.body, self._secrets),
        }
        return note("request", found)

    def _redacted(self, data: bytes) -> bytes:
        text = data.decode("latin-1")  # so that each byte is a character, and comes back
        clean = self._secrets.redact_whole(text)
        return data if clean == text else clean.encode("latin-1")

    def _try(self, data: bytes) -> None:
        """Write, or end the recording with a warning."""
        try:
            self._write(data)
        except (OSError, ValueError) as error:
            self._file = None
            warn(f"the recording is incomplete, because {self._recorder!r} can't be written: {_reason(error)}")

    def _write(self, data: bytes) -> None:
        if self._file is not None and self._process == os.getpid():
            _write(self._file, data)


def recorder_of(record: Any) -> Recorder:
    """The recorder for the option ``record``. Raises `ConfigError` for another type."""
    if isinstance(record, Recorder):
        return record
    return Recorder(checked_path(record))


def checked_path(path: Any) -> str:
    """A path as a str. Raises `ConfigError` for another type."""
    if isinstance(path, (str, os.PathLike)) and isinstance(found := os.fspath(path), str) and found:
        return found
    shown = "an empty text" if path == "" else type(path).__name__
    raise ConfigError(f"record must be the path of a file or a Recorder, not {shown}")


def json_of(body: bytes) -> Any:
    """The JSON value of a body; None if it is no JSON, or is empty."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def masked_json(value: Any, secrets: Secrets, named: Callable[[str, str], object] = is_named_secret) -> Any:
    """A JSON value without the secrets of a request: also without texts whose ``named`` place says that they are
    secret, the parameters of URLs, and what the headers of a tool hold."""
    if isinstance(value, str):
        return secrets.redact(visible_url(value) if value.startswith(("https://", "http://")) else value)
    if isinstance(value, list):
        return [masked_json(each, secrets) for each in value]
    if not isinstance(value, Mapping):
        return value
    masked = {}
    for name, each in value.items():
        is_hidden = isinstance(each, str) and each and named(name, each)
        inner = is_secret if name.lower() == "headers" else is_named_secret
        masked[secrets.redact(name)] = MASK if is_hidden else masked_json(each, secrets, inner)
    return masked


def _masked_body(body: bytes, secrets: Secrets) -> Any:
    """The JSON of a request without its secrets; None for what is no JSON, or is nested too deep."""
    try:
        return masked_json(json.loads(body), secrets)
    except (ValueError, RecursionError):
        return None


def _is_kept(header: str) -> bool:
    return header in RESPONSE_HEADERS or header.startswith(RATE_LIMITS)


def _write(file: Any, data: bytes) -> None:
    """Write all of it: an unbuffered file may take less at once, and says how much."""
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        rest = rest[written if isinstance(written, int) else len(rest) :]
    file.flush()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
