"""The secrets of a request → the texts of its server without them.

    the URL, headers and key of a request ─secrets_of▶ Secrets ─redact▶ the server's texts without them

Rules:
- A secret of fewer than 8 characters is not searched for, because that would cut up ordinary words.
- A secret is also found in another case, escaped for JSON, HTML or a URL, split over lines, or cut off at the end.
"""

from __future__ import annotations

import re
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ._runtime.imports import imports
from ._secrets import MASK, MIN_LENGTH, Hidden, is_ordinary, is_secret

MAX_DEPTH = 4  # of escapes inside escapes
ENOUGH = 256  # characters of a secret that nothing else begins with
HALF_ESCAPE = 8  # characters: the most that is left of an escape which was cut off
CUT_LENGTH = 500  # characters; a text that was cut off to 2 kB or more is no shorter

_SCHEMES = ("bearer", "basic", "token", "apikey", "api-key", "key")  # of the header Authorization

_ESCAPE = re.compile(
    r"""
      \\+u(?P<json>[0-9a-f]{4}) | \\+u\{(?P<braced>[0-9a-f]{1,6})\} | \\+x(?P<python>[0-9a-f]{2})
    | %(?P<url>[0-9a-f]{2}) | (?P<html>&(\#\d{1,7}|\#x[0-9a-f]{1,6}|[a-z]{2,8});)
    | (?P<nothing>\\+[bfnrt]|\\+|[\s\u00ad\u200b-\u200f\u2028\u2029\u2060\ufeff]+|</?w?br\s*/?>)
    """,
    re.I | re.X,
)


def secrets_of(
    url: str,
    headers: Mapping[str, str | bytes],
    key: tuple[str, str] | None,
    fields: Iterable[Any] = (),
    session: Any = None,
) -> Secrets:
    """The secrets that a request sends: its key, those of its headers, its query and its fields, and what a session of
    requests adds, as far as that is known before it is sent."""
    found = [value for value in fields if isinstance(value, Hidden)]
    for name, value in headers.items():
        text = value if isinstance(value, str) else value.decode("latin-1")
        if name.lower() == "cookie":
            found += [Hidden(each.partition("=")[2]) for each in text.split("; ")]
        elif isinstance(value, Hidden) or is_secret(name, text):
            found += [Hidden(text)]
    found += [Hidden(value) for name, value in parse_qsl(urlsplit(url).query) if is_secret(name, value)]
    found += [Hidden(key[1])] if key else []
    return Secrets([*found, *map(Hidden, _of_session(session))])


def _of_session(session: Any) -> Iterator[str]:
    """The secrets of a session's headers and basic authentication; none of one without these attributes."""
    for name, value in dict(getattr(session, "headers", None) or {}).items():
        if isinstance(value, str) and is_secret(name, value):
            yield value
    auth = getattr(session, "auth", None)
    basic = auth if isinstance(auth, tuple) and len(auth) == 2 else ()
    user, password = basic or (getattr(auth, "username", ""), getattr(auth, "password", ""))
    if password and isinstance(password, str):
        pair = f"{user}:{password}"
        yield from (password, pair, b64encode(pair.encode("latin-1", "replace")).decode())


