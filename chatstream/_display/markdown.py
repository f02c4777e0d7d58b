"""A model's Markdown → Markdown that a notebook shows without running anything in it, or loading anything for it.

JupyterLab sanitizes the HTML inside Markdown only where the notebook is not trusted, and the output of a cell that the
user has just run is trusted: a ``<script>`` in an answer would run.

Rules:
- No ``<`` of the model begins a tag, and no ``&`` an entity. Code that has either is put into tags of our own, each of
  its signs as an entity: so it does not matter if a renderer takes other places for code than this module does.
- No image is loaded, because its URL could carry off what the model has read: it becomes a link. No link runs a script.
- What is left, such as ``$a & b$`` and the code of most languages, is not touched, and rendered as usual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"([ \t]*)(`{3,}(?=[^`]*$)|~{3,})")
_CODE = re.compile(r"(?<![`\\])(`+)(?!`)(.{1,500}?)(?<!`)\1(?!`)")
# Bounded, as code is, so that signs without their partner cost no more time than others.
_MATH = re.compile(r"\$\$.{1,200}?\$\$|\$(?! )[^$\n]{1,200}?\$|\\\(.{1,200}?\\\)|\\\[.{1,200}?\\\]", re.DOTALL)
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")
_HARMFUL = re.compile(rf"{_TAG.pattern}|(?<=\]\()\s*<|(?<=\]:)\s*<|&(?=#?\w+;)|!(?=\[)")
_SCRIPT = re.compile(r"(\][(:]\s*)(?=(?:javascript|vbscript|data)\\?:)", re.IGNORECASE)
_SIGNS = re.compile(r"[^\w ]|_")


def harmless(markdown: str) -> str:
    """The same Markdown, without what a browser would run or load. A block of code that is still open is closed."""
    return "\n".join(_blocks(iter(markdown.split("\n"))))


def as_entities(text: str) -> str:
    """A text in which nothing means anything to Markdown or HTML, as one line that is displayed as its lines."""
    return _SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", text)


def _blocks(lines: Iterator[str]) -> Iterator[str]:
    text: list[str] = []
    for line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            text.append(line)
        else:
            yield from _harmless_text(text)
            yield _harmless_block(line, list(_until(lines, fence[2])), fence)
            text = []
    yield from _harmless_text(text)


def _until(lines: Iterator[str], fence: str) -> Iterator[str]:
    """The lines of a block of code, up to the fence that closes it."""
    for line in lines:
        ending = line.strip()
        if len(ending) >= len(fence) and not ending.strip(fence[0]):
            return
        yield line


def _harmless_block(opening: str, code: list[str], fence: re.Match[str]) -> str:
    block = "\n".join([opening, *code, fence[0]])
    lines = "\n".join(code)
    return block if _defused(block) == block else f"{fence[1]}<pre><code>{as_entities(lines)}</code></pre>"


def _harmless_text(lines: list[str]) -> Iterator[str]:
    if lines:
        pieces, text, end = [], "\n".join(lines), 0
        for code in _CODE.finditer(text):
            if _defused(code[0]) != code[0]:
                pieces += [_defused(text[end : code.start()]), f"<code>{as_entities(code[2])}</code>"]
                end = code.end()
        yield "".join([*pieces, _defused(text[end:])])


def _defused(text: str) -> str:
    # In mathematics an entity is no sign, and a blank is nothing.
    spaced = _MATH.sub(lambda math: _TAG.sub("< ", math[0]), text)
    return _SCRIPT.sub(r"\1#", _HARMFUL.sub(_as_entity, spaced))


def _as_entity(sign: re.Match[str]) -> str:
    return f"{sign[0][:-1]}&#{ord(sign[0][-1])};"
