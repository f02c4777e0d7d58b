"""JSON values → instances of Python types.

    {"when": "2026-05-01"} ─instance_of▶ Trip(when=date(2026, 5, 1))

Rules:
- What does not fit raises ValueError that names the place and the reason.
- Nothing is converted but what JSON can't say: ``"5"`` is not an int, while ``5`` is a float, and ``5.0`` is an int.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
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


def instance_of(value: Any, hint: Any, where: str) -> Any:
    """``value`` as an instance of ``hint``, whatever is inside it included.

    Raises ValueError if it does not fit, and `ConfigError` if no JSON value has the type ``hint``; both name ``where``.
    """
    try:
        return _instance(value, hint, where)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None


def _instance(value: Any, hint: Any, where: str) -> Any:
    hint, _ = unwrap(hint)
    origin = get_origin(hint) or hint
    if hint is Any or hint is object:
        return value
    if uses_pydantic(hint):
        return _validated(value, hint, where)
    if is_alias(hint):
        return _instance(value, alias_value(hint), where)
    if origin in UNIONS:
        return _first_fit(value, get_args(hint), where)
    if origin is Literal:
        return _same(value, get_args(hint), hint, where)
    if isinstance(hint, enum.EnumMeta):
        return _member(value, hint, where)
    if is_record(hint):
        return _record(value, hint, where)
    if isinstance(value, list) and (origin in LISTS or origin is tuple):
        return _list(value, origin, get_args(hint), where)
    if isinstance(value, dict) and origin in DICTS:
        of_values = get_args(hint)[1:] or (Any,)
        return {key: _instance(each, of_values[0], f"{where}.{key}") for key, each in value.items()}
    return _scalar(value, hint, where)


def _misfit(value: Any, hint: Any, where: str) -> ValueError:
    return ValueError(f"{where} is {value!r:.60}, which is not of type {type_label(hint)}")


def _validated(value: Any, hint: Any, where: str) -> Any:
    text = json.dumps(value)  # pydantic takes more from JSON than from Python values: dates and enums, if it is strict
    try:
        if is_pydantic_model(hint):
            return hint.model_validate_json(text)
        return _adapter(hint).validate_json(text)
    except ImportError as error:
        raise missing_package(error, where) from None
    except ValueError as error:
        raise ValueError(_reasons(error, where)) from error


@lru_cache(maxsize=256)
def _adapter(hint: Any) -> Any:
    with imports():
        from pydantic import TypeAdapter
    return TypeAdapter(hint)


def _reasons(error: Any, where: str) -> str:
    """What pydantic found, each with its place, in one line."""
    found = error.errors(include_url=False) if hasattr(error, "errors") else [{"loc": (), "msg": str(error)}]
    return "; ".join(f"{where}{''.join(map(_step, each['loc']))}: {each['msg']}" for each in found)


def _step(key: str | int) -> str:
    return f"[{key}]" if isinstance(key, int) else f".{key}"


def _first_fit(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    if isinstance(value, (int, float)) and type(value) in hints:  # the 1 of `float | int` stays an int
        return value
    reasons = []
    for hint in hints:
        try:
            return _instance(value, hint, where)
        except ValueError as error:
            reasons.append(str(error))
    names = ", ".join(map(type_label, hints))
    details = [reason for reason in reasons if not reason.startswith(f"{where} is ")]  # of something inside the value
    more = f" ({'; '.join(details)})" if details else ""
    raise ValueError(f"{where} is {value!r:.60}, which matches none of the types {names}{more}")


def _same(value: Any, options: tuple[Any, ...], hint: Any, where: str) -> Any:
    """The option that equals ``value``; True is not 1, and an option may be a member of an enum."""
    for option in options:
        plain = option.value if isinstance(option, enum.Enum) else option
        if type(plain) is type(value) and plain == value:
            return option
    raise _misfit(value, hint, where)


def _member(value: Any, kind: enum.EnumMeta, where: str) -> Any:
    try:
        member: Any = kind(value)
    except ValueError as error:
        values = ", ".join(repr(each.value) for each in list[Any](kind))
        raise ValueError(f"{where}: {error} (one of {values})") from error
    if isinstance(member.value, bool) is not isinstance(value, bool):  # True equals 1
        raise _misfit(value, kind, where)
    return member


def _record(value: Any, hint: Any, where: str) -> Any:
    fields = {field.name: field for field in record_fields(hint)}
    if not isinstance(value, dict):
        raise _misfit(value, hint, where)
    if unknown := value.keys() - fields:
        raise ValueError(f"{where} has unknown fields: {', '.join(sorted(unknown))}")
    if missing := [field.name for field in fields.values() if field.required and field.name not in value]:
        raise ValueError(f"{where} has no value for {', '.join(missing)}")
    values = {key: _instance(each, fields[key].hint, f"{where}.{key}") for key, each in value.items()}
    return (get_origin(hint) or hint)(**values)


def _list(value: list[Any], origin: Any, args: tuple[Any, ...], where: str) -> Any:
    if origin is tuple and args[1:] != (...,) and args:
        if len(value) != len(args):
            raise ValueError(f"{where} has {len(value)} items, not {len(args)}")
        return tuple(_instance(each, args[i], f"{where}[{i}]") for i, each in enumerate(value))
    made = [_instance(each, args[0], f"{where}[{i}]") if args else each for i, each in enumerate(value)]
    return tuple(made) if origin is tuple else made


# ── values without parts ────────────────────────────────────────────────────────────────────────────────────────


def _iso(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` that takes a ``Z`` at the end, which Python 3.10 does not."""
    return lambda text: parse(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise ValueError("not a number") from None
    if not number.is_finite():
        raise ValueError("not finite")
    return number


_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    datetime: _iso(datetime.fromisoformat),
    date: date.fromisoformat,
    time: _iso(time.fromisoformat),
    UUID: UUID,
    Decimal: _decimal,
}


_LARGEST_FLOAT = float.fromhex("0x1.fffffffffffffp+1023")


def _scalar(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint) or hint
    if not (origin in (*JSON_TYPES, *_FROM_TEXT, *LISTS, *DICTS, tuple) or is_path(hint)):
        raise ConfigError(f"{where} has the type {type_label(hint)}, which can't be read from JSON: use Any instead")
    if hint is float and type(value) in (int, float) and abs(value) <= _LARGEST_FLOAT:
        return float(value)
    if hint is int and type(value) is float and value.is_integer():
        return int(value)
    if hint in JSON_TYPES and hint is not float and type(value) is hint:
        return value
    make = hint if is_path(hint) else _FROM_TEXT.get(hint)
    text = repr(value) if hint is Decimal and type(value) in (int, float) else value
    if make is None or not isinstance(text, str):
        raise _misfit(value, hint, where)
    try:
        return make(text)
    except ValueError as error:
        raise ValueError(f"{_misfit(value, hint, where)} ({error})") from error
