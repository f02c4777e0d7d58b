"""Whether a proxy delivers each event before the server sends the next one."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from chatstream import ResponseStream
from chatstream.testing import Step, Wire


class DeliveryProbe:
    """Makes the server wait after each event until the client has read it, for at most ``seconds``.

    ``in_time`` says of each event whether the client read it within that time.
    """

    def __init__(self, seconds: float) -> None:
        self.in_time: list[bool] = []
        self._seconds = seconds
        self._read = threading.Semaphore(0)

    def steps(self, events: Iterable[Step]) -> list[Step]:
        """The server's side: the events, and a wait after each."""
        return [step for event in events for step in (event, self._wait)]

    def read(self, stream: ResponseStream) -> list[str]:
        """The client's side: read the whole stream; returns its pieces of text."""
        pieces = []
        for piece in stream.text():
            pieces.append(piece)
            self._read.release()
        return pieces

    def _wait(self, wire: Wire) -> None:
        self.in_time.append(self._read.acquire(timeout=self._seconds))
