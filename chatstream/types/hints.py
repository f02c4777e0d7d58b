"""Annotations, read: what stands around a type, the fields of a class, and a name for messages and schemas.

Rules:
- A dataclass, a TypedDict and a NamedTuple are records: JSON objects with named fields.
- Whatever carries metadata of pydantic is left to pydantic as a whole, its constraints included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from functools import lru_cache
from inspect import get_annotations
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from .._dataclass import frozen
from ..errors import ConfigError

JSON_TYPES: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
LISTS = (list, Sequence, MutableSequence, Collection, Iterable)
DICTS = (dict, Mapping, MutableMapping)
UNIONS = (Union, UnionType)


@frozen
class RecordField:
    """A field of a record. ``required`` is False if it has a default, or may be left out."""

    name: str
    hint: Any
    required: bool


def unwrap(hint: Any) -> tuple[Any, str | None]:
    """The type inside ``Annotated``, ``NewType``, ``Required`` and ``NotRequired``, and its description, if any."""
    description = None
    while not uses_pydantic(hint):
        if get_origin(hint) is Annotated:
            description = description or _description(hint.__metadata__)
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif _qualifier(hint):
            hint = get_args(hint)[0]
        else:
            break
    if get_origin(hint) is Annotated:  # of pydantic, which knows no text beside its own metadata
        description = description or _description(hint.__metadata__)
    return hint, description


def _description(metadata: tuple[Any, ...]) -> str | None:
    """The first text in the metadata of ``Annotated``; ``documentation`` is the attribute of PEP 727's ``Doc``."""
    texts = (each if isinstance(each, str) else getattr(each, "documentation", None) for each in metadata)
    return next((text for text in texts if isinstance(text, str)), None)


def _qualifier(hint: Any) -> str | None:
    name = getattr(get_origin(hint), "_name", None)  # typing_extensions has its own objects on Python 3.10
    return name if name in ("Required", "NotRequired", "ReadOnly") else None


def uses_pydantic(hint: Any) -> bool:
    """Whether pydantic defines the schema of ``hint``: a class made with it, or ``Annotated`` with its metadata."""
    if get_origin(hint) is Annotated:
        packages = {type(each).__module__.partition(".")[0] for each in hint.__metadata__}
        return not packages.isdisjoint({"pydantic", "annotated_types"})
    return isinstance(hint, type) and (
        hasattr(hint, "__pydantic_core_schema__") or hasattr(hint, "__get_pydantic_core_schema__")
    )


def missing_package(error: ImportError, where: str) -> ConfigError:
    """The error for metadata whose package is missing: pydantic, or one that a type of pydantic needs."""
    needed = "pydantic 2: pip install pydantic" if error.name == "pydantic" else f"another package: {error}"
    return ConfigError(f"{where} has metadata that needs {needed}")


def is_pydantic_model(hint: Any) -> bool:
    """Whether ``hint`` is a model of pydantic 2. Its methods are looked for, because pydantic may not be installed."""
    return isinstance(hint, type) and hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate_json")


def is_alias(hint: Any) -> bool:
    """Whether ``hint`` is made by a ``type`` statement; such a type may contain itself."""
    return hasattr(hint, "__value__") and hasattr(hint, "__type_params__")


def alias_value(hint: Any) -> Any:
    """The type that an alias stands for."""
    return substitute(hint.__value__, {hint.__name__: hint, **_arguments(hint.__type_params__, hint)})


def is_path(hint: Any) -> bool:
    """Whether ``hint`` is a class of paths, such as `pathlib.Path`."""
    return isinstance(hint, type) and hasattr(hint, "__fspath__") and not getattr(hint, "__abstractmethods__", None)


def with_none(hint: Any) -> Any:
    """``hint`` that takes None, too: that of ``unit: str = None``, as many write it."""
    bare = hint.__origin__ if get_origin(hint) is Annotated else hint
    takes_none = bare in (Any, object) or NoneType in (bare, *get_args(bare))
    return hint if takes_none else Optional[hint]  # noqa: UP045  # not every hint has an operator |


# ── records ─────────────────────────────────────────────────────────────────────────────────────────────────────


