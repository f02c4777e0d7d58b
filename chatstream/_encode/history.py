"""Checks whether servers accept a history of messages; a `ConfigError` says what to change.

Rules:
- Every output follows its call, and nothing but outputs stands between calls and their outputs.
- Every role is one that servers know, and every call has a name.
- Message dicts are held to the same rules, because servers are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def check_history(messages: list[dict[str, Any]]) -> None:
    """Check the order of messages, calls and outputs, the roles, and the names of calls."""
    waiting: dict[str, int] = {}  # how many outputs of each call have not come, by the id of the call
    for index, message in enumerate(messages):
        role = message["role"]
        if role not in ROLES:
            raise ConfigError(f"messages[{index}] has the role {role!r}; the roles are {', '.join(ROLES)}")
        if role == "tool":
            call_id = str(message.get("tool_call_id"))
            if not waiting.get(call_id):
                raise ConfigError(f"the output of call_id {call_id} has no earlier call: add the call before it")
            waiting[call_id] -= 1
            continue
        if waiting:
            _check_answered(waiting, f"before messages[{index}], whose role is {role}")
            waiting = {}
        if calls := message.get("tool_calls"):
            for call in calls:
                _check_named(call)
            waiting = Counter(str(call.get("id")) for call in calls)
    _check_answered(waiting, "at the end")


def _check_named(call: Mapping[str, Any]) -> None:
    called = call.get("custom" if call.get("type") == "custom" else "function")
    if isinstance(called, Mapping) and not str(called.get("name") or "").strip():
        raise ConfigError(
            f"the call {call.get('id')} has no name, so servers reject it: send turn.complete_items instead"
        )


def _check_answered(waiting: Mapping[str, int], where: str) -> None:
    for call_id in filter(waiting.get, waiting):
        raise ConfigError(
            f"call_id {call_id} has no output {where}: put FunctionCallOutput({call_id!r}, …) right after the call, or "
            "drop the call; a provider with check_history=False sends it unchecked"
        )
