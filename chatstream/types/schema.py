"""Python types ↔ JSON: the schema of an annotation, and the value that a JSON text makes of it.

    str, int, list[…], Literal, Enum, dataclass, pydantic model ─schema_of▶ JSON schema
    dataclass, pydantic model ─response_format▶ the request field that makes a model keep to it
    JSON text ─parsed▶ an instance

Rules:
- What JSON schema can't say for sure is a `ConfigError`, not a guess.
- pydantic is used where a pydantic model is given, and is not needed otherwise.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from .items import strict_json

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}


def schema_of(hint: Any, where: str) -> dict[str, Any]:
    """The JSON schema of one annotation, dataclass or pydantic model; ``where`` names its place in a ConfigError."""
    if hint is Any:
        return {}
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    if isinstance(hint, enum.EnumMeta):
        members: list[enum.Enum] = list(hint)
        return _one_of([member.value for member in members], where)
    if is_pydantic(hint):
        return dict(hint.model_json_schema())
    if is_dataclass(hint):
        return _object_schema(hint)
    return _generic_schema(hint, get_args(hint), where)


def _generic_schema(hint: Any, args: tuple[Any, ...], where: str) -> dict[str, Any]:
    origin = get_origin(hint) or hint
    if origin is Literal:
        return _one_of([arg.value if isinstance(arg, enum.Enum) else arg for arg in args], where)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(arg, where) for arg in args]}
    if origin is list:
        return {"type": "array", **({"items": schema_of(args[0], where)} if args else {})}
    if origin is dict and args[:1] in ((), (str,)):
        return {"type": "object", **({"additionalProperties": schema_of(args[1], where)} if args else {})}
    raise ConfigError(f"{where} has the annotation {hint!r}, which has no JSON schema here: write the Tool by hand")


def _one_of(values: list[Any], where: str) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    if not kinds <= _JSON_TYPES.keys():
        raise ConfigError(f"{where} may be one of {values!r}, which are not all JSON values: write the Tool by hand")
    return {**({"type": _JSON_TYPES[kinds.pop()]} if len(kinds) == 1 else {}), "enum": values}


def is_pydantic(hint: Any) -> bool:
    """Whether ``hint`` is a pydantic model (2.x), told by what it can do: pydantic itself need not be there."""
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
    """The ``response_format`` field that asks for answers of the shape of a dataclass or a pydantic model.

    In strict mode every field is required and no other is allowed, as OpenAI's structured outputs want it; a field
    with a default is then to be given by the model. Raises `ConfigError` for anything else, or a field without schema.
    """
    if not (is_pydantic(model) or (isinstance(model, type) and is_dataclass(model))):
        raise ConfigError(f"response_format is a dict, a dataclass or a pydantic model, not {model!r:.60}")
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
    """What the JSON ``text`` says, as an instance of ``model`` if one is given.

    Raises ValueError when the text is not one whole JSON value or does not fit (pydantic's is a ValueError too).
    """
    if is_pydantic(model):
        return model.model_validate_json(text)
    try:
        value = strict_json(text)
    except ValueError as error:
        raise ValueError(f"the text is not one whole JSON value ({error}): {text[:80]!r}") from None
    return value if model is None else _instance(value, model, model.__name__)


def _instance(value: Any, hint: Any, where: str) -> Any:
    """``value`` as ``hint`` says, dataclasses and enums built on the way; ValueError where it can't be."""
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
    raise ValueError(f"{where} is {value!r:.60}, which is no {getattr(hint, '__name__', hint)}")


def _first_fit(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    for hint in hints:
        try:
            return _instance(value, hint, where)
        except ValueError:
            continue
    raise ValueError(f"{where} is {value!r:.60}, which is none of {', '.join(str(hint) for hint in hints)}")


def _dataclass_instance(value: dict[str, Any], model: Any, where: str) -> Any:
    hints = get_type_hints(model)
    fields = dataclasses.fields(model)
    if unknown := value.keys() - {field.name for field in fields}:
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which {model.__name__} does not know")
    if missing := [field.name for field in fields if field.name not in value and not _has_default(field)]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return model(**{name: _instance(each, hints[name], f"{where}.{name}") for name, each in value.items()})


def partial_json(pieces: Iterable[str]) -> Iterator[Any]:
    """The JSON value in a text that is still growing, each time it has changed; the last one is the whole.

    ``pieces`` are the deltas of a text or of a call's arguments. The text is read again when it has grown by a
    thirty-second, so the work stays linear in its length. Needs the extra ``chatstream-py[json]`` (jiter); raises
    ValueError where the text is no JSON.
    """
    try:
        from jiter import from_json
    except ImportError:
        raise ConfigError('partial JSON is read by jiter: pip install "chatstream-py[json]"') from None
    text, due, shown = b"", 1, None
    for piece in pieces:
        text += piece.encode("utf-8", "replace")
        if len(text) >= due and text.strip():
            due = len(text) + len(text) // 32 + 1
            value = from_json(text, partial_mode="trailing-strings")
            if value != shown:
                yield (shown := value)
    if text.strip() and (value := from_json(text, partial_mode="trailing-strings")) != shown:
        yield value
