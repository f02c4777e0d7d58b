"""Tools of any shape → the Chat shape: `Tool`, or a dict in the flat (Responses) or the nested (Chat) shape.

Rules:
- No tool vanishes silently: one that can't be sent, or can't be told apart from another, is a `ConfigError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError
from ..types.tools import AnyTool, Tool


def chat_tools(tools: Iterable[AnyTool], other_tools: bool) -> list[dict[str, Any]]:
    """``tools``, of any shape, in the Chat shape and the same order; ``other_tools`` lets pass what is no function."""
    chat = [_chat_tool(tool, other_tools) for tool in tools]
    names = Counter(tool["function"]["name"] for tool in chat if tool["type"] == "function")
    if twice := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"more than one tool is named {twice[0]}: give each a name of its own")
    return chat


def _chat_tool(tool: AnyTool, other_tools: bool) -> dict[str, Any]:
    if isinstance(tool, Tool):
        flat = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        return _function_tool({**flat, "strict": tool.strict})
    if not isinstance(tool, Mapping):
        raise ConfigError(f"give tools as Tool, Tool.from_function(f) or dicts, not {tool!r:.80}")
    kind = tool.get("type", "function")
    if kind == "function":
        return _function_tool(tool)
    if not other_tools:
        raise ConfigError(f"this provider takes only function tools: leave {kind} out, or set other_tools=True on it")
    return dict(tool)


def _function_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool dict in the Chat shape: the nested one as written, the flat one wrapped."""
    if "function" not in tool:
        tool = {"function": {key: value for key, value in tool.items() if key != "type" and value is not None}}
    function = tool["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise ConfigError(f'give each function tool a "name", not {function!r:.80}')
    return {"type": "function", **tool}
