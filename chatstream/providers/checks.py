"""Checks the fields of a `Provider`; a `ConfigError` says what a field must be.

Rules:
- Each field is in one of the lists below, by the kind of value it takes; `check_fields` checks the others by name.
- No message shows a value, because a value may be secret: a URL, a header and a misplaced key all can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .._runtime.imports import imports
from .._secrets import has_key_prefix, looks_like_key, masked_if_key
from ..errors import ConfigError

TEXTS = ("name", "base_url", "key_header", "path")
OPTIONAL_TEXTS = ("env_key", "env_key_instructions", "model")
SWITCHES = (
    "stream_usage",
    "developer_role",
    "other_tools",
    "keepalive_resets_idle",
    "skip_undecodable",
    "echo_reasoning_always",
    "check_history",
    "eof_completes",
)
COUNTS = ("request_max_retries", "stream_max_retries")
OPTIONAL_COUNTS = ("retry_budget",)
SECONDS = ("stream_idle_timeout", "connect_timeout", "max_retry_after", "rate_limit_timeout", "finish_grace")
OPTIONAL_SECONDS = ("first_event_timeout",)
TABLES = ("query_params", "http_headers", "env_http_headers")

MAX_SECONDS = 2_147_483  # a socket's timeout is a signed 32-bit count of milliseconds

_HOST = r"[\w.:%-]+"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token of RFC 9110, section 5.6.2
_VISIBLE = r"[\x21-\x7e\xa1-\xac\xae-\xff]"  # Latin-1 without spaces, controls and the soft hyphen
_KEY = f"{_VISIBLE}+"
_HEADER_VALUE = f"({_VISIBLE}+( +{_VISIBLE}+)*)?"
_ADDRESS = "base_url must be a URL like https://api.example.com/v1: http or https, a host, and no port above 65535"


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if one of a provider's ``fields`` can't work; ``api_key`` is left to `checked_key`."""
    for names, check in _KINDS:
        for name in names:
            check(name, fields[name])
    _check_think_tags(fields["think_tags"])
    _check_echo_reasoning(fields["echo_reasoning"], fields["echo_reasoning_scope"])
    _check_names(fields["name"], fields["model"])
    _check_env_key(fields["env_key"])
    _check_base_url(fields["base_url"])
    _check_path(fields["path"])
    _check_headers(fields["key_header"], fields["http_headers"], fields["env_http_headers"])


def checked_key(key: object, source: str) -> str:
    """``key``, which was read from ``source``. Raises `ConfigError` if a header can't carry it."""
    if isinstance(key, str) and re.fullmatch(_KEY, key):
        return key
    if isinstance(key, str) and not key.strip():
        raise ConfigError(f"{source} is blank")
    raise ConfigError(f"{source} must be a str of visible Latin-1 characters: no space, line end or typographic quote")


def returned_key(key: Any) -> str:
    """What a function passed as ``api_key`` returned. Raises `ConfigError` if it can't be a key."""
    if hasattr(key, "__await__"):
        getattr(key, "close", bool)()  # a coroutine that was never begun would warn
        raise ConfigError("api_key must not be an async function: pass one that returns the key itself")
    if not isinstance(key, str):
        key = type(key)  # the frame may show this
        raise ConfigError(f"the result of api_key() must be a str, not {key.__name__}")
    return checked_key(key, "the result of api_key()")


def checked_headers(headers: Any, source: str) -> dict[str, str]:
    """The headers of ``source``. Raises `ConfigError` if a name or a value can't be sent."""
    _check_table(source, headers)
    for name, value in headers.items():
        _check_header_name(name, source)
        checked_header(value, f"header {name!r} in {source}")
    return dict(headers)


def checked_header(value: str, source: str) -> str:
    """``value``, which was read from ``source``. Raises `ConfigError` if it can't be the value of a header."""
    _require(re.fullmatch(_HEADER_VALUE, value), f"{source} must be printable Latin-1 without spaces around it")
    return value


def checked_model(model: str) -> str:
    """``model``. Raises `ConfigError` if it is not a str, or is a key that was passed by mistake."""
    _require(isinstance(model, str), f"model must be a str, not {type(model).__name__}")
    _require(not has_key_prefix(model), "model looks like a key: pass the key as api_key, and a model's name as model")
    return model


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ConfigError(message)


# ── kinds of values ─────────────────────────────────────────────────────────────────────────────────────────────


def _check_text(name: str, value: object) -> None:
    _require(isinstance(value, str) and value.strip(), f"{name} must be a str that is not blank")


