"""JSON schemas of types, instances from the text of an answer, and the values of partial JSON."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import pydantic
import pytest

from chatstream import ConfigError, Tool, Turn, partial_json, response_format
from chatstream._encode.body import request_body
from chatstream.types.items import Message
from chatstream.types.parts import OutputText
from chatstream.types.schema import parsed, schema_of


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


@pytest.mark.parametrize("model", [dict, 3, "Bike", Size])
def test_a_response_format_must_be_a_dataclass_or_a_pydantic_model(model):
    with pytest.raises(ConfigError, match="a dataclass or a pydantic model"):
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
        ('{"name":"b","wheels":[],"colour":1}', "Bike has colour, which is not a field of Bike"),
        ('{"name":1,"wheels":[]}', "Bike.name is 1, which is not of type str"),
        ('{"name":"b","wheels":[{"inches":"x"}]}', r"Bike.wheels\[0\].inches is 'x', which is not of type float"),
        ('{"name":"b","wheels":[],"owner":3}', "Bike.owner is 3, which is of none of the types"),
        ('{"name":"b","wheels":[],"size":"m"}', "'m' is not a valid Size"),
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


def test_partial_json_yields_the_value_each_time_it_changes():
    assert list(partial_json(['{"name": "Bo', 'b", "age"', ": 4", "2}"])) == [
        {"name": "Bo"},
        {"name": "Bob"},
        {"name": "Bob", "age": 4},
        {"name": "Bob", "age": 42},
    ]


def test_partial_json_yields_nothing_for_pieces_that_change_nothing():
    assert list(partial_json([" ", "[1", " ", "]", " "])) == [[1]]
    assert list(partial_json(["", " "])) == []


def test_partial_json_parses_a_long_text_a_logarithmic_number_of_times():
    """A long text is parsed again only when it has grown by 1/32, and once more at the end."""
    pieces = ["word "] * 20_000
    values = list(partial_json(['{"text": "', *pieces, '"}']))
    assert values[-1] == {"text": "word " * 20_000}
    assert len(values) < 1_000


def test_partial_json_raises_value_error_for_text_that_is_not_json():
    with pytest.raises(ValueError, match="expected value"):
        list(partial_json(["Sure! {"]))


def test_without_jiter_the_error_of_partial_json_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiter", None)
    with pytest.raises(ConfigError, match=r"chatstream-py\[json\]"):
        list(partial_json(["1"]))
