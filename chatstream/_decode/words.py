"""Deltas → words: text and reasoning, wherever and however wrapped a server puts them.

content ─words_of_parts▶ text, reasoning        delta ─reasoning_of▶ reasoning
"""

from __future__ import annotations

from typing import Any

from .lenient import string

REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text")  # DeepSeek and most; vLLM, Groq; Copilot


def words_of_parts(content: Any) -> tuple[str, str]:
    """Text and reasoning out of a list of content parts (Mistral); nothing out of null."""
    if content.__class__ is not list:
        return "", ""
    text, thinking = [], []
    for part in content:
        if part.__class__ is str:
            text.append(part)
        elif part.__class__ is dict:
            text.append(string(part.get("text")))
            thinking.append(_text_of(part.get("thinking")))
    return "".join(text), "".join(thinking)


def reasoning_of(delta: dict[str, Any]) -> str:
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
        return next((w for key in ("text", "content", "summary") if (w := string(value.get(key)))), "")
    return ""
