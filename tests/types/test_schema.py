"""The JSON schemas of Python types: records, references, definitions, descriptions, and names like keywords."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import pathlib
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, List, Literal, NamedTuple, NewType, Optional, TypeVar, Union  # noqa: UP035

import pydantic
import pytest
import typing_extensions
from schemas import is_valid

from chatstream import ConfigError, Tool, response_format
from chatstream.types.hints import record_fields, substitute, type_label
from chatstream.types.schema import schema_name, schema_of
from chatstream.types.structured import parsed

T = TypeVar("T")
CityName = NewType("CityName", str)
Json = typing_extensions.TypeAliasType("Json", Union[str, list["Json"]])


@dataclass
class Leaf:
    size: int


@dataclass
class Pair:
    left: Leaf
    right: Leaf


@dataclass
class Node:
    name: str
    children: list[Node] = field(default_factory=list)


@dataclass
class Branch:
    twigs: list[Twig]


@dataclass
class Twig:
    branch: Optional[Branch] = None  # noqa: UP045


@dataclass
class Keywords:
    default: int
    properties: str
    type: Leaf
    items: list[str]
    required: bool = False
    enum: Literal["a"] = "a"


class Movie(typing_extensions.TypedDict):
    title: Annotated[str, "the original title"]
    year: typing_extensions.NotRequired[int]


class Short(Movie, total=False):
    minutes: int
    maker: typing_extensions.Required[str]


class Point(NamedTuple):
    x: int
    y: float = 0.0


@dataclass
class Box(Generic[T]):
    value: T
    more: list[T]


@dataclass
class Numbers(Box[int]):
    label: str


@dataclass
class Lists(Box[list[T]], Generic[T]):  # the same variable, for another type
    first: T


class Renamed(Numbers):
    pass


@dataclass
class Texts(Numbers):
    more: list[str]


class Record(typing_extensions.TypedDict, Generic[T]):
    value: T


class Named(Record[int]):
    name: str


Several = typing_extensions.TypeAliasType("Several", Union[T, list[T]], type_params=(T,))


@dataclass
class Counted:
    start: int
    count: int = field(init=False, default=0)


def test_a_record_that_is_used_once_stands_in_its_place_and_one_that_is_used_twice_is_a_definition():
    leaf = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
    assert schema_of(list[Leaf], "x") == {"type": "array", "items": leaf}
    reference = {"$ref": "#/$defs/Leaf"}
    assert schema_of(Pair, "x") == {
        "type": "object",
        "properties": {"left": reference, "right": reference},
        "required": ["left", "right"],
        "$defs": {"Leaf": leaf},
    }


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Node, {"name": "a", "children": [{"name": "b", "children": []}]}, {"name": "a", "children": [{"name": 1}]}),
        (Branch, {"twigs": [{"branch": {"twigs": []}}, {"branch": None}]}, {"twigs": [{"branch": {"twigs": 1}}]}),
        (Json, ["a", ["b"]], ["a", [1]]),
    ],
)
def test_a_type_that_contains_itself_has_a_schema_that_refers_to_itself(kind, good, bad):
    schema = schema_of(kind, "x")
    assert is_valid(good, schema)
    assert not is_valid(bad, schema)
    assert "$ref" not in schema  # at the root, where servers want an object


def test_a_class_inside_a_function_may_contain_itself():
    @dataclass
    class Inner:
        next: Inner | None = None

    assert is_valid({"next": {"next": None}}, schema_of(Inner, "x"))


def test_a_class_whose_annotations_cannot_be_read_is_refused_with_its_name():
    @dataclass
    class Odd:
        x: Missing  # noqa: F821

    with pytest.raises(ConfigError, match=r"the annotations of Odd can't be read: name 'Missing' is not defined"):
        schema_of(Odd, "x")


def test_fields_may_have_the_names_of_keywords():
    schema = response_format(Keywords)["json_schema"]["schema"]
    assert list(schema["properties"]) == ["default", "properties", "type", "items", "required", "enum"]
    assert schema["required"] == list(schema["properties"])
    good = {"default": 1, "properties": "p", "type": {"size": 1}, "items": ["i"], "required": True, "enum": "a"}
    assert is_valid(good, schema)
    assert not any(is_valid({**good, key: None}, schema) for key in good)


def test_a_typed_dict_requires_its_keys_but_those_that_may_be_left_out():
    title = {"type": "string", "description": "the original title"}
    assert schema_of(Movie, "x")["properties"] == {"title": title, "year": {"type": "integer"}}
    assert schema_of(Movie, "x")["required"] == ["title"]
    assert schema_of(Short, "x")["required"] == ["title", "maker"]


def test_a_named_tuple_is_an_object_with_its_fields():
    properties = {"x": {"type": "integer"}, "y": {"type": "number"}}
    assert schema_of(Point, "x") == {"type": "object", "properties": properties, "required": ["x"]}


def test_a_generic_dataclass_has_the_schema_of_its_parameters():
    properties = {"value": {"type": "integer"}, "more": {"type": "array", "items": {"type": "integer"}}}
    assert schema_of(Box[int], "x")["properties"] == properties
    assert schema_of(Box[Leaf], "x")["properties"]["value"] == {"$ref": "#/$defs/Leaf"}
    with pytest.raises(ConfigError, match=r"field value of Box has the annotation T, which has no known JSON schema"):
        schema_of(Box, "x")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Numbers, {"value": int, "more": list[int], "label": str}),
        (Lists[int], {"value": list[int], "more": list[list[int]], "first": int}),
        (Renamed, {"value": int, "more": list[int], "label": str}),
        (Texts, {"value": int, "more": list[str], "label": str}),
        (Named, {"value": int, "name": str}),
    ],
)
def test_a_subclass_of_a_generic_record_has_the_types_that_it_gives_its_base(kind, fields):
    assert {each.name: each.hint for each in record_fields(kind)} == fields


def test_a_generic_alias_stands_for_the_type_with_its_parameters():
    assert schema_of(Several[int], "x")["anyOf"] == [
        {"type": "integer"},
        {"type": "array", "items": {"type": "integer"}},
    ]
    assert response_format(list[Several[Leaf]])["json_schema"]["name"] == "list_Several_Leaf"


@dataclass
class Place:
    name: str = None  # type: ignore[assignment]
    size: int | None = None
    leaf: Annotated[Leaf, "a leaf"] = None  # type: ignore[assignment]
    rest: Any = None


class Spot(NamedTuple):
    name: str = None  # type: ignore[assignment]


def test_a_field_whose_default_is_none_takes_none_whatever_its_annotation_says():
    null = {"type": "null"}
    properties = response_format(Place)["json_schema"]["schema"]["properties"]
    assert properties["name"] == {"anyOf": [{"type": "string"}, null]}
    assert properties["size"] == {"anyOf": [{"type": "integer"}, null]}
    assert properties["leaf"]["anyOf"][0]["description"] == "a leaf"
    assert properties["rest"] == {}
    assert schema_of(Spot, "x")["properties"]["name"] == {"anyOf": [{"type": "string"}, null]}
    assert parsed('{"name": null, "leaf": {"size": 1}}', Place) == Place(leaf=Leaf(1))


def test_a_field_that_is_not_given_when_a_dataclass_is_made_is_not_in_its_schema():
    assert list(schema_of(Counted, "x")["properties"]) == ["start"]


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (datetime.time, {"type": "string", "format": "time"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (decimal.Decimal, {"type": "number"}),
        (pathlib.Path, {"type": "string"}),
        (pathlib.PurePosixPath, {"type": "string"}),
        (object, {}),
        (CityName, {"type": "string"}),
        (Annotated[CityName, "its name"], {"type": "string", "description": "its name"}),
        (Annotated[int, 3, "how many", "and why"], {"type": "integer", "description": "how many"}),
        (Annotated[int, 3], {"type": "integer"}),
        (Annotated[int, typing_extensions.Doc("how many")], {"type": "integer", "description": "how many"}),
        (list[Annotated[str, "a name"]], {"type": "array", "items": {"type": "string", "description": "a name"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (Iterable[int], {"type": "array", "items": {"type": "integer"}}),
        (List, {"type": "array"}),  # noqa: UP006
        (tuple, {"type": "array"}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    ],
    ids=repr,
)
def test_other_types_have_their_schema(hint, schema):
    assert schema_of(hint, "x") == schema


@pytest.mark.parametrize("hint", [[int], complex, "Node", int.__call__, frozenset[int], typing.Callable, None, T])
def test_what_has_no_schema_is_refused_with_its_place(hint):
    with pytest.raises(ConfigError, match=r"^here has the annotation .*, which has no known JSON schema: write the"):
        schema_of(hint, "here")


@pytest.mark.parametrize(
    ("text", "name"),
    [("Foo[Bar]", "Foo_Bar"), ("list[Foo | None]", "list_Foo_None"), ("日本", "value"), ("x" * 99, "x" * 64)],
)
def test_a_name_has_the_characters_that_servers_take(text, name):
    assert schema_name(text) == name


def test_records_with_the_same_name_have_definitions_of_their_own():
    other = dataclasses.make_dataclass("Leaf", [("colour", str)])
    schema = schema_of(tuple[Leaf, Leaf, other, other], "x")
    assert list(schema["$defs"]) == ["Leaf", "Leaf_2"]
    assert schema["prefixItems"][3] == {"$ref": "#/$defs/Leaf_2"}
    assert list(schema["$defs"]["Leaf_2"]["properties"]) == ["colour"]


@pytest.mark.parametrize(
    ("hint", "whole"),
    [
        ("Node", Node),
        (List["Node"], list[Node]),  # noqa: UP006
        (Optional["Node"], Union[Node, None]),
        (dict[str, list["Node"]], dict[str, list[Node]]),
        (Annotated[list["Node"], "Node"], Annotated[list[Node], "Node"]),
        (Literal["Node"], Literal["Node"]),
        (int, int),
    ],
    ids=repr,
)
def test_the_quoted_name_of_a_class_is_replaced_wherever_it_stands(hint, whole):
    assert substitute(hint, {"Node": Node}) == whole


@pytest.mark.parametrize(
    ("hint", "label"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (Annotated[int, "x"], "int"),
        (Union[Leaf, list[Leaf], None], "Leaf | list[Leaf] | None"),
        (Literal["a", 1], "Literal['a', 1]"),
        (tuple[int, ...], "tuple[int, Ellipsis]"),
        ("Node", "Node"),
    ],
    ids=repr,
)
def test_a_type_is_named_in_messages_without_its_module(hint, label):
    assert type_label(hint) == label


def test_the_fields_of_a_record_say_which_are_required():
    assert [(each.name, each.required) for each in record_fields(Point)] == [("x", True), ("y", False)]


# ── pydantic ────────────────────────────────────────────────────────────────────────────────────────────────────


class Engine(pydantic.BaseModel):
    power: int = pydantic.Field(description="in watts", ge=0)


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    friend: Optional[Dog] = None  # noqa: UP045


class Car(pydantic.BaseModel):
    reference: str = pydantic.Field("r", alias="$ref")
    default: int = 3
    engine: Engine = pydantic.Field(description="the main one")
    spare: Engine | None = None
    properties: list[Engine] = []
    pet: Union[Cat, Dog] = pydantic.Field(discriminator="kind")


class Tree(pydantic.BaseModel):
    left: Optional[Tree] = pydantic.Field(None, description="smaller")  # noqa: UP045


class Wrapped(pydantic.BaseModel, Generic[T]):
    value: T


CAR = {
    "$ref": "x",
    "default": 1,
    "engine": {"power": 1},
    "spare": None,
    "properties": [{"power": 2}],
    "pet": {"kind": "dog", "friend": {"kind": "dog", "friend": None}},
}


def places(schema: Any) -> list[dict[str, Any]]:
    """All dicts in a schema but those that hold properties or definitions by name."""
    if isinstance(schema, list):
        return [each for item in schema for each in places(item)]
    if not isinstance(schema, dict):
        return []
    inner = [
        list(value.values()) if key in ("properties", "$defs") else value
        for key, value in schema.items()
        if key not in ("enum", "required", "default")
    ]
    return [schema, *(each for value in inner for each in places(value))]


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"spare": {"power": 5}, "pet": {"kind": "cat"}, "properties": []}, True),
        ({"engine": {"power": "x"}}, False),
        ({"engine": None}, False),
        ({"properties": [{}]}, False),
        ({"pet": {"kind": "cow"}}, False),
        ({"pet": {"kind": "dog", "friend": {"kind": "cat", "friend": None}}}, False),
        ({"default": "x"}, False),
        ({"$ref": 1}, False),
    ],
)
def test_the_strict_schema_of_a_pydantic_model_accepts_the_values_that_its_own_schema_accepts(changes, good):
    format = response_format(Car)["json_schema"]
    assert format["strict"] is True
    assert is_valid({**CAR, **changes}, Car.model_json_schema()) is good
    assert is_valid({**CAR, **changes}, format["schema"]) is good


@pytest.mark.parametrize("model", [Car, Tree, Wrapped[Car], list[Car], Tree | Car])
def test_a_strict_schema_has_no_defaults_and_no_reference_with_siblings_and_requires_all(model):
    schema = response_format(model)["json_schema"]["schema"]
    assert schema["type"] == "object"
    for place in places(schema):
        assert "$ref" not in place or len(place) == 1
        assert not {"default", "oneOf", "allOf", "discriminator"} & place.keys()
        assert "properties" not in place or place["required"] == list(place["properties"])
        assert "$defs" not in place or place is schema


def test_a_reference_with_a_description_keeps_the_description_under_strict():
    left = response_format(Tree)["json_schema"]["schema"]["properties"]["left"]
    assert left == {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}], "description": "smaller"}
    engine = response_format(Car)["json_schema"]["schema"]["properties"]["engine"]
    assert engine == {"anyOf": [{"$ref": "#/$defs/Engine"}], "description": "the main one"}


def test_the_single_all_of_of_older_versions_of_pydantic_is_a_reference(monkeypatch):
    schema = {
        "type": "object",
        "properties": {"a": {"allOf": [{"$ref": "#/$defs/E"}], "default": 1}, "b": {"$ref": "#/$defs/E"}},
        "$defs": {"E": {"enum": ["x", 1]}},
    }
    monkeypatch.setattr(Tree, "model_json_schema", lambda: schema)
    made = response_format(Tree)["json_schema"]["schema"]
    assert made["properties"] == {"a": {"$ref": "#/$defs/E"}, "b": {"$ref": "#/$defs/E"}}
    assert made["$defs"] == {"E": {"enum": ["x", 1], "type": ["string", "integer"]}}


def test_definitions_of_nested_models_are_hoisted_to_the_root():
    def drive(car: Car, spare: Car, dog: Dog, tree: Tree) -> None: ...

    drive.__annotations__ |= {"car": Car, "spare": Car, "dog": Dog, "tree": Tree}
    schema = Tool.from_function(drive).parameters
    assert [place for place in places(schema) if "$defs" in place] == [schema]
    assert set(schema["$defs"]) == {"Dog", "Engine", "Cat", "Tree"}
    assert is_valid({"car": CAR, "spare": CAR, "dog": CAR["pet"], "tree": {"left": None}}, schema)
    assert not is_valid({"car": CAR, "spare": CAR, "dog": CAR["pet"], "tree": {"left": 1}}, schema)


def test_models_with_the_same_name_have_definitions_of_their_own():
    def inner(field_type: Any) -> Any:
        part = pydantic.create_model("Part", x=(field_type, ...))
        return pydantic.create_model("Whole", a=(part, ...), b=(part, ...))

    first, second = inner(int), inner(str)
    schema = schema_of(tuple[first, second, first], "x")
    one, two, three = schema["prefixItems"]
    assert is_valid({"a": {"x": 1}, "b": {"x": 1}}, {**one, "$defs": schema["$defs"]})
    assert is_valid({"a": {"x": "1"}, "b": {"x": "1"}}, {**two, "$defs": schema["$defs"]})
    assert one == three
    assert not is_valid({"a": {"x": 1}, "b": {"x": 1}}, {**two, "$defs": schema["$defs"]})


def test_a_reference_to_somewhere_else_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(Tree, "model_json_schema", lambda: {"$ref": "https://e.test/tree.json"})
    assert schema_of(list[Tree], "x")["items"] == {"$ref": "https://e.test/tree.json"}
    assert schema_of(Tree, "x") == {"$ref": "https://e.test/tree.json"}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (
            Annotated[int, pydantic.Field(description="how many", ge=1)],
            {"type": "integer", "description": "how many", "minimum": 1},
        ),
        (pydantic.PositiveInt, {"type": "integer", "exclusiveMinimum": 0}),
        (
            Annotated[Annotated[str, "x"], pydantic.Field(max_length=3)],
            {"type": "string", "maxLength": 3, "description": "x"},
        ),
        (
            Annotated[int, pydantic.Field(ge=1), "how many"],
            {"type": "integer", "minimum": 1, "description": "how many"},
        ),
        (
            list[Annotated[pydantic.PositiveInt, typing_extensions.Doc("how many")]],
            {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0, "description": "how many"}},
        ),
    ],
    ids=repr,
)
def test_metadata_of_pydantic_describes_and_constrains(hint, schema):
    assert schema_of(hint, "x") == schema


def test_a_model_without_a_schema_is_refused_with_its_place():
    class Odd(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        x: Any = None
        y: typing.Callable[[int], int]

    with pytest.raises(ConfigError, match=r"^here has the annotation Odd, which has no schema: Cannot generate"):
        schema_of(Odd, "here")
