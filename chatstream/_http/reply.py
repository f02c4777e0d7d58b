"""An answer whose headers have arrived → its bytes, as they come.

    requests.Response ─▶ Reply: status, headers ──read()──▶ bytes

Rules:
- ``read1`` returns what has arrived at once, in every framing and encoding, and bounds what a bomb expands to.
- A connection is given back to the pool after the end of its body, and closed otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import requests

from ..errors import ChatStreamError, DeadlineExceeded, IdleTimeout, StreamError
from . import exceptions
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
        "_read1",
        "_response",
        "_scope",
        "headers",
        "request_id",
        "reused",
        "status",
        "version",
    )

    def __init__(self, response: requests.Response, exchange: Exchange) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.request_id: str | None = next(
            (response.headers[h] for h in REQUEST_ID_HEADERS if h in response.headers), None
        )
        self.version = "1.0" if response.raw.version == 10 else "1.1"
        self.reused: bool = exchange.reused  # the connection served another request before
        self._response = response
        self._exchange = exchange
        self._scope = exchange.scope
        self._read1 = _reader(response, exchange)
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
        raise failure

    def _finish(self) -> None:
        """Give the connection back to the pool, where another call may take it."""
        self._ended = True
        self._response.raw.release_conn()

    def wait(self, seconds: float) -> bool:
        """Whether bytes, or the end, arrive within ``seconds``; to be called between two reads."""
        response = self._exchange.response
        return self._full or self._ended or response is None or response.wait(seconds)

    def read_body(self, limit: int, seconds: float) -> bytes:
        """The beginning of the body, as much as arrives within ``limit`` bytes and ``seconds``. Closes."""
        body = b""
        self._scope.reset()
        self._scope.set_timeout(seconds, IdleTimeout)
        try:
            while len(body) < limit and (data := self.read()):
                body += data
        except (StreamError, DeadlineExceeded):
            pass  # what has arrived is enough
        self.close()
        return body[:limit]

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


def _reader(response: requests.Response, exchange: Exchange) -> Callable[[int], bytes]:
    """How the body is read: uncompressed chunks directly, anything else by urllib3, which decompresses, and checks
    Content-Length."""
    if exchange.response is not None and exchange.response.bare_chunks:
        return exchange.response.read1
    return partial(response.raw.read1, decode_content=True)
