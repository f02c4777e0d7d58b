"""One call being read: the events of its attempts, one after the other, until one of them ends it.

    OpenAttempt ─events▶ CallReader ─▶ ResponseStream

Rules:
- A stream that breaks is restarted only while the caller has got nothing; `aggregate` and `collect` hand over nothing
  until the end.
- If there is a fallback provider, it is tried after the last restart, on the same condition.
- Whatever ends it early, what was received is its ``turn`` and the error's ``partial``.
- An error is completed once, where it leaves: partial turn, attempts, request id.
- What is read after the end raises the error that ended it, or `StreamClosed`; after a complete answer, nothing comes.
- One loop reads a stream at a time. A second one gets an error, and the first goes on.
- A process that inherited the stream closes its own descriptor, and leaves the connection to the one that opened it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator

from .._decode.aggregate import Collector
from .._http.cancel_scope import INHERITED
from .._runtime.frames import calling_line
from .._runtime.locks import ForkSafeLock
from ..errors import ChatStreamError, ConfigError, StreamClosed, StreamError
from ..types.events import Completed, Heartbeat, ResponseEvent
from ..types.turn import Timing, Turn
from .attempt import OpenAttempt
from .call import Call
from .sender import Sender

COLLISION = "generator already executing"  # the message of CPython and PyPy for a generator that two threads advance
CLOSED = "the stream was closed, or its loop was left, before the answer was complete: make a new call to read more"
AskNext = Callable[["CallReader", ChatStreamError], None]
Take = Callable[[Collector, Iterable[ResponseEvent]], Iterator[ResponseEvent]]


class CallReader:
    """Reads the answer to one call from as many attempts as that needs, and ends it once."""

    ended: bool = True  # there is nothing to close before `__init__` is done

    def __init__(self, attempt: OpenAttempt, call: Call, sender: Sender) -> None:
        self.attempt: OpenAttempt = attempt
        self.events: Iterator[ResponseEvent] = attempt.read()  # one for all loops: none takes another's events
        self.call: Call = call
        self.sender: Sender = sender
        self.total: float | None = None  # seconds from the call until the end
        self._has_handed_over = False  # an event, so that no restart is possible any more
        self._has_items_left = False  # `whole_items` has not handed over all that it has
        self._error: ChatStreamError | None = None  # which ended the stream
        self._restarts = 0
        self.ask_next: AskNext | None = None  # makes the reader adopt the answer of another provider, or raises
        self._closing = threading.Lock()  # acquired once: two threads may end one stream
        self._looping: threading.Thread | None = None  # which runs the loop that reads
        self._beginning = ForkSafeLock()
        self._opened_at = calling_line()
        self.ended = False

    @property
    def timing(self) -> Timing:
        return self.attempt.timing(self.total, len(self.call.all_attempts) - 1)

    @property
    def turn(self) -> Turn:
        return self.attempt.turn(self.total, len(self.call.all_attempts) - 1)

    def run(self, take: Take, loop: bool = True) -> Iterator[ResponseEvent]:
        """The events that ``take`` hands over. Closes however it ends, unless another thread reads the stream.

        Without ``loop``, a loop of another thread may follow. Of a stream that has ended there are none; raises why,
        unless it was complete.
        """
        self.check_complete()
        owned = False
        try:
            _begin(self, loop)
            owned = True
            while not self.ended:
                events = take(self.attempt.collector, self.events)
                try:
                    for event in events:
                        if event.__class__ is Heartbeat:
                            yield event
                        else:
                            self._has_handed_over = True
                            yield event
                            yield from events
                    return
                except ChatStreamError as error:
                    self.call.redact(error)
                    self._restart(error)
                except ValueError as error:
                    if str(error) != COLLISION:
                        raise
                    owned, self._looping = False, None if loop else self._looping  # the mark of another loop stays
                    raise read_elsewhere() from None
        except BaseException as error:
            if not (self.ended and isinstance(error, ChatStreamError)):
                self._fail(error, owned)
                raise
        finally:
            if owned:
                self._looping = None
                self.close()

    def _fail(self, error: BaseException, owned: bool) -> None:
        """Complete an error, and end the stream with it if the loop that got it ``owned`` the stream."""
        if isinstance(error, ChatStreamError):
            error.partial = self.turn
            self.call.annotate(error)
            self._error = error if owned else self._error
        if owned:
            self.close(None if isinstance(error, GeneratorExit) else error)

    def whole_items(self, collector: Collector, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """Hand over whole items, until the stream is ended."""
        for event in collector.whole_items(events):
            if self.ended:
                return
            self.call.scope.check_cancelled()
            self._has_items_left = event.__class__ is not Completed
            yield event

    def check_complete(self) -> None:
        """Raise what ended the stream, if it ended before its answer was handed over: its error, or `StreamClosed`."""
        if not self.ended:
            return
        if self._error is not None:
            raise self._error.with_traceback(None)  # which would grow with each reading
        if self.attempt.collector.completed is None or self._has_items_left:
            raise _closed_error(self)

    def _restart(self, error: ChatStreamError) -> None:
        """Replace a broken attempt, after the wait that `Sender` decides on; raises if there is to be none."""
        if self.ended:
            return
        if self._has_handed_over or not isinstance(error, StreamError):
            raise error
        broken, call = self.attempt, self.call
        broken.reply.close()
        call.scope.waits.resume()
        try:
            limit = self.sender.provider.stream_max_retries
            self._restarts = self.sender.backoff.wait_to_retry(call, error, self._restarts, limit)
            self.attempt = broken.again(self.sender.send(call))
            self.events = self.attempt.read()
        except ChatStreamError as last:
            if self.ask_next is None:
                raise
            self.ask_next(self, last)
        _end_broken(self, broken, call)

    def adopt(self, other: CallReader) -> None:
        """Go on with the answer of another call, and end that call in the place of ``other``."""
        other.ended = True
        self.attempt, self.events = other.attempt, other.events  # before the call, to which `close` adds their tokens
        self.call, self.sender, self._restarts = other.call, other.sender, 0

    def close(self, error: BaseException | None = None) -> None:
        """Give the connection back after a complete answer, and up otherwise. ``error`` is what ended the stream."""
        self.total = self.total or self.call.scope.elapsed  # each thread that ends the stream may read it at once
        if self.call.scope.inherited:
            self.ended = True
            self.call.scope.socket.close_inherited()
        elif not self.ended and self._closing.acquire(blocking=False):
            self.ended = True
            _count(self.call, self.attempt)
            try:
                if self.attempt.collector.completed is not None:
                    self.attempt.reply.drain()
                else:
                    self.call.end_recording(error)  # before a thread wakes whose next call may use the same one
            finally:
                if self.attempt.collector.completed is None:
                    self.call.scope.cancel()  # wakes another thread that reads; the connection is given up anyway
                self.attempt.reply.close()
            self.call.end(lambda: self.turn, error)

    def __del__(self) -> None:  # here and not on the stream, which a loop over its events does not keep alive
        if not self.ended:
            message = f"a stream opened at {self._opened_at} was neither read to its end nor closed"
            self.close()
            if not self.call.scope.inherited:
                warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


def _begin(reader: CallReader, loop: bool) -> None:
    """Raise `ConfigError` if the stream is another process's, or if a loop of another thread reads it."""
    with reader._beginning.current:
        if not reader.ended:
            _check_free(reader.call, reader._looping)
        if loop:
            reader._looping = threading.current_thread()


def _check_free(call: Call, looping: threading.Thread | None) -> None:
    if call.scope.inherited:
        raise ConfigError(INHERITED)
    if looping is not None and looping is not threading.current_thread() and looping.is_alive():
        raise read_elsewhere()


def _closed_error(reader: CallReader) -> StreamClosed:
    error = StreamClosed(CLOSED)
    error.partial = reader.turn
    reader.call.annotate(error)
    return error


def _end_broken(reader: CallReader, broken: OpenAttempt, call: Call) -> None:
    """Count what a broken attempt of ``call`` took, once ``reader`` has another one."""
    _count(call, broken)
    if reader.ended:  # closed by another thread meanwhile, which may have known only the broken one
        reader.attempt.reply.close()
        reader.call.end(lambda: reader.turn, None)


def _count(call: Call, attempt: OpenAttempt) -> None:
    """Add up what an attempt took, once, whichever thread ends it."""
    if attempt.counted.acquire(blocking=False):
        call.add_tokens(attempt.tokens)


def read_elsewhere() -> ConfigError:
    return ConfigError(
        "another loop is already reading this stream: read it in one loop only, and share the events, for example "
        "through a queue; cancel(), close() and turn may be used from any thread"
    )
