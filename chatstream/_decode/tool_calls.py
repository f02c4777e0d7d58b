"""Fragments of tool calls → the call that each belongs to.

    CallDelta ─CallTable▶ OpenCall

Servers handle index, id and name loosely: an index may count the fragments, an id may be new for each of them, a name
may be repeated, grow, or never come. So none of them is trusted alone.

Rules:
- The first id is kept, and no two calls share one. The name may grow until the arguments begin.
- Arguments are kept in parts and joined once; whether they are whole is found out in linear time.
- An empty object may be a placeholder, so it is held back until something follows it or the answer ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..errors import ProtocolViolation
from ..types.items import CustomToolCall, FunctionCall
from ..types.text import HIGH_SURROGATE, arguments_are_whole, without_surrogates
from .chunk import CallDelta
from .fields import merge

PLACEHOLDER = re.compile(r"\s*(\{\s*(\}\s*)?)?")  # an empty object, or what may become one
MOST_BLANK = 1000  # characters of an object that may be a placeholder
STRUCTURE = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


class Balance:
    """Finds out, part by part, when a JSON object has been closed."""

    __slots__ = ("_depth", "_escaped", "_in_string", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the last part ended in a backslash

    def add(self, part: str) -> None:
        start, self._escaped = int(self._escaped), False
        for found in STRUCTURE.finditer(part, start):
            token = found[0]
            self._escaped = token == "\\"
            if token == '"':
                self._in_string = not self._in_string
            elif token[0] != "\\" and not self._in_string:
                self._depth += 1 if token in "{[" else -1
        self.closed = self._depth == 0


class OpenCall:
    """A tool call whose fragments arrive. ``sent`` counts the parts that the caller has, -1 before it has any."""

    __slots__ = (
        "_balance",
        "_ends_in_brace",
        "_half",
        "_scanned",
        "_size",
        "_whole",
        "call_id",
        "custom",
        "done",
        "extra",
        "fragments",
        "has_server_id",
        "name",
        "parts",
        "sent",
    )

    def __init__(self) -> None:
        self.call_id = ""
        self.has_server_id = False
        self.name = ""
        self.custom = False
        self.fragments = 0
        self.parts: list[str] = []
        self.sent = -1
        self.done = False
        self.extra: dict[str, Any] = {}
        self._half = ""  # a high surrogate that waits for its other half
        self._size = 0
        self._ends_in_brace = False  # but for blanks
        self._scanned = 0
        self._balance: Balance | None = None
        self._whole = False

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    @property
    def empty(self) -> bool:
        """Whether the arguments are no more than an empty object yet."""
        return self._size < MOST_BLANK and PLACEHOLDER.fullmatch(self.arguments) is not None

    @property
    def whole(self) -> bool:
        """Whether the arguments are a whole JSON object. Free text never is, before the answer ends."""
        if self.custom or not self._ends_in_brace:
            return False
        if self._scanned < len(self.parts):
            self._scan("".join(self.parts[self._scanned :]))
            self._scanned = len(self.parts)
        return self._whole

    def _scan(self, part: str) -> None:
        balance = self._balance = self._balance or Balance()
        if balance.closed:
            self._whole = self._whole and part.isspace()  # anything else is too much
            return
        balance.add(part)
        if balance.closed:
            self._whole = arguments_are_whole(self.arguments)

    def restates(self, name: str) -> bool:
        """Whether ``name`` is the call's name, or begins with what is known of it."""
        return name.startswith(self.name)

    def add(self, fragment: CallDelta) -> None:
        """Take a fragment. Raises `ProtocolViolation` if the call was handed over as whole and was not."""
        _, _, name, arguments, custom, extra = fragment
        if self._half or not arguments.isascii():
            arguments = self._with_half(arguments)
        if self.done or (self._ends_in_brace and self.whole):
            arguments = self._what_follows(arguments)
        self.fragments += 1
        if custom:
            self.custom = True
        if name:
            self._add_name(without_surrogates(name))
        if extra:
            merge(self.extra, extra)
        if arguments:
            self.parts.append(arguments)
            self._size += len(arguments)
            self._ends_in_brace = arguments[-1] == "}" or (arguments[-1] in " \t\r\n" and self._had_brace(arguments))

    def _had_brace(self, arguments: str) -> bool:
        """Whether a brace is what stands before the blanks at the end."""
        return self._ends_in_brace if arguments.isspace() else arguments.rstrip().endswith("}")

    def _what_follows(self, arguments: str) -> str:
        """What of a fragment's arguments is new to a call that is whole already."""
        if not arguments.strip():
            return "" if self.done else arguments  # some pad a whole call with blanks
        if 2 * len(arguments) >= self._size and arguments.strip() == self.arguments.strip():
            return ""  # a server repeats itself
        if self.done:
            raise ProtocolViolation(f"more arguments arrived for the complete call of {self.name}: {arguments[:80]!r}")
        if self.sent < 0 and self.empty and arguments.lstrip().startswith("{"):
            self.parts.clear()  # the empty object was a placeholder
            self._size, self._scanned, self._balance, self._whole = 0, 0, None, False
        return arguments

    def _add_name(self, name: str) -> None:
        """The name may come in pieces or be stated again, until the arguments begin."""
        if not self.name or (not self.parts and self.restates(name)):
            self.name = name
        elif not self.parts:
            self.name += name

    def _with_half(self, arguments: str) -> str:
        arguments, self._half = self._half + arguments, ""
        if HIGH_SURROGATE.search(arguments):
            arguments, self._half = arguments[:-1], arguments[-1]
        return without_surrogates(arguments)

    def take_unsent(self, final: bool = False) -> str | None:
        """The arguments that the caller has not got yet; None when there are none. Before the end, an empty object
        waits, and so does a name without arguments: it may grow."""
        if final and self._half:
            self.parts.append(without_surrogates(self._half))
            self._half = ""
        if self.sent >= len(self.parts):
            return None
        if not final and self.sent < 0 and (not self.parts or (self.empty and not self.custom)):
            return None
        unsent = self.parts[max(self.sent, 0) :]
        self.sent = len(self.parts)
        return unsent[0] if len(unsent) == 1 else "".join(unsent)

    def item(self, cut: bool) -> FunctionCall | CustomToolCall:
        """The finished call; its arguments are judged, not repaired. None at all stand for ``{}``, unless the answer
        was ``cut``. A call without a name is never whole."""
        if self.custom:
            custom_status = "incomplete" if cut or not self.name else "completed"
            return CustomToolCall(self.name, self.arguments, self.call_id, custom_status, self.extra)
        whole = bool(self.name) and arguments_are_whole(self.arguments) and not (cut and not self.parts)
        return FunctionCall(self.name, self.arguments, self.call_id, "completed" if whole else "incomplete", self.extra)


