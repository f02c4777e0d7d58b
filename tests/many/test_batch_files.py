"""OpenAI's batch files: lines of an input file → lines of an output file, against any server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from echo import Echo, lines_of

from chatstream import (
    ConfigError,
    CustomToolCall,
    FunctionCall,
    TokenUsage,
    Turn,
    collect,
    map_prompts,
    read_events,
)
from chatstream.many.batch import completion, decode_batch
from chatstream.testing import done, end, event, finish, head, status, text_answer

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def line(id: str, text: str, **body: Any) -> dict[str, Any]:
    request = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": request}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


def run(client: Any, files: tuple[Path, Path], lines: list[dict[str, Any]], **options: Any) -> list[Any]:
    source, out = files
    source.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return list(map_prompts(client, source, out=out, ordered=True, **options))


def test_a_batch_file_is_answered_in_the_format_of_batch_output(serve, connect, files):
    server = serve([Echo()])
    run(connect(server), files, [line("r-1", "a", temperature=0.5, stream=False, tools=[TOOL]), line("r-2", "b")])
    first, second = sorted(lines_of(files[1]), key=lambda each: each["custom_id"])
    assert list(first) == ["custom_id", "id", "response", "error"]
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    body = first["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "a", "refusal": None}, "finish_reason": "stop"}
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert second["response"]["body"]["choices"][0]["message"]["content"] == "b"
    sent = {each.json["messages"][0]["content"]: each.json for each in server.requests}["a"]
    assert (sent["temperature"], sent["tools"], sent["model"], sent["stream"]) == (0.5, [TOOL], "gpt-4.1-mini", True)


def test_the_model_of_the_call_replaces_that_of_the_lines_and_the_client_s_is_for_lines_without_one(
    serve, connect, files
):
    server = serve([Echo()])
    without = line("r-2", "b")
    del without["body"]["model"]
    run(connect(server), files, [line("r-1", "a"), without])
    assert sorted(each.json["model"] for each in server.requests) == ["gpt-4.1-mini", "m1"]
    files[1].unlink()
    run(connect(server), files, [line("r-1", "a"), without], model="qwen")
    assert [each.json["model"] for each in server.requests[2:]] == ["qwen", "qwen"]


def test_a_refused_line_has_the_status_and_body_of_the_server_and_another_failure_an_error(serve, connect, files):
    def script(wire: Any) -> None:
        text = wire.request.json["messages"][0]["content"]
        refused = status(400, {"error": {"message": "No."}})
        for step in {"json": refused, "text": status(400, "No."), "cut": [head(), end()]}[text]:
            step(wire)

    run(connect(serve([script]), stream_max_retries=0), files, [line(text, text) for text in ("json", "text", "cut")])
    lines = {each["custom_id"]: each for each in lines_of(files[1])}
    assert lines["json"]["response"] == {"status_code": 400, "request_id": None, "body": {"error": {"message": "No."}}}
    assert lines["text"]["response"]["body"] == {"error": {"message": "No.", "code": None}}
    assert lines["cut"]["response"] is None
    assert lines["cut"]["error"]["code"] == "StreamTruncated"


def test_a_run_over_a_batch_file_goes_on_with_its_output_file(serve, connect, files):
    call = {"index": 0, "id": "call_1", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    deltas = [{"reasoning_content": "Hm. "}, {"content": "Let me see."}, {"tool_calls": [call]}]
    steps = [event({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    server = serve([head(), *steps, finish("tool_calls"), done(), end()], status(400, "No."), text_answer("later"))
    client = connect(server)
    lines = [line("r-1", "a"), line("r-2", "b")]
    first = run(client, files, lines, concurrency=1)[0]
    again = run(client, files, lines, concurrency=1)
    assert [result.resumed for result in again] == [True, False]
    assert again[0].key == "r-1"
    assert again[0].turn.items == first.turn.items
    assert again[0].turn.finish_reason == "tool_calls"
    assert [each["custom_id"] for each in lines_of(files[1])] == ["r-1", "r-2"]
    assert len(server.requests) == 3


def test_every_answer_can_be_read_back_from_its_line():
    calls = (FunctionCall("f", "{}", "c1"), CustomToolCall("shell", "ls", "c2"))
    for turn in (
        Turn(),
        Turn(items=calls, finish_reason="tool_calls", token_usage=TokenUsage(1, None, 2)),
        Turn(token_usage=TokenUsage(total_tokens=3, raw={"total_tokens": 3, "cost": 1})),
    ):
        written = json.loads(json.dumps(completion(turn, 1.5)))
        read = decode_batch({"custom_id": "a", "response": {"body": written}}).turn
        assert read is not None
        assert [type(each) for each in read.items] == [type(each) for each in turn.items]
        assert read.finish_reason == turn.finish_reason
        if turn.token_usage is not None:
            assert read.token_usage == turn.token_usage or turn.token_usage.raw


def test_the_body_of_an_answer_has_all_that_the_server_has_sent_with_it():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    call["extra_content"] = {"google": {"thought_signature": "s"}}
    data = {
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.org"}}],
        "audio": {"id": "a", "data": "AAAA", "transcript": "fine"},
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
        "reasoning_content": "Hm.",
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "signature": "s"}],
        "tool_calls": [call],
    }
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": "fine", "refusal": None, **data},
            "finish_reason": "tool_calls",
            "logprobs": {"content": [{"token": "fine", "logprob": -0.1 - number, "bytes": None, "top_logprobs": []}]},
            "content_filter_results": {"hate": {"filtered": False}},
        }
        for number in range(2)
    ]
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    body["usage"] = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    turn = collect(read_events(json.dumps(body).encode()))
    assert completion(turn, 1.5) == body
    line = {"custom_id": "a", "response": {"body": body}}
    assert decode_batch(line).turn == turn


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"body": [1]}, 'the "body" of a batch line must be a request'),
        ({"body": {"model": "m"}}, 'the "body" of a batch line must be a request'),
        ({"url": "/v1/embeddings"}, "not POST /v1/embeddings"),
        ({"method": "GET"}, "not GET"),
        ({"custom_id": None}, 'a batch line must have a "custom_id"'),
        ({"body": {"messages": []}}, ""),
    ],
)
def test_a_line_of_another_kind_has_an_error_that_says_why(serve, connect, files, change, words):
    (result,) = run(connect(serve([Echo()])), files, [line("r-1", "a") | change])
    assert isinstance(result.error, ConfigError)
    assert words in str(result.error)
    (written,) = lines_of(files[1])
    assert written["error"]["code"] == "ConfigError"
    assert written["custom_id"] == (change.get("custom_id", "r-1") or "#0")
