"""Tools, as functions, `Tool` or dicts in the flat (Responses) or the nested (Chat) shape → tools in the Chat shape.

Rules:
- No tool is dropped: a tool that can't be sent, or has the name of another, raises `ConfigError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError
from ..types.tools import AnyTool, Tool


def encode_tools(tools: Iterable[AnyTool], other_tools: bool) -> list[dict[str, Any]]:
    """``tools`` in the Chat shape and the same order; ``other_tools`` allows tools that are not functions.

    Raises `ConfigError` for a tool that is not allowed, has no name, or has the name of another.
    """
    encoded = [_encode_tool(tool, other_tools) for tool in tools]
    names = Counter(tool["function"]["name"] for tool in encoded if tool["type"] == "function")
    if repeated := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"more than one tool is named {repeated[0]}: use a different name for each")
    return encoded


def _encode_tool(tool: AnyTool, other_tools: bool) -> dict[str, Any]:
    if callable(tool):
        tool = Tool.from_function(tool)
    if isinstance(tool, Tool):
        flat = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        return _function_tool({**flat, "strict": tool.strict})
    if not isinstance(tool, Mapping):
        raise ConfigError(f"a tool must be a function, a Tool or a dict, not {tool!r:.80}")
    kind = tool.get("type", "function")
    if kind == "function":
        return _function_tool(tool)
    if not other_tools:
        raise ConfigError(
            f"this provider takes function tools only: leave {kind} out, or set other_tools=True on the provider"
        )
    return dict(tool)


def _function_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function tool in the Chat shape: a nested dict is kept as it is, a flat one becomes its ``function``."""
    if "function" not in tool:
        tool = {"function": {key: value for key, value in tool.items() if key != "type" and value is not None}}
    function = tool["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise ConfigError(f'a function tool needs a "name" that is not blank, not {function!r:.80}')
    return {"type": "function", **tool}
