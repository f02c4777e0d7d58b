"""Conversations with the real model, through the public names and real HTTP.

What the model says is its own affair: what is asserted is what must hold of any answer.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fewshot import TOOLS, one_call, two_calls
from relay import Relay
from support import cancelled, within

import chatstream
from chatstream import (
    Client,
    Completed,
    ConnectionFailed,
    Created,
    DeadlineExceeded,
    FunctionCallDelta,
    FunctionCallOutput,
    Heartbeat,
    Message,
    OutputItemDone,
    OutputTextDelta,
    Prompt,
    RetryLimit,
    StreamError,
    Tool,
    Turn,
    UnexpectedStatus,
    aggregate,
    collect,
)
from chatstream.providers.local import LocalServer

SEA = "Tell me about the sea."
SURE: dict[str, Any] = {"temperature": 0, "seed": 1}  # the same answer each time
WHOLE_TOOLS = [Tool(**tool["function"]) for tool in TOOLS]


def unheard(words: int) -> str:
    """A prompt that is in no cache, so that the server has to read it."""
    return f"{time.monotonic_ns()} " + "sand and stone " * (words // 3)


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_of_three_turns(client: Client) -> None:
    prompt = Prompt("You answer in one short sentence.", "Name a sea.")
    inputs = []
    for question in ("And another one?", "Which of them is bigger?", ""):
        stream = client.stream(prompt, **SURE, max_tokens=16)
        created, *events, completed = stream
        deltas = [event.delta for event in events if isinstance(event, OutputTextDelta)]
        turn = stream.turn
        assert isinstance(created, Created)
        assert len(deltas) == len(events) > 1
        assert "".join(deltas) == turn.text != ""
        assert isinstance(completed, Completed)
        assert turn.items == (Message("assistant", turn.text),)
        assert turn.finish_reason in ("stop", "length")
        assert (created.response_id, created.model) == (turn.response_id, turn.model)
        usage = turn.token_usage
        assert usage == completed.token_usage
        assert usage is not None
        assert 1 < usage.output_tokens <= 16
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        inputs.append(usage.input_tokens)
        prompt.input += [*turn.items, Message("user", question)]
    assert inputs[0] < inputs[1] < inputs[2]


def test_the_token_limit_leaves_a_turn_incomplete(client: Client) -> None:
    turn = client.stream(SEA, **SURE, max_tokens=5).collect()
    assert (turn.status, turn.finish_reason, turn.token_usage.output_tokens) == ("incomplete", "length", 5)


def test_a_stop_word_leaves_it_complete(client: Client) -> None:
    turn = client.stream(SEA, **SURE, max_tokens=64, stop=[" "]).collect()
    assert (turn.status, turn.finish_reason) == ("completed", "stop")
    assert " " not in turn.text


def test_two_choices(client: Client) -> None:
    one = client.stream(SEA, **SURE, max_tokens=5).collect()
    stream = client.stream(SEA, temperature=1.5, seed=1, max_tokens=5, n=2)
    events = list(stream)
    turn = stream.turn
    assert [choice.finish_reason for choice in turn.choices] == ["length", "length"]
    for index, choice in enumerate(turn.choices):
        said = [event.delta for event in events if isinstance(event, OutputTextDelta) and event.choice == index]
        assert "".join(said) == choice.text != ""
    assert turn.token_usage.output_tokens == 10
    assert turn.token_usage.input_tokens == 2 * one.token_usage.input_tokens


def test_aggregate_is_silent_until_it_has_whole_items(client: Client) -> None:
    stream = client.stream(SEA, **SURE, max_tokens=8)
    message, completed = stream.aggregate()
    assert message == OutputItemDone(Message("assistant", stream.turn.text))
    assert completed.token_usage == stream.turn.token_usage


def test_the_events_of_a_stream_can_be_aggregated_later(client: Client) -> None:
    stream = client.stream(SEA, **SURE, max_tokens=8)
    events = list(stream)
    assert list(aggregate(events)) == [OutputItemDone(Message("assistant", stream.turn.text)), events[-1]]
    assert collect(events).items == stream.turn.items


def test_text_is_the_text(client: Client) -> None:
    stream = client.stream(SEA, **SURE, max_tokens=8)
    pieces = list(stream.text())
    assert len(pieces) > 1
    assert "".join(pieces) == stream.turn.text


def test_message_dicts_and_the_one_liner() -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": SEA}]
    assert chatstream.stream(messages, provider="local", **SURE, max_tokens=5).collect().text


def test_the_local_provider_needs_nothing_but_its_name() -> None:
    with Client("local") as local:
        turn = local.stream(SEA, **SURE, max_tokens=5).collect()
        assert turn.text
        assert local.stream(SEA, **SURE, max_tokens=5).collect().model == turn.model


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tool_client(connect: Callable[..., Client], tool_llama: LocalServer) -> Client:
    return connect(tool_llama, model=tool_llama.model)


def answer_calls(client: Client, prompt: Prompt, turn: Turn) -> None:
    """Send the outputs back, and get an answer that takes them in."""
    outputs = [FunctionCallOutput(call.call_id, "21 degrees and sunny") for call in turn.function_calls]
    prompt.input += [*turn.items, *outputs]
    answer = client.stream(prompt, **SURE, max_tokens=16, tool_choice="none").collect()
    assert answer.text
    assert not answer.function_calls
    assert answer.token_usage.input_tokens > turn.token_usage.total_tokens


def test_a_call_and_the_answer_to_its_output(tool_client: Client) -> None:
    prompt = Prompt(input=one_call(), tools=WHOLE_TOOLS)
    stream = tool_client.stream(prompt, **SURE)
    events = list(stream)
    (call,) = stream.turn.function_calls
    deltas = [event for event in events if isinstance(event, FunctionCallDelta)]
    assert "".join(event.delta for event in deltas) == call.arguments
    assert {(event.call_id, event.name) for event in deltas} == {(call.call_id, call.name)}
    assert [event.item for event in events if isinstance(event, OutputItemDone)] == [call]
    assert (call.name, call.parsed(), call.status) == ("get_weather", {"city": "Paris"}, "completed")
    assert (stream.turn.status, stream.turn.finish_reason) == ("completed", "tool_calls")
    answer_calls(tool_client, prompt, stream.turn)


def test_two_parallel_calls_and_the_answer_to_their_outputs(tool_client: Client) -> None:
    prompt = Prompt(input=two_calls(), tools=WHOLE_TOOLS)
    stream = tool_client.stream(prompt, **SURE, parallel_tool_calls=True)
    weather, clock, completed = stream.aggregate()
    assert (weather.item.name, weather.item.parsed()) == ("get_weather", {"city": "Paris"})
    assert (clock.item.name, clock.item.parsed()) == ("get_time", {"city": "Tokyo"})
    assert weather.item.call_id != clock.item.call_id
    assert (completed.status, completed.finish_reason) == ("completed", "tool_calls")
    answer_calls(tool_client, prompt, stream.turn)


def test_a_call_that_the_token_limit_cuts(tool_client: Client) -> None:
    prompt = Prompt(input=two_calls(), tools=WHOLE_TOOLS)
    stream = tool_client.stream(prompt, **SURE, max_tokens=21, parallel_tool_calls=True)
    turn = stream.collect()
    (call,) = turn.function_calls
    assert (turn.status, turn.finish_reason, call.status) == ("incomplete", "length", "incomplete")
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.arguments)


def test_a_call_in_each_of_two_choices(tool_client: Client) -> None:
    turn = tool_client.stream(Prompt(input=one_call(), tools=WHOLE_TOOLS), **SURE, n=2).collect()
    assert [choice.status for choice in turn.choices] == ["completed", "completed"]
    first, second = (choice.function_calls[0] for choice in turn.choices)
    assert first.parsed() == second.parsed() == {"city": "Paris"}
    assert first.call_id != second.call_id


# ── what is known of a stream ───────────────────────────────────────────────────────────────────────────────────


def test_heartbeats_while_the_server_reads_the_prompt(client: Client) -> None:
    events = list(client.stream(unheard(120), max_tokens=3, heartbeat=0.02))
    first = next(index for index, event in enumerate(events) if isinstance(event, Created))
    assert first > 1
    assert all(isinstance(event, Heartbeat) for event in events[:first])
    assert isinstance(events[-1], Completed)


def test_heartbeats_pass_through_aggregate(client: Client) -> None:
    *beats, message, completed = client.stream(unheard(120), max_tokens=3, heartbeat=0.02).aggregate()
    assert len(beats) > 1
    assert all(isinstance(event, Heartbeat) for event in beats)
    assert (type(message), type(completed)) == (OutputItemDone, Completed)


def test_timing_attempts_and_headers(client: Client) -> None:
    started = time.monotonic()
    stream = client.stream(unheard(60), max_tokens=8)
    assert stream.timing.headers is not None
    assert (stream.timing.first_event, stream.timing.total) == (None, None)
    list(stream)
    timing = stream.timing
    assert 0 < timing.headers <= timing.first_event < timing.total <= time.monotonic() - started
    assert stream.turn.timing == timing
    (attempt,) = stream.attempts
    assert (attempt.number, attempt.status, attempt.error) == (1, 200, None)
    assert 0 < attempt.seconds <= timing.headers
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream"


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_streams_in_a_row_need_one_attempt_each(connect: Callable[..., Client], relay: Relay) -> None:
    client = connect(relay)
    for number in range(10):
        stream = client.stream(SEA, **SURE, max_tokens=2)
        assert stream.collect().text if number % 2 else list(stream)
        assert len(stream.attempts) == 1
    assert relay.connections == 10  # llama.cpp closes behind each stream, whatever its Keep-Alive header promises


def test_breaking_out_closes_the_connection(connect: Callable[..., Client], relay: Relay) -> None:
    client = connect(relay)
    for event in client.stream(SEA, **SURE, max_tokens=500):
        if isinstance(event, OutputTextDelta):
            break
    assert relay.client_closed(1, within=5.0)
    assert client.stream(SEA, **SURE, max_tokens=2).collect().text
    assert relay.connections == 2


def test_leaving_the_block_closes_the_connection(connect: Callable[..., Client], relay: Relay) -> None:
    client = connect(relay)
    with client.stream(SEA, **SURE, max_tokens=500) as stream:
        next(stream)
    assert relay.client_closed(1, within=5.0)
    assert stream.turn.status == "incomplete"
    assert client.stream(SEA, **SURE, max_tokens=2).collect().text


@pytest.mark.parametrize("words", [3, 300], ids=["between two words", "before the first"])
def test_cancel_wakes_a_blocked_reader(client: Client, words: int) -> None:
    stream = client.stream(unheard(words), ignore_eos=True, max_tokens=300)
    assert cancelled(stream, 0.4).partial.status == "incomplete"


def test_threads_share_a_client(client: Client) -> None:
    def ask(number: int) -> None:
        turns[number] = client.stream(SEA, **SURE, max_tokens=2 + number).collect()

    turns: dict[int, Any] = {}
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [turns[number].token_usage.output_tokens for number in range(4)] == [2, 3, 4, 5]
    assert len({turn.response_id for turn in turns.values()}) == 4


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_that_is_too_long(client: Client) -> None:
    with pytest.raises(UnexpectedStatus, match="exceeds the available context size") as raised:
        client.stream("sea " * 5000)
    error = raised.value
    assert (error.status, error.retryable, len(error.attempts)) == (400, False, 1)
    assert error.message == json.loads(error.body)["error"]["message"]
    assert client.stream(SEA, **SURE, max_tokens=2).collect().text


def test_a_field_of_the_wrong_type(client: Client) -> None:
    with pytest.raises(UnexpectedStatus, match="temperature") as raised:
        client.stream(SEA, temperature="warm")
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/v1/wrong/chat/completions", UnexpectedStatus, 404),
        ("/", UnexpectedStatus, 404),
        ("/v1/models", UnexpectedStatus, 404),  # that is for GET
        ("/v1/completions", UnexpectedStatus, 400),  # wants a prompt
        ("/v1/embeddings", RetryLimit, 501),  # the server was not started for them
    ],
)
def test_a_wrong_path(
    connect: Callable[..., Client], llama: LocalServer, path: str, kind: type[UnexpectedStatus], status: int
) -> None:
    client = connect(llama, base_url=llama.base_url.removesuffix("/v1"), path=path, request_max_retries=0)
    with pytest.raises(UnexpectedStatus) as raised:
        client.stream(SEA)
    assert (type(raised.value), raised.value.status) == (kind, status)
    assert raised.value.message


@pytest.mark.parametrize("path", ["/tokenize", "/apply-template"])
def test_json_that_is_no_completion(connect: Callable[..., Client], relay: Relay, path: str) -> None:
    client = connect(relay, base_url=relay.url.removesuffix("/v1"), path=path, stream_max_retries=0)
    for _ in range(10):
        with pytest.raises(StreamError):
            client.stream(SEA, content="sea").collect()
    assert relay.connections == 1  # here the server keeps what it promises


def test_a_port_where_nobody_listens(connect: Callable[..., Client], llama: LocalServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    client = connect(llama, base_url=f"http://{address}/v1", request_max_retries=0)
    with pytest.raises(ConnectionFailed, match=f"no response from {address}: .*refused"):
        client.stream(SEA)


@pytest.mark.parametrize("key", [None, "sk-that-nobody-asked-for"])
def test_a_server_that_wants_no_key_takes_any(connect: Callable[..., Client], llama: LocalServer, key: str) -> None:
    assert connect(llama, api_key=key).stream(SEA, **SURE, max_tokens=2).collect().text


def test_a_deadline_in_the_middle(client: Client) -> None:
    said: list[str] = []
    with within(1.1, least=1.0), pytest.raises(DeadlineExceeded) as raised:
        said.extend(client.stream(SEA, ignore_eos=True, max_tokens=1500, deadline=1.0).text())
    assert raised.value.partial.text == "".join(said)
