"""One answer being read: bytes → events under timers; the only loop where waiting meets parsing.

    Reply ─read▶ bytes ─EventParser.feed▶ events

Rules:
- Nothing is read before it is asked for, and an event is handed over before anything else is done.
- The timers follow the parser: each payload begins the idle time anew, the last finish reason begins the grace time,
  and so does each event after it.
- Between two events of one read the deadline and a cancellation are looked at, too: many may be waiting.
- Only an event puts off a heartbeat: comments, and bytes that are no whole event yet, do not.
- After the last finish reason nothing can fail but by an error that the server reports, or a cancellation.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._decode.aggregate import Collector
from ._decode.parser import EventParser
from ._http.cancel_scope import CancelScope
from ._http.reply import Reply
from .errors import ChatStreamError, DeadlineExceeded, IdleTimeout, StreamError
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
        self.heartbeat = heartbeat  # seconds without an event until there is a `Heartbeat`
        self.headers_after: float = scope.elapsed  # seconds since the call began
        self._scope = scope
        self._provider = provider
        self._choices = choices
        self._limits = limits

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

    def turn(self, timing: Timing) -> Turn:
        """The turn as received."""
        return self.collector.turn(self.parser.snapshot(), timing)

    def read(self) -> Iterator[ResponseEvent]:
        """The events of the answer, as they arrive."""
        parser, scope, provider = self.parser, self._scope, self._provider
        seen, brought = 0, True
        beat_at: float | None = None
        scope.exclude(scope.elapsed - self.headers_after)  # the caller's own time before it began to read
        try:
            while not parser.done:
                if parser.finished:
                    if brought:
                        brought = False
                        scope.set_timeout(provider.finish_grace, IdleTimeout)
                elif seen != (signs := parser.payloads + (parser.comments if provider.keepalive_resets_idle else 0)):
                    seen = signs
                    scope.set_timeout(provider.stream_idle_timeout, IdleTimeout)
                if beat_at is None and self.heartbeat is not None:
                    beat_at = scope.elapsed + self.heartbeat
                piece = self._read(beat_at)
                if piece is None:
                    beat_at = None
                    yield from self._beat()
                elif piece:
                    reports = parser.reports
                    for event in parser.feed(piece):
                        yield event
                        brought, beat_at = True, None
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

    def _beat(self) -> Iterator[ResponseEvent]:
        """A heartbeat; the time that the caller spends on it does not count."""
        before = self._scope.elapsed
        yield Heartbeat()
        self._scope.exclude(self._scope.elapsed - before)

    def _check_interruption(self) -> None:
        """Raise after a cancellation, and after the deadline unless nothing is missing but the end."""
        error = self._scope.error
        if error is not None and not (self.parser.finished and isinstance(error, DeadlineExceeded)):
            raise error

    def _arrives_before(self, moment: float) -> bool:
        left = moment - self._scope.elapsed
        return left > 0 and self.reply.wait(left)

    def _read(self, beat_at: float | None) -> bytes | None:
        """The next bytes, none at the end; None if the time of a heartbeat comes first."""
        try:
            if beat_at is not None and not self._arrives_before(beat_at):
                return None
            return self.reply.read()
        except (StreamError, DeadlineExceeded):
            if self.parser.finished:  # nothing is missing but the end
                return b""
            raise
