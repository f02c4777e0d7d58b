"""The items of a conversation: messages, calls of tools and their outputs, and reasoning.

    ResponseItem = Message | FunctionCall | FunctionCallOutput | CustomToolCall | CustomToolCallOutput
                 | LocalShellCall | Reasoning | Other

Rules:
- As with parts, ``from_dict(item.to_dict())`` equals ``item``, and an item of an unknown type becomes `Other`.
- Creating an item that can't be sent raises `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from .._dataclass import frozen
from .._missing import explain_missing
from .._runtime.imports import imports
from ..errors import ConfigError
from .parts import Content, ContentPart, InputText, Other, OutputText, as_output, as_parts, text_of
from .tagged import check_dict, check_text, require_key, required, tagged, tuple_of
from .text import clean_json


@frozen
class Message:
    """A message: ``role`` is ``user``, ``assistant``, ``system`` or ``developer``.

    ``content`` is a str or a list of parts, and is stored as a tuple of parts. Each part is an object such as
    `InputImage`, a str, or a dict with a ``type``. Raises `ConfigError` for another type, and for the roles
    ``tool`` and ``function``.
    """

    role: str
    content: tuple[ContentPart, ...]

    # Written by hand, so that a type checker knows the type of the parameter, which differs from that of the field.
    def __init__(self, role: str, content: Content) -> None:
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "content", as_parts(content, OutputText if role == "assistant" else InputText))
        check_text(self, "role")
        if role in ("tool", "function"):
            raise ConfigError(f'a Message can\'t have the role "{role}": use FunctionCallOutput(call_id, output)')

    @property
    def text(self) -> str:
        """The joined text parts, without refusals, images and other parts."""
        return "".join(map(text_of, self.content))

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        return tagged("message", role=self.role, content=[part.to_dict() for part in self.content])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("message", data, "role", "content"))


@frozen
class FunctionCall:
    """The model's request to call a function.

    ``arguments`` is JSON text, exactly as the model wrote it (see `parsed`). ``call_id`` connects the call with its
    `FunctionCallOutput`. ``status`` is ``completed``, or ``incomplete`` if the arguments are cut off or not JSON.
    ``extra`` contains other keys of the call, such as a signature; they are sent back to the server with the call.
    """

    name: str
    arguments: str
    call_id: str
    status: str = "completed"
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.arguments, (dict, list)):
            raise ConfigError("FunctionCall.arguments must be JSON text: use json.dumps(arguments)")
        check_text(self, "name", "arguments", "call_id", "status")
        check_dict(self, "extra")

    def parsed(self) -> Any:
        """The value of the arguments, ``{}`` if they are empty. Raises ValueError if they are not strict JSON."""
        try:
            return clean_json(self.arguments.strip() or "{}")
        except ValueError as error:
            raise ValueError(f"the arguments of {self.name} ({self.call_id}) are not complete JSON: {error}") from error

    def output(self, value: Any) -> FunctionCallOutput:
        """The output of this call, to append to the conversation.

        ``value`` is a str, a content part, or a list that contains content parts. Other values are converted to JSON:
        those that `json` accepts, dataclasses, pydantic models, enums, dates and times, ``UUID``, ``Decimal`` and
        paths. Raises `ConfigError` for anything else.
        """
        with imports():
            from .output import output_content
        return FunctionCallOutput(self.call_id, output_content(value, f"the output of {self.name}"))

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        own = {"name": self.name, "arguments": self.arguments, "call_id": self.call_id, "status": self.status}
        return tagged("function_call", **own, extra=self.extra or None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionCall:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        name, arguments, call_id = required("function_call", data, "name", "arguments", "call_id")
        return cls(name, arguments, call_id, data.get("status") or "completed", data.get("extra") or {})


explain_missing(FunctionCall, {"function": "use call.name and call.arguments", "id": "use call.call_id"})


@frozen
class FunctionCallOutput:
    """The result of a function call: a str or a list of parts, for the call with the same ``call_id``."""

    call_id: str
    output: str | tuple[ContentPart, ...]

    def __init__(self, call_id: str, output: Content) -> None:
        object.__setattr__(self, "call_id", call_id)
        object.__setattr__(self, "output", as_output(output))
        check_text(self, "call_id")

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        output = self.output if isinstance(self.output, str) else [part.to_dict() for part in self.output]
        return tagged("function_call_output", call_id=self.call_id, output=output)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionCallOutput:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("function_call_output", data, "call_id", "output"))


@frozen
class CustomToolCall:
    """The model's call of a custom tool: ``input`` is free text, not JSON. Otherwise like `FunctionCall`."""

    name: str
    input: str
    call_id: str
    status: str = "completed"
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_text(self, "name", "input", "call_id", "status")
        check_dict(self, "extra")

    def output(self, value: Any) -> CustomToolCallOutput:
        """The output of this call, to append to the conversation. ``value`` is as in `FunctionCall.output`."""
        with imports():
            from .output import output_content
        return CustomToolCallOutput(self.call_id, output_content(value, f"the output of {self.name}"))

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        own = {"name": self.name, "input": self.input, "call_id": self.call_id, "status": self.status}
        return tagged("custom_tool_call", **own, extra=self.extra or None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CustomToolCall:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        name, input, call_id = required("custom_tool_call", data, "name", "input", "call_id")
        return cls(name, input, call_id, data.get("status") or "completed", data.get("extra") or {})


@frozen
class CustomToolCallOutput:
    """The result of a custom tool's call: a str or a list of parts, for the call with the same ``call_id``."""

    call_id: str
    output: str | tuple[ContentPart, ...]

    def __init__(self, call_id: str, output: Content) -> None:
        object.__setattr__(self, "call_id", call_id)
        object.__setattr__(self, "output", as_output(output))
        check_text(self, "call_id")

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        output = self.output if isinstance(self.output, str) else [part.to_dict() for part in self.output]
        return tagged("custom_tool_call_output", call_id=self.call_id, output=output)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CustomToolCallOutput:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("custom_tool_call_output", data, "call_id", "output"))


