"""Conversations in which a 135M model makes real tool calls: a few earlier turns show it how.

Chat Completions message dicts, for a server whose template knows tools (`tools.jinja`). At temperature 0 the answers
are always the same ones.
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
    made = [
        {
            "id": f"call_{number}_{position}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps({"city": city})},
        }
        for position, (name, city) in enumerate(calls)
    ]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "18" if name == "get_weather" else "12:00"}
        for call, (name, _) in zip(made, calls, strict=True)
    ]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": None, "tool_calls": made}, *results]


def one_call(city: str = "Paris") -> list[Message]:
    """Ends in a question that is answered with ``get_weather(city)``."""
    shown = ["Rome", "Lima", "Berlin"]
    turns = [_turn(number, f"weather in {each}", ("get_weather", each)) for number, each in enumerate(shown)]
    return [*chain.from_iterable(turns), {"role": "user", "content": f"weather in {city}"}]


def two_calls(city: str = "Paris", other: str = "Tokyo") -> list[Message]:
    """Ends in a question that is answered with ``get_weather(city)`` and ``get_time(other)`` in one turn."""
    shown = [("Rome", "Oslo"), ("Lima", "Cairo"), ("Berlin", "Madrid")]
    turns = [
        _turn(number, f"weather in {here} and time in {there}", ("get_weather", here), ("get_time", there))
        for number, (here, there) in enumerate(shown)
    ]
    return [*chain.from_iterable(turns), {"role": "user", "content": f"weather in {city} and time in {other}"}]
