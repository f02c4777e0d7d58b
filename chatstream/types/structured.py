"""Structured output: a Python type → the request field ``response_format``, and the text of an answer → an instance.

    Bike, list[Bike], Bike | None, int ─response_format▶ {"type": "json_schema", …}
    JSON text ─parsed▶ Bike(…)

Rules:
- Servers expect an object, so another type is wrapped in an object with one property, and `parsed` unwraps it.
- The schema is strict wherever the type can be expressed so.
"""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

from ..errors import ConfigError
from .fence import without_fence
from .hints import DICTS, alias_value, is_alias, is_pydantic_model, is_record, type_label, unwrap
from .json_schema import can_be_strict, strict_schema, with_definitions
from .schema import Schemas, schema_name
from .text import clean_json
from .values import instance_of

WRAPPER = "value"  # the property that holds what is not an object


def response_format(model: Any) -> dict[str, Any]:
    """The request field ``response_format`` for answers of the type ``model``, such as a dataclass or ``list[str]``.

    ``model`` may be a dataclass, a TypedDict, a NamedTuple, a pydantic model, or any type that a parameter of a tool
    may have; what is not an object is wrapped into one with the key ``value``, and `Turn.parsed` unwraps it. The schema
    is strict, as OpenAI's structured outputs demand: every field is required, even one with a default, and no other
    field is allowed. A type with arbitrary keys or values, such as ``dict[str, int]`` or ``Any``, can't be strict, and
    is sent with ``strict`` false. Raises `ConfigError` for a type without a JSON schema.
    """
    if not (isinstance(model, type) or get_origin(model) or hasattr(model, "__supertype__") or is_alias(model)):
        raise ConfigError(
            f"response_format must be a dict, or a type such as a dataclass, a pydantic model or list[str], "
            f"not {model!r:.60}"
        )
    schemas = Schemas()
    schema = schemas.of(model, "response_format")
    if _is_wrapped(model):
        schema = {"type": "object", "properties": {WRAPPER: schema}, "required": [WRAPPER]}
    strict = strict_schema(with_definitions(schema, schemas.definitions))
    json_schema = {"name": schema_name(type_label(model)), "strict": can_be_strict(strict), "schema": strict}
    return {"type": "json_schema", "json_schema": json_schema}


def _is_wrapped(model: Any) -> bool:
    """Whether an answer of this type is sent inside an object."""
    hint, _ = unwrap(model)
    if is_alias(hint):
        return _is_wrapped(alias_value(hint))
    if is_pydantic_model(hint):
        return bool(hint.__pydantic_root_model__)
    return not (is_record(hint) or (get_origin(hint) or hint) in DICTS)


def parsed(text: str, model: Any = None) -> Any:
    """The value of the JSON in ``text``, as an instance of ``model``, if given; see `response_format`.

    A code fence around the JSON is removed. Raises ValueError if the text is not one complete JSON value or
    does not match ``model``; the ValidationError of pydantic is a ValueError.
    """
    json_text = without_fence(text)
    if is_pydantic_model(model) and not _is_wrapped(model):
        return model.model_validate_json(_whole_characters(json_text))
    try:
        value = clean_json(json_text)
    except ValueError as error:
        raise ValueError(f"the text is not one complete JSON value ({error}): {text[:80]!r}") from None
    if model is None:
        return value
    if _is_wrapped(model) and isinstance(value, dict) and value.keys() == {WRAPPER}:
        value = value[WRAPPER]
    return instance_of(value, model, "the value" if get_args(model) else getattr(model, "__name__", "the value"))


def _whole_characters(json_text: str) -> str:
    """``json_text`` with U+FFFD for each escape of half a character (``\\ud83d`` alone), which pydantic refuses."""
    if "\\ud" not in json_text.lower():
        return json_text
    try:
        return json.dumps(clean_json(json_text))
    except ValueError:  # pydantic says what is wrong
        return json_text