@frozen
class LocalShellCall:
    """The model's request to run a command on this machine; ``action`` describes the command.

    Its `FunctionCallOutput` has the same ``call_id``, or the ``id`` if ``call_id`` is None.
    """

    id: str | None
    call_id: str | None
    status: str
    action: dict[str, Any]

    def __post_init__(self) -> None:
        check_text(self, "id", "call_id", or_none=True)
        check_text(self, "status")
        if not isinstance(self.action, dict):
            raise ConfigError(f"LocalShellCall.action must be a dict, not {type(self.action).__name__}")
        if not (self.call_id or self.id):
            raise ConfigError("a LocalShellCall needs call_id or id")

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        return tagged("local_shell_call", id=self.id, call_id=self.call_id, status=self.status, action=self.action)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LocalShellCall:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        status, action = required("local_shell_call", data, "status", "action")
        return cls(data.get("id"), data.get("call_id"), status, action)


@frozen
class Reasoning:
    """The model's reasoning: ``text`` in full, a ``summary``, or ``encrypted_content`` that only the server can read.

    ``details`` are the entries of the server's ``reasoning_details``, unchanged: some servers want them back.
    """

    text: str = ""
    id: str | None = None
    summary: tuple[str, ...] = ()
    encrypted_content: str | None = None
    details: tuple[dict[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        check_text(self, "text")
        check_text(self, "id", "encrypted_content", or_none=True)
        if not isinstance(self.summary, (list, tuple)) or not all(isinstance(text, str) for text in self.summary):
            raise ConfigError(f"Reasoning.summary must be a tuple of str, not {self.summary!r:.80}")
        if not isinstance(self.details, (list, tuple)) or not all(isinstance(each, dict) for each in self.details):
            raise ConfigError(f"Reasoning.details must be a tuple of dicts, not {self.details!r:.80}")
        object.__setattr__(self, "summary", tuple(self.summary))
        object.__setattr__(self, "details", tuple(self.details))

    def to_dict(self) -> dict[str, Any]:
        """The item as a dict with a ``type`` key, ready for JSON."""
        summary = [tagged("summary_text", text=text) for text in self.summary]
        content = [tagged("reasoning_text", text=self.text)] if self.text else None
        return tagged(
            "reasoning",
            id=self.id,
            summary=summary,
            content=content,
            encrypted_content=self.encrypted_content,
            details=list(self.details) or None,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reasoning:
        """The item from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        required("reasoning", data)
        texts, summary = (_texts(data.get(key) or ()) for key in ("content", "summary"))
        return cls("".join(texts), data.get("id"), summary, data.get("encrypted_content"), data.get("details") or ())


_texts = tuple_of(lambda part: require_key(part, "text"))

ResponseItem = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | LocalShellCall
    | Reasoning
    | Other
)

_ITEMS: dict[str, Callable[[Mapping[str, Any]], ResponseItem]] = {
    "message": Message.from_dict,
    "function_call": FunctionCall.from_dict,
    "function_call_output": FunctionCallOutput.from_dict,
    "custom_tool_call": CustomToolCall.from_dict,
    "custom_tool_call_output": CustomToolCallOutput.from_dict,
    "local_shell_call": LocalShellCall.from_dict,
    "reasoning": Reasoning.from_dict,
}


def item_from_dict(data: Mapping[str, Any]) -> ResponseItem:
    """The item from its dict; an `Other` if the type is unknown.

    Raises `ConfigError` if a key is missing or a value has a wrong type.
    """
    return _ITEMS.get(str(require_key(data, "type")), Other.from_dict)(data)
