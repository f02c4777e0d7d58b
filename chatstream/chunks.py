"""Payloads → chunks: JSON and every server's spelling of it, gone after this point.

Rules:
- Only the shape of a chunk decides how it is read, never the name of the server that sent it.
- One line per quirk, with the server it was seen at; one recording in the tests proves it.
- Nothing is invented: what a server did not say is None or empty, what nobody knows stays in ``Chunk.raw``.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from json import JSONDecoder
from typing import Any

from .errors import ProtocolViolation, excerpt
from .events import HEARTBEAT, CallDelta, ChoiceDelta, Chunk, ErrorDetail, Payload, TokenUsage

DONE_WORDS = ("[DONE]", "DONE")  # the bare one: some gateways
REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text")  # DeepSeek and most; vLLM, Groq; Copilot
TEXT_KEYS = frozenset(("content", "role"))
TELLING_KEYS = frozenset(("error", "x_groq"))
QUOTA_WORDS = ("quota", "billing", "insufficient_balance", "credit")
PASSING_WORDS = ("rate_limit", "ratelimit", "overloaded", "server_error", "timeout", "unavailable", "too_many")

_DONE = Chunk(done=True)
_HEARTBEAT = Chunk(heartbeat=True)
_decode = JSONDecoder().raw_decode


class ChunkReader:
    """Reads chunks out of payloads; ``skipped`` counts those that were no JSON, when skipping them was asked for."""

    def __init__(self, payloads: Iterable[Payload], skip_undecodable: bool = False) -> None:
        self.skipped = 0
        self._payloads = payloads
        self._skip_undecodable = skip_undecodable

    def __iter__(self) -> Iterator[Chunk]:
        for payload in self._payloads:
            data = payload.data
            if payload.event != "message":
                chunk = _named(payload)
            elif data.startswith("{"):
                chunk = self._object(data)
            else:
                chunk = self._word(data.strip())
            if chunk is not None:
                yield chunk

    def _object(self, data: str) -> Chunk | None:
        try:
            body, end = _decode(data)
            if end != len(data) and data[end:].strip():
                raise ValueError("more than one JSON text in an event")
        except (ValueError, RecursionError) as error:
            self._undecodable(data, str(error))
            return None
        return chunk_of(body)

    def _word(self, data: str) -> Chunk | None:
        if data in DONE_WORDS:
            return _DONE
        if not data:
            return None
        if data.startswith("["):  # Gemini: an error comes as a list of one
            try:
                (body,) = json.loads(data)
                return chunk_of(body)
            except (ValueError, TypeError, AttributeError, RecursionError):
                pass
        self._undecodable(data, "not a JSON object")
        return None

    def _undecodable(self, data: str, reason: str) -> None:
        if not self._skip_undecodable:
            raise ProtocolViolation(f"an event is not a chunk ({reason}): {excerpt(data)!r}")
        self.skipped += 1


def _named(payload: Payload) -> Chunk | None:
    """Named events: errors (Groq) count, pings and whatever else do not."""
    if payload.event == HEARTBEAT:
        return _HEARTBEAT
    if payload.event != "error":
        return None
    try:
        body = json.loads(payload.data)
    except (ValueError, RecursionError):
        body = payload.data
    return Chunk(error=error_detail(body) or _detail(excerpt(payload.data)))


def chunk_of(body: dict[str, Any]) -> Chunk:
    """The chunk that one JSON object spells."""
    return _plain(body) or _any(body)


def _plain(body: dict[str, Any]) -> Chunk | None:
    """The commonest chunk, read the short way: text for one choice, and nothing else that `_any` would find."""
    try:
        (choice,) = body["choices"]
        delta = choice["delta"]
        text = delta["content"]
        if text.__class__ is not str or not text or not delta.keys() <= TEXT_KEYS:
            return None
        if choice["finish_reason"] or body.get("usage") or not body.keys().isdisjoint(TELLING_KEYS):
            return None
        index = choice["index"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Chunk(
        (ChoiceDelta(index or 0, text),), body.get("id") or None, body.get("model") or None, plain=True, raw=body
    )


def _any(body: dict[str, Any]) -> Chunk:
    choices = body.get("choices")
    error = None
    if not choices or "error" in body:
        error = _stream_error(body)
    usage = body.get("usage")
    if usage is None and "x_groq" in body:  # Groq, before it had usage chunks
        usage = (body["x_groq"] or {}).get("usage")
    deltas: tuple[ChoiceDelta, ...] = ()
    if isinstance(choices, list):
        deltas = tuple([_choice(choice) for choice in choices if choice.__class__ is dict])
        if any(delta.finish_reason for delta in deltas):
            error = error or _choice_error(choices)
            usage = usage or choices[0].get("usage")  # Moonshot: inside the choice
    return Chunk(
        deltas,
        body.get("id") or None,
        body.get("model") or None,
        _usage(usage) if usage else None,
        error,
        raw=body,
    )


def _choice(choice: dict[str, Any]) -> ChoiceDelta:
    delta = choice.get("delta")
    if delta.__class__ is not dict:  # Azure: null or missing; a whole answer has a message instead
        delta = choice.get("message") if "delta" not in choice else None
        if delta.__class__ is not dict:
            delta = {}
    text = delta.get("content")
    thinking = ""
    if text.__class__ is not str:
        text, thinking = _parts(text)
    calls = delta.get("tool_calls") or ()
    if "function_call" in delta and not calls:  # OpenAI, before tools
        calls = _legacy_call(delta["function_call"])
    refusal = delta.get("refusal")
    return ChoiceDelta(
        choice.get("index") or 0,
        text,
        _reasoning(delta) or thinking,
        refusal if refusal.__class__ is str else "",
        tuple([_call(call) for call in calls if call.__class__ is dict]) if calls else (),
        choice.get("finish_reason") or None,
    )


def _parts(content: Any) -> tuple[str, str]:
    """Text and reasoning out of a list of content parts (Mistral); nothing out of null."""
    if content.__class__ is not list:
        return "", ""
    text, thinking = [], []
    for part in content:
        if part.__class__ is str:
            text.append(part)
        elif part.__class__ is dict:
            text.append(_string(part.get("text")))
            thinking.append(_text_of(part.get("thinking")))
    return "".join(text), "".join(thinking)


def _reasoning(delta: dict[str, Any]) -> str:
    """The reasoning of a delta from one source: MiniMax, Avian and OpenRouter say the same words under two keys."""
    for key in REASONING_KEYS:
        if (value := delta.get(key)) and (words := _text_of(value)):
            return words
    details = delta.get("reasoning_details")
    return _text_of(details) if details else ""


def _text_of(value: Any) -> str:
    """The words in a string, in an object with ``text``, ``content`` or ``summary``, or in a list of such."""
    if value.__class__ is str:
        return str(value)
    if value.__class__ is list:
        return "".join([_text_of(part) for part in value])
    if value.__class__ is dict:
        return next((w for key in ("text", "content", "summary") if (w := _string(value.get(key)))), "")
    return ""


def _string(value: Any) -> str:
    return value if value.__class__ is str else ""


def _call(call: dict[str, Any]) -> CallDelta:
    function = call.get("function") or call.get("custom") or {}
    index = call.get("index")
    arguments = function.get("arguments", function.get("input"))
    if arguments.__class__ is not str:  # vLLM, Writer: null; Ollama's own clients: an object
        arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return CallDelta(
        index if index.__class__ is int else None,
        _string(call.get("id")) or None,
        _string(function.get("name")) or None,
        arguments,
    )


def _legacy_call(function: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "function": function}] if function.__class__ is dict else []


# ── usage ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _usage(usage: Any) -> TokenUsage | None:
    if usage.__class__ is not dict:
        return None
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    counts = (
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(prompt, "cached_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
        _count(completion, "reasoning_tokens"),
        _count(usage, "total_tokens"),
    )
    return None if counts == (None,) * 5 else TokenUsage(*counts)


def _count(counts: Any, *names: str) -> int | None:
    if counts.__class__ is dict:
        for name in names:
            if (value := counts.get(name)).__class__ is int:
                return int(value)
    return None


# ── errors: inside a stream, and as the body of a refusal ───────────────────────────────────────────────────────


def _stream_error(body: dict[str, Any]) -> ErrorDetail | None:
    """The error that a chunk without choices, or with an ``error`` beside them, reports."""
    status = body.get("base_resp")
    if status.__class__ is dict and status.get("status_code"):  # MiniMax: a status in every last chunk, 0 is fine
        return _detail(_string(status.get("status_msg")) or "base_resp", status["status_code"])
    if body.get("error") or "choices" not in body:
        return error_detail(body)
    return None


def _choice_error(choices: list[Any]) -> ErrorDetail | None:
    """OpenRouter puts an upstream's error into the choice, or says no more than ``finish_reason: error``."""
    for choice in choices:
        if choice.get("error"):
            return error_detail(choice)
        if choice.get("finish_reason") == "error":
            return _detail("the server ended the answer with finish_reason 'error'", "error")
    return None


