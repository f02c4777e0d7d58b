"""Call: what one call of a user sends, and what is known of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._http.cancel_scope import CancelScope
from ._http.reply import Reply
from ._redaction import Secrets
from .errors import Attempt, ChatStreamError
from .types.prompt import PromptLike

MAX_HEADER = 4096  # characters of a value


@dataclass(repr=False, eq=False)
class Call:
    """One call of a user: what to send, its cancel scope, and the attempts made for it.

    ``listing`` is the path of a list that is fetched where no prompt is sent, else empty. ``sent_at`` is when
    the latest began, on the monotonic clock, ``limited`` the seconds waited for rate limits.
    """

    prompt: PromptLike
    model: str
    fields: Mapping[str, Any]
    scope: CancelScope
    attempts: list[Attempt] = field(default_factory=list)
    secrets: Secrets = field(default_factory=Secrets)
    sent_at: float = 0.0
    limited: float = 0.0
    listing: str = ""

    def record_attempt(
        self, status: int | None, request_id: str | None, seconds: float, error: ChatStreamError | None
    ) -> None:
        """List an attempt and how it ended."""
        text = None if error is None else str(error)
        self.attempts.append(Attempt(len(self.attempts) + 1, status, text, request_id, seconds))

    def annotate(self, error: ChatStreamError) -> None:
        """Put on an error that leaves the library what is known of its call."""
        error.attempts = tuple(self.attempts)
        error.request_id = error.request_id or (self.attempts[-1].request_id if self.attempts else None)

    def redact(self, error: ChatStreamError) -> None:
        """Take the secrets of the request out of an error that holds a server's text."""
        if self.secrets:
            error.redact(self.secrets.redact)

    def redact_headers(self, reply: Reply) -> None:
        """Take the secrets of the request out of the headers and the id of its answer.

        Headers that are longer than any in use are cut, because megabytes of them would take seconds.
        """
        headers: Any = reply.headers
        for name, value in list(headers.items()):
            if (clean := self.secrets.redact(value[:MAX_HEADER])) != value:
                headers[name] = clean
        if reply.request_id:
            reply.request_id = self.secrets.redact(reply.request_id)
