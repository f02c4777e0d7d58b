"""The stream that a caller holds: hands over the events of an attempt, and replaces one that breaks.

    OpenAttempt ─events▶ Collector ─▶ the caller's loop, Turn

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
from ._sender import Call, Sender
from .errors import Attempt, ChatStreamError, StreamError
from .types.events import Heartbeat, OutputTextDelta, ResponseEvent
from .types.turn import Timing, Turn

Take = Callable[[Collector, Iterable[ResponseEvent]], Iterator[ResponseEvent]]


class ResponseStream:
    """One answer, event by event: an iterator and a context manager. Made by `Client.stream`.

    Breaking out of a loop over it closes its connection; a complete answer gives it back for the next call.
    """

    def __init__(self, attempt: OpenAttempt, call: Call, sender: Sender) -> None:
        self._attempt = attempt
        self._call = call
        self._sender = sender
        self._ended = False
        self._closing = threading.Lock()  # acquired once: two threads may end one stream
        self._iterator: Iterator[ResponseEvent] | None = None
        self._restarts = 0
        self._first_event: float | None = None
        self._total: float | None = None
        self._opened_at = _caller()

    # ── reading ──

    def __iter__(self) -> Iterator[ResponseEvent]:
        """The events, as they arrive. Raises `StreamError` and its kinds, `DeadlineExceeded`, `Cancelled`."""
        return self._run(Collector.tee)

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
        return self._run(Collector.whole_items)

    def collect(self) -> Turn:
        """The whole turn; reads and restarts as `aggregate` does."""
        for _ in self.aggregate():
            pass
        return self.turn

    # ── ending ──

    def cancel(self) -> None:
        """End the stream from any thread: whoever reads it, or waits for it, gets `Cancelled` at once."""
        self._call.scope.cancel()

    def close(self) -> None:
        """Give up what has not been read. May be called twice; a loop that goes on afterwards ends without an error."""
        if not self._ended and self._closing.acquire(blocking=False):
            self._ended = True
            self._total = self._call.scope.elapsed
            if self._attempt.collector.completed is not None:
                self._attempt.reply.drain()
            else:
                self.cancel()  # wakes another thread that reads; the connection is given up anyway
            self._attempt.reply.close()

    def __enter__(self) -> ResponseStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._ended:
            message = f"a stream opened at {self._opened_at} was neither read to its end nor closed"
            self.close()
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    # ── what is known of it ──

    @property
    def turn(self) -> Turn:
        """What has been received; all of it once the stream has completed."""
        return self._attempt.turn(self.timing)

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self._attempt.reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's HTTP headers; names in any case."""
        return self._attempt.reply.headers

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, to be quoted when asking its operators."""
        return self._attempt.reply.request_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every request made for this call."""
        return tuple(self._call.attempts)

    @property
    def timing(self) -> Timing:
        """Seconds from the call to the headers, the first event and the end."""
        return Timing(self._attempt.headers_after, self._first_event, self._total)

    @property
    def raw(self) -> dict[str, Any] | None:
        """The server's own JSON behind the newest event, with all that has no place in an event."""
        return self._attempt.parser.raw

    @property
    def skipped(self) -> int:
        """How many undecodable events were left out (``skip_undecodable``)."""
        return self._attempt.parser.skipped

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<ResponseStream {state} provider={self._sender.provider.name!r} request_id={self.request_id!r}>"

    # ── the loop ──

    def _run(self, take: Take) -> Iterator[ResponseEvent]:
        """The events that ``take`` hands over, from as many attempts as that needs. Closes however it ends."""
        try:
            while not self._ended:
                events = take(self._attempt.collector, self._attempt.events)
                try:
                    for event in events:
                        if event.__class__ is Heartbeat:
                            yield event
                        else:
                            self._first_event = self._first_event or self._call.scope.elapsed
                            yield event
                            yield from events
                    return
                except ChatStreamError as error:
                    self._call.redact(error)
                    self._restart(error)
        except ChatStreamError as error:
            if not self._ended:
                error.partial = self.turn
                self._call.annotate(error)
                raise
        finally:
            self.close()

    def _restart(self, error: ChatStreamError) -> None:
        """Replace a broken attempt, after the wait that `Sender` decides on; raises if there is to be none."""
        if self._ended:
            return
        if self._first_event is not None or not isinstance(error, StreamError):
            raise error
        self._attempt.reply.close()
        self._restarts += 1
        self._sender.wait_to_retry(self._call, error, self._restarts, self._sender.provider.stream_max_retries)
        self._attempt = self._attempt.again(self._sender.send(self._call))
        if self._ended:  # closed by another thread meanwhile, which knew only the attempt before
            self._attempt.reply.close()


def _caller() -> str:
    """Where the library was called from, as ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "chatstream":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
