"""One JSON object → the chunk that it spells; how servers differ in that is known here and in `fields` alone.

Rules:
- Only the shape of a chunk decides how it is read, never the name of the server that sent it.
- Each quirk is one line that names the server where it was seen; a recording in the tests proves it.
- Nothing is invented: what a server did not send is None or empty.
"""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

from ..types.events import FinishKind
from ..types.text import all_without_surrogates
from .chunk import CallDelta, ChoiceDelta, Chunk
from .error_body import sentence_of, stream_error
from .fields import (
    REASONING_KEYS,
    Content,
    details_of,
    extra_of,
    merge,
    read_content,
    reasoning_of,
    text_of_details,
)
from .lenient import dict_or_empty, str_or_empty, str_or_none

FAST_BODY_KEYS = frozenset(("id", "object", "created", "model", "choices", "usage", "system_fingerprint")).union(
    ("service_tier", "obfuscation", "provider", "p")  # OpenRouter's upstream, Mistral's padding
)
FAST_CHOICE_KEYS = frozenset(("index", "delta", "finish_reason", "logprobs", "native_finish_reason"))
FAST_DELTA_KEYS = frozenset(("content", "role", "reasoning_content", "tool_calls"))
READ_BODY_KEYS = FAST_BODY_KEYS | {"error", "x_groq", "base_resp", "detail", "message"}
READ_CHOICE_KEYS = FAST_CHOICE_KEYS - {"logprobs"} | {"message", "error", "usage"}
READ_DELTA_KEYS = FAST_DELTA_KEYS | {"function_call", "refusal", "reasoning_details", "images", *REASONING_KEYS}
READ_CALL_TYPES = (None, "", "function", "custom")
READ_CALL_KEYS = frozenset(("index", "id", "type", "function", "custom"))
READ_FUNCTION_KEYS = frozenset(("name", "arguments", "input"))
FINISH_REASONS: dict[FinishKind, tuple[str, ...]] = {  # in lower case; servers use any
    # Together and TGI: eos, eos_token; Cohere: complete; Anthropic behind gateways: end_turn, stop_sequence
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete"),
    # Anthropic, Gemini, OpenAI's Responses form, Mistral, Z.ai
    "length": ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"),
    "tool_calls": ("tool_calls", "tool_use", "function_call"),  # the last one: OpenAI, before tools
    "content_filter": (
        *("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"),  # Gemini
        *("image_safety", "language"),  # Gemini
        *("sensitive", "guardrail_intervened", "content_filtered"),  # Z.ai; Bedrock
        *("refusal", "error_toxic"),  # Anthropic; Cohere
    ),
    "error": (
        *("error", "abort", "network_error", "insufficient_system_resource"),  # OpenRouter; vLLM; Z.ai; DeepSeek
        *("malformed_function_call", "unexpected_tool_call"),  # Gemini
        *("user_cancel", "cancelled", "timeout"),  # Cohere; gateways
    ),
}

_extra = attrgetter("extra")
_KIND_OF = {reason: kind for kind, reasons in FINISH_REASONS.items() for reason in reasons}


def read_fast(body: dict[str, Any]) -> Chunk | None:
    """The commonest chunks, read the short way: one choice goes on, and `read_any` would find nothing else."""
    try:
        (choice,) = body["choices"]
        delta, index = choice["delta"], choice["index"]
        if choice.get("finish_reason") or choice.get("logprobs") or body.get("usage") or index.__class__ is not int:
            return None
        if not (
            FAST_BODY_KEYS.issuperset(body)
            and FAST_CHOICE_KEYS.issuperset(choice)
            and FAST_DELTA_KEYS.issuperset(delta)
        ):
            return None
        text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or ""
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if text.__class__ is not str or reasoning.__class__ is not str:
        return None
    calls = _calls(delta["tool_calls"]) if "tool_calls" in delta else ()
    if any(map(_extra, calls)):
        return None  # what is kept of them is counted
    added = ChoiceDelta(index, text, reasoning, "", calls)
    text_only = bool(text) and not (reasoning or calls)
    return Chunk((added,), str_or_none(body.get("id")), str_or_none(body.get("model")), text_only, True)


