"""JSON of any kind → values of the kind that is wanted: servers put null, numbers and objects where words belong.

text ─load▶ value ─string, word, obj, only_object▶ what can be worked with
"""

from __future__ import annotations

from json import JSONDecoder
from typing import Any

try:
    from orjson import loads as _fast  # the extra ``speed``
except ImportError:
    _fast = None  # type: ignore[assignment]

_decode = JSONDecoder().raw_decode


def load(text: str) -> Any:
    """The value of a JSON text that begins with its first character. Raises ValueError and RecursionError.

    The two ways differ in whole numbers beyond 64 bits alone: the fast one rounds them.
    """
    if _fast is not None:
        try:
            return _fast(text)
        except ValueError:
            pass  # NaN and lone surrogates, which json takes; and what is no JSON for either
    value, end = _decode(text)
    if end != len(text) and text[end:].strip():
        raise ValueError("more than one JSON text in an event")
    return value


def string(value: Any) -> str:
    """The string, or an empty one."""
    return value if value.__class__ is str else ""


def word(value: Any) -> str | None:
    """The string if it says anything, else None."""
    return value if value and value.__class__ is str else None


def obj(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if value.__class__ is dict else {}


def only_object(value: Any) -> dict[str, Any] | None:
    """The object, or the one in a list of one; else None."""
    if value.__class__ is list and len(value) == 1:
        (value,) = value
    return value if value.__class__ is dict else None