class Secrets:
    """Takes the secrets of a request out of texts."""

    __slots__ = ("_decoded", "_escaped", "_plain", "_values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {Hidden(each) for value in values for each in _spellings(value) if len(each) >= MIN_LENGTH}
        self._values = sorted(found, key=len, reverse=True)
        self._plain = _pattern(self._values)
        decoded = map(_unescaped, self._values)
        self._decoded = [each for each in decoded if len(each) >= MIN_LENGTH]
        self._escaped = _pattern(self._decoded)

    def __bool__(self) -> bool:
        return bool(self._values)

    def redact(self, text: str) -> str:
        """The text with ``***`` in place of each secret, also of the beginning of one where the text was cut off."""
        text = self.redact_whole(text)
        return "…".join(map(self._without_beginning, text.split("…"))) if len(text) >= CUT_LENGTH else text

    def redact_whole(self, text: str) -> str:
        """As `redact`, of a text that was not cut off: what only begins as a secret stays."""
        if not self._values or len(text) < len(self._values[-1]):
            return text
        if self._decoded and self._escaped.search(_unescaped(text)):  # rarely: to find where takes three times as long
            text = self._without_escaped(text)
        return self._plain.sub(MASK, text)

    def _without_escaped(self, text: str) -> str:
        decoded, begins, ends = _decoded(text)
        kept: list[str] = []
        position = 0
        for found in self._escaped.finditer(decoded):
            kept += text[position : begins[found.start()]], MASK
            position = ends[found.end() - 1]
        return "".join((*kept, text[position:]))

    def _without_beginning(self, text: str) -> str:
        """The text without the beginning of a secret at its end, where it was cut off."""
        if len(text) < MIN_LENGTH:
            return text
        decoded, begins, _ = _decoded(text[-CUT_LENGTH:])
        for value in self._decoded:
            start = decoded.find(value[:MIN_LENGTH])
            while start >= 0:
                if value.startswith(decoded[start:-HALF_ESCAPE]):
                    return text[:-CUT_LENGTH] + text[-CUT_LENGTH:][: begins[start]] + MASK
                start = decoded.find(value[:MIN_LENGTH], start + 1)
        return text


def _pattern(values: Iterable[str]) -> re.Pattern[str]:
    """Any of the values. In a periodic text a search takes the product of both lengths, so the beginning of a long
    value is enough, and its rest is taken where it follows."""
    parts = [(re.escape(value[:ENOUGH]), re.escape(value[ENOUGH:])) for value in values]
    return re.compile("|".join(f"{beginning}(?:{rest})?" for beginning, rest in parts), re.I)


def _spellings(value: str) -> Iterator[str]:
    """The texts that stand for one secret: itself, without its scheme, its parts, and what base64 hides in it."""
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() in _SCHEMES and credentials:
        if scheme.lower() == "basic":
            user, _, password = _of_base64(credentials).partition(":")
            yield from (f"{user}:{password}", password)
        value = credentials.strip()
    yield value
    if not value.isascii():  # read as Latin-1, though it was written as UTF-8
        yield value.encode().decode("latin-1")
    yield from (part for part in re.split(r"[\s;,=:&]+", value) if not is_ordinary(part))


def _of_base64(text: str) -> str:
    try:
        return b64decode(text).decode()
    except ValueError:
        return ""


def _unescaped(text: str) -> str:
    """The text without its escapes, blanks and backslashes."""
    for _ in range(MAX_DEPTH):
        text, count = _ESCAPE.subn(_character, text)
        if not count:
            break
    return text


def _decoded(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """`_unescaped`, and where each of its characters begins and ends in ``text``."""
    begins: Sequence[int] = range(len(text))
    ends: Sequence[int] = range(1, len(text) + 1)
    for _ in range(MAX_DEPTH):
        if not _ESCAPE.search(text):
            break
        text, inner_begins, inner_ends = _decoded_once(text)
        begins = array("L", (begins[each] for each in inner_begins))
        ends = array("L", (ends[each - 1] for each in inner_ends))
    return text, begins, ends


def _decoded_once(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    pieces: list[str] = []
    begins, ends = array("L"), array("L")  # of lists, each number would take four times the memory
    position = 0
    for found in chain(_ESCAPE.finditer(text), [None]):
        start, end = found.span() if found else (len(text), len(text))
        character = _character(found) if found else ""
        pieces += text[position:start], character
        begins.extend((*range(position, start), *[start] * len(character)))
        ends.extend((*range(position + 1, start + 1), *[end] * len(character)))
        position = end
    return "".join(pieces), begins, ends


def _character(found: re.Match[str]) -> str:
    """The character that an escape stands for; empty for what may stand between two characters."""
    kind = found.lastgroup
    if kind == "nothing":
        return ""
    if kind == "html":
        with imports():
            from html import unescape

        return unescape(found["html"])
    code = int(found[kind or 0], 16)
    return chr(code) if code < 0x110000 else ""
