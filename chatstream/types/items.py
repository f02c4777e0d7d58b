"""What a conversation holds: messages, calls and their outputs.

    ResponseItem = Message | FunctionCall | FunctionCallOutput | LocalShellCall | Reasoning | Other

Rules: those of `parts`, which they are made of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Union

from .._dataclass import frozen
from ..errors import ConfigError
from .parts import Content, ContentPart, InputText, Other, OutputText, as_parts, check_text, need, tagged, text_of


def strict_json(text: str) -> Any:
    """What ``text`` says as JSON; ValueError for anything RFC 8259 does not know, ``NaN`` and ``Infinity`` too."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def arguments_are_whole(arguments: str) -> bool:
    """Whether a call's arguments are strict JSON to the end; the empty string stands for ``{}``."""
    try:
        strict_json(arguments or "{}")
    except ValueError:
        return False
    return True


@frozen
class Message:
    """What someone said: ``role`` is ``user``, ``assistant``, ``system`` or ``developer``.

    ``content`` is given as text or as a sequence of parts (objects, texts or tagged dicts), and kept as parts.
    """

    role: str
    content: tuple[ContentPart, ...]

    # Written out because more is taken than is kept, and a type checker should know both.
    def __init__(self, role: str, content: Content) -> None:
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "content", as_parts(content, OutputText if role == "assistant" else InputText))
        check_text(self, "role")
        if role in ("tool", "function"):
            raise ConfigError(f'a message has no role "{role}": give FunctionCallOutput(call_id, output) instead')

    @property
    def text(self) -> str:
        """The text parts joined; refusals, images and other parts left aside."""
        return "".join(map(text_of, self.content))

    def to_dict(self) -> dict[str, Any]:
        return tagged("message", role=self.role, content=[part.to_dict() for part in self.content])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        return cls(need(data, "role"), need(data, "content"))


@frozen
class FunctionCall:
    """The model asks for a function: ``arguments`` is JSON text, as the model wrote it.

    ``status`` is ``completed``, or ``incomplete`` when the arguments are not whole.
    """

    name: str
    arguments: str
    call_id: str
    status: str = "completed"

    def __post_init__(self) -> None:
        if isinstance(self.arguments, (dict, list)):
            raise ConfigError("give a FunctionCall its arguments as JSON text: json.dumps(arguments)")
        check_text(self, "name", "arguments", "call_id", "status")

    def parsed(self) -> Any:
        """The arguments as Python values, ``{}`` for none; ValueError when they are not whole, strict JSON."""
        try:
            return strict_json(self.arguments or "{}")
        except ValueError as error:
            raise ValueError(f"the arguments of {self.name} ({self.call_id}) are not whole JSON: {error}") from error

    def output(self, value: Any) -> FunctionCallOutput:
        """The item that answers this call: text as it is, any other value as its JSON."""
        return FunctionCallOutput(self.call_id, value if isinstance(value, str) else json.dumps(value))

    def to_dict(self) -> dict[str, Any]:
        own = {"name": self.name, "arguments": self.arguments, "call_id": self.call_id, "status": self.status}
        return tagged("function_call", **own)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionCall:
        name, arguments, call_id = (need(data, key) for key in ("name", "arguments", "call_id"))
        return cls(name, arguments, call_id, data.get("status") or "completed")


@frozen
class FunctionCallOutput:
    """What the function answered: text, or a sequence of parts, for the call of the same ``call_id``."""

    call_id: str
    output: str | tuple[ContentPart, ...]

    def __init__(self, call_id: str, output: Content) -> None:
        object.__setattr__(self, "call_id", call_id)
        object.__setattr__(self, "output", output if isinstance(output, str) else as_parts(output, InputText))
        check_text(self, "call_id")

    def to_dict(self) -> dict[str, Any]:
        output = self.output if isinstance(self.output, str) else [part.to_dict() for part in self.output]
        return tagged("function_call_output", call_id=self.call_id, output=output)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionCallOutput:
        return cls(need(data, "call_id"), need(data, "output"))


@frozen
class LocalShellCall:
    """The model asks for a command on this machine; its output refers to ``call_id``, or to ``id`` without one."""

    id: str | None
    call_id: str | None
    status: str
    action: dict[str, Any]

    def __post_init__(self) -> None:
        check_text(self, "id", "call_id", or_none=True)
        check_text(self, "status")
        if not isinstance(self.action, dict):
            raise ConfigError(f"give a LocalShellCall its action as a dict, not {type(self.action).__name__}")
        if not (self.call_id or self.id):
            raise ConfigError("give a LocalShellCall its call_id or its id")

    def to_dict(self) -> dict[str, Any]:
        return tagged("local_shell_call", id=self.id, call_id=self.call_id, status=self.status, action=self.action)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LocalShellCall:
        return cls(data.get("id"), data.get("call_id"), need(data, "status"), need(data, "action"))


@frozen
class Reasoning:
    """What the model thought: in full as ``text``, in short as ``summary``, or sealed in ``encrypted_content``."""

    text: str = ""
    id: str | None = None
    summary: tuple[str, ...] = ()
    encrypted_content: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "text")
        check_text(self, "id", "encrypted_content", or_none=True)
        if not isinstance(self.summary, (list, tuple)) or not all(isinstance(text, str) for text in self.summary):
            raise ConfigError("give a Reasoning its summary as a tuple of texts")
        object.__setattr__(self, "summary", tuple(self.summary))

    def to_dict(self) -> dict[str, Any]:
        summary = [tagged("summary_text", text=text) for text in self.summary]
        content = [tagged("reasoning_text", text=self.text)] if self.text else None
        sealed = self.encrypted_content
        return tagged("reasoning", id=self.id, summary=summary, content=content, encrypted_content=sealed)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reasoning:
        text = "".join(need(part, "text") for part in data.get("content") or ())
        summary = tuple(need(part, "text") for part in data.get("summary") or ())
        return cls(text, data.get("id"), summary, data.get("encrypted_content"))


ResponseItem = Union[Message, FunctionCall, FunctionCallOutput, LocalShellCall, Reasoning, Other]

_ITEMS: dict[str, Callable[[Mapping[str, Any]], ResponseItem]] = {
    "message": Message.from_dict,
    "function_call": FunctionCall.from_dict,
    "function_call_output": FunctionCallOutput.from_dict,
    "local_shell_call": LocalShellCall.from_dict,
    "reasoning": Reasoning.from_dict,
}


def item_from_dict(data: Mapping[str, Any]) -> ResponseItem:
    """The item that ``data``, in the tagged form, stands for; `Other` when its type is unknown here."""
    return _ITEMS.get(str(need(data, "type")), Other.from_dict)(data)
