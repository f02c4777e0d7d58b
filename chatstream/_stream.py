"""The stream a caller holds: joins transport, SSE, chunks, machine and collector into one loop.

    Reply ─read▶ bytes ─SSEReader▶ payload ─ChunkReader▶ Chunk ─Machine▶ event ─Collector▶ the caller, Turn

Rules:
- Nothing is read before it is asked for, and an event is handed over before anything else is done.
- A stream that breaks is begun again only while the caller has been handed nothing; `aggregate` and `collect`
  hand over nothing until the end.
- Whatever ends it early, what was received so far is its ``turn`` and the error's ``partial``.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._decode.aggregate import Collector
from ._decode.chunk import Chunk
from ._decode.chunks import ChunkReader
from ._decode.machine import Machine
from ._decode.sse import SSEReader
from .errors import Attempt, ChatStreamError, DeadlineExceeded, IdleTimeout, StreamError
from .types.events import Heartbeat, OutputTextDelta, ResponseEvent
from .types.limits import Limits
from .types.turn import Timing, Turn

if TYPE_CHECKING:  # they bring requests along, which whoever reads bytes of their own does without
    from ._http.transport import Reply
    from ._sender import Call, Sender

Take = Callable[[Collector, Iterable[ResponseEvent]], Iterator[ResponseEvent]]


class ResponseStream:
    """One answer, event by event: an iterator and a context manager. Made by `Client.stream`.

    Breaking out of a loop over it closes its connection; a whole answer gives it back for the next call.
    """

    def __init__(self, sender: Sender, call: Call, choices: int, limits: Limits, heartbeat: float | None) -> None:
        self._ended = True  # nothing to close yet
        self._closing = threading.Lock()  # taken once: two threads may end one stream
        self._sender = sender
        self._call = call
        self._choices = choices
        self._limits = limits
        self._heartbeat = heartbeat
        self._events: Iterator[ResponseEvent] | None = None
        self._restarts = 0
        self._first_event: float | None = None
        self._total: float | None = None
        self._opened_at = _caller()
        self._begin()
        self._ended = False

    def _begin(self) -> None:
        """Send the request, and make the parts that read its answer."""
        self._reply = self._sender.send(self._call)
        self._headers_after = self._call.watch.elapsed
        provider = self._sender.provider
        self._machine = Machine(self._choices, provider.eof_completes)
        self._collector = Collector()
        self._sse = SSEReader(self._bytes(self._reply), self._limits)
        self._reader = ChunkReader(self._sse.payloads(), provider.skip_undecodable)
        chunks: Iterable[Chunk] = self._reader
        if provider.think_tags:
            from ._decode.think_tags import split_thinking

            chunks = split_thinking(chunks, provider.think_tags)
        self._told = self._machine.run(chunks)  # one for all who iterate: none takes another's events away

    # ── what the caller does with it ──

    def __iter__(self) -> Iterator[ResponseEvent]:
        """The events, as they come. Raises what can go wrong in a stream: `StreamError` and its kinds,
        `DeadlineExceeded`, `Cancelled`."""
        return self._run(Collector.pass_on)

    def __next__(self) -> ResponseEvent:
        if self._events is None:
            self._events = iter(self)
        return next(self._events)

    def text(self) -> Iterator[str]:
        """The text of the first choice, piece by piece, and nothing else: no heartbeats, no calls."""
        for event in self:
            if event.__class__ is OutputTextDelta and not event.choice:
                yield event.delta

    def aggregate(self) -> Iterator[ResponseEvent]:
        """Whole items and ``Completed`` at the end; a stream that breaks on the way is begun again unseen."""
        return self._run(Collector.gather)

    def collect(self) -> Turn:
        """The whole turn; like `aggregate`, and returns what `turn` is then."""
        for _ in self.aggregate():
            pass
        return self.turn

    @property
    def turn(self) -> Turn:
        """What has been received so far; all of it once the stream has completed."""
        return self._collector.turn(self._machine.so_far(), self.timing)

    def cancel(self) -> None:
        """End the stream from any thread: whoever reads it, or waits for it, gets `Cancelled` at once."""
        self._call.watch.cancel()

    def close(self) -> None:
        """Give up what has not been read. May be called twice; a loop that goes on afterwards ends quietly."""
        if not self._ended and self._closing.acquire(blocking=False):
            self._ended = True
            self._total = self._call.watch.elapsed
            if self._collector.completed is not None:
                self._reply.drain()
            else:
                self.cancel()  # wakes another thread that reads: the connection is given up anyway
            self._reply.close()

    def __enter__(self) -> ResponseStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            message = f"a stream opened at {self._opened_at} was neither read to its end nor closed"
            self.close()
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<ResponseStream {state} provider={self._sender.provider.name!r} request_id={self.request_id!r}>"

    # ── what is known of it ──

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self._reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's HTTP headers; names in any case."""
        return self._reply.headers

    @property
    def request_id(self) -> str | None:
        """The server's name for this request, to be quoted when asking its operators."""
        return self._reply.request_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every request made for this call so far."""
        return tuple(self._call.attempts)

    @property
    def timing(self) -> Timing:
        """Seconds from the call to the headers, the first event and the end."""
        return Timing(self._headers_after, self._first_event, self._total)

    @property
    def raw(self) -> dict[str, Any] | None:
        """The server's own JSON behind the event handed over last, with all that has no place in an event."""
        return self._reader.raw

    @property
    def skipped(self) -> int:
        """How many undecodable events were left out (``skip_undecodable``)."""
        return self._reader.skipped

    # ── the loop ──

    def _run(self, take: Take) -> Iterator[ResponseEvent]:
        """The events that ``take`` hands over, from as many tries as that needs. Closes at its end, however it ends."""
        try:
            while not self._ended:
                try:
                    events = take(self._collector, self._told)
                    for event in events:
                        if event.__class__ is not Heartbeat:
                            self._first_event = self._first_event or self._call.watch.elapsed
                            yield event
                            break
                        yield event
                    yield from events
                    return
                except ChatStreamError as error:
                    if self._ended:
                        return
                    self._restart(error)
        finally:
            self.close()

    def _restart(self, error: ChatStreamError) -> None:
        """Begin again if nothing was handed over and the error passes; else raise it with all that is known."""
        error.partial = self.turn
        error.request_id = self.request_id
        self._call.explain(error)
        self._reply.close()
        if self._first_event is not None or not isinstance(error, StreamError):
            raise error
        self._restarts += 1
        try:
            self._sender.pause(self._call, error, self._restarts, self._sender.provider.stream_max_retries)
            self._begin()
            if self._ended:  # closed by another thread meanwhile, which knew the reply before this one
                self._reply.close()
        except ChatStreamError as later:
            if self._ended:
                return
            later.partial = error.partial
            raise

    def _bytes(self, reply: Reply) -> Iterator[bytes]:
        """The answer's bytes; an empty piece each time the caller's heartbeat is due.

        Every sign of life begins the idle time anew; the last finish reason begins the grace time, once.
        """
        # In names of its own: among hundreds of streams, each object behind an event is one more wait for memory.
        provider, watch, heartbeat = self._sender.provider, self._call.watch, self._heartbeat
        machine, reader, sse = self._machine, self._reader, self._sse
        seen, finishing = 0, False
        first = provider.first_event_timeout or provider.stream_idle_timeout  # from when it is asked for
        watch.allow(max(first - self._call.attempts[-1].seconds, 0.0), IdleTimeout)
        while True:
            if machine.finished:
                if not finishing:
                    finishing = True
                    watch.allow(provider.finish_grace, IdleTimeout)
            elif seen != (signs := reader.seen + (sse.comments if provider.keepalive_resets_idle else 0)):
                seen = signs
                watch.allow(provider.stream_idle_timeout, IdleTimeout)
            try:
                if heartbeat is not None and not reply.wait(heartbeat):
                    before = watch.elapsed
                    yield b""
                    watch.extend(watch.elapsed - before)
                elif data := reply.read():
                    yield data
                else:
                    return
            except (StreamError, DeadlineExceeded):
                if machine.finished:  # nothing is missing but the end
                    return
                raise


def _caller() -> str:
    """Where the library was called from, as ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "chatstream":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def read_events(source: Iterable[bytes], *, choices: int = 1) -> Iterator[ResponseEvent]:
    """The events of an answer that is already there: a recorded body, or any iterable of bytes.

    ``choices`` is how many were asked for (``n``). Checks and raises as a live stream does (`StreamError` and its
    kinds, ``partial`` attached); closes nothing.
    """
    machine = Machine(choices)
    collector = Collector()
    pieces = filter(None, source)  # inside, an empty piece would mean that time has passed
    try:
        yield from collector.pass_on(machine.run(ChunkReader(SSEReader(pieces).payloads())))
    except ChatStreamError as error:
        error.partial = collector.turn(machine.so_far())
        raise
