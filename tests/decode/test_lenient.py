"""Loading JSON with and without orjson, and converting values of an unexpected type."""

from __future__ import annotations

import importlib.util
import json
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
def load_without_orjson():
    """`load` as it is if the extra ``speed`` is not installed."""
    orjson = sys.modules.get("orjson")
    sys.modules["orjson"] = None  # type: ignore[assignment]
    try:
        spec = importlib.util.spec_from_file_location("chatstream._decode.without_orjson", lenient.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load
    finally:
        sys.modules.pop("orjson")
        if orjson is not None:
            sys.modules["orjson"] = orjson


@pytest.mark.thorough
@given(VALUES, st.booleans())
def test_json_is_loaded_to_the_same_value_with_and_without_orjson(load_without_orjson, value, ascii):
    text = json.dumps({"value": value}, ensure_ascii=ascii)
    assert repr(lenient.load(text)) == repr(load_without_orjson(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": "\\ud800"}', "{} ", "{}\n"])
def test_nan_lone_surrogates_and_trailing_whitespace_are_loaded_with_and_without_orjson(load_without_orjson, text):
    assert repr(lenient.load(text)) == repr(load_without_orjson(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["{", '{"a": 1} {}', '{"a"}', "{'a': 1}", '{"a": "b'])
def test_invalid_json_raises_value_error_with_and_without_orjson(load_without_orjson, text):
    for load in (lenient.load, load_without_orjson):
        with pytest.raises(ValueError, match=r"."):
            load(text)


def test_values_of_an_unexpected_type_become_none_or_empty():
    values = [None, 0, 5, 1.5, True, [], ["a"]]
    assert [lenient.str_or_empty(value) for value in values] == [""] * 7
    assert [lenient.str_or_none(value) for value in [*values, "", "a"]] == [None] * 8 + ["a"]
    assert [lenient.dict_or_empty(value) for value in [*values, "a"]] == [{}] * 8
    assert (lenient.str_or_empty("a"), lenient.dict_or_empty({"a": 1})) == ("a", {"a": 1})
