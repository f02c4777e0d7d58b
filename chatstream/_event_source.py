"""Events of an answer → server-sent events for a browser, as bytes.

    ResponseEvent ─▶ EventSourceBody ─▶ a WSGI or ASGI server ─▶ the browser's EventSource

Rules:
- Every event, a `Heartbeat` too, becomes bytes: only when it writes does a server notice that its client has left.
- ``[DONE]`` says that the answer is complete. Where it is not, the last event is an ``error``.
- The connection to the model is given up when this object is closed or dropped, even if nothing was read from it.
- ASGI servers cancel the task of a client that left, and the traceback keeps a plain iterator alive until the next
  garbage collection. So there is an asynchronous iterator too, which waits in threads, and is closed with its task.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from .errors import ChatStreamError, StreamClosed
from .types.events import Completed, OutputTextDelta, ResponseEvent

COMMENT = b":\n\n"  # browsers ignore it
DONE = b"data: [DONE]\n\n"


class EventSourceBody:
    """The body of a response of type ``text/event-stream``: bytes, for ``for`` and for ``async for``.

    WSGI servers call its ``close``, which gives up the connection to the model. The parameters ``close`` and
    ``events`` must not refer to this object: that would keep it from being dropped.
    """

    def __init__(self, events: Iterable[ResponseEvent], close: Callable[[], None]) -> None:
        self._close = close
        self._pieces = _pieces(events)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await _in_thread(self._next_or_none)) is not None:
                yield piece
        finally:
            self._close()

    def _next_or_none(self) -> bytes | None:
        return next(self._pieces, None)

    def close(self) -> None:
        """Give up what has not been sent. May be called twice, and from any thread."""
        self._close()

    def __del__(self) -> None:  # not every server calls close
        self._close()


async def _in_thread(function: Callable[[], bytes | None]) -> bytes | None:
    """The result of a function that blocks. Where anyio is loaded, as by Starlette, the event loop may be trio's."""
    threads = sys.modules.get("anyio.to_thread")
    if threads is not None:
        result: bytes | None = await threads.run_sync(function)
        return result
    from asyncio import to_thread

    return await to_thread(function)


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
            raise StreamClosed("the stream was closed, or read by other code, before the answer was complete")
    except ChatStreamError as error:
        yield b"event: error\n" + _data({"type": type(error).__name__, "message": str(error)})


def _data(fields: dict[str, str]) -> bytes:
    """The data of an event. A line end in a text would end the line, but JSON escapes it."""
    return b"data: %b\n\n" % json.dumps(fields, ensure_ascii=False).encode()
