"""Tools made from functions: the schema of the signature, the descriptions of the docstring, and what is refused."""

from __future__ import annotations

import enum
import functools
from typing import Any, Dict, List, Literal, Optional, Union  # noqa: UP035  # older spellings work too

import pytest

from chatstream.errors import ConfigError
from chatstream.types.tools import Tool


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Shape(enum.Enum):
    ROUND = object()


def properties(function):
    return Tool.from_function(function).parameters["properties"]


def get_weather(city: str, days: int = 1):
    """The weather
    of a city.

    It is a forecast.

    Args:
        city: Name of the city,
            in English: no abbreviation.
        days (int, optional): How far to look ahead.

    Returns:
        city: not a parameter.
    """


def test_a_function_becomes_a_tool_with_name_description_and_schema():
    assert Tool.from_function(get_weather) == Tool(
        "get_weather",
        "The weather of a city.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city, in English: no abbreviation."},
                "days": {"type": "integer", "description": "How far to look ahead."},
            },
            "required": ["city"],
        },
    )


def test_a_function_without_parameters_and_docstring_has_an_empty_schema():
    def ping(): ...

    assert Tool.from_function(ping) == Tool("ping", None, {"type": "object", "properties": {}})


def test_the_tool_of_a_method_has_no_parameter_self():
    class Weather:
        def now(self, city: str): ...

    assert Tool.from_function(Weather().now).parameters["required"] == ["city"]


def test_a_wrapped_function_keeps_its_own_signature():
    @functools.wraps(get_weather)
    def logged(*args, **kwargs): ...

    assert Tool.from_function(logged) == Tool.from_function(get_weather)


def test_a_keyword_only_parameter_is_in_the_schema():
    def ask(*, question: str): ...

    assert Tool.from_function(ask).parameters["required"] == ["question"]


# ── annotations ─────────────────────────────────────────────────────────────────────────────────────────────────


def every_kind(
    *,
    text: str,
    count: int,
    share: float,
    flag: bool,
    nothing: None,
    anything: Any,
    names: list[str],
    rows: List[List[int]],  # noqa: UP006
    bare_list: list,
    scores: dict[str, float],
    old_scores: Dict[str, Any],  # noqa: UP006
    bare_dict: dict,
    maybe: str | None,
    old_maybe: Optional[int],  # noqa: UP045
    either: Union[int, str],
    color: Literal["red", "green"],
    level: Literal[1, "high", None],
    unit: Unit,
    one_unit: Literal[Unit.CELSIUS],
): ...


def test_each_annotation_has_its_schema():
    assert properties(every_kind) == {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "flag": {"type": "boolean"},
        "nothing": {"type": "null"},
        "anything": {},
        "names": {"type": "array", "items": {"type": "string"}},
        "rows": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "bare_list": {"type": "array"},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "old_scores": {"type": "object", "additionalProperties": {}},
        "bare_dict": {"type": "object"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "old_maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "color": {"type": "string", "enum": ["red", "green"]},
        "level": {"enum": [1, "high", None]},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "one_unit": {"type": "string", "enum": ["c"]},
    }


def takes_a_set(x: set[str]): ...
def takes_bytes(x: bytes): ...
def takes_keys_that_are_numbers(x: dict[int, str]): ...
def takes_a_list_of_sets(x: list[set]): ...
def takes_shapes(x: Shape): ...
def takes_no_annotation(x): ...
def takes_many(*x: str): ...
def takes_keywords(**x: str): ...
def takes_by_position(x: str, /): ...
def takes_an_undefined_name(x: Missing): ...  # noqa: F821


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (takes_a_set, r"parameter x of takes_a_set has the annotation set\[str\], which has no known JSON schema"),
        (takes_bytes, "has the annotation <class 'bytes'>"),
        (takes_keys_that_are_numbers, r"has the annotation dict\[int, str\]"),
        (takes_a_list_of_sets, "has the annotation <class 'set'>"),
        (takes_shapes, "not all of which are JSON values: write the schema by hand"),
        (takes_no_annotation, "parameter x of takes_no_annotation has no annotation: add one"),
        (takes_many, "parameter x of takes_many can't be given by keyword"),
        (takes_keywords, "parameter x of takes_keywords can't be given by keyword"),
        (takes_by_position, "parameter x of takes_by_position can't be given by keyword"),
        (
            takes_an_undefined_name,
            "the signature of takes_an_undefined_name can't be read: name 'Missing' is not defined",
        ),
        (lambda x: x, "Tool.from_function needs a function with a name"),
        (functools.partial(get_weather, "Oslo"), "Tool.from_function needs a function with a name"),
        (Unit, "Tool.from_function needs a function with a name"),
        ("get_weather", "Tool.from_function needs a function with a name, not 'get_weather'"),
    ],
)
def test_a_function_without_an_unambiguous_schema_is_refused(function, message):
    with pytest.raises(ConfigError, match=message):
        Tool.from_function(function)


# ── docstrings ──────────────────────────────────────────────────────────────────────────────────────────────────


def rest_style(city: str, days: int, unit: Unit):
    """The weather of a city.

    :param str city: name of the city,
        in English
    :param days: how far
    :param nobody: is no parameter
    :returns: text
    """


def test_parameters_may_be_described_in_rest_style():
    assert properties(rest_style)["city"]["description"] == "name of the city, in English"
    assert properties(rest_style)["days"]["description"] == "how far"
    assert "description" not in properties(rest_style)["unit"]


def no_blank_line(city: str):
    """The weather.
    :param city: its name"""


def args_only(city: str, days: int):
    """
    Arguments:
        a remark that names nothing

        city (str): its name

            and country
        days: how far
    The rest is not indented.
    """


def test_the_description_of_the_function_ends_where_the_parameters_begin():
    assert Tool.from_function(no_blank_line).description == "The weather."
    assert Tool.from_function(args_only).description is None


def test_an_args_block_ends_where_its_indentation_does():
    assert properties(args_only)["city"]["description"] == "its name and country"
    assert properties(args_only)["days"]["description"] == "how far"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tool(""), "Tool.name must be a str that is not blank, not ''"),
        (lambda: Tool(None), "Tool.name must be a str that is not blank, not None"),
        (lambda: Tool("f", 1), "the description of the tool f must be a str or None, not 1"),
        (lambda: Tool("f", None, Unit), r"the parameters of the tool f must be a dict \(a JSON schema\), not <enum"),
    ],
)
def test_a_tool_of_wrong_types_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
