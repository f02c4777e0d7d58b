"""Chunks → chunks: reasoning that a model writes into its text, between tags, becomes reasoning.

    "…<thi" "nk>because</th" "ink>So"  ─▶  text "…", reasoning "because", text "So"

Rules (only where a provider has ``think_tags``):
- A tag may be cut anywhere; text that may become one is held back, and released at the choice's end.
- Tags do not nest: inside, only the end tag counts; outside, only a start tag.
- An end tag without its start stays in the text: where the reasoning began is unknown, and the caller can cut there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .chunk import ChoiceDelta, Chunk


class ThinkTags:
    """Splits the chunks of one answer at ``<tag>`` and ``</tag>``, for each of ``tags``."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = tags
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
        splitter = self._splitters.setdefault(delta.choice, _Splitter(self._tags))
        text, reasoning = splitter.split(delta.text)
        if delta.finish_reason:
            more_text, more_reasoning = splitter.flush()
            text, reasoning = text + more_text, reasoning + more_reasoning
        return delta._replace(text=text, reasoning=delta.reasoning + reasoning)


class _Splitter:
    """Splits the text of one choice."""

    def __init__(self, tags: Sequence[str]) -> None:
        self._starts = {f"<{tag}>": f"</{tag}>" for tag in tags}
        self._end = ""  # the tag that ends the present reasoning
        self._held = ""

    def split(self, text: str) -> tuple[str, str]:
        """What of ``text`` is text and what is reasoning."""
        rest = self._held + text
        self._held = ""
        outside: list[str] = []
        inside: list[str] = []
        while rest:
            here = inside if self._end else outside
            wanted = [self._end] if self._end else list(self._starts)
            position, tag = min(((rest.find(tag), tag) for tag in wanted if tag in rest), default=(-1, ""))
            if not tag:
                keep = _tag_prefix(rest, wanted)
                here.append(rest[: len(rest) - keep])
                self._held = rest[len(rest) - keep :]
                break
            here.append(rest[:position])
            rest = rest[position + len(tag) :]
            self._end = "" if self._end else self._starts[tag]
        return "".join(outside), "".join(inside)

    def flush(self) -> tuple[str, str]:
        """What was held back."""
        held, self._held = self._held, ""
        return ("", held) if self._end else (held, "")


def _tag_prefix(text: str, tags: list[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a tag."""
    start = text.rfind("<")
    tail = text[start:] if start >= 0 else ""
    return len(tail) if tail and any(tag.startswith(tail) for tag in tags) else 0
