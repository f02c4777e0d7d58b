"""Chunks that differ from those before in their words alone: read without decoding their JSON again.

    {"id":"…","choices":[{"index":0,"delta":{"content":" the"},"finish_reason":null}],"obfuscation":"x7"}
    └────────────────────── head ─────────────────────┘words└────────────── middle ──────────────┘ └tail

Rules:
- The words are read by json's own string scanner and all around them is the same letter by letter, so the whole is the
  same value but for that one string.
- What that string is there for is not guessed: the reader proper tells, from a chunk with a probe in its place.
- Three chunks in a row must begin alike, two of them have the same frame, before the next is read by it; a stream in
  which they never do pays for a glance at each.
"""

from __future__ import annotations

from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed lacks it
from secrets import token_hex
from typing import NamedTuple

from .chunk import CallDelta, ChoiceDelta, Chunk

SAYING = ("content", "reasoning_content", "reasoning", "arguments")
HIDING = ("obfuscation", "p")  # OpenAI, Mistral: padding, so that nobody sees how long the words are
WORDS, PADDING = [[f'"{key}":{blank}"' for blank in ("", " ") for key in keys] for keys in (SAYING, HIDING)]
PROBE = f"probe-{token_hex(8)}"  # words that no server says


class Frame(NamedTuple):
    """What stands before the words, between them and the padding, and behind; without padding ``middle`` is empty."""

    head: str
    middle: str
    tail: str

    def filled(self, words: str) -> str:
        """A chunk in this frame, its padding filled with the words too."""
        padded = f'{self.middle}{words}"' if self.middle else ""
        return f'{self.head}{words}"{padded}{self.tail}'


class Template:
    """The newest frame of one stream. ``read`` decodes a chunk."""

    __slots__ = ("_chunk_of", "_head", "_last", "_last_head", "_middle", "_read", "_tail")

    def __init__(self, read: Callable[[str], Chunk]) -> None:
        self._read = read
        self._last_head = ""
        self._last: Frame | None = None
        self._head, self._middle, self._tail = Frame("\0", "", "")  # no JSON begins so
        self._chunk_of: Callable[[str], Chunk] = _with_words(Chunk(), ChoiceDelta())

    def chunk(self, data: str) -> Chunk | None:
        """The chunk if it stands in the frame, else None."""
        if not data.startswith(self._head):
            return None
        try:
            words, end = scanstring(data, len(self._head))
            if self._middle:
                if not data.startswith(self._middle, end):
                    return None
                _, end = scanstring(data, end + len(self._middle))
        except ValueError:  # no JSON; the reader proper will say so
            return None
        return self._chunk_of(words) if words and data[end:] == self._tail else None

    def learn(self, data: str, chunk: Chunk) -> None:
        """Look at a chunk that did not stand in the frame; take its own frame if the one before had the same."""
        start = _behind(WORDS, data, 0)
        head = data[:start]
        if not start or head != self._last_head:
            self._last_head = head
            return
        frame = _frame(data, start)
        if frame == self._last and chunk.choices:
            delta = chunk.choices[0]
            chunk_of = (_with_arguments if delta.calls else _with_words)(chunk, delta)
            if self._read(frame.filled(PROBE)) == chunk_of(PROBE):
                self._head, self._middle, self._tail = frame
                self._chunk_of = chunk_of
        self._last = frame


def _frame(data: str, start: int) -> Frame:
    """The frame of a valid chunk whose words begin at ``start``."""
    _, end = scanstring(data, start)
    padding = _behind(PADDING, data, end)
    if not padding:
        return Frame(data[:start], "", data[end:])
    _, padding_end = scanstring(data, padding)
    return Frame(data[:start], data[end:padding], data[padding_end:])


def _behind(keys: list[str], data: str, begin: int) -> int:
    """Where the string under the first of these keys begins, if it is not empty; 0 if there is none."""
    for key in keys:
        found = data.find(key, begin)
        if found >= 0 and not data.startswith('"', found + len(key)):
            return found + len(key)
    return 0


def _with_words(chunk: Chunk, delta: ChoiceDelta) -> Callable[[str], Chunk]:
    """Makes chunks like this one, whose choice has this delta, with other words."""
    place = 1 if delta.text else 2
    before, after, rest = delta[:place], delta[place + 1 :], chunk[1:]
    return lambda words: _new(Chunk, ((_new(ChoiceDelta, (*before, words, *after)),), *rest))


def _with_arguments(chunk: Chunk, delta: ChoiceDelta) -> Callable[[str], Chunk]:
    """The same for a chunk whose words are the arguments of a call."""
    key, before, after, rest = delta.calls[0][:3], delta[:4], delta[5:], chunk[1:]
    return lambda words: _new(
        Chunk, ((_new(ChoiceDelta, (*before, (_new(CallDelta, (*key, words)),), *after)),), *rest)
    )


_new = tuple.__new__  # by position, for a third of the price
