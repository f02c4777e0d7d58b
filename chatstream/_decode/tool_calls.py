"""Fragments of tool calls → the call that each belongs to.

    CallDelta ─CallTable▶ OpenCall

Rules:
- By id before index before order; the server's ``index`` is a key, not a position.
- Id and name are set once, by the first value that is not empty.
- Fragments are kept apart and joined once.
"""

from __future__ import annotations

from ..types.items import FunctionCall, arguments_are_whole
from .chunk import CallDelta


class OpenCall:
    """A tool call whose fragments arrive. ``sent`` counts the parts that the caller has, -1 before it has any."""

    __slots__ = ("call_id", "done", "fragments", "has_server_id", "name", "parts", "sent")

    def __init__(self) -> None:
        self.call_id = ""
        self.has_server_id = False  # an id that was made up here does not count
        self.name = ""
        self.fragments = 0
        self.parts: list[str] = []
        self.sent = -1
        self.done = False

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    @property
    def whole(self) -> bool:
        """Whether the arguments are a whole JSON object already; the last character tells cheaply when not."""
        return bool(self.parts) and self.parts[-1].rstrip().endswith("}") and arguments_are_whole(self.arguments)

    def add(self, arguments: str) -> None:
        self.fragments += 1
        if arguments:
            self.parts.append(arguments)

    def item(self, cut: bool) -> FunctionCall:
        """The finished call; its arguments are judged, not repaired. None at all stand for ``{}``, unless the answer
        was ``cut``."""
        whole = arguments_are_whole(self.arguments) and not (cut and not self.parts)
        return FunctionCall(self.name, self.arguments, self.call_id, "completed" if whole else "incomplete")

    def take_unsent(self) -> str | None:
        """The arguments that the caller has not got yet; None when the caller has all, and the name too."""
        if self.sent >= len(self.parts):
            return None
        unsent = self.parts[max(self.sent, 0) :]
        self.sent = len(self.parts)
        return unsent[0] if len(unsent) == 1 else "".join(unsent)


class CallTable:
    """The calls of one choice, in the order in which they began, and the keys under which fragments find them."""

    __slots__ = ("_by_id", "_by_index", "calls")

    def __init__(self) -> None:
        self.calls: list[OpenCall] = []
        self._by_id: dict[str, OpenCall] = {}
        self._by_index: dict[int, OpenCall] = {}

    def call_of(self, fragment: CallDelta) -> OpenCall:
        """The call that a fragment belongs to; a new one if there is none."""
        call = self._find(fragment)
        if call is None:
            call = OpenCall()
            self.calls.append(call)
        if fragment.call_id:
            self._by_id[fragment.call_id] = call
            call.has_server_id = True
            call.call_id = call.call_id or fragment.call_id
        if fragment.call_index is not None:
            self._by_index[fragment.call_index] = call
        call.name = call.name or fragment.name or ""
        return call

    def _find(self, fragment: CallDelta) -> OpenCall | None:
        here = self._by_index.get(fragment.call_index) if fragment.call_index is not None else None
        if fragment.call_id:
            # Copilot, Cerebras: a new id is a new call even at an old index, unless that call still lacks its id
            return self._by_id.get(fragment.call_id) or (here if here and not here.has_server_id else None)
        if fragment.call_index is not None:
            # a whole call, and then a named one at the same index: another call
            return None if here and fragment.name and fragment.arguments and here.whole else here
        last = self.calls[-1] if self.calls else None
        if last and fragment.name and (last.whole or last.name != fragment.name):
            return None  # Mistral, Gemini: whole calls, one after the other, with neither index nor id
        return last
