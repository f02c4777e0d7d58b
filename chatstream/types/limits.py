"""Limits on the size of an answer: numbers that a client gets, and that the transport and the decoder apply."""

from __future__ import annotations

from .._dataclass import frozen


@frozen
class Limits:
    """Size limits of one answer. A stream that exceeds a limit raises `StreamTooLarge`.

    - ``event_bytes``: the size of an SSE event, of a line, and of a JSON answer, in bytes. ``event_lines``: the lines
      of an event.
    - ``stream_bytes``: the size of the whole answer after decompression, in bytes.
    - ``json_containers``: the lists and objects of one event, and those kept of the whole answer in ``extra`` and the
      like. An empty one takes twenty times the memory of its text. 20 top logprobs for each of 100,000 tokens are
      about four million lists and objects.
    - ``error_body_bytes``: how much of the body of an error response is kept, in bytes; the rest is cut off.
    """

    event_bytes: int = 2**24
    event_lines: int = 10_000
    stream_bytes: int = 2**28
    json_containers: int = 5_000_000
    error_body_bytes: int = 2**16
