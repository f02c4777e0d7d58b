"""A spinner on stderr while nothing can be shown: from the start of a call, over its connecting and waiting.

Rules:
- It is drawn on a terminal only, in one line, which is erased before anything else is written.
- No thread draws it: whoever waits calls `tick`.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from .._retries.retry import RetryInfo
from .._runtime.clock import monotonic
from .terminal import escape_controls

INTERVAL = 0.1  # seconds between two frames, and two calls of `tick` while nothing arrives
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_FRAMES = "|/-\\"
ERASE = "\r\x1b[K"
LONGEST = 60  # characters; a line that a terminal wraps can't be erased


class Spinner:
    """The spinner of one answer."""

    def __init__(self, wanted: bool = True) -> None:
        shown = wanted and sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.file: TextIO | None = sys.stderr if shown else None
        self._frames = FRAMES if shown and "utf" in sys.stderr.encoding.lower() else ASCII_FRAMES
        self._reset()

    @property
    def heartbeat(self) -> float | None:
        """How often `tick` wants to be called, in seconds; None if there is nothing to draw on."""
        return INTERVAL if self.file else None

    def start(self) -> None:
        """Draw it, because the wait for an answer begins. Call `stop` however that ends."""
        self._reset()
        self.tick()

    def _reset(self) -> None:
        self._started = self._drawn_at = monotonic()
        self._drawn = 0  # frames
        self._state = "waiting"

    def tick(self, *_: object) -> None:
        """Draw the next frame if it is time for it."""
        now = monotonic()
        if self.file is None or (self._drawn and now - self._drawn_at < INTERVAL):
            return
        frame = self._frames[self._drawn % len(self._frames)]
        self._drawn += 1
        self._drawn_at = now
        self.file.write(f"{ERASE}{frame} {self._state} {now - self._started:.0f} s"[:LONGEST])
        self.file.flush()

    def retry(self, info: RetryInfo) -> None:
        """Say why the call is repeated, until the next answer."""
        cause = f"status {info.status}" if info.status else escape_controls(" ".join(info.error.split()))
        self._state = f"{cause[:30]}, retrying"

    def stop(self) -> None:
        """Erase it."""
        if self.file is not None and self._drawn:
            self.file.write(ERASE)
            self.file.flush()
            self._drawn = 0
