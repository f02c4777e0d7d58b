"""Chunks that differ from the one before in their text alone, read without decoding their JSON again.

    {"id":"…","choices":[{"index":0,"delta":{"content":" the"},"finish_reason":null}],"obfuscation":"x7"}
    └────────────────────── head ─────────────────────┘text└────────────── middle ──────────────┘  └tail

Rules:
- The text is read by json's own string scanner, and all around it is compared character by character, so the whole is
  the same value but for that one string.
- What that string means is not guessed: the slow path reads one such chunk, with a probe in place of the text.
- Three chunks in a row must begin alike, and two of them have the same frame, before the next is read by it; a stream
  whose chunks never do pays for one look at each.
"""

from __future__ import annotations

from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed lacks it
from secrets import token_hex
from typing import NamedTuple

from .chunk import CallDelta, ChoiceDelta, Chunk

TEXT_KEYS = ("content", "reasoning_content", "reasoning", "arguments")
PADDING_KEYS = ("obfuscation", "p")  # OpenAI, Mistral: padding that hides how long the text is
TEXT, PADDING = [[f'"{key}":{blank}"' for blank in ("", " ") for key in keys] for keys in (TEXT_KEYS, PADDING_KEYS)]
PROBE = f"probe-{token_hex(8)}"  # a text that no server sends


class Frame(NamedTuple):
    """What stands before the text, between text and padding, and at the end; ``middle`` is empty without padding."""

    head: str
    middle: str
    tail: str

    def render(self, text: str) -> str:
        """A chunk in this frame, with ``text`` as its padding too."""
        padded = f'{self.middle}{text}"' if self.middle else ""
        return f'{self.head}{text}"{padded}{self.tail}'


class FastPath:
    """The newest frame of one stream. ``read`` is the slow path, which decodes a chunk."""

    __slots__ = ("_chunk_of", "_head", "_last", "_last_head", "_middle", "_read", "_tail")

    def __init__(self, read: Callable[[str], Chunk]) -> None:
        self._read = read
        self._last_head = ""
        self._last: Frame | None = None
        self._head, self._middle, self._tail = Frame("\0", "", "")  # no JSON begins so
        self._chunk_of: Callable[[str], Chunk] = _with_text(Chunk(), ChoiceDelta())

    def chunk(self, data: str) -> Chunk | None:
        """The chunk if it has the newest frame, else None."""
        if not data.startswith(self._head):
            return None
        try:
            text, end = scanstring(data, len(self._head))
            if self._middle:
                if not data.startswith(self._middle, end):
                    return None
                _, end = scanstring(data, end + len(self._middle))
        except ValueError:  # no JSON; the slow path says so
            return None
        return self._chunk_of(text) if text and data[end:] == self._tail else None

    def observe(self, data: str, chunk: Chunk) -> None:
        """Look at a chunk that the slow path has read; adopt its frame if the chunk before had the same one."""
        start = _after(TEXT, data, 0)
        head = data[:start]
        if not start or head != self._last_head:
            self._last_head = head
            return
        frame = _frame(data, start)
        if frame == self._last and chunk.choices:
            delta = chunk.choices[0]
            chunk_of = (_with_arguments if delta.calls else _with_text)(chunk, delta)
            if self._read(frame.render(PROBE)) == chunk_of(PROBE):
                self._head, self._middle, self._tail = frame
                self._chunk_of = chunk_of
        self._last = frame


def _frame(data: str, start: int) -> Frame:
    """The frame of a valid chunk whose text begins at ``start``."""
    _, end = scanstring(data, start)
    padding = _after(PADDING, data, end)
    if not padding:
        return Frame(data[:start], "", data[end:])
    _, padding_end = scanstring(data, padding)
    return Frame(data[:start], data[end:padding], data[padding_end:])


def _after(keys: list[str], data: str, begin: int) -> int:
    """Where the string under the first of these keys begins, if it is not empty; 0 if there is none."""
    for key in keys:
        found = data.find(key, begin)
        if found >= 0 and not data.startswith('"', found + len(key)):
            return found + len(key)
    return 0


def _with_text(chunk: Chunk, delta: ChoiceDelta) -> Callable[[str], Chunk]:
    """A maker of chunks like this one, whose choice has this delta, with another text or reasoning."""
    place = 1 if delta.text else 2
    before, after, rest = delta[:place], delta[place + 1 :], chunk[1:]
    return lambda text: _new(Chunk, ((_new(ChoiceDelta, (*before, text, *after)),), *rest))


def _with_arguments(chunk: Chunk, delta: ChoiceDelta) -> Callable[[str], Chunk]:
    """A maker of chunks like this one with other arguments of its call."""
    call, before, after, rest = delta.calls[0], delta[:4], delta[5:], chunk[1:]
    key, more = call[:3], call[4:]
    return lambda text: _new(
        Chunk, ((_new(ChoiceDelta, (*before, (_new(CallDelta, (*key, text, *more)),), *after)),), *rest)
    )


_new = tuple.__new__  # sets all fields by position, for a third of the price
