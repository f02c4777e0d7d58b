"""A provider → its settings as texts, without what may be secret in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .._secrets import MASK, hidden_if_key, without_query


def shown_fields(provider: Any) -> list[tuple[str, str]]:
    """Name and repr of each field that differs from its default. Also of a provider whose ``__init__`` raised."""
    made = [each for each in fields(provider) if hasattr(provider, each.name)]
    changed = [each.name for each in made if getattr(provider, each.name) not in (each.default, {})]
    return [(name, _field_repr(name, getattr(provider, name))) for name in changed]


def _field_repr(name: str, value: Any) -> str:
    if name == "api_key":  # still a str where `__init__` raised
        return MASK
    if name in ("http_headers", "query_params"):  # both are used for keys
        return repr(dict.fromkeys(map(hidden_if_key, value), MASK)) if isinstance(value, Mapping) else MASK
    if name == "base_url" and isinstance(value, str):
        return repr(without_query(value))
    return repr(hidden_if_key(value))
