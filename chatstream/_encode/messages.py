"""A `Prompt` → the ``messages`` of a request.

    instructions ──▶ {"role": "system"}                    the first message, if there are instructions
    Message ───────▶ {"role": …, "content": …}             text as a str; with images, audio or files as a list
    …Call ─────────▶ {"role": "assistant", "tool_calls"}   one message for consecutive calls and the text before them
    …CallOutput ───▶ {"role": "tool", "tool_call_id"}
    Reasoning ─────▶ left out, or a key of the assistant message that it belongs to: see `reasoning`
    message dict ──▶ itself

Rules:
- A Chat Completions message dict is sent unchanged, with all its keys.
- What a server put on a call comes back with it: keys that nobody reads here are sent inside the same entry.
- Strict servers parse the arguments of the whole history: those that are no JSON object are sent wrapped in one.
- The prompt is read and never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..types.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    LocalShellCall,
    Message,
    Reasoning,
)
from ..types.media import InputAudio, InputFile, InputImage
from ..types.parts import (
    ContentPart,
    InputText,
    Other,
    OutputImage,
    OutputText,
    Refusal,
    part_from_dict,
)
from ..types.prompt import Prompt, type_name
from ..types.text import has_surrogates, strict_json
from .history import check_history
from .items import TAGGED_ONLY, Item, dumped, read_items
from .reasoning import ReasoningEcho

Call = FunctionCall | CustomToolCall | LocalShellCall
MOST_SHOWN = 60  # characters of a text in a message


def encode_messages(
    prompt: Prompt, echo: ReasoningEcho, *, check: bool = True, developer_role: bool = True
) -> list[dict[str, Any]]:
    """The messages of a request. ``check`` is the provider's ``check_history``.

    Raises `ConfigError` if the prompt has nothing to answer, an item that can't be sent, or a history that servers
    refuse.
    """
    messages = [{"role": "system", "content": prompt.instructions}] if prompt.instructions else []
    for item in read_items(prompt.input):
        if isinstance(item, Reasoning):
            echo.hold(item)
        elif not isinstance(item, Other):
            before = len(messages)
            _append(item, messages, check)
            echo.place(messages, before)
    echo.finish(messages)
    if check:
        check_history(messages)
    if len(messages) <= bool(prompt.instructions):
        raise ConfigError(_nothing_to_answer(prompt.instructions))
    if developer_role:
        return messages
    return [{**each, "role": "system"} if each["role"] == "developer" else each for each in messages]


def _nothing_to_answer(instructions: str | None) -> str:
    if not instructions:
        return 'the prompt is empty: add a message to answer, such as stream("Why?") or Prompt(input="Why?")'
    question = repr(instructions if len(instructions) <= MOST_SHOWN else f"{instructions[:MOST_SHOWN]}…")
    return (
        f"the prompt has instructions, but no message: use Prompt(input={question}) to send them as a question, "
        'or Prompt(instructions, "…") to add one'
    )


def _append(item: Item, messages: list[dict[str, Any]], check: bool) -> None:
    """Append ``item`` to ``messages``, as a message or as a part of the last one."""
    match item:
        case FunctionCall() | CustomToolCall() | LocalShellCall():
            _append_call(item, messages, check)
        case Message(role, content):
            messages.append({"role": role, "content": _content(content)})
        case FunctionCallOutput(call_id, output) | CustomToolCallOutput(call_id, output):
            messages.append({"role": "tool", "tool_call_id": call_id, "content": _content(output)})
        case _:
            messages.append(_pass_through(item))  # type: ignore[arg-type]  # a Mapping: no class pattern narrows to it


def _append_call(call: Call, messages: list[dict[str, Any]], check: bool) -> None:
    # Consecutive calls and the text before them form one message, because servers answer 400 to two in a row.
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    message = messages[-1]
    message["content"] = message.get("content") or None
    message["tool_calls"] = [*(message.get("tool_calls") or ()), encode_call(call, check)]


def encode_call(call: Call, check: bool) -> dict[str, Any]:
    """An entry of ``tool_calls``. With ``check``, its arguments are a JSON object in any case."""
    if isinstance(call, LocalShellCall):
        call_id = call.call_id or call.id  # the one that the output refers to
        return {"id": call_id, "type": "local_shell_call", "status": call.status, "action": call.action}
    if isinstance(call, CustomToolCall):
        kind, own = "custom", {"name": call.name, "input": call.input}
    else:
        kind, own = "function", {"name": call.name, "arguments": _arguments(call) if check else call.arguments}
    inner = call.extra.get(kind)
    entry = {"id": call.call_id, "type": kind, **call.extra}
    return entry | {"id": call.call_id, kind: {**(inner if isinstance(inner, dict) else {}), **own}}


def _arguments(call: FunctionCall) -> str:
    """The arguments as a JSON object in any case; llama.cpp and others parse them for their chat template."""
    if not call.arguments.strip():
        return "{}"
    try:
        value = strict_json(call.arguments)
        if isinstance(value, dict):
            clean = call.parsed()  # a model may have written the escape of half a character
            return call.arguments if value == clean or has_surrogates(call.arguments) else json.dumps(clean)
    except ValueError:
        pass
    return json.dumps({"malformed_arguments": call.arguments}, ensure_ascii=False)


def _pass_through(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message dict unchanged, but for parts as `to_dict` returns them, which Chat Completions does not know."""
    message = {key: dumped(value) for key, value in message.items()}
    role, content, calls = (message.get(key) for key in ("role", "content", "tool_calls"))
    if not isinstance(role, str) or not role.strip():
        raise ConfigError(f'the role of a message must be a str such as "user", not {role!r}')
    if not (content is None or isinstance(content, (str, list, tuple))):
        raise ConfigError(
            f"the content of the {role} message must be a str or a list of parts, not {type_name(content)}"
        )
    if isinstance(calls, (list, tuple)):
        message["tool_calls"] = made = [dumped(call) for call in calls]
        calls = None if all(isinstance(call, Mapping) for call in made) else calls
    if calls:
        raise ConfigError(f"the tool_calls of the {role} message must be a list of dicts, not {type_name(calls)}")
    if content and not isinstance(content, str):
        message["content"] = [_part(dumped(part)) for part in content]
    return message


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _content(content: str | tuple[ContentPart, ...]) -> str | list[Any]:
    """The joined text, or a list of parts if one of them is not text."""
    if isinstance(content, str):
        return content
    if all(isinstance(part, (InputText, OutputText, Refusal)) for part in content):
        return "".join([part.refusal if isinstance(part, Refusal) else part.text for part in content])  # type: ignore[union-attr]
    return [_part(part) for part in content]


