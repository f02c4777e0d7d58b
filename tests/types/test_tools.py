"""Tools made from functions: the schema of the signature, the descriptions of the docstring, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import pathlib
import pickle
from typing import Annotated, Any, Dict, List, Literal, Optional, Union  # noqa: UP035  # older spellings work too

import pydantic
import pytest
from support import id_of

from chatstream import FunctionCall, InvalidArguments, Turn
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


class Weather:
    def now(self, city: str): ...


def test_the_tool_of_a_method_has_no_parameter_self():
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
        (takes_many, "parameter x of takes_many can't be passed by keyword"),
        (takes_keywords, "parameter x of takes_keywords can't be passed by keyword"),
        (takes_by_position, "parameter x of takes_by_position can't be passed by keyword"),
        (
            takes_an_undefined_name,
            "the signature of takes_an_undefined_name can't be read: name 'Missing' is not defined",
        ),
        (lambda x: x, "Tool.from_function needs a named function, not a lambda or a class"),
        (functools.partial(lambda x: x), "Tool.from_function needs a named function, not a lambda or a class"),
        (None, "Tool.from_function needs a named function, not a lambda or a class: None"),
        (len, "parameter obj of len can't be passed by keyword"),
        (Weather.now, "parameter self of now has no annotation"),
        (Unit, "Tool.from_function needs a named function, not a lambda or a class"),
        ("get_weather", "Tool.from_function needs a named function, not a lambda or a class: 'get_weather'"),
    ],
)
def test_a_function_without_an_unambiguous_schema_is_refused(function, message):
    with pytest.raises(ConfigError, match=message):
        Tool.from_function(function)


class Database:
    def find(self, name: str, table: Missing = None) -> Missing:  # noqa: F821
        return name, table

    __call__ = find


@pytest.mark.parametrize(
    "function",
    [functools.partial(Database().find, table=1), functools.partial(Database(), table=1)],
    ids=["method", "object"],
)
def test_only_the_annotations_of_what_the_model_gives_need_to_exist_when_the_program_runs(function):
    tool = Tool.from_function(function)
    assert list(tool.parameters["properties"]) == ["name"]
    assert tool.call(FunctionCall(tool.name, '{"name": "a"}', "c")) == ("a", 1)


def with_defaults_of_none(  # noqa: PLR0917
    unit: Unit = None,  # type: ignore[assignment]
    city: Annotated[str, "its name"] = None,  # type: ignore[assignment]  # noqa: RUF013
    country: Annotated[str | None, "its country"] = None,
    zone: Annotated[str | None, pydantic.Field(description="its zone")] = None,
    street: str = pydantic.Field(None, description="its street"),
    rest: Any = None,
    anything: object = None,
    nothing: None = None,
):
    return unit, city


def test_a_parameter_whose_default_is_none_takes_none_whatever_its_annotation_says():
    null = {"type": "null"}
    assert properties(with_defaults_of_none) == {
        "unit": {"anyOf": [{"type": "string", "enum": ["c", "f"]}, null]},
        "city": {"anyOf": [{"type": "string", "description": "its name"}, null]},
        "country": {"anyOf": [{"type": "string"}, null], "description": "its country"},
        "zone": {"anyOf": [{"type": "string"}, null], "description": "its zone"},
        "street": {"anyOf": [{"type": "string"}, null], "description": "its street", "default": None},
        "rest": {},
        "anything": {},
        "nothing": null,
    }
    tool = Tool.from_function(with_defaults_of_none)
    for given, result in (
        ('"unit": null, "city": "a"', (None, "a")),
        ('"unit": "c", "city": null, "street": null', ("c", None)),
    ):
        unit, city = tool.call(FunctionCall("with_defaults_of_none", f"{{{given}}}", "c"))
        assert (unit and unit.value, city) == result


# ── functions of every kind ─────────────────────────────────────────────────────────────────────────────────────


class Forecast:
    """A service."""

    def __call__(self, city: str, *, days: int = 1) -> str:
        """The weather of a city."""
        return f"{city} {days}"


class Plain:
    """Only the class is documented."""

    def __call__(self) -> int:
        return 7


class Cities:
    unit = "C"

    def of_instance(self, city: str) -> str:
        return city + self.unit

    @classmethod
    def of_class(cls, city: str) -> str:
        return city + cls.unit

    @staticmethod
    def of_nothing(city: str) -> str:
        return city


def find(database: object, city: str, limit: int = 3) -> list:
    """Find a city."""
    return [database, city, limit]


def first_by_position(key: set, /, city: str) -> list:
    return [key, city]


@functools.lru_cache
def cached(city: str) -> str:
    """Cached."""
    return city


def asynchronous(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))

    return run


@asynchronous
async def awaited(city: str) -> str:
    return city


renamed = functools.update_wrapper(functools.partial(find, 0), get_weather)


@pytest.mark.parametrize(
    ("function", "name", "description", "required", "arguments", "result"),
    [
        (Forecast(), "Forecast", "The weather of a city.", ["city"], {"city": "a", "days": 2}, "a 2"),
        (Plain(), "Plain", "Only the class is documented.", None, {}, 7),
        (Cities().of_instance, "of_instance", None, ["city"], {"city": "a"}, "aC"),
        (Cities.of_class, "of_class", None, ["city"], {"city": "a"}, "aC"),
        (Cities.of_nothing, "of_nothing", None, ["city"], {"city": "a"}, "a"),
        (functools.partial(find, 0), "find", "Find a city.", ["city"], {"city": "a"}, [0, "a", 3]),
        (functools.partial(find, database=0, limit=1), "find", "Find a city.", ["city"], {"city": "a"}, [0, "a", 1]),
        (functools.partial(functools.partial(find, 0), limit=1), "find", "Find a city.", ["city"], {"city": "a"}, None),
        (functools.partial(first_by_position, {1}), "first_by_position", None, ["city"], {"city": "a"}, [{1}, "a"]),
        (functools.partial(Forecast(), days=5), "Forecast", "The weather of a city.", ["city"], {"city": "a"}, "a 5"),
        (functools.partial(Cities().of_instance), "of_instance", None, ["city"], {"city": "a"}, "aC"),
        (renamed, "get_weather", "The weather of a city.", ["city"], {"city": "a"}, [0, "a", 3]),
        (cached, "cached", "Cached.", ["city"], {"city": "a"}, "a"),
        (awaited, "awaited", None, ["city"], {"city": "a"}, "a"),
    ],
    ids=id_of,
)
def test_whatever_can_be_called_is_a_tool(  # noqa: PLR0917
    function, name, description, required, arguments, result
):
    tool = Tool.from_function(function)
    assert (tool.name, tool.description, tool.parameters.get("required")) == (name, description, required)
    called = tool.call(FunctionCall(name, json.dumps(arguments), "c"))
    assert called == (result or [0, "a", 1])


def test_parameters_that_a_partial_fixes_are_not_in_the_schema():
    assert set(properties(functools.partial(find, 0))) == {"city", "limit"}
    assert set(properties(functools.partial(find, database=0, limit=1))) == {"city"}


async def coroutine(city: str): ...


async def generator(city: str):
    yield city


class AsyncCall:
    async def __call__(self, city: str): ...


class AsyncMethod:
    async def now(self, city: str): ...


@pytest.mark.parametrize(
    "function",
    [coroutine, generator, AsyncCall(), AsyncMethod().now, functools.partial(coroutine, "a")],
    ids=["function", "generator", "object", "method", "partial"],
)
def test_an_async_function_is_refused(function):
    with pytest.raises(ConfigError, match="is async, but tools are called synchronously: pass a function that is not"):
        Tool.from_function(function)


def test_a_function_that_turns_out_to_be_async_when_it_is_called_is_refused():
    tool = Tool.from_function(functools.lru_cache(coroutine))
    with pytest.raises(ConfigError, match="coroutine returned a coroutine: pass a function that is not async"):
        tool.call(FunctionCall("coroutine", '{"city": "a"}', "c"))


def test_a_name_that_servers_refuse_is_changed():
    def größe(x: int): ...  # noqa: PLC2401

    assert Tool.from_function(größe).name == "gr_e"
    größe.__name__ = "x" * 99
    assert Tool.from_function(größe).name == "x" * 64


# ── descriptions ────────────────────────────────────────────────────────────────────────────────────────────────


def described(  # noqa: PLR0917
    a: Annotated[int, "how many"],
    b: Annotated[str, pydantic.Field(description="which", max_length=9)],
    c: int = pydantic.Field(3, description="how far", le=5),
    d: list[int] = pydantic.Field(default_factory=lambda: [1], description="where"),  # noqa: B008
    e: str = pydantic.Field(description="needed"),
    f: Annotated[str, "of the annotation"] = "",
    g: str = "",
):
    """Do it.

    Args:
        f: of the docstring
        g: of the docstring
    """
    return a, b, c, d, e, f, g


def test_parameters_are_described_by_annotated_and_by_the_field_of_pydantic():
    tool = Tool.from_function(described)
    found = {name: schema["description"] for name, schema in tool.parameters["properties"].items()}
    assert found == {
        "a": "how many",
        "b": "which",
        "c": "how far",
        "d": "where",
        "e": "needed",
        "f": "of the annotation",
        "g": "of the docstring",
    }
    assert tool.parameters["required"] == ["a", "b", "e"]


class Engine(pydantic.BaseModel):
    """Moves a car."""

    power: int


def test_the_docstring_of_a_function_describes_a_parameter_better_than_the_docstring_of_its_class():
    def drive(main: Engine, spare: Engine, other: Annotated[Engine, "the other one"]):
        """Drive.

        Args:
            main: the one in use
            other: not shown
        """

    drive.__annotations__ |= {"main": Engine, "spare": Engine, "other": Annotated[Engine, "the other one"]}
    found = [schema["description"] for schema in properties(drive).values()]
    assert found == ["the one in use", "Moves a car.", "the other one"]


def test_defaults_and_constraints_in_the_field_of_pydantic_hold_when_the_tool_is_called():
    tool = Tool.from_function(described)
    called = tool.call(FunctionCall("described", '{"a": 1, "b": "x", "e": "y"}', "c"))
    assert called == (1, "x", 3, [1], "y", "", "")
    with pytest.raises(InvalidArguments, match="c: Input should be less than or equal to 5"):
        tool.call(FunctionCall("described", '{"a": 1, "b": "x", "c": 6}', "c"))


def test_a_strict_tool_requires_every_parameter():
    tool = Tool.from_function(get_weather, strict=True)
    assert tool.strict is True
    assert tool.parameters["required"] == ["city", "days"]
    assert tool.parameters["additionalProperties"] is False
    with pytest.raises(ConfigError, match="find can't be strict: a list needs the type of its items, and dict"):
        Tool.from_function(find, strict=True)


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Address:
    street: str
    unit: Unit = Unit.CELSIUS


class Person(pydantic.BaseModel):
    name: str


def visit(  # noqa: PLR0917
    who: Person,
    where: list[Address],
    day: datetime.date,
    unit: Optional[Unit] = None,  # noqa: UP045
    kind: Literal["a", "b"] = "a",
    budget: decimal.Decimal = decimal.Decimal(0),
    map: Union[pathlib.Path, None] = None,
    extra: Dict[str, List[int]] = {},  # noqa: UP006, B006
):
    return who, where, day, unit, kind, budget, map, extra


VISIT = Tool.from_function(visit)


def test_the_arguments_of_a_call_get_the_declared_types():
    arguments = {
        "who": {"name": "Zoë"},
        "where": [{"street": "a"}, {"street": "b", "unit": "f"}],
        "day": "2026-05-01",
        "unit": "c",
        "kind": "b",
        "budget": 0.1,
        "map": "/a",
        "extra": {"x": [1]},
    }
    assert VISIT.call(FunctionCall("visit", json.dumps(arguments), "c")) == (
        Person(name="Zoë"),
        [Address("a"), Address("b", Unit.FAHRENHEIT)],
        datetime.date(2026, 5, 1),
        Unit.CELSIUS,
        "b",
        decimal.Decimal("0.1"),
        pathlib.Path("/a"),
        {"x": [1]},
    )


def test_parameters_that_the_model_leaves_out_get_their_defaults():
    called = VISIT.call(FunctionCall("visit", '{"who": {"name": "a"}, "where": [], "day": "2026-05-01"}', "c"))
    assert called[3:] == (None, "a", decimal.Decimal(0), None, {})


def test_a_call_without_parameters_may_have_blank_arguments():
    assert Tool.from_function(Plain()).call(FunctionCall("Plain", "", "c")) == 7


GOOD = {"who": {"name": "a"}, "where": [], "day": "2026-05-01"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{}", "^the arguments of visit are wrong: who is missing; where is missing; day is missing$"),
        ('{"who": ', r"the arguments of visit \(c\) are not complete JSON"),
        ("[]", r"the arguments of visit must be a JSON object, not \[\]"),
        ("null", "the arguments of visit must be a JSON object, not None"),
        ({**GOOD, "colour": 1}, "colour is not a parameter"),
        ({**GOOD, "day": "soon"}, "day is 'soon', which is not of type date"),
        ({**GOOD, "day": None}, "day is None, which is not of type date"),
        ({**GOOD, "where": [{"street": 1}]}, r"where\[0\].street is 1, which is not of type str"),
        ({**GOOD, "where": [{}]}, r"where\[0\] has no value for street"),
        ({**GOOD, "who": {}}, "who.name: Field required"),
        ({**GOOD, "unit": "k"}, "unit is 'k', which matches none of the types Unit, None"),
        ({**GOOD, "kind": "c", "budget": "x"}, r"kind is 'c', which .* Literal\['a', 'b'\]; budget is 'x', which"),
    ],
    ids=repr,
)
def test_wrong_arguments_are_refused_with_all_that_is_wrong_and_nothing_is_called(arguments, message):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    tool = dataclasses.replace(VISIT, function=functools.wraps(visit)(lambda **_: pytest.fail("it was called")))
    with pytest.raises(InvalidArguments, match=message) as caught:
        tool.call(FunctionCall("visit", text, "c"))
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, ConfigError)


def test_a_call_that_was_cut_is_never_run_even_if_its_arguments_are_whole():
    tool = Tool.from_function(functools.wraps(get_weather)(lambda **_: pytest.fail("it was called")))
    for arguments in ('{"city": "Os', '{"city": "Oslo"}', ""):
        with pytest.raises(InvalidArguments, match=r"^the arguments of get_weather \(c\) are cut off$"):
            tool.call(FunctionCall("get_weather", arguments, "c", "incomplete"))


def test_what_the_function_raises_is_passed_on():
    def divide(a: int, b: int) -> float:
        return a / b

    with pytest.raises(ZeroDivisionError):
        Tool.from_function(divide).call(FunctionCall("divide", '{"a": 1, "b": 0}', "c"))


def test_a_call_of_another_function_and_a_tool_without_a_function_are_errors_of_the_caller():
    with pytest.raises(ConfigError, match=r"this is a call of other, not of visit: look up the tool by call\.name$"):
        VISIT.call(FunctionCall("other", "{}", "c"))
    with pytest.raises(ConfigError, match=r"the tool f has no function to call: use Tool.from_function\(function\)$"):
        Tool("f").call(FunctionCall("f", "{}", "c"))


@pytest.mark.parametrize("call", [{"city": "Oslo"}, '{"city": "Oslo"}', None, Turn(), ()], ids=repr)
def test_only_a_function_call_can_be_called(call):
    with pytest.raises(ConfigError, match=r"^Tool.call takes a FunctionCall, such as those in turn.function_ca"):
        VISIT.call(call)


def test_a_tool_written_by_hand_may_have_a_function():
    def add(a: int, b: int) -> int:
        return a + b

    tool = Tool("plus", "adds", {"type": "object"}, function=add)
    assert tool == Tool("plus", "adds", {"type": "object"})
    assert tool.call(FunctionCall("plus", '{"a": 1, "b": 2}', "c")) == 3


class Adder:
    def add(self, a, b: Unit = Unit.CELSIUS, *, c=None):
        return a, b, c

    __call__ = add


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a, Unit(b), None),
        lambda a, b="c", c=None: (a, Unit(b), c),
        Adder().add,
        Adder(),
        functools.partial(Adder().add, c=None),
    ],
    ids=["lambda", "lambda with defaults", "method", "object", "partial"],
)
def test_a_parameter_without_annotation_of_a_tool_written_by_hand_takes_the_value_as_it_is(function):
    tool = Tool("add", "adds", {"type": "object"}, function=function)
    assert tool.call(FunctionCall("add", '{"a": [1, {"x": null}], "b": "c"}', "c")) == (
        [1, {"x": None}],
        Unit.CELSIUS,
        None,
    )
    with pytest.raises(InvalidArguments, match="z is not a parameter; a is missing"):
        tool.call(FunctionCall("add", '{"b": "c", "z": 1}', "c"))


@pytest.mark.parametrize("bound", [False, True], ids=["function", "partial"])
def test_a_tool_written_by_hand_gets_arguments_of_any_name_as_they_are_beside_those_with_a_type(bound):
    def find(kind: Unit, days: int = 1, **arguments):
        return kind, days, arguments

    function = functools.partial(find, days=2) if bound else find
    tool = Tool("find", parameters={"type": "object"}, function=function)
    given = FunctionCall("find", '{"kind": "c", "path": [1, {"a": null}], "half": "\\ud83d"}', "a")
    days = 2 if bound else 1
    assert tool.call(given) == (Unit.CELSIUS, days, {"path": [1, {"a": None}], "half": "\ufffd"})
    with pytest.raises(InvalidArguments, match="kind is missing"):
        tool.call(FunctionCall("find", '{"path": 1}', "a"))


def test_the_model_can_not_give_what_a_partial_fixes_not_even_as_an_argument_of_any_name():
    def find(folder: str, user: str = "ada", **arguments):
        return folder, user, arguments

    inner = functools.partial(find, "/home", user="bob")
    tool = Tool("find", function=functools.partial(inner, depth=1))
    assert tool.call(FunctionCall("find", '{"path": "a"}', "a")) == ("/home", "bob", {"path": "a", "depth": 1})
    for name in ("folder", "user", "depth"):
        with pytest.raises(InvalidArguments, match=f"{name} is not a parameter"):
            tool.call(FunctionCall("find", f'{{"{name}": "x"}}', "a"))


def test_arguments_of_any_name_need_a_schema_written_by_hand():
    def find(**arguments):
        return arguments

    with pytest.raises(ConfigError, match="create the Tool by hand"):
        Tool.from_function(find)
    assert Tool("find", function=lambda **arguments: arguments).call(FunctionCall("find", "", "a")) == {}


def test_a_tool_keeps_its_function_in_copies_and_pickles():
    for copied in (copy.deepcopy(VISIT), pickle.loads(pickle.dumps(VISIT)), dataclasses.replace(VISIT, strict=False)):
        assert copied.function is visit
    assert "function" not in repr(VISIT)


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
