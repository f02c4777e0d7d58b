"""What a function returns → the output of its call: text, content parts, or JSON text.

Rules:
- Characters stay as they are. A value that JSON does not support, such as NaN, raises `ConfigError` with its place.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

from ..errors import ConfigError
from .hints import is_path
from .parts import Content, ContentPart

_PARTS = get_args(ContentPart)


def output_content(value: Any, where: str) -> Content:
    """``value`` as a str or a list of parts. Raises `ConfigError` with ``where`` if it can't be converted to JSON."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        return value
    if isinstance(value, _PARTS):
        return [value]
    if isinstance(value, (list, tuple)) and any(isinstance(each, _PARTS) for each in value):
        return list(value)
    try:
        return json.dumps(_plain(value, where), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ConfigError(f"{where} can't be written as JSON: it contains itself, or is nested too deeply") from None


def _plain(value: Any, where: str) -> Any:
    """``value`` in the types of `json`. Raises `ConfigError`."""
    if isinstance(value, enum.Enum):
        return _plain(value.value, where)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(each, f"{where}.{key}") for key, each in value.items()}
    if hasattr(type(value), "model_dump"):
        return _plain(_dumped(value, where), where)
    if (fields := _fields(value)) is not None:
        return {name: _plain(each, f"{where}.{name}") for name, each in fields.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise ConfigError(f"{where} is {value}, which JSON does not support: use None or a str instead")
        return value if isinstance(value, float) else str(value)
    text = _text(value)
    if text is None:
        raise ConfigError(
            f"{where} is of the type {type(value).__name__}, which JSON does not support: convert it first"
        )
    return text


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass or a NamedTuple; None for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return str(value.__fspath__()) if is_path(type(value)) else None


def _key(key: Any, where: str) -> Any:
    plain = _plain(key, f"the key {key!r:.60} of {where}")
    if isinstance(plain, (list, dict)):
        raise ConfigError(f"the key {key!r:.60} of {where} can't be converted to JSON: use a str")
    return plain


def _dumped(model: Any, where: str) -> Any:
    try:
        return model.model_dump(mode="json")
    except ValueError as error:
        raise ConfigError(f"{where} can't be written as JSON: {error}") from error
