"""The fields of a `Provider` → the same, checked.

Rules:
- What can't work raises `ConfigError` and says what to do.
- No message shows a value: it may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigError

Fields = dict[str, Any]

MAX_SECONDS = 2_147_483  # a socket counts its timeout in milliseconds, in 31 bits

_HOST = r"[\w.:%-]+"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2: token
_VISIBLE = r"[\x21-\x7e\xa1-\xac\xae-\xff]"  # latin-1 without blanks, controls and the soft hyphen
_KEY = f"{_VISIBLE}+"
_HEADER_VALUE = f"({_VISIBLE}+( +{_VISIBLE}+)*)?"
_ADDRESS = "base_url must be an address like https://api.example.com/v1: http or https, a host, a port to 65535"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS


_KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {  # by annotation, as `Provider` spells it
    "str": (_is_text, "a text, not blank"),
    "str | None": (lambda value: value is None or _is_text(value), "a text, not blank, or left out"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (lambda value: type(value) is int and value >= 0, "a whole number, 0 or more"),
    "float": (_is_seconds, f"a number of seconds above 0, up to {MAX_SECONDS}"),
    "float | None": (lambda value: value is None or _is_seconds(value), "a number of seconds above 0, or left out"),
    "Mapping[str, str]": (
        lambda value: isinstance(value, Mapping) and all(map(_is_pair, value.items())),
        "a table of names and printable texts",
    ),
    "tuple[str, ...]": (
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_text, value)),
        "a list of texts, none blank",
    ),
}


def _is_pair(pair: tuple[object, object]) -> bool:
    return all(isinstance(text, str) and text.isprintable() for text in pair) and pair[0] != ""


def checked(fields: Fields, kinds: Mapping[str, Any]) -> Fields:
    """The ones of ``fields`` to keep a copy of; ``kinds`` has each one's annotation. Raises `ConfigError`."""
    for name, value in fields.items():
        if kinds[name] in _KINDS:
            fits, wanted = _KINDS[kinds[name]]
            _need(fits(value), f"{name} must be {wanted}")
    _check_words(**fields)
    _check_base_url(fields["base_url"])
    _check_headers(fields["http_headers"], fields["env_http_headers"])
    # dicts of their own: nobody else changes them, and read-only views could not be pickled
    copies: Fields = {name: dict(value) for name, value in fields.items() if kinds[name] == "Mapping[str, str]"}
    return copies | {"think_tags": tuple(fields["think_tags"])}


def checked_key(key: object, where: str) -> str:
    """``key``, which came from ``where``; `ConfigError` without a word of it when no header can carry it."""
    if isinstance(key, str) and re.fullmatch(_KEY, key):
        return key
    raise ConfigError(f"{where} must be a str of visible latin-1: no blank, no line end, no typographic quote")


def checked_header(value: str, where: str) -> str:
    """``value``, which came from ``where``; `ConfigError` without a word of it when it is no header value."""
    _need(re.fullmatch(_HEADER_VALUE, value), f"{where} must be printable latin-1 with no blank around it")
    return value


def _need(condition: object, advice: str) -> None:
    if not condition:
        raise ConfigError(advice)


def _check_words(env_key: str | None, key_header: str, path: str, echo_reasoning: object, **others: object) -> None:
    _need(
        env_key is None or re.fullmatch(_VARIABLE, env_key),
        "env_key must be the name of the environment variable that holds the key, not the key (that is api_key)",
    )
    _need(re.fullmatch(_HEADER_NAME, key_header), "key_header must be the name of a header")
    _need(
        path.isprintable() and not re.search("[ ?#]", path),
        "path must have no blanks, control characters, '?' or '#'; parameters are query_params",
    )
    _need(
        echo_reasoning in (None, "reasoning_content", "reasoning"),
        "echo_reasoning must be 'reasoning_content' or 'reasoning', or left out",
    )


def _check_base_url(url: str) -> None:
    # no message shows the URL: it may hold a password, or a key in its query
    _need(url.isprintable() and " " not in url, "base_url must have no blanks and no control characters")
    parts = _split(url)
    _need("@" not in parts.netloc, "base_url must have no user:password@; give the key as env_key or api_key")
    _need(parts.scheme in ("http", "https") and re.fullmatch(_HOST, parts.hostname or ""), _ADDRESS)
    _need(not parts.fragment, "base_url must have no '#' part")
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise ConfigError("each label of base_url's host must have 1 to 63 characters") from None


def _split(url: str) -> SplitResult:
    with suppress(ValueError):  # its text may quote what stands before the @
        parts = urlsplit(url)
        if parts.port != 0:
            return parts
    raise ConfigError(_ADDRESS)


def _check_headers(literal: Mapping[str, str], named: Mapping[str, str]) -> None:
    for name in (*literal, *named):
        _need(re.fullmatch(_HEADER_NAME, name), f"{name!r} can't be the name of a header")
    for name, value in literal.items():
        checked_header(value, f"header {name!r}")
    for name, variable in named.items():
        _need(re.fullmatch(_VARIABLE, variable), f"env_http_headers: {name!r} must name an environment variable")
