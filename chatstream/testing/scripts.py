"""Arguments of a test → the steps of a script: what a `FaultServer` sends, when it waits, and how it ends.

A step is a function that takes the `Wire`; a script is a list of steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http.client import responses
from typing import Any, Literal

from .wire import Wire

Step = Callable[[Wire], None]
Script = Sequence[Step]

NO_RETRY = {"x-should-retry": "false"}  # a header with which a test that fails does so at once


def unread() -> Step:
    """The first step of a script that starts when the client connects, before TLS and before a request is read."""
    return read_nothing


def read_nothing(wire: Wire) -> None:
    """The step that `unread` returns. The server looks for it and does not call it for an effect."""


def head(
    code: int = 200, headers: Mapping[str, str] | None = None, framing: Literal["chunked", "close"] | int = "chunked"
) -> Step:
    """Status line and headers. ``framing``: ``chunked``, ``close`` (the body ends with the connection), or a length."""
    framings = {"chunked": ("Transfer-Encoding", "chunked"), "close": ("Connection", "close")}
    name, value = framings.get(str(framing), ("Content-Length", str(framing)))
    lines = {"Content-Type": "text/event-stream", name: value, **(headers or {})}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    data = f"HTTP/1.1 {code} {responses.get(code, 'Unknown')}\r\n{text}\r\n".encode("latin-1")

    def step(wire: Wire) -> None:
        wire.framing = framing
        wire.send(data)

    return step


def send(data: bytes) -> Step:
    """Bytes without any framing."""
    return lambda wire: wire.send(data)


def chunk(data: bytes) -> Step:
    """A piece of the body: one HTTP chunk, or only the bytes if the response is not chunked."""
    return lambda wire: wire.send_body(data)


def event(data: Mapping[str, Any] | str, name: str | None = None) -> Step:
    """One SSE event as one piece of the body; a mapping is sent as JSON. ``name`` is the type of the event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    name_line = f"event: {name}\n" if name else ""
    return chunk(f"{name_line}data: {text}\n\n".encode())


def delta(text: str, choice: int = 0, **more: Any) -> Step:
    """A chunk of an answer with a piece of text; ``more`` are other fields of its delta."""
    return event({"id": "c1", "model": "m1", "choices": [{"index": choice, "delta": {"content": text, **more}}]})


def finish(reason: str = "stop", choice: int = 0, **more: Any) -> Step:
    """A chunk of an answer with the finish reason; ``more`` are fields beside its choices, such as ``usage``."""
    return event({"id": "c1", "choices": [{"index": choice, "delta": {}, "finish_reason": reason}], **more})


def done() -> Step:
    """The event ``[DONE]``."""
    return event("[DONE]")


def pause(seconds: float) -> Step:
    """Send nothing for this time."""
    return lambda wire: wire.wait(seconds)


def drip(data: bytes, every: float) -> Step:
    """Send the bytes one by one, ``every`` seconds apart, without framing."""

    def step(wire: Wire) -> None:
        for byte in data:
            wire.send(bytes([byte]))
            wire.wait(every)

    return step


def forever(*steps: Step) -> Step:
    """The steps repeated until the client closes."""

    def step(wire: Wire) -> None:
        while True:
            for each in steps:
                each(wire)

    return step


def stall() -> Step:
    """Send nothing and keep the connection open until the client closes."""
    return Wire.stall


def cut() -> Step:
    """Close the connection (FIN) before the body is complete; over TLS, without a close_notify."""
    return Wire.hang_up


def reset() -> Step:
    """End the connection with RST."""
    return Wire.reset


def end() -> Step:
    """End the body: send the last chunk, or close the connection (over TLS after a close_notify). With a length in the
    head, do nothing."""

    def step(wire: Wire) -> None:
        if wire.framing == "chunked":
            wire.send(b"0\r\n\r\n")
        elif wire.framing == "close":
            wire.hang_up(politely=True)

    return step


# ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def text_answer(*pieces: str, reason: str = "stop", usage: Mapping[str, int] | None = None) -> Script:
    """A complete answer, with one event per piece of text. The client may use the connection again."""
    last = finish(reason, usage=usage) if usage else finish(reason)
    return [head(), *map(delta, pieces), last, done(), end()]


def status(code: int, body: Mapping[str, Any] | str = "", headers: Mapping[str, str] | None = None) -> Script:
    """A response with this status and body; a mapping is sent as JSON."""
    content_type = "text/plain" if isinstance(body, str) else "application/json"
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    return [head(code, {"Content-Type": content_type, **(headers or {})}, framing=len(data)), send(data)]


def redirect(location: str, code: int = 307) -> Script:
    """A response that redirects the client to ``location``."""
    return status(code, headers={"Location": location})
