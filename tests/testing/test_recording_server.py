"""`RecordingServer` asks the real server once, and answers from the recording afterwards."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import KEY, REST, THREE, WORDS, within

from chatstream import (
    ChatStreamError,
    Client,
    ConfigError,
    ConnectionFailed,
    Provider,
    StreamTruncated,
    UnexpectedStatus,
)
from chatstream._recording.load import load
from chatstream.testing import (
    FaultServer,
    RecordingServer,
    cut,
    delta,
    end,
    event,
    head,
    pause,
    stall,
    status,
    text_answer,
)

pytestmark = pytest.mark.usefixtures("short_waits")
ONCE = {"request_max_retries": 0, "stream_max_retries": 0}
SECRET = "tok-9fK2xQ7Lw0Zr4"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "run.sse"


def upstream(real: FaultServer, **settings: Any) -> Provider:
    return Provider("real", real.url, **settings)


def asked(server: RecordingServer, connect: Any, *prompts: str, **fields: Any) -> list[str]:
    """The texts that a client gets for these prompts."""
    client = connect(server.url, **ONCE)
    return [client.stream(prompt, **fields).collect().text for prompt in prompts]


def test_an_answer_is_recorded_once_and_given_from_the_recording_afterwards(serve, connect, path):
    real = serve(text_answer("one"), text_answer("two"))
    with RecordingServer(upstream(real), path) as server:
        assert asked(server, connect, "a", "b") == ["one", "two"]
    assert len(real.requests) == 2
    real.close()
    with RecordingServer(upstream(real), path) as server:
        assert asked(server, connect, "b", "a") == ["two", "one"]
        assert [each.json["messages"][0]["content"] for each in server.requests] == ["b", "a"]
        assert server.differences == []


def test_closing_ends_a_request_that_the_real_server_does_not_answer(serve, connect, path):
    real = serve([stall()])
    server = RecordingServer(upstream(real), path)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asked, server, connect, "a")
        while not real.requests:
            time.sleep(0.002)
        with within(2.0):
            server.close()
        assert isinstance(asking.exception(), ConnectionFailed)


def test_a_request_that_is_forwarded_after_closing_has_begun_is_cancelled(serve, connect, path):
    with RecordingServer(upstream(serve([stall()])), path) as server:
        server._is_closed.set()
        server._client.cancel()
        with within(2.0), pytest.raises(ChatStreamError):
            asked(server, connect, "a")


def test_a_recorded_answer_is_passed_on_as_it_arrives(serve, connect, path):
    real = serve([head(), *[step for each in THREE for step in (each, pause(0.15))], *REST])
    with RecordingServer(upstream(real), path) as server:
        stream = connect(server.url).stream("Hi")
        assert stream.collect().text == "".join(WORDS)
    assert 0.1 < stream.timing.longest_gap < 0.5
    with RecordingServer(upstream(real), path, speed=1) as server:
        stream = connect(server.url).stream("Hi")
        stream.collect()
    assert 0.1 < stream.timing.longest_gap < 0.5


def test_the_bytes_that_a_client_gets_from_the_recording_are_those_of_the_real_server(serve, path):
    def bytes_of(server: RecordingServer) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": "m1"}), {"X-Other": "1"})
        body = connection.getresponse().read()
        connection.close()
        return body

    with RecordingServer(upstream(serve(text_answer(*WORDS))), path) as server:
        first = bytes_of(server)
    with RecordingServer("http://127.0.0.1:9/v1", path, mode="none") as server:
        assert bytes_of(server) == first == load(path)[0].body


def test_a_changed_request_is_refused_with_the_difference(serve, connect, path):
    real = serve(text_answer("one"))
    with RecordingServer(upstream(real), path) as server:
        asked(server, connect, "How are you?", temperature=0)
    with RecordingServer(upstream(real), path) as server:
        with pytest.raises(UnexpectedStatus) as caught:
            asked(server, connect, "Who are you?", temperature=0)
        (difference,) = server.differences
    assert difference in caught.value.message
    lines = difference.splitlines()
    assert lines[0] == (
        "POST /v1/chat/completions is not in the recording run.sse (--chat-record-mode=rewrite records it anew)"
    )
    changed = [line.split() for line in lines[3:] if line[0] in "+-"]
    assert changed == [
        ["-", '"content":', '"How', "are", 'you?",'],
        ["+", '"content":', '"Who', "are", 'you?",'],
    ]
    assert len(real.requests) == 1
    assert len(caught.value.attempts) == 1


def test_the_difference_is_shown_from_the_next_request_that_was_not_asked(serve, connect, path):
    with RecordingServer(upstream(serve(text_answer("one"))), path) as server:
        asked(server, connect, "first", "second")
    with RecordingServer("http://127.0.0.1:9/v1", path) as server:
        asked(server, connect, "first")
        for _ in range(2):
            with pytest.raises(UnexpectedStatus, match='"second"'):
                asked(server, connect, "third")
        asked(server, connect, "second")
        with pytest.raises(UnexpectedStatus, match='"first"'):
            asked(server, connect, "third")


def test_equal_requests_get_their_answers_in_order_and_the_last_one_again(serve, connect, path):
    with RecordingServer(upstream(serve(text_answer("one"), text_answer("two"))), path) as server:
        asked(server, connect, "Hi", "Hi")
    with RecordingServer("http://127.0.0.1:9/v1", path) as server:
        assert asked(server, connect, "Hi", "Hi", "Hi") == ["one", "two", "two"]


def test_a_secret_in_a_request_may_change(serve, connect, path):
    tools = [{"type": "mcp", "authorization": SECRET}]
    with RecordingServer(upstream(serve(text_answer("one"))), path) as server:
        connect(server.url, other_tools=True).stream("Hi", tools=tools).collect()
    assert SECRET not in path.read_text()
    tools = [{"type": "mcp", "authorization": "another"}]
    with RecordingServer("http://127.0.0.1:9/v1", path, mode="none") as server:
        assert connect(server.url, other_tools=True).stream("Hi", tools=tools).collect().text == "one"


# ── modes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mode_none_never_asks_the_real_server(serve, connect, path):
    real = serve(text_answer("one"))
    with RecordingServer(upstream(real), path, mode="none") as server:
        with pytest.raises(UnexpectedStatus, match="because there is no such file: record it with --chat-record-mode"):
            asked(server, connect, "Hi")
        assert len(server.differences) == 1
    assert not real.requests
    assert not path.exists()


def test_the_mode_new_episodes_records_what_is_new(serve, connect, path):
    real = serve(text_answer("one"), text_answer("two"))
    with RecordingServer(upstream(real), path, mode="new_episodes") as server:
        assert asked(server, connect, "a") == ["one"]
    with RecordingServer(upstream(real), path, mode="new_episodes") as server:
        assert asked(server, connect, "a", "b") == ["one", "two"]
    assert len(real.requests) == 2
    with RecordingServer(upstream(real), path, mode="none") as server:
        assert asked(server, connect, "b", "a") == ["two", "one"]


@pytest.mark.parametrize("mode", ["all", "rewrite"])
def test_the_modes_all_and_rewrite_record_everything_anew(serve, connect, path, mode):
    real = serve(text_answer("one"), text_answer("two"))
    with RecordingServer(upstream(real), path) as server:
        asked(server, connect, "a")
    with RecordingServer(upstream(real), path, mode=mode) as server:
        assert asked(server, connect, "a") == ["two"]
    assert len(load(path)) == 1


def test_another_mode_is_refused(path):
    with pytest.raises(ConfigError, match="must be one of none, once, new_episodes, all, rewrite, not 'twice'"):
        RecordingServer("openai", path, mode="twice")


def test_a_file_that_is_no_recording_is_refused(path):
    path.parent.mkdir()
    path.write_text("<html>")
    with pytest.raises(ConfigError, match="is neither a recording"):
        RecordingServer("openai", path)


def test_a_folder_that_cannot_be_written_refuses_the_request(serve, connect, tmp_path):
    (tmp_path / "file").touch()
    real = serve(text_answer("one"))
    path = tmp_path / "file" / "run.sse"
    with RecordingServer(upstream(real), path) as server, pytest.raises(UnexpectedStatus, match="can't be made: "):
        asked(server, connect, "Hi")
    assert not real.requests


# ── what is asked of the real server ────────────────────────────────────────────────────────────────────────────


def test_the_key_of_the_client_is_passed_on_and_not_recorded(serve, connect, path):
    real = serve(text_answer("one", KEY))
    with RecordingServer(real.url, path) as server:
        assert asked(server, connect, "Hi") == ["one" + KEY]
    assert real.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in path.read_text()


def test_the_key_of_the_provider_comes_first(serve, connect, path, monkeypatch):
    real = serve(text_answer("one"))
    provider = upstream(real, env_key="REAL_KEY", http_headers={"X-Team": "7"})
    monkeypatch.setenv("REAL_KEY", SECRET)
    with RecordingServer(provider, path) as server:
        asked(server, connect, "Hi")
    assert real.requests[0].headers.get_all("Authorization") == [f"Bearer {SECRET}"]
    assert real.requests[0].headers["X-Team"] == "7"
    assert SECRET not in path.read_text()


def test_the_key_of_the_client_serves_where_the_provider_has_none(serve, connect, path):
    real = serve(text_answer("one"))
    with RecordingServer(upstream(real, env_key="MISSING_KEY"), path) as server:
        asked(server, connect, "Hi")
        with pytest.raises(UnexpectedStatus, match="Missing environment variable: `MISSING_KEY`"):
            connect(server.url, api_key=None).stream("Ho")
    assert len(real.requests) == 1


def test_a_key_in_another_header_is_sent_once(serve, path):
    real = serve(text_answer("one"))
    provider = upstream(real, api_key=SECRET, key_header="api-key")
    with RecordingServer(provider, path) as server:
        client = Client(Provider("app", server.url, api_key="anything", key_header="api-key"), model="m1")
        client.stream("Hi").collect()
        client.close()
    assert real.requests[0].headers.get_all("api-key") == [SECRET]
    assert SECRET not in path.read_text()


def test_lists_of_models_are_recorded_too(serve, connect, path):
    real = serve(status(200, {"data": [{"id": "a"}]}))
    for mode in ("once", "none"):
        with RecordingServer(upstream(real), path, mode=mode) as server:
            assert connect(server.url).models() == ["a"]
    assert [each.path for each in real.requests] == ["/v1/models"]
    assert real.requests[0].method == "GET"


def test_a_refusal_is_recorded_and_given_again(serve, connect, path):
    real = serve(status(401, {"error": {"message": f"wrong key {KEY}"}}))
    for mode in ("once", "none"):
        with RecordingServer(upstream(real), path, mode=mode) as server, pytest.raises(UnexpectedStatus, match="wrong"):
            asked(server, connect, "Hi")
    assert KEY not in path.read_text()


def test_an_answer_that_breaks_off_is_recorded_and_breaks_off_again(serve, connect, path):
    real = serve([head(), *THREE, cut()])
    for mode in ("once", "none"):
        with RecordingServer(upstream(real), path, mode=mode) as server, pytest.raises(StreamTruncated) as caught:
            asked(server, connect, "Hi")
        assert caught.value.partial is not None


def test_a_real_server_that_cannot_be_reached_is_recorded_as_such(connect, path, refused_port):
    for mode in ("once", "none"):
        url = f"http://127.0.0.1:{refused_port}/v1"
        with RecordingServer(url, path, mode=mode) as server, pytest.raises(ConnectionFailed):
            asked(server, connect, "Hi")


def test_a_request_that_is_no_json_is_passed_on(serve, path):
    real = serve(status(400, "what?"))
    with RecordingServer(upstream(real), path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/audio", b"\xff\xfe")
        assert connection.getresponse().read() == b"what?"
        connection.close()
    assert (real.requests[0].path, real.requests[0].body) == ("/v1/audio", b"\xff\xfe")


def test_the_number_of_choices_is_recorded(serve, connect, path):
    real = serve([head(), delta("a", 0), delta("b", 1), event("[DONE]"), end()])
    with RecordingServer(upstream(real), path) as server:
        connect(server.url).stream("Hi", n=2).collect()
    assert load(path)[0].request["choices"] == 2
