"""What a caller gives as a prompt → a `Prompt`: instructions, a list of items or message dicts, and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from ..errors import ConfigError
from .items import Message, ResponseItem

if TYPE_CHECKING:
    from .tools import AnyTool  # reads signatures, which few prompts need

InputItem = Union[ResponseItem, Mapping[str, Any]]


@dataclass(init=False)
class Prompt:
    """A conversation, its instructions and its tools. Append to ``input`` as the conversation grows.

    - ``instructions``: the system message, sent before all others.
    - ``input``: items, Chat Completions message dicts, or both; a str is one user message.
    - ``tools``: functions, `Tool` objects, or dicts in the flat (Responses) or the nested (Chat Completions) shape.

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


PromptLike = Union[str, Prompt, Sequence[InputItem]]


def as_list(value: Any, name: str) -> list[Any]:
    """``value`` as a list. Raises `ConfigError` that has its ``name`` if it is neither a list nor a tuple."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{name} must be a list, not {type_name(value)}")
    return value if isinstance(value, list) else list(value)


def type_name(value: object) -> str:
    """The type of ``value`` and the beginning of its repr, for an error message."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"
