"""The values of JSON text that grows, and the elements of an array one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import ConfigError, Created, OutputTextDelta, array_items, partial_json, response_format

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def cut(text: str, places: list[int]) -> list[str]:
    """``text`` in pieces, cut at these places."""
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def assert_linear(make: Callable[[int], Iterator[str]], use: Callable[[Iterator[str]], object], size: int) -> None:
    """Four times the pieces take about four times as long, in the best of three measurements."""
    ratios = []
    for _ in range(3):
        small = cpu_seconds(lambda: use(make(size)))
        ratios.append((cpu_seconds(lambda: use(make(4 * size))) - 0.03) / max(small, 0.001))
        if ratios[-1] < 7:
            return
    raise AssertionError(ratios)


def test_partial_json_yields_the_value_each_time_it_changes():
    assert list(partial_json(['{"name": "Bo', 'b", "age"', ": 4", "2}"])) == [
        {"name": "Bo"},
        {"name": "Bob"},
        {"name": "Bob", "age": 42},
    ]


def test_partial_json_yields_nothing_for_pieces_that_change_nothing():
    assert list(partial_json([" ", "[1", " ", "]", " "])) == [[], [1]]
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


@pytest.mark.parametrize(
    ("start", "value"),
    [
        ('{"n": 1', {}),
        ('{"n": -', {}),
        ('{"n": 1.', {}),
        ('{"n": 1e', {}),
        ('{"n": 1.5E+', {}),
        ('{"n": 1.5E+3', {}),
        ('{"n": t', {}),
        ('{"n": tru', {}),
        ('{"n": fals', {}),
        ('{"n": n', {}),
        ('{"n": nul', {}),
        ('{"n": true', {"n": True}),
        ('{"n": null', {"n": None}),
        ('{"n": 1 ', {"n": 1}),
        ('{"n": 1,', {"n": 1}),
        ('{"n": 1}', {"n": 1}),
        ("[1, 2", [1]),
        ("[1, 2]", [1, 2]),
        ("[[1", [[]]),
        ('["a 12', ["a 12"]),
        ('["a tru', ["a tru"]),
        ('["a\\" 12', ['a" 12']),
        ('["a\\\\", 12', ["a\\"]),
        ('["a 12\\', ["a 12"]),
        ('{"12', {}),
        ('{"a": "x", "n": 3', {"a": "x"}),
    ],
)
def test_partial_json_never_shows_a_number_or_a_literal_that_may_still_grow(start, value):
    assert next(partial_json([start, "\0"])) == value


@pytest.mark.parametrize("text", ["12", "-1.5e3", "true", "false", "null", '"a"', "[]"])
def test_partial_json_shows_a_single_value_when_it_is_whole(text):
    values = list(partial_json([*text]))
    assert values[-1] == json.loads(text)
    assert len(values) == (2 if text == '"a"' else 1)


@pytest.mark.parametrize(
    ("text", "last"),
    [('{"n": 12', {}), ('{"n": 12, "m": 3', {"n": 12}), ("[true, fal", [True]), ('["a', ["a"]), ("[1", [])],
)
def test_partial_json_of_a_text_that_was_cut_ends_without_the_number_that_was_cut(text, last):
    assert list(partial_json([*text]))[-1] == last


@pytest.mark.parametrize("text", ["12", "-", "tr"])
def test_partial_json_yields_nothing_for_a_single_value_that_was_cut(text):
    whole = [json.loads(text)] if text.isdigit() else []  # nobody can know that more was to come
    assert list(partial_json([*text])) == whole


@pytest.mark.parametrize("text", ["[NaN, 1]", "[Infinity]", "[-Infinity, 1]"])
def test_partial_json_refuses_what_is_not_json(text):
    with pytest.raises(ValueError, match=r"expected value|invalid number"):
        list(partial_json([*text]))


@pytest.mark.parametrize(
    ("text", "last", "message"),
    [
        ('{"a": "x" "b": 2}', {"a": "x"}, "expected `,` or `}`"),
        ('{"a": 1; "b": 2}', {"a": 1}, "expected `,` or `}`"),
        ("[1 2, 3]", [1], "expected `,` or `]`"),
        ('["a" "b"', ["a"], "expected `,` or `]`"),
        ('{"a": [1}', {"a": [1]}, "expected `,` or `]`"),
        ('{"a": 1}, {"a": 2}', {"a": 1}, "trailing characters"),
        ('```json\n{"a": 1}\n```\nThat is all.', {"a": 1}, "trailing characters"),
        ("1 2", 1, "trailing characters"),
    ],
)
def test_partial_json_raises_for_text_that_goes_on_after_a_value_as_no_json_does(text, last, message):
    """jiter takes such a text for one that is not complete yet, which would end without what comes after."""
    for pieces in ([text], [*text]):
        found: list[Any] = []
        with pytest.raises(ValueError, match=message):
            found.extend(iter_into(partial_json(pieces), found))
        assert found[-1] == last


@given(JSON, st.lists(st.integers(0, 999), max_size=6))
def test_each_scalar_that_partial_json_shows_is_one_of_the_whole_value(value, places):
    text = json.dumps(value)
    shown = list(partial_json(cut(text, places)))
    assert shown[-1] == value
    whole = list(scalars(value))
    for each in shown:
        assert all(any(same(inner, final) for final in whole) for inner in scalars(each))


def scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from scalars(each)
    else:
        yield value


def same(shown: Any, final: Any) -> bool:
    if isinstance(shown, str):
        return isinstance(final, str) and final.startswith(shown.rstrip("\ufffd"))
    return type(shown) is type(final) and shown == final


def test_partial_json_takes_linear_time_for_one_long_number():
    assert_linear(lambda n: iter(["1"] * n), lambda pieces: suppressed(partial_json, pieces), 10_000)


def suppressed(read: Callable[..., Iterator[Any]], pieces: Iterator[str]) -> list[Any]:
    """What is read before the text is found to be wrong, if it is."""
    values: list[Any] = []
    with contextlib.suppress(ValueError):
        values.extend(read(pieces))
    return values


@pytest.mark.parametrize("read", [partial_json, array_items])
@pytest.mark.parametrize("pieces", [[Created()], ["[", OutputTextDelta("1")], b"[1]", ["[1", None]], ids=repr)
def test_pieces_that_are_no_text_are_refused_with_what_to_pass(read, pieces):
    with pytest.raises(ConfigError, match=r"^the pieces of a text must be str, such as those of stream.text\(\), not "):
        list(read(pieces))


# ── fences ──────────────────────────────────────────────────────────────────────────────────────────────────────

FENCED = [
    '```json\n["`a`", 1]\n```',
    '  \n```\n["`a`", 1]\n```\n',
    '```JSON\r\n["`a`", 1]```',
    '~~~json5\n["`a`", 1]\n~~~ \n',
    '```["`a`", 1]```',
    '```json ["`a`", 1] ```',
    '``` json\n["`a`", 1]\n```',
    '```\t\n["`a`", 1]\n```',
    '````json\n["`a`", 1]\n````',
    ' ["`a`", 1] ',
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 99])
@pytest.mark.parametrize("text", FENCED)
def test_a_single_fenced_block_is_taken_off_while_it_arrives(text, size):
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert list(partial_json(pieces))[-1] == ["`a`", 1]
    assert list(array_items(pieces)) == ["`a`", 1]


@pytest.mark.parametrize("text", ["``", "```", "```js", "~", "", "  "])
def test_a_fence_without_content_has_no_value(text):
    pieces = [*text]
    assert suppressed(partial_json, iter(pieces)) == []
    with pytest.raises(ValueError, match="the text is not an array"):
        list(array_items(pieces))


def test_blanks_and_backticks_without_end_take_linear_time():
    for tail in (" ", "`", "\n"):
        for head in ("```json\n[1", "", "```", "[1"):
            assert_linear(lambda n, h=head, t=tail: iter([h] + [t] * n), lambda p: suppressed(array_items, p), 10_000)


# ── elements of an array ────────────────────────────────────────────────────────────────────────────────────────


class Colour(enum.Enum):
    RED = "r"


@dataclasses.dataclass
class Country:
    name: str
    colours: list[Colour] = dataclasses.field(default_factory=list)


class City(pydantic.BaseModel):
    name: str


def test_each_element_of_an_array_is_yielded_as_soon_as_it_ends():
    read = []

    def pieces() -> Iterator[str]:
        for piece in ["[", '{"name": "a"', "}", ', "x', 'y"', ", 12", "3", ",[1]", " , tru", "e ", "]", " "]:
            read.append(piece)
            yield piece

    found = [(value, len(read)) for value in array_items(pieces())]
    assert found == [({"name": "a"}, 3), ("xy", 5), (123, 8), ([1], 8), (True, 11)]
    assert len(read) == 12


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[%s]", None),
        (' {"value" : [%s]}', None),
        ('{"items": [%s], "more": [9]}', "items"),
        ('{"a": {"items": [7], "b": [{"items": []}]}, "c": "items", "d": [1], "items":\n [%s] }', "items"),
        ('{"a": ",:[]{}\\"", "it\\u0065ms": [%s]}', "items"),
        ('{"": [%s]}', ""),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5, 999])
def test_the_array_is_the_text_or_the_value_of_a_key(text, name, size):
    whole = text % '{"a": "],}"}, [[], {}], "\\"\\\\", -1.5e3, null'
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert list(array_items(pieces, name=name)) == [{"a": "],}"}, [[], {}], '"\\', -1500.0, None]


@given(st.lists(JSON, max_size=5), st.lists(st.integers(0, 999), max_size=8))
def test_the_elements_are_those_of_the_whole_array_wherever_the_text_is_cut(values, places):
    assert list(array_items(cut(json.dumps(values), places))) == values
    text = json.dumps({"a": values[:1], "key": values, "z": 1}, ensure_ascii=False, indent=1)
    assert list(array_items(cut(text, places), name="key")) == values


def test_elements_are_instances_of_the_model():
    text = '[{"name": "Zoë", "colours": ["r"]}, {"name": "b"}]'
    assert list(array_items([text], Country)) == [Country("Zoë", [Colour.RED]), Country("b")]
    assert list(array_items(['[{"name": "a"}]'], City)) == [City(name="a")]
    assert list(array_items(["[1, null]"], int | None)) == [1, None]
    assert list(array_items(["[[1], []]"], list[int])) == [[1], []]


def test_the_answer_to_a_list_as_response_format_needs_no_name():
    (key,) = response_format(list[Country])["json_schema"]["schema"]["properties"]
    assert list(array_items([json.dumps({key: [{"name": "a"}]})], Country)) == [Country("a")]


@pytest.mark.parametrize("text", ["[]", "[ ]", ' {"value": [\n]}', "[ \t] "])
def test_an_empty_array_has_no_elements(text):
    assert list(array_items([*text])) == []


@pytest.mark.parametrize(
    ("text", "name", "before", "message"),
    [
        ('[1, {"a": 2}, "x', None, 2, "the array is cut off"),
        ("[1, 2", None, 1, "the array is cut off"),
        ("[1,", None, 1, "the array is cut off"),
        ("[}", None, 0, "the array is cut off"),
        ("[1, 2,]", None, 2, r"\[2\] is not JSON"),
        ("[,1]", None, 0, r"\[0\] is not JSON"),
        ("[1,,2]", None, 1, r"\[1\] is not JSON"),
        ("[NaN]", None, 0, r"\[0\] is not JSON \(NaN is not JSON\)"),
        ("[1 2]", None, 0, r"\[0\] is not JSON"),
        ("[tru]", None, 0, r"\[0\] is not JSON"),
        ("[\\]", None, 0, r"\[0\] is not JSON"),
        ('["a" "b"]', None, 1, "a comma is missing in the array, before '\"b\"'"),
        ('[{"a": 1} 5, 6]', None, 1, "a comma is missing in the array, before '5'"),
        ('[{"a": 1} {"b": 1}]', None, 1, "a comma is missing in the array, before '{"),
        ('[{"a": 1]', None, 0, "is not JSON"),
        ("[1] [2]", None, 1, r"there is more text after the array: '\[2\]'"),
        ("[1] thanks", None, 1, "there is more text after the array: 'thanks'"),
        ("", None, 0, "the text is not an array: pass name=…, the key of the array"),
        ("3", None, 0, "the text is not an array"),
        ("Sure! [1]", None, 0, "the text is not an array"),
        ('{"items": [1]}', None, 0, "the text is not an array: pass name=…, the key of the array"),
        ('{"value": {"value": [1]}}', None, 0, "the text is not an array"),
        ("[1]", "items", 0, 'the text has no array "items"'),
        ('{"a": {"items": [1]}}', "items", 0, 'the text has no array "items"'),
        ('{"items": 3, "x": [1]}', "items", 0, 'the text has no array "items"'),
        ('{"a": "items", "b": [1]', "items", 0, 'the text has no array "items"'),
    ],
)
def test_what_is_no_array_or_is_cut_raises_after_its_whole_elements(text, name, before, message):
    for pieces in ([text], [*text]):
        found = []
        with pytest.raises(ValueError, match=message):
            found.extend(iter_into(array_items(pieces, name=name), found))
        assert len(found) == before


def iter_into(items: Iterator[Any], found: list[Any]) -> Iterator[Any]:
    for each in items:
        found.append(each)
    return iter(())


def test_an_element_that_does_not_match_the_model_raises_with_its_place():
    items = array_items(['{"all": [{"name": "a"}, {"name": 1}]}'], Country, name="all")
    assert next(items) == Country("a")
    with pytest.raises(ValueError, match=r"^all\[1\]\.name is 1, which is not of type str$"):
        next(items)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: iter(['["', *["a,{} "] * n, '"]']),
        lambda n: iter(["[", *["1,"] * n, "1]"]),
        lambda n: iter(["[", *['{"a": [1, 2]},'] * (n // 4), "1]"]),
        lambda n: iter(['{"a": "', *['x\\"'] * n, '", "value": [1]}']),
        lambda n: iter(["[", *["[" for _ in range(n)]]),
        lambda n: iter(["[", *["1"] * n]),
    ],
    ids=["a long text", "many numbers", "many objects", "a long text before it", "many brackets", "a long number"],
)
def test_array_items_takes_linear_time(make):
    assert_linear(make, lambda pieces: suppressed(array_items, pieces), 10_000)
