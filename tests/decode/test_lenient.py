"""JSON is read the fast way and the slow way alike, and odd values become usable ones."""

from __future__ import annotations

import json
import runpy
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream._decode import lenient

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def slow():
    """`load` as it is where the extra ``speed`` is not installed."""
    fast = sys.modules.get("orjson")
    sys.modules["orjson"] = None  # type: ignore[assignment]
    try:
        return runpy.run_path(lenient.__file__)["load"]
    finally:
        sys.modules.pop("orjson")
        if fast is not None:
            sys.modules["orjson"] = fast


@given(VALUES, st.booleans())
def test_both_ways_read_the_same(slow, value, ascii):
    text = json.dumps({"value": value}, ensure_ascii=ascii)
    assert repr(lenient.load(text)) == repr(slow(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": "\\ud800"}', "{} ", "{}\n"])
def test_what_only_json_knows_is_read_by_json(slow, text):
    assert repr(lenient.load(text)) == repr(slow(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["{", '{"a": 1} {}', '{"a"}', "{'a': 1}", '{"a": "b'])
def test_what_is_no_json_is_a_value_error_both_ways(slow, text):
    for load in (lenient.load, slow):
        with pytest.raises(ValueError, match=r"."):
            load(text)


def test_odd_values_become_usable_ones():
    odd = [None, 0, 5, 1.5, True, [], ["a"]]
    assert [lenient.str_or_empty(value) for value in odd] == [""] * 7
    assert [lenient.str_or_none(value) for value in [*odd, "", "a"]] == [None] * 8 + ["a"]
    assert [lenient.dict_or_empty(value) for value in [*odd, "a"]] == [{}] * 8
    assert (lenient.str_or_empty("a"), lenient.dict_or_empty({"a": 1})) == ("a", {"a": 1})
