"""Python types → their JSON schemas.

    str, int, list[…], Literal, Enum, date, dataclass, TypedDict, pydantic model, … ─Schemas.of▶ JSON schema

Rules:
- A type without an unambiguous JSON schema raises `ConfigError`.
- Each record is a definition, so that it may contain itself; `with_definitions` puts the definitions in place.
- pydantic is optional, and used only for what is made with it.
"""

from __future__ import annotations

import enum
import re
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, count
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from .._runtime.imports import imports
from ..errors import ConfigError
from .hints import (
    DICTS,
    JSON_TYPES,
    LISTS,
    UNIONS,
    alias_value,
    is_alias,
    is_path,
    is_pydantic_model,
    is_record,
    missing_package,
    record_fields,
    type_label,
    unwrap,
    uses_pydantic,
)
from .json_schema import REFERENCE, Schema, map_subschemas, merge_all_of, with_definitions, without

_SIMPLE: list[tuple[Any, Schema]] = [
    *((hint, {"type": name}) for hint, name in JSON_TYPES.items()),
    (datetime, {"type": "string", "format": "date-time"}),
    (date, {"type": "string", "format": "date"}),
    (time, {"type": "string", "format": "time"}),
    (UUID, {"type": "string", "format": "uuid"}),
    (Decimal, {"type": "number"}),
    (Any, {}),
    (object, {}),
]


def schema_of(hint: Any, where: str) -> Schema:
    """The JSON schema of the type ``hint``. Raises `ConfigError`, which names its place as ``where``."""
    schemas = Schemas()
    return with_definitions(schemas.of(hint, where), schemas.definitions)


def schema_name(text: str) -> str:
    """``text`` as a name that servers take: 1 to 64 ASCII letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", text).strip("_")[:64] or "value"


class Schemas:
    """The schemas of several types, and in ``definitions`` what they refer to."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def of(self, hint: Any, where: str) -> Schema:
        """The schema of ``hint``. Raises `ConfigError`, which names its place as ``where``."""
        hint, description = unwrap(hint)
        schema = self._of(hint, where)
        return {**schema, "description": description} if description else schema

    def _of(self, hint: Any, where: str) -> Schema:
        if uses_pydantic(hint):
            return self._pydantic(hint, where)
        if isinstance(hint, enum.EnumMeta):
            members: list[enum.Enum] = list(hint)
            return _enum_schema([member.value for member in members], where)
        if is_record(hint) or is_alias(hint):
            return self._reference(hint, where)
        if is_path(hint):
            return {"type": "string"}
        simple = next((schema for known, schema in _SIMPLE if known is hint), None)  # not every hint can be hashed
        return self._generic(hint, get_args(hint), where) if simple is None else dict(simple)

    def _generic(self, hint: Any, args: tuple[Any, ...], where: str) -> Schema:
        origin = get_origin(hint) or hint
        if origin is Literal:
            return _enum_schema([arg.value if isinstance(arg, enum.Enum) else arg for arg in args], where)
        if origin in UNIONS:
            return {"anyOf": [self.of(arg, where) for arg in args]}
        if origin in LISTS or (origin is tuple and args[1:] in ((), (...,))):
            return {"type": "array", **({"items": self.of(args[0], where)} if args else {})}
        if origin is tuple:
            size = {"minItems": len(args), "maxItems": len(args)}
            return {"type": "array", "prefixItems": [self.of(arg, where) for arg in args], **size}
        if origin in DICTS and args[:1] in ((), (str,)):
            return {"type": "object", **({"additionalProperties": self.of(args[1], where)} if args else {})}
        shown = repr(hint) if isinstance(hint, type) or args else type_label(hint)
        raise ConfigError(
            f"{where} has the annotation {shown}, which has no known JSON schema: write the schema by hand"
        )

    def _reference(self, hint: Any, where: str) -> Schema:
        if hint not in self._names:
            name = self._names[hint] = self._reserve(schema_name(type_label(hint)))
            self.definitions[name] = self._record(hint) if is_record(hint) else self.of(alias_value(hint), where)
        return {"$ref": REFERENCE + self._names[hint]}

    def _record(self, hint: Any) -> Schema:
        fields, name = record_fields(hint), type_label(hint)
        properties = {field.name: self.of(field.hint, f"field {field.name} of {name}") for field in fields}
        required = [field.name for field in fields if field.required]
        return {"type": "object", "properties": properties, "required": required}

    def _pydantic(self, hint: Any, where: str) -> Schema:
        """The schema that pydantic makes; its definitions join the others, under other names if theirs are taken."""
        schema = _pydantic_schema(hint, where)
        own = schema.pop("$defs", {})
        shared = all(self.definitions.get(name, each) == each for name, each in own.items())
        names = {REFERENCE + name: name if shared else self._reserve(name) for name in own}

        def renamed(node: Schema) -> Schema:
            node = map_subschemas(without(merge_all_of(node), "discriminator"), renamed)
            reference = node.get("$ref")
            return {**node, "$ref": REFERENCE + names[reference]} if reference in names else node

        self.definitions |= {names[REFERENCE + name]: renamed(each) for name, each in own.items()}
        return renamed(schema)

    def _reserve(self, name: str) -> str:
        """A name that no definition has; it is taken from now on."""
        numbered = (f"{name[:60]}_{number}" for number in count(2))
        free = next(each for each in chain([name], numbered) if each not in self.definitions)
        self.definitions[free] = {}
        return free


def _pydantic_schema(hint: Any, where: str) -> Schema:
    try:
        if is_pydantic_model(hint):
            return dict(hint.model_json_schema())
        with imports():
            from pydantic import TypeAdapter
        return dict(TypeAdapter(hint).json_schema())
    except ImportError as error:
        raise missing_package(error, where) from None
    except Exception as error:  # pydantic has many errors, and models have code of their own
        raise ConfigError(f"{where} has the annotation {type_label(hint)}, which has no schema: {error}") from error


def _enum_schema(values: list[Any], where: str) -> Schema:
    kinds = {type(value) for value in values}
    if not kinds <= JSON_TYPES.keys():
        raise ConfigError(
            f"{where} has the values {values!r}, not all of which are JSON values: write the schema by hand"
        )
    return {**({"type": JSON_TYPES[kinds.pop()]} if len(kinds) == 1 else {}), "enum": values}
