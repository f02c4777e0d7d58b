"""Types as response formats, and instances from the text of an answer."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Union

import annotated_types
import pydantic
import pytest
from typing_extensions import TypeAliasType, TypedDict

from chatstream import ConfigError, Tool, Turn, response_format
from chatstream._encode.body import request_body
from chatstream.types.events import FinishKind
from chatstream.types.items import Message
from chatstream.types.parts import OutputText, Refusal
from chatstream.types.schema import schema_of
from chatstream.types.structured import parsed


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Wheel:
    inches: float


@dataclass
class Bike:
    name: str
    wheels: list[Wheel]
    size: Size = Size.SMALL
    tags: dict[str, int] = field(default_factory=dict)
    owner: Optional[str] = None  # noqa: UP045
    kind: Literal["road", "city"] = "city"
    rest: Any = None


class Person(pydantic.BaseModel):
    name: str
    age: int = 3


@dataclass
class Chain:
    next: Chain | None = None


@dataclass
class Team:
    lead: Person
    bikes: list  # type: ignore[type-arg]
    notes: dict  # type: ignore[type-arg]


def turn_of(text: str) -> Turn:
    return Turn((Message("assistant", [OutputText(text)]),))


def test_a_dataclass_becomes_a_strict_schema():
    format = response_format(Wheel)
    schema = {
        "type": "object",
        "properties": {"inches": {"type": "number"}},
        "required": ["inches"],
        "additionalProperties": False,
    }
    assert format == {"type": "json_schema", "json_schema": {"name": "Wheel", "strict": True, "schema": schema}}


def test_a_strict_schema_is_strict_inside_lists_and_requires_fields_with_defaults():
    schema = response_format(Bike)["json_schema"]["schema"]
    assert schema["required"] == ["name", "wheels", "size", "tags", "owner", "kind", "rest"]
    assert schema["properties"]["wheels"]["items"]["additionalProperties"] is False
    assert schema["properties"]["size"] == {"type": "string", "enum": ["s", "l"]}
    assert schema["properties"]["owner"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_the_schema_of_a_pydantic_model_is_used_without_defaults():
    schema = response_format(Person)["json_schema"]["schema"]
    assert schema["required"] == ["name", "age"]
    assert "default" not in schema["properties"]["age"]


def test_a_dataclass_may_be_the_type_of_a_tool_parameter():
    def ride(bike: Wheel) -> None:
        """Ride it."""

    ride.__annotations__["bike"] = Wheel
    assert Tool.from_function(ride).parameters["properties"]["bike"]["required"] == ["inches"]


def test_the_schema_of_a_pydantic_model_inside_a_dataclass_is_used():
    assert schema_of(Team, "x")["properties"]["lead"]["properties"]["name"]["type"] == "string"


def test_the_error_for_a_field_without_a_schema_names_the_field():
    @dataclass
    class Odd:
        when: complex

    Odd.__annotations__["when"] = complex
    with pytest.raises(ConfigError, match="field when of Odd"):
        schema_of(Odd, "x")


@pytest.mark.parametrize("model", [3, "Bike", "json_object", [Wheel], Wheel(1), None, (int, str)])
def test_what_is_no_type_is_refused_as_a_response_format(model):
    with pytest.raises(ConfigError, match="must be a dict, or a type such as a dataclass, a pydantic model or list"):
        response_format(model)


def test_a_dataclass_given_as_response_format_is_sent_as_its_schema():
    body = request_body("x", model="m", fields={"response_format": Wheel})
    assert body["response_format"] == response_format(Wheel)
    given = {"type": "json_object"}
    assert request_body("x", model="m", fields={"response_format": given})["response_format"] == given


def test_the_text_of_a_turn_is_parsed_into_an_instance_of_the_model():
    text = '{"name":"b","wheels":[{"inches":28}],"size":"l","tags":{"x":1},"owner":null,"kind":"road","rest":[1]}'
    bike = Bike("b", [Wheel(28.0)], Size.LARGE, {"x": 1}, None, "road", [1])
    assert turn_of(text).parsed(Bike) == bike
    assert turn_of('{"name":"b","wheels":[]}').parsed(Bike) == Bike("b", [])
    assert turn_of('{"a":1}').parsed() == {"a": 1}
    assert turn_of('{"name":"p"}').parsed(Person) == Person(name="p")
    team = '{"lead":{"name":"p","age":5},"bikes":[1],"notes":{"a":2}}'
    assert turn_of(team).parsed(Team) == Team(Person(name="p", age=5), [1], {"a": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name":"b"}', "Bike has no value for wheels"),
        ('{"name":"b","wheels":[],"colour":1}', "Bike has unknown fields: colour"),
        ('{"name":1,"wheels":[]}', "Bike.name is 1, which is not of type str"),
        ('{"name":"b","wheels":[{"inches":"x"}]}', r"Bike.wheels\[0\].inches is 'x', which is not of type float"),
        ('{"name":"b","wheels":[],"owner":3}', "Bike.owner is 3, which matches none of the types"),
        ('{"name":"b","wheels":[],"size":"m"}', r"Bike.size: 'm' is not a valid Size \(one of 's', 'l'\)"),
        ('{"name":"b","wheels":[],"size":[]}', r"\[\] is not a valid Size"),
        ('{"name":"b","wheels":{}}', "Bike.wheels is {}, which is not of type list"),
        ('{"name":"b","wheels":[],"kind":"x"}', "Bike.kind is 'x'"),
        ('{"name":"b","wheels":[],"tags":{"a":true}}', "Bike.tags.a is True, which is not of type int"),
        ('{"name":"b', "not one complete JSON value"),
        ("NaN", "NaN is not JSON"),
        ("[1]", r"Bike is \[1\], which is not of type Bike"),
    ],
)
def test_the_error_for_a_text_that_does_not_match_names_the_field_and_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        turn_of(text).parsed(Bike)


def test_the_validation_error_of_pydantic_is_a_value_error():
    with pytest.raises(ValueError, match="age"):
        parsed('{"name":"p","age":"x"}', Person)


# ── types that are no objects ───────────────────────────────────────────────────────────────────────────────────


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Movie(TypedDict):
    title: str
    made: datetime.date


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Strict(pydantic.BaseModel, strict=True):
    day: datetime.date
    size: Size


@pydantic.dataclasses.dataclass
class Checked:
    count: pydantic.PositiveInt


@pytest.mark.parametrize(
    ("model", "name", "schema", "text", "value"),
    [
        (list[int], "list_int", {"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        (int, "int", {"type": "integer"}, "3", 3),
        (str, "str", {"type": "string"}, '"a"', "a"),
        (bool, "bool", {"type": "boolean"}, "true", True),
        (Size, "Size", {"type": "string", "enum": ["s", "l"]}, '"l"', Size.LARGE),
        (Literal["a", 1], "Literal_a_1", {"enum": ["a", 1], "type": ["string", "integer"]}, "1", 1),
        (int | None, "int_None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        (Annotated[int, "how many"], "int", {"type": "integer", "description": "how many"}, "3", 3),
        (NewType("Count", int), "Count", {"type": "integer"}, "3", 3),
        (TypeAliasType("Count", int), "Count", {"type": "integer"}, "3", 3),
        (Numbers, "Numbers", {"items": {"type": "integer"}, "title": "Numbers", "type": "array"}, "[1]", Numbers([1])),
        (Annotated[int, pydantic.Field(ge=1)], "int", {"type": "integer", "minimum": 1}, "1", 1),
    ],
    ids=repr,
)
def test_a_type_that_is_no_object_is_wrapped_into_one_and_unwrapped_again(model, name, schema, text, value):
    format = response_format(model)["json_schema"]
    assert format["name"] == name
    assert format["strict"] is True
    assert format["schema"] == {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
    }
    assert turn_of(f'{{"value": {text}}}').parsed(model) == value
    assert turn_of(text).parsed(model) == value  # of a server that knows no schemas


@pytest.mark.parametrize(
    ("model", "text", "value"),
    [
        (Movie, '{"title": "a", "made": "1999-12-31"}', {"title": "a", "made": datetime.date(1999, 12, 31)}),
        (Point, '{"x": 1}', Point(1)),
        (Wheel, '{"inches": 28}', Wheel(28.0)),
        (TypeAliasType("Round", Wheel), '{"inches": 28}', Wheel(28.0)),
        (Person, '{"name": "p"}', Person(name="p")),
        (Checked, '{"count": 3}', Checked(3)),
        (Strict, '{"day": "2026-05-01", "size": "s"}', Strict(day=datetime.date(2026, 5, 1), size=Size.SMALL)),
    ],
    ids=repr,
)
def test_an_object_is_not_wrapped(model, text, value):
    assert "value" not in response_format(model)["json_schema"]["schema"]["properties"]
    assert turn_of(text).parsed(model) == value
    assert turn_of(f'{{"value": [{text}]}}').parsed(list[model]) == [value]


@pytest.mark.parametrize(
    ("hint", "strict"),
    [
        (Annotated[str, pydantic.Field(min_length=1)], False),
        (Annotated[str, pydantic.StringConstraints(max_length=9)], False),
        (pydantic.AnyUrl, False),
        (pydantic.SecretStr, False),
        (pydantic.Base64Str, False),
        (Annotated[str, pydantic.WithJsonSchema({"type": "string", "pattern": r"^(?!x)\d+$"})], False),
        (Annotated[str, pydantic.Field(pattern="^(?:a|b)?$")], True),
        (Annotated[float, pydantic.Field(ge=0, lt=1, multiple_of=0.5)], True),
        (Annotated[list[int], pydantic.Field(min_length=1, max_length=3)], True),
        (datetime.datetime, True),
        (uuid.UUID, True),
    ],
    ids=repr,
)
def test_what_openai_refuses_in_a_strict_schema_is_sent_without_strict(hint, strict):
    """Its answer is status 400 with "'minLength' is not permitted" or "'uri' is not a valid format", and the like."""
    field = pydantic.create_model("Model", length=(int, 1), format=(str, "uri"), minLength=(hint, ...))
    for model in (hint, list[hint], field):
        assert response_format(model)["json_schema"]["strict"] is strict

    def find(name) -> None: ...

    find.__annotations__["name"] = hint
    if strict:
        assert Tool.from_function(find, strict=True).strict
    else:
        with pytest.raises(
            ConfigError, match=r"^find can't be strict: .*lengths of strings, lookaround, and formats such as uri"
        ):
            Tool.from_function(find, strict=True)


def test_a_type_with_arbitrary_keys_or_values_is_sent_without_strict():
    for model in (Bike, dict[str, int], dict, list, list[Any], tuple[int, str]):
        assert response_format(model)["json_schema"]["strict"] is False
    assert response_format(dict[str, int])["json_schema"]["schema"]["additionalProperties"] == {"type": "integer"}
    assert turn_of('{"value": 3}').parsed(dict[str, int]) == {"value": 3}


def test_a_name_has_only_characters_that_servers_take():
    generic = pydantic.create_model("Pair[int, Größe]", a=(int, ...))
    assert response_format(generic)["json_schema"]["name"] == "Pair_int_Gr_e"
    assert (
        len(response_format(Union[tuple(list[tuple[int, ...]] for _ in range(1)) + (Bike,) * 9])["json_schema"]["name"])
        <= 64
    )


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"inches": 28}\n```',
        '```\n{"inches": 28}\n```\n',
        ' \n```JSON\r\n{\n"inches": 28}\n```',
        '```{"inches": 28}```',
        '```json {"inches": 28} ```',
        '``` json\n{"inches": 28}\n```',
        '```  {"inches": 28} ```',
        '~~~json5\n{"inches": 28}\n~~~',
        '````json\n{"inches": 28}\n````',
        '```json\n{"value": {"inches": 28}}\n```',
    ],
)
def test_a_single_fenced_block_around_the_answer_is_taken_off(text):
    if '"value"' not in text:
        assert turn_of(text).parsed(Wheel) == Wheel(28)
        assert turn_of(text).parsed() == {"inches": 28}
    assert turn_of(text).parsed(Wheel | None) == Wheel(28)
    assert turn_of(text.replace("inches", "name").replace("28", '"p"')).parsed(Optional[Person]) == Person(name="p")  # noqa: UP045


def test_a_fenced_block_keeps_the_fences_inside_its_texts():
    text = '```json\n{"name": "```py\\nx\\n```"}\n```'
    assert turn_of(text).parsed(Person) == Person(name="```py\nx\n```")


@pytest.mark.parametrize(
    "text",
    [
        'Sure! ```json\n{"inches": 1}\n```',
        '```json\n{"inches": 1}\n``` Done.',
        '```json\n{"inches": 1}\n```\n```json\n{"inches": 2}\n```',
        '```json\n{"inches": 1}',
        "``````",
        "```",
        "`",
    ],
)
def test_a_text_that_is_more_than_one_fenced_block_is_refused(text):
    with pytest.raises(ValueError, match="not one complete JSON value"):
        turn_of(text).parsed(Wheel)


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "value", "instance"),
    [
        (int, 5.0, 5),
        (float, 5, 5.0),
        (float | int, 5, 5),
        (int | float, 5.5, 5.5),
        (str | int, "5", "5"),
        (int | bool, True, True),
        (Wheel | dict, {"inches": 28}, Wheel(28.0)),
        (Wheel | dict, {"feet": 2}, {"feet": 2}),
        (list[Size] | list, ["s"], [Size.SMALL]),
        (list[Size] | list, ["s", 1], ["s", 1]),
        (dict | Wheel, {"inches": 28}, {"inches": 28}),
        (Level, 2, Level.HIGH),
        (Literal[Size.SMALL, "x"], "s", Size.SMALL),
        (list, [1], [1]),
        (dict[str, list[Size]], {"a": ["s"]}, {"a": [Size.SMALL]}),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (Sequence[Size], ["s"], [Size.SMALL]),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, Size], [1, "s"], (1, Size.SMALL)),
        (Any, [1], [1]),
        (object, 1, 1),
        (datetime.datetime, "2026-05-01T10:00:00Z", datetime.datetime(2026, 5, 1, 10, tzinfo=datetime.timezone.utc)),
        (datetime.datetime, "2026-05-01T10:00:00", datetime.datetime(2026, 5, 1, 10)),
        (datetime.time, "10:00:00", datetime.time(10)),
        (datetime.date | str, "2026-05-01", datetime.date(2026, 5, 1)),
        (datetime.date | str, "soon", "soon"),
        (uuid.UUID, "a8098c1a-f86e-11da-bd1a-00112444be1e", uuid.UUID("a8098c1a-f86e-11da-bd1a-00112444be1e")),
        (decimal.Decimal, 0.1, decimal.Decimal("0.1")),
        (decimal.Decimal, 3, decimal.Decimal(3)),
        (decimal.Decimal, "12345678901234567.89", decimal.Decimal("12345678901234567.89")),
        (pathlib.PurePosixPath, "/a", pathlib.PurePosixPath("/a")),
        (list[pydantic.PositiveInt], [1], [1]),
    ],
    ids=repr,
)
def test_values_get_the_declared_type(model, value, instance):
    made = turn_of(json.dumps(value)).parsed(model)
    assert made == instance
    assert type(made) is type(instance)


@pytest.mark.parametrize(
    ("model", "value", "message"),
    [
        (int, True, "^int is True, which is not of type int$"),
        (int | None, True, "^the value is True, which matches none of the types int, None$"),
        (int, 5.5, "is 5.5, which is not of type int"),
        (int, "5", "is '5', which is not of type int"),
        (float, "5", "is '5', which is not of type float"),
        (float, 10**400, "which is not of type float"),
        (float | None, -(10**400), "which matches none of the types float, None"),
        (bool, 1, "is 1, which is not of type bool"),
        (Level, True, "is True, which is not of type Level"),
        (Literal[1], True, r"is True, which is not of type Literal\[1\]"),
        (list[int], [1, "x"], r"the value\[1\] is 'x', which is not of type int"),
        (list[Point], [{"x": "y"}], r"the value\[0\].x is 'y', which is not of type int"),
        (tuple[int, Size], [1], "the value has 1 items, not 2"),
        (datetime.date, "soon", "is 'soon', which is not of type date"),
        (datetime.datetime, 5, "is 5, which is not of type datetime"),
        (uuid.UUID, "x", "is 'x', which is not of type UUID"),
        (decimal.Decimal, "NaN", r"is 'NaN', which is not of type Decimal \(not finite\)"),
        (decimal.Decimal, "x", r"is 'x', which is not of type Decimal \(not a number\)"),
        (decimal.Decimal, True, "is True, which is not of type Decimal"),
        (pathlib.Path, 5, "is 5, which is not of type Path"),
        (Wheel | None, {"inches": "x"}, r"none of the types Wheel, None \(the value.inches is 'x', which"),
        (list[pydantic.PositiveInt], [0], r"the value\[0\]: Input should be greater than 0"),
        (list[Person], [{"name": 1}], r"the value\[0\].name: Input should be a valid string"),
        (list[Numbers], [[1, "x"]], r"the value\[0\]\[1\]: Input should be a valid integer"),
    ],
    ids=repr,
)
def test_a_value_of_another_type_is_refused_with_its_place_and_the_reason(model, value, message):
    with pytest.raises(ValueError, match=message):
        turn_of(json.dumps({"value": value})).parsed(model)


@pytest.mark.parametrize("model", [set[int], complex, "Bike", 3, [int]], ids=repr)
def test_a_type_that_no_json_value_has_is_an_error_of_the_caller(model):
    with pytest.raises(ConfigError, match="which can't be read from JSON"):
        turn_of("[1]").parsed(model)


@pytest.mark.parametrize(
    ("escaped", "name"),
    [("\\ud83d x", "\ufffd x"), ("\\uDE00", "\ufffd"), ("\\ud83d\\ude00", "😀"), ("\\\\ud83d", "\\ud83d"), ("é", "é")],
)
@pytest.mark.parametrize("model", [Person, Person | None, list[Person]])
def test_half_of_a_character_that_a_model_escaped_is_replaced_in_an_instance_of_any_type(escaped, name, model):
    text = f'{{"name": "{escaped}"}}'
    made = turn_of(f"[{text}]" if model == list[Person] else text).parsed(model)
    assert made == ([Person(name=name)] if model == list[Person] else Person(name=name))


def test_the_error_for_escapes_of_half_a_character_in_text_that_is_no_json_is_that_of_pydantic():
    with pytest.raises(pydantic.ValidationError, match="Invalid JSON"):
        turn_of('{"name": "\\ud83d"').parsed(Person)


def cut_off(text: str, kind: FinishKind = "length") -> Turn:
    return dataclasses.replace(turn_of(text), finish_reason="max_tokens", finish_kind=kind)


@pytest.mark.parametrize(("model", "detail"), [(Wheel, "not one complete JSON"), (Person, "EOF"), (None, "not one")])
def test_the_error_for_an_answer_that_was_cut_off_says_so(model, detail):
    wanted = r"^the answer was cut off at the token limit \(finish reason max_tokens\): raise max_tokens; [\s\S]*"
    with pytest.raises(ValueError, match=wanted + detail):
        cut_off('{"inches": 2').parsed(model)
    assert cut_off('{"inches": 2}').parsed(Wheel) == Wheel(2)
    with pytest.raises(ValueError, match=r"^(?!the answer was cut off)"):
        cut_off('{"inches": 2', "stop").parsed(model)


@pytest.mark.parametrize("model", [Wheel, Person, list[int], None])
def test_the_error_for_a_refusal_has_the_words_of_the_model(model):
    with pytest.raises(ValueError, match=r"^the model refused to answer: \"I can't help with that\.\"$"):
        Turn((Message("assistant", [Refusal("I can't help with that.")]),)).parsed(model)
    answered = Message("assistant", [OutputText('{"inches": 1}'), Refusal("But I will not ride it.")])
    assert Turn((answered,)).parsed(Wheel) == Wheel(1)


def test_a_value_that_is_nested_too_deeply_is_refused():
    depth = 600
    text = '{"next": ' * depth + '{"next": null}' + "}" * depth
    with pytest.raises(ValueError, match="nested too deeply"):
        turn_of(text).parsed(Chain)


def test_a_model_whose_validator_fails_without_details_is_refused_with_its_place(monkeypatch):
    def refuse(_: str) -> Person:
        raise ValueError("no")

    monkeypatch.setattr(Person, "model_validate_json", refuse)
    with pytest.raises(ValueError, match=r"^the value\[0\]: no$"):
        turn_of('[{"name": "p"}]').parsed(list[Person])


def test_without_pydantic_its_metadata_is_refused_with_what_to_install(monkeypatch):
    hint = Annotated[int, annotated_types.Ge(7)]
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(ConfigError, match=r"needs pydantic 2: pip install pydantic"):
        response_format(hint)
    with pytest.raises(ConfigError, match=r"the value has metadata that needs pydantic 2"):
        turn_of("9").parsed(hint)


class Email:
    """Like EmailStr, if email-validator is not installed."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> object:
        raise ImportError("email-validator is not installed, run pip install 'pydantic[email]'")


def test_the_error_for_a_type_of_pydantic_that_needs_another_package_names_that_package():
    wanted = "has metadata that needs another package: email-validator is not installed, run pip"
    with pytest.raises(ConfigError, match="response_format " + wanted):
        response_format(Email)
    with pytest.raises(ConfigError, match="Email " + wanted):
        turn_of('"a@b.c"').parsed(Email)


def test_a_number_beyond_the_largest_float_is_no_float():
    assert turn_of("1e300").parsed(float) == 1e300
    with pytest.raises(ValueError, match="is inf, which is not of type float"):
        turn_of("1e400").parsed(float)
