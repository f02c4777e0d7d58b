"""The servers of `chatstream.testing` answer the official client of OpenAI as a real server does."""

from __future__ import annotations

import subprocess
import textwrap

import pytest
from support import REST, THREE, WORDS

from chatstream.testing import ChatServer, RecordingServer, ReplayServer, cut, head, pause, text_answer

TEXT = "".join(WORDS)
SLOW = [head(), *[step for each in THREE for step in (pause(0.3), each)], *REST]


@pytest.fixture
def server():
    with ChatServer() as made:
        yield made


def test_a_text_with_reasoning_and_usage_is_streamed(run, server):
    server.says("Hello you", reasoning="Let me see.", usage={"total_tokens": 9})
    found = run("clients", "openai_client.py", "streamed", server.url)
    assert "failure" not in found, found
    assert (found["text"], found["reasoning"], found["finish"], found["tokens"]) == (
        "Hello you",
        "Let me see.",
        "stop",
        9,
    )
    server.assert_asked("Hi", model="m1", stream=True)


def test_parallel_tool_calls_are_streamed(run, server):
    server.calls(get_weather=[{"city": "Oslo"}, {"city": "Rome"}])
    found = run("clients", "openai_client.py", "streamed", server.url)
    assert found["calls"] == {
        "0": ["get_weather", '{"city": "Oslo"}'],
        "1": ["get_weather", '{"city": "Rome"}'],
    }, found
    assert found["finish"] == "tool_calls"


def test_an_answer_that_is_not_streamed_and_a_list_of_models_are_read(run, server):
    server.says("Hello you")
    assert run("clients", "openai_client.py", "whole", server.url)["text"] == "Hello you"
    assert run("clients", "openai_client.py", "models", server.url) == {"models": ["test"]}


def test_refusals_and_answers_that_break_off_are_errors(run, server):
    server.fails(429, "slow down")
    server.cuts_after("Hel")
    server.errs_after("Hel", message="overloaded")
    refused, broken, reported = (run("clients", "openai_client.py", "failed", server.url) for _ in range(3))
    assert (refused["error"], refused["status"]) == ("RateLimitError", 429), refused
    assert broken["error"], broken
    assert (reported["error"], reported["text"]) == ("APIError", "Hel"), reported


def test_a_recording_is_served_in_its_time(run, serve, tmp_path):
    from chatstream import Client

    with Client(serve(SLOW).url, model="m1") as client:
        client.stream("Hi", record=tmp_path / "run.sse").collect()
    with ReplayServer(tmp_path / "run.sse", speed=1) as server:
        found = run("clients", "openai_client.py", "streamed", server.url)
    assert found["text"] == TEXT, found
    first, second, third = found["times"]
    assert second - first == pytest.approx(0.3, abs=0.15)
    assert third - second == pytest.approx(0.3, abs=0.15)


def test_a_recording_that_was_cut_is_an_error(run, serve, tmp_path):
    from chatstream import Client, StreamTruncated

    with Client(serve([head(), *THREE, cut()]).url, model="m1") as client, pytest.raises(StreamTruncated):
        list(client.stream("Hi", record=tmp_path / "run.sse"))
    with ReplayServer(tmp_path / "run.sse") as server:
        found = run("clients", "openai_client.py", "failed", server.url)
    assert found["error"], found
    assert found["text"] == TEXT


def test_a_real_server_is_recorded_once_for_it(run, serve, tmp_path):
    real = serve(text_answer(*WORDS))
    for mode in ("once", "none"):
        with RecordingServer(real.url, tmp_path / "run.sse", mode=mode) as server:
            found = run("clients", "openai_client.py", "streamed", server.url)
            assert found["text"] == TEXT, found
    assert len(real.requests) == 1
    assert "sk-anything" not in (tmp_path / "run.sse").read_text("utf-8")


def test_the_plugin_is_found_by_pytest_where_the_package_is_installed(environment, tmp_path):
    test = """
        import openai

        def test_answer(chat_server):
            chat_server.says("Hello you")
            client = openai.OpenAI(base_url=chat_server.url, api_key="any")
            answer = client.chat.completions.create(model="m1", messages=[{"role": "user", "content": "Hi"}])
            assert answer.choices[0].message.content == "Hello you"
            chat_server.assert_asked("Hi")
        """
    (tmp_path / "test_app.py").write_text(textwrap.dedent(test))
    python = str(environment("clients"))
    done = subprocess.run([python, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    helped = subprocess.run(
        [python, "-m", "pytest", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--chat-record-mode" in helped.stdout
