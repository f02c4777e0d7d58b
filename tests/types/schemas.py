"""A small validator of JSON schemas, for what this library and pydantic write."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> bool:
    """Whether ``value`` is valid for ``schema``, whose references are looked up in ``root``."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        return is_valid(value, target, root)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options and not any(is_valid(value, each, root) for each in options):
        return False
    if not all(is_valid(value, each, root) for each in schema.get("allOf", ())):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    return _has_type(value, schema.get("type")) and _is_valid_inside(value, schema, root)


def _has_type(value: Any, names: str | list[str] | None) -> bool:
    if names is None:
        return True
    allowed = [kind for name in ([names] if isinstance(names, str) else names) for kind in _TYPES[name]]
    return isinstance(value, tuple(allowed)) and (not isinstance(value, bool) or bool in allowed)


def _is_valid_inside(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if isinstance(value, list):
        return all(is_valid(each, schema.get("items", {}), root) for each in value)
    if not isinstance(value, dict):
        return True
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    if not set(schema.get("required", ())) <= value.keys() or (others is False and value.keys() - properties):
        return False
    return all(is_valid(each, properties.get(key, others), root) for key, each in value.items())
