"""A Python type → its JSON schema, and JSON text → an instance of the type.

    str, int, list[…], Literal, Enum, dataclass, pydantic model ─schema_of▶ JSON schema
    dataclass, pydantic model ─response_format▶ the request field ``response_format``
    JSON text ─parsed▶ instance
    fragments of JSON text ─partial_json▶ values that grow

Rules:
- A type without an unambiguous JSON schema raises `ConfigError`.
- pydantic and jiter are optional: pydantic is used for pydantic models alone, jiter by `partial_json` alone.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .._imports import imports
from ..errors import ConfigError
from .text import clean_json

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}


def schema_of(hint: Any, where: str) -> dict[str, Any]:
    """The JSON schema of the type ``hint``. Raises `ConfigError`, which names its place as ``where``."""
    if hint is Any:
        return {}
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    if isinstance(hint, enum.EnumMeta):
        members: list[enum.Enum] = list(hint)
        return _enum_schema([member.value for member in members], where)
    if is_pydantic(hint):
        return dict(hint.model_json_schema())
    if is_dataclass(hint):
        return _object_schema(hint)
    return _generic_schema(hint, get_args(hint), where)


def _generic_schema(hint: Any, args: tuple[Any, ...], where: str) -> dict[str, Any]:
    origin = get_origin(hint) or hint
    if origin is Literal:
        return _enum_schema([arg.value if isinstance(arg, enum.Enum) else arg for arg in args], where)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(arg, where) for arg in args]}
    if origin is list:
        return {"type": "array", **({"items": schema_of(args[0], where)} if args else {})}
    if origin is dict and args[:1] in ((), (str,)):
        return {"type": "object", **({"additionalProperties": schema_of(args[1], where)} if args else {})}
    raise ConfigError(f"{where} has the annotation {hint!r}, which has no known JSON schema: write the schema by hand")


def _enum_schema(values: list[Any], where: str) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    if not kinds <= _JSON_TYPES.keys():
        raise ConfigError(
            f"{where} has the values {values!r}, not all of which are JSON values: write the schema by hand"
        )
    return {**({"type": _JSON_TYPES[kinds.pop()]} if len(kinds) == 1 else {}), "enum": values}


def is_pydantic(hint: Any) -> bool:
    """Whether ``hint`` is a model of pydantic 2. Its methods are looked for, because pydantic may not be installed."""
    return isinstance(hint, type) and hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate_json")


def _object_schema(model: Any) -> dict[str, Any]:
    hints = get_type_hints(model)
    fields = dataclasses.fields(model)
    properties = {
        field.name: schema_of(hints[field.name], f"field {field.name} of {model.__name__}") for field in fields
    }
    required = [field.name for field in fields if not _has_default(field)]
    return {"type": "object", "properties": properties, "required": required}


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


# ── structured output ───────────────────────────────────────────────────────────────────────────────────────────


def response_format(model: Any) -> dict[str, Any]:
    """The request field ``response_format`` for answers in the form of ``model``, a dataclass or a pydantic model.

    The schema is strict, as OpenAI's structured outputs demand: every field is required, also one with a default, and
    no other field is allowed. Raises `ConfigError` for another ``model``, and for a field without a JSON schema.
    """
    if not (is_pydantic(model) or (isinstance(model, type) and is_dataclass(model))):
        raise ConfigError(f"response_format must be a dict, a dataclass or a pydantic model, not {model!r:.60}")
    schema = _strict(schema_of(model, "response_format"))
    return {"type": "json_schema", "json_schema": {"name": model.__name__, "strict": True, "schema": schema}}


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items() if key != "default"}
    if "properties" in schema:
        strict |= {"additionalProperties": False, "required": list(schema["properties"])}
    return strict


def parsed(text: str, model: Any = None) -> Any:
    """The value of the JSON in ``text``; an instance of ``model``, a dataclass or pydantic model, if given.

    Raises ValueError if the text is not one complete JSON value or does not match ``model``; the ValidationError of
    pydantic is a ValueError.
    """
    if is_pydantic(model):
        return model.model_validate_json(text)
    try:
        value = clean_json(text)
    except ValueError as error:
        raise ValueError(f"the text is not one complete JSON value ({error}): {text[:80]!r}") from None
    return value if model is None else _instance(value, model, model.__name__)


def _instance(value: Any, hint: Any, where: str) -> Any:
    """``value`` as an instance of ``hint``, dataclasses and enums inside it included. Raises ValueError."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if hint is Any or (origin is Literal and value in args):
        return value
    if origin in (Union, types.UnionType):
        return _first_fit(value, args, where)
    if is_pydantic(hint):
        return hint.model_validate(value)
    if is_dataclass(hint) and isinstance(value, dict):
        return _dataclass_instance(value, hint, where)
    if isinstance(hint, enum.EnumMeta):
        return hint(value)
    if origin is list and isinstance(value, list):
        return [_instance(each, args[0], f"{where}[{i}]") if args else each for i, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _instance(each, args[1], f"{where}.{key}") if args else each for key, each in value.items()}
    if hint in _JSON_TYPES and (type(value) is hint or (hint is float and type(value) is int)):
        return float(value) if hint is float else value
    raise ValueError(f"{where} is {value!r:.60}, which is not of type {getattr(hint, '__name__', hint)}")


def _first_fit(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    for hint in hints:
        try:
            return _instance(value, hint, where)
        except ValueError:
            continue
    raise ValueError(
        f"{where} is {value!r:.60}, which is of none of the types {', '.join(str(hint) for hint in hints)}"
    )


def _dataclass_instance(value: dict[str, Any], model: Any, where: str) -> Any:
    hints = get_type_hints(model)
    fields = dataclasses.fields(model)
    if unknown := value.keys() - {field.name for field in fields}:
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which is not a field of {model.__name__}")
    if missing := [field.name for field in fields if field.name not in value and not _has_default(field)]:
        raise ValueError(f"{where} has no value for {', '.join(missing)}")
    return model(**{name: _instance(each, hints[name], f"{where}.{name}") for name, each in value.items()})


def partial_json(pieces: Iterable[str]) -> Iterator[Any]:
    """Yield the value of a JSON text while it grows, each time the value changes; the last value is complete.

    ``pieces`` are the deltas of a text or of a call's arguments. The text is parsed again each time it has grown by
    1/32, so that the total work is linear in its length. Requires the extra ``chatstream-py[json]`` (jiter). Raises
    `ConfigError` without it, and ValueError if the text is not JSON.
    """
    try:
        with imports():
            from jiter import from_json
    except ImportError:
        raise ConfigError('partial_json needs jiter: pip install "chatstream-py[json]"') from None
    text, next_length, latest = b"", 1, None
    for piece in pieces:
        text += piece.encode("utf-8", "replace")
        if len(text) >= next_length and text.strip():
            next_length = len(text) + len(text) // 32 + 1
            value = from_json(text, partial_mode="trailing-strings")
            if value != latest:
                yield (latest := value)
    if text.strip() and (value := from_json(text, partial_mode="trailing-strings")) != latest:
        yield value