def read_any(body: dict[str, Any]) -> Chunk:
    """The chunk that one JSON object spells, in whatever spelling."""
    choices = body.get("choices")
    choices = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    error = stream_error(body, choices)
    usage = {**dict_or_empty(dict_or_empty(body.get("x_groq")).get("usage"))}  # Groq, before it had usage chunks
    for choice in choices:  # Moonshot: inside the choice
        merge(usage, dict_or_empty(choice.get("usage")))
    merge(usage, dict_or_empty(body.get("usage")))
    deltas = tuple([_choice(choice) for choice in choices])
    return Chunk(
        deltas,
        str_or_none(body.get("id")),
        str_or_none(body.get("model")),
        usage=usage or None,
        error=error,
        extra=extra_of(body, READ_BODY_KEYS),
        note="" if choices or error else sentence_of(body),
    )


def _choice(choice: dict[str, Any]) -> ChoiceDelta:
    # Azure sends a null delta, or none; some servers, and an answer that was not streamed, have a message instead
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else dict_or_empty(choice.get("message"))
    content, images = delta.get("content"), delta.get("images")
    read = Content(content) if isinstance(content, str) and not images else read_content(content, images)
    calls = delta.get("tool_calls") or _legacy_call(delta.get("function_call"))
    index = choice.get("index")
    reason = str_or_none(choice.get("finish_reason"))
    return ChoiceDelta(
        index if index.__class__ is int else 0,
        read.text,
        reasoning_of(delta) or read.reasoning or text_of_details(delta),
        str_or_empty(delta.get("refusal")) + read.refusal,
        _calls(calls),
        reason,
        _KIND_OF.get(reason.lower(), "other") if reason else None,
        {**extra_of(choice, READ_CHOICE_KEYS), **extra_of(delta, READ_DELTA_KEYS)} or None,
        read.parts,
        details_of(delta),
    )


def _calls(calls: Any) -> tuple[CallDelta, ...]:
    return tuple([_call(call) for call in calls if call.__class__ is dict]) if calls.__class__ is list else ()


def _call(call: dict[str, Any]) -> CallDelta:
    kind = call.get("type")
    custom = kind == "custom" or "custom" in call
    key = "custom" if custom else "function"
    function = dict_or_empty(call.get(key))
    index = call.get("index")
    arguments = function.get("arguments", function.get("input"))
    if arguments.__class__ is not str:  # vLLM, Writer: null; Ollama's own clients: an object
        arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    is_read = READ_CALL_KEYS.issuperset(call) and READ_FUNCTION_KEYS.issuperset(function) and kind in READ_CALL_TYPES
    return CallDelta(
        index if index.__class__ is int else None,
        str_or_none(call.get("id")),
        str_or_none(function.get("name")),
        arguments,
        custom,
        None if is_read else _call_extra(call, key),
    )


def _call_extra(call: dict[str, Any], key: str) -> dict[str, Any]:
    """The keys of a call and of its function that are not read, to be sent back with it."""
    inner = {name: each for name, each in dict_or_empty(call.get(key)).items() if name not in READ_FUNCTION_KEYS}
    outer = {name: each for name, each in call.items() if name not in READ_CALL_KEYS}
    if call.get("type") not in READ_CALL_TYPES:  # Moonshot: builtin_function
        outer["type"] = call["type"]
    extra: dict[str, Any] = all_without_surrogates({**outer, key: inner} if inner else outer)
    return extra


def _legacy_call(function: Any) -> list[dict[str, Any]]:
    """OpenAI, before tools: one call, and no id."""
    return [{"index": 0, "function": function}] if isinstance(function, dict) else []