class CallTable:
    """The calls of one choice, in the order in which they began, and the keys under which fragments find them."""

    __slots__ = ("_at", "_by_id", "_by_index", "_new_call_id", "calls")

    def __init__(self, new_call_id: Callable[[], str]) -> None:
        self.calls: list[OpenCall] = []
        self._new_call_id = new_call_id
        self._by_id: dict[str, OpenCall] = {}  # the first call that had each id
        self._by_index: dict[int, OpenCall] = {}  # the newest call at each index
        self._at: dict[tuple[int, str], OpenCall] = {}  # the newest call at each index under each id

    def call_of(self, fragment: CallDelta) -> OpenCall:
        """The call that a fragment belongs to; a new one if there is none."""
        index, call_id = fragment.call_index, fragment.call_id
        here = None if index is None else self._by_index.get(index)
        if here is not None and not (call_id or fragment.name):
            return here
        call = self._named(fragment, here) if fragment.name else self._unnamed(fragment, here)
        if call is None:
            call = OpenCall()
            self.calls.append(call)
        if call_id:
            self._add_id(call, without_surrogates(call_id), index)
        if index is not None and here is not call:
            self._by_index[index] = call
        return call

    def _add_id(self, call: OpenCall, call_id: str, index: int | None) -> None:
        call.call_id = call.call_id or (self._new_call_id() if call_id in self._by_id else call_id)
        call.has_server_id = True
        self._by_id.setdefault(call_id, call)
        if index is not None:
            self._at[index, call_id] = call

    def _unnamed(self, fragment: CallDelta, here: OpenCall | None) -> OpenCall | None:
        """The call that a fragment without a name goes on with; an unknown id alone begins none: TGI and others make
        one up for each fragment."""
        index, call_id = fragment.call_index, fragment.call_id
        if call_id:
            known = self._by_id.get(call_id)
            if index is not None and (index, call_id) in self._at:
                return self._at[index, call_id]
            if known is not None and (here is None or here.has_server_id):
                return known
            if here is None and index is not None:
                return None  # both are new: a call whose name may still come
        if here is not None:
            return here
        return self.calls[-1] if self.calls else None

    def _named(self, fragment: CallDelta, here: OpenCall | None) -> OpenCall | None:
        """The call that a fragment with a name goes on with; None if it begins a call."""
        index, call_id, name = fragment.call_index, fragment.call_id, fragment.name or ""
        if call_id and call_id in self._by_id:
            # an id known under another index is another call, which gets an id of its own
            known = self._by_id[call_id] if index is None else self._at.get((index, call_id))
            return None if known is None or _is_other(known, name) else known
        if call_id:
            return here if here is not None and _takes_id(here, fragment) else None
        if index is not None:
            return None if here is None or _is_other(here, name) or (fragment.arguments and here.whole) else here
        last = self.calls[-1] if self.calls else None
        if last is None or last.name not in ("", name) or last.whole:
            return None  # Mistral, Gemini: whole calls, one after the other, with neither index nor id
        return last


def _is_other(call: OpenCall, name: str) -> bool:
    """Whether a name under the keys of a whole call is that of another call."""
    return call.name not in ("", name) and call.whole


def _takes_id(call: OpenCall, fragment: CallDelta) -> bool:
    """Whether a fragment under the call's index, with a name and an unknown id, still belongs to the call: it lacks its
    id, or the server makes up an id for each fragment."""
    name = fragment.name or ""
    if not call.has_server_id:
        return not call.whole and call.restates(name)
    return call.name == name and bool(call.parts and fragment.arguments) and not call.whole
