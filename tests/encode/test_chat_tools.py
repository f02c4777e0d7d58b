"""Tools in every accepted shape → tools in the Chat shape."""

from __future__ import annotations

import pytest

from chatstream import Tool
from chatstream._encode.tools import encode_tools
from chatstream.errors import ConfigError


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


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
NESTED = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}


@pytest.mark.parametrize(
    "tool",
    [
        Tool("f", "d", SCHEMA, True),
        {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
        {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
        NESTED,
        {"function": NESTED["function"]},
    ],
)
def test_every_shape_of_a_tool_is_sent_in_the_chat_shape(tool):
    assert encode_tools([tool], other_tools=False) == [NESTED]


def test_a_function_is_sent_as_the_tool_made_from_it():
    assert encode_tools([get_weather], other_tools=False) == encode_tools(
        [Tool.from_function(get_weather)], other_tools=False
    )


def test_keys_of_a_tool_that_are_none_are_not_sent():
    bare = [{"type": "function", "function": {"name": "f"}}]
    assert encode_tools([Tool("f")], other_tools=False) == bare
    assert encode_tools([{"type": "function", "name": "f", "strict": None}], other_tools=False) == bare


def test_a_nested_tool_keeps_all_its_keys():
    tool = {**NESTED, "cache_control": {"type": "ephemeral"}}
    assert encode_tools([tool], other_tools=False) == [tool]


def test_tools_keep_their_order():
    tools = encode_tools([Tool("b"), {"name": "a"}, Tool("c")], other_tools=False)
    assert [tool["function"]["name"] for tool in tools] == ["b", "a", "c"]


def test_a_tool_that_is_not_a_function_is_sent_only_if_the_provider_allows_it():
    search = {"type": "web_search", "max_uses": 2}
    assert encode_tools([search, Tool("f")], other_tools=True)[0] == search
    with pytest.raises(
        ConfigError, match="function tools only: leave web_search out, or set other_tools=True on the provider"
    ):
        encode_tools([search], other_tools=False)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([Tool("f"), NESTED], "more than one tool is named f: use a different name for each"),
        (["f"], "a tool must be a function, a Tool or a dict, not 'f'"),
        ([get_weather, get_weather], "more than one tool is named get_weather: use a different name for each"),
        ([get_weather, Tool("get_weather")], "more than one tool is named get_weather"),
        ([{"type": "function"}], 'a function tool needs a "name" that is not blank'),
        ([{"type": "function", "function": None}], 'a function tool needs a "name" that is not blank, not None'),
        ([{"type": "function", "function": {"name": " "}}], 'a function tool needs a "name" that is not blank'),
    ],
)
def test_a_tool_without_a_unique_name_is_refused(tools, message):
    with pytest.raises(ConfigError, match=message):
        encode_tools(tools, other_tools=False)
