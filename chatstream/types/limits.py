"""Limits on the size of an answer: numbers that a client is given, and that the transport and the decoder apply."""

from __future__ import annotations

from .._dataclass import frozen


@frozen
class Limits:
    """The most that is read of one answer. A stream that exceeds a limit raises `StreamTooLarge`.

    - ``event_bytes``: the size of an SSE event, and of a line, in bytes. ``event_lines``: the lines of an event.
    - ``stream_bytes``: the size of the whole answer after decompression, in bytes.
    - ``error_body_bytes``: how much of the body of an error response is kept, in bytes; the rest is cut off.
    """

    event_bytes: int = 2**20
    event_lines: int = 10_000
    stream_bytes: int = 2**28
    error_body_bytes: int = 2**16
