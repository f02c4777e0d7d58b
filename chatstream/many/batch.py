"""OpenAI's batch files: a result ↔ one line of an output file.

    {"custom_id": …, "response": {"status_code": 200, "request_id": …, "body": {…}}, "error": null}

The format is that of https://platform.openai.com/docs/guides/batch: the body is what the server would have answered
without streaming. An error response is kept with its status and body; any other failure has only an ``error``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._decode.aggregate import collect
from .._decode.parser import read_events
from .._encode.messages import encode_call
from ..errors import UnexpectedStatus
from ..types.items import CustomToolCall, FunctionCall, Reasoning
from ..types.parts import OutputImage
from ..types.turn import Turn
from ..types.usage import TokenUsage
from .result import Result

ID = "batch_req_"  # and the hash of the request
CALLS = (FunctionCall, CustomToolCall)
MESSAGE_KEYS = ("annotations", "audio")  # of the other data of an answer, what belongs to its message


def encode_batch(result: Result, request: str) -> dict[str, Any]:
    """The line of a result; ``request`` is the hash of its request."""
    response, error = _response(result), None
    if response is None:
        error = {"code": type(result.error).__name__, "message": str(result.error)}
    return {"custom_id": result.key, "id": ID + request, "response": response, "error": error}


def decode_batch(line: Mapping[str, Any]) -> Result:
    """The result with an answer that `encode_batch` has written."""
    turn = collect(read_events(json.dumps(line["response"]["body"]).encode()))
    return Result(line["custom_id"], turn=turn, resumed=True)


def _response(result: Result) -> dict[str, Any] | None:
    request_id = result.attempts[-1].request_id if result.attempts else None
    if result.turn is not None:
        return {"status_code": 200, "request_id": request_id, "body": completion(result.turn, result.started)}
    if isinstance(result.error, UnexpectedStatus):
        body = _error_body(result.error)
        return {"status_code": result.error.status, "request_id": result.error.request_id, "body": body}
    return None


def _error_body(error: UnexpectedStatus) -> dict[str, Any]:
    """The body of an error response, or one in the form of OpenAI's."""
    try:
        body = json.loads(error.body)
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else {"error": {"message": error.message, "code": error.code}}


def completion(turn: Turn, created: float) -> dict[str, Any]:
    """The answer as a server sends it that does not stream."""
    choices = [_choice(number, choice) for number, choice in enumerate(turn.choices)]
    made = {"id": turn.response_id, "object": "chat.completion", "created": int(created), "model": turn.model}
    return made | {"choices": choices, "usage": _usage(turn.token_usage)}


def _choice(number: int, turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None, "refusal": turn.refusal or None}
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    lists = {
        "reasoning_details": [each for item in turn.items if isinstance(item, Reasoning) for each in item.details],
        "tool_calls": [encode_call(item, False) for item in turn.items if isinstance(item, CALLS)],
        "images": [_image(part) for part in turn._parts() if isinstance(part, OutputImage)],
    }
    message |= {name: values for name, values in lists.items() if values}
    message |= {name: turn.extra[name] for name in MESSAGE_KEYS if name in turn.extra}
    other = {name: value for name, value in turn.extra.items() if name not in MESSAGE_KEYS}
    return {"index": number, "message": message, "finish_reason": turn.finish_reason} | other


def _image(part: OutputImage) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": part.image_url}}


def _usage(usage: TokenUsage | None) -> Mapping[str, Any] | None:
    if usage is None or usage.raw:
        return None if usage is None else usage.raw
    counts = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    return {name: count for name, count in counts.items() if count is not None}
