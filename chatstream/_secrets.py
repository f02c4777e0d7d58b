"""What nobody may see: secrets with a hidden repr, and texts of a server without the secrets that it repeats.

    the URL, headers and key of a request ─secrets_of▶ Secrets ─redact▶ the server's texts without them

Rules:
- The key is a secret, and so is every header value from the environment. A header or a parameter of the query that is
  written out is one if `is_secret` says so: by its name, or because its value is no ordinary text.
- In the frames of a traceback, in reprs and in pickles a secret of any length is hidden. In a server's texts one of
  fewer than 8 characters is not searched for, because that would cut up ordinary words.
- A secret is also found in another case, escaped for JSON, HTML or a URL, split over lines, or cut off at the end.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsIndex, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

Spans = list[tuple[int, int]]  # start and end of each character in the text that was decoded
E = TypeVar("E", bound=BaseException)

MASK = "***"
MIN_LENGTH = 8  # characters of a secret that is searched for, and of a beginning of one
MAX_DEPTH = 4  # of escapes inside escapes
CUT_LENGTH = 500  # characters; a text that was cut off to 2 kB or more is no shorter

_NAME = re.compile(
    r"auth(?!or)|key|token|secret|passw|pwd|credential|cookie|session|signature|\bsig\b|jwt|\bcode\b", re.I
)
# What vendors begin their keys with; AKIA is Amazon's, eyJ the beginning of every JSON Web Token.
_PREFIX = re.compile(r"(Bearer )?((sk|gsk)[-_]|(csk|xai|nvapi|pplx)-|AIza|AKIA|eyJ)\S{5,}")
_WORD = re.compile(r"[^\W\d_]{0,23}\d{0,4}|\d{1,8}[^\W\d_]{0,12}")  # a word or a number, as in web01, 2024, 64bit
_ADDRESS = re.compile(r"https?://[^\s?]*", re.I)
_SCHEMES = ("bearer", "basic", "token", "apikey", "api-key", "key")  # of the header Authorization

_ESCAPE = re.compile(
    r"""
      \\+u(?P<json>[0-9a-f]{4}) | \\+u\{(?P<braced>[0-9a-f]{1,6})\} | \\+x(?P<python>[0-9a-f]{2})
    | %(?P<url>[0-9a-f]{2}) | (?P<html>&(\#\d{1,7}|\#x[0-9a-f]{1,6}|[a-z]{2,8});)
    | (?P<nothing>\\+[bfnrt]|\\+|[\s\u00ad\u200b-\u200f\u2028\u2029\u2060\ufeff]+|</?w?br\s*/?>)
    """,
    re.I | re.X,
)


class Hidden(str):
    """A text whose repr is ``***``, so that no frame of a traceback shows it. Copies keep it, and a pickle has None in
    its place."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    def __getitem__(self, index: SupportsIndex | slice) -> Hidden:
        return Hidden(super().__getitem__(index))  # rich shows the first characters of a long text

    def __copy__(self) -> Hidden:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Hidden:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return type(None), ()


class Sealed:
    """A text that only `open` gives, for an attribute that anybody may print. Copies and pickles as of `Hidden`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def open(self) -> Hidden:
        return Hidden(self._value)

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Sealed:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Sealed:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


class HiddenQuery(Hidden):
    """A URL whose repr hides its query. A pickle leaves out the secret parameters."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_query(self))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        parts = urlsplit(str(self))
        kept = [each for each in parse_qsl(parts.query, keep_blank_values=True) if not is_secret(*each)]
        return HiddenQuery, (urlunsplit(parts._replace(query=urlencode(kept))),)


def without_query(url: str) -> str:
    """The URL with ``***`` in place of its query, if it has one."""
    address, mark, _ = url.partition("?")
    return address + mark + MASK if mark else address


def hidden(value: Any) -> Any:
    """``value``, with a hidden repr if it is a text."""
    return Hidden(value) if isinstance(value, str) else value


def concealed(value: Any) -> Any:
    """``value``, with a hidden repr if it is a text that looks like a key."""
    return Hidden(value) if isinstance(value, str) and looks_like_key(value) else value


def without_frames(error: E) -> E:
    """The error, without the frames and errors that it came from, which hold settings that may be secret."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def masked(name: str) -> str:
    """``name``, or ``***`` if it looks like a key."""
    return MASK if looks_like_key(name) else name


def has_key_prefix(text: str) -> bool:
    """Whether a text begins as the keys of a vendor do."""
    return _PREFIX.match(text) is not None


def looks_like_key(text: str) -> bool:
    """Whether a text given as a name is rather a key: by its beginning, or 16 letters and digits that are no word."""
    runs = re.findall(r"[A-Za-z0-9]{16,}", text)
    return has_key_prefix(text) or any(not _WORD.fullmatch(run) and not run.isupper() for run in runs)


def is_secret(name: str, value: str) -> bool:
    """Whether the header or parameter ``name`` holds a secret.

    It does if its name says so, as in ``api-key``, ``X-Token`` or ``Cookie``, or if its value, of at least 8
    characters, is more than addresses, words, numbers, dates and versions. ``api-version=2024-10-21``,
    ``HTTP-Referer: https://…`` and ``X-Title: My App`` hold none.
    """
    if _NAME.search(name):
        return bool(value)
    return len(value) >= MIN_LENGTH and (has_key_prefix(value) or not _is_ordinary(value))


def _is_ordinary(value: str) -> bool:
    words = re.split(r"[\W_]+", _ADDRESS.sub("", value))
    return all(len(word) < 6 or _WORD.fullmatch(word) for word in words)


def secrets_of(url: str, headers: Mapping[str, str], key: tuple[str, str] | None) -> Secrets:
    """The secrets that a request sends: its key, its `Hidden` headers, and the secret parameters of its query."""
    found = [value for value in headers.values() if isinstance(value, Hidden)]
    found += [Hidden(value) for name, value in parse_qsl(urlsplit(url).query) if is_secret(name, value)]
    return Secrets([*found, key[1]] if key else found)


class Secrets:
    """Takes the secrets of a request out of texts."""

    __slots__ = ("_decoded", "_escaped", "_plain", "_values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {Hidden(each) for value in values for each in _spellings(value) if len(each) >= MIN_LENGTH}
        self._values = sorted(found, key=len, reverse=True)
        self._plain = _pattern(self._values)
        decoded = [_decoded(value)[0] for value in self._values]
        self._decoded = [each for each in decoded if len(each) >= MIN_LENGTH]
        self._escaped = _pattern(self._decoded)

    def __bool__(self) -> bool:
        return bool(self._values)

    def redact(self, text: str) -> str:
        """The text with ``***`` in place of each secret."""
        if not self._values or len(text) < len(self._values[-1]):
            return text
        text = self._plain.sub(MASK, self._without_escaped(text))
        return "…".join(map(self._without_beginning, text.split("…"))) if len(text) >= CUT_LENGTH else text

    def _without_escaped(self, text: str) -> str:
        decoded, spans = _decoded(text)
        kept: list[str] = []
        position = 0
        for found in self._escaped.finditer(decoded) if self._decoded else ():
            kept += text[position : spans[found.start()][0]], MASK
            position = spans[found.end() - 1][1]
        return "".join((*kept, text[position:]))

    def _without_beginning(self, text: str) -> str:
        """The text without the beginning of a secret at its end, where it was cut off."""
        decoded, spans = _decoded(text[-CUT_LENGTH:])
        for value in self._decoded:
            for length in range(min(len(value) - 1, len(decoded)), MIN_LENGTH - 1, -1):
                if decoded.endswith(value[:length]):
                    return text[:-CUT_LENGTH] + text[-CUT_LENGTH:][: spans[-length][0]] + MASK
        return text


def _pattern(values: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, values)), re.I)


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
    yield from (part for part in re.split(r"[\s;,=:&]+", value) if not _is_ordinary(part))


def _of_base64(text: str) -> str:
    try:
        return b64decode(text).decode()
    except ValueError:
        return ""


def _decoded(text: str) -> tuple[str, Spans]:
    """The text without its escapes, blanks and backslashes, and where each of its characters stands in ``text``."""
    spans: Spans = [(each, each + 1) for each in range(len(text))]
    for _ in range(MAX_DEPTH):
        if not _ESCAPE.search(text):
            break
        text, inner = _decoded_once(text)
        spans = [(spans[start][0], spans[end - 1][1]) for start, end in inner]
    return text, spans


def _decoded_once(text: str) -> tuple[str, Spans]:
    pieces: list[str] = []
    spans: Spans = []
    position = 0
    for found in _ESCAPE.finditer(text):
        start, end = found.span()
        character = _character(found)
        pieces += text[position:start], character
        spans += [(each, each + 1) for each in range(position, start)]
        spans += [(start, end)] * len(character)
        position = end
    spans += [(each, each + 1) for each in range(position, len(text))]
    return "".join((*pieces, text[position:])), spans


def _character(found: re.Match[str]) -> str:
    """The character that an escape stands for; empty for what may stand between two characters."""
    kind = found.lastgroup
    if kind == "nothing":
        return ""
    if kind == "html":
        from html import unescape

        return unescape(found["html"])
    code = int(found[kind or 0], 16)
    return chr(code) if code < 0x110000 else ""
