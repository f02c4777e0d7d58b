"""The conversation to send: instructions, items or message dicts, and tools."""

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
    """A conversation and what goes with it; append to ``input`` as it grows.

    ``input`` holds items, Chat Completions message dicts, or both; given as text it is one user message.
    ``tools`` holds `Tool` objects or dicts of the flat (Responses) or the nested (Chat) shape.
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
        self.input = _user_message(input) if isinstance(input, str) else as_list(input, "input")
        self.tools = as_list(tools, "tools")
        if not (instructions is None or isinstance(instructions, str)):
            raise ConfigError(f"give a Prompt its instructions as text, not {type(instructions).__name__}")

    @classmethod
    def of(cls, value: PromptLike) -> Prompt:
        """The prompt that ``value`` stands for: a text, a list of items or message dicts, or a `Prompt` itself."""
        if isinstance(value, Prompt):
            return value
        if not isinstance(value, (str, list, tuple)):
            raise ConfigError(f"give a prompt as text, as a list of messages or as a Prompt, not {type_name(value)}")
        return cls(input=value)


def _user_message(text: str) -> list[InputItem]:
    return [Message("user", text)] if text else []


PromptLike = Union[str, Prompt, Sequence[InputItem]]


def as_list(value: Any, what: str) -> list[Any]:
    """``value`` as a list; `ConfigError` naming ``what`` if it is neither list nor tuple."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"give {what} as a list, not {type_name(value)}")
    return value if isinstance(value, list) else list(value)


def type_name(value: object) -> str:
    """The type of a wrong value and its beginning, for an error message."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"
