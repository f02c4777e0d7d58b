"""Answers of other interfaces than Chat Completions: recognised at their beginning, and told apart from broken ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatstream import Client, Completed, ProtocolViolation, StreamTruncated, read_events
from chatstream.testing import chunk, delta, end, event, finish, head

GREETING = {"role": "assistant", "content": "Hi"}


def events(*bodies: dict[str, Any], key: str = "type") -> bytes:
    """Named events, as most other interfaces send them."""
    return b"".join(f"event: {body[key]}\ndata: {json.dumps(body)}\n\n".encode() for body in bodies)


def unnamed(*bodies: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(body)}\n\n".encode() for body in bodies)


def lines(*bodies: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


RESPONSES = (
    {"type": "response.created", "response": {"id": "r1", "object": "response"}},
    {"type": "response.output_text.delta", "delta": "Hi"},
    {"type": "response.completed", "response": {"id": "r1"}},
)
ANTHROPIC = (
    {"type": "message_start", "message": {"type": "message", "role": "assistant", "content": []}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "message_stop"},
)
COHERE = ({"type": "message-start", "id": "m"}, {"type": "content-delta", "delta": {}}, {"type": "message-end"})
GEMINI = ({"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}, {"candidates": [], "usageMetadata": {}})
OLLAMA = tuple({"model": "m", "created_at": "…", "message": GREETING, "done": done} for done in (False, True))
WIRES = {
    "Responses": (events(*RESPONSES), "OpenAI's Responses API", "before /responses"),
    "Responses, from the middle": (events(*RESPONSES[1:]), "OpenAI's Responses API", "before /responses"),
    "Responses, without names": (unnamed(*RESPONSES), "OpenAI's Responses API", "before /responses"),
    "Responses, not streamed": (
        json.dumps({"object": "response", "output": []}).encode(),
        "OpenAI's Responses API",
        "before /responses",
    ),
    "Assistants": (b"event: thread.run.created\ndata: {}\n\n", "OpenAI's Assistants API", "before /threads"),
    "Completions": (unnamed({"choices": [{"text": "Hi", "index": 0}]}), "older Completions", "before /completions"),
    "Anthropic": (events(*ANTHROPIC), "Anthropic's Messages API", "https://api.anthropic.com/v1"),
    "Anthropic, ping first": (events(*ANTHROPIC[1:]), "Anthropic's Messages API", "'anthropic'"),
    "Anthropic, without names": (unnamed(*ANTHROPIC), "Anthropic's Messages API", "'anthropic'"),
    "Anthropic, not streamed": (
        json.dumps({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}]}).encode(),
        "Anthropic's Messages API",
        "'anthropic'",
    ),
    "Cohere": (events(*COHERE), "Cohere's own API", "/compatibility/v1"),
    "Cohere, version 1": (
        lines({"event_type": "stream-start"}, {"event_type": "text-generation", "text": "Hi"}),
        "Cohere's own API",
        "/compatibility/v1",
    ),
    "Gemini": (unnamed(*GEMINI), "Gemini's own API", "/v1beta/openai"),
    "Gemini, a list": (json.dumps(list(GEMINI)).encode(), "Gemini's own API", "/v1beta/openai"),
    "Gemini, a list of one": (json.dumps(list(GEMINI[:1])).encode(), "Gemini's own API", "/v1beta/openai"),
    "Gemini, not streamed": (json.dumps(GEMINI[0]).encode(), "Gemini's own API", "/v1beta/openai"),
    "Ollama's chat": (lines(*OLLAMA), "Ollama's own API", "/v1 of the same server"),
    "Ollama's generate": (lines({"response": "Hi", "done": False}), "Ollama's own API", "/v1"),
    "TGI": (unnamed({"index": 1, "token": {"id": 1, "text": "Hi"}}), "TGI's own API", "/v1"),
    "llama.cpp": (unnamed({"content": "Hi", "stop": False}), "llama.cpp's own API", "'llamacpp'"),
}


@pytest.mark.parametrize("wire", WIRES)
def test_an_answer_of_another_interface_is_named_with_the_way_out(wire):
    data, name, way_out = WIRES[wire]
    for pieces in ([data], [data[start : start + 1] for start in range(len(data))]):
        with pytest.raises(ProtocolViolation) as caught:
            list(read_events(pieces))
        assert f"the response is in the format of {'the ' if 'older' in name else ''}{name}" in str(caught.value)
        assert way_out in str(caught.value)
        assert not caught.value.retryable


@pytest.mark.parametrize("collect", [False, True], ids=["loop", "collect"])
@pytest.mark.parametrize("wire", WIRES)
def test_an_answer_of_another_interface_is_not_asked_for_again(serve, connect, wire, collect):
    server = serve([head(), chunk(WIRES[wire][0]), end()])
    client: Client = connect(server)
    with pytest.raises(ProtocolViolation, match="not of Chat Completions"):
        client.stream("Hi").collect() if collect else list(client.stream("Hi"))
    assert len(server.requests) == 1


def test_lines_of_another_interface_are_recognised_before_the_answer_ends():
    def source() -> Any:
        yield lines(OLLAMA[0])[:-1]
        yield b"\n"
        pytest.fail("the second line was awaited")

    with pytest.raises(ProtocolViolation, match="Ollama's own API"):
        list(read_events(source()))


@pytest.mark.parametrize("wire", ["Responses", "Anthropic", "Cohere"])
def test_events_of_another_interface_between_chunks_are_ignored(serve, connect, wire):
    server = serve([head(), delta("Hi"), chunk(WIRES[wire][0]), finish(), end()])
    turn = connect(server).stream("Hi").collect()
    assert (turn.text, turn.status) == ("Hi", "completed")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"event: ping\ndata: {}\n\n", StreamTruncated),
        (b'event: note\ndata: {"type": "note"}\n\n', StreamTruncated),
        (b'data: {"type": "responses"}\n\n', StreamTruncated),
        (b'{"a": 1}\n{"b": 2}\n', ProtocolViolation),
        (b'[1, {"candidates": []}]', ProtocolViolation),
        (b'{"a"\n:1', ProtocolViolation),
    ],
)
def test_what_belongs_to_no_known_interface_is_not_taken_for_one(data, kind):
    with pytest.raises(kind) as caught:
        list(read_events(data))
    assert "not of Chat Completions" not in str(caught.value)


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "Hi", "delta": {"content": "Hi"}, "finish_reason": "eos"},
        {"text": "", "finish_reason": "stop"},
        {"text": "Hi", "message": {"content": "Hi"}, "finish_reason": "stop"},
    ],
    ids=["beside a delta", "empty", "beside a message"],
)
def test_a_text_beside_what_chat_completions_have_is_no_other_interface(choice):
    assert isinstance([*read_events(unnamed({"choices": [choice]}))][-1], Completed)


def test_an_error_of_another_interface_is_reported_as_an_error(connect, serve):
    server = serve([head(), event({"type": "error", "error": {"type": "x", "message": "Overloaded"}}, "error"), end()])
    with pytest.raises(Exception, match="Overloaded") as caught:
        connect(server).stream("Hi").collect()
    assert type(caught.value).__name__ == "ProviderError"
