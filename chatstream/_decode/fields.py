"""Fields of a chunk → text, reasoning, token usage, and what else a server sends.

    content ─text_of_parts▶ text, reasoning        delta ─reasoning_of▶ reasoning
    {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}, …} ─usage_of▶ TokenUsage
    the keys that nobody else reads ─extra_of▶ ``extra``, as the server sent it, joined over the chunks

Rules:
- Reasoning is taken from one source: several servers send the same words under two keys.
- A count that is missing, null or no whole number is None; a report without any count is no report.
- The last report wins; only where a server reports each choice apart is the answer's usage their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from ..types.events import TokenUsage
from .lenient import str_or_empty

REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text")  # DeepSeek and most; vLLM, Groq; Copilot
DEPTH = 3  # objects inside objects that are joined
PIECES = ("data", "transcript")  # audio comes in pieces under these


def text_of_parts(content: Any) -> tuple[str, str]:
    """Text and reasoning out of a list of content parts (Mistral); nothing out of null."""
    if not isinstance(content, list):
        return "", ""
    text, thinking = [], []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict):
            text.append(str_or_empty(part.get("text")))
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
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return "".join([_text_of(part) for part in value])
    if isinstance(value, dict):
        return next((w for key in ("text", "content", "summary") if (w := str_or_empty(value.get(key)))), "")
    return ""


def usage_of(usage: Any) -> TokenUsage | None:
    """The token counts in a ``usage`` object (OpenAI's names, and Anthropic's where a gateway kept them)."""
    if not isinstance(usage, dict):
        return None
    counts = TokenUsage(
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage.get("prompt_tokens_details"), "cached_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
        _count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        _count(usage, "total_tokens"),
    )
    return None if counts == TokenUsage() else counts


def _count(counts: Any, *names: str) -> int | None:
    if isinstance(counts, dict):
        for name in names:
            if (value := counts.get(name)).__class__ is int:
                return int(value)
    return None


def total(reports: Sequence[TokenUsage]) -> TokenUsage:
    """The sum of reports that count one choice each."""
    return TokenUsage(*map(_sum, zip(*map(astuple, reports), strict=True)))


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def extra_of(body: dict[str, Any], read: frozenset[str]) -> dict[str, Any]:
    """What of ``body`` is not among the keys ``read``, and is more than a word or a number."""
    if read.issuperset(body):  # nearly always
        return {}
    return {key: value for key, value in body.items() if key not in read and value and value.__class__ in (list, dict)}


def join_extra(old: dict[str, Any], new: Mapping[str, Any], depth: int = DEPTH) -> None:
    """Put what a chunk brings to what is there: lists grow, objects are joined inside, words of them too where they
    come in pieces (audio); of anything else the last stands. ``new`` stays as it is."""
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif isinstance(before, dict) and isinstance(value, dict) and depth:
            join_extra(before, value, depth - 1)
        elif isinstance(before, str) and isinstance(value, str) and key in PIECES:
            old[key] = before + value
        elif value is not None:
            old[key] = _own(value, depth)


def _own(value: Any, depth: int) -> Any:
    """A copy of what `join_extra` may change later."""
    if isinstance(value, dict) and depth:
        return {key: _own(each, depth - 1) for key, each in value.items()}
    return list(value) if isinstance(value, list) else value
