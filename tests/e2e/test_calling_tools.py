"""`run_tools` with the real model, and `fallback` to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fewshot import TOOLS, one_call, two_calls

from chatstream import (
    Client,
    FunctionCall,
    FunctionCallOutput,
    MaxTurnsExceeded,
    OutputItemDone,
    Provider,
    Tool,
    fallback,
    run_tools,
)
from chatstream.providers.local import LocalServer

DETERMINISTIC: dict[str, Any] = {"temperature": 0, "seed": 1}  # the same answer every time


@pytest.fixture
def tool_client(connect: Callable[..., Client], tool_llama: LocalServer) -> Client:
    return connect(tool_llama, model=tool_llama.model)


def tools(**functions: Callable[..., Any]) -> list[Tool]:
    """The tools of the examples, with these functions."""
    return [Tool(**tool["function"], function=functions[tool["function"]["name"]]) for tool in TOOLS]


def get_weather(city: str) -> str:
    return f"21 degrees and sunny in {city}"


def get_time(city: str) -> str:
    raise ConnectionError(f"the clock of {city} does not answer")


def outputs_of(loop: Any) -> list[str]:
    """The outputs that the loop has added to the examples."""
    return [item.output for item in loop.prompt.input if isinstance(item, FunctionCallOutput)]


def test_a_function_that_raises_and_one_that_does_not_lead_to_another_turn_of_the_model(tool_client: Client) -> None:
    loop = run_tools(
        tool_client, two_calls(), tools(get_weather=get_weather, get_time=get_time), max_turns=2, **DETERMINISTIC
    )
    events = []
    try:
        for event in loop:
            events.append(event)
    except MaxTurnsExceeded:
        pass  # a small model may call again
    assert outputs_of(loop)[:2] == [
        "21 degrees and sunny in Paris",
        "get_time failed: ConnectionError: the clock of Tokyo does not answer",
    ]
    made = [each.item for each in events if isinstance(each, OutputItemDone) and isinstance(each.item, FunctionCall)]
    assert [call.name for call in made[:2]] == ["get_weather", "get_time"]
    assert len(loop.turns) == 2
    assert loop.turns[1].token_usage.input_tokens > loop.turns[0].token_usage.total_tokens
    assert loop.turns[1].items


def test_a_call_that_the_token_limit_cuts_is_not_made_and_the_server_takes_the_conversation_back(
    tool_client: Client,
) -> None:
    ran: list[str] = []
    loop = run_tools(
        tool_client,
        two_calls(),
        tools(get_weather=ran.append, get_time=ran.append),
        max_turns=1,
        max_tokens=21,
        **DETERMINISTIC,
    )
    with pytest.raises(MaxTurnsExceeded):
        loop.collect()
    (call,) = loop.turn.function_calls
    (output,) = outputs_of(loop)
    assert (call.status, ran) == ("incomplete", [])
    assert output.startswith(f"{call.name} was not called: its arguments are not complete JSON")
    answer = tool_client.stream(loop.prompt, **DETERMINISTIC, max_tokens=8, tool_choice="none").collect()
    assert answer.token_usage.input_tokens > loop.turn.token_usage.total_tokens


def test_a_loop_goes_on_with_the_local_model_where_the_first_provider_is_down(tool_client: Client) -> None:
    down = Client(Provider("down", "http://127.0.0.1:9/v1", request_max_retries=0), model="any")
    functions = tools(get_weather=get_weather, get_time=get_time)
    loop = run_tools(fallback([down, tool_client]), one_call(), functions, max_turns=1, **DETERMINISTIC)
    with pytest.raises(MaxTurnsExceeded):
        loop.collect()
    assert outputs_of(loop) == ["21 degrees and sunny in Paris"]
    assert loop.turn.provider == "test"
