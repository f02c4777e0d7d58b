"""Frozen, slotted dataclasses that are cheap to define and to create.

    class ──frozen──▶ the same, as a frozen and slotted dataclass

`dataclass(frozen=True, slots=True)` compiles six functions for every class and sets fields one by one through
``object.__setattr__``. For the 40 values of this library that adds 15 ms to the imports of a first answer, and half as
much again to the price of an event. Here ``__init__`` alone is compiled for each class; the other methods are shared.

Rules:
- The result is a dataclass to `fields`, `replace`, `asdict`, ``match``, copy and pickle.
- A method that a class defines itself stays.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from reprlib import recursive_repr
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform  # in typing from 3.11 on
else:

    def dataclass_transform(**_):
        return lambda function: function


T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """The class as ``dataclass(frozen=True, slots=True)`` would return it."""
    own = set(vars(cls))
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__dataclass_params__.frozen = True  # so that a frozen dataclass may inherit from it
    for name in _SHARED.keys() - own:
        setattr(made, name, _SHARED[name])
    if "__init__" not in own:
        made.__init__ = _initializer(made)
    return made  # type: ignore[no-any-return]


def _initializer(cls: type[Any]) -> FunctionType:
    """The ``__init__`` of a class; it sets each field through its slot."""
    own = fields(cls)
    names: dict[str, Any] = {"MISSING": MISSING}
    for each in own:
        names[f"set_{each.name}"] = vars(cls)[each.name].__set__
        names[f"default_{each.name}"] = each.default
        names[f"make_{each.name}"] = each.default_factory
    lines = [f" set_{each.name}(self, {_value(each)})" for each in own]
    if hasattr(cls, "__post_init__"):  # the values may be secret: if it raises, they are not in the frame
        lines += [f" del {', '.join(each.name for each in own)}", " self.__post_init__()"]
    exec(f"def __init__(self, {', '.join(map(_parameter, own))}):\n" + "\n".join(lines or [" pass"]), names)
    made: FunctionType = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {**{each.name: each.type for each in own}, "return": None}
    return made


def _parameter(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return f"{field.name}=default_{field.name}"
    return field.name if field.default_factory is MISSING else f"{field.name}=MISSING"


def _value(field: Field[Any]) -> str:
    name = field.name
    return name if field.default_factory is MISSING else f"make_{name}() if {name} is MISSING else {name}"


class _Methods:
    """The methods that all values have; they are copied, not inherited."""

    @recursive_repr()
    def __repr__(self: Any) -> str:
        # Not every field has a value if `__init__` raised.
        named = [each.name for each in fields(self) if each.repr and hasattr(self, each.name)]
        shown = [f"{name}={getattr(self, name)!r}" for name in named]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self: Any, other: object) -> bool:
        names = [each.name for each in fields(self) if each.compare]
        if type(other) is not type(self):
            return NotImplemented
        return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]

    def __hash__(self: Any) -> int:
        hashed = [each.name for each in fields(self) if (each.compare if each.hash is None else each.hash)]
        return hash(tuple([getattr(self, name) for name in hashed]))

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, each.name) for each in fields(self)]

    def __setstate__(self: Any, state: list[Any]) -> None:
        for each, kept in zip(fields(self), state, strict=True):
            object.__setattr__(self, each.name, kept)


_SHARED = {name: method for name, method in vars(_Methods).items() if isinstance(method, FunctionType)}
