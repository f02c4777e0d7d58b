"""The inner words."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, NamedTuple, Protocol

from ..types.events import Finish, TokenUsage

DONE_WORDS = ("[DONE]", "DONE")  # the payload that ends a stream; the bare one: some gateways
HEARTBEAT = f"heartbeat-{token_hex(8)}"  # an event name that no server can guess: time passed, nothing came


class Payload(Protocol):
    """One SSE event: its name (``message`` when the server gave none) and its data."""

    @property
    def event(self) -> str: ...

    @property
    def data(self) -> str: ...


class PlainPayload(NamedTuple):
    """A payload that was no SSE event on the wire."""

    event: str
    data: str


class CallDelta(NamedTuple):
    """A fragment of a tool call; None where the server said nothing. ``slot`` is its index: a key, not a position."""

    slot: int | None = None
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
    finish: Finish | None = None
    extra: dict[str, Any] | None = None


class ErrorDetail(NamedTuple):
    """An error that the server reported: ``passing`` if trying again may help, ``quota`` if the account is spent."""

    message: str
    code: str | int | None = None
    type: str | None = None
    passing: bool = False
    quota: bool = False


class Chunk(NamedTuple):
    """One message of the server: ``extra`` is what it says beside the choices (citations, search results, timings),
    ``done`` its ``[DONE]``, or that it is a whole answer in one.

    ``plain`` marks the commonest one, which does nothing but add text to one choice.
    """

    choices: tuple[ChoiceDelta, ...] = ()
    response_id: str | None = None
    model: str | None = None
    plain: bool = False
    usage: TokenUsage | None = None
    error: ErrorDetail | None = None
    extra: dict[str, Any] | None = None
    done: bool = False
    heartbeat: bool = False
