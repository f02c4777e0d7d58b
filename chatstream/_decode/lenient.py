"""JSON values of any type → the type that is wanted: servers send null, numbers and objects where text belongs.

text ─load▶ value ─str_or_empty, str_or_none, dict_or_empty, only_object▶ what can be used
"""

from __future__ import annotations

from json import JSONDecoder
from typing import Any

from ..errors import StreamTooLarge

try:
    from orjson import loads as _loads_fast  # the extra ``speed``
except ImportError:
    _loads_fast = None  # type: ignore[assignment]

_decode = JSONDecoder().raw_decode


def load(text: str) -> Any:
    """The value of a JSON text that begins with its first character. Raises ValueError and RecursionError.

    Both decoders agree but for whole numbers beyond 64 bits, which orjson rounds.
    """
    if _loads_fast is not None:
        try:
            return _loads_fast(text)
        except ValueError:
            pass  # NaN and lone surrogates, which json accepts; and what neither accepts
    value, end = _decode(text)
    if end != len(text) and text[end:].strip():
        raise ValueError("more than one JSON text in an event")
    return value


def check_containers(text: str, most: int) -> None:
    """Raise `StreamTooLarge` if a JSON text may hold more than ``most`` lists and objects. It is not decoded for that.

    An empty list takes twenty times the memory of its text.
    """
    if len(text) > most:
        check_count(count_containers(text), most)


def count_containers(text: str) -> int:
    """How many lists and objects a JSON text has, or would have if none of its brackets stood in strings."""
    return text.count("[") + text.count("{")


def check_count(count: int, most: int) -> None:
    """Raise `StreamTooLarge` if there are more than ``most`` lists and objects."""
    if count > most:
        raise StreamTooLarge(f"the answer has more than {most} lists and objects (Limits.json_containers)")


def str_or_empty(value: Any) -> str:
    """The value if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def str_or_none(value: Any) -> str | None:
    """The value if it is a string that is not empty, else None."""
    return value if value and isinstance(value, str) else None


def dict_or_empty(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def only_object(value: Any) -> dict[str, Any] | None:
    """The object, or the one in a list of one; else None."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    return value if isinstance(value, dict) else None
