"""A prompt and the options → the answer: a stream, or a loop of streams if the model may call functions.

Both are iterators of events, context managers, and have ``turn`` and ``aggregate``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .._runtime.imports import imports
from ..client import Client
from ..errors import ConfigError
from ..types.events import OutputItemDone, ResponseEvent
from ..types.items import FunctionCall, FunctionCallOutput, ResponseItem
from ..types.prompt import Prompt
from .files import imported
from .question import request_fields
from .spinner import Spinner
from .terminal import print_to_stderr

if TYPE_CHECKING:
    from .._stream import ResponseStream
    from .._tool_loop.loop import ToolLoop

LONGEST_OUTPUT = 200  # characters of the output of a function that stderr shows


class Answers:
    """Opens the answers of one command, which share their fields, tools and recording. Raises `ConfigError`."""

    def __init__(self, options: argparse.Namespace, spinner: Spinner) -> None:
        self._fields = request_fields(options)
        self._tools = [_function(each) for each in options.tool]
        self._spinner = spinner
        if options.record is not None:
            with imports():
                from .._recording.recorder import Recorder
            self._fields["record"] = Recorder(options.record)

    def open(self, client: Client, prompt: Prompt) -> ResponseStream | ToolLoop:
        """The answer to ``prompt``. Raises the errors of `Client.stream`."""
        fields = {**self._fields, "heartbeat": self._spinner.heartbeat}
        if not self._tools:
            return client.stream(prompt, **fields)
        with imports():
            from .._tool_loop.loop import run_tools
        return run_tools(client, prompt, self._tools, **fields)

    def shown(self, events: Iterable[ResponseEvent]) -> Iterator[ResponseEvent]:
        """The events; stderr gets a line for each function that was called."""
        calls: dict[str, FunctionCall] = {}
        for event in events:
            item = event.item if isinstance(event, OutputItemDone) else None
            if isinstance(item, FunctionCall):
                calls[item.call_id] = item
            elif isinstance(item, FunctionCallOutput):
                self._spinner.stop()
                called = calls[item.call_id]
                print_to_stderr(f"[{called.name}({called.arguments}) → {_text_of(item)[:LONGEST_OUTPUT]}]")
            yield event


def new_items(answer: ResponseStream | ToolLoop, prompt: Prompt, length: int) -> list[ResponseItem]:
    """What a conversation gains: the items of ``prompt`` after the first ``length``, and those of the last turn if that
    broke off; empty if there is no answer."""
    added: list[Any] = prompt.input[length:]
    turn = answer.turn
    if (turn.text or turn.refusal) and not any(each in added for each in turn.items):
        added += turn.complete_items
    return added if len(added) > 1 else []


def _function(reference: str) -> Any:
    function = imported(reference)
    if not callable(function):
        raise ConfigError(f"{reference} is not a function, but of the type {type(function).__name__}")
    return function


def _text_of(output: FunctionCallOutput) -> str:
    return output.output if isinstance(output.output, str) else f"{len(output.output)} parts"
