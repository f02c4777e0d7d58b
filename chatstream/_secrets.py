"""Which values are secrets, and texts whose repr hides them.

Rules:
- The key is a secret, and so is every header value from the environment. A header or a parameter of the query that is
  written out is one if `is_secret` says so: by its name, or because its value is no ordinary text.
- A secret is hidden in reprs, in pickles, and so in the frames of a traceback, which tools print with their variables.
- A text that looks like a key, passed in place of a name, is hidden or rejected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex, TypeVar
from urllib.parse import parse_qsl, unquote, unquote_plus, urlencode, urlsplit, urlunsplit

E = TypeVar("E", bound=BaseException)

MASK = "***"
MIN_LENGTH = 8  # characters; a shorter value is ordinary, unless its name says otherwise, and is not searched for

_NAME = re.compile(
    r"auth(?!or)|authoriz|key|token|secret|passw|pwd|credential|cookie|session|signature|\bsig\b|jwt|\bcode\b", re.I
)
# What vendors begin their keys with; AKIA is Amazon's, eyJ the beginning of every JSON Web Token.
_PREFIX = re.compile(r"(Bearer )?((sk|gsk)[-_]|(csk|xai|nvapi|pplx)-|AIza|AKIA|eyJ)\S{5,}")
_WORD = re.compile(r"[^\W\d_]{0,23}\d{0,4}|\d{1,8}[^\W\d_]{0,12}")  # a word or a number, as in web01, 2024, 64bit
_ADDRESS = re.compile(r"https?://[^\s?]*", re.I)
_KEY_IN_TEXT = re.compile(rf"\bBearer \S+|\b{_PREFIX.pattern}")
_USER_IN_URL = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)")
_URL_WITH_QUERY = re.compile(r"\b\w+://[^\s'\"<>?]*\?[^\s'\"<>]*")


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
    """A secret text, or a function that returns one, for an attribute that anybody may print: only `open` returns the
    text. It is copied and pickled as `Hidden` is."""

    __slots__ = ("_value",)

    def __init__(self, value: str | Callable[[], Any]) -> None:
        self._value = value

    @property
    def is_function(self) -> bool:
        return not isinstance(self._value, str)

    def open(self) -> Any:
        return hidden(self._value if isinstance(self._value, str) else self._value())

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value if isinstance(self._value, str) else Sealed)  # not every function object has a hash

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
        return repr(without_query(str(self))) if "://" in self else MASK  # it may be a key, passed by mistake

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        parts = urlsplit(str(self))
        kept = [each for each in parse_qsl(parts.query, keep_blank_values=True) if not is_secret(*each)]
        return HiddenQuery, (urlunsplit(parts._replace(query=urlencode(kept))),)


def without_query(url: str) -> str:
    """The URL with ``***`` in place of its query, if it has one."""
    address, mark, _ = url.partition("?")
    return address + mark + MASK if mark else address


def visible_url(url: str) -> str:
    """The URL with ``***`` in place of the secret parameters of its query."""
    address, mark, query = url.partition("?")
    return address + mark + "&".join(map(_visible_parameter, query.split("&")))


def _visible_parameter(parameter: str) -> str:
    name, mark, value = parameter.rpartition("=")
    return name + mark + MASK if is_secret(unquote(name), unquote_plus(value)) else parameter


def visible_headers(headers: Mapping[str, str], key: tuple[str, str] | None) -> dict[str, str]:
    """The headers of a request, and the one of its key, with ``***`` in place of the secret values."""
    shown = {
        name: MASK if isinstance(value, Hidden) or is_secret(name, value) else value for name, value in headers.items()
    }
    return shown | ({key[0]: MASK} if key else {})


def hidden(value: Any) -> Any:
    """``value``, with a hidden repr if it is a text."""
    return Hidden(value) if isinstance(value, str) else value


def hidden_if_key(value: Any) -> Any:
    """``value``, with a hidden repr if it is a text that looks like a key."""
    return Hidden(value) if isinstance(value, str) and looks_like_key(value) else value


def name_for_pickle(value: str | None) -> str | None:
    """The name of a model for a pickle: None if it begins like a key. That of a fine-tuned model may look like one."""
    return None if value is None or has_key_prefix(value) else str(value)


def without_frames(error: E) -> E:
    """The error, without the frames and errors that it came from, which hold settings that may be secret."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def masked_if_key(name: str) -> str:
    """``name``, or ``***`` if it looks like a key."""
    return MASK if looks_like_key(name) else name


def masked_text(text: str) -> str:
    """A text with ``***`` in place of what looks like a key, and of the passwords and secret parameters of URLs."""
    text = _URL_WITH_QUERY.sub(lambda match: visible_url(match[0]), _USER_IN_URL.sub(MASK, text))
    return _KEY_IN_TEXT.sub(MASK, text)


def has_key_prefix(text: str) -> bool:
    """Whether a text begins as the keys of a vendor do."""
    return _PREFIX.match(text) is not None


def looks_like_key(text: str) -> bool:
    """Whether a text passed as a name is rather a key: by its beginning, or 16 letters and digits that are no word."""
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
    return len(value) >= MIN_LENGTH and (has_key_prefix(value) or not is_ordinary(value))


def is_named_secret(name: str, _value: str = "") -> bool:
    """Whether the name of a value says that it is secret."""
    return _NAME.search(name) is not None


def is_ordinary(value: str) -> bool:
    words = re.split(r"[\W_]+", _ADDRESS.sub("", value))
    return all(len(word) < 6 or _WORD.fullmatch(word) for word in words)


def hidden_table(value: Any) -> Any:
    """A dict passed as an option, with its secrets hidden; of any other value only its type, because all of it may be
    secret."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return hidden_secrets(value)
    return value if isinstance(value, type) else type(value)


def hidden_secrets(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request, with the secrets among them hidden, such as an ``api_key`` passed by mistake."""
    return {
        name: Hidden(value) if isinstance(value, str) and is_secret(str(name), value) else value
        for name, value in fields.items()
    }
