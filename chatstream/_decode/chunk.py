"""The decoder's own vocabulary: what every server's events become before the state machine reads them.

    Payload ─chunks▶ Chunk ─machine▶ ResponseEvent

Rules:
- Named tuples: one chunk is made per SSE event, at a third of the price of a frozen dataclass.
- Nothing here knows how a server spells it, nor how the bytes arrived.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Union

from ..types.events import FinishKind
from ..types.parts import ContentPart

DONE_WORDS = ("[DONE]", "DONE")  # the data that ends a stream; some gateways send the bare word


class Payload(Protocol):
    """One SSE event: its name (``message`` when the server gave none) and its data."""

    @property
    def event(self) -> str: ...

    @property
    def data(self) -> str: ...


class PlainPayload(NamedTuple):
    """A payload that was not one SSE event on the wire: a line of one, or a field that sseclient does not know."""

    event: str
    data: str


class BodyPayload(NamedTuple):
    """A whole body that is no event stream, as one payload."""

    event: str
    data: str


class CallDelta(NamedTuple):
    """A fragment of a tool call; None where the server sent nothing.

    ``call_index`` is the server's ``index``: a key, not a position. ``extra`` holds the keys that are not read.
    """

    call_index: int | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""
    custom: bool = False
    extra: dict[str, Any] | None = None


class ChoiceDelta(NamedTuple):
    """What one chunk adds to one choice.

    Where the content has parts that are not text, ``parts`` holds all of it in order, and ``text`` is empty.
    """

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[CallDelta, ...] = ()
    finish_reason: str | None = None
    finish_kind: FinishKind | None = None
    extra: dict[str, Any] | None = None
    parts: tuple[Union[str, ContentPart], ...] = ()
    details: tuple[dict[str, Any], ...] = ()


class ErrorDetail(NamedTuple):
    """An error that the server reported: ``retryable`` if trying again may help, ``quota`` if the account is spent,
    ``retry_after`` the seconds that its text asks to wait."""

    message: str
    code: str | int | None = None
    type: str | None = None
    retryable: bool = False
    quota: bool = False
    retry_after: float | None = None


class Chunk(NamedTuple):
    """One message of the server.

    ``plain`` marks a chunk that has nothing beside its choices, ``text_only`` the commonest of these, which only adds
    text to one choice. ``usage`` is the server's own object, ``extra`` what it sent beside the choices (citations,
    search results, timings), ``done`` marks ``[DONE]`` or a whole answer at once, ``note`` is a sentence that is no
    error, and ``undecodable`` says why the payload is no chunk.
    """

    choices: tuple[ChoiceDelta, ...] = ()
    response_id: str | None = None
    model: str | None = None
    text_only: bool = False
    plain: bool = False
    usage: dict[str, Any] | None = None
    error: ErrorDetail | None = None
    extra: dict[str, Any] | None = None
    done: bool = False
    note: str = ""
    undecodable: str = ""
