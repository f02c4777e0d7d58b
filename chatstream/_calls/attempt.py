"""One answer being read: bytes → events under timers; the only loop where waiting meets parsing.

    Reply ─read▶ bytes ─EventParser.feed▶ events

Rules:
- Nothing is read before it is asked for, and an event is handed over before anything else is done.
- The timers follow the parser: each payload begins the idle time anew, the last finish reason begins the grace time,
  and so does each event after it.
- The deadline and a cancellation are also checked between two events of one read, because many may be waiting.
- Only an event delays a heartbeat: comments, and bytes that are no whole event yet, do not.
- After the last finish reason nothing can fail but by an error that the server reports, or a cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from threading import Lock

from .._decode.aggregate import Collector
from .._decode.parser import EventParser
from .._http.cancel_scope import CancelScope
from .._http.reply import Reply
from .._runtime.clock import monotonic
from ..errors import ChatStreamError, DeadlineExceeded, IdleTimeout, StreamError, idle_timeout
from ..providers.provider import Provider
from ..types.events import Completed, Heartbeat, OutputTextDelta, ResponseEvent
from ..types.limits import Limits
from ..types.turn import Timing, Turn
from ..types.usage import TokenUsage
from .timing import MOST_READS, Arrivals


class OpenAttempt:
    """An attempt whose answer has begun. Its `read` is called once: the iterator holds the attempt, not the reverse, so
    that a forgotten attempt is freed at once."""

    def __init__(
        self,
        reply: Reply,
        scope: CancelScope,
        provider: Provider,
        *,
        choices: int | None,
        limits: Limits,
        heartbeat: float | None,
    ) -> None:
        self.reply = reply
        self.counted: Lock = Lock()  # acquired once, by the thread that adds its tokens to the total of the client
        self.collector: Collector = Collector()
        self.parser: EventParser = EventParser(
            choices,
            limits,
            eof_completes=provider.eof_completes,
            skip_undecodable=provider.skip_undecodable,
            think_tags=provider.think_tags,
        )
        self.arrivals: Arrivals = Arrivals(scope.started)
        self.heartbeat = heartbeat  # seconds without an event until there is a `Heartbeat`
        self._beat_at: float | None = None  # when the next one is due, in seconds since the call began
        self._scope = scope
        self._scope.waits.active = False  # the loop gets heartbeats
        self._provider = provider
        self._choices = choices
        self._limits = limits
        self._idle = partial(idle_timeout, provider.stream_idle_timeout, "stream_idle_timeout")
        self._signs = 0  # payloads, and comments if they count, when the idle time began
        self._reports = -1  # reports of token usage when the grace time began

    def again(self, reply: Reply) -> OpenAttempt:
        """An attempt that reads another answer to the same call."""
        return OpenAttempt(
            reply,
            self._scope,
            self._provider,
            choices=self._choices,
            limits=self._limits,
            heartbeat=self.heartbeat,
        )

    def timing(self, total: float | None, retries: int) -> Timing:
        """The times of this answer. ``total`` is when the stream ended, in seconds since the call began."""
        return self._timing(total, retries, self.parser.snapshot())

    @property
    def tokens(self) -> TokenUsage | None:
        """What the server has reported until now."""
        return self.parser.snapshot().token_usage

    def turn(self, total: float | None, retries: int) -> Turn:
        """The turn as received, with its `timing`."""
        end = self.parser.snapshot()
        return self.collector.turn(end, self._timing(total, retries, end), self._provider.name)

    def _timing(self, total: float | None, retries: int, end: Completed) -> Timing:
        return self.arrivals.timing(total, retries, self.reply.reused, end.token_usage)

    def read(self) -> Iterator[ResponseEvent]:
        """The events of the answer, as they arrive."""
        parser, scope, arrivals = self.parser, self._scope, self.arrivals
        brought = no_text = True
        has_deadline = scope.deadline < math.inf
        scope.exclude(monotonic() - arrivals.headers)  # the caller's own time before it began to read
        try:
            while not parser.done:
                piece = self._read(brought)
                brought = False
                if piece is None:
                    yield from self._beat()
                elif piece:
                    for event in parser.feed(piece):
                        if not brought:
                            brought, self._beat_at = True, None
                            arrivals.note()
                        if no_text and event.__class__ is OutputTextDelta:
                            no_text, arrivals.first_text = False, arrivals.read_at
                        yield event
                        if scope.cancelled or has_deadline:
                            self._check_interruption()
                else:
                    break
            for event in arrivals.noted(parser.close()):
                scope.check_cancelled()
                yield event
        except ChatStreamError:
            yield from arrivals.noted(parser.abort())
            raise

    def _beat(self) -> Iterator[ResponseEvent]:
        """A heartbeat; the time that the caller spends on it does not count."""
        before, self._beat_at = self._scope.elapsed, None
        yield Heartbeat()
        self._scope.exclude(self._scope.elapsed - before)

    def _check_interruption(self) -> None:
        """Raise after a cancellation, and after the deadline unless nothing is missing but the end."""
        error = self._scope.error if self._scope.interrupted else None
        if error is not None and not (self.parser.finished and isinstance(error, DeadlineExceeded)):
            raise error

    def _arrives_in(self, heartbeat: float) -> bool:
        """Whether bytes arrive in this time after the latest event or heartbeat."""
        now = self._scope.elapsed
        if self._beat_at is None:
            self._beat_at = now + heartbeat
        return now < self._beat_at and self.reply.wait(self._beat_at - now)

    def _renew_timer(self, began: float, brought: bool) -> None:
        """Begin the idle time anew after a sign of life, and the grace time after the end has brought something."""
        parser, provider = self.parser, self._provider
        if parser.finished:
            if brought or parser.reports != self._reports:
                self._reports = parser.reports
                self._scope.set_timeout(provider.finish_grace, IdleTimeout, began)
            return
        signs = parser.payloads + (parser.comments if provider.keepalive_resets_idle else 0)
        if signs != self._signs:
            self._signs = signs
            self._scope.set_timeout(provider.stream_idle_timeout, self._idle, began)

    def _read(self, brought: bool) -> bytes | None:
        """The next bytes, none at the end; None if the time of a heartbeat comes first. ``brought`` says whether the
        bytes before were an event."""
        arrivals, began = self.arrivals, monotonic()
        self._renew_timer(began, brought)
        try:
            if self.heartbeat is not None and not self._arrives_in(self.heartbeat):
                arrivals.waited += monotonic() - began
                return None
            piece = self.reply.read()
        except (StreamError, DeadlineExceeded):
            if self.parser.finished:  # nothing is missing but the end
                return b""
            raise
        arrivals.read_at = ended = monotonic()
        arrivals.waited += ended - began
        arrivals.bytes += len(piece)
        if piece:
            arrivals.reads.append((ended - arrivals.started, arrivals.bytes))
            if len(arrivals.reads) > MOST_READS:
                arrivals.thin()
        return piece
