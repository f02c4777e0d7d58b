"""JSON schemas → JSON schemas: definitions put where they belong, and the strict form of OpenAI's structured outputs.

Rules:
- Only what stands in the place of a schema is changed, so that a property may have the name of a keyword.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from .hints import JSON_TYPES

Schema = dict[str, Any]

REFERENCE = "#/$defs/"
_WITH_SCHEMA = {
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
}
_WITH_LIST = {"anyOf", "oneOf", "allOf", "prefixItems"}
_WITH_DICT = {"properties", "patternProperties", "dependentSchemas", "$defs"}
# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
_NEVER_STRICT = {
    *("allOf", "not", "if", "then", "else", "prefixItems", "contains", "minContains", "maxContains", "uniqueItems"),
    *("unevaluatedItems", "unevaluatedProperties", "patternProperties", "propertyNames", "minProperties"),
    *("maxProperties", "dependentRequired", "dependentSchemas", "minLength", "maxLength"),
}
_STRICT_FORMATS = ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"]
_LOOKAROUND = re.compile(r"\(\?<?[=!]")


def map_subschemas(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """``schema`` with ``change`` applied to each schema that stands directly in it."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, dict) else value

    new = dict(schema)
    for key, value in schema.items():
        if key in _WITH_SCHEMA:
            new[key] = changed(value)
        elif key in _WITH_LIST:
            new[key] = [changed(each) for each in value]
        elif key in _WITH_DICT:
            new[key] = {name: changed(each) for name, each in value.items()}
    return new


def all_schemas(schema: Schema) -> list[Schema]:
    """``schema`` and every schema in it."""
    found = [schema]

    def visit(inner: Schema) -> Schema:
        found.extend(all_schemas(inner))
        return inner

    map_subschemas(schema, visit)
    return found


def with_definitions(root: Schema, definitions: dict[str, Schema]) -> Schema:
    """``root`` with the ``definitions`` that it refers to.

    One that is used once stands in its place; the others stay in ``$defs``, as do all that contain themselves. The root
    itself is never a reference, because servers want an object there.
    """
    everything = [node for schema in (root, *definitions.values()) for node in all_schemas(schema)]
    uses = Counter(map(_definition_name, everything))

    def expand(schema: Schema) -> Schema:
        name = _definition_name(schema)
        if name not in definitions or uses[name] > 1:
            return map_subschemas(schema, expand)
        return {**expand(definitions[name]), **without(schema, "$ref")}

    kept = {name: expand(schema) for name, schema in definitions.items() if uses[name] > 1}
    root = expand(root)
    if (name := _definition_name(root)) in kept:
        root = {**kept[name], **without(root, "$ref")}
    return {**root, "$defs": kept} if kept else root


def _definition_name(schema: Schema) -> str:
    """The name of the definition that a schema refers to; empty if it is no reference."""
    return str(schema.get("$ref", "")).removeprefix(REFERENCE)


def merge_all_of(schema: Schema) -> Schema:
    """``schema`` with the single schema of its ``allOf`` put in its place; pydantic before 2.9 writes references so."""
    if len(schema.get("allOf", ())) != 1:
        return schema
    return {**schema["allOf"][0], **without(schema, "allOf")}


def strict_schema(schema: Schema) -> Schema:
    """The strict form: every property is required and no other is allowed, no defaults, ``$ref`` stands alone."""
    strict = map_subschemas(without(schema, "default"), strict_schema)
    if "oneOf" in strict:
        strict["anyOf"] = strict.pop("oneOf")
    if "enum" in strict and "type" not in strict:
        strict["type"] = list(dict.fromkeys(JSON_TYPES[type(value)] for value in strict["enum"]))
    if "properties" in strict:
        strict |= {"additionalProperties": False, "required": list(strict["properties"])}
    if "$ref" in strict and len(strict) > 1:
        return {"anyOf": [{"$ref": strict["$ref"]}], **without(strict, "$ref")}
    return strict


def can_be_strict(schema: Schema) -> bool:
    """Whether servers take a schema in its strict form: each value has a type, and each object known keys."""
    return all(_is_definite(each) for each in all_schemas(schema))


def _is_definite(schema: Schema) -> bool:
    if _is_refused(schema):
        return False
    match schema:
        case {"$ref": _} | {"anyOf": _}:
            return True
        case {"type": "object"}:
            return schema.get("additionalProperties") is False and "properties" in schema
        case {"type": "array"}:
            return "items" in schema
    return "type" in schema or "const" in schema


def _is_refused(schema: Schema) -> bool:
    """Whether OpenAI answers status 400 to a strict schema with these keywords."""
    if not _NEVER_STRICT.isdisjoint(schema) or schema.get("format", "date") not in _STRICT_FORMATS:
        return True
    return _LOOKAROUND.search(str(schema.get("pattern"))) is not None  # pydantic 2.12 writes one for Decimal


def without(schema: Schema, key: str) -> Schema:
    """``schema`` without this key."""
    return {name: value for name, value in schema.items() if name != key}
