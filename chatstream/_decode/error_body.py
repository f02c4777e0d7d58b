"""JSON, pages and texts → `ErrorDetail`: every spelling that servers have for an error.

    the body of a refusal, or an event of a stream ─▶ one sentence, a code, and whether waiting helps

Rules:
- The sentence is the server's own; where it says nothing ("Provider returned error"), the text under it is added.
- Only the shape decides how a body is read, never the name of the server that sent it.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import excerpt
from .chunk import ErrorDetail
from .lenient import dict_or_empty, str_or_empty, str_or_none

QUOTA_CODES = ("quota", "billing", "insufficient_balance", "credit")
RETRYABLE_CODES = ("rate_limit", "ratelimit", "overloaded", "server_error", "timeout", "unavailable", "too_many")


def stream_error(body: dict[str, Any]) -> ErrorDetail | None:
    """The error that a chunk without choices, or with an ``error`` beside them, reports."""
    status = dict_or_empty(body.get("base_resp"))
    if status.get("status_code"):  # MiniMax: a status in every last chunk, 0 is fine
        return make_detail(str_or_empty(status.get("status_msg")) or "base_resp", _code(status))
    if body.get("error") or "choices" not in body:
        return error_detail(body)
    return None


def choice_error(choices: list[Any]) -> ErrorDetail | None:
    """OpenRouter puts an upstream's error into the choice, or says no more than ``finish_reason: error``."""
    for choice in choices:
        if choice.get("error"):
            return error_detail(choice)
        if choice.get("finish_reason") == "error":
            return make_detail("the server ended the answer with finish_reason 'error'", "error")
    return None


def error_detail(body: Any) -> ErrorDetail | None:
    """The error in the JSON ``body`` of a refusal or an event, in any of the shapes that servers use; else None."""
    if isinstance(body, list) and len(body) == 1:  # Gemini
        body = body[0]
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return _error_object(error)
    if isinstance(error, str) and error:  # Venice, TGI, transformers
        return make_detail(str_or_empty(body.get("message")) or error, _code(body), body.get("error_type"))
    if body.get("detail"):  # FastAPI and its users
        return make_detail(_detail_text(body["detail"]), _code(body), body.get("type"))
    if str_or_empty(body.get("message")):  # Mistral, vLLM: {"object": "error", …}; doubleword: {"code", "message"}
        return _error_object(body)
    return make_detail(excerpt(json.dumps(body, ensure_ascii=False))) if error else None


def error_of_body(body: str) -> ErrorDetail:
    """What the body of a refusal says in one sentence: JSON in any shape, a page's title, or the text itself."""
    try:
        found = error_detail(json.loads(body))
    except (ValueError, RecursionError):
        found = None
    if found:
        return found
    return make_detail(excerpt(_headline(body) or body.strip()))


def _headline(page: str) -> str:
    """The title of an HTML page, or its first heading; found without looking at any byte more than a few times."""
    data = page.encode("utf-8", "replace")
    lower = data.lower()  # of ASCII alone, so that places stay the same
    for tag in (b"title", b"h1"):
        start = lower.find(b">", lower.find(b"<" + tag)) + 1 if b"<" + tag in lower else 0
        end = lower.find(b"</" + tag, start)
        if start and end > start:
            from html import unescape

            return unescape(data[start:end].decode("utf-8", "replace")).strip()
    return ""


def _error_object(error: dict[str, Any]) -> ErrorDetail:
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    message = str_or_empty(error.get("message")) or str_or_empty(error.get("detail"))
    if isinstance(raw, str) and raw:  # OpenRouter: "Provider returned error" says nothing, the raw text does
        inner = _inner_message(raw)
        message = f"{message}: {inner}" if message else inner
    return make_detail(message or excerpt(json.dumps(error, ensure_ascii=False)), _code(error), error.get("type"))


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
    for key in ("code", "status_code"):
        if (code := error.get(key)).__class__ in (str, int) and code != "":
            return code
    return None


def make_detail(message: str, code: str | int | None = None, kind: Any = None) -> ErrorDetail:
    """An error with what its code and kind say of trying again."""
    words = f"{code} {kind}".lower() if code.__class__ is not int else f"{kind}".lower()
    quota = any(each in words for each in QUOTA_CODES)
    status = _status(code)
    retryable = status in (408, 409, 429) or status // 100 == 5
    if not status:
        retryable = any(each in words for each in RETRYABLE_CODES)
    return ErrorDetail(message, code, str_or_none(kind), retryable and not quota, quota)


def _status(code: str | int | None) -> int:
    """The HTTP status that a code is, as a number or in digits; else 0."""
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdecimal() and len(code) == 3 else 0
    return code if code and 100 <= code <= 599 else 0
