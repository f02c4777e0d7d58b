"""A `Prompt` → the ``messages`` of a request.

    instructions ──▶ {"role": "system"}                    the first message, if there are instructions
    Message ───────▶ {"role": …, "content": …}             text as a str; with images, audio or files as a list
    FunctionCall ──▶ {"role": "assistant", "tool_calls"}   one message for consecutive calls and the text before them
    …CallOutput ───▶ {"role": "tool", "tool_call_id"}
    Reasoning ─────▶ left out, or a key of the assistant message that follows
    message dict ──▶ itself

Rules:
- A Chat Completions message dict is sent unchanged, with all its keys.
- A call without an output, or an output without a call before it, raises `ConfigError` before anything is sent.
- The prompt is read and never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..types.items import (
    FunctionCall,
    FunctionCallOutput,
    LocalShellCall,
    Message,
    Reasoning,
    item_from_dict,
)
from ..types.parts import (
    ContentPart,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Other,
    OutputText,
    Refusal,
    part_from_dict,
)
from ..types.prompt import InputItem, Prompt, type_name


def encode_messages(prompt: Prompt, echo_reasoning: str | None, developer_role: bool) -> list[dict[str, Any]]:
    """The messages of a request, with ``echo_reasoning`` and ``developer_role`` as in `request_body`.

    Raises `ConfigError` if the prompt is empty, has an item that can't be sent, or has a call without its output.
    """
    messages = [{"role": "system", "content": prompt.instructions}] if prompt.instructions else []
    reasoning: list[str] = []  # of the items before the next message
    for index, value in enumerate(prompt.input):
        item = _to_item(value, index)
        if isinstance(item, Reasoning):
            reasoning.append(item.text or "\n\n".join(item.summary))
        elif not isinstance(item, Other):
            message = _append(item, messages)
            if echo_reasoning and message["role"] == "assistant":
                _echo(message, echo_reasoning, reasoning)
            reasoning = []
    _check_calls(messages)
    if not messages:
        raise ConfigError("the prompt is empty: give it instructions, or a message to answer")
    if developer_role:
        return messages
    return [{**each, "role": "system"} if each["role"] == "developer" else each for each in messages]


def _to_item(value: object, index: int) -> InputItem:
    """``value`` as an item or a message dict; a dict in the tagged form becomes its item."""
    if isinstance(value, (Message, FunctionCall, FunctionCallOutput, LocalShellCall, Reasoning, Other)):
        return value
    if isinstance(value, Mapping) and "role" in value and value.get("type") != "message":
        return value
    if isinstance(value, Mapping) and "type" in value and value["type"] not in _PART_TYPES:
        return item_from_dict(value)
    hint = "give Message(role, text) or another item, or a message dict with a role"
    raise ConfigError(f"input[{index}] is {type_name(value)}: {hint}")


def _append(item: InputItem, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Append ``item`` to ``messages``, as a message or as a part of the last one, and return this message."""
    match item:
        case FunctionCall() | LocalShellCall():
            return _append_call(item, messages)
        case Message(role, content):
            messages.append({"role": role, "content": _content(content)})
        case FunctionCallOutput(call_id, output):
            messages.append({"role": "tool", "tool_call_id": call_id, "content": _content(output)})
        case _:
            messages.append(_pass_through(item))  # type: ignore[arg-type]  # a Mapping: no class pattern narrows to it
    return messages[-1]


def _append_call(call: FunctionCall | LocalShellCall, messages: list[dict[str, Any]]) -> dict[str, Any]:
    # Consecutive calls and the text before them form one message, because servers answer 400 to two in a row.
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    message = messages[-1]
    message["content"] = message.get("content") or None
    message["tool_calls"] = [*(message.get("tool_calls") or ()), _tool_call(call)]
    return message


def _tool_call(call: FunctionCall | LocalShellCall) -> dict[str, Any]:
    if isinstance(call, LocalShellCall):
        call_id = call.call_id or call.id  # the one that the output refers to
        return {"id": call_id, "type": "local_shell_call", "status": call.status, "action": call.action}
    # llama.cpp parses the arguments for its chat template and fails on an empty string.
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _pass_through(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message dict unchanged, but for content parts in the tagged form, which Chat Completions does not know."""
    role, content, calls = (message.get(key) for key in ("role", "content", "tool_calls"))
    if not isinstance(role, str) or not role.strip():
        raise ConfigError(f'the role of a message must be a str such as "user", not {role!r}')
    if not (content is None or isinstance(content, (str, list, tuple))):
        raise ConfigError(
            f"the content of the {role} message must be a str or a list of parts, not {type_name(content)}"
        )
    if calls and not (isinstance(calls, (list, tuple)) and all(isinstance(call, Mapping) for call in calls)):
        raise ConfigError(f"the tool_calls of the {role} message must be a list of dicts, not {type_name(calls)}")
    if content and not isinstance(content, str):
        return {**message, "content": [_part(part) for part in content]}
    return dict(message)


def _echo(message: dict[str, Any], key: str, reasoning: list[str]) -> None:
    """Put ``reasoning`` into ``message[key]``, after a text that is there already; any other value is kept."""
    present = message.get(key) or ""
    texts = [text for text in (present, *reasoning) if text]
    if texts and isinstance(present, str):
        message[key] = "\n\n".join(texts)


def _check_calls(messages: list[dict[str, Any]]) -> None:
    """Check that each output follows its call and each call has an output; then its id may be used again."""
    unanswered: Counter[str] = Counter()
    for message in messages:
        unanswered.update(str(call.get("id")) for call in message.get("tool_calls") or ())
        if message["role"] == "tool":
            call_id = str(message.get("tool_call_id"))
            if not unanswered[call_id]:
                raise ConfigError(f"the output of call_id {call_id} has no call before it: put the call first")
            unanswered[call_id] -= 1
    for call_id in +unanswered:
        raise ConfigError(
            f"call_id {call_id} has no output: append FunctionCallOutput({call_id!r}, …), or drop the call"
        )


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────

# Part types that Chat Completions does not know. input_audio and refusal are the same in both forms.
_TAGGED_ONLY = ("input_text", "output_text", "input_image", "input_file")
_PART_TYPES = (*_TAGGED_ONLY, "input_audio", "refusal", "text", "image_url", "file")


def _content(content: str | tuple[ContentPart, ...]) -> str | list[Any]:
    """The joined text, or a list of parts if one of them is not text."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    joinable = all(isinstance(part, (InputText, OutputText, Refusal)) for part in content)
    return "".join(part["text"] for part in parts) if joinable else parts


def _part(part: ContentPart | Mapping[str, Any] | str) -> Any:
    if isinstance(part, Mapping):
        return _part(part_from_dict(part)) if part.get("type") in _TAGGED_ONLY else part
    match part:
        case str(text) | InputText(text) | OutputText(text) | Refusal(text):
            return {"type": "text", "text": text}
        case InputImage(url, detail):
            return {"type": "image_url", "image_url": _without_none(url=url, detail=detail)}
        case InputAudio(data, format):
            return {"type": "input_audio", "input_audio": {"data": data, "format": format}}
        case InputFile(file_data, file_id, filename):
            return {"type": "file", "file": _without_none(file_data=file_data, file_id=file_id, filename=filename)}
    return part.raw if isinstance(part, Other) else part


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
