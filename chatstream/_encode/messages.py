"""Conversation → the ``messages`` of a request.

    instructions ──▶ {"role": "system"}            first, and only if there are any
    Message ───────▶ {"role": …, "content"}        texts joined; with an image, audio or file a content array
    FunctionCall ──▶ {"role": "assistant", "tool_calls"}   one message with the calls and the text just before
    …CallOutput ───▶ {"role": "tool", "tool_call_id"}
    Reasoning ─────▶ left out, or a field of the assistant message that follows
    message dict ──▶ itself

Rules:
- What a person already has works as it is: a Chat Completions message dict goes out as written, key by key.
- Nothing is sent that can't be right: an output without its call, a call without its output.
- The prompt is only read, never changed.
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


def messages_of(prompt: Prompt, echo_reasoning: str | None, developer_role: bool) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": prompt.instructions}] if prompt.instructions else []
    thoughts: list[str] = []
    for index, item in enumerate(prompt.input):
        known = _to_item(item, index)
        if isinstance(known, Reasoning):
            thoughts.append(known.text or "\n\n".join(known.summary))
        elif not isinstance(known, Other):
            message = _append(known, messages)
            if echo_reasoning and message["role"] == "assistant":
                _echo(message, echo_reasoning, thoughts)
            thoughts = []
    _check_calls(messages)
    if not messages:
        raise ConfigError("the prompt is empty: give it instructions, or a message to answer")
    return messages if developer_role else [_without_developer(message) for message in messages]


def _to_item(item: object, index: int) -> InputItem:
    if isinstance(item, (Message, FunctionCall, FunctionCallOutput, LocalShellCall, Reasoning, Other)):
        return item
    if isinstance(item, Mapping) and "role" in item and item.get("type") != "message":
        return item
    if isinstance(item, Mapping) and "type" in item and item["type"] not in _PART_TYPES:
        return item_from_dict(item)
    hint = "give Message(role, text) or another item, or a message dict with a role"
    raise ConfigError(f"input[{index}] is {type_name(item)}: {hint}")


def _append(item: InputItem, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that ``item`` became, or became part of, at the end of ``messages``."""
    match item:
        case FunctionCall() | LocalShellCall():
            return _calling(item, messages)
        case Message(role, content):
            messages.append({"role": role, "content": _content(content)})
        case FunctionCallOutput(call_id, output):
            messages.append({"role": "tool", "tool_call_id": call_id, "content": _content(output)})
        case _:
            messages.append(_pass_through(item))  # type: ignore[arg-type]  # a Mapping: no class pattern narrows to it
    return messages[-1]


def _calling(call: FunctionCall | LocalShellCall, messages: list[dict[str, Any]]) -> dict[str, Any]:
    # Calls made together, and the text said just before, are one message: two in a row are answered with 400.
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    message = messages[-1]
    message["content"] = message.get("content") or None
    message["tool_calls"] = [*(message.get("tool_calls") or ()), _tool_call(call)]
    return message


def _tool_call(call: FunctionCall | LocalShellCall) -> dict[str, Any]:
    if isinstance(call, LocalShellCall):
        call_id = call.call_id or call.id  # one name on the wire: the one its output will refer to
        return {"id": call_id, "type": "local_shell_call", "status": call.status, "action": call.action}
    # llama.cpp parses the arguments for its chat template, and fails on the empty string.
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _pass_through(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message dict as the user wrote it, apart from content parts that only the tagged form knows."""
    role, content, calls = (message.get(key) for key in ("role", "content", "tool_calls"))
    if not isinstance(role, str) or not role.strip():
        raise ConfigError(f'give a message dict its role as text, such as "user", not {role!r}')
    if not (content is None or isinstance(content, (str, list, tuple))):
        raise ConfigError(f"give the {role} message its content as text or a list of parts, not {type_name(content)}")
    if calls and not (isinstance(calls, (list, tuple)) and all(isinstance(call, Mapping) for call in calls)):
        raise ConfigError(f"give the {role} message its tool_calls as a list of dicts, not {type_name(calls)}")
    if content and not isinstance(content, str):
        return {**message, "content": [_part(part) for part in content]}
    return dict(message)


def _echo(message: dict[str, Any], name: str, thoughts: list[str]) -> None:
    own = message.get(name) or ""
    told = [text for text in (own, *thoughts) if text]
    if told and isinstance(own, str):
        message[name] = "\n\n".join(told)


def _without_developer(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _check_calls(messages: list[dict[str, Any]]) -> None:
    """Each output has its call before it, each call its output after it; a call_id may be used again after that."""
    waiting: Counter[str] = Counter()
    for message in messages:
        waiting.update(str(call.get("id")) for call in message.get("tool_calls") or ())
        if message["role"] == "tool":
            call_id = str(message.get("tool_call_id"))
            if not waiting[call_id]:
                raise ConfigError(f"no call waits for the output of call_id {call_id}: put its call before it")
            waiting[call_id] -= 1
    for call_id in +waiting:
        raise ConfigError(
            f"call_id {call_id} has no output: append FunctionCallOutput({call_id!r}, …), or drop the call"
        )


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────

# The part types that Chat Completions does not know; input_audio and refusal read the same in both forms.
_TAGGED_ONLY = ("input_text", "output_text", "input_image", "input_file")
_PART_TYPES = (*_TAGGED_ONLY, "input_audio", "refusal", "text", "image_url", "file")


def _content(content: str | tuple[ContentPart, ...]) -> str | list[Any]:
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
            return {"type": "image_url", "image_url": _given(url=url, detail=detail)}
        case InputAudio(data, format):
            return {"type": "input_audio", "input_audio": {"data": data, "format": format}}
        case InputFile(file_data, file_id, filename):
            return {"type": "file", "file": _given(file_data=file_data, file_id=file_id, filename=filename)}
    return part.raw if isinstance(part, Other) else part


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
