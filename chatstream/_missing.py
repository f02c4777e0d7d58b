"""The attributes that a class has in other libraries, or only as options → an AttributeError that says what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn


def explain_missing(cls: Any, hints: Mapping[str, str]) -> None:
    """Let the AttributeError for a missing attribute of ``cls`` end with its hint.

    The method is set on the finished class, because type checkers would take one in its body for leave to use any name.
    """

    def missing(self: object, name: str) -> NoReturn:
        hint = f": {hints[name]}" if name in hints else ""
        raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

    cls.__getattr__ = missing


def refuse_changes(cls: Any, options: Collection[str]) -> None:
    """Refuse that one of these ``options`` is set on an object of ``cls``: it would change nothing, and requests would
    still go to the old URL, say. A subclass may have attributes of these names.

    The method is set on the finished class for the same reason as above.
    """

    def change(self: object, name: str, value: object) -> None:
        if name in options and type(self) is cls:
            message = f"{name} of a {cls.__name__} can't be changed: create another one, {cls.__name__}(…, {name}=…)"
            raise AttributeError(message, name=name, obj=self)
        object.__setattr__(self, name, value)

    cls.__setattr__ = change
