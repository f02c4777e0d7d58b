"""The outputs of calls: text, content parts, and every value that can be converted to JSON."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import io
import json
import pathlib
import types
import uuid
from typing import Any, NamedTuple

import pydantic
import pytest
from support import id_of

from chatstream import ConfigError, FunctionCall, FunctionCallOutput, InputImage, InputText

CALL = FunctionCall("f", "{}", "c1")
IMAGE = InputImage("data:,")
UUID = "a8098c1a-f86e-11da-bd1a-00112444be1e"


class Unit(str, enum.Enum):
    CELSIUS = "c"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Trip:
    when: datetime.date
    unit: Unit
    stops: list[Trip] = dataclasses.field(default_factory=list)


class Person(pydantic.BaseModel):
    name: str
    born: datetime.date | None = None


class Names(pydantic.RootModel[list[str]]):
    pass


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (IMAGE, (IMAGE,)),
        (["a", IMAGE], (InputText("a"), IMAGE)),
        ((InputText("a"), {"type": "input_text", "text": "b"}), (InputText("a"), InputText("b"))),
    ],
)
def test_an_output_of_parts_stays_parts(value, parts):
    assert CALL.output(value) == FunctionCallOutput("c1", parts)


@pytest.mark.parametrize(("value", "text"), [("18 °C", "18 °C"), ("", ""), (Unit.CELSIUS, "c")])
def test_an_output_of_text_stays_text(value, text):
    output = CALL.output(value).output
    assert output == text
    assert type(output) is str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ([], "[]"),
        (["a", "b"], '["a", "b"]'),
        ((1, None), "[1, null]"),
        ({"Wörter": ["🦊"]}, '{"Wörter": ["🦊"]}'),
        ({"a": Level.LOW, Unit.CELSIUS: 2}, '{"a": 1, "c": 2}'),
        ({1: "b", None: "c", 2.5: "d"}, '{"1": "b", "null": "c", "2.5": "d"}'),
        (collections.OrderedDict(a=1), '{"a": 1}'),
        (types.MappingProxyType({"a": 1}), '{"a": 1}'),
        (datetime.datetime(2026, 5, 1, 10), '"2026-05-01T10:00:00"'),
        (datetime.time(10), '"10:00:00"'),
        ({datetime.date(2026, 5, 1): 1}, '{"2026-05-01": 1}'),
        (uuid.UUID(UUID), f'"{UUID}"'),
        (decimal.Decimal("0.10"), '"0.10"'),
        (pathlib.PurePosixPath("/a/ö"), '"/a/ö"'),
        (Point(1, 2), '{"x": 1, "y": 2}'),
        (Person(name="Zoë", born=datetime.date(2000, 1, 2)), '{"name": "Zoë", "born": "2000-01-02"}'),
        (Names(["a"]), '["a"]'),
        (
            Trip(datetime.date(2026, 5, 1), Unit.CELSIUS, [Trip(datetime.date(2026, 5, 2), Unit.CELSIUS)]),
            '{"when": "2026-05-01", "unit": "c", "stops": [{"when": "2026-05-02", "unit": "c", "stops": []}]}',
        ),
        ([Person(name="p")], '[{"name": "p", "born": null}]'),
    ],
    ids=repr,
)
def test_every_other_value_with_a_json_form_becomes_readable_json(value, text):
    assert CALL.output(value) == FunctionCallOutput("c1", text)
    json.loads(text)


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Odd(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    x: Any


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "^the output of f is nan, which JSON does not support: use None or a str instead$"),
        ({"a": [1, float("-inf")]}, r"^the output of f\.a\[1\] is -inf, which JSON does not support"),
        (decimal.Decimal("NaN"), "the output of f is NaN, which JSON does not support"),
        ({float("inf"): 1}, "the key inf of the output of f is inf, which JSON does not support"),
        (b"x", "^the output of f is of the type bytes, which JSON does not support: convert it first$"),
        ({"a": {1, 2}}, r"the output of f\.a is of the type set, which JSON does not support"),
        ({"a": object()}, r"the output of f\.a is of the type object"),
        (datetime.timedelta(1), "is of the type timedelta"),
        (1j, "is of the type complex"),
        (io.StringIO("x"), "is of the type StringIO"),
        ((each for each in "ab"), "is of the type generator"),
        (Trip, "is of the type type"),
        (Person, "is of the type ModelMetaclass"),
        (pathlib.Path, "is of the type type"),
        ({(1, 2): 3}, r"the key \(1, 2\) of the output of f can't be converted to JSON: use a str"),
        ({b"a": 3}, "the key b'a' of the output of f is of the type bytes"),
        (Odd(x=object()), "the output of f can't be written as JSON: Unable to serialize unknown type"),
        (cyclic(), "the output of f can't be written as JSON: it contains itself, or is nested too deeply"),
        ([IMAGE, 3], 'expected a dict with the key "type", not 3'),
    ],
    ids=id_of,
)
def test_a_value_without_a_json_form_is_refused_with_its_place(value, message):
    with pytest.raises(ConfigError, match=message):
        CALL.output(value)