def error_detail(body: Any) -> ErrorDetail | None:
    """The error in the JSON ``body`` of a refusal or an event, in any of the shapes that servers use; else None."""
    if body.__class__ is list and len(body) == 1:  # Gemini
        body = body[0]
    if body.__class__ is not dict:
        return None
    error = body.get("error")
    if error.__class__ is dict:
        return _error_object(error)
    if error.__class__ is str and error:  # Venice, TGI, transformers
        return _detail(_string(body.get("message")) or error, _code(body), body.get("error_type"))
    if detail := body.get("detail"):  # FastAPI and its users
        return _detail(_detail_text(detail), _code(body), body.get("type"))
    if _string(body.get("message")):  # Mistral, vLLM: {"object": "error", …}; doubleword: {"code", "message"}
        return _error_object(body)
    return None


def error_of_body(body: str) -> ErrorDetail:
    """What the body of a refusal says in one sentence: JSON in any shape, a page's title, or the text itself."""
    try:
        detail = error_detail(json.loads(body))
    except (ValueError, RecursionError):
        detail = None
    if detail:
        return detail
    if title := re.search(r"<(title|h1)[^>]*>\s*(.*?)\s*</\1>", body, re.IGNORECASE | re.DOTALL):
        return _detail(excerpt(html.unescape(title[2])))
    return _detail(excerpt(body.strip()))


