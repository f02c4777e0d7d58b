"""Limits on the size of an answer: numbers that a client gets, and that the transport and the decoder apply."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .._dataclass import frozen
from ..errors import ConfigError


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

    Raises `ConfigError` for a limit that is not an integer of at least 1.
    """

    event_bytes: int = 2**24
    event_lines: int = 10_000
    stream_bytes: int = 2**28
    json_containers: int = 5_000_000
    error_body_bytes: int = 2**16

    def __post_init__(self) -> None:
        for each in fields(self):
            limit = getattr(self, each.name)
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
                raise ConfigError(f"{each.name} must be an integer of at least 1, not {limit!r:.60}")


def checked_limits(limits: Any) -> Limits:
    """``limits``, or the default ones in the place of None. Raises `ConfigError` for another type."""
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise ConfigError(f"limits must be a Limits, as in Limits(event_bytes=…), not {type(limits).__name__}")
    return limits
