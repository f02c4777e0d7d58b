"""What items and parts have in common: their tagged form, and the checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError


def tagged(type: str, **values: Any) -> dict[str, Any]:
    """The tagged form with this ``type`` and all ``values`` but those that are None."""
    return {"type": type, **{name: value for name, value in values.items() if value is not None}}


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