def _error_object(error: dict[str, Any]) -> ErrorDetail:
    metadata = error.get("metadata")
    raw = metadata.get("raw") if metadata.__class__ is dict else None
    message = _string(error.get("message")) or _string(error.get("detail"))
    if raw.__class__ is str and raw:  # OpenRouter: "Provider returned error" says nothing, the raw text does
        inner = _inner_message(raw)
        message = f"{message}: {inner}" if message else inner
    return _detail(message or excerpt(json.dumps(error, ensure_ascii=False)), _code(error), error.get("type"))


def _inner_message(raw: str) -> str:
    try:
        detail = error_detail(json.loads(raw))
    except (ValueError, RecursionError):
        detail = None
    return detail.message if detail else raw


def _detail_text(detail: Any) -> str:
    """FastAPI's ``detail``: a sentence, or a list of what is wrong where."""
    if detail.__class__ is list:
        return "; ".join(_field_text(entry) for entry in detail)
    return detail if detail.__class__ is str else _text_or_json(detail)


def _field_text(entry: Any) -> str:
    if entry.__class__ is not dict or not _string(entry.get("msg")):
        return _text_or_json(entry)
    where = ".".join(str(part) for part in entry.get("loc") or ())
    return f"{where}: {entry['msg']}" if where else str(entry["msg"])


def _text_or_json(value: Any) -> str:
    if value.__class__ is dict and _string(value.get("message")):
        return str(value["message"])
    return value if value.__class__ is str else excerpt(json.dumps(value, ensure_ascii=False))


def _code(error: dict[str, Any]) -> str | int | None:
    for key in ("code", "status_code"):
        if (code := error.get(key)).__class__ in (str, int) and code != "":
            return code
    return None


def _detail(message: str, code: str | int | None = None, kind: Any = None) -> ErrorDetail:
    words = f"{code} {kind}".lower()
    quota = any(word in words for word in QUOTA_WORDS)
    if str(code).isdecimal():
        passing = int(str(code)) in (408, 409, 429) or int(str(code)) // 100 == 5
    else:
        passing = any(word in words for word in PASSING_WORDS)
    return ErrorDetail(message, code, _string(kind) or None, passing and not quota, quota)
