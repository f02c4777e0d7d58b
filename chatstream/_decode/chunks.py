"""Payloads → chunks: JSON, and how every server spells a chunk, which nothing after this module needs to know.

Rules:
- Only the shape of a chunk decides how it is read, never the name of the server that sent it.
- Each quirk is one line that names the server where it was seen; a recording in the tests proves it.
- Nothing is invented: what a server did not send is None or empty.
- Nothing is lost: what is not read here is in ``extra`` if it is an object or a list, and in ``raw`` in any case.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ProtocolViolation, excerpt
from ..types.events import FinishKind
from .chunk import DONE_WORDS, CallDelta, ChoiceDelta, Chunk, Payload
from .error_body import choice_error, error_detail, make_detail, stream_error
from .fastpath import FastPath
from .fields import REASONING_KEYS, extra_of, reasoning_of, text_of_parts, usage_of
from .lenient import dict_or_empty, load, only_object, str_or_empty, str_or_none

FAST_BODY_KEYS = frozenset(("id", "object", "created", "model", "choices", "usage", "system_fingerprint")).union(
    ("service_tier", "obfuscation", "provider", "p")  # OpenRouter's upstream, Mistral's padding
)
FAST_CHOICE_KEYS = frozenset(("index", "delta", "finish_reason", "logprobs", "native_finish_reason"))
FAST_DELTA_KEYS = frozenset(("content", "role", "reasoning_content", "tool_calls"))
READ_BODY_KEYS = FAST_BODY_KEYS | {"error", "x_groq", "base_resp", "detail", "message"}
READ_CHOICE_KEYS = FAST_CHOICE_KEYS - {"logprobs"} | {"message", "error", "usage"}
READ_DELTA_KEYS = FAST_DELTA_KEYS | {"function_call", "refusal", *REASONING_KEYS}
FINISH_REASONS: dict[FinishKind, tuple[str, ...]] = {
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "end_turn"),  # Together, TGI, Anthropic behind gateways
    "length": ("length", "max_tokens", "model_length", "max_output_tokens"),  # Gemini, Mistral, OpenRouter
    "tool_calls": ("tool_calls", "tool_use", "function_call"),  # the last one: OpenAI, before tools
    "content_filter": ("content_filter", "safety", "recitation"),  # Gemini
    "error": ("error", "insufficient_system_resource"),  # OpenRouter, DeepSeek
}

_KIND_OF = {reason: kind for kind, reasons in FINISH_REASONS.items() for reason in reasons}
_DONE = Chunk(done=True)


class ChunkReader:
    """Reads chunks out of payloads. ``seen`` counts the payloads, ``skipped`` those that were no JSON, where skipping
    them is allowed."""

    __slots__ = ("_fast_path", "_newest", "_skip_undecodable", "seen", "skipped")

    def __init__(self, skip_undecodable: bool = False) -> None:
        self.seen = 0
        self.skipped = 0
        self._skip_undecodable = skip_undecodable
        self._newest = ""
        self._fast_path = FastPath(_read)

    @property
    def raw(self) -> dict[str, Any] | None:
        """The JSON object of the newest chunk, decoded when it is asked for; None if there was none."""
        try:
            return only_object(load(self._newest.strip()))
        except (ValueError, RecursionError):
            return None

    def read(self, payloads: Iterable[Payload]) -> Iterator[Chunk]:
        """The chunks of ``payloads``, as they are asked for. Raises `ProtocolViolation` for what is no chunk."""
        return filter(None, map(self._chunk, payloads))

    def _chunk(self, payload: Payload) -> Chunk | None:
        self.seen += 1
        data = payload.data
        if payload.event != "message":
            chunk = _named(payload)
        elif data.startswith("{"):
            chunk = self._fast_path.chunk(data) or self._object(data)
        else:
            chunk = self._word(data.strip())
        if chunk is not None:
            self._newest = data
        return chunk

    def _object(self, data: str) -> Chunk | None:
        try:
            chunk = _read(data)
            self._fast_path.observe(data, chunk)
            return chunk
        except (ValueError, RecursionError) as error:
            self._undecodable(data, str(error))
            return None

    def _word(self, data: str) -> Chunk | None:
        if data in DONE_WORDS:
            return _DONE
        if not data:
            return None
        if data.startswith("{"):  # after blanks
            return self._object(data)
        if data.startswith("["):  # Gemini: an error comes as a list of one
            try:
                if body := only_object(load(data)):
                    return _read_any(body)
            except (ValueError, RecursionError):
                pass
        self._undecodable(data, "not a JSON object")
        return None

    def _undecodable(self, data: str, reason: str) -> None:
        if not self._skip_undecodable:
            raise ProtocolViolation(f"an event is not a chunk ({reason}): {excerpt(data)!r}")
        self.skipped += 1


def _named(payload: Payload) -> Chunk | None:
    """The chunk of a named event: errors count (Groq), pings and all others do not."""
    if payload.event != "error":
        return None
    try:
        body = json.loads(payload.data)
    except (ValueError, RecursionError):
        body = payload.data
    return Chunk(error=error_detail(body) or make_detail(excerpt(payload.data)))


def _read(data: str) -> Chunk:
    body = load(data)
    return _read_fast(body) or _read_any(body)


def _read_fast(body: dict[str, Any]) -> Chunk | None:
    """The commonest chunks, read the short way: one choice goes on, and `_read_any` would find nothing else."""
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
    added = ChoiceDelta(index, text, reasoning, "", calls)
    text_only = bool(text) and not (reasoning or calls)
    return Chunk((added,), str_or_none(body.get("id")), str_or_none(body.get("model")), text_only)


def _calls(calls: Any) -> tuple[CallDelta, ...]:
    return tuple([_call(call) for call in calls if call.__class__ is dict]) if calls.__class__ is list else ()


def _read_any(body: dict[str, Any]) -> Chunk:
    """The chunk that one JSON object spells, in whatever spelling."""
    choices = body.get("choices")
    error = stream_error(body) if not choices or "error" in body else None
    usage = body.get("usage")
    if usage is None and "x_groq" in body:  # Groq, before it had usage chunks
        usage = dict_or_empty(body["x_groq"]).get("usage")
    choices = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    deltas = tuple([_choice(choice) for choice in choices])
    if [delta for delta in deltas if delta.finish_reason]:
        error = error or choice_error(choices)
        usage = usage or choices[0].get("usage")  # Moonshot: inside the choice
    return Chunk(
        deltas,
        str_or_none(body.get("id")),
        str_or_none(body.get("model")),
        usage=usage_of(usage) if usage else None,
        error=error,
        extra=extra_of(body, READ_BODY_KEYS),
        done=bool(deltas) and not [c for c in choices if "message" not in c or "delta" in c],
    )


def _choice(choice: dict[str, Any]) -> ChoiceDelta:
    # Azure sends a null delta, or none; an answer that was not streamed has a message instead
    delta = dict_or_empty(choice.get("delta") if "delta" in choice else choice.get("message"))
    text = delta.get("content")
    reasoning = ""
    if not isinstance(text, str):
        text, reasoning = text_of_parts(text)
    calls = delta.get("tool_calls") or _legacy_call(delta.get("function_call"))
    index = choice.get("index")
    reason = str_or_none(choice.get("finish_reason"))
    return ChoiceDelta(
        index if index.__class__ is int else 0,
        text,
        reasoning_of(delta) or reasoning,
        str_or_empty(delta.get("refusal")),
        _calls(calls),
        reason,
        _KIND_OF.get(reason.lower(), "other") if reason else None,
        {**extra_of(choice, READ_CHOICE_KEYS), **extra_of(delta, READ_DELTA_KEYS)} or None,
    )


def _call(call: dict[str, Any]) -> CallDelta:
    function = dict_or_empty(call.get("function") or call.get("custom"))
    index = call.get("index")
    arguments = function.get("arguments", function.get("input"))
    if arguments.__class__ is not str:  # vLLM, Writer: null; Ollama's own clients: an object
        arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return CallDelta(
        index if index.__class__ is int else None,
        str_or_none(call.get("id")),
        str_or_none(function.get("name")),
        arguments,
    )


def _legacy_call(function: Any) -> list[dict[str, Any]]:
    """OpenAI, before tools: one call, and no id."""
    return [{"index": 0, "function": function}] if isinstance(function, dict) else []
