"""JSON text inside a single fenced block → the text without the fence; whole, or in pieces as it arrives.

Many models write a fence around their JSON unless the server forces a schema on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from ..errors import ConfigError

_FENCES = ("```", "~~~")
_INFO = re.compile(
    r"\A(?:[ \t]*json[5c]?(?![\w+.-])|[\w+.-]*(?=\s))", re.IGNORECASE
)  # the language, alone in its line or ``json``; some models write a blank before it
_LONGEST_INFO = 100  # characters
_HELD_BACK = "`~ \t\r\n"  # what may belong to the closing fence


def without_fence(text: str) -> str:
    """``text`` without the fence, if it is a single fenced block."""
    block = text.strip()
    fence = block[:3]
    if fence not in _FENCES or not block.endswith(fence) or len(block) < 6:
        return text
    return _INFO.sub("", block.strip(fence[0]))


def unfenced(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces of a text without the fence of its block, and without the blanks before it; in linear time.

    Raises `ConfigError` for a piece that is not a str.
    """
    pieces = map(_checked, pieces)
    head, fenced = "", False
    for piece in pieces:
        head = (head + piece).lstrip()
        fenced = head[:3] in _FENCES
        if not any(fence.startswith(head[:3]) for fence in _FENCES) or "\n" in head or len(head) > _LONGEST_INFO:
            break
    if not fenced:
        yield head
        yield from pieces
        return
    held: list[str] = []
    for piece in chain([_INFO.sub("", head.lstrip("`~"))], pieces):
        content = piece.rstrip(_HELD_BACK)
        if content:
            yield "".join(held) + content
            held = []
        held.append(piece[len(content) :])
    yield re.sub(r"[`~]{3,}\Z", "", "".join(held).strip())


def _checked(piece: str) -> str:
    if not isinstance(piece, str):
        raise ConfigError(f"the pieces of a text must be str, such as those of stream.text(), not {piece!r:.60}")
    return piece
