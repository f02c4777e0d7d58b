"""Chunks → chunks: reasoning that a model writes into its text, between tags, becomes reasoning.

    "…<thi" "nk>because</th" "ink>So"  ─▶  text "…", reasoning "because", text "So"

Rules (only where a provider has ``think_tags``):
- A tag may be cut anywhere; text that may become one is held back, and released at the choice's end.
- Tags do not nest: inside, only the end tag counts; outside, only a start tag.
- An end tag without its start stays in the text: where the reasoning began is unknown, and the caller can cut there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ..types.parts import ContentPart
from .chunk import ChoiceDelta, Chunk


class ThinkTags:
    """Splits the chunks of one answer at ``<tag>`` and ``</tag>``, for each of ``tags``."""

    def __init__(self, tags: Sequence[str], only_one: bool = False) -> None:
        self._tags = tags
        self._only_one = only_one  # one choice was requested, whatever the indexes say
        self._splitters: dict[int, _Splitter] = {}

    def split(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks, with what stands between the tags as reasoning."""
        for chunk in chunks:
            if chunk.done:
                yield from self.flush()
            yield chunk._replace(choices=tuple(map(self._split_choice, chunk.choices)), text_only=False)

    def flush(self) -> Iterator[Chunk]:
        """The text that was held back, once nothing follows it."""
        for index, splitter in self._splitters.items():
            text, reasoning = splitter.flush()
            if text or reasoning:
                yield Chunk((ChoiceDelta(index, text, reasoning),))

    def _split_choice(self, delta: ChoiceDelta) -> ChoiceDelta:
        splitter = self._splitters.setdefault(0 if self._only_one else delta.choice, _Splitter(self._tags))
        text, reasoning = splitter.split(delta.text)
        parts: list[str | ContentPart] = []
        for part in delta.parts:
            if isinstance(part, str):
                part, more = splitter.split(part)  # noqa: PLW2901
                reasoning += more
            parts.append(part)
        if delta.finish_reason:
            more_text, more_reasoning = splitter.flush()
            text, reasoning = text + more_text, reasoning + more_reasoning
        return delta._replace(text=text, reasoning=delta.reasoning + reasoning, parts=tuple(filter(None, parts)))


class _Splitter:
    """Splits the text of one choice."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = [f"<{tag}>" for tag in tags]
        self._start = re.compile("|".join(map(re.escape, self._tags)))
        self._end = ""  # the tag that ends the present reasoning
        self._held = ""

    def split(self, text: str) -> tuple[str, str]:
        """What of ``text`` is text and what is reasoning."""
        text = self._held + text
        begin = 0
        outside: list[str] = []
        inside: list[str] = []
        while True:
            here = inside if self._end else outside
            start, stop, tag = self._next_tag(text, begin)
            if not tag:
                keep = _tag_prefix(text, begin, [self._end] if self._end else self._tags)
                here.append(text[begin : len(text) - keep])
                self._held = text[len(text) - keep :]
                return "".join(outside), "".join(inside)
            here.append(text[begin:start])
            begin = stop
            self._end = "" if self._end else f"</{tag[1:]}"

    def _next_tag(self, text: str, begin: int) -> tuple[int, int, str]:
        """Where the next tag that counts starts and stops, and the tag; empty if there is none."""
        if self._end:
            start = text.find(self._end, begin)
            return (start, start + len(self._end), self._end) if start >= 0 else (0, 0, "")
        found = self._start.search(text, begin)
        return (found.start(), found.end(), found[0]) if found else (0, 0, "")

    def flush(self) -> tuple[str, str]:
        """What was held back."""
        held, self._held = self._held, ""
        return ("", held) if self._end else (held, "")


def _tag_prefix(text: str, begin: int, tags: list[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a tag."""
    start = text.rfind("<", begin)
    tail = text[start:] if start >= 0 else ""
    return len(tail) if tail and any(tag.startswith(tail) for tag in tags) else 0
