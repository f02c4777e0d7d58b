"""What answers take: token usages that add up, the cost that a server reports, and the running total of a client."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import REST, THREE

from chatstream import (
    ChatStreamError,
    Client,
    ClientUsage,
    ConfigError,
    StreamTruncated,
    TokenUsage,
    Turn,
    collect,
    read_events,
)
from chatstream.testing import cut, done, end, event, finish, head, stall, status

pytestmark = pytest.mark.usefixtures("short_waits")
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "cost": 0.25}
COUNTED = [head(), *THREE, finish(usage=USAGE), done(), end()]
ONE = TokenUsage(9, None, 5, None, 14, cost=0.25)


def turn_of(*chunks: dict[str, Any]) -> Turn:
    """The turn of an answer with these chunks, the first of which gets a finished choice."""
    first = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]} | chunks[0]
    return collect(read_events(f"data: {json.dumps(each)}\n\n".encode() for each in (first, *chunks[1:])))


# ── sums ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_token_usages_add_up_count_by_count():
    assert TokenUsage(1, 2, 3, 4, 5, cost=0.5) + TokenUsage(10, 20, 30, 40, 50, cost=0.25) == TokenUsage(
        11, 22, 33, 44, 55, cost=0.75
    )


def test_a_count_that_one_usage_lacks_is_that_of_the_other():
    assert TokenUsage(1) + TokenUsage(None, None, 3, cost=0.5) == TokenUsage(1, None, 3, cost=0.5)
    assert TokenUsage() + TokenUsage() == TokenUsage()
    assert TokenUsage(0) + TokenUsage() == TokenUsage(0)


def test_sum_adds_token_usages_without_a_start():
    assert sum([ONE, ONE, ONE]) == TokenUsage(27, None, 15, None, 42, cost=0.75)
    assert sum([ONE, ONE], TokenUsage()) == ONE + ONE
    assert sum([ONE]) is ONE


def test_a_sum_has_no_object_of_a_server():
    summed = TokenUsage(1, raw={"prompt_tokens": 1}) + TokenUsage(2, raw={"prompt_tokens": 2})
    assert summed.raw == {}


@pytest.mark.parametrize("other", [1, 0.5, None, "1", {"input_tokens": 1}])
def test_a_token_usage_adds_to_nothing_but_another_one(other):
    with pytest.raises(TypeError):
        ONE + other
    with pytest.raises(TypeError):
        other + ONE


# ── the cost ────────────────────────────────────────────────────────────────────────────────────────────────────

COSTS = {
    "OpenRouter": ({"usage": {"cost": 0.0012}}, 0.0012),
    "nothing": ({"usage": {"cost": 0}}, 0.0),
    "Perplexity": ({"usage": {"cost": {"input_tokens_cost": 0.001, "total_cost": 0.006}}}, 0.006),
    "xAI": ({"usage": {"cost_in_usd_ticks": 37756000}}, 0.0037756),
    "DeepInfra": ({"usage": {"estimated_cost": 0.0002}}, 0.0002),
    "Venice": ({"cost": {"diem": 0, "usd": 0.0001}, "usage": {}}, 0.0001),
}


@pytest.mark.parametrize(("sent", "cost"), COSTS.values(), ids=COSTS.keys())
def test_the_cost_of_an_answer_is_read_where_servers_put_it(sent, cost):
    sent = {**sent, "usage": {"prompt_tokens": 9, **sent["usage"]}}
    for chunks in ([sent], [{}, {"choices": [], **sent}]):
        usage = turn_of(*chunks).token_usage
        assert usage == TokenUsage(9, cost=cost)
        assert usage is not None
        assert usage.raw == sent["usage"]


@pytest.mark.parametrize(
    "cost", ["0.5", True, None, -1, 1e400, 10**400, [], {}, {"total_cost": "1"}], ids=lambda cost: str(cost)[:9]
)
def test_what_is_no_amount_is_no_cost_and_stays_in_raw(cost):
    usage = turn_of({"usage": {"prompt_tokens": 9, "cost": cost}}).token_usage
    assert usage is not None
    assert usage.cost is None
    assert "cost" in usage.raw


def test_the_cost_that_was_reported_last_counts():
    reports = [{"usage": {"prompt_tokens": 9, "cost": cost}} for cost in (0.1, 0.2, None)]
    assert turn_of(*reports).token_usage == TokenUsage(9, cost=0.2)


# ── the total of a client ───────────────────────────────────────────────────────────────────────────────────────


def test_a_new_client_has_taken_nothing():
    usage = Client("openai").usage
    assert usage == ClientUsage(0, 0, TokenUsage())
    assert usage.cost is None


@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda stream: list(stream.text()),
        lambda stream: stream.collect(),
        lambda stream: list(stream.aggregate()),
    ],
    ids=["loop", "text", "collect", "aggregate"],
)
def test_the_usage_of_a_client_is_the_sum_of_its_calls(serve, connect, read):
    client = connect(serve(COUNTED))
    for number in range(1, 4):
        read(client.stream("Hi"))
        assert client.usage == ClientUsage(number, 0, sum([ONE] * number))
    assert client.usage.cost == 0.75


def test_the_usage_of_a_client_is_the_sum_over_its_threads(serve, connect):
    client = connect(serve(COUNTED))
    with ThreadPoolExecutor(8) as pool:
        turns = list(pool.map(lambda _: client.stream("Hi").collect(), range(40)))
    assert client.usage == ClientUsage(40, 0, sum([turn.token_usage for turn in turns]))
    assert client.usage.tokens.total_tokens == 40 * 14


def test_retries_of_requests_and_of_streams_are_counted_with_what_the_broken_answer_took(serve, connect):
    reported = event({"choices": [], "usage": USAGE})
    client = connect(serve(status(503), [head(), *THREE, reported, cut()], COUNTED))
    client.stream("Hi").collect()
    assert client.usage == ClientUsage(1, 2, ONE + ONE)


def test_what_a_broken_answer_took_counts_once_where_the_stream_is_not_restarted(serve, connect):
    usage = event({"id": "c1", "choices": [], "usage": {"total_tokens": 6}})
    client = connect(serve([head(), *THREE, usage, cut()]), stream_max_retries=0)
    with pytest.raises(StreamTruncated):
        client.stream("Hi").collect()
    assert client.usage.tokens.total_tokens == 6


def test_a_call_that_fails_is_counted(serve, connect, refused_port):
    client = connect(serve(status(401), status(503), status(503), [head(), *THREE, cut()]), stream_max_retries=0)
    for calls, retries in ((1, 0), (2, 1), (3, 1)):
        with pytest.raises(ChatStreamError):
            client.stream("Hi").collect()
        assert (client.usage.calls, client.usage.retries) == (calls, retries)
    unreachable = connect(f"http://127.0.0.1:{refused_port}/v1")
    with pytest.raises(ChatStreamError):
        unreachable.stream("Hi")
    assert unreachable.usage == ClientUsage(1, 1)


def test_a_call_that_was_never_sent_is_not_counted(serve, connect):
    client = connect(serve(COUNTED))
    with pytest.raises(ConfigError):
        client.stream([])
    assert client.usage == ClientUsage()


def test_a_stream_that_is_left_adds_what_was_reported_until_then(serve, connect):
    reported = event({"choices": [], "usage": USAGE})
    client = connect(serve([head(), *THREE[:1], reported, *THREE[1:], stall()]))
    with client.stream("Hi") as stream:
        while stream.turn.text != "one two three ":
            next(stream)
        assert client.usage.tokens == TokenUsage()
    assert client.usage == ClientUsage(1, 0, ONE)
    stream.close()
    assert client.usage == ClientUsage(1, 0, ONE)


def test_each_client_has_its_own_total_and_a_copy_begins_anew(serve, connect):
    server = serve(COUNTED)
    one, other = connect(server), connect(server)
    one.stream("Hi").collect()
    assert (one.usage.calls, other.usage.calls) == (1, 0)


def test_a_total_is_a_value_that_later_calls_do_not_change(serve, connect):
    client = connect(serve(COUNTED))
    before = client.usage
    client.stream("Hi").collect()
    assert before == ClientUsage()
    assert ClientUsage.from_dict(json.loads(json.dumps(client.usage.to_dict()))) == client.usage


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_closes_an_inherited_stream_adds_nothing(serve, connect, monkeypatch):
    from chatstream._runtime import process

    client = connect(serve([head(), *THREE, *REST]))
    stream = client.stream("Hi")
    next(stream)
    with monkeypatch.context() as patch:
        patch.setattr(process, "pid", -1)
        stream.close()
    assert client.usage.tokens == TokenUsage()
