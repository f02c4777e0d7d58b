"""Payloads → chunks: JSON and every server's spelling of it, gone after this point.

Rules:
- Only the shape of a chunk decides how it is read, never the name of the server that sent it.
- One line per quirk, with the server it was seen at; one recording in the tests proves it.
- Nothing is invented: what a server did not say is None or empty.
- Nothing is lost: what is not read here is in ``extra`` if it is more than a word, and in ``raw`` in any case.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ProtocolViolation, excerpt
from ..types.events import Finish
from .chunk import DONE_WORDS, HEARTBEAT, CallDelta, ChoiceDelta, Chunk, Payload
from .error_body import choice_error, error_detail, make_detail, stream_error
from .fastpath import Template
from .fields import REASONING_KEYS, extra_of, reasoning_of, text_of_parts, usage_of
from .lenient import load, obj, only_object, string, word

PLAIN_BODY_KEYS = frozenset(("id", "object", "created", "model", "choices", "usage", "system_fingerprint")).union(
    ("service_tier", "obfuscation", "provider", "p")  # OpenRouter's upstream, Mistral's padding
)
PLAIN_CHOICE_KEYS = frozenset(("index", "delta", "finish_reason", "logprobs", "native_finish_reason"))
PLAIN_DELTA_KEYS = frozenset(("content", "role", "reasoning_content", "tool_calls"))
READ_BODY_KEYS = PLAIN_BODY_KEYS | {"error", "x_groq", "base_resp", "detail", "message"}
READ_CHOICE_KEYS = PLAIN_CHOICE_KEYS - {"logprobs"} | {"message", "error", "usage"}
READ_DELTA_KEYS = PLAIN_DELTA_KEYS | {"function_call", "refusal", *REASONING_KEYS}
FINISHES: dict[Finish, tuple[str, ...]] = {
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "end_turn"),  # Together, TGI, Anthropic behind gateways
    "length": ("length", "max_tokens", "model_length", "max_output_tokens"),  # Gemini, Mistral, OpenRouter
    "tool_calls": ("tool_calls", "tool_use", "function_call"),  # the last one: OpenAI, before tools
    "content_filter": ("content_filter", "safety", "recitation"),  # Gemini
    "error": ("error", "insufficient_system_resource"),  # OpenRouter, DeepSeek
}

_MEANING = {word: finish for finish, words in FINISHES.items() for word in words}
_DONE = Chunk(done=True)
_HEARTBEAT = Chunk(heartbeat=True)


class ChunkReader:
    """Reads chunks out of payloads. ``seen`` counts these, heartbeats aside; ``skipped`` those that were no JSON, when
    skipping them was asked for."""

    __slots__ = ("_newest", "_payloads", "_skip_undecodable", "_template", "seen", "skipped")

    def __init__(self, payloads: Iterable[Payload], skip_undecodable: bool = False) -> None:
        self.seen = 0
        self.skipped = 0
        self._payloads = payloads
        self._skip_undecodable = skip_undecodable
        self._newest = ""
        self._template = Template(_read)

    @property
    def raw(self) -> dict[str, Any] | None:
        """The JSON object behind the newest chunk, decoded when it is asked for; None if there was none."""
        try:
            return only_object(load(self._newest.strip()))
        except (ValueError, RecursionError):
            return None

    def __iter__(self) -> Iterator[Chunk]:
        return filter(None, map(self._chunk, self._payloads))

    def _chunk(self, payload: Payload) -> Chunk | None:
        if payload.event == HEARTBEAT:
            return _HEARTBEAT
        self.seen += 1
        data = payload.data
        if payload.event != "message":
            chunk = _named(payload)
        elif data.startswith("{"):
            chunk = self._template.chunk(data) or self._object(data)
        else:
            chunk = self._word(data.strip())
        if chunk is not None:
            self._newest = data
        return chunk

    def _object(self, data: str) -> Chunk | None:
        try:
            chunk = _read(data)
            self._template.learn(data, chunk)
            return chunk
        except (ValueError, RecursionError) as error:
            self._undecodable(data, str(error))
            return None

    def _word(self, data: str) -> Chunk | None:
        if data in DONE_WORDS:
            return _DONE
        if not data:
            return None
        if data.startswith("{"):  # behind blanks
            return self._object(data)
        if data.startswith("["):  # Gemini: an error comes as a list of one
            try:
                if body := only_object(load(data)):
                    return _any(body)
            except (ValueError, RecursionError):
                pass
        self._undecodable(data, "not a JSON object")
        return None

    def _undecodable(self, data: str, reason: str) -> None:
        if not self._skip_undecodable:
            raise ProtocolViolation(f"an event is not a chunk ({reason}): {excerpt(data)!r}")
        self.skipped += 1


def _named(payload: Payload) -> Chunk | None:
    """Named events: errors (Groq) count, pings and whatever else do not."""
    if payload.event != "error":
        return None
    try:
        body = json.loads(payload.data)
    except (ValueError, RecursionError):
        body = payload.data
    return Chunk(error=error_detail(body) or make_detail(excerpt(payload.data)))


def _read(data: str) -> Chunk:
    body = load(data)
    return _plain(body) or _any(body)


def _plain(body: dict[str, Any]) -> Chunk | None:
    """The commonest chunks, read the short way: one choice goes on, and nothing that `_any` would find besides."""
    try:
        (choice,) = body["choices"]
        delta, index = choice["delta"], choice["index"]
        if choice.get("finish_reason") or choice.get("logprobs") or body.get("usage") or index.__class__ is not int:
            return None
        if not (
            PLAIN_BODY_KEYS.issuperset(body)
            and PLAIN_CHOICE_KEYS.issuperset(choice)
            and PLAIN_DELTA_KEYS.issuperset(delta)
        ):
            return None
        text, thought = delta.get("content") or "", delta.get("reasoning_content") or ""
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if text.__class__ is not str or thought.__class__ is not str:
        return None
    calls = _calls(delta["tool_calls"]) if "tool_calls" in delta else ()
    added = ChoiceDelta(index, text, thought, "", calls)
    plain = bool(text) and not (thought or calls)
    return Chunk((added,), word(body.get("id")), word(body.get("model")), plain)


def _calls(calls: Any) -> tuple[CallDelta, ...]:
    return tuple([_call(call) for call in calls if call.__class__ is dict]) if calls.__class__ is list else ()


def _any(body: dict[str, Any]) -> Chunk:
    """The chunk that one JSON object spells, in whatever spelling."""
    choices = body.get("choices")
    error = stream_error(body) if not choices or "error" in body else None
    usage = body.get("usage")
    if usage is None and "x_groq" in body:  # Groq, before it had usage chunks
        usage = obj(body["x_groq"]).get("usage")
    choices = [choice for choice in choices if choice.__class__ is dict] if isinstance(choices, list) else []
    deltas = tuple([_choice(choice) for choice in choices])
    if [delta for delta in deltas if delta.finish_reason]:
        error = error or choice_error(choices)
        usage = usage or choices[0].get("usage")  # Moonshot: inside the choice
    return Chunk(
        deltas,
        word(body.get("id")),
        word(body.get("model")),
        usage=usage_of(usage) if usage else None,
        error=error,
        extra=extra_of(body, READ_BODY_KEYS),
        done=bool(deltas) and not [c for c in choices if "message" not in c or "delta" in c],
    )


def _choice(choice: dict[str, Any]) -> ChoiceDelta:
    delta = _delta(choice)
    text = delta.get("content")
    thinking = ""
    if text.__class__ is not str:
        text, thinking = text_of_parts(text)
    calls = delta.get("tool_calls") or _legacy_call(delta.get("function_call"))
    index = choice.get("index")
    reason = word(choice.get("finish_reason"))
    return ChoiceDelta(
        index if index.__class__ is int else 0,
        text,
        reasoning_of(delta) or thinking,
        string(delta.get("refusal")),
        _calls(calls),
        reason,
        _MEANING.get(reason.lower(), "other") if reason else None,
        {**extra_of(choice, READ_CHOICE_KEYS), **extra_of(delta, READ_DELTA_KEYS)} or None,
    )


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    """The choice's delta; Azure sends null or none, an answer that was not streamed has a message instead."""
    return obj(choice.get("delta") if "delta" in choice else choice.get("message"))


def _call(call: dict[str, Any]) -> CallDelta:
    function = obj(call.get("function") or call.get("custom"))
    index = call.get("index")
    arguments = function.get("arguments", function.get("input"))
    if arguments.__class__ is not str:  # vLLM, Writer: null; Ollama's own clients: an object
        arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return CallDelta(
        index if index.__class__ is int else None,
        word(call.get("id")),
        word(function.get("name")),
        arguments,
    )


def _legacy_call(function: Any) -> list[dict[str, Any]]:
    """OpenAI, before tools: one call, and no id."""
    return [{"index": 0, "function": function}] if function.__class__ is dict else []
