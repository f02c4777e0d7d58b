"""A Python function → what the model reads of it; the arguments of a call → values, with which the function is run.

    signature, annotations ──▶ JSON schema of the parameters ──────────────────┐
    docstring ───────────────▶ descriptions of the function and its parameters ┴▶ Tool
    arguments of a call ─────▶ values of the declared types ─────────────────────▶ result

Rules:
- Every parameter has an annotation and can be given by keyword. A parameter with a default is not required.
- An annotation without an unambiguous JSON schema raises `ConfigError`.
- A function whose schema was written by hand may have ``**arguments`` and parameters without annotation: it gets their
  values as the model wrote them.
- A function is run only with arguments that are whole and of the declared types.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_origin

from ..errors import ConfigError, InvalidArguments
from .docstring import descriptions
from .items import FunctionCall
from .json_schema import can_be_strict, strict_schema, with_definitions
from .schema import Schemas, schema_name
from .signature import Parameter, doc_of, fixed_names, name_of, parameters_of, takes_any_name
from .values import instance_of


def describe(function: Callable[..., Any], strict: bool) -> tuple[str, str | None, dict[str, Any]]:
    """The name of a function, its description, and the JSON schema of its parameters. Raises `ConfigError`."""
    name = name_of(function)
    description, of_parameters = descriptions(doc_of(function))
    schema = _schema(parameters_of(function, name), of_parameters, name)
    if strict:
        schema = strict_schema(schema)
        if not can_be_strict(schema):
            never = "dict, tuple, Any, lengths of strings, lookaround, and formats such as uri are not allowed"
            raise ConfigError(f"{name} can't be strict: a list needs the type of its items, and {never}")
    return schema_name(name), description, schema


def run(function: Callable[..., Any], call: FunctionCall) -> Any:
    """The result of ``function`` with the arguments of ``call``. Raises `InvalidArguments`, and its own errors."""
    parameters = parameters_of(function, call.name, by_hand=True)
    result = function(**_values(call, parameters, fixed_names(function) if takes_any_name(function) else None))
    if inspect.iscoroutine(result):
        result.close()
        raise ConfigError(f"{call.name} returned a coroutine: pass a function that is not async")
    return result


def _schema(parameters: list[Parameter], of_docstring: Mapping[str, str], function_name: str) -> dict[str, Any]:
    schemas = Schemas()
    properties: dict[str, Any] = {}
    for each in parameters:
        schema = schemas.of(each.hint, f"parameter {each.name} of {function_name}")
        described = "description" in schema and get_origin(each.hint) is Annotated  # otherwise it is that of its class
        if each.name in of_docstring and not described:
            schema["description"] = of_docstring[each.name]
        properties[each.name] = schema
    required = [each.name for each in parameters if each.required]
    root = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    return with_definitions(root, schemas.definitions)


def _values(call: FunctionCall, parameters: list[Parameter], fixed: set[str] | None) -> dict[str, Any]:
    """The values of the arguments of ``call``, by name. Raises `InvalidArguments` that names all that are wrong.

    No name may be given but those of the parameters, or, if ``fixed`` is not None, all but those in it.
    """
    if call.status != "completed":
        raise InvalidArguments(f"the arguments of {call.name} ({call.call_id}) are cut off")
    try:
        given = call.parsed()
    except ValueError as error:
        raise InvalidArguments(str(error)) from error
    if not isinstance(given, dict):
        raise InvalidArguments(f"the arguments of {call.name} must be a JSON object, not {given!r:.80}")
    known = {each.name for each in parameters}
    values: dict[str, Any] = {name: value for name, value in given.items() if name not in known}
    problems = [f"{name} is not a parameter" for name in values if fixed is None or name in fixed]
    for each in parameters:
        try:
            if each.name in given:
                values[each.name] = instance_of(given[each.name], each.hint, each.name)
            elif each.required:
                problems.append(f"{each.name} is missing")
            elif each.default is not None:
                values[each.name] = each.default()
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise InvalidArguments(f"the arguments of {call.name} are wrong: {'; '.join(problems)}")
    return values
