"""Fields of a chunk → text, reasoning, parts, token usage, and what else a server sends.

    content, images ─read_content▶ text, reasoning, refusal, parts
    delta ─reasoning_of▶ reasoning
    {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}, …} ─counts_of▶ input_tokens=9, …
    keys that are not read ─extra_of▶ ``extra``, as the server sent it, joined over the chunks

Rules:
- The type of a part decides what it is. A part of a type unknown here is kept whole, at its place.
- Reasoning is taken from one source: several servers send the same text under two keys.
- A count that is missing, null or no whole number is None; a report without any count is no report.
- A cost is what the server calls so: none is computed from prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from ..types.parts import ContentPart, Other, OutputImage
from ..types.text import all_without_surrogates, without_surrogates
from .lenient import dict_or_empty, str_or_empty

REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text")  # DeepSeek and most; vLLM, Groq; Copilot
TEXT_PARTS = ("text", "output_text")
REASONING_PARTS = ("reasoning", "reasoning_text", "thinking", "summary_text")  # OpenAI's Responses form; Mistral
NESTED_KEYS = ("text", "content", "summary", "thinking", "value")  # where a part keeps its text
MOST_COST = 1e9  # a number above it, infinity for example, is no cost
DEPTH = 3  # objects inside objects that are joined
PIECES = ("data", "transcript")  # audio comes in pieces under these
COUNTS: dict[str, tuple[str, ...]] = {  # of each count the names that servers use; a dot leads into an object
    "input_tokens": ("prompt_tokens", "input_tokens"),
    "cached_input_tokens": (
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cached_tokens",  # Moonshot
        "prompt_cache_hit_tokens",  # DeepSeek
        "cache_read_input_tokens",  # Anthropic behind gateways
    ),
    "output_tokens": ("completion_tokens", "output_tokens"),
    "reasoning_output_tokens": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    ),
    "total_tokens": ("total_tokens",),
}
COSTS: dict[str, float] = {  # where an answer has its cost, and how many of these units are one dollar, or one credit
    "usage.cost": 1,  # OpenRouter
    "usage.cost.total_cost": 1,  # Perplexity
    "usage.cost_in_usd_ticks": 10**10,  # xAI, https://docs.x.ai/developers/cost-tracking
    "usage.estimated_cost": 1,  # DeepInfra
    "cost.usd": 1,  # Venice
}


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Content(NamedTuple):
    """What a delta's content is made of. With ``parts``, which keep everything in order, ``text`` is empty."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    parts: tuple[Union[str, ContentPart], ...] = ()


def read_content(content: Any, images: Any) -> Content:
    """The content of a delta: a string, null, a part, or a list of strings and parts; and its list of images."""
    entries = content if isinstance(content, list) else [content]
    reasoning: list[str] = []
    refusal: list[str] = []
    shown: list[str | ContentPart] = []
    for part in entries:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in REASONING_PARTS or (kind is None and isinstance(part, dict) and "thinking" in part):
            reasoning.append(_text_of(part))
        elif kind == "refusal":
            refusal.append(str_or_empty(part.get("refusal")))
        elif isinstance(part, dict) and ((isinstance(kind, str) and kind not in TEXT_PARTS) or "image_url" in part):
            shown.append(_part(part))
        else:
            shown.append(_text_of(part))
    if isinstance(images, list):  # OpenRouter: pictures beside the text
        shown += [_part(image) for image in images if isinstance(image, dict)]
    texts = [part for part in shown if isinstance(part, str)]
    whole = len(texts) == len(shown)
    return Content(
        "".join(texts) if whole else "",
        "".join(reasoning),
        "".join(refusal),
        () if whole else tuple([part for part in shown if part]),
    )


def _part(part: dict[str, Any]) -> ContentPart:
    image = part.get("image_url")
    url = image if isinstance(image, str) else dict_or_empty(image).get("url")
    if isinstance(url, str) and url:
        return OutputImage(url)
    return Other(part if isinstance(part.get("type"), str) else {"type": "image", **part})


def reasoning_of(delta: dict[str, Any]) -> str:
    """The reasoning of a delta from one source: MiniMax, Avian and OpenRouter send the same text under two keys."""
    for key in REASONING_KEYS:
        if (value := delta.get(key)) and (text := _text_of(value)):
            return text
    return ""


