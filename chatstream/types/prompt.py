"""What a caller gives as a prompt → a `Prompt`: instructions, a list of items or message dicts, and tools.

A single item, message dict or turn is accepted in place of a list.
``Prompt.from_dict(prompt.to_dict())`` equals ``prompt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, Union

from .._runtime.imports import imports
from ..errors import ConfigError
from .items import Message, ResponseItem, item_from_dict
from .tagged import as_dict, from_tagged, plain, require_key, to_tagged, tuple_of
from .turn import Turn

if TYPE_CHECKING:
    from .tools import AnyTool  # reads signatures, which few prompts need


class MessageModel(Protocol):
    """A message of another library, such as openai-python: ``model_dump()`` is its message dict."""

    def model_dump(self) -> Mapping[str, Any]: ...


InputItem = Union[ResponseItem, Mapping[str, Any], Turn, MessageModel]


@dataclass(init=False)
class Prompt:
    """A conversation, its instructions and its tools. Append to ``input`` as the conversation grows.

    - ``instructions``: the system message, sent before all others.
    - ``input``: items, Chat Completions message dicts, turns, or a mixture of them; a str is one user message. The
      messages of openai-python, and other objects whose ``model_dump()`` is a message dict, count as message dicts.
    - ``tools``: functions, `Tool` objects, or dicts in the flat (Responses) or the nested (Chat Completions) shape.

    Lists are not copied, so changes to them change the prompt. Raises `ConfigError` for other types.
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
            self.input = [Message("user", input)] if input.strip() else []
        else:
            self.input = as_list(input, "input")
        self.tools = as_list(tools, "tools")
        if not (instructions is None or isinstance(instructions, str)):
            raise ConfigError(f"instructions must be a str or None, not {type(instructions).__name__}")

    @classmethod
    def of(cls, value: PromptLike) -> Prompt:
        """The `Prompt` for a str, an item, a list of items, or a `Prompt`, which is returned itself."""
        if isinstance(value, Prompt):
            return value
        if isinstance(value, (str, list, tuple)):
            return cls(input=value)
        if is_item(value):
            return cls(input=[value])  # type: ignore[list-item]  # what `is_item` says
        way = ""
        if isinstance(value, Mapping) and "messages" in value:
            way = '; pass its "messages" as the prompt, and the other keys as keyword arguments'
        elif isinstance(value, Mapping):
            way = '; a message dict has a "role"'
        elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
            way = "; use list(…)"
        raise ConfigError(f"a prompt must be a str, a list of messages or a Prompt, not {type_name(value)}{way}")

    def to_dict(self) -> dict[str, Any]:
        """The conversation as a dict with a ``type`` key, ready for JSON.

        Message dicts and tool dicts are stored unchanged, a turn as its items, and a tool without its function. Raises
        `ConfigError` for items or tools of other types.
        """
        tagged = {"instructions": self.instructions, "input": [*chain.from_iterable(map(_items_to_dicts, self.input))]}
        return {"type": "prompt", **tagged, "tools": [*map(_tool_to_dict, self.tools)]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prompt:
        """The conversation from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        given = as_dict(data)
        if given.get("type") != "prompt":
            raise ConfigError(f'expected a dict with the type "prompt", not {data!r:.80}')
        entries = tuple_of(_item_from_dict)(given.get("input") or ())
        return cls(given.get("instructions"), entries, tuple_of(_tool_from_dict)(given.get("tools") or ()))


PromptLike = Union[str, Prompt, InputItem, Sequence[InputItem]]


def one_prompt(prompt: PromptLike | None, messages: PromptLike | None) -> PromptLike:
    """The one of the two that is not None. Raises `ConfigError` if both are given, or neither."""
    if prompt is not None and messages is not None:
        raise ConfigError("the prompt was passed twice: pass it either as the first argument or as messages=…")
    given = messages if prompt is None else prompt
    if given is None:
        raise ConfigError('the prompt is missing or None: stream("Why?", …), stream([…], …) or stream(messages=[…], …)')
    return given


def is_item(value: object) -> bool:
    """Whether a value may stand in a list of messages: an item, a dict of a message or an item, a turn, a model."""
    if isinstance(value, Mapping):
        return "role" in value or "type" in value
    return isinstance(value, (ResponseItem, Turn)) or has_model_dump(value)


def has_model_dump(value: object) -> bool:
    return not isinstance(value, type) and callable(getattr(value, "model_dump", None))


def as_list(value: Any, name: str) -> list[Any]:
    """``value`` as a list. Raises `ConfigError` that has its ``name`` if it is neither a list nor a tuple."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{name} must be a list, not {type_name(value)}")
    return value if isinstance(value, list) else list(value)


def type_name(value: object) -> str:
    """The type of ``value`` and the beginning of its repr, for an error message."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


# ── the prompt as a dict ────────────────────────────────────────────────────────────────────────────────────────

AS_GIVEN = "as_given"  # the tag around a dict that would come back as an item, or as a `Tool`, if it stood alone


def _items_to_dicts(item: InputItem) -> list[dict[str, Any]]:
    if isinstance(item, Turn):
        return [as_dict(each.to_dict()) for each in item.items]
    if has_model_dump(item):
        given: Any = item
        item = given.model_dump(exclude_none=True)
    if isinstance(item, Mapping):
        return [{"type": AS_GIVEN, "value": plain(item)} if "type" in item else as_dict(item)]
    if not isinstance(item, ResponseItem):
        raise ConfigError(f"an item of a prompt must be an item or a message dict, not {type_name(item)}")
    return [as_dict(item.to_dict())]


def _item_from_dict(data: Any) -> InputItem:
    if as_dict(data).get("type") == AS_GIVEN:
        return as_dict(require_key(data, "value"))
    return item_from_dict(data) if "type" in data else as_dict(data)


def _tool_to_dict(tool: AnyTool) -> dict[str, Any]:
    with imports():
        from .tools import Tool

    if isinstance(tool, Mapping):
        return {"type": AS_GIVEN, "value": plain(tool)} if tool.get("type") in ("tool", AS_GIVEN) else as_dict(tool)
    if not isinstance(tool, Tool) and callable(tool):
        tool = Tool.from_function(tool)
    if isinstance(tool, Tool):
        return to_tagged(replace(tool, function=None))  # a function is not JSON
    raise ConfigError(f"a tool of a prompt must be a function, a Tool or a dict, not {type_name(tool)}")


def _tool_from_dict(data: Any) -> AnyTool:
    with imports():
        from .tools import Tool

    kind = as_dict(data).get("type")
    if kind == AS_GIVEN:
        return as_dict(require_key(data, "value"))
    return from_tagged(Tool, data, parameters=as_dict) if kind == "tool" else as_dict(data)
