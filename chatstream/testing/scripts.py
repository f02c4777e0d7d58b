"""The words of a test → steps: what a `FaultServer` sends, when, and how it ends.

A step is a function of the `Wire`, a script a list of steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http.client import responses
from typing import Any, Literal

from .wire import Wire

Step = Callable[[Wire], None]
Script = Sequence[Step]


def unread() -> Step:
    """As the first step: play the script as soon as the client connects, with no TLS and no request read."""
    return read_nothing


def read_nothing(wire: Wire) -> None:
    pass


def head(
    code: int = 200, headers: Mapping[str, str] | None = None, framing: Literal["chunked", "close"] | int = "chunked"
) -> Step:
    """Status line and headers. ``framing``: chunks, a body that ends with the connection, or a Content-Length."""
    how = {"chunked": ("Transfer-Encoding", "chunked"), "close": ("Connection", "close")}
    name, value = how.get(str(framing), ("Content-Length", str(framing)))
    lines = {"Content-Type": "text/event-stream", name: value, **(headers or {})}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    data = f"HTTP/1.1 {code} {responses.get(code, 'Unheard Of')}\r\n{text}\r\n".encode("latin-1")

    def step(wire: Wire) -> None:
        wire.framing = framing
        wire.send(data)

    return step


def send(data: bytes) -> Step:
    """Bytes as they are, outside of any framing."""
    return lambda wire: wire.send(data)


def chunk(data: bytes) -> Step:
    """A piece of the body: one HTTP chunk, or the bare bytes where the answer is not chunked."""
    return lambda wire: wire.send_body(data)


def event(data: Mapping[str, Any] | str, name: str | None = None) -> Step:
    """One SSE event as one piece of the body; a mapping is sent as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    named = f"event: {name}\n" if name else ""
    return chunk(f"{named}data: {text}\n\n".encode())


def delta(text: str, choice: int = 0, **more: Any) -> Step:
    """A chunk with a piece of text; ``more`` are other fields of its delta."""
    return event({"id": "c1", "model": "m1", "choices": [{"index": choice, "delta": {"content": text, **more}}]})


def finish(reason: str = "stop", choice: int = 0, **more: Any) -> Step:
    """The chunk with the finish reason; ``more`` are fields beside its choices, like ``usage``."""
    return event({"id": "c1", "choices": [{"index": choice, "delta": {}, "finish_reason": reason}], **more})


def done() -> Step:
    """The event ``[DONE]``."""
    return event("[DONE]")


def pause(seconds: float) -> Step:
    """Nothing, for a time."""
    return lambda wire: wire.wait(seconds)


def drip(data: bytes, every: float) -> Step:
    """Bytes as they are, one each ``every`` seconds."""

    def step(wire: Wire) -> None:
        for byte in data:
            wire.send(bytes([byte]))
            wire.wait(every)

    return step


def forever(*steps: Step) -> Step:
    """The steps again and again, until the client goes."""

    def step(wire: Wire) -> None:
        while True:
            for each in steps:
                each(wire)

    return step


def stall() -> Step:
    """Silence with the connection open, until the client goes."""
    return Wire.stall


def cut() -> Step:
    """FIN in the middle of everything; over TLS without close_notify."""
    return Wire.hang_up


def reset() -> Step:
    """RST."""
    return Wire.reset


def end() -> Step:
    """The regular end of the body: the terminating chunk, or a polite FIN; nothing where a length was promised."""

    def step(wire: Wire) -> None:
        if wire.framing == "chunked":
            wire.send(b"0\r\n\r\n")
        elif wire.framing == "close":
            wire.hang_up(politely=True)

    return step


# ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def text_answer(*pieces: str, reason: str = "stop", usage: Mapping[str, int] | None = None) -> Script:
    """A whole answer, one event per piece of text; the client may use the connection again."""
    last = finish(reason, usage=usage) if usage else finish(reason)
    return [head(), *map(delta, pieces), last, done(), end()]


def status(code: int, body: Mapping[str, Any] | str = "", headers: Mapping[str, str] | None = None) -> Script:
    """An answer of any status with a body; a mapping is sent as JSON."""
    kind = "text/plain" if isinstance(body, str) else "application/json"
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    return [head(code, {"Content-Type": kind, **(headers or {})}, framing=len(data)), send(data)]


def redirect(location: str, code: int = 307) -> Script:
    """An answer that sends the client elsewhere."""
    return status(code, headers={"Location": location})
