"""Fragments of JSON text → values that grow, or the elements of an array one by one.

    {"name": "Bo ─partial_json▶ {"name": "Bo"}
    [{"name": "Bob"}, {"na ─array_items▶ {"name": "Bob"}

Rules:
- A number or a literal is shown when it is complete, a string while it grows.
- The work is linear in the length of the text.
- jiter is optional, and used only by `partial_json`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

from .._runtime.imports import imports
from ..errors import ConfigError
from .fence import unfenced
from .structured import WRAPPER
from .text import clean_json, strict_json
from .values import instance_of

T = TypeVar("T")

# ── values that grow ────────────────────────────────────────────────────────────────────────────────────────────

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_LITERAL = re.compile(rb"(?:tr?u?|fa?l?s?|nu?l?)\Z")


def partial_json(pieces: Iterable[str]) -> Iterator[Any]:
    """Yield the value of a JSON text while it grows, each time the value changes; the last value is complete.

    ``pieces`` are the deltas of a text or of a call's arguments. A string in the value is included as far as it has
    arrived; numbers, ``true``, ``false`` and ``null`` are included once they are complete. The text is parsed only
    when it has grown by about 3 %, so not every piece yields a value. A code fence around it is removed.
    Requires the extra ``chatstream-py[json]`` (jiter). Raises `ConfigError` without it, and ValueError if the text is
    not JSON, at the latest when it has ended; a text that was cut off is no error.
    """
    try:
        with imports():
            from jiter import from_json
    except ImportError:
        raise ConfigError('partial_json needs jiter: pip install "chatstream-py[json]"') from None

    def value_of(whole: bytes) -> Any:
        return from_json(whole, partial_mode="trailing-strings", allow_inf_nan=False) if whole.strip() else latest

    text, next_length = bytearray(), 1
    latest: Any = object()  # equal to no value
    for piece in unfenced(pieces):
        text += piece.encode("utf-8", "replace")
        if len(text) >= next_length:
            next_length = len(text) + len(text) // 32 + 1
            value = value_of(_settled(text))
            if value != latest:
                yield (latest := value)
    if (value := value_of(_whole_or_settled(bytes(text), from_json))) != latest:
        yield value


def _settled(text: bytes | bytearray) -> bytes:
    """``text`` without a number or a literal at its end to which more may belong."""
    outside = _STRING.sub(b'""', text)  # a number at its end is not inside a string
    number = outside[len(outside.rstrip(b"+-.0123456789eE")) :]
    if number[:1] == b"-" or number[:1].isdigit():
        return bytes(text[: len(text) - len(number)])
    literal = _LITERAL.search(outside[-4:])
    return bytes(text[: len(text) - len(literal[0])] if literal else text)


def _whole_or_settled(text: bytes, parse: Callable[..., Any]) -> bytes:
    """``text`` if it is one whole value, or `_settled` if it is cut off. Raises ValueError if it is not JSON.

    While it arrives, jiter takes anything after a value for the end: a missing comma, a second value, a remark.
    """
    try:
        parse(text, allow_inf_nan=False)
    except ValueError as error:
        if not str(error).startswith("EOF while parsing"):
            raise
        return _settled(text)
    return text


# ── elements of an array ────────────────────────────────────────────────────────────────────────────────────────

_TOKEN = re.compile(r'[][{},:"\\]|[^][{},:"\\]+')


@overload
def array_items(pieces: Iterable[str], model: None = None, *, name: str | None = None) -> Iterator[Any]: ...
@overload
def array_items(pieces: Iterable[str], model: type[T], *, name: str | None = None) -> Iterator[T]: ...
@overload
def array_items(pieces: Iterable[str], model: Any, *, name: str | None = None) -> Iterator[Any]: ...


def array_items(pieces: Iterable[str], model: Any = None, *, name: str | None = None) -> Iterator[Any]:
    """Yield each element of a JSON array as soon as it is complete, as an instance of ``model`` if given.

    ``pieces`` are the deltas of a text, such as ``stream.text()``. The text is an array, or an object that has
    the array under the key ``name``; the answer to ``response_format=list[…]`` needs no name. ``pieces`` are read to
    the end. A code fence around the text is removed. Raises ValueError if the text has no such array, if the array is
    cut off, or if an element is not JSON or does not match ``model``.
    """
    tokens = _tokens(unfenced(pieces))
    depth = _skip_to_array(tokens, name)
    for number, text in enumerate(_elements(tokens)):
        where = f"{name or ''}[{number}]"
        try:
            value = clean_json(text)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON ({error}): {text[:80]!r}") from None
        yield value if model is None else instance_of(value, model, where)
    rest = "".join(tokens)  # all is read, so that the stream ends
    if depth == 0 and rest.strip():
        raise ValueError(f"there is more text after the array: {rest.strip()[:80]!r}")


def _tokens(pieces: Iterable[str]) -> Iterator[str]:
    """Brackets, commas, colons, whole strings, and pieces of what is between them."""
    string: list[str] = []
    escaped = False
    for piece in pieces:
        for token in _TOKEN.findall(piece):
            if not string and token != '"':
                yield token
                continue
            string.append(token)
            if token == '"' and not escaped and len(string) > 1:
                yield "".join(string)
                string = []
            escaped = token == "\\" and not escaped


def _skip_to_array(tokens: Iterator[str], name: str | None) -> int:
    """Read up to the bracket that opens the array, and return how many brackets are around it.

    Raises ValueError if there is no such array.
    """
    depth, key, previous = 0, "", ""
    for token in filter(str.strip, tokens):
        if token == "[" and (depth, previous) in ((0, ""), (1, ":")) and _is_wanted(key, name, depth):
            return depth
        if depth == 0 and token != "{":
            break
        if depth == 1 and token == ":":
            key = previous
        depth += _change_of_depth(token)
        previous = token
    no_name = "the text is not an array: pass name=…, the key of the array"
    raise ValueError(no_name if name is None else f'the text has no array "{name}"')


def _is_wanted(key: str, name: str | None, depth: int) -> bool:
    return name is None if depth == 0 else strict_json(key) == (WRAPPER if name is None else name)


def _elements(tokens: Iterator[str]) -> Iterator[str]:
    """The texts of the elements after the opening bracket. Raises ValueError if the closing one is missing."""
    element: list[str] = []
    depth, ended, first = 1, False, True
    for token in tokens:
        if depth == 1 and token in (",", "]"):
            text = "".join(element)
            if ended and text.strip():
                raise ValueError(f"a comma is missing in the array, before {text.strip()[:80]!r}")
            if text.strip() or not (ended or (first and token == "]")):
                yield text  # a number or a literal
            if token == "]":
                return
            element, ended, first = [], False, False
            continue
        depth += _change_of_depth(token)
        element.append(token)
        if depth == 1 and token[0] in '"}]' and not ended:
            yield "".join(element)
            element, ended = [], True
    raise ValueError("the array is cut off")


def _change_of_depth(token: str) -> int:
    return {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
