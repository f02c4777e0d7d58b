"""`ChatServer` answers what a test says, and shows what it was asked, whatever the client."""

from __future__ import annotations

import doctest
import http.client
import json
import time
from typing import Any

import pytest
from support import within

from chatstream import (
    Client,
    ConfigError,
    ConnectionFailed,
    IdleTimeout,
    OutputTextDelta,
    ProviderError,
    QuotaExceeded,
    StreamTruncated,
    TokenUsage,
    UnexpectedStatus,
)
from chatstream.testing import ChatServer, chat_server, delta, done, head, text_answer
from chatstream.testing.differences import difference, text_of

pytestmark = pytest.mark.usefixtures("short_waits")
ONCE: dict[str, Any] = {"request_max_retries": 0, "stream_max_retries": 0, "stream_idle_timeout": 1}


@pytest.fixture
def server() -> Any:
    with ChatServer() as made:
        yield made


def ask(server: ChatServer, body: Any, method: str = "POST", path: str = "/v1/chat/completions") -> tuple[int, Any]:
    """Status and JSON that a client without streaming gets."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data)
    response = connection.getresponse()
    got = response.status, json.loads(response.read())
    connection.close()
    return got


def test_the_example_of_the_module_works():
    failed, attempted = doctest.testmod(chat_server)
    assert not failed
    assert attempted


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["Hello", "Hello you there", " two  blanks\n\nand lines \n", "", "é 🌍"])
def test_a_text_is_streamed_word_by_word_and_whole(server, connect, text):
    server.says(text)
    stream = connect(server.url).stream("Hi")
    pieces = [event.delta for event in stream if isinstance(event, OutputTextDelta)]
    assert "".join(pieces) == text
    assert len(pieces) == max(len(text.split()), 0) + (text != text.rstrip())
    assert stream.turn.finish_reason == "stop"


def test_pieces_are_streamed_as_they_are_given_and_at_their_pace(server, connect):
    server.says("Hel", "lo", "", " you", every=0.15)
    began, arrived = time.monotonic(), []
    with within(1.2, 0.4):
        pieces = []
        for piece in connect(server.url).stream("Hi").text():
            pieces.append(piece)
            arrived.append(time.monotonic() - began)
    assert pieces == ["Hel", "lo", " you"]
    assert arrived[1] - arrived[0] > 0.1


def test_reasoning_refusal_usage_and_finish_reason_are_part_of_an_answer(server, connect):
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    server.says("Yes", reasoning="let me see", finish_reason="length", usage=usage)
    server.says(refusal="I can't do that")
    client = connect(server.url)
    turn = client.stream("Hi").collect()
    assert (turn.text, turn.reasoning, turn.finish_reason) == ("Yes", "let me see", "length")
    assert turn.token_usage == TokenUsage(7, None, 2, None, 9)
    assert client.stream("Hi").collect().refusal == "I can't do that"


def test_tokens_are_counted_in_words_where_no_usage_is_given(server, connect):
    server.says("one two three")
    turn = connect(server.url).stream("Hi").collect()
    assert turn.token_usage.output_tokens == 3
    assert turn.token_usage.total_tokens == turn.token_usage.input_tokens + 3


def test_usage_is_sent_to_those_who_ask_for_it(server, connect):
    server.says("one")
    assert connect(server.url, stream_usage=False).stream("Hi").collect().token_usage is None


def test_tool_calls_are_streamed_in_fragments_one_or_several(server, connect):
    server.calls(get_weather={"city": "Oslo"})
    server.calls(("get.time", {}), get_weather=[{"city": "Oslo"}, {"city": "Rome"}], broken='{"city": ')
    client = connect(server.url)
    turn = client.stream("Hi").collect()
    (call,) = turn.function_calls
    assert (call.name, call.parsed(), call.call_id) == ("get_weather", {"city": "Oslo"}, "call_1")
    assert turn.finish_reason == "tool_calls"
    calls = client.stream("Hi").collect().function_calls
    assert [each.name for each in calls] == ["get.time", "get_weather", "get_weather", "broken"]
    assert [each.arguments for each in calls[1:]] == ['{"city": "Oslo"}', '{"city": "Rome"}', '{"city": ']
    assert [each.status for each in calls] == ["completed"] * 3 + ["incomplete"]


@pytest.mark.parametrize("calls", [(), ("get_weather",), (("a", "b", "c"),)])
def test_calls_without_a_function_are_refused(server, calls):
    with pytest.raises(ConfigError, match=r"^calls takes the arguments by function, as in calls\(get_weather="):
        server.calls(*calls)


def test_a_client_that_does_not_stream_gets_one_json_text(server):
    server.says("Hello", reasoning="hm", usage={"total_tokens": 3})
    server.calls(get_weather={"city": "Oslo"})
    server.says(refusal="no")
    request = {"model": "m7", "messages": [{"role": "user", "content": "Hi"}]}
    code, answer = ask(server, request)
    assert (code, answer["object"], answer["model"]) == (200, "chat.completion", "m7")
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    assert answer["usage"]["total_tokens"] == 3
    message = ask(server, request)[1]["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    assert message["content"] is None
    assert ask(server, request)[1]["choices"][0]["message"]["refusal"] == "no"


@pytest.mark.parametrize("code", [400, 401, 429, 500, 503])
def test_a_failure_is_refused_as_a_server_does(server, connect, code):
    server.fails(code, "not now", error_code="c9", retry_after=7.5, headers={"X-Request-Id": "r1"})
    with pytest.raises(UnexpectedStatus, match="not now") as caught:
        connect(server.url, **ONCE).stream("Hi")
    error = caught.value
    assert (error.status, error.code, error.retry_after, error.request_id) == (code, "c9", 7.5, "r1")


def test_a_failure_has_a_status_and_a_message_of_its_own(server, connect):
    server.fails()
    server.fails(429, error_code="insufficient_quota")
    client = connect(server.url, **ONCE)
    with pytest.raises(UnexpectedStatus, match="500: error scripted by the test"):
        client.stream("Hi")
    with pytest.raises(QuotaExceeded):
        client.stream("Hi")


def test_a_client_that_retries_gets_the_next_answer(server, connect):
    server.fails(503)
    server.cuts_after("Hel")
    server.says("Hello")
    assert connect(server.url).stream("Hi").collect().text == "Hello"
    assert len(server.requests) == 3
    server.assert_all_answered()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("cuts_after", StreamTruncated), ("resets_after", StreamTruncated), ("stalls_after", IdleTimeout)],
)
def test_an_answer_can_break_off_after_a_text(server, connect, fault, kind):
    getattr(server, fault)("one two")
    with pytest.raises(kind) as caught:
        list(connect(server.url, **ONCE).stream("Hi"))
    assert caught.value.partial.text == "one two"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("cuts_after", StreamTruncated), ("resets_after", ConnectionFailed), ("stalls_after", IdleTimeout)],
)
def test_an_answer_can_break_off_before_it_begins(server, connect, fault, kind):
    getattr(server, fault)()
    with pytest.raises(kind):
        connect(server.url, **ONCE).stream("Hi").collect()


def test_an_error_can_be_reported_inside_the_stream(server, connect):
    server.errs_after("one ", message="overloaded", code=529)
    with pytest.raises(ProviderError, match="overloaded") as caught:
        list(connect(server.url, **ONCE).stream("Hi"))
    assert (caught.value.code, caught.value.partial.text) == (529, "one ")


def test_a_script_and_a_recording_serve_as_answers_too(server, connect, serve, tmp_path):
    path = tmp_path / "run.sse"
    connect(serve(text_answer("recorded"))).stream("Hi", record=path).collect()
    server.plays(head(), delta("scripted"), done())
    server.replays(path)
    client = connect(server.url)
    assert [client.stream("Hi").collect().text for _ in range(2)] == ["scripted", "recorded"]


def test_the_models_are_listed_without_an_answer(server, connect):
    assert connect(server.url).models() == ["test"]
    server.models = ["a", "b"]
    assert connect(server.url).models() == ["a", "b"]
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
def test_a_server_speaks_tls_with_a_context(connect, tls):
    with ChatServer(tls=tls) as server:
        server.says("Hello")
        assert server.url.startswith("https://")
        assert connect(server.url).stream("Hi").collect().text == "Hello"


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_without_an_answer_is_refused_at_once_and_shows_what_it_asked(server):
    server.says("one")
    client = Client(server.url, model="m1")
    client.stream("Hi").collect()
    with pytest.raises(UnexpectedStatus, match='the test has no answer left for request 2: "Hé"') as caught:
        client.stream("Hé")
    client.close()
    assert len(caught.value.attempts) == 1
    with pytest.raises(AssertionError, match=r"^1 answers for 2 requests: \['Hi', 'Hé'\]$"):
        server.assert_all_answered()


def test_an_answer_that_nobody_asked_for_is_noticed(server):
    server.assert_all_answered()
    server.says("one")
    with pytest.raises(AssertionError, match=r"^1 answers for 0 requests: \[\]$"):
        server.assert_all_answered()


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b"\xff"])
def test_a_request_that_is_no_json_object_is_refused(server, body):
    server.says("one")
    code, answer = ask(server, body)
    assert code == 400
    assert "is not a JSON object" in answer["error"]["message"]


def test_what_was_asked_is_compared_with_what_the_test_wants(server, connect):
    server.says("one")
    connect(server.url).stream("How are you?", temperature=0.5).collect()
    server.assert_asked("How are you?", model="m1", temperature=0.5)
    server.assert_asked(stream=True)
    with pytest.raises(AssertionError) as caught:
        server.assert_asked("Who are you?", temperature=1, seed=3)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the request differs from what the test expects"
    assert {'-  "temperature": 1,', '-  "seed": 3,', '+  "temperature": 0.5,'} <= set(lines)
    assert any("Who are you?" in line for line in lines)


def test_a_server_that_was_not_asked_says_so(server):
    with pytest.raises(AssertionError, match=r"^the server has received no request$"):
        server.assert_asked("Hi")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"messages": [{"content": "a"}, {"content": "b"}]}, "b"),
        ({"messages": [{"content": [{"text": "a"}, {"type": "image_url"}, "x", {"text": "b"}]}]}, "ab"),
        ({"messages": [{"content": None}]}, ""),
        ({"messages": ["x"]}, ""),
        ({"messages": []}, ""),
        ({}, ""),
    ],
)
def test_the_text_of_a_request_is_that_of_its_newest_message(request_, text):
    assert text_of(request_) == text


def test_a_long_difference_is_cut():
    shown = difference(list(range(1000)), ["x" * 10_000], "test")
    assert len(shown) < 15_000
    assert "more lines" in shown


def test_a_server_may_be_closed_twice(server):
    server.close()
    server.close()
