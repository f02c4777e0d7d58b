"""What several tests say, spelled once.

Rules of time, on machines that stand still now and then:
- What has to come within a limit gets some tenths of a second, or the server waits for the test (`once`).
- What has to be over in time is begun inside the block that measures it, and what the machine took for others meanwhile
  does not count (`within`, `cancelled`).
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from chatstream import Cancelled, OutputTextDelta, ResponseStream
from chatstream.testing import Script, Step, Wire, delta, done, end, finish

KEY = "sk-Zq7-the-key"
WORDS = ["one ", "two ", "three "]
THREE: Script = [delta(word) for word in WORDS]
REST: Script = [finish(), done(), end()]


def body(text: str) -> bytes:
    """The event that `delta` sends, without its framing."""
    choice = {"index": 0, "delta": {"content": text}}
    return b"data: %b\n\n" % json.dumps({"id": "c1", "model": "m1", "choices": [choice]}).encode()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """For a server that calls itself ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def text_of(events: list[Any]) -> str:
    """The text that a list of events says."""
    return "".join(event.delta for event in events if isinstance(event, OutputTextDelta))


def once(event: threading.Event) -> Step:
    """A step that waits until the test has set ``event``: whoever waits for the server sees it wait, however busy the
    machine is."""

    def hold(wire: Wire) -> None:
        while not event.is_set():
            wire.wait(0.002)

    return hold


class Metronome:
    """Notes how much later than asked a short sleep ends: time that the machine took for others."""

    TICK = 0.005

    def __init__(self) -> None:
        self.stolen = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._over.is_set():
            time.sleep(self.TICK)
            now = time.monotonic()
            self.stolen += now - before - self.TICK
            before = now

    def __enter__(self) -> Metronome:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def cancelled(stream: ResponseStream, seconds: float = 0.3) -> Cancelled:
    """The error of a stream that another thread cancels after so long; it comes within 50 ms, not counting time that
    the machine took for others, and has all text that came."""

    def cancel() -> None:
        called.append(time.monotonic())
        stream.cancel()

    called, before, seen = list[float](), stream.turn.text, list[Any]()
    timer = threading.Timer(seconds, cancel)
    timer.start()
    with Metronome() as metronome, pytest.raises(Cancelled) as caught:
        seen.extend(stream)  # what came before the error stays
    ended = time.monotonic()
    timer.join()
    assert ended - called[0] < 0.05 + metronome.stolen
    assert not caught.value.retryable
    assert caught.value.partial.text == before + text_of(seen)
    return caught.value


@contextmanager
def within(most: float, least: float = 0.0) -> Iterator[None]:
    """The block takes so many seconds, not counting those that the machine took for others meanwhile."""
    with Metronome() as metronome:
        started = time.monotonic()
        yield
        took = time.monotonic() - started
    stolen = metronome.stolen
    assert least * 0.8 <= took <= most + stolen, f"took {took:.3f} s ({stolen:.3f} s stolen), not {least} to {most} s"
