"""Which fragment belongs to which tool call (W4, W5).

    CallDelta ─CallTable▶ OpenCall

Rules:
- By id before slot before order; a slot (the server's ``index``) is a key, not a position.
- Id and name are set once, by the first value that is not empty.
- Fragments are kept apart and joined once.
"""

from __future__ import annotations

from ..types.items import FunctionCall, arguments_are_whole
from .chunk import CallDelta


class OpenCall:
    """A tool call as its fragments come in. ``announced`` counts the parts the caller has been given, from -1."""

    __slots__ = ("announced", "call_id", "done", "fragments", "identified", "name", "parts")

    def __init__(self) -> None:
        self.call_id = ""
        self.identified = False  # by the server; an id that was made up does not count
        self.name = ""
        self.fragments = 0
        self.parts: list[str] = []
        self.announced = -1
        self.done = False

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    @property
    def whole(self) -> bool:
        """Whether the arguments are a whole JSON object already; its last character tells cheaply when not."""
        return bool(self.parts) and self.parts[-1].rstrip().endswith("}") and arguments_are_whole(self.arguments)

    def add(self, arguments: str) -> None:
        self.fragments += 1
        if arguments:
            self.parts.append(arguments)

    def item(self, cut: bool) -> FunctionCall:
        """The finished call; its arguments are judged, not mended (M4). None at all stand for ``{}``, unless the
        answer was ``cut``."""
        whole = arguments_are_whole(self.arguments) and not (cut and not self.parts)
        return FunctionCall(self.name, self.arguments, self.call_id, "completed" if whole else "incomplete")

    def news(self) -> str | None:
        """The arguments that the caller has not been given yet; None when nothing of the call is news to them."""
        if self.announced >= len(self.parts):
            return None
        new = self.parts[max(self.announced, 0) :]
        self.announced = len(self.parts)
        return new[0] if len(new) == 1 else "".join(new)


class CallTable:
    """The calls of one choice, in the order they began, and the keys under which fragments find them."""

    def __init__(self) -> None:
        self.calls: list[OpenCall] = []
        self._by_id: dict[str, OpenCall] = {}
        self._by_slot: dict[int, OpenCall] = {}

    def call_of(self, fragment: CallDelta) -> OpenCall:
        """The call that a fragment belongs to; a new one if there is none."""
        call = self._known(fragment)
        if call is None:
            call = OpenCall()
            self.calls.append(call)
        if fragment.call_id:
            self._by_id[fragment.call_id] = call
            call.identified = True
            call.call_id = call.call_id or fragment.call_id
        if fragment.slot is not None:
            self._by_slot[fragment.slot] = call
        call.name = call.name or fragment.name or ""
        return call

    def _known(self, fragment: CallDelta) -> OpenCall | None:
        here = self._by_slot.get(fragment.slot) if fragment.slot is not None else None
        if fragment.call_id:
            # Copilot, Cerebras: a new id is a new call even in an old slot, unless that call still lacks its id
            return self._by_id.get(fragment.call_id) or (here if here and not here.identified else None)
        if fragment.slot is not None:
            # a whole call, and then a named one in the same slot: another call
            return None if here and fragment.name and fragment.arguments and here.whole else here
        last = self.calls[-1] if self.calls else None
        if last and fragment.name and (last.whole or last.name != fragment.name):
            return None  # Mistral, Gemini: whole calls, one after the other, with neither index nor id
        return last