def details_of(delta: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The entries of ``reasoning_details``, unchanged (OpenRouter)."""
    details = delta.get("reasoning_details")
    return tuple([each for each in details if isinstance(each, dict)]) if isinstance(details, list) else ()


def text_of_details(delta: dict[str, Any]) -> str:
    """The text in ``reasoning_details``, for servers that send it nowhere else."""
    return _text_of(delta.get("reasoning_details"))


def _text_of(value: Any) -> str:
    """The text in a string, in an object under one of the usual keys, or in a list of such."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return "".join([_text_of(part) for part in value])
    if isinstance(value, dict):
        return next((text for key in NESTED_KEYS if (text := _text_of(value.get(key)))), "")
    return ""


# ── token usage ─────────────────────────────────────────────────────────────────────────────────────────────────


def counts_of(usage: Mapping[str, Any]) -> dict[str, int]:
    """The token counts in a ``usage`` object, whatever their names there; those that it does not give are left out."""
    found = {name: _count(usage, paths) for name, paths in COUNTS.items()}
    return {name: count for name, count in found.items() if count is not None}


def _count(usage: Mapping[str, Any], paths: tuple[str, ...]) -> int | None:
    for path in paths:
        group, _, name = path.rpartition(".")
        value = (dict_or_empty(usage.get(group)) if group else usage).get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def cost_of(answer: Mapping[str, Any]) -> float | None:
    """What the server says that an answer costs; ``answer`` is its JSON, with the token usage under ``usage``."""
    for path, units in COSTS.items():
        value: Any = answer
        for key in path.split("."):
            value = dict_or_empty(value).get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST_COST * units:
            return value / units
    return None


def merge(old: dict[str, Any], new: Mapping[str, Any], depth: int = DEPTH) -> bool:
    """Put ``new`` into ``old``, also inside their objects: of each value the last that is not null stays. Whether that
    changed anything."""
    changed = False
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and depth:
            changed |= merge(before, value, depth - 1)
        elif isinstance(value, dict) and depth:
            old[key] = {}  # a copy, because it may be merged into
            merge(old[key], value, depth - 1)
            changed = True
        elif (value is not None and value != before) or key not in old:
            old[key] = value
            changed = True
    return changed


def sum_of_counts(reports: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of the counts of reports that count one choice each."""
    names = {name for report in reports for name in report}
    return {name: sum(report.get(name, 0) for report in reports) for name in names}


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────


def extra_of(body: dict[str, Any], read: frozenset[str]) -> dict[str, Any]:
    """What of ``body`` is not among the keys ``read``, and is an object or a list."""
    if read.issuperset(body):  # nearly always
        return {}
    return {key: value for key, value in body.items() if key not in read and value and isinstance(value, (list, dict))}


class Pieces(list[str]):
    """A text that comes in pieces, which `joined` joins."""


def join_extra(old: dict[str, Any], new: Mapping[str, Any], depth: int = DEPTH) -> None:
    """Add what a chunk brings: lists grow, objects are joined inside, texts too where they come in pieces (audio); of
    anything else the last value stays. ``new`` is not changed."""
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Pieces) and isinstance(value, str):
            before.append(value)
        elif isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif isinstance(before, dict) and isinstance(value, dict) and depth:
            join_extra(before, value, depth - 1)
        elif isinstance(value, str) and key in PIECES and depth < DEPTH:
            old[key] = Pieces([value])
        elif isinstance(value, dict) and depth:
            old[key] = {}
            join_extra(old[key], value, depth - 1)
        elif value is not None or key not in old:
            old[key] = list(value) if isinstance(value, list) else value


def clean_extra(value: Any, key: str = "") -> Any:
    """What was sent, without lone surrogates; a text that comes in pieces is cleaned when it is `joined`."""
    if isinstance(value, dict):
        return {name: clean_extra(each, name) for name, each in value.items()}
    return value if key in PIECES else all_without_surrogates(value)


def joined(extra: Mapping[str, Any], depth: int = DEPTH) -> dict[str, Any]:
    """A copy of what `join_extra` or `merge` collected, with each text in one piece. Another thread may be adding."""
    return {key: _joined(value, depth) for key, value in dict(extra).items()}


def _joined(value: Any, depth: int) -> Any:
    if isinstance(value, Pieces):
        return without_surrogates("".join(value))
    if isinstance(value, dict) and depth:
        return joined(value, depth - 1)
    return value.copy() if isinstance(value, list) else value
