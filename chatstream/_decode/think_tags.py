"""Chunks → chunks: reasoning that a model writes into its text, between tags, becomes reasoning.

    "…<thi" "nk>because</th" "ink>So"  ─▶  text "…", reasoning "because", text "So"

Rules (on only where a provider has ``think_tags``):
- A tag may be cut anywhere; what could still become one is held back, and given out at the choice's end.
- Tags do not nest: inside, only the end tag counts; outside, only a start tag.
- An end tag without its start stays in the text: where the reasoning began is unknown, and the caller can cut there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import ChatStreamError
from .chunk import ChoiceDelta, Chunk


class _Splitter:
    """Splits the text of one choice."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._starts = {f"<{tag}>": f"</{tag}>" for tag in tags}
        self._end = ""  # the tag that ends the reasoning we are in
        self._held = ""

    def split(self, text: str) -> tuple[str, str]:
        """What is text and what is reasoning so far."""
        rest = self._held + text
        self._held = ""
        outside: list[str] = []
        inside: list[str] = []
        while rest:
            here = inside if self._end else outside
            found = self._next_tag(rest)
            if found is None:
                keep = _tag_prefix(rest, self._wanted())
                here.append(rest[: len(rest) - keep])
                self._held = rest[len(rest) - keep :]
                break
            position, tag = found
            here.append(rest[:position])
            rest = rest[position + len(tag) :]
            self._end = "" if self._end else self._starts[tag]
        return "".join(outside), "".join(inside)

    def flush(self) -> tuple[str, str]:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return ("", held) if self._end else (held, "")

    def _wanted(self) -> list[str]:
        return [self._end] if self._end else list(self._starts)

    def _next_tag(self, text: str) -> tuple[int, str] | None:
        return min(((text.find(tag), tag) for tag in self._wanted() if tag in text), default=None)


def _tag_prefix(text: str, tags: list[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a tag."""
    start = text.rfind("<")
    tail = text[start:] if start >= 0 else ""
    return len(tail) if tail and any(tag.startswith(tail) for tag in tags) else 0


def split_thinking(chunks: Iterable[Chunk], tags: Sequence[str]) -> Iterator[Chunk]:
    """The same chunks, with what stands between ``<tag>`` and ``</tag>`` as reasoning."""
    splitters: dict[int, _Splitter] = {}
    try:
        for chunk in chunks:
            if chunk.done:
                yield from _rest(splitters)
            choices = tuple(_split_choice(delta, splitters, tags) for delta in chunk.choices)
            yield chunk._replace(choices=choices, plain=False)
    except ChatStreamError:
        yield from _rest(splitters)
        raise
    yield from _rest(splitters)


def _split_choice(delta: ChoiceDelta, splitters: dict[int, _Splitter], tags: Sequence[str]) -> ChoiceDelta:
    splitter = splitters.setdefault(delta.choice, _Splitter(tags))
    text, reasoning = splitter.split(delta.text)
    if delta.finish_reason:
        more_text, more_reasoning = splitter.flush()
        text, reasoning = text + more_text, reasoning + more_reasoning
    return delta._replace(text=text, reasoning=delta.reasoning + reasoning)


def _rest(splitters: dict[int, _Splitter]) -> Iterator[Chunk]:
    for index, splitter in splitters.items():
        text, reasoning = splitter.flush()
        if text or reasoning:
            yield Chunk((ChoiceDelta(index, text, reasoning),))
