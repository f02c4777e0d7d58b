"""A class and the attributes that its likes have in other libraries → an AttributeError that says what to use here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn


def explain_missing(cls: Any, hints: Mapping[str, str]) -> None:
    """Let the AttributeError for a missing attribute of ``cls`` end with its hint.

    The method is set on the finished class, because type checkers would take one in its body for leave to use any name.
    """

    def missing(self: object, name: str) -> NoReturn:
        hint = f": {hints[name]}" if name in hints else ""
        raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

    cls.__getattr__ = missing
