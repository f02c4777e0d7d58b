"""An answer whose headers have arrived → its bytes, as they come.

    requests.Response ─▶ Reply: status, headers ──read()──▶ bytes

Rules:
- ``read1`` returns what has arrived at once, in every framing and encoding, and bounds what a bomb expands to.
- A connection is given back to the pool after the end of its body, and closed otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import requests

from ..errors import ChatStreamError, DeadlineExceeded, IdleTimeout, StreamError
from . import body, exceptions
from .response import Exchange

READ_SIZE = 65536  # bytes, the most that one read returns
DRAIN_SECONDS = 0.1
REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray")


class Reply:
    """An answer whose headers have arrived; its body is read on demand."""

    __slots__ = (
        "_ended",
        "_exchange",
        "_full",
        "_on_failure",
        "_own",
        "_read1",
        "_response",
        "_scope",
        "headers",
        "request_id",
        "reused",
        "sent_headers",
        "sent_url",
        "status",
        "version",
    )

    def __init__(self, response: requests.Response, exchange: Exchange) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.request_id: str | None = next(
            (response.headers[h] for h in REQUEST_ID_HEADERS if h in response.headers), None
        )
        sent = getattr(response, "request", None)  # a mock may leave it out
        self.sent_url: str = getattr(sent, "url", None) or ""
        self.sent_headers: Mapping[str, str | bytes] = getattr(sent, "headers", None) or {}
        self.version = "1.0" if getattr(response.raw, "version", 11) == 10 else "1.1"
        self.reused: bool = exchange.reused  # the connection served another request before
        self._response = response
        self._exchange = exchange
        self._scope = exchange.scope
        self._own = body.own_response(response, exchange)
        self._read1 = body.reader(response, self._own, exchange.scope)
        self._on_failure: Callable[[BaseException], object] | None = None
        self._full = False  # the last read may have left decoded bytes in urllib3's buffer
        self._ended = False

    def read(self) -> bytes:
        """The next bytes of the decoded body, at most 64 KiB, as soon as any arrive; ``b""`` at the end.

        Raises `StreamTruncated` when the body ends before its framing does, `ProtocolViolation` when the framing is
        broken, and the error of the scope. After an error the connection is closed.
        """
        if self._ended:
            return b""
        try:
            self._scope.check()  # buffered bytes would be returned after `cancel` too
            data: bytes = self._read1(READ_SIZE)
        except BaseException as error:
            failure = exceptions.map_read_error(error, self._exchange)
        else:
            self._full = len(data) == READ_SIZE
            if not data:
                self._finish()
            return data
        self.close()
        if self._on_failure is not None:
            self._on_failure(failure)
        raise failure

    def record(
        self, receive: Callable[[bytes], object], on_failure: Callable[[BaseException], object] | None = None
    ) -> None:
        """Call ``receive`` with everything that is read from now on, and ``on_failure`` with the error that ends it."""
        read1 = self._read1
        self._on_failure = on_failure or self._on_failure

        def read_and_record(size: int) -> bytes:
            data: bytes = read1(size)
            receive(data)
            return data

        self._read1 = read_and_record

    def _finish(self) -> None:
        """Give the connection back to the pool, where another call may take it."""
        self._ended = True
        if self._own is None:
            self._exchange.release()
        getattr(self._response.raw, "release_conn", int)()

    def wait(self, seconds: float) -> bool:
        """Whether bytes, or the end, arrive within ``seconds``; to be called between two reads.

        True at once for a response that another adapter made: it may hold bytes that no socket shows.
        """
        try:
            return self._full or self._ended or self._own is None or self._own.wait(seconds)
        except Exception as error:
            raise exceptions.map_read_error(error, self._exchange) from None

    def read_body(self, limit: int, seconds: float) -> bytes:
        """The beginning of the body, as much as arrives within ``limit`` bytes and ``seconds``. Closes."""
        read = b""
        self._scope.reset()
        self._scope.set_timeout(seconds, IdleTimeout)
        try:
            while len(read) < limit and (data := self.read()):
                read += data
        except (StreamError, DeadlineExceeded):
            pass  # what has arrived is enough
        self.close()
        return read[:limit]

    def drain(self) -> None:
        """Read the rest for at most `DRAIN_SECONDS`, so that the connection can be used again; otherwise close it."""
        try:
            self.read_body(READ_SIZE, DRAIN_SECONDS)
        except ChatStreamError:
            self.close()

    def close(self) -> None:
        """Give the connection up, unless its answer was read to the end. May be called twice."""
        self._ended = True
        if self._exchange.release():  # otherwise another call may have the connection
            self._response.close()


def headers_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, found by their names in any case."""
    return requests.structures.CaseInsensitiveDict(headers)
