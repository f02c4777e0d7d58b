"""Token counts: what servers report, and the one case in which reports are added up.

    {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}, …} ─▶ TokenUsage

Rules:
- A count that is missing, null or no whole number is None; a report without any count is no report.
- The last report wins; only where a server reports each choice apart is the answer's usage their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from ..types.events import TokenUsage


def usage_of(usage: Any) -> TokenUsage | None:
    """The token counts in a ``usage`` object (OpenAI's names, and Anthropic's where a gateway kept them)."""
    if usage.__class__ is not dict:
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
    if counts.__class__ is dict:
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
