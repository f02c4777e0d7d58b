"""A prompt and request fields → the body of a request, as a dict and as JSON.

Rules:
- Request fields are sent unchanged. ``messages``, ``model`` and ``stream`` are refused, because they are made here.
- The fields of ``extra_body`` replace all others, but the answer is always streamed.
- A value that is not strict JSON raises `ConfigError` that names its field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any

from .._field_names import ALWAYS_STREAMED
from .._runtime.imports import imports
from ..errors import ConfigError
from ..types.prompt import Prompt, PromptLike, as_list
from ..types.text import has_lone_surrogates
from .messages import encode_messages
from .reasoning import ReasoningEcho

if TYPE_CHECKING:
    from ..types.tools import AnyTool  # reads signatures, which few prompts need


def request_body(
    prompt: PromptLike,
    *,
    model: str,
    fields: Mapping[str, Any],
    extra_body: Mapping[str, Any] = {},
    echo_reasoning: str | None = None,
    echo_reasoning_always: bool = False,
    echo_reasoning_scope: str = "all",
    check_history: bool = True,
    stream_usage: bool = True,
    other_tools: bool = False,
    developer_role: bool = True,
) -> dict[str, Any]:
    """The body of a streaming Chat Completions request.

    ``fields`` are sent unchanged, and ``extra_body`` replaces what it names; all others but ``model`` are settings of a
    `Provider`. Raises `ConfigError` for a prompt, a model or a field that can't be sent.
    """
    given = Prompt.of(prompt)
    if given is prompt:  # checks attributes that were set after creation
        given = Prompt(given.instructions, given.input, given.tools)
    if not isinstance(model, str) or not model.strip():
        raise ConfigError('name a model: stream(prompt, model="…"), Client(model="…"), or -m on the command line')
    echo = ReasoningEcho(echo_reasoning, echo_reasoning_always, echo_reasoning_scope)
    messages = encode_messages(given, echo, check=check_history, developer_role=developer_role)
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if tools := _tools(given.tools, fields, other_tools):
        body["tools"] = tools
    if stream_usage:
        body["stream_options"] = {"include_usage": True}
    _check_stream(extra_body)
    return body | {name: value for name, value in _checked_fields(fields).items() if name != "tools"} | dict(extra_body)


def encode_json(body: Mapping[str, Any]) -> bytes:
    """``body`` as JSON bytes. Raises `ConfigError` that names the field that can't be written as JSON."""
    try:
        data = json.dumps(body, allow_nan=False)
        place = _place_of_surrogate(body, "") if "\\ud" in data else ""  # half of a character, or a whole one
    except (TypeError, ValueError, RecursionError) as error:
        wrong = [name for name, value in body.items() if not _is_json({name: value})]
        if not (wrong or isinstance(error, RecursionError)):
            raise  # a signal handler's
        raise ConfigError(f"{wrong[0] if wrong else 'the request'} can't be written as JSON: {error}") from error
    if place:
        raise ConfigError(f"{place} holds half of a character (a lone surrogate), which no server can read: remove it")
    return data.encode()


def _place_of_surrogate(value: Any, place: str) -> str:
    """Where a text with a lone surrogate stands, such as ``messages[2].content``; empty if there is none."""
    if isinstance(value, str):
        return place.lstrip(".") if has_lone_surrogates(value) else ""
    if not isinstance(value, (Mapping, list, tuple)):
        return ""
    for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
        inner = f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}"
        if isinstance(key, str) and has_lone_surrogates(key):
            return f"the key {key!r}" + (f" of {place.lstrip('.')}" if place else "")
        if found := _place_of_surrogate(child, inner):
            return found
    return ""


def _tools(of_prompt: list[AnyTool], fields: Mapping[str, Any], other_tools: bool) -> list[dict[str, Any]]:
    of_fields = as_list(fields.get("tools") or (), "tools")
    if of_prompt and of_fields:
        raise ConfigError("tools were passed twice: pass them either in the prompt or as tools=…")
    if not (of_prompt or of_fields):
        return []
    with imports():
        from .tools import encode_tools  # imported on first use, because it imports `inspect`

    return encode_tools(of_prompt or of_fields, other_tools)


def _checked_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if "messages" in fields:
        raise ConfigError("messages can't be a field: pass the list of messages as the prompt")
    if "model" in fields:
        raise ConfigError("model is given twice: pass it only as model=…")
    _check_stream(fields)
    if not isinstance(fields.get("response_format"), (Mapping, NoneType)):
        with imports():
            from ..types.structured import response_format

        return {**fields, "response_format": response_format(fields["response_format"])}
    return fields


def _check_stream(fields: Mapping[str, Any]) -> None:
    if fields.get("stream", True) is not True:
        raise ConfigError(ALWAYS_STREAMED)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
