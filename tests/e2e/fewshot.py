"""Conversations in which a model of 135 million parameters calls tools, because earlier turns show examples.

They are Chat Completions message dicts for a server whose chat template supports tools (`tools.jinja`). At temperature
0 the answers are always the same.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

TEMPLATE = (Path(__file__).parent / "tools.jinja").read_text(encoding="utf-8")

Message = dict[str, Any]


def _tool(name: str, description: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [_tool("get_weather", "Weather of a city"), _tool("get_time", "Local time of a city")]


def _turn(number: int, question: str, *calls: tuple[str, str]) -> list[Message]:
    tool_calls = [
        {
            "id": f"call_{number}_{position}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps({"city": city})},
        }
        for position, (name, city) in enumerate(calls)
    ]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "18" if name == "get_weather" else "12:00"}
        for call, (name, _) in zip(tool_calls, calls, strict=True)
    ]
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": None, "tool_calls": tool_calls},
        *results,
    ]


def one_call(city: str = "Paris") -> list[Message]:
    """A conversation whose last question the model answers with ``get_weather(city)``."""
    examples = ["Rome", "Lima", "Berlin"]
    turns = [_turn(number, f"weather in {each}", ("get_weather", each)) for number, each in enumerate(examples)]
    return [*chain.from_iterable(turns), {"role": "user", "content": f"weather in {city}"}]


def two_calls(city: str = "Paris", other: str = "Tokyo") -> list[Message]:
    """A conversation whose last question the model answers with ``get_weather(city)`` and ``get_time(other)``."""
    examples = [("Rome", "Oslo"), ("Lima", "Cairo"), ("Berlin", "Madrid")]
    turns = [
        _turn(number, f"weather in {first} and time in {second}", ("get_weather", first), ("get_time", second))
        for number, (first, second) in enumerate(examples)
    ]
    return [*chain.from_iterable(turns), {"role": "user", "content": f"weather in {city} and time in {other}"}]
