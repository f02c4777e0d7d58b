"""A function the model may call: Python function → `Tool`.

    signature, annotations ──▶ JSON schema of the parameters ─────────┐
    docstring ───────────────▶ description, of it and of each of them ┴▶ Tool

Rules:
- Every parameter is annotated and can be given by keyword; one with a default is not required.
- What JSON schema can't say for sure is a `ConfigError`, not a guess.
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
    """A function the model may call: ``parameters`` is the JSON schema of its arguments, an object.

    ``strict`` asks the server to keep the model to that schema, where it knows how to.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"give a Tool a name, not {self.name!r}")
        if not isinstance(self.description, (str, types.NoneType)):
            raise ConfigError(f"give the Tool {self.name} its description as text")
        if not isinstance(self.parameters, (dict, types.NoneType)):
            raise ConfigError(f"give the Tool {self.name} its parameters as a dict, a JSON schema")

    @classmethod
    def from_function(cls, function: Callable[..., Any]) -> Tool:
        """A tool from a function's name, annotations and docstring.

        Annotations: ``str``, ``int``, ``float``, ``bool``, ``None``, ``Any``, ``list[…]``, ``dict[str, …]``,
        ``Literal``, an ``Enum`` (by value) and unions of them. The description is the docstring's first paragraph;
        the parameters' come from its ``Args:`` block or its ``:param x:`` lines. ConfigError for anything else.
        """
        if not inspect.isroutine(function) or not function.__name__.isidentifier():
            raise ConfigError(f"give Tool.from_function a function with a name, not {function!r}")
        description, about = _documented(inspect.getdoc(function) or "")
        return cls(function.__name__, description, _parameters(function, about))


AnyTool = Union[Tool, Mapping[str, Any]]


# ── the signature ───────────────────────────────────────────────────────────────────────────────────────────────


def _parameters(function: Callable[..., Any], about: dict[str, str]) -> dict[str, Any]:
    parameters, hints = _signature(function)
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in parameters.items():
        where = f"parameter {name} of {function.__name__}"
        if parameter.kind not in _BY_KEYWORD:
            raise ConfigError(f"{where} can't be given by keyword: make it a plain one, or write the Tool by hand")
        if name not in hints:
            raise ConfigError(f"{where} has no annotation: give it one, such as str")
        description = {"description": about[name]} if name in about else {}
        properties[name] = {**schema_of(hints[name], where), **description}
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _signature(function: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    try:
        return inspect.signature(function).parameters, get_type_hints(function)
    except Exception as error:  # annotations are evaluated here: whatever they raise comes out
        raise ConfigError(f"the signature of {function.__name__} can't be read: {error}") from error


# ── the docstring ───────────────────────────────────────────────────────────────────────────────────────────────

_SECTION = re.compile(r"\n[ \t]*\n|^(?:Args|Arguments|Parameters|Returns|Raises|Yields):|^:\w", re.MULTILINE)
_ARGS = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n|\n)*)", re.MULTILINE)
_GOOGLE = re.compile(r"(\w+)(?:\s*\(.*?\))?\s*:(.*)", re.DOTALL)
_REST = re.compile(r"^:param\s+(?:[^:\n]+\s)?(\w+):(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def _documented(doc: str) -> tuple[str | None, dict[str, str]]:
    """The first paragraph, on one line, and each parameter's description, from a docstring already dedented."""
    entries = [*_REST.findall(doc), *_google_entries(doc)]
    return _one_line(_SECTION.split(doc, maxsplit=1)[0]) or None, {name: _one_line(text) for name, text in entries}


def _google_entries(doc: str) -> list[tuple[str, str]]:
    block = inspect.cleandoc("\n".join(["", *_ARGS.findall(doc + "\n")]))
    entries = (_GOOGLE.match(entry) for entry in re.split(r"^(?=\S)", block, flags=re.MULTILINE))
    return [(entry[1], entry[2]) for entry in entries if entry]


def _one_line(text: str) -> str:
    return " ".join(text.split())
