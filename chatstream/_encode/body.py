"""Prompt and fields → the body of a request; the only folder that spells its keys.

Rules:
- Fields are passed through untouched; only those that this library writes itself are refused.
- What can't be written as strict JSON is a `ConfigError` that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..types.prompt import Prompt, PromptLike, as_list
from ..types.tools import AnyTool
from .messages import messages_of


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
    """The body of a streaming Chat Completions request, for `encode_json`; ConfigError if it can't be right.

    ``fields`` are passed on untouched. ``echo_reasoning`` names the field of an assistant message in which this
    server wants its reasoning back; ``stream_usage`` asks for token counts; ``other_tools`` lets tools pass that are
    not functions; without ``developer_role`` such messages are sent as ``system``.
    """
    given = Prompt.of(prompt)
    whole = Prompt(given.instructions, given.input, given.tools)  # its attributes may have been set since
    body = {"model": _model(model), "messages": messages_of(whole, echo_reasoning, developer_role), "stream": True}
    if tools := _tools(whole.tools, fields, other_tools):
        body["tools"] = tools
    if stream_usage:
        body["stream_options"] = {"include_usage": True}
    body.update({name: value for name, value in _checked(fields).items() if name != "tools"})
    return body


def encode_json(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises ConfigError that names the field which can't be written so."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        at_fault = next((name for name, value in body.items() if not _is_json(value)), "the request")
        raise ConfigError(f"{at_fault} can't be written as JSON: {error}") from error


def _tools(tools: list[AnyTool], fields: Mapping[str, Any], other_tools: bool) -> list[dict[str, Any]]:
    others = as_list(fields.get("tools") or (), "tools")
    if tools and others:
        raise ConfigError("give tools in the prompt or as tools=…, not in both")
    if not (tools or others):
        return []
    from .tools import chat_tools  # reads signatures, which takes `inspect`

    return chat_tools(tools or others, other_tools)


def _model(model: object) -> str:
    if not isinstance(model, str) or not model.strip():
        raise ConfigError('name a model: stream(prompt, model="…"), Client(model="…"), or -m on the command line')
    return model


def _checked(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if "messages" in fields:
        raise ConfigError("messages is written from the prompt: give the list of messages as the prompt")
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
