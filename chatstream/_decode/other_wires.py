"""Answers that are not Chat Completions → which interface they belong to, and where Chat Completions are.

    the name of an event, or its JSON object ─▶ "the response is in the format of OpenAI's Responses API …"
    a page, or a text ─▶ the error that shows its beginning

Rules:
- An object with ``choices`` is a chunk, and one with ``error`` an error, whatever else it looks like.
- These forms are looked for only at the beginning of an answer; later, events without choices are ignored.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import ProtocolViolation, excerpt
from .lenient import load, str_or_empty

RESPONSES = "OpenAI's Responses API", "base_url must end before /responses, as https://api.openai.com/v1 does"
ASSISTANTS = "OpenAI's Assistants API", "base_url must end before /threads, as https://api.openai.com/v1 does"
COMPLETIONS = "the older Completions API", "base_url must end before /completions, often in /v1"
ANTHROPIC = (
    "Anthropic's Messages API",
    "its Chat Completions are at https://api.anthropic.com/v1 (provider 'anthropic')",
)
GEMINI = (
    "Gemini's own API",
    "its Chat Completions are at https://generativelanguage.googleapis.com/v1beta/openai (provider 'gemini')",
)
COHERE = "Cohere's own API", "its Chat Completions are at https://api.cohere.ai/compatibility/v1"
OLLAMA = "Ollama's own API", "its Chat Completions are at /v1 of the same server (provider 'ollama')"
TGI = "TGI's own API", "its Chat Completions are at /v1 of the same server"
LLAMACPP = "llama.cpp's own API", "its Chat Completions are at /v1 of the same server (provider 'llamacpp')"
Wire = tuple[str, str]  # its name, and the way out

PREFIXES = {"response.": RESPONSES, "thread.": ASSISTANTS}
NAMES: dict[str, Wire] = {
    **dict.fromkeys(("message_start", "message_delta", "message_stop"), ANTHROPIC),
    **dict.fromkeys(("content_block_start", "content_block_delta", "content_block_stop"), ANTHROPIC),
    **dict.fromkeys(("message-start", "content-start", "content-delta", "content-end", "message-end"), COHERE),
    **dict.fromkeys(("stream-start", "text-generation", "stream-end"), COHERE),
}

GLUED_LINES = re.compile(rb"data:[^\r\n]*[}\]]data:")
CHAT_KEYS = ("delta", "message")


def other_wire(name: str, body: Any = None) -> str:
    """The sentence about an event of another interface, by its name or its JSON; empty if it is none."""
    wire = _by_name(name) or (_by_shape(body) if isinstance(body, dict) else None)
    if wire is None:
        return ""
    return f"the response is in the format of {wire[0]}, not of Chat Completions; {wire[1]}"


def other_wire_of_line(line: bytes) -> bool:
    """Whether a line is a JSON object of another interface, which sends one in each line."""
    try:
        return bool(other_wire("", load(line.decode("utf-8", "replace").strip())))
    except (ValueError, RecursionError):
        return False


def _by_name(name: str) -> Wire | None:
    return NAMES.get(name) or next((wire for prefix, wire in PREFIXES.items() if name.startswith(prefix)), None)


def _by_shape(body: dict[str, Any]) -> Wire | None:
    if body.get("error"):
        return None
    if "choices" in body:
        return COMPLETIONS if _has_text_alone(body["choices"]) else None
    if named := _by_name(str_or_empty(body.get("type"))) or _by_name(str_or_empty(body.get("event_type"))):
        return named
    if body.get("object") == "response" and isinstance(body.get("output"), list):
        return RESPONSES
    if body.get("type") == "message" and isinstance(body.get("content"), list):
        return ANTHROPIC
    if isinstance(body.get("candidates"), list):
        return GEMINI
    if isinstance(body.get("done"), bool) and (isinstance(body.get("message"), dict) or "response" in body):
        return OLLAMA
    if isinstance(body.get("token"), dict):
        return TGI
    return LLAMACPP if isinstance(body.get("stop"), bool) and "content" in body else None


def _has_text_alone(choices: Any) -> bool:
    """Whether a choice has a text, and nothing that Chat Completions have."""
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and bool(str_or_empty(first.get("text"))) and first.keys().isdisjoint(CHAT_KEYS)


ROOT_OF_API = "does base_url end with the root of the API, often /v1?"


def not_a_stream(kind: str, body: bytes) -> ProtocolViolation:
    """The error for an answer that is not an event stream, with the beginning of it."""
    text = excerpt(body.decode("utf-8", "replace").strip())
    return ProtocolViolation(
        f"the response is {kind}, not an event stream; {ROOT_OF_API} The response begins with: {text!r}"
    )


def refuse_glued_lines(body: bytes) -> None:
    """Raise `ProtocolViolation` for events whose line ends were taken away, as ``iter_lines`` of requests does."""
    if GLUED_LINES.match(body):
        raise ProtocolViolation(
            "there are no line ends between the events; pass response.iter_content(None), and not iter_lines()"
        )
