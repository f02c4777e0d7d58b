"""A Python function → a `Tool`, which describes the function to the model.

    signature, annotations ──▶ JSON schema of the parameters ──────────────────┐
    docstring ───────────────▶ descriptions of the function and its parameters ┴▶ Tool

Rules:
- Every parameter has an annotation and can be given by keyword. A parameter with a default is not required.
- An annotation without an unambiguous JSON schema raises `ConfigError`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Union, get_type_hints

from .._dataclass import frozen
from ..errors import ConfigError
from .schema import schema_of

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@frozen
class Tool:
    """A function that the model may call.

    ``parameters`` is the JSON schema of its arguments, whose type is ``object``. ``strict`` asks the server to make
    the model follow this schema; not every server can.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"Tool.name must be a str that is not blank, not {self.name!r}")
        if not isinstance(self.description, (str, types.NoneType)):
            raise ConfigError(
                f"the description of the tool {self.name} must be a str or None, not {self.description!r:.60}"
            )
        if not isinstance(self.parameters, (dict, types.NoneType)):
            raise ConfigError(
                f"the parameters of the tool {self.name} must be a dict (a JSON schema), not {self.parameters!r:.60}"
            )

    @classmethod
    def from_function(cls, function: Callable[..., Any]) -> Tool:
        """The tool for a function, from its name, its annotations and its docstring.

        An annotation may be ``str``, ``int``, ``float``, ``bool``, ``None``, ``Any``, ``list[…]``, ``dict[str, …]``,
        ``Literal``, an ``Enum`` (the model gives its values), a dataclass, a pydantic model, or a union of these. The
        description is the first paragraph of the docstring; parameters are described in its ``Args:`` block or its
        ``:param x:`` lines. Raises `ConfigError` for other annotations, and for a parameter that has none or can't be
        given by keyword.
        """
        if not inspect.isroutine(function) or not function.__name__.isidentifier():
            raise ConfigError(f"Tool.from_function needs a function with a name, not {function!r}")
        description, of_parameters = _descriptions(inspect.getdoc(function) or "")
        return cls(function.__name__, description, _parameters(function, of_parameters))


AnyTool = Union[Tool, Mapping[str, Any]]


# ── the signature ───────────────────────────────────────────────────────────────────────────────────────────────


def _parameters(function: Callable[..., Any], descriptions: dict[str, str]) -> dict[str, Any]:
    parameters, hints = _signature(function)
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in parameters.items():
        where = f"parameter {name} of {function.__name__}"
        if parameter.kind not in _BY_KEYWORD:
            raise ConfigError(f"{where} can't be given by keyword: change its kind, or write the Tool by hand")
        if name not in hints:
            raise ConfigError(f"{where} has no annotation: add one, such as str")
        properties[name] = schema_of(hints[name], where)
        if name in descriptions:
            properties[name]["description"] = descriptions[name]
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _signature(function: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    try:
        return inspect.signature(function).parameters, get_type_hints(function)
    except Exception as error:  # evaluating annotations can raise anything
        raise ConfigError(f"the signature of {function.__name__} can't be read: {error}") from error


# ── the docstring ───────────────────────────────────────────────────────────────────────────────────────────────

_SECTION = re.compile(r"\n[ \t]*\n|^(?:Args|Arguments|Parameters|Returns|Raises|Yields):|^:\w", re.MULTILINE)
_ARGS = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n|\n)*)", re.MULTILINE)
_GOOGLE = re.compile(r"(\w+)(?:\s*\(.*?\))?\s*:(.*)", re.DOTALL)
_REST = re.compile(r"^:param\s+(?:[^:\n]+\s)?(\w+):(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def _descriptions(doc: str) -> tuple[str | None, dict[str, str]]:
    """The description of the function and of each parameter, in one line each, from a dedented docstring."""
    entries = [*_REST.findall(doc), *_google_entries(doc)]
    return _one_line(_SECTION.split(doc, maxsplit=1)[0]) or None, {name: _one_line(text) for name, text in entries}


def _google_entries(doc: str) -> list[tuple[str, str]]:
    block = inspect.cleandoc("\n".join(["", *_ARGS.findall(doc + "\n")]))
    entries = (_GOOGLE.match(entry) for entry in re.split(r"^(?=\S)", block, flags=re.MULTILINE))
    return [(entry[1], entry[2]) for entry in entries if entry]


def _one_line(text: str) -> str:
    return " ".join(text.split())