def is_record(hint: Any) -> bool:
    """Whether ``hint`` is a dataclass, a TypedDict or a NamedTuple, with or without the types of its parameters."""
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or _is_typed_dict(kind) or _is_named_tuple(kind))


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_field_defaults")


@lru_cache(maxsize=256)  # reading annotations takes much longer than making a value of them
def record_fields(hint: Any) -> tuple[RecordField, ...]:
    """The fields of a record that are given when it is made. Raises `ConfigError` if its annotations can't be read."""
    kind: Any = get_origin(hint) or hint
    hints = _record_hints(kind)
    known = {kind.__name__: kind, **_arguments(getattr(kind, "__parameters__", ()), hint)}
    types = {name: substitute(each, known) for name, each in hints.items()} | _inherited(kind, known)
    types |= {name: with_none(types[name]) for name in types.keys() & _none_by_default(kind)}
    return tuple(RecordField(name, types.get(name, Any), required) for name, required in _required(kind, hints).items())


def _arguments(parameters: tuple[Any, ...], hint: Any) -> dict[Any, Any]:
    """The types that stand for the type variables of a generic type in ``hint``, such as ``int`` in ``Page[int]``."""
    return dict(zip(parameters, get_args(hint), strict=False))


def _inherited(kind: Any, known: Mapping[Any, Any]) -> dict[str, Any]:
    """The types of the fields that a class has from a base such as ``Page[int]``, in which ``int`` replaces ``T``."""
    bases = [base for base in vars(kind).get("__orig_bases__", kind.__bases__) if is_record(base)]
    fields = [field for base in reversed(bases) for field in record_fields(substitute(base, known))]
    own = () if _is_typed_dict(kind) else get_annotations(kind)  # a TypedDict has the annotations of its bases, too
    return {field.name: field.hint for field in fields if field.name not in own}


def _record_hints(kind: Any) -> dict[str, Any]:
    try:
        try:
            return get_type_hints(kind, include_extras=True)
        except NameError:  # a class inside a function that refers to itself
            return get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    except Exception as error:  # evaluating annotations can raise anything
        raise ConfigError(f"the annotations of {kind.__name__} can't be read: {error}") from error


def _none_by_default(kind: Any) -> set[str]:
    """The names of the fields whose default is None."""
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind) if field.default is None}
    return {name for name, default in getattr(kind, "_field_defaults", {}).items() if default is None}


def _required(kind: Any, hints: dict[str, Any]) -> dict[str, bool]:
    """The names of the fields, and whether each is required."""
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        own = [field for field in dataclasses.fields(kind) if field.init]
        return {field.name: field.default is missing and field.default_factory is missing for field in own}
    if _is_named_tuple(kind):
        return {name: name not in kind._field_defaults for name in kind._fields}
    # With postponed annotations, __required_keys__ knows nothing of the qualifiers.
    qualifiers = {"Required": True, "NotRequired": False}
    return {name: qualifiers.get(_qualifier(hints[name]) or "", name in kind.__required_keys__) for name in hints}


def substitute(hint: Any, known: Mapping[Any, Any]) -> Any:
    """``hint`` with the type variables and the quoted names that are ``known`` replaced.

    Python 3.10 leaves the text in ``list["Node"]`` as it is.
    """
    if isinstance(hint, (str, TypeVar, ForwardRef)):
        return known.get(getattr(hint, "__forward_arg__", hint), hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner: Any = (substitute(args[0], known), *hint.__metadata__)
        return Annotated[inner]
    new = tuple(substitute(each, known) for each in args)
    if origin is Literal or new == args:
        return hint
    return Union[new] if origin in UNIONS else origin[new]


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────


def type_label(hint: Any) -> str:
    """How ``hint`` is written in a message, without the modules of its classes."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is NoneType or origin is None:
        return "None" if hint is NoneType else str(getattr(hint, "__name__", hint))
    if origin is Annotated:
        return type_label(args[0])
    if origin in UNIONS:
        return " | ".join(map(type_label, args))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    name = getattr(origin, "__name__", None) or getattr(origin, "_name", origin)
    return f"{name}[{', '.join(map(type_label, args))}]"
