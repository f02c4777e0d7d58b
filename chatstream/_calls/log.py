"""What is logged of a call if the environment variable ``CHATSTREAM_LOG`` says so.

    RequestInfo, bytes of the answer, CallInfo ─CallLog▶ lines of the logger `chatstream`

Rules:
- ``info`` logs one line when a call ends, ``debug`` also the bodies of its requests and answers.
- The variable is read once, by the first call. Without it a call has no `CallLog`, and nothing is done for one.
- No secret of the call is in a line, no control character, and no more than the beginning of a body.
- The lines go to the handlers of the program. Where it has none, they go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from .._redaction import Secrets
from .._runtime.frames import warn
from .._secrets import masked_if_key
from ..errors import ChatStreamError
from ..types.text import printable
from .hooks import CallInfo, RequestInfo

if TYPE_CHECKING:
    from .._http.reply import Reply

VARIABLE = "CHATSTREAM_LOG"
LEVELS = {"info": logging.INFO, "debug": logging.DEBUG}
MAX_BODY = 8192  # bytes of a body that are logged
MAX_VALUE = 500  # characters of a value in the line of a call
log = logging.getLogger("chatstream")
_level: list[int | None] = []  # once the variable has been read


class StderrHandler(logging.Handler):
    """Writes to standard error, as long as the program has configured no handler of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None or _has_handlers():
            return
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _has_handlers() -> bool:
    logger: logging.Logger | None = log
    while logger is not None:
        if not all(isinstance(each, (logging.NullHandler, StderrHandler)) for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


_handler = StderrHandler()
_handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))


def switched_on() -> int | None:
    """The level that the variable asks for, None without it. The first call configures the logger."""
    if not _level:
        value = os.environ.get(VARIABLE, "").strip()
        level = LEVELS.get(value.lower())
        _level.append(level)
        if level is not None:
            log.setLevel(level)
            log.addHandler(_handler)
        elif value:
            warn(f"{VARIABLE} must be info or debug, not {value!r:.40}: calls are not logged")
    return _level[0]


class CallLog:
    """The log of one call."""

    def __init__(self, level: int) -> None:
        self._bodies = level <= logging.DEBUG
        self._secrets = Secrets()
        self._call = 0
        self._status: int | None = None  # of an answer that is not logged yet
        self._body = b""
        self._size = 0

    @staticmethod
    def of_call() -> CallLog | None:
        """A log for a new call; None if calls are not logged."""
        level = switched_on()
        return None if level is None else CallLog(level)

    def request(self, info: RequestInfo, secrets: Secrets) -> None:
        """A request is about to be sent; ``secrets`` are those in it."""
        self.flush()
        self._call, self._secrets = info.call, secrets
        if self._bodies:
            body = self._shown(info.body, len(info.body))
            log.debug("call=%d attempt=%d %s %s: %s", info.call, info.attempt, info.method, info.url, body)

    def answer(self, reply: Reply) -> None:
        """The headers of an answer have arrived."""
        if self._bodies:
            self._status, self._body, self._size = reply.status, b"", 0
            reply.record(self._record)

    def _record(self, piece: bytes) -> None:
        self._size += len(piece)
        self._body += piece[: MAX_BODY - len(self._body)]

    def flush(self) -> None:
        """Log the answer, as far as it has been read."""
        if self._status is not None:
            log.debug("call=%d answer %d: %s", self._call, self._status, self._shown(self._body, self._size))
            self._status = None

    def ended(self, info: CallInfo) -> None:
        """The call has ended."""
        self.flush()
        line = " ".join(f"{name}={_value(value)}" for name, value in _summary(info).items() if value is not None)
        log.info("%s", self._secrets.redact(line))

    def _shown(self, body: bytes, size: int) -> str:
        """The beginning of a body of ``size`` bytes, in one line."""
        cut = f"… ({size} bytes)" if size > MAX_BODY else ""
        return printable(self._secrets.redact(body[:MAX_BODY].decode("utf-8", "replace") + cut))


def _summary(info: CallInfo) -> dict[str, Any]:
    """What the line of a call says, in this order; values that are None are left out."""
    turn, usage, timing = info.turn, info.turn.token_usage, info.timing
    last = info.attempts[-1] if info.attempts else None
    return {
        "call": info.call,
        "provider": info.provider,
        "model": masked_if_key(str(info.model)),
        "status": last and last.status,
        "answer": turn.status,
        "finish_reason": ",".join(filter(None, [each.finish_reason for each in turn.choices])) or None,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "headers": timing.headers,
        "first_event": timing.first_event,
        "total": timing.total,
        "retries": max(len(info.attempts) - 1, 0),
        "request_id": last and last.request_id,
        "error": _described(info.error),
    }


def _described(error: BaseException | None) -> str | None:
    """The name of an error, and its message if that is known to hold no secret of another program."""
    if error is None:
        return None
    return f"{type(error).__name__}: {error}" if isinstance(error, ChatStreamError) else type(error).__name__


def _value(value: Any) -> str:
    """A value of a line: seconds, a number, or a text, quoted unless it is a single word."""
    if isinstance(value, float):
        return f"{value:.3f}s"
    text = str(value)
    text = text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"
    return text if re.fullmatch(r"[\w./:,@+*-]+", text) else printable(json.dumps(text, ensure_ascii=False))
