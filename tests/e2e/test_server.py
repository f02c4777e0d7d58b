"""What the real server sends, read with `http.client`; the other end-to-end tests rely on it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fewshot import TOOLS, one_call, two_calls

from chatstream import Client
from chatstream.providers.local import LocalServer, local_provider

COMPLETIONS = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Tell me about the sea."}]


@contextmanager
def exchange(
    server: LocalServer, method: str, path: str, body: str | None = None, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=60)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        yield connection.getresponse()


def authorization(server: LocalServer) -> str:
    return f"Bearer {server.provider.key()}"


@contextmanager
def post(server: LocalServer, **fields: Any) -> Iterator[http.client.HTTPResponse]:
    settings = {"model": server.model, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"Content_Type": "application/json", "Authorization": authorization(server)}
    with exchange(server, "POST", COMPLETIONS, json.dumps({**settings, **fields}), **headers) as response:
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


def test_the_server_shows_no_file_path(llama: LocalServer) -> None:
    with exchange(llama, "GET", "/v1/models", Authorization=authorization(llama)) as response:
        assert [model["id"] for model in json.loads(response.read())["data"]] == [llama.model]


ASK = json.dumps({"messages": MESSAGES, "max_tokens": 2})
FOREIGN: dict[str, dict[str, str]] = {
    "without-a-key": {},
    "with-a-wrong-key": {"Authorization": "Bearer wrong"},
    "with-an-empty-key": {"Authorization": "Bearer "},
    "by-a-name-that-was-bound-again": {"Host": "evil.example"},
    "from-another-origin": {"Origin": "http://evil.example", "Content_Type": "text/plain"},
    "from-another-loopback-port": {"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "same-site"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", COMPLETIONS), ("POST", "/completion"), ("GET", "/v1/models"), ("GET", "/props"), ("GET", "/slots")],
)
def test_a_request_without_the_key_is_refused(
    llama: LocalServer, method: str, path: str, headers: dict[str, str]
) -> None:
    with exchange(llama, method, path, ASK if method == "POST" else None, **headers) as response:
        assert response.status == 401
        assert llama.model not in response.read().decode()
        assert not response.headers["Access-Control-Allow-Origin"]


def test_a_preflight_request_permits_nothing_to_a_web_page(llama: LocalServer) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    with exchange(llama, "OPTIONS", COMPLETIONS, Origin="http://evil.example", **asked) as response:
        permitted = {name: value for name, value in response.getheaders() if name.startswith("Access-Control-Allow")}
    assert set(permitted.values()) <= {"", "false"}


def test_the_answer_to_a_request_with_the_key_is_not_for_web_pages(llama: LocalServer) -> None:
    headers = {"Origin": "http://evil.example", "Authorization": authorization(llama)}
    with exchange(llama, "POST", COMPLETIONS, ASK, **headers) as response:
        assert response.status == 200
        assert not response.headers["Access-Control-Allow-Origin"]


def test_an_address_in_a_broken_grammar_is_not_taken_for_that_of_the_server(killable_llama: LocalServer) -> None:
    before = killable_llama.base_url
    planted = "http://127.0.0.1:1\nchatstream local server: http://127.0.0.1:1\n"
    body = json.dumps({"messages": MESSAGES, "grammar": f'root ::= "\n{planted}'})
    with exchange(killable_llama, "POST", COMPLETIONS, body, Authorization=authorization(killable_llama)) as response:
        assert response.status == 400
    child = killable_llama._child
    assert child is not None
    deadline = time.monotonic() + 10
    while planted.encode() not in child.log:  # llama.cpp writes it to its log as it is
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert killable_llama.start().base_url == before
    with post(killable_llama, messages=MESSAGES, max_tokens=2) as response:
        assert payloads(response)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not show the environment")
def test_the_process_of_the_model_holds_no_key_in_its_environment_or_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with LocalServer() as server:
        shown = b"".join(Path(f"/proc/{server.pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
    assert b"PATH=" in shown
    assert b"sk-secret" not in shown
    assert str(server.provider.key()).encode() not in shown


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
    assert Client(provider).stream("Hi", max_tokens=2).collect().text
    assert provider == local_provider()
