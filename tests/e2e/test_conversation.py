"""Conversations with the real model, through the public API and real HTTP.

The tests assert only what holds of any answer, whatever the model says.
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

QUESTION = "Tell me about the sea."
DETERMINISTIC: dict[str, Any] = {"temperature": 0, "seed": 1}  # the same answer every time
FLAT_TOOLS = [Tool(**tool["function"]) for tool in TOOLS]


def uncached_prompt(words: int) -> str:
    """A prompt that is in no cache, so that the server has to process it."""
    return f"{time.monotonic_ns()} " + "sand and stone " * (words // 3)


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_turns_of_a_conversation_yield_their_messages_and_a_growing_usage(client: Client) -> None:
    prompt = Prompt("You answer in one short sentence.", "Name a sea.")
    inputs = []
    for question in ("And another one?", "Which of them is bigger?", ""):
        stream = client.stream(prompt, **DETERMINISTIC, max_tokens=16)
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
    turn = client.stream(QUESTION, **DETERMINISTIC, max_tokens=5).collect()
    assert (turn.status, turn.finish_reason, turn.token_usage.output_tokens) == ("incomplete", "length", 5)


def test_a_stop_sequence_completes_a_turn(client: Client) -> None:
    turn = client.stream(QUESTION, **DETERMINISTIC, max_tokens=64, stop=[" "]).collect()
    assert (turn.status, turn.finish_reason) == ("completed", "stop")
    assert " " not in turn.text


def test_two_choices_have_their_own_texts_and_share_one_usage(client: Client) -> None:
    one = client.stream(QUESTION, **DETERMINISTIC, max_tokens=5).collect()
    stream = client.stream(QUESTION, temperature=1.5, seed=1, max_tokens=5, n=2)
    events = list(stream)
    turn = stream.turn
    assert [choice.finish_reason for choice in turn.choices] == ["length", "length"]
    for index, choice in enumerate(turn.choices):
        deltas = [event.delta for event in events if isinstance(event, OutputTextDelta) and event.choice == index]
        assert "".join(deltas) == choice.text != ""
    assert turn.token_usage.output_tokens == 10
    assert turn.token_usage.input_tokens == 2 * one.token_usage.input_tokens


def test_aggregate_yields_only_the_whole_message_and_completed(client: Client) -> None:
    stream = client.stream(QUESTION, **DETERMINISTIC, max_tokens=8)
    message, completed = stream.aggregate()
    assert message == OutputItemDone(Message("assistant", stream.turn.text))
    assert completed.token_usage == stream.turn.token_usage


def test_the_events_of_a_stream_can_be_aggregated_later(client: Client) -> None:
    stream = client.stream(QUESTION, **DETERMINISTIC, max_tokens=8)
    events = list(stream)
    assert list(aggregate(events)) == [OutputItemDone(Message("assistant", stream.turn.text)), events[-1]]
    assert collect(events).items == stream.turn.items


def test_text_yields_the_text_of_the_turn_in_pieces(client: Client) -> None:
    stream = client.stream(QUESTION, **DETERMINISTIC, max_tokens=8)
    pieces = list(stream.text())
    assert len(pieces) > 1
    assert "".join(pieces) == stream.turn.text


def test_the_function_stream_accepts_message_dicts() -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": QUESTION}]
    assert chatstream.stream(messages, provider="local", **DETERMINISTIC, max_tokens=5).collect().text


def test_the_local_provider_needs_nothing_but_its_name() -> None:
    with Client("local") as local:
        turn = local.stream(QUESTION, **DETERMINISTIC, max_tokens=5).collect()
        assert turn.text
        assert local.stream(QUESTION, **DETERMINISTIC, max_tokens=5).collect().model == turn.model


# ── function calls ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tool_client(connect: Callable[..., Client], tool_llama: LocalServer) -> Client:
    return connect(tool_llama, model=tool_llama.model)


def answer_calls(client: Client, prompt: Prompt, turn: Turn) -> None:
    """Sends the outputs of all calls, and asserts that an answer in text follows."""
    outputs = [FunctionCallOutput(call.call_id, "21 degrees and sunny") for call in turn.function_calls]
    prompt.input += [*turn.items, *outputs]
    answer = client.stream(prompt, **DETERMINISTIC, max_tokens=16, tool_choice="none").collect()
    assert answer.text
    assert not answer.function_calls
    assert answer.token_usage.input_tokens > turn.token_usage.total_tokens


def test_a_function_call_and_its_output_lead_to_an_answer(tool_client: Client) -> None:
    prompt = Prompt(input=one_call(), tools=FLAT_TOOLS)
    stream = tool_client.stream(prompt, **DETERMINISTIC)
    events = list(stream)
    (call,) = stream.turn.function_calls
    deltas = [event for event in events if isinstance(event, FunctionCallDelta)]
    assert "".join(event.delta for event in deltas) == call.arguments
    assert {(event.call_id, event.name) for event in deltas} == {(call.call_id, call.name)}
    assert [event.item for event in events if isinstance(event, OutputItemDone)] == [call]
    assert (call.name, call.parsed(), call.status) == ("get_weather", {"city": "Paris"}, "completed")
    assert (stream.turn.status, stream.turn.finish_reason) == ("completed", "tool_calls")
    answer_calls(tool_client, prompt, stream.turn)


def test_two_parallel_function_calls_and_their_outputs_lead_to_an_answer(tool_client: Client) -> None:
    prompt = Prompt(input=two_calls(), tools=FLAT_TOOLS)
    stream = tool_client.stream(prompt, **DETERMINISTIC, parallel_tool_calls=True)
    weather, clock, completed = stream.aggregate()
    assert (weather.item.name, weather.item.parsed()) == ("get_weather", {"city": "Paris"})
    assert (clock.item.name, clock.item.parsed()) == ("get_time", {"city": "Tokyo"})
    assert weather.item.call_id != clock.item.call_id
    assert (completed.status, completed.finish_reason) == ("completed", "tool_calls")
    answer_calls(tool_client, prompt, stream.turn)


def test_a_function_call_cut_by_the_token_limit_is_incomplete(tool_client: Client) -> None:
    prompt = Prompt(input=two_calls(), tools=FLAT_TOOLS)
    stream = tool_client.stream(prompt, **DETERMINISTIC, max_tokens=21, parallel_tool_calls=True)
    turn = stream.collect()
    (call,) = turn.function_calls
    assert (turn.status, turn.finish_reason, call.status) == ("incomplete", "length", "incomplete")
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.arguments)


def test_each_of_two_choices_has_its_own_function_call(tool_client: Client) -> None:
    turn = tool_client.stream(Prompt(input=one_call(), tools=FLAT_TOOLS), **DETERMINISTIC, n=2).collect()
    assert [choice.status for choice in turn.choices] == ["completed", "completed"]
    first, second = (choice.function_calls[0] for choice in turn.choices)
    assert first.parsed() == second.parsed() == {"city": "Paris"}
    assert first.call_id != second.call_id


# ── heartbeats and timing ───────────────────────────────────────────────────────────────────────────────────────


def test_heartbeats_arrive_while_the_server_processes_the_prompt(client: Client) -> None:
    events = list(client.stream(uncached_prompt(120), max_tokens=3, heartbeat=0.02))
    first = next(index for index, event in enumerate(events) if isinstance(event, Created))
    assert first > 1
    assert all(isinstance(event, Heartbeat) for event in events[:first])
    assert isinstance(events[-1], Completed)


def test_aggregate_yields_heartbeats_unchanged(client: Client) -> None:
    *heartbeats, message, completed = client.stream(uncached_prompt(120), max_tokens=3, heartbeat=0.02).aggregate()
    assert len(heartbeats) > 1
    assert all(isinstance(event, Heartbeat) for event in heartbeats)
    assert (type(message), type(completed)) == (OutputItemDone, Completed)


def test_a_stream_reports_its_timing_attempts_status_and_headers(client: Client) -> None:
    started = time.monotonic()
    stream = client.stream(uncached_prompt(60), max_tokens=8)
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
        stream = client.stream(QUESTION, **DETERMINISTIC, max_tokens=2)
        assert stream.collect().text if number % 2 else list(stream)
        assert len(stream.attempts) == 1
    assert relay.connections == 10  # llama.cpp closes the connection after each stream, despite its Keep-Alive header


def test_breaking_out_of_the_loop_closes_the_connection(connect: Callable[..., Client], relay: Relay) -> None:
    client = connect(relay)
    for event in client.stream(QUESTION, **DETERMINISTIC, max_tokens=500):
        if isinstance(event, OutputTextDelta):
            break
    assert relay.client_closed(1, within=5.0)
    assert client.stream(QUESTION, **DETERMINISTIC, max_tokens=2).collect().text
    assert relay.connections == 2


def test_leaving_the_with_block_closes_the_connection(connect: Callable[..., Client], relay: Relay) -> None:
    client = connect(relay)
    with client.stream(QUESTION, **DETERMINISTIC, max_tokens=500) as stream:
        next(stream)
    assert relay.client_closed(1, within=5.0)
    assert stream.turn.status == "incomplete"
    assert client.stream(QUESTION, **DETERMINISTIC, max_tokens=2).collect().text


@pytest.mark.parametrize("words", [3, 300], ids=["between-two-events", "before-the-first-event"])
def test_cancel_wakes_a_blocked_reader(client: Client, words: int) -> None:
    stream = client.stream(uncached_prompt(words), ignore_eos=True, max_tokens=300)
    assert cancelled(stream, 0.4).partial.status == "incomplete"


def test_threads_that_share_a_client_get_their_own_answers(client: Client) -> None:
    def chat(number: int) -> None:
        turns[number] = client.stream(QUESTION, **DETERMINISTIC, max_tokens=2 + number).collect()

    turns: dict[int, Any] = {}
    threads = [threading.Thread(target=chat, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [turns[number].token_usage.output_tokens for number in range(4)] == [2, 3, 4, 5]
    assert len({turn.response_id for turn in turns.values()}) == 4


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_over_the_context_size_raises_unexpected_status_and_is_not_retried(client: Client) -> None:
    with pytest.raises(UnexpectedStatus, match="exceeds the available context size") as raised:
        client.stream("sea " * 5000)
    error = raised.value
    assert (error.status, error.retryable, len(error.attempts)) == (400, False, 1)
    assert error.message == json.loads(error.body)["error"]["message"]
    assert client.stream(QUESTION, **DETERMINISTIC, max_tokens=2).collect().text


def test_a_request_field_of_the_wrong_type_raises_unexpected_status(client: Client) -> None:
    with pytest.raises(UnexpectedStatus, match="temperature") as raised:
        client.stream(QUESTION, temperature="warm")
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/v1/wrong/chat/completions", UnexpectedStatus, 404),
        ("/", UnexpectedStatus, 404),
        ("/v1/models", UnexpectedStatus, 404),  # for GET only
        ("/v1/completions", UnexpectedStatus, 400),  # requires a prompt
        ("/v1/embeddings", RetryLimit, 501),  # not enabled in this server
    ],
)
def test_a_wrong_path_raises_the_status_and_message_of_the_server(
    connect: Callable[..., Client], llama: LocalServer, path: str, kind: type[UnexpectedStatus], status: int
) -> None:
    client = connect(llama, base_url=llama.base_url.removesuffix("/v1"), path=path, request_max_retries=0)
    with pytest.raises(UnexpectedStatus) as raised:
        client.stream(QUESTION)
    assert (type(raised.value), raised.value.status) == (kind, status)
    assert raised.value.message


@pytest.mark.parametrize("path", ["/tokenize", "/apply-template"])
def test_a_json_response_that_is_not_a_completion_raises_stream_error(
    connect: Callable[..., Client], relay: Relay, path: str
) -> None:
    client = connect(relay, base_url=relay.url.removesuffix("/v1"), path=path, stream_max_retries=0)
    for _ in range(10):
        with pytest.raises(StreamError):
            client.stream(QUESTION, content="sea").collect()
    assert relay.connections == 1  # llama.cpp keeps the connection after a JSON response


def test_a_port_without_a_listener_raises_connection_failed(connect: Callable[..., Client], llama: LocalServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    client = connect(llama, base_url=f"http://{address}/v1", request_max_retries=0)
    with pytest.raises(ConnectionFailed, match=f"no response from {address}: .*refused"):
        client.stream(QUESTION)


@pytest.mark.parametrize("key", [None, "sk-wrong"])
def test_a_call_without_the_key_of_the_server_raises_unexpected_status(
    connect: Callable[..., Client], llama: LocalServer, key: str | None
) -> None:
    with pytest.raises(UnexpectedStatus, match="Invalid API Key") as raised:
        connect(llama, api_key=key).stream(QUESTION, **DETERMINISTIC, max_tokens=2)
    assert raised.value.status == 401


def test_a_deadline_during_an_answer_raises_deadline_exceeded_with_the_text_received(client: Client) -> None:
    pieces: list[str] = []
    with within(1.1, least=1.0), pytest.raises(DeadlineExceeded) as raised:
        pieces.extend(client.stream(QUESTION, ignore_eos=True, max_tokens=1500, deadline=1.0).text())
    assert raised.value.partial.text == "".join(pieces)
