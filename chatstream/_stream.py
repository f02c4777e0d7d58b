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
from ._runtime.locks import ForkSafeLock
from .errors import Attempt, ConfigError
from .types.events import Heartbeat, OutputTextDelta, ResponseEvent
from .types.turn import Timing, Turn

T = TypeVar("T")


class ResponseStream:
    """One answer, event by event: an iterator and a context manager, returned by `Client.stream`.

    Leaving a loop over it early closes the connection. After a complete answer, the connection is kept for reuse.
    """

    def __init__(self, reader: CallReader) -> None:
        self._reader = reader
        self._iterator: Iterator[ResponseEvent] | None = None
        self._lock = ForkSafeLock()

    def __iter__(self) -> Iterator[ResponseEvent]:
        """The events, as they arrive. Raises `StreamError` or a subclass of it, `DeadlineExceeded`, `Cancelled`, and
        `ConfigError` while a loop of another thread reads the stream."""
        return self._reader.run(Collector.tee)

    def __next__(self) -> ResponseEvent:
        try:
            return next((None if self._reader.ended else self._iterator) or _begin_iterator(self))
        except (ConfigError, StopIteration) as error:
            self._iterator = None  # it has ended; the stream may have not
            if self._reader.ended or isinstance(error, ConfigError):
                raise
            raise read_elsewhere() from None  # which another thread got from the same iterator
        except ValueError as error:
            if str(error) != COLLISION:
                raise
            raise read_elsewhere() from None

    def text(self, *, heartbeat: float | None = None) -> Generator[str, None, None]:
        """Yield the text of the first choice piece by piece, and nothing else.

        With ``heartbeat``, yield an empty str after that many seconds without text, even if other events arrive.
        Closing the iterator, or dropping it, closes the stream, even if nothing was read from it.
        """
        if heartbeat is not None:
            self._reader.attempt.heartbeat = checked_seconds("heartbeat", heartbeat)
        return _started(self._text(heartbeat))

    def aggregate(self) -> Generator[ResponseEvent, None, None]:
        """Yield the complete items, and ``Completed`` at the end. Until then, a stream that breaks off is restarted.

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
        """Read the stream to its end, and return the turn. A stream that breaks off is restarted, as by `aggregate`."""
        for _ in self.aggregate():
            pass
        self._reader.check_complete()  # another thread may have closed it
        return self.turn

    def sse(self, heartbeat: float = 15.0) -> EventSourceBody:
        """The text of the first choice as server-sent events, for a browser: bytes, with the ``close`` that WSGI calls.

        A piece of text becomes the event ``{"text": "…"}``, and the end becomes ``[DONE]``. A `ChatStreamError` becomes
        an event named ``error`` with ``type`` and ``message``. Other events become comments; another comment follows
        ``heartbeat`` seconds without an event (the HTML standard suggests 15). Closing or dropping it ends the stream.
        """
        self._reader.attempt.heartbeat = checked_seconds("heartbeat", heartbeat)
        return EventSourceBody(iter(self), self._reader.close)

    def show(self) -> Turn:
        """Show the answer as it arrives, and return it: in a notebook as Markdown, elsewhere as text. An interrupt in a
        notebook or at a Python prompt returns the part received; in a script it raises `KeyboardInterrupt`."""
        with imports():
            from ._show import INTERVAL, show

        self._reader.attempt.heartbeat = INTERVAL
        return show(self)

    def cancel(self) -> None:
        """End the stream from any thread. A thread that reads it, or waits for it, raises `Cancelled` at once."""
        self._reader.call.scope.cancel()

    def close(self) -> None:
        """Close the stream and its connection. May be called twice; a loop in another thread ends without an error."""
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
        """The name of the provider that sent the answer."""
        return self._reader.sender.provider.name

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self._reader.attempt.reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers of the answer; upper and lower case in names are the same."""
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
        """The timing of the call so far."""
        return self._reader.timing

    @property
    def raw(self) -> dict[str, Any] | None:
        """The server's JSON object from which the latest event was made, complete."""
        return self._reader.attempt.parser.raw

    @property
    def skipped(self) -> int:
        """The number of events that were skipped because they can't be decoded (``skip_undecodable``)."""
        return self._reader.attempt.parser.skipped

    def __repr__(self) -> str:
        try:
            state = "ended, see .turn" if self._reader.ended else "open, loop over it, or call text() or collect()"
            return f"<ResponseStream {state}; provider={self.provider!r} request_id={self.request_id!r}>"
        except AttributeError:  # `__init__` raised
            return object.__repr__(self)


_ANSWER = "loop over stream.text(), or use stream.collect().text"
explain_missing(
    ResponseStream,
    {
        **dict.fromkeys(("choices", "content", "output_text", "text_stream"), _ANSWER),
        **dict.fromkeys(("get_final_completion", "get_final_message", "get_final_response"), "use stream.collect()"),
        "finish_reason": "use stream.turn.finish_reason",
        "status_code": "use stream.status",
        "usage": "use stream.turn.token_usage",
    },
)


def _begin_iterator(stream: ResponseStream) -> Iterator[ResponseEvent]:
    """The iterator behind `next`, one for all threads: to drop a second one would close the stream. After the end there
    is a new one each time, which says why."""
    with stream._lock.current:
        if stream._iterator is None or stream._reader.ended:
            stream._iterator = stream._reader.run(Collector.tee, loop=False)
        return stream._iterator


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
