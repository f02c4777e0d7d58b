"""JSON of any kind → values of the kind that is wanted: servers put null, numbers and objects where words belong."""

from __future__ import annotations

from typing import Any


def string(value: Any) -> str:
    """The string, or an empty one."""
    return value if value.__class__ is str else ""


def word(value: Any) -> str | None:
    """The string if it says anything, else None."""
    return value if value and value.__class__ is str else None


def obj(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if value.__class__ is dict else {}
