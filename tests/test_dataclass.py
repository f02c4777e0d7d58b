"""`frozen` gives a class the behaviour of a standard frozen, slotted dataclass, with which it is compared here."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

import chatstream
from chatstream._dataclass import frozen


def point(decorator: Any) -> Any:
    @decorator
    class Point:
        """A place."""

        x: float
        y: float = 0.0
        tags: dict[str, str] = field(default_factory=dict, hash=False)
        note: str = field(default="", repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "x", float(self.x))

        @property
        def flat(self) -> bool:
            return not self.y

    return Point


def named(decorator: Any) -> Any:
    @decorator
    class Named:
        """A name with its own repr, equality and hash."""

        name: str

        def __init__(self, *parts: str) -> None:
            object.__setattr__(self, "name", " ".join(parts))

        def __repr__(self) -> str:
            return f"<{self.name}>"

        def __eq__(self, other: object) -> bool:
            return str(self) == str(other)

        def __hash__(self) -> int:
            return 7

    return Named


def empty(decorator: Any) -> Any:
    @decorator
    class Empty:
        """A class without fields."""

    return Empty


Value, Standard = point(frozen), point(dataclass(frozen=True, slots=True))
ARGUMENTS = [(1,), (1, 2), (1, 2.0, {"a": "b"}), (1, 2, {}, "n"), (float("inf"),)]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=repr)
def test_the_repr_of_a_frozen_value_is_that_of_a_dataclass(arguments):
    assert repr(Value(*arguments)) == repr(Standard(*arguments))


@pytest.mark.parametrize("one", ARGUMENTS, ids=repr)
@pytest.mark.parametrize("other", ARGUMENTS, ids=repr)
def test_a_frozen_value_is_equal_to_the_same_values_as_a_dataclass(one, other):
    assert (Value(*one) == Value(*other)) is (Standard(*one) == Standard(*other))
    assert (Value(*one) == 1) is (Standard(*one) == 1)


def test_frozen_values_of_different_classes_are_unequal_even_with_the_same_fields():
    assert Value(1) != point(frozen)(1)


@pytest.mark.parametrize("arguments", ARGUMENTS[:-1], ids=repr)
def test_the_hash_of_a_frozen_value_is_that_of_a_dataclass(arguments):
    assert hash(Value(*arguments)) == hash(Standard(*arguments))


@pytest.mark.parametrize(
    "change", [lambda value: setattr(value, "x", 1), lambda value: delattr(value, "x")], ids=["set", "delete"]
)
def test_the_fields_of_a_frozen_value_can_be_neither_set_nor_deleted(change):
    messages = []
    for instance in (Value(1), Standard(1)):
        with pytest.raises(FrozenInstanceError) as caught:
            change(instance)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not hasattr(Value(1), "__dict__")


@pytest.mark.parametrize("arguments", [(), (1, 2, {}, "n", 5)], ids=repr)
def test_a_frozen_value_requires_the_same_arguments_as_a_dataclass(arguments):
    for instance in (Value, Standard):
        with pytest.raises(TypeError, match="argument"):
            instance(*arguments)
    assert list(inspect.signature(Value).parameters) == list(inspect.signature(Standard).parameters)
    assert Value.__init__.__annotations__ == Standard.__init__.__annotations__


def test_the_functions_of_the_dataclasses_module_accept_a_frozen_value():
    assert is_dataclass(Value)
    assert [each.name for each in fields(Value)] == [each.name for each in fields(Standard)]
    assert asdict(Value(1, 2, {"a": "b"})) == asdict(Standard(1, 2, {"a": "b"}))
    assert replace(Value(1, 2), y=3) == Value(1, 3)
    assert Value.__match_args__ == Standard.__match_args__
    assert Value(1).flat is True


def test_each_frozen_value_gets_its_own_object_from_a_default_factory():
    assert Value(1).tags is not Value(1).tags


def test_a_frozen_dataclass_may_inherit_from_a_frozen_class():
    @dataclass(frozen=True, slots=True)
    class Place(Value):
        name: str = "here"

    assert Place(1, 2, name="there").name == "there"


def test_a_subclass_without_the_decorator_is_frozen_too():
    class Place(Value):
        pass

    with pytest.raises(FrozenInstanceError):
        Place(1).name = "here"


def test_methods_that_a_frozen_class_defines_itself_are_kept():
    value, standard = (
        named(frozen)("a", "b"),
        named(dataclass(frozen=True, slots=True, init=False, repr=False))("a", "b"),
    )
    assert repr(value) == repr(standard) == "<a b>"
    assert value == standard
    assert hash(value) == 7


def test_a_frozen_class_may_have_no_fields():
    Empty = empty(frozen)
    assert Empty() == Empty()
    assert repr(Empty()) == repr(empty(dataclass(frozen=True, slots=True))())


def test_the_repr_of_a_frozen_value_that_contains_itself_marks_the_recursion():
    value = Value(1)
    value.tags["itself"] = value
    assert repr(value).endswith("tags={'itself': ...})")


PUBLIC = [getattr(chatstream, name) for name in chatstream.__all__]
VALUES = [each for each in PUBLIC if isinstance(each, type) and is_dataclass(each) and each.__dataclass_params__.frozen]


@pytest.mark.parametrize(
    "value",
    [
        chatstream.OutputTextDelta("a", 1),
        chatstream.Message("user", "a"),
        chatstream.Completed(choices=(chatstream.ChoiceEnd(extra={"a": [1]}),)),
        chatstream.Heartbeat(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_copies_and_pickles_of_public_values_are_equal_to_the_original(value):
    for instance in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert instance == value
        assert type(instance) is type(value)


def test_all_public_frozen_dataclasses_are_made_by_the_decorator_frozen():
    assert len(VALUES) > 20
    assert all(each.__setattr__ is Value.__setattr__ and each.__dictoffset__ == 0 for each in VALUES)