def _check_switch(name: str, value: object) -> None:
    _require(isinstance(value, bool), f"{name} must be true or false")


def _check_count(name: str, value: Any) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    _require(is_integer and value >= 0, f"{name} must be an integer of at least 0")


def check_seconds(name: str, value: Any) -> None:
    """Raise `ConfigError` if ``value`` is not a number of seconds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    message = f"{name} must be a number of seconds above 0 and at most {MAX_SECONDS}"
    _require(is_number and 0 < value <= MAX_SECONDS, message)


def _check_table(name: str, value: Any) -> None:
    message = f"{name} must be a dict (in TOML, a table) of printable strings, in which no name is empty"
    _require(isinstance(value, Mapping), message)
    for key, text in value.items():
        _require(isinstance(key, str) and key.isprintable() and key, message)
        wrong = "not printable" if isinstance(text, str) else f"of the type {type(text).__name__}"
        _require(isinstance(text, str) and text.isprintable(), f"{message}; that of {masked_if_key(key)!r} is {wrong}")


def _or_none(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """``check`` for a field that may be None."""
    return lambda name, value: None if value is None else check(name, value)


_KINDS: Sequence[tuple[Sequence[str], Callable[[str, Any], None]]] = (
    (TEXTS, _check_text),
    (OPTIONAL_TEXTS, _or_none(_check_text)),
    (SWITCHES, _check_switch),
    (COUNTS, _check_count),
    (OPTIONAL_COUNTS, _or_none(_check_count)),
    (SECONDS, check_seconds),
    (OPTIONAL_SECONDS, _or_none(check_seconds)),
    (TABLES, _check_table),
)


# ── single fields ───────────────────────────────────────────────────────────────────────────────────────────────


def _check_think_tags(value: Any) -> None:
    message = "think_tags must be a tuple or list of str that are not blank"
    _require(isinstance(value, (list, tuple)), message)
    _require(all(isinstance(tag, str) and tag.strip() for tag in value), message)


def _check_echo_reasoning(key: object, scope: object) -> None:
    keys = ("reasoning_content", "reasoning", "reasoning_details", None)
    _require(key in keys, f"echo_reasoning must be one of {', '.join(map(repr, keys))}")
    _require(scope in ("all", "turn"), "echo_reasoning_scope must be 'all' or 'turn'")


def _check_names(name: str, model: str | None) -> None:
    _require(not looks_like_key(name), "name looks like a key: pass the key as api_key, and another name")
    checked_model(model or "")


def _is_variable(name: str) -> bool:
    return re.fullmatch(_VARIABLE, name) is not None and not looks_like_key(name)


def _check_env_key(value: str | None) -> None:
    _require(
        value is None or _is_variable(value),
        "env_key must be the name of the environment variable that holds the key; pass the key itself as api_key",
    )


def _check_base_url(url: str) -> None:
    _require(url.isprintable() and " " not in url, "base_url must have no spaces and no control characters")
    parts = _split(url)
    _require("@" not in parts.netloc, "base_url must have no user:password@; pass the key as env_key or api_key")
    _require(parts.scheme in ("http", "https") and re.fullmatch(_HOST, parts.hostname or ""), _ADDRESS)
    _require(not parts.fragment, "base_url must have no '#' part")
    try:
        with imports():  # Python imports this codec when it is first used
            (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise ConfigError("each label of base_url's host must have 1 to 63 characters") from None


def _split(url: str) -> SplitResult:
    with suppress(ValueError):  # suppressed and not chained, because its message may quote a password
        parts = urlsplit(url)
        if parts.port != 0:
            return parts
    raise ConfigError(_ADDRESS)


def _check_path(path: str) -> None:
    _require(
        path.isprintable() and not re.search("[ ?#]", path),
        "path must have no spaces, control characters, '?' or '#'; pass parameters as query_params",
    )


def _check_header_name(name: str, source: str) -> None:
    valid = re.fullmatch(_HEADER_NAME, name) and not looks_like_key(name)
    _require(valid, f"the keys of {source} must be valid header names")


def _check_headers(key_header: str, literal: Mapping[str, str], from_environment: Mapping[str, str]) -> None:
    _require(re.fullmatch(_HEADER_NAME, key_header), "key_header must be a header name")
    for name in (*literal, *from_environment):
        _check_header_name(name, "http_headers and env_http_headers")
    for name, value in literal.items():
        checked_header(value, f"header {name!r}")
    for name, variable in from_environment.items():
        message = f"env_http_headers: the value for header {name!r} must be the name of an environment variable"
        _require(_is_variable(variable), message)
