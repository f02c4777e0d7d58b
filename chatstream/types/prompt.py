"""What a caller gives as a prompt → a `Prompt`: instructions, a list of items or message dicts, and tools.

``Prompt.from_dict(prompt.to_dict())`` equals ``prompt``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from .._imports import imports
from ..errors import ConfigError
from .items import Message, ResponseItem, item_from_dict
from .parts import plain, require_key
from .tagged import as_dict, from_tagged, to_tagged, tuple_of

if TYPE_CHECKING:
    from .tools import AnyTool  # reads signatures, which few prompts need

InputItem = Union[ResponseItem, Mapping[str, Any]]


@dataclass(init=False)
class Prompt:
    """A conversation, its instructions and its tools. Append to ``input`` as the conversation grows.

    - ``instructions``: the system message, sent before all others.
    - ``input``: items, Chat Completions message dicts, or both; a str is one user message.
    - ``tools``: `Tool` objects, or dicts in the flat shape (Responses) or the nested shape (Chat Completions).

    A list is kept and not copied. Raises `ConfigError` for other types.
    """

    instructions: str | None
    input: list[InputItem]
    tools: list[AnyTool]

    def __init__(
        self,
        instructions: str | None = None,
        input: str | Sequence[InputItem] = (),
        tools: Sequence[AnyTool] = (),
    ) -> None:
        self.instructions = instructions
        if isinstance(input, str):
            self.input = [Message("user", input)] if input else []
        else:
            self.input = as_list(input, "input")
        self.tools = as_list(tools, "tools")
        if not (instructions is None or isinstance(instructions, str)):
            raise ConfigError(f"instructions must be a str or None, not {type(instructions).__name__}")

    @classmethod
    def of(cls, value: PromptLike) -> Prompt:
        """The `Prompt` for a str, a list of items or message dicts, or a `Prompt`, which is returned itself."""
        if isinstance(value, Prompt):
            return value
        if not isinstance(value, (str, list, tuple)):
            raise ConfigError(f"a prompt must be a str, a list of messages or a Prompt, not {type_name(value)}")
        return cls(input=value)

    def to_dict(self) -> dict[str, Any]:
        """The conversation in its tagged form, as plain JSON. Raises `ConfigError` for an item or tool of another type.

        Message dicts and tools that are dicts stay as they are.
        """
        tagged = {"instructions": self.instructions, "input": [*map(_item_to_dict, self.input)]}
        return {"type": "prompt", **tagged, "tools": [*map(_tool_to_dict, self.tools)]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prompt:
        """The conversation with the tagged form ``data``. Raises `ConfigError` if it is none."""
        given = as_dict(data)
        if given.get("type") != "prompt":
            raise ConfigError(f'expected a dict with the type "prompt", not {data!r:.80}')
        entries = tuple_of(_item_from_dict)(given.get("input") or ())
        return cls(given.get("instructions"), entries, tuple_of(_tool_from_dict)(given.get("tools") or ()))


PromptLike = Union[str, Prompt, Sequence[InputItem]]


def as_list(value: Any, name: str) -> list[Any]:
    """``value`` as a list. Raises `ConfigError` that has its ``name`` if it is neither a list nor a tuple."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{name} must be a list, not {type_name(value)}")
    return value if isinstance(value, list) else list(value)


def type_name(value: object) -> str:
    """The type of ``value`` and the beginning of its repr, for an error message."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


# ── the tagged form ─────────────────────────────────────────────────────────────────────────────────────────────

AS_GIVEN = "as_given"  # the tag around a dict that would come back as an item, or as a `Tool`, if it stood alone


def _item_to_dict(item: InputItem) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {"type": AS_GIVEN, "value": plain(item)} if "type" in item else as_dict(item)
    if not hasattr(item, "to_dict"):
        raise ConfigError(f"an item of a prompt must be an item or a message dict, not {type_name(item)}")
    return as_dict(item.to_dict())


def _item_from_dict(data: Any) -> InputItem:
    if as_dict(data).get("type") == AS_GIVEN:
        return as_dict(require_key(data, "value"))
    return item_from_dict(data) if "type" in data else as_dict(data)


def _tool_to_dict(tool: AnyTool) -> dict[str, Any]:
    with imports():
        from .tools import Tool

    if isinstance(tool, Mapping):
        return {"type": AS_GIVEN, "value": plain(tool)} if tool.get("type") in ("tool", AS_GIVEN) else as_dict(tool)
    if isinstance(tool, Tool):
        return to_tagged(tool)
    raise ConfigError(f"a tool of a prompt must be a Tool or a dict, not {type_name(tool)}")


def _tool_from_dict(data: Any) -> AnyTool:
    with imports():
        from .tools import Tool

    kind = as_dict(data).get("type")
    if kind == AS_GIVEN:
        return as_dict(require_key(data, "value"))
    return from_tagged(Tool, data, parameters=as_dict) if kind == "tool" else as_dict(data)
