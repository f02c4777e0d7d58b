"""Recordings are served over HTTP as the recorded server answered, to this library and to other clients."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import REST, THREE, WORDS, within

from chatstream import ChatStreamError, ConfigError, ConnectionFailed, IdleTimeout, StreamTruncated, UnexpectedStatus
from chatstream._recording.load import load
from chatstream.testing import (
    ReplayServer,
    chunk,
    cut,
    done,
    finish,
    head,
    pause,
    reset,
    stall,
    status,
    text_answer,
    unread,
)

pytestmark = pytest.mark.usefixtures("short_waits")
SAVED = Path(__file__).resolve().parents[1] / "recordings" / "llama-server" / "stream_text.http"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sse"


@pytest.fixture
def record(serve: Any, connect: Any, path: Path) -> Any:
    """A function that records the answer of a script, and returns the path of the recording."""

    def made(*scripts: Any, prompt: Any = "Hi", name: str = "run.sse", **settings: Any) -> Path:
        file = path.parent / name
        client = connect(serve(*scripts), **settings)
        with suppress(ChatStreamError):  # it is recorded, too
            client.stream(prompt, record=file).collect()
        return file

    return made


def ask(server: ReplayServer, body: Any = None) -> tuple[int, bytes]:
    """What a client of its own gets for one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    data = b"no JSON" if body is None else json.dumps(body).encode()
    connection.request("POST", "/v1/chat/completions", data)
    with connection.getresponse() as response:
        try:
            got = response.read()
        except http.client.IncompleteRead as error:
            got = error.partial + b"<cut>"
        code = response.status
    connection.close()
    return code, got


def test_a_recording_is_served_byte_for_byte_to_any_client(record):
    file = record(text_answer(*WORDS))
    (exchange,) = load(file)
    with ReplayServer(file) as server:
        assert ask(server) == (200, exchange.body)
        assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_served_recording_is_the_recorded_turn(record, connect, tls, secure):
    with ReplayServer(record(text_answer(*WORDS)), tls=tls if secure else None) as server:
        assert server.url.startswith("https://" if secure else "http://")
        assert connect(server.url).stream("Hi").collect().text == "one two three "


@pytest.mark.parametrize(("speed", "least", "most"), [(0, 0.0, 0.35), (1, 0.4, 0.9), (2, 0.2, 0.7)])
def test_a_recording_is_served_in_its_time(record, connect, speed, least, most):
    file = record([pause(0.2), head(), *THREE, pause(0.2), *REST])
    with ReplayServer(file, speed=speed) as server:
        client = connect(server.url)
        with within(most, least):
            stream = client.stream("Hi")
            assert stream.collect().text == "one two three "
        if speed:
            assert 0.15 / speed < stream.timing.headers < 0.2 / speed + 0.4


def test_each_piece_is_sent_when_it_arrived(record, connect):
    file = record([head(), *[step for each in THREE for step in (pause(0.15), each)], *REST])
    with ReplayServer(file, speed=1) as server:
        began, arrived = time.monotonic(), []
        for _ in connect(server.url).stream("Hi").text():
            arrived.append(time.monotonic() - began)
    assert all(wanted - 0.05 < found < wanted + 0.4 for wanted, found in zip([0.15, 0.3, 0.45], arrived, strict=True))


def test_every_attempt_of_a_recorded_call_is_served_in_order(record, connect):
    file = record(status(503, "busy", {"Retry-After": "0.01"}), text_answer("Hello"))
    with ReplayServer(file) as server:
        stream = connect(server.url).stream("Hi")
        assert stream.collect().text == "Hello"
        assert [each.status for each in stream.attempts] == [503, 200]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([head(), *THREE, cut()], StreamTruncated),
        ([head(), *THREE, reset()], StreamTruncated),
        ([head(), *THREE, stall()], IdleTimeout),
        ([unread(), reset()], ConnectionFailed),
        (status(400, "no"), UnexpectedStatus),
    ],
    ids=["cut", "reset", "stall", "no answer", "refusal"],
)
def test_an_answer_that_broke_off_breaks_off_again(record, connect, script, kind):
    settings: dict[str, Any] = {"request_max_retries": 0, "stream_max_retries": 0}
    settings["stream_idle_timeout"] = 0.3 if kind is IdleTimeout else 10
    file = record(script, **settings)
    with ReplayServer(file) as server, pytest.raises(kind) as caught:
        list(connect(server.url, **settings).stream("Hi"))
    if kind in {StreamTruncated, IdleTimeout}:
        assert caught.value.partial.text == "one two three "


def test_recordings_are_served_in_the_order_of_their_paths_and_then_from_the_beginning(record, connect):
    files = [record(text_answer(text), prompt=f"say {text}", name=text) for text in ("a", "b")]
    with ReplayServer(*files) as server:
        client = connect(server.url)
        assert [client.stream("something else").collect().text for _ in range(4)] == ["a", "b", "a", "b"]


def test_the_recording_of_the_same_request_is_served_whatever_the_order(record, connect):
    files = [record(text_answer(text), prompt=f"say {text}", name=text) for text in ("a", "b", "c")]
    with ReplayServer(*files) as server:
        client = connect(server.url)
        assert [client.stream(f"say {text}").collect().text for text in "cacb"] == ["c", "a", "c", "b"]


def test_the_recording_of_the_same_conversation_is_served_to_a_client_that_asks_with_other_fields(record):
    files = [record(text_answer(text), prompt=f"say {text}", name=text) for text in ("a", "b")]
    with ReplayServer(*files) as server:
        body = {"model": "other", "messages": [{"role": "user", "content": "say b"}]}
        assert b'"content": "b"' in ask(server, body)[1]
        assert b'"content": "a"' in ask(server, ["no object"])[1]


def test_two_clients_that_ask_at_once_get_an_answer_each(record, connect):
    files = [record(text_answer(text), name=text) for text in ("a", "b")]
    with ReplayServer(*files) as server:
        client, texts = connect(server.url), list[str]()
        threads = [threading.Thread(target=lambda: texts.append(client.stream("Hi").collect().text)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(texts) == ["a"] * 5 + ["b"] * 5


def test_what_curl_saved_of_a_server_is_served(connect):
    with ReplayServer(SAVED) as server:
        assert connect(server.url).stream("Hi").collect().status == "completed"


def test_a_recording_of_a_stream_whose_loop_was_left_is_cut_there(serve, connect, path):
    with connect(serve([head(), *THREE, stall()])).stream("Hi", record=path) as stream:
        while getattr(next(stream), "delta", "") != WORDS[2]:
            pass
    with ReplayServer(path) as server:
        code, body = ask(server)
    assert (code, body.count(b"data: "), body[-5:]) == (200, 3, b"<cut>")


def test_a_body_that_is_no_event_stream_keeps_its_type(record, connect):
    answer = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    with ReplayServer(record(status(200, answer))) as server:
        stream = connect(server.url).stream("Hi")
        assert stream.collect().text == "Hi"
        assert stream.headers["Content-Type"] == "application/json"


def test_a_server_without_a_recording_is_refused(path):
    with pytest.raises(ConfigError, match="needs the path of at least one recording"):
        ReplayServer()
    path.write_bytes(b"<html>")
    with pytest.raises(ConfigError, match="is neither a recording"):
        ReplayServer(path)
    with pytest.raises(ConfigError, match=r"^speed must be 0"):
        ReplayServer(SAVED, speed=-1)


def test_a_server_may_be_closed_twice(record):
    server = ReplayServer(record([head(), chunk(b"data: [DONE]\n\n"), finish(), done()]))
    server.close()
    server.close()
