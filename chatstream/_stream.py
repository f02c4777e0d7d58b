"""The stream that a caller holds, and the reader behind it, which replaces an attempt that breaks.

    OpenAttempt ─events▶ CallReader ─▶ ResponseStream ─▶ the caller's loop, Turn

Rules:
- A stream that breaks is restarted only while the caller has got nothing; `aggregate` and `collect` hand over nothing
  until the end.
- Whatever ends it early, what was received is its ``turn`` and the error's ``partial``.
- An error is completed once, where it leaves: partial turn, attempts, request id.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from ._attempt import OpenAttempt
from ._decode.aggregate import Collector
from ._event_source import EventSourceBody, checked_heartbeat
from ._sender import Call, Sender
from .errors import Attempt, ChatStreamError, StreamError
from .types.events import Heartbeat, OutputTextDelta, ResponseEvent
from .types.turn import Timing, Turn

Take = Callable[[Collector, Iterable[ResponseEvent]], Iterator[ResponseEvent]]


class CallReader:
    """Reads the answer to one call from as many attempts as that needs, and ends it once."""

    def __init__(self, attempt: OpenAttempt, call: Call, sender: Sender) -> None:
        self.attempt: OpenAttempt = attempt
        self.call = call
        self.sender = sender
        self.ended: bool = False
        self.first_event: float | None = None  # seconds from the call until the caller got an event
        self.total: float | None = None
        self._restarts = 0
        self._closing = threading.Lock()  # acquired once: two threads may end one stream
        self._opened_at = _caller()

    @property
    def timing(self) -> Timing:
        return Timing(self.attempt.headers_after, self.first_event, self.total)

    @property
    def turn(self) -> Turn:
        return self.attempt.turn(self.timing)

    def run(self, take: Take) -> Iterator[ResponseEvent]:
        """The events that ``take`` hands over. Closes however it ends."""
        try:
            while not self.ended:
                events = take(self.attempt.collector, self.attempt.events)
                try:
                    for event in events:
                        if event.__class__ is Heartbeat:
                            yield event
                        else:
                            self.first_event = self.first_event or self.call.scope.elapsed
                            yield event
                            yield from events
                    return
                except ChatStreamError as error:
                    self.call.redact(error)
                    self._restart(error)
        except ChatStreamError as error:
            if not self.ended:
                error.partial = self.turn
                self.call.annotate(error)
                raise
        finally:
            self.close()

    def _restart(self, error: ChatStreamError) -> None:
        """Replace a broken attempt, after the wait that `Sender` decides on; raises if there is to be none."""
        if self.ended:
            return
        if self.first_event is not None or not isinstance(error, StreamError):
            raise error
        self.attempt.reply.close()
        self._restarts += 1
        self.sender.wait_to_retry(self.call, error, self._restarts, self.sender.provider.stream_max_retries)
        self.attempt = self.attempt.again(self.sender.send(self.call))
        if self.ended:  # closed by another thread meanwhile, which knew only the attempt before
            self.attempt.reply.close()

    def close(self) -> None:
        """Give the connection back after a complete answer, and up otherwise. May be called twice."""
        if not self.ended and self._closing.acquire(blocking=False):
            self.ended = True
            self.total = self.call.scope.elapsed
            if self.attempt.collector.completed is not None:
                self.attempt.reply.drain()
            else:
                self.call.scope.cancel()  # wakes another thread that reads; the connection is given up anyway
            self.attempt.reply.close()

    def __del__(self) -> None:  # here and not on the stream, which a loop over its events does not keep alive
        if not self.ended:
            message = f"a stream opened at {self._opened_at} was neither read to its end nor closed"
            self.close()
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


class ResponseStream:
    """One answer, event by event: an iterator and a context manager. Made by `Client.stream`.

    Breaking out of a loop over it closes its connection; a complete answer gives it back for the next call.
    """

    def __init__(self, reader: CallReader) -> None:
        self._reader = reader
        self._iterator: Iterator[ResponseEvent] | None = None

    def __iter__(self) -> Iterator[ResponseEvent]:
        """The events, as they arrive. Raises `StreamError` and its kinds, `DeadlineExceeded`, `Cancelled`."""
        return self._reader.run(Collector.tee)

    def __next__(self) -> ResponseEvent:
        if self._iterator is None:
            self._iterator = iter(self)
        return next(self._iterator)

    def text(self) -> Iterator[str]:
        """The text of the first choice, piece by piece, and nothing else: no heartbeats, no calls."""
        for event in self:
            if event.__class__ is OutputTextDelta and not event.choice:
                yield event.delta

    def aggregate(self) -> Iterator[ResponseEvent]:
        """Whole items and ``Completed`` at the end; a stream that breaks before is restarted without a trace."""
        return self._reader.run(Collector.whole_items)

    def collect(self) -> Turn:
        """The whole turn; reads and restarts as `aggregate` does."""
        for _ in self.aggregate():
            pass
        return self.turn

    def sse(self, heartbeat: float = 15.0) -> EventSourceBody:
        """The text of the first choice as server-sent events, for a browser: bytes, with the ``close`` that WSGI calls.

        A piece of text is the event ``{"text": "…"}``, the end ``[DONE]``, a `ChatStreamError` an event named
        ``error`` with ``type`` and ``message``. All else is a comment, as is every ``heartbeat`` (seconds; the HTML
        standard suggests 15) without an event. The stream ends when this is closed or dropped.
        """
        self._reader.attempt.heartbeat = checked_heartbeat(heartbeat)
        return EventSourceBody(iter(self), self._reader.close)

    def cancel(self) -> None:
        """End the stream from any thread: whoever reads it, or waits for it, gets `Cancelled` at once."""
        self._reader.call.scope.cancel()

    def close(self) -> None:
        """Give up what has not been read. May be called twice; a loop that goes on afterwards ends without an error."""
        self._reader.close()

    def __enter__(self) -> ResponseStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def turn(self) -> Turn:
        """What has been received; all of it once the stream has completed."""
        return self._reader.turn

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self._reader.attempt.reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's HTTP headers; names in any case."""
        return self._reader.attempt.reply.headers

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, to be quoted when asking its operators."""
        return self._reader.attempt.reply.request_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every request made for this call."""
        return tuple(self._reader.call.attempts)

    @property
    def timing(self) -> Timing:
        """Seconds from the call to the headers, the first event and the end."""
        return self._reader.timing

    @property
    def raw(self) -> dict[str, Any] | None:
        """The server's own JSON behind the newest event, with all that has no place in an event."""
        return self._reader.attempt.parser.raw

    @property
    def skipped(self) -> int:
        """How many undecodable events were left out (``skip_undecodable``)."""
        return self._reader.attempt.parser.skipped

    def __repr__(self) -> str:
        state = "ended" if self._reader.ended else "open"
        provider = self._reader.sender.provider.name
        return f"<ResponseStream {state} provider={provider!r} request_id={self.request_id!r}>"


def _caller() -> str:
    """Where the library was called from, as ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "chatstream":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
