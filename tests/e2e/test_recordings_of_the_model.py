"""Answers of the real model are recorded, replayed byte for byte in their time, and served to another client."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from chatstream import replay
from chatstream._recording.load import load
from chatstream.testing import RecordingServer, ReplayServer

QUESTION = "Tell me about the sea."


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sse"


def test_a_recording_of_the_model_is_replayed_with_its_events_and_its_timing(client, path):
    live = client.stream(QUESTION, temperature=0, max_tokens=40, record=path)
    events = list(live)
    again = replay(path)
    assert list(again) == events
    assert again.turn.token_usage == live.turn.token_usage
    (exchange,) = load(path)
    assert exchange.whole
    assert sum(len(piece) for _, piece in exchange.pieces) == live.timing.bytes
    timed = replay(path, speed=1)
    assert list(timed) == events
    recorded = [seconds for seconds, piece in exchange.pieces if b'"content"' in piece]
    assert timed.timing.first_event == pytest.approx(exchange.pieces[0][0], abs=0.15)
    assert timed.timing.total == pytest.approx(recorded[-1], abs=0.3)


def test_a_recording_of_the_model_has_no_key(client, llama, path):
    client.stream(QUESTION, temperature=0, max_tokens=5, record=path).collect()
    assert llama.provider.key() not in path.read_text("utf-8")


def test_a_recording_of_the_model_is_served_byte_for_byte_to_another_client(client, path):
    client.stream(QUESTION, temperature=0, max_tokens=20, record=path).collect()
    (exchange,) = load(path)
    with ReplayServer(path, speed=1) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/chat/completions", json.dumps(exchange.request["body"]))
        assert connection.getresponse().read() == exchange.body
        connection.close()


def test_the_model_is_asked_once_and_its_recording_afterwards(llama, path):
    body = {"model": llama.model, "stream": True, "temperature": 0, "max_tokens": 10}
    body["messages"] = [{"role": "user", "content": QUESTION}]
    answers = []
    for mode in ("once", "none"):
        with RecordingServer(llama.provider, path, mode=mode) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            answers.append(connection.getresponse().read())
            connection.close()
    assert answers[0] == answers[1] == load(path)[0].body
    assert answers[0].endswith(b"data: [DONE]\n\n")
