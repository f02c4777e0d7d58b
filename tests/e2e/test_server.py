"""What the real server does, seen through plain HTTP: the ground the other end-to-end tests stand on."""

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

SEA = [{"role": "user", "content": "Tell me about the sea."}]


@contextmanager
def posted(server: LocalServer, **fields: Any) -> Iterator[http.client.HTTPResponse]:
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


def calls(server: LocalServer, **fields: Any) -> dict[int, tuple[str, list[str]]]:
    """Of each choice its finish reason and its calls, like ``get_weather({"city": "Paris"})``."""
    with posted(server, tools=TOOLS, **fields) as response:
        choices = [choice for payload in payloads(response) for choice in payload["choices"]]
    made: dict[tuple[int, int], str] = {}
    for choice in choices:
        for delta in choice["delta"].get("tool_calls", ()):
            function, key = delta["function"], (choice["index"], delta["index"])
            made[key] = made.get(key, f"{function.get('name')}(") + function.get("arguments", "")
    return {
        choice["index"]: (
            choice["finish_reason"],
            [f"{text})" for (index, _), text in sorted(made.items()) if index == choice["index"]],
        )
        for choice in choices
        if choice["finish_reason"]
    }


WEATHER, TIME = 'get_weather({"city": "Paris"})', 'get_time({"city": "Tokyo"})'


def test_a_text_comes_as_deltas_a_finish_reason_usage_and_done(llama: LocalServer) -> None:
    with posted(llama, messages=SEA, max_tokens=20) as response:
        *chunks, finish, usage = payloads(response)
    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "sea" in "".join(texts)
    assert len(texts) > 10
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 20


def test_the_same_question_gets_the_same_answer(llama: LocalServer) -> None:
    def answer() -> list[Any]:
        with posted(llama, messages=SEA, max_tokens=20) as response:
            return [choice["delta"] for chunk in payloads(response) for choice in chunk["choices"]]

    answer()  # from now on the prompt is in the cache
    assert answer() == answer()


def test_two_answers_are_written_at_once(llama: LocalServer) -> None:
    with posted(llama, messages=SEA, max_tokens=20) as one, posted(llama, messages=SEA, max_tokens=20) as other:
        assert payloads(one)
        assert payloads(other)


def test_the_server_shows_no_path_and_no_web_page_may_ask_it(llama: LocalServer) -> None:
    with closing(http.client.HTTPConnection(urlsplit(llama.base_url).netloc, timeout=60)) as connection:
        connection.request("GET", "/v1/models", headers={"Origin": "http://example.com"})
        response = connection.getresponse()
        assert [each["id"] for each in json.loads(response.read())["data"]] == [llama.model]
        assert response.headers["Access-Control-Allow-Origin"] in ("", None)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_one_call(tool_llama: LocalServer, choice: str) -> None:
    assert calls(tool_llama, messages=one_call(), tool_choice=choice) == {0: ("tool_calls", [WEATHER])}


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_two_parallel_calls(tool_llama: LocalServer, choice: str) -> None:
    made = calls(tool_llama, messages=two_calls(), tool_choice=choice, parallel_tool_calls=True)
    assert made == {0: ("tool_calls", [WEATHER, TIME])}


def test_two_choices_with_a_call_each(tool_llama: LocalServer) -> None:
    expected = ("tool_calls", [WEATHER])
    assert calls(tool_llama, messages=one_call(), n=2) == {0: expected, 1: expected}


def test_a_call_cut_by_the_token_limit(tool_llama: LocalServer) -> None:
    made = calls(tool_llama, messages=two_calls(), max_tokens=21, parallel_tool_calls=True)
    assert made == {0: ("length", ['get_weather({"city": ")'])}


def test_a_killed_server_breaks_its_streams_and_can_be_started_again(killable_llama: LocalServer) -> None:
    assert killable_llama.pid is not None
    with posted(killable_llama, messages=SEA, max_tokens=500) as response:
        assert response.readline().startswith(b"data: ")
        os.kill(killable_llama.pid, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    killable_llama.stop()
    with posted(killable_llama.start(), messages=SEA, max_tokens=5) as response:
        assert payloads(response)


def test_the_provider_of_the_process_speaks_of_a_server_that_answers() -> None:
    provider = local_provider()
    assert provider.name == "local"
    with closing(http.client.HTTPConnection(urlsplit(provider.base_url).netloc, timeout=60)) as connection:
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
