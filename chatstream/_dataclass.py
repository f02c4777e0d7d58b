"""Values: frozen, slotted dataclasses that cost little to define and little to make.

    class ──frozen──▶ the same, as a frozen and slotted dataclass

`dataclass(frozen=True, slots=True)` writes six functions for every class and compiles each of them, which was half of
what the rooms of this library took to load; and it sets each field by its name, once for each event of a stream.

Rules:
- A dataclass to all who ask: `fields`, `replace`, `asdict`, ``match``, copy and pickle treat it as one. In one thing it
  is stricter: a plain subclass is as frozen as it is.
- Only ``__init__`` differs: it sets each field through its slot, and is compiled once for each number of fields. The
  other methods stand here, once for all.
- A method that a class has of its own stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from functools import cache
from reprlib import recursive_repr
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform  # in typing from 3.11 on
else:

    def dataclass_transform(**_):
        return lambda function: function


T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make of ``cls`` what ``dataclass(frozen=True, slots=True)`` would make of it."""
    own = set(vars(cls))
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__dataclass_params__.frozen = True  # so that a frozen dataclass may inherit from it
    for name in _SHARED.keys() - own:
        setattr(made, name, _SHARED[name])
    if "__init__" not in own:
        made.__init__ = _initializer(made)
    return made  # type: ignore[no-any-return]


def _initializer(cls: type[Any]) -> FunctionType:
    """The ``__init__`` of a class: code that all classes of as many fields share, with its own names and defaults."""
    own = fields(cls)
    code = _code(len(own), hasattr(cls, "__post_init__"))
    code = code.replace(co_varnames=("self", *[each.name for each in own]))
    setters = {f"set_{place}": _setter(cls, each) for place, each in enumerate(own)}
    optional = [each for each in own if not (each.default is MISSING and each.default_factory is MISSING)]
    made = FunctionType(code, setters, "__init__", tuple([each.default for each in optional]))
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {**{each.name: each.type for each in own}, "return": None}
    return made


@cache
def _code(count: int, checks: bool) -> CodeType:
    """An ``__init__`` for ``count`` fields, which calls ``__post_init__`` if it ``checks``."""
    parameters = "".join([f", _{place}" for place in range(count)])
    lines = [f" set_{place}(self, _{place})" for place in range(count)] + [" self.__post_init__()"] * checks
    made: dict[str, Any] = {}
    exec(f"def __init__(self{parameters}):\n" + "\n".join(lines or [" pass"]), made)
    code: CodeType = made["__init__"].__code__
    return code


def _setter(cls: type[Any], field: Field[Any]) -> Callable[[Any, Any], None]:
    """What puts a value into a field's slot; without a value, what its factory makes."""
    put: Callable[[Any, Any], None] = vars(cls)[field.name].__set__
    make = field.default_factory
    return put if make is MISSING else lambda self, given: put(self, make() if given is MISSING else given)


class _Value:
    """The methods that every value has; they are copied, not inherited."""

    @recursive_repr()
    def __repr__(self: Any) -> str:
        shown = [f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr]
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


_SHARED = {name: method for name, method in vars(_Value).items() if isinstance(method, FunctionType)}
