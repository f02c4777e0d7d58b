"""The decoder's own vocabulary: what every server's events become before the state machine reads them.

    Payload ─chunks▶ Chunk ─machine▶ ResponseEvent

Rules:
- Named tuples: one chunk is made per SSE event, at a third of the price of a frozen dataclass.
- Nothing here knows how a server spells it, nor how the bytes arrived.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..types.events import FinishKind, TokenUsage

DONE_WORDS = ("[DONE]", "DONE")  # the data that ends a stream; some gateways send the bare word


class Payload(Protocol):
    """One SSE event: its name (``message`` when the server gave none) and its data."""

    @property
    def event(self) -> str: ...

    @property
    def data(self) -> str: ...


class BodyPayload(NamedTuple):
    """A whole body that is no event stream, as one payload."""

    event: str
    data: str


class CallDelta(NamedTuple):
    """A fragment of a tool call; None where the server sent nothing.

    ``call_index`` is the server's ``index``: a key, not a position.
    """

    call_index: int | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""


class ChoiceDelta(NamedTuple):
    """What one chunk adds to one choice."""

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[CallDelta, ...] = ()
    finish_reason: str | None = None
    finish_kind: FinishKind | None = None
    extra: dict[str, Any] | None = None


class ErrorDetail(NamedTuple):
    """An error that the server reported: ``retryable`` if trying again may help, ``quota`` if the account is spent."""

    message: str
    code: str | int | None = None
    type: str | None = None
    retryable: bool = False
    quota: bool = False


class Chunk(NamedTuple):
    """One message of the server.

    ``extra`` holds what it sent beside the choices (citations, search results, timings), ``done`` marks ``[DONE]`` or a
    whole answer in one chunk, ``text_only`` the commonest chunk, which only adds text to one choice.
    """

    choices: tuple[ChoiceDelta, ...] = ()
    response_id: str | None = None
    model: str | None = None
    text_only: bool = False
    usage: TokenUsage | None = None
    error: ErrorDetail | None = None
    extra: dict[str, Any] | None = None
    done: bool = False
