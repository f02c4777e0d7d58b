"""How much of an answer is read at the most: settings of a client, kept by the rooms that read."""

from __future__ import annotations

from .._dataclass import frozen


@frozen
class Limits:
    """How much of a stream is held or read; beyond it the stream ends in `StreamTooLarge`. Sizes are bytes.

    ``event_bytes`` bounds a line as well as an event, ``event_lines`` the lines of one event, ``stream_bytes`` all
    decoded bytes of one answer, ``error_body_bytes`` how much of a refusal's body is kept.
    """

    event_bytes: int = 2**20
    event_lines: int = 10_000
    stream_bytes: int = 2**28
    error_body_bytes: int = 2**16
