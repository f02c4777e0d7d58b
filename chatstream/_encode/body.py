"""A prompt and request fields → the body of a request, as a dict and as JSON.

Rules:
- Request fields are sent unchanged. ``messages``, ``model`` and ``stream`` are refused, because they are made here.
- A value that is not strict JSON raises `ConfigError` that names its field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..types.prompt import Prompt, PromptLike, as_list
from ..types.tools import AnyTool
from .messages import encode_messages


def request_body(
    prompt: PromptLike,
    *,
    model: str,
    fields: Mapping[str, Any],
    echo_reasoning: str | None = None,
    stream_usage: bool = True,
    other_tools: bool = False,
    developer_role: bool = True,
) -> dict[str, Any]:
    """The body of a streaming Chat Completions request.

    ``fields`` are sent unchanged. ``echo_reasoning``, ``stream_usage``, ``other_tools`` and ``developer_role`` are
    settings of a `Provider`. Raises `ConfigError` for a prompt, a model or a field that can't be sent.
    """
    given = Prompt.of(prompt)
    checked = Prompt(given.instructions, given.input, given.tools)  # checks attributes that were set after creation
    if not isinstance(model, str) or not model.strip():
        raise ConfigError('name a model: stream(prompt, model="…"), Client(model="…"), or -m on the command line')
    body = {"model": model, "messages": encode_messages(checked, echo_reasoning, developer_role), "stream": True}
    if tools := _tools(checked.tools, fields, other_tools):
        body["tools"] = tools
    if stream_usage:
        body["stream_options"] = {"include_usage": True}
    return body | {name: value for name, value in _checked_fields(fields).items() if name != "tools"}


def encode_json(body: Mapping[str, Any]) -> bytes:
    """``body`` as JSON bytes. Raises `ConfigError` that names the field that can't be written as JSON."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        name = next((name for name, value in body.items() if not _is_json(value)), "the request")
        raise ConfigError(f"{name} can't be written as JSON: {error}") from error


def _tools(of_prompt: list[AnyTool], fields: Mapping[str, Any], other_tools: bool) -> list[dict[str, Any]]:
    of_fields = as_list(fields.get("tools") or (), "tools")
    if of_prompt and of_fields:
        raise ConfigError("give tools in the prompt or as tools=…, not in both")
    if not (of_prompt or of_fields):
        return []
    from .tools import encode_tools  # imported on first use, because it imports `inspect`

    return encode_tools(of_prompt or of_fields, other_tools)


def _checked_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if "messages" in fields:
        raise ConfigError("messages can't be a field: give the list of messages as the prompt")
    if "model" in fields:
        raise ConfigError("model is given twice: give it as model=… alone")
    if fields.get("stream", True) is not True:
        raise ConfigError("stream is always true here: leave it out, and take .collect() for the whole answer")
    if isinstance(fields.get("response_format"), type):
        from ..types.schema import response_format

        return {**fields, "response_format": response_format(fields["response_format"])}
    return fields


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
