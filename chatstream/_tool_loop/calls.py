"""One call of a tool → its output, which the model reads, whatever happens.

Rules:
- A function runs only if its tool is known, its arguments are whole and fit, and ``approve`` agrees.
- What goes wrong becomes the output, as one short sentence: no traceback, no key, no password of a URL.
- What is no `Exception` (Ctrl-C, ``sys.exit``) and a cancellation are passed on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union

from .._secrets import masked_text
from ..errors import Cancelled, ConfigError, InvalidArguments
from ..types.items import CustomToolCall, CustomToolCallOutput, FunctionCall, FunctionCallOutput
from ..types.parts import ContentPart, InputText
from ..types.text import without_surrogates
from ..types.tools import AnyTool, Tool

Call = Union[FunctionCall, CustomToolCall]
Output = Union[FunctionCallOutput, CustomToolCallOutput]
Approve = Callable[[FunctionCall], Union[bool, str, None]]

MOST_OF_ERROR = 500  # characters of an exception that the model reads
log = logging.getLogger("chatstream")


def callable_tools(own: Sequence[AnyTool], given: Sequence[AnyTool]) -> list[AnyTool]:
    """The tools of a prompt and those ``given``, which replace others of their name; of each function its `Tool`.

    Raises `ConfigError` for a tool that can't be called here. A dict of another type than ``function`` stays: the
    server itself runs such a tool, or its calls are refused.
    """
    found = [*map(_with_function, given)]
    names = [_name(tool) for tool in found]
    return [*(_with_function(tool) for tool in own if _name(tool) not in names), *found]


def _with_function(tool: AnyTool) -> AnyTool:
    if isinstance(tool, Mapping) and tool.get("type", "function") != "function":
        return tool
    if isinstance(tool, Mapping) or (isinstance(tool, Tool) and tool.function is None):
        raise ConfigError(
            f"the tool {_name(tool)} has no function: pass the function itself, or Tool.from_function(function)"
        )
    return tool if isinstance(tool, Tool) else Tool.from_function(tool)


def _name(tool: AnyTool) -> str:
    if isinstance(tool, Mapping):
        inner = tool.get(tool.get("type", "function"))
        return str((inner if isinstance(inner, Mapping) else tool).get("name") or tool.get("type"))
    return (tool if isinstance(tool, Tool) else Tool.from_function(tool)).name


class ToolCalls:
    """Makes the calls of a conversation. ``begun`` are the ids of those whose function was called."""

    def __init__(self, tools: Iterable[AnyTool], approve: Approve | None) -> None:
        self.begun: set[str] = set()
        self._tools = {tool.name: tool for tool in tools if isinstance(tool, Tool)}
        self._approve = approve

    def prepare(self, call: Call) -> Callable[[], Output]:
        """What makes the output of ``call``; whether it may be called is decided, and ``approve`` asked, before."""
        if refusal := self._refusal(call):
            return lambda: call.output(refusal)
        return lambda: self._make(call)  # type: ignore[arg-type]  # a CustomToolCall is refused

    def _refusal(self, call: Call) -> str | None:
        """Why a call is not made; None if it is."""
        if isinstance(call, CustomToolCall):
            return f"{call.name} was not called: custom tools can't be called here"
        if call.name not in self._tools:
            return f"there is no tool named {call.name:.60}; the tools are {', '.join(self._tools) or 'none'}"
        if call.status != "completed":
            return f"{call.name} was not called: its arguments are not complete JSON; call it again"
        answer = True if self._approve is None else self._approve(call)
        if not (answer is None or isinstance(answer, (bool, str))):  # a coroutine, which would count as true
            raise ConfigError(
                f"approve must return True, False, None or a str (why the call is rejected), not {answer!r:.80}"
            )
        return None if answer is True else f"{call.name} was not called: {answer or 'the user did not allow it'}"

    def _make(self, call: FunctionCall) -> Output:
        self.begun.add(call.call_id)
        try:
            return _sendable(call.output(self._tools[call.name].call(call)))
        except Cancelled:
            raise
        except InvalidArguments as error:
            return call.output(str(error))
        except Exception as error:
            log.warning("the tool %s failed", call.name, exc_info=True)
            return call.output(f"{call.name} failed: {_describe(error)}")


def _describe(error: Exception) -> str:
    """The kind and the beginning of the text of an exception."""
    try:
        text = str(error)
    except Exception:  # of a __str__ that fails
        text = ""
    text = masked_text(without_surrogates(text[: 20 * MOST_OF_ERROR])).strip()
    text = text if len(text) <= MOST_OF_ERROR else f"{text[:MOST_OF_ERROR]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _sendable(output: FunctionCallOutput) -> FunctionCallOutput:
    """The output without lone surrogates, as in names of files: no server can read them, now or in a later request."""
    if isinstance(output.output, str):
        return FunctionCallOutput(output.call_id, without_surrogates(output.output))
    return FunctionCallOutput(output.call_id, [*map(_sendable_part, output.output)])


def _sendable_part(part: ContentPart) -> Any:
    return InputText(without_surrogates(part.text)) if isinstance(part, InputText) else part