def _part(part: ContentPart | Mapping[str, Any] | str) -> Any:
    if isinstance(part, Mapping):
        if part.get("type") == "image_url":
            _check_image(part.get("image_url"))
        return _part(part_from_dict(part)) if part.get("type") in TAGGED_ONLY else part
    match part:
        case str(text) | InputText(text) | OutputText(text) | Refusal(text):
            return {"type": "text", "text": text}
        case OutputImage(url):
            return {"type": "image_url", "image_url": {"url": url}}
        case InputImage(url, detail):
            return {"type": "image_url", "image_url": _without_none(url=url, detail=detail)}
        case InputAudio(data, format):
            return {"type": "input_audio", "input_audio": {"data": data, "format": format}}
        case InputFile(file_data, file_id, filename):
            return {"type": "file", "file": _without_none(file_data=file_data, file_id=file_id, filename=filename)}
    return part.raw if isinstance(part, Other) else part


def _check_image(image: object) -> None:
    url = image.get("url") if isinstance(image, Mapping) else image
    if isinstance(url, str) and not re.match(r"[A-Za-z][\w+.-]+:", url):  # a single letter is a drive of Windows
        place = repr(url if len(url) <= MOST_SHOWN else f"{url[:MOST_SHOWN]}…")
        raise ConfigError(
            f"the image_url {place} is neither a URL nor a data: URL: use https://…, or the image itself as "
            "data:image/png;base64,…"
        )


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
