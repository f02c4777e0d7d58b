"""Recordings → a server on loopback that sends the recorded answers again, with their timing if wanted.

    files ─load▶ exchanges ─▶ FaultServer ─bytes, at their times▶ any client

Rules:
- Each request is answered by the recorded exchange that answers it best: one whose request has the same body, else one
  whose conversation is the same, else the next. Those that have not been played come first, in the recorded order.
- The bytes are those of the recording, in the same pieces. An answer that broke off breaks off again.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from .._recording.format import Exchange
from .._recording.load import load
from .._recording.recorder import json_of
from .._recording.replay import check_speed
from .._runtime.clock import monotonic
from ..errors import ConfigError
from .fault_server import FaultServer
from .scripts import Script, Step, chunk, cut, end, head, pause, reset, stall
from .wire import ReceivedRequest, Wire

UNANSWERED = ("IdleTimeout", "DeadlineExceeded")  # the server had fallen silent, and the client left


class ReplayServer:
    """A server that answers with recordings; a context manager that closes it. Any client may use it.

    ``paths`` are files that ``record=`` has written, or bodies that another program has saved; see `chatstream.replay`.
    ``speed``: 1 is the original speed, 2 is twice as fast; 0 does not wait. ``tls`` is a server-side context for https.

    Attributes: ``url`` is the base URL of the server, ``port`` its port, ``requests`` the list of requests received.
    Raises `ConfigError` for a file that is not a recording.
    """

    def __init__(self, *paths: str | os.PathLike[str], speed: float = 0, tls: ssl.SSLContext | None = None) -> None:
        check_speed(speed)
        self._exchanges = [exchange for path in paths for exchange in load(path)]
        if not self._exchanges:
            raise ConfigError("a ReplayServer needs the path of at least one recording")
        self._played = [0] * len(self._exchanges)
        self._speed = speed
        self._server = FaultServer([self._answer], tls=tls)
        self.url: str = self._server.url
        self.port: int = self._server.port
        self.requests: list[ReceivedRequest] = self._server.requests

    def close(self) -> None:
        """End all connections and threads. A second call does nothing."""
        self._server.close()

    def __enter__(self) -> ReplayServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, wire: Wire) -> None:
        """The step of every script: it answers the request of the wire."""
        with self._server.changed:  # two connections may ask at once
            number = self._chosen(wire.received)
            self._played[number] += 1
        for step in script_of(self._exchanges[number], self._speed):
            step(wire)

    def _chosen(self, request: ReceivedRequest) -> int:
        asked = json_of(request.body)
        return max(
            range(len(self._exchanges)),
            key=lambda number: (
                _likeness(self._exchanges[number], asked),
                -self._played[number],
                -number,
            ),
        )


def script_of(exchange: Exchange, speed: float) -> Script:
    """The steps that play an answer again."""
    if exchange.status is None:  # no answer came
        return [reset()]
    steps: list[Step] = []
    clock = _Clock(speed)
    steps.append(clock.until(exchange.after))
    steps.append(head(exchange.status, {_titled(name): value for name, value in exchange.headers.items()}))
    for seconds, piece in exchange.pieces:
        steps += [clock.until(seconds), chunk(piece)]
    steps.append(clock.until(exchange.end or 0.0))
    if exchange.whole:
        return [*steps, end()]
    broken = str((exchange.error or {}).get("error"))
    return [*steps, stall() if broken in UNANSWERED else cut()]


class _Clock:
    """Waits until moments of a recording, counted from the first wait."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began: float | None = None

    def until(self, seconds: float) -> Step:
        def step(wire: Wire) -> None:
            self._began = self._began or monotonic()
            left = seconds / self._speed - (monotonic() - self._began) if self._speed else 0.0
            if left > 0:
                pause(left)(wire)

        return step


def _likeness(exchange: Exchange, asked: Any) -> int:
    recorded = exchange.request.get("body")
    if recorded is None or asked is None:
        return 0
    if recorded == asked:
        return 2
    both = isinstance(recorded, Mapping) and isinstance(asked, Mapping)
    return 1 if both and recorded.get("messages") == asked.get("messages") else 0


def _titled(name: str) -> str:
    """A header as servers write it, so that it replaces the one of `head`."""
    return "-".join(part.capitalize() for part in name.split("-"))
