"""Values: frozen, slotted dataclasses that cost little to define and little to make.

    class ──frozen──▶ the same, as a frozen and slotted dataclass

`dataclass(frozen=True, slots=True)` writes six functions for every class and compiles each of them, which was half of
what the rooms of this library took to load; and it sets a field by its name, which was most of what an event took.

Rules:
- A dataclass to all who ask: `fields`, `replace`, `asdict`, ``match``, copy and pickle treat it as one.
- Only ``__init__`` is compiled, and sets each field through its slot. The other methods stand here, once for all.
- A method that a class has of its own stays.
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
    """Make of ``cls`` what ``dataclass(frozen=True, slots=True)`` would make of it."""
    own = set(vars(cls))
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__dataclass_params__.frozen = True  # so that a frozen dataclass may inherit from it
    for name in _SHARED.keys() - own:
        setattr(made, name, _SHARED[name])
    if "__init__" not in own:
        made.__init__ = _initializer(made)
    return made  # type: ignore[no-any-return]


def _initializer(cls: type[Any]) -> Any:
    """The ``__init__`` of a class; compiled, because it is called for each event of a stream."""
    names: dict[str, Any] = {"MISSING": MISSING}
    parameters, lines = ["self"], []
    for each in fields(cls):
        names[f"set_{each.name}"] = vars(cls)[each.name].__set__
        names[f"default_{each.name}"], parameter, given = _default(each)
        parameters.append(parameter)
        lines.append(f" set_{each.name}(self, {given})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), names)
    made = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {**{each.name: each.type for each in fields(cls)}, "return": None}
    return made


def _default(field: Field[Any]) -> tuple[Any, str, str]:
    """The default of a field or what makes it, the parameter, and the expression for the value given."""
    name = field.name
    if field.default_factory is not MISSING:
        return field.default_factory, f"{name}=MISSING", f"default_{name}() if {name} is MISSING else {name}"
    return field.default, name if field.default is MISSING else f"{name}=default_{name}", name


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
