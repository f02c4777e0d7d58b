"""What the real server sends, read with `http.client`; the other end-to-end tests rely on it."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from fewshot import TOOLS, one_call, two_calls

from chatstream.providers.local import LocalServer, local_provider

MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]


@contextmanager
def post(server: LocalServer, **fields: Any) -> Iterator[http.client.HTTPResponse]:
    body = {"model": server.model, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    with closing(http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=60)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps({**body, **fields}), headers)
        response = connection.getresponse()
        assert response.status == 200
        yield response


def payloads(response: http.client.HTTPResponse) -> list[Any]:
    lines = [line for line in response.read().decode().split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def function_calls(server: LocalServer, **fields: Any) -> dict[int, tuple[str, list[str]]]:
    """The finish reason and the calls of each choice; a call reads like ``get_weather({"city": "Paris"})``."""
    with post(server, tools=TOOLS, **fields) as response:
        choices = [choice for payload in payloads(response) for choice in payload["choices"]]
    calls: dict[tuple[int, int], str] = {}
    for choice in choices:
        for delta in choice["delta"].get("tool_calls", ()):
            function, key = delta["function"], (choice["index"], delta["index"])
            calls[key] = calls.get(key, f"{function.get('name')}(") + function.get("arguments", "")
    return {
        choice["index"]: (
            choice["finish_reason"],
            [f"{text})" for (index, _), text in sorted(calls.items()) if index == choice["index"]],
        )
        for choice in choices
        if choice["finish_reason"]
    }


WEATHER, TIME = 'get_weather({"city": "Paris"})', 'get_time({"city": "Tokyo"})'


def test_the_server_sends_deltas_a_finish_reason_the_usage_and_done(llama: LocalServer) -> None:
    with post(llama, messages=MESSAGES, max_tokens=20) as response:
        *chunks, finish, usage = payloads(response)
    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "sea" in "".join(texts)
    assert len(texts) > 10
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 20


def test_the_server_gives_the_same_answer_to_the_same_question(llama: LocalServer) -> None:
    def answer() -> list[Any]:
        with post(llama, messages=MESSAGES, max_tokens=20) as response:
            return [choice["delta"] for chunk in payloads(response) for choice in chunk["choices"]]

    answer()  # puts the prompt into the cache
    assert answer() == answer()


def test_the_server_generates_two_answers_at_the_same_time(llama: LocalServer) -> None:
    with post(llama, messages=MESSAGES, max_tokens=20) as one, post(llama, messages=MESSAGES, max_tokens=20) as other:
        assert payloads(one)
        assert payloads(other)


def test_the_server_shows_no_file_path_and_allows_no_cross_origin_requests(llama: LocalServer) -> None:
    with closing(http.client.HTTPConnection(urlsplit(llama.base_url).netloc, timeout=60)) as connection:
        connection.request("GET", "/v1/models", headers={"Origin": "http://example.com"})
        response = connection.getresponse()
        assert [model["id"] for model in json.loads(response.read())["data"]] == [llama.model]
        assert response.headers["Access-Control-Allow-Origin"] in ("", None)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_the_model_makes_one_function_call(tool_llama: LocalServer, choice: str) -> None:
    assert function_calls(tool_llama, messages=one_call(), tool_choice=choice) == {0: ("tool_calls", [WEATHER])}


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_the_model_makes_two_parallel_function_calls(tool_llama: LocalServer, choice: str) -> None:
    calls = function_calls(tool_llama, messages=two_calls(), tool_choice=choice, parallel_tool_calls=True)
    assert calls == {0: ("tool_calls", [WEATHER, TIME])}


def test_the_model_makes_a_function_call_in_each_of_two_choices(tool_llama: LocalServer) -> None:
    expected = ("tool_calls", [WEATHER])
    assert function_calls(tool_llama, messages=one_call(), n=2) == {0: expected, 1: expected}


def test_the_token_limit_cuts_the_arguments_of_a_function_call(tool_llama: LocalServer) -> None:
    calls = function_calls(tool_llama, messages=two_calls(), max_tokens=21, parallel_tool_calls=True)
    assert calls == {0: ("length", ['get_weather({"city": ")'])}


def test_a_killed_server_breaks_its_streams_and_can_be_started_again(killable_llama: LocalServer) -> None:
    assert killable_llama.pid is not None
    with post(killable_llama, messages=MESSAGES, max_tokens=500) as response:
        assert response.readline().startswith(b"data: ")
        os.kill(killable_llama.pid, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    killable_llama.stop()
    with post(killable_llama.start(), messages=MESSAGES, max_tokens=5) as response:
        assert payloads(response)


def test_the_local_provider_of_this_process_has_a_running_server() -> None:
    provider = local_provider()
    assert provider.name == "local"
    with closing(http.client.HTTPConnection(urlsplit(provider.base_url).netloc, timeout=60)) as connection:
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
