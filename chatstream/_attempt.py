"""One answer being read: bytes → events under timers; the only loop where waiting meets parsing.

    Reply ─read▶ bytes ─EventParser.feed▶ events

Rules:
- Nothing is read before it is asked for, and an event is handed over before anything else is done.
- The timers follow the parser: each payload begins the idle time anew, the last finish reason begins the grace time,
  and so does each event after it.
- Between two events of one read the deadline and a cancellation are looked at, too: many may be waiting.
- After the last finish reason nothing can fail but by an error that the server reports, or a cancellation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ._decode.aggregate import Collector
from ._decode.parser import EventParser
from ._http.cancel_scope import CancelScope
from ._http.reply import Reply
from .errors import ChatStreamError, DeadlineExceeded, IdleTimeout, StreamError, idle_timeout
from .providers.provider import Provider
from .types.events import Heartbeat, ResponseEvent
from .types.limits import Limits
from .types.turn import Timing, Turn


class OpenAttempt:
    """An attempt whose answer has begun. Its `read` is called once: the iterator holds the attempt, not the reverse, so
    that a forgotten attempt is freed at once."""

    def __init__(
        self,
        reply: Reply,
        scope: CancelScope,
        provider: Provider,
        *,
        choices: int,
        limits: Limits,
        heartbeat: float | None,
    ) -> None:
        self.reply = reply
        self.collector: Collector = Collector()
        self.parser: EventParser = EventParser(
            choices,
            limits,
            eof_completes=provider.eof_completes,
            skip_undecodable=provider.skip_undecodable,
            think_tags=provider.think_tags,
        )
        self.headers_after: float = scope.elapsed  # seconds since the call began
        self._scope = scope
        self._provider = provider
        self._choices = choices
        self._limits = limits
        self._heartbeat = heartbeat

    def again(self, reply: Reply) -> OpenAttempt:
        """An attempt that reads another answer to the same call."""
        return OpenAttempt(
            reply,
            self._scope,
            self._provider,
            choices=self._choices,
            limits=self._limits,
            heartbeat=self._heartbeat,
        )

    def turn(self, timing: Timing) -> Turn:
        """The turn as received."""
        return self.collector.turn(self.parser.snapshot(), timing)

    def read(self) -> Iterator[ResponseEvent]:
        """The events of the answer, as they arrive."""
        parser, scope, provider = self.parser, self._scope, self._provider
        idle = partial(idle_timeout, provider.stream_idle_timeout, "stream_idle_timeout")
        seen, brought = 0, True
        scope.exclude(scope.elapsed - self.headers_after)  # the caller's own time before it began to read
        try:
            while not parser.done:
                if parser.finished:
                    if brought:
                        brought = False
                        scope.set_timeout(provider.finish_grace, IdleTimeout)
                elif seen != (signs := parser.payloads + (parser.comments if provider.keepalive_resets_idle else 0)):
                    seen = signs
                    scope.set_timeout(provider.stream_idle_timeout, idle)
                piece = self._read()
                if piece is None:
                    before = scope.elapsed
                    yield Heartbeat()
                    scope.exclude(scope.elapsed - before)
                elif piece:
                    reports = parser.reports
                    for event in parser.feed(piece):
                        yield event
                        brought = True
                        if scope.interrupted:
                            self._check_interruption()
                    brought = brought or parser.reports > reports
                else:
                    break
            for event in parser.close():
                scope.check_cancelled()
                yield event
        except ChatStreamError:
            yield from parser.abort()
            raise

    def _check_interruption(self) -> None:
        """Raise after a cancellation, and after the deadline unless nothing is missing but the end."""
        error = self._scope.error
        if error is not None and not (self.parser.finished and isinstance(error, DeadlineExceeded)):
            raise error

    def _read(self) -> bytes | None:
        """The next bytes, none at the end; None if nothing arrived for the time of a heartbeat."""
        try:
            if self._heartbeat is not None and not self.reply.wait(self._heartbeat):
                return None
            return self.reply.read()
        except (StreamError, DeadlineExceeded):
            if self.parser.finished:  # nothing is missing but the end
                return b""
            raise
