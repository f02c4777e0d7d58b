"""JSON, pages and texts → `ErrorDetail`: every form that servers give to an error.

    the body of an error response, or an event of a stream ─▶ one sentence, a code, whether waiting helps and how long

Rules:
- The sentence is the server's own; where it says nothing ("Provider returned error"), the text under it is added.
- In a stream a sentence alone is no error: it takes a sign of failure beside it.
- Only the shape decides how a body is read, never the name of the server that sent it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .._runtime.imports import imports
from ..errors import excerpt
from ..types.text import without_surrogates
from .chunk import ErrorDetail
from .lenient import dict_or_empty, str_or_empty

QUOTA_CODES = ("quota", "billing", "insufficient_balance", "credit")
RETRYABLE_CODES = ("rate_limit", "ratelimit", "overloaded", "server_error", "timeout", "unavailable", "too_many")
SENTENCE_KEYS = ("message", "msg", "errorMessage", "error_message", "error_msg", "Message")
MAX_TEXT = 16_384  # characters of a sentence or a code; an event may bring megabytes
GOOD_STATUS = ("0", "200", "ok", "success", "processing", "queued", "true", "none", "")  # anything else is a failure
UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
UNIT = r"(?:ms|milliseconds?|h(?:ours?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)(?![a-z])"
DURATION = rf"((?:\d+(?:\.\d+)?\s*{UNIT}(?:\s*(?:,|and)?\s*))+)"
WAIT = re.compile(rf"(?:again|retry|wait)(?: in| after)?:?\s+{DURATION}", re.IGNORECASE)


# ── in a stream ─────────────────────────────────────────────────────────────────────────────────────────────────


def stream_error(body: dict[str, Any], choices: list[dict[str, Any]]) -> ErrorDetail | None:
    """The error that a chunk reports: beside its ``choices``, inside them, or instead of them."""
    status = dict_or_empty(body.get("base_resp"))
    if status.get("status_code"):  # MiniMax: a status in every last chunk, 0 is success
        return make_detail(str_or_empty(status.get("status_msg")) or "base_resp", _code(status))
    error = body.get("error")
    if error or (not choices and (error == {} or body.get("detail") or _has_failed(body))):
        return error_detail(body)
    return _choice_error(choices)


def _choice_error(choices: list[dict[str, Any]]) -> ErrorDetail | None:
    """OpenRouter puts an upstream's error into the choice, or sends no more than ``finish_reason: error``."""
    for choice in choices:
        if choice.get("error"):
            return error_detail(choice)
        if str_or_empty(choice.get("finish_reason")).lower() == "error":
            return make_detail("the server ended the answer with finish_reason 'error'", "error")
    return None


def sentence_of(body: dict[str, Any]) -> str:
    """The sentence that an object says under one of the usual keys, or in the first entry of ``errors``."""
    for key in SENTENCE_KEYS:
        if sentence := str_or_empty(body.get(key)):
            return sentence
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else errors
    if isinstance(first, dict):
        return next((text for key in (*SENTENCE_KEYS, "detail") if (text := str_or_empty(first.get(key)))), "")
    return str_or_empty(first)


def _has_failed(body: dict[str, Any]) -> bool:
    """Whether an object has a sentence and a sign of failure beside it."""
    if not sentence_of(body):
        return False
    states = [str(body[key]).strip().lower() for key in ("code", "status", "status_code") if key in body]
    kind = f"{body.get('object')} {body.get('type')}".lower()
    return (
        any(state not in GOOD_STATUS for state in states)
        or body.get("success") is False
        or bool(body.get("errors"))
        or "error" in kind  # Mistral, vLLM: {"object": "error", …}
    )


# ── in a body ───────────────────────────────────────────────────────────────────────────────────────────────────


def error_detail(body: Any) -> ErrorDetail | None:
    """The error in the JSON ``body`` of a response or an event, in any of the shapes that servers use; else None."""
    if isinstance(body, list) and len(body) == 1:  # Gemini
        body = body[0]
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return _error_object(error)
    if isinstance(error, str) and error:  # Venice, TGI, transformers
        return make_detail(str_or_empty(body.get("message")) or error, _code(body), body.get("error_type"), body)
    if body.get("detail"):  # FastAPI and its users
        return make_detail(_detail_text(body["detail"]), _code(body), body.get("type"), body)
    if sentence_of(body):  # Mistral, vLLM: {"object": "error", …}; doubleword: {"code", "message"}
        return _error_object(body)
    return make_detail(excerpt(json.dumps(body, ensure_ascii=False)), body=body) if error else None


