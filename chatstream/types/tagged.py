"""Values ↔ plain JSON: events, turns and what they hold ↔ dicts with a ``type`` key.

    OutputTextDelta("Hi") ─to_tagged▶ {"type": "output_text_delta", "delta": "Hi", "choice": 0} ─from_tagged▶ the same

Rules:
- The ``type`` is the name of the class in lower case, and each field has its own name. None, and a list or dict that
  is empty by default, is left out.
- The result consists of dicts, lists, str, numbers and bools, and shares nothing with the value.
- Unknown keys are ignored, so that a program reads what a newer version of this library has written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, TypeVar

from ..errors import ConfigError

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A copy of ``value`` with the lists and dicts of JSON, in which each value with `to_dict` is its dict."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def tag_of(cls: type) -> str:
    """``token_usage`` for `TokenUsage`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def to_tagged(value: Any) -> dict[str, Any]:
    """A dataclass as a dict with a ``type`` key."""
    tag, named = _form(value.__class__)
    tagged: dict[str, Any] = {"type": tag}
    for name, key, is_optional in named:
        held = plain(getattr(value, name))
        if held is not None and (is_optional or held not in ([], {})):
            tagged[key] = held
    return tagged


@cache
def _form(cls: Any) -> tuple[str, tuple[tuple[str, str, bool], ...]]:
    """The tag of a dataclass, and of each field its name, its key, and whether it is None by default."""
    return tag_of(cls), tuple([(each.name, each.name.lstrip("_"), each.default is None) for each in fields(cls)])


def from_tagged(cls: type[T], data: Mapping[str, Any], **readers: Callable[[Any], Any]) -> T:
    """The value from its dict ``data``; a field that has a reader is what the reader returns.

    Raises `ConfigError` if ``data`` is not a mapping, has the type of another class, or lacks a key.
    """
    required(tag_of(cls), data)
    values: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]  # all are dataclasses
        name = field.name.lstrip("_")
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if not has_default or data.get(name) is not None:
            held = require_key(data, name)
            values[field.name] = readers[name](held) if name in readers else _simple(held, field, name)
    return cls(**values)


def _simple(value: Any, field: Field[Any], name: str) -> Any:
    """A value that is no object: of the type of the field's default, or a str if it has none."""
    kind = str if field.default is MISSING else type(field.default)
    if not isinstance(value, (str, int, float) if field.default is None else kind):
        wanted = "str or a number" if field.default is None else kind.__name__
        raise ConfigError(f"{name} must be a {wanted}, not {value!r:.80}")
    return value


def as_dict(value: Any) -> dict[str, Any]:
    """A copy of a mapping. Raises `ConfigError` for another value."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"expected a dict, not {value!r:.80}")
    return dict(plain(value))


def tuple_of(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A reader of lists whose entries ``read`` reads."""

    def read_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, (list, tuple)):
            raise ConfigError(f"expected a list, not {values!r:.80}")
        return tuple([read(each) for each in values])

    return read_all


# ── what items and parts share ──────────────────────────────


def tagged(type: str, **values: Any) -> dict[str, Any]:
    """A dict with this ``type`` and all ``values`` but those that are None."""
    return {"type": type, **{name: plain(value) for name, value in values.items() if value is not None}}


def required(type: str, data: Mapping[str, Any], *keys: str) -> list[Any]:
    """The values of these keys. Raises `ConfigError` if ``data`` is no mapping, has another type, or lacks a key."""
    if not isinstance(data, Mapping) or data.get("type", type) != type:
        raise ConfigError(f'expected a dict with the type "{type}", not {data!r:.80}')
    return [require_key(data, key) for key in keys]


def require_key(data: Mapping[str, Any], key: str) -> Any:
    """``data[key]``. Raises `ConfigError` if ``data`` is not a mapping or has no such key."""
    if not isinstance(data, Mapping) or key not in data:
        raise ConfigError(f'expected a dict with the key "{key}", not {data!r:.80}')
    return data[key]


def check_text(value: object, *names: str, or_none: bool = False) -> None:
    """Raise `ConfigError` if one of these attributes of ``value`` is not a str (or None, if ``or_none``)."""
    wanted = "a str or None" if or_none else "a str"
    for name in names:
        text = getattr(value, name)
        if not isinstance(text, str) and not (or_none and text is None):
            raise ConfigError(f"{type(value).__name__}.{name} must be {wanted}, not {type(text).__name__}")


def check_dict(value: object, name: str) -> None:
    """Raise `ConfigError` if this attribute of ``value`` is not a dict."""
    if not isinstance(getattr(value, name), dict):
        raise ConfigError(f"{type(value).__name__}.{name} must be a dict, not {type(getattr(value, name)).__name__}")
