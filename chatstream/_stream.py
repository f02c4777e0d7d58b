"""The stream that a caller holds.

    CallReader ─events▶ ResponseStream ─▶ the caller's loop, Turn

Rules:
- Closing or dropping an iterator over the stream closes the stream. Calling `iter` and dropping the result unread
  does not, because that is how code finds out whether something can be iterated over.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ._calls.reader import COLLISION, CallReader, read_elsewhere
from ._decode.aggregate import Collector
from ._event_source import EventSourceBody
from ._http.cancel_scope import checked_seconds
from ._missing import explain_missing
from ._runtime.clock import monotonic
from ._runtime.imports import imports
from .errors import Attempt, ConfigError
from .types.events import Heartbeat, OutputTextDelta, ResponseEvent
from .types.turn import Timing, Turn

T = TypeVar("T")


class ResponseStream:
    """One answer, event by event: an iterator and a context manager. Made by `Client.stream`.

    Breaking out of a loop over it closes its connection; a complete answer gives it back for the next call.
    """

    def __init__(self, reader: CallReader) -> None:
        self._reader = reader
        self._iterator: Iterator[ResponseEvent] | None = None

    def __iter__(self) -> Iterator[ResponseEvent]:
        """The events, as they arrive. Raises `StreamError` and its kinds, `DeadlineExceeded`, `Cancelled`, and
        `ConfigError` while a loop of another thread reads the stream."""
        return self._reader.run(Collector.tee)

    def __next__(self) -> ResponseEvent:
        if self._reader.ended:
            self._iterator = None  # another one says why
        events = self._iterator = self._iterator or self._reader.run(Collector.tee, loop=False)
        try:
            return next(events)
        except ConfigError:
            self._iterator = None  # it has ended; the stream may have not
            raise
        except ValueError as error:
            if str(error) != COLLISION:
                raise
            raise read_elsewhere() from None

    def text(self, *, heartbeat: float | None = None) -> Generator[str, None, None]:
        """The text of the first choice, piece by piece, and nothing else: no heartbeats, no calls.

        With ``heartbeat`` there is an empty piece whenever that many seconds pass without text, whatever else arrives.
        Closing the iterator, or dropping it, closes the stream, even if nothing was read from it.
        """
        if heartbeat is not None:
            self._reader.attempt.heartbeat = checked_seconds("heartbeat", heartbeat)
        return _started(self._text(heartbeat))

    def aggregate(self) -> Generator[ResponseEvent, None, None]:
        """Complete items, and ``Completed`` at the end; a stream that breaks before is restarted unnoticed.

        Closing the iterator, or dropping it, closes the stream, even if nothing was read from it.
        """
        return _started(self._aggregate())

    def _text(self, heartbeat: float | None) -> Generator[str, None, None]:
        yield from _unread(self._reader)
        if heartbeat is not None:
            yield from _text_or_nothing(self, heartbeat)
        else:
            for event in self:
                if event.__class__ is OutputTextDelta and not event.choice:
                    yield event.delta

    def _aggregate(self) -> Generator[ResponseEvent, None, None]:
        yield from _unread(self._reader)
        yield from self._reader.run(self._reader.whole_items)

    def collect(self) -> Turn:
        """The complete turn; reads and restarts as `aggregate` does."""
        for _ in self.aggregate():
            pass
        self._reader.check_complete()  # another thread may have closed it
        return self.turn

    def sse(self, heartbeat: float = 15.0) -> EventSourceBody:
        """The text of the first choice as server-sent events, for a browser: bytes, with the ``close`` that WSGI calls.

        A piece of text is the event ``{"text": "…"}``, the end ``[DONE]``, a `ChatStreamError` an event named
        ``error`` with ``type`` and ``message``. Anything else is a comment, and so is every ``heartbeat`` (seconds;
        the HTML standard suggests 15) without an event. The stream ends when this is closed or dropped.
        """
        self._reader.attempt.heartbeat = checked_seconds("heartbeat", heartbeat)
        return EventSourceBody(iter(self), self._reader.close)

    def show(self) -> Turn:
        """Show the answer as it arrives, and return it: in a notebook as Markdown, elsewhere printed as text. An
        interrupt ends it and keeps what was received; a script is interrupted as usual."""
        with imports():
            from ._show import INTERVAL, show

        self._reader.attempt.heartbeat = INTERVAL
        return show(self)

    def cancel(self) -> None:
        """End the stream from any thread: a thread that reads it, or waits for it, gets `Cancelled` at once."""
        self._reader.call.scope.cancel()

    def close(self) -> None:
        """Give up what has not been read. May be called twice; a loop that is still running ends without an error."""
        self._reader.close()

    def __enter__(self) -> ResponseStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def turn(self) -> Turn:
        """What has been received; all of it once the stream has completed."""
        return self._reader.turn

    @property
    def provider(self) -> str:
        """The name of the provider whose answer is read."""
        return self._reader.sender.provider.name

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
        """The server's id of this request; quote it when you contact the provider."""
        return self._reader.attempt.reply.request_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every request made for this call."""
        return self._reader.call.all_attempts

    @property
    def timing(self) -> Timing:
        """Seconds from the call to the headers, the first event and the end."""
        return self._reader.timing

    @property
    def raw(self) -> dict[str, Any] | None:
        """The server's JSON from which the latest event was made, including what the event leaves out."""
        return self._reader.attempt.parser.raw

    @property
    def skipped(self) -> int:
        """How many undecodable events were left out (``skip_undecodable``)."""
        return self._reader.attempt.parser.skipped

    def __repr__(self) -> str:
        try:
            state = "ended, see .turn" if self._reader.ended else "open, loop over it, or call text() or collect()"
            return f"<ResponseStream {state}; provider={self.provider!r} request_id={self.request_id!r}>"
        except AttributeError:  # `__init__` raised
            return object.__repr__(self)


_ANSWER = "loop over stream.text() for its text, or take stream.collect().text"
explain_missing(
    ResponseStream,
    {"choices": _ANSWER, "content": _ANSWER, "output_text": _ANSWER, "usage": "it is stream.turn.token_usage"},
)


def _started(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The generator after its first item: only one that has begun notices that it is closed or dropped."""
    next(items)
    return items


def _unread(reader: CallReader) -> Generator[Any, None, None]:
    """The item that `_started` takes. An iterator that is closed or dropped there would leave the stream open."""
    try:
        yield None
    except BaseException:
        reader.close()
        raise


def _text_or_nothing(events: Iterable[ResponseEvent], seconds: float) -> Iterator[str]:
    """The text of the first choice, and an empty piece whenever ``seconds`` pass without text."""
    waiting_since = monotonic()
    for event in events:
        if event.__class__ is OutputTextDelta and not event.choice:
            yield event.delta
        elif event.__class__ is Heartbeat or monotonic() - waiting_since >= seconds:  # or reasoning, for example
            yield ""
        else:
            continue
        waiting_since = monotonic()