def error_of_body(body: str) -> ErrorDetail:
    """The error in the body of an error response: JSON in any shape, a page's title, or the text itself."""
    try:
        found = error_detail(json.loads(body))
    except (ValueError, RecursionError):
        found = None
    if found:
        return found
    return make_detail(excerpt(_headline(body) or body.strip()))


def _headline(page: str) -> str:
    """The title of an HTML page, or its first heading; found in linear time."""
    data = page.encode("utf-8", "replace")
    lower = data.lower()  # of ASCII alone, so that positions stay the same
    for tag in (b"title", b"h1"):
        start = lower.find(b">", lower.find(b"<" + tag)) + 1 if b"<" + tag in lower else 0
        end = lower.find(b"</" + tag, start)
        if start and end > start:
            with imports():
                from html import unescape

            return unescape(data[start:end].decode("utf-8", "replace")).strip()
    return ""


def _error_object(error: dict[str, Any]) -> ErrorDetail:
    raw = dict_or_empty(error.get("metadata")).get("raw")
    message = sentence_of(error) or str_or_empty(error.get("detail"))
    if isinstance(raw, str) and raw:  # OpenRouter: "Provider returned error" says nothing, the raw text does
        inner = _inner_message(raw)
        message = f"{message}: {inner}" if message else inner
    return make_detail(
        message or excerpt(json.dumps(error, ensure_ascii=False)), _code(error), error.get("type"), error
    )


def _inner_message(raw: str) -> str:
    try:
        found = error_detail(json.loads(raw))
    except (ValueError, RecursionError):
        found = None
    return found.message if found else raw


def _detail_text(detail: Any) -> str:
    """FastAPI's ``detail``: a sentence, or a list of what is wrong where."""
    if isinstance(detail, list):
        return "; ".join(_field_text(entry) for entry in detail)
    return detail if isinstance(detail, str) else _text_or_json(detail)


def _field_text(entry: Any) -> str:
    if not isinstance(entry, dict) or not str_or_empty(entry.get("msg")):
        return _text_or_json(entry)
    where = ".".join(map(str, entry["loc"])) if isinstance(entry.get("loc"), list) else ""
    return f"{where}: {entry['msg']}" if where else str(entry["msg"])


def _text_or_json(value: Any) -> str:
    if isinstance(value, dict) and str_or_empty(value.get("message")):
        return str(value["message"])
    return value if isinstance(value, str) else excerpt(json.dumps(value, ensure_ascii=False))


def _code(error: dict[str, Any]) -> str | int | None:
    first = error["errors"][0] if isinstance(error.get("errors"), list) and error["errors"] else None
    for value in (error.get("code"), error.get("status_code"), error.get("status"), dict_or_empty(first).get("code")):
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            return value
    return None


def make_detail(
    message: str, code: str | int | None = None, kind: Any = None, body: dict[str, Any] | None = None
) -> ErrorDetail:
    """An error, with what its code and kind say of retrying, and the wait that its text or its ``body`` asks for."""
    named = f"{code} {kind}".lower() if not isinstance(code, int) else f"{kind}".lower()
    quota = any(each in named for each in QUOTA_CODES)
    status = _http_status(code)
    retryable = status in (408, 409, 429) or status // 100 == 5
    if not status:
        retryable = any(each in named for each in RETRYABLE_CODES)
    message = _bounded(message)
    wait = wait_of(message, body)
    if isinstance(code, str):
        code = _bounded(code)
    kind = _bounded(str_or_empty(kind)) or None
    return ErrorDetail(message, code, kind, retryable and not quota, quota, wait)


def _bounded(text: str) -> str:
    """The text as an error shows it: all of it stands in the body of the response, or in the event."""
    text = without_surrogates(text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def _http_status(code: str | int | None) -> int:
    """The HTTP status that a code is, as a number or in digits; else 0."""
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdecimal() and len(code) == 3 else 0
    return code if code and 100 <= code <= 599 else 0


def wait_of(message: str, body: dict[str, Any] | None) -> float | None:
    """The seconds that an error asks to wait: ``retryDelay`` in its details (Gemini), or a sentence like "try again in
    1.2s" (OpenAI, Groq)."""
    details = (body or {}).get("details")
    for entry in details if isinstance(details, list) else ():
        delay = str_or_empty(dict_or_empty(entry).get("retryDelay"))
        if re.fullmatch(DURATION, delay):
            return _seconds(delay)
    found = WAIT.search(message[:2000])
    return _seconds(found[1]) if found else None


def _seconds(duration: str) -> float:
    """The seconds of a duration such as ``39s``, ``1m30s``, ``120ms`` or ``5 seconds``."""
    total = 0.0
    for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", duration.lower()):
        total += float(number) * UNIT_SECONDS["ms" if unit.startswith(("ms", "milli")) else unit[0]]
    return total
