"""Events of an answer → server-sent events for a browser, as bytes.

    ResponseEvent ─▶ EventSourceBody ─▶ a WSGI or ASGI server ─▶ the browser's EventSource

Rules:
- Every event, a `Heartbeat` too, becomes bytes: only when it writes does a server notice that its client has left.
- ``[DONE]`` says that the answer is complete. Where it is not, the last event is an ``error``.
- The connection to the model is given up when this object is closed or dropped, even if nothing was read from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from .errors import Cancelled, ChatStreamError, ConfigError
from .types.events import Completed, OutputTextDelta, ResponseEvent

COMMENT = b":\n\n"  # browsers ignore it
DONE = b"data: [DONE]\n\n"


class EventSourceBody:
    """The body of a response of type ``text/event-stream``: an iterator of bytes with the ``close`` that WSGI calls.

    ``close`` gives up the connection to the model. It must not refer to this object, nor may ``events``: whatever
    refers to it keeps it from being dropped.
    """

    def __init__(self, events: Iterable[ResponseEvent], close: Callable[[], None]) -> None:
        self._close = close
        self._pieces = _pieces(events)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Give up what has not been sent. May be called twice, and from any thread."""
        self._close()

    def __del__(self) -> None:  # ASGI servers call no close
        self._close()


def checked_heartbeat(seconds: float) -> float:
    """``seconds`` if it is a time. Raises `ConfigError`."""
    if not (isinstance(seconds, (int, float)) and seconds > 0):
        raise ConfigError(f"heartbeat is a number of seconds above 0, not {seconds!r}")
    return seconds


def _pieces(events: Iterable[ResponseEvent]) -> Iterator[bytes]:
    """One server-sent event or comment for each event."""
    completed = False
    yield COMMENT  # a server sends its headers with the first bytes
    try:
        for event in events:
            if isinstance(event, OutputTextDelta) and not event.choice:
                yield _data({"text": event.delta})
            elif isinstance(event, Completed):
                completed = True
                yield DONE
            else:  # reasoning, for example
                yield COMMENT
        if not completed:
            raise Cancelled("the stream was closed, or read elsewhere, before its end")
    except ChatStreamError as error:
        yield b"event: error\n" + _data({"type": type(error).__name__, "message": str(error)})


def _data(fields: dict[str, str]) -> bytes:
    """The data of an event. A line end in a text would end the line, but JSON escapes it."""
    return b"data: %b\n\n" % json.dumps(fields, ensure_ascii=False).encode()
