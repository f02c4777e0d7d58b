"""Tools of every shape in the Chat shape."""

from __future__ import annotations

import pytest

from chatstream import Tool
from chatstream._encode.tools import chat_tools
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
    assert chat_tools([tool], other_tools=False) == [NESTED]


def test_what_was_not_given_is_not_sent():
    bare = [{"type": "function", "function": {"name": "f"}}]
    assert chat_tools([Tool("f")], other_tools=False) == bare
    assert chat_tools([{"type": "function", "name": "f", "strict": None}], other_tools=False) == bare


def test_a_nested_tool_keeps_every_key_it_has():
    tool = {**NESTED, "cache_control": {"type": "ephemeral"}}
    assert chat_tools([tool], other_tools=False) == [tool]


def test_tools_keep_their_order():
    tools = chat_tools([Tool("b"), {"name": "a"}, Tool("c")], other_tools=False)
    assert [tool["function"]["name"] for tool in tools] == ["b", "a", "c"]


def test_a_tool_that_is_no_function_passes_where_the_provider_allows_it():
    search = {"type": "web_search", "max_uses": 2}
    assert chat_tools([search, Tool("f")], other_tools=True)[0] == search
    with pytest.raises(ConfigError, match="only function tools: leave web_search out, or set other_tools=True"):
        chat_tools([search], other_tools=False)


@pytest.mark.parametrize(
    ("tools", "sentence"),
    [
        ([Tool("f"), NESTED], "more than one tool is named f: give each a name of its own"),
        ([get_weather], r"give tools as Tool, Tool.from_function\(f\) or dicts, not <function get_weather"),
        ([{"type": "function"}], 'give each function tool a "name"'),
        ([{"type": "function", "function": None}], 'give each function tool a "name", not None'),
        ([{"type": "function", "function": {"name": " "}}], 'give each function tool a "name"'),
    ],
)
def test_a_tool_that_can_not_be_called_by_its_name_is_refused(tools, sentence):
    with pytest.raises(ConfigError, match=sentence):
        chat_tools(tools, other_tools=False)
