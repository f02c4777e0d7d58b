"""Payloads to chunks: every spelling of WIRE.md, with the server that it was seen at."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatstream._decode.chunk import BodyPayload, CallDelta, ChoiceDelta, Chunk, ErrorDetail
from chatstream._decode.chunks import ChunkReader
from chatstream._decode.error_body import error_of_body
from chatstream.errors import MAX_EXCERPT, ProtocolViolation
from chatstream.types.events import TokenUsage

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "9" * 5000  # digits: more than Python turns into an int


def payloads_of(*data: str | dict[str, Any]) -> list[BodyPayload]:
    texts = [text if isinstance(text, str) else json.dumps(text) for text in data]
    return [BodyPayload("message", text) for text in texts]


def reader(*data: str | dict[str, Any]) -> Iterator[Chunk]:
    return ChunkReader().read(payloads_of(*data))


def chunk(data: str | dict[str, Any]) -> Chunk:
    (only,) = reader(data)
    return only


def raw(data: str | dict[str, Any]) -> dict[str, Any] | None:
    read = ChunkReader()
    list(read.read(payloads_of(data)))
    return read.raw


def choice(**fields: Any) -> ChoiceDelta:
    """The choice as read, without what `finish` and `extra` say of it."""
    (only,) = chunk({"choices": [{"index": 0, **fields}]}).choices
    return only._replace(finish_kind=None, extra=None)


def delta(**fields: Any) -> ChoiceDelta:
    return choice(delta=fields, finish_reason=None)


def call(**fields: Any) -> CallDelta:
    (only,) = delta(tool_calls=[fields]).calls
    return only


def error(data: str | dict[str, Any], event: str = "message") -> ErrorDetail | None:
    text = data if isinstance(data, str) else json.dumps(data)
    (only,) = ChunkReader().read([BodyPayload(event, text)])
    return only.error


# ── the plain case, and what is no chunk ────────────────────────────────────────────────────────────────────────


def test_a_chunk_of_openai_is_read_whole():
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4.1-mini",
        "service_tier": "default",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": None, "finish_reason": None}],
        "usage": None,
        "obfuscation": "x7",
    }
    read = chunk(body)
    assert read.choices == (ChoiceDelta(text="Hi"),)
    assert (read.response_id, read.model, raw(body)) == ("chatcmpl-1", "gpt-4.1-mini", body)
    assert (read.usage, read.error, read.done) == (None, None, False)


def test_fields_that_nobody_knows_are_kept_for_whoever_asks():
    body = {
        "choices": [{"index": 0, "delta": {"content": "a", "annotations": [1], "x": 5}, "logprobs": {"content": [2]}}],
        "timings": {"n": 3},
        "system_fingerprint": "fp",
        "note": "a word",
    }
    read = chunk(body)
    assert raw(body) == body
    assert read.extra == {"timings": {"n": 3}}
    assert read.choices[0].extra == {"annotations": [1], "logprobs": {"content": [2]}}


@pytest.mark.parametrize(
    "fields", [{}, {"logprobs": None}, {"logprobs": {}}, {"annotations": []}, {"x": 5}, {"x": "a"}]
)
def test_a_word_a_number_or_nothing_is_no_extra(fields):
    (read,) = chunk(
        {"choices": [{"index": 0, "delta": {"content": "a", **fields}, "finish_reason": None, **fields}]}
    ).choices
    assert not read.extra


@pytest.mark.parametrize("word", ["[DONE]", "DONE", " [DONE]", "[DONE]\n"])
def test_done_is_the_end_also_without_brackets(word):
    assert list(reader(word)) == [Chunk(done=True)]


@pytest.mark.parametrize("data", ["", " ", "\n"])
def test_an_event_without_words_is_nothing(data):
    assert list(reader(data)) == []


def test_every_payload_is_counted_whether_it_is_a_chunk_or_not():
    payloads = [("ping", "-"), ("message", ""), ("message", "{}"), ("message", "[DONE]")]
    read = ChunkReader()
    counts = [read.seen for _ in read.read([BodyPayload(*each) for each in payloads])]
    assert counts == [3, 4]


@pytest.mark.parametrize("data", ["", " ", "[DONE]"])
def test_what_is_no_json_object_has_nothing_raw(data):
    assert raw(data) is None


def test_an_object_in_a_list_of_one_is_the_raw_one():
    assert raw([{"error": {"message": "no"}}]) == {"error": {"message": "no"}}


@pytest.mark.parametrize("name", ["ping", "keepalive", "completion", "Error", "errors", ""])
def test_named_events_are_ignored_whatever_they_hold(name):
    payloads = [BodyPayload(name, text) for text in ("", "-", '{"choices": [{"delta": {"content": "no"}}]}', "[DONE]")]
    assert list(ChunkReader().read(payloads)) == []


@pytest.mark.parametrize("data", ['{"choices": []} ', '{"choices": []}\n\n', ' {"choices": []}', '\n\t{"choices": []}'])
def test_blanks_around_the_json_are_no_harm(data):
    assert chunk(data).choices == ()
    assert raw(data) == {"choices": []}


# ── choices (W1) ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [{}, {"choices": None}, {"choices": []}, {"choices": {}}, {"choices": "none"}])
def test_azure_and_others_send_chunks_without_choices(body):
    assert chunk({"id": "1", "prompt_filter_results": [], **body}).choices == ()


@pytest.mark.parametrize("fields", [{}, {"delta": None}, {"delta": {}}, {"delta": "?"}, {"content_filter_offsets": {}}])
def test_azure_sends_choices_without_a_delta(fields):
    assert choice(**fields) == ChoiceDelta()


def test_a_missing_index_is_the_first_choice():
    assert chunk({"choices": [{"delta": {"content": "a"}}]}).choices == (ChoiceDelta(0, "a"),)
    assert chunk({"choices": [{"index": None, "delta": {"content": "a"}}]}).choices == (ChoiceDelta(0, "a"),)


@pytest.mark.parametrize("index", ["1", [1], {"n": 1}, 1.5, True], ids=repr)
def test_an_index_that_is_no_number_is_the_first_choice(index):
    assert chunk({"choices": [{"index": index, "delta": {"content": "a"}}]}).choices == (ChoiceDelta(0, "a"),)


def test_several_choices_may_share_a_chunk_in_any_order():
    body = {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]}
    assert chunk(body).choices == (ChoiceDelta(1, "b"), ChoiceDelta(0, "a"))


@pytest.mark.parametrize("body", [{}, {"id": "", "model": ""}, {"id": None, "model": None}])
def test_azure_and_tgi_and_gemini_leave_out_id_and_model_or_send_empty_ones(body):
    read = chunk({"choices": [], "object": "", **body})
    assert (read.response_id, read.model) == (None, None)


def test_an_id_and_a_model_that_are_no_text_are_none():
    read = chunk({"choices": [], "id": 7, "model": {"name": "m"}})
    assert (read.response_id, read.model) == (None, None)


# ── text (W2) ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [None, "", [], {}, 5, False])
def test_content_that_is_no_text_adds_none(content):
    assert delta(role="assistant", content=content) == ChoiceDelta()


def test_mistral_sends_content_as_a_list_of_parts_mixed_with_strings():
    parts = [{"type": "text", "text": "a"}, "b", {"type": "reference", "reference_ids": [1]}, 7, None]
    assert delta(content=parts).text == "ab"


def test_mistral_sends_reasoning_as_thinking_parts():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "text", "text": "m."}]}
    assert delta(content=[thinking, {"type": "text", "text": "Yes"}]) == ChoiceDelta(text="Yes", reasoning="Hmm.")


def test_perplexity_repeats_the_words_in_a_message_beside_the_delta():
    assert choice(delta={"content": "b"}, message={"content": "ab"}).text == "b"
    assert choice(delta={"content": ""}, message={"content": "ab"}).text == ""


def test_together_repeats_the_words_as_text_beside_the_delta():
    assert choice(delta={"content": "a"}, text="a").text == "a"
    assert choice(delta={}, text="a").text == ""


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        pytest.param({"index": None}, {}, id="a null index"),
        pytest.param({"index": "0"}, {}, id="an odd index"),
        pytest.param({"finish_reason": "stop"}, {}, id="a finish reason"),
        pytest.param({"logprobs": {"content": [1]}}, {}, id="logprobs"),
        pytest.param({"content_filter_results": {"a": 1}}, {}, id="something unknown in the choice"),
        pytest.param({}, {"usage": {"total_tokens": 3}}, id="usage"),
        pytest.param({}, {"citations": ["u"]}, id="something unknown beside the choices"),
        pytest.param({}, {"error": {"message": "no"}}, id="an error"),
    ],
)
def test_text_is_read_with_all_that_comes_beside_it(fields, more):
    whole = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None, **fields}
    read = chunk({"id": "r1", "model": "m1", "choices": [whole], **more})
    assert (read.response_id, read.model) == ("r1", "m1")
    (one,) = read.choices
    assert (one.choice, one.text, one.finish_reason) == (0, "a", fields.get("finish_reason"))
    assert bool(one.extra) == bool(fields.keys() & {"logprobs", "content_filter_results"})
    assert (read.usage is not None, bool(read.extra), read.error is not None) == (
        "usage" in more,
        "citations" in more,
        "error" in more,
    )


def test_an_answer_that_was_not_streamed_is_whole():
    whole = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    assert chunk({"choices": [whole]}).done
    assert chunk({"choices": [whole, {**whole, "index": 1}]}).done
    assert not chunk({"choices": [{**whole, "delta": {}}]}).done
    assert not chunk({"choices": []}).done


def test_a_whole_answer_has_a_message_instead_of_deltas():
    message = {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}
    assert choice(message=message, finish_reason="stop") == ChoiceDelta(
        text="Hi", calls=(CallDelta(None, "c", "f"),), finish_reason="stop"
    )
    assert choice(message=None, finish_reason="stop") == ChoiceDelta(finish_reason="stop")


def test_text_may_sit_in_the_chunk_with_the_finish_reason():
    assert choice(delta={"content": "."}, finish_reason="stop") == ChoiceDelta(text=".", finish_reason="stop")


def test_openai_streams_refusals():
    assert delta(refusal="I can't", content=None) == ChoiceDelta(refusal="I can't")
    assert delta(refusal=None) == delta(refusal={"why": 1}) == ChoiceDelta()


# ── reasoning (W3) ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"reasoning_content": "Hm", "content": None}, id="DeepSeek, xAI, Z.ai, llama.cpp"),
        pytest.param({"reasoning": "Hm", "content": ""}, id="vLLM, Cerebras, Ollama, Groq"),
        pytest.param({"reasoning_text": "Hm"}, id="Copilot"),
        pytest.param({"reasoning_content": None, "reasoning": "Hm"}, id="a null under the first key"),
        pytest.param({"reasoning_content": "", "reasoning_text": "Hm"}, id="nothing under the first key"),
        pytest.param({"reasoning": {"text": "Hm"}}, id="an object with text"),
        pytest.param({"reasoning": {"content": "Hm", "effort": 1}}, id="an object with content"),
        pytest.param({"reasoning_details": [{"type": "reasoning.text", "text": "H"}, {"text": "m"}]}, id="details"),
        pytest.param({"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]}, id="a summary"),
        pytest.param({"reasoning_content": "Hm", "reasoning": "Hm"}, id="MiniMax, doubleword, Avian: two keys"),
        pytest.param({"reasoning": "Hm", "reasoning_details": [{"text": "Hm"}]}, id="OpenRouter: details beside"),
        pytest.param({"reasoning": "Hm", "content": [{"thinking": "Hm"}]}, id="a key and a thinking part"),
    ],
)
def test_reasoning_is_read_once_whatever_its_key(fields):
    assert delta(**fields) == ChoiceDelta(reasoning="Hm")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": None},
        {"reasoning": {"effort": "high"}},
        {"reasoning": 5},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAA"}]},
        {"reasoning_details": "none" * 0},
    ],
)
def test_reasoning_without_words_is_none(fields):
    assert delta(**fields, content="Hi") == ChoiceDelta(text="Hi")


def test_a_thought_in_the_text_stays_in_the_text():
    assert delta(content="<think>Hm</think>").text == "<think>Hm</think>"


# ── calls (W5, W6) ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_of_openai_comes_in_fragments():
    function = {"name": "get_weather", "arguments": ""}
    assert call(index=0, id="call_1", type="function", function=function) == CallDelta(0, "call_1", "get_weather")
    assert call(index=0, function={"arguments": '{"ci'}) == CallDelta(0, arguments='{"ci')


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"id": "", "function": {"name": "f", "arguments": "{}"}}, CallDelta(None, None, "f", "{}"), id="Gemini"
        ),
        pytest.param({"index": 0, "id": "", "function": {"arguments": "1"}}, CallDelta(0, arguments="1"), id="Alibaba"),
        pytest.param(
            {"index": 0, "id": None, "function": {"name": None, "arguments": "1"}},
            CallDelta(0, arguments="1"),
            id="Chutes",
        ),
        pytest.param({"index": 0, "function": {"arguments": None}}, CallDelta(0), id="Writer, vLLM: null arguments"),
        pytest.param(
            {"index": 0, "id": "c", "function": {"name": "f"}}, CallDelta(0, "c", "f"), id="Databricks, Copilot: none"
        ),
        pytest.param(
            {"index": 1, "id": "c", "type": "", "function": {"name": "f"}},
            CallDelta(1, "c", "f"),
            id="Anthropic: from 1",
        ),
        pytest.param(
            {"function": {"name": "f", "arguments": {"ä": 1}}}, CallDelta(None, None, "f", '{"ä": 1}'), id="an object"
        ),
        pytest.param({"function": {"arguments": []}}, CallDelta(arguments="[]"), id="a list"),
        pytest.param(
            {"index": "0", "function": {"name": "f"}}, CallDelta(None, None, "f"), id="an index that is no number"
        ),
        pytest.param({"index": None, "id": 7, "function": {"name": 8}}, CallDelta(), id="an id that is no text"),
        pytest.param({"index": 0, "function": None}, CallDelta(0), id="function null"),
        pytest.param({"index": 0}, CallDelta(0), id="no function"),
        pytest.param({"index": 0, "function": "f"}, CallDelta(0), id="a function that is no object"),
        pytest.param(
            {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}},
            CallDelta(None, "c", "f", "x"),
            id="OpenAI: custom",
        ),
    ],
)
def test_a_call_is_read_in_the_spelling_of(fields, expected):
    assert call(**fields) == expected


def test_mistral_sends_several_calls_in_one_chunk_and_with_the_finish_reason():
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}, None, {"id": "b", "function": {"name": "g"}}]
    read = choice(delta={"tool_calls": calls}, finish_reason="tool_calls")
    assert read.calls == (CallDelta(None, "a", "f", "{}"), CallDelta(None, "b", "g"))
    assert read.finish_reason == "tool_calls"


@pytest.mark.parametrize("calls", [None, [], {}, 5, "none", [None], ["x"]], ids=repr)
def test_calls_that_are_none_are_no_harm(calls):
    assert delta(tool_calls=calls, content="a") == ChoiceDelta(text="a")


def test_openai_before_tools_had_one_function_call_without_an_id():
    assert delta(function_call={"name": "f", "arguments": ""}).calls == (CallDelta(0, None, "f"),)
    assert delta(function_call={"arguments": "{}"}).calls == (CallDelta(0, arguments="{}"),)
    assert delta(function_call=None).calls == delta(function_call="f").calls == ()
    assert delta(function_call={"name": "old"}, tool_calls=[{"id": "c"}]).calls == (CallDelta(None, "c"),)


# ── finish (W7) ─────────────────────────────────────────────────────────────────────────────────────────────────

REASONS = [
    "stop",
    "tool_calls",
    "length",
    "content_filter",
    "function_call",
    "eos",
    "eos_token",
    "insufficient_system_resource",
]


@pytest.mark.parametrize("reason", REASONS)
def test_a_finish_reason_is_given_as_it_came(reason):
    assert choice(delta={}, finish_reason=reason, native_finish_reason="X") == ChoiceDelta(finish_reason=reason)


@pytest.mark.parametrize("fields", [{}, {"finish_reason": None}, {"finish_reason": ""}, {"finish_reason": ["stop"]}])
def test_cloudflare_and_snowflake_have_no_finish_reason_yet(fields):
    assert choice(delta={"content": "a"}, **fields) == ChoiceDelta(text="a")


@pytest.mark.parametrize(
    ("finish", "reasons"),
    [
        ("stop", "stop eos eos_token stop_sequence end_turn STOP"),
        ("length", "length max_tokens model_length max_output_tokens MAX_TOKENS"),
        ("tool_calls", "tool_calls tool_use function_call"),
        ("content_filter", "content_filter safety recitation SAFETY"),
        ("error", "insufficient_system_resource"),
        ("other", "tired"),
    ],
)
def test_a_finish_reason_has_a_meaning_beside_it(finish, reasons):
    for reason in reasons.split():
        (read,) = chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).choices
        assert (read.finish_reason, read.finish_kind) == (reason, finish)


def test_no_finish_reason_has_no_meaning():
    (read,) = chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": None}]}).choices
    assert read.finish_kind is None


# ── usage (W8) ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_usage_is_read_with_its_details():
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert chunk({"choices": [], "usage": usage}).usage == TokenUsage(10, 4, 5, 3, 15)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            {"usage": {"prompt_tokens": 1, "completion_tokens": 0}},
            TokenUsage(1, None, 0),
            id="no total: none invented",
        ),
        pytest.param(
            {"usage": {"input_tokens": 1, "output_tokens": 2}}, TokenUsage(1, None, 2), id="Responses spelling"
        ),
        pytest.param({"usage": {"prompt_tokens": 1, "prompt_tokens_details": None}}, TokenUsage(1), id="null details"),
        pytest.param(
            {"usage": {"prompt_tokens": 1, "completion_tokens_details": [1]}}, TokenUsage(1), id="a list for details"
        ),
        pytest.param(
            {"usage": {"prompt_tokens": None, "total_tokens": 3}}, TokenUsage(None, total_tokens=3), id="a null count"
        ),
        pytest.param(
            {"usage": {"prompt_tokens": "1", "completion_tokens": True, "total_tokens": 3}},
            TokenUsage(total_tokens=3),
            id="no numbers",
        ),
        pytest.param({"usage": {"prompt_tokens": None, "total_tokens": None}}, None, id="only null counts"),
        pytest.param({"usage": None}, None, id="OpenAI: null until the end"),
        pytest.param({"usage": {}}, None, id="empty"),
        pytest.param({"usage": "none"}, None, id="a word"),
        pytest.param({}, None, id="never"),
        pytest.param({"x_groq": {"id": "r", "usage": {"total_tokens": 3}}}, TokenUsage(total_tokens=3), id="Groq"),
        pytest.param({"x_groq": {"id": "r"}}, None, id="Groq, at first"),
        pytest.param({"x_groq": None}, None, id="null for x_groq"),
        pytest.param({"x_groq": "r"}, None, id="a word for x_groq"),
        pytest.param(
            {"usage": {"total_tokens": 4}, "x_groq": {"usage": {"total_tokens": 3}}},
            TokenUsage(total_tokens=4),
            id="Groq: both",
        ),
    ],
)
def test_usage_is_read_in_the_spelling_of(body, expected):
    assert chunk({"choices": [{"delta": {}, "finish_reason": "stop"}], **body}).usage == expected
    assert chunk({"choices": [], **body}).usage == expected


def test_moonshot_puts_the_usage_into_the_choice():
    body = {"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"total_tokens": 3}}]}
    assert chunk(body).usage == TokenUsage(total_tokens=3)
    assert chunk({"choices": [None, *body["choices"]]}).usage == TokenUsage(total_tokens=3)


# ── errors in a stream (W9) ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"error": {"message": "no", "type": "t", "code": "c"}}, ErrorDetail("no", "c", "t"), id="OpenAI"),
        pytest.param(
            {"error": {"message": "no", "code": 400}, "choices": []}, ErrorDetail("no", 400), id="llama.cpp: an int"
        ),
        pytest.param({"error": {"message": "no", "code": "400"}}, ErrorDetail("no", "400"), id="a numeric string"),
        pytest.param({"error": {"message": "no", "code": None, "type": None}}, ErrorDetail("no"), id="no code"),
        pytest.param({"error": {"message": "no", "code": ""}}, ErrorDetail("no"), id="an empty code"),
        pytest.param(
            {"error": {"message": "no", "code": {"a": 1}, "status_code": 400}}, ErrorDetail("no", 400), id="an odd code"
        ),
        pytest.param({"error": {"code": 1}}, ErrorDetail('{"code": 1}', 1), id="no message"),
        pytest.param({"error": {}}, ErrorDetail("{}"), id="an empty error"),
        pytest.param({"error": "no"}, ErrorDetail("no"), id="transformers: a text"),
        pytest.param({"error": "no", "error_type": "validation"}, ErrorDetail("no", None, "validation"), id="TGI"),
        pytest.param(
            {"error": "Bad", "message": "no", "status_code": 401}, ErrorDetail("no", 401), id="a headline and a message"
        ),
        pytest.param({"error": 500}, ErrorDetail('{"error": 500}'), id="a number"),
        pytest.param({"error": ["no"]}, ErrorDetail('{"error": ["no"]}'), id="a list"),
        pytest.param(
            {"object": "error", "message": "no", "type": "t", "code": 40301},
            ErrorDetail("no", 40301, "t"),
            id="Mistral, vLLM",
        ),
        pytest.param({"detail": "no"}, ErrorDetail("no"), id="FastAPI: a sentence"),
        pytest.param(
            {"detail": [{"msg": "is missing", "loc": ["body", "model"]}]},
            ErrorDetail("body.model: is missing"),
            id="FastAPI: a list",
        ),
        pytest.param(
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
            ErrorDetail("rate limit", 1002),
            id="MiniMax",
        ),
        pytest.param(
            {"choices": None, "base_resp": {"status_code": 1004}},
            ErrorDetail("base_resp", 1004),
            id="MiniMax without words",
        ),
        pytest.param(
            {"choices": [{"delta": {"content": "a"}}], "error": {"message": "no", "code": 400}},
            ErrorDetail("no", 400),
            id="OpenRouter: beside",
        ),
        pytest.param(
            {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "no", "code": 400}}]},
            ErrorDetail("no", 400),
            id="OpenRouter: in the choice",
        ),
        pytest.param(
            {"choices": [{"delta": {}, "finish_reason": "error"}]},
            ErrorDetail("the server ended the answer with finish_reason 'error'", "error"),
            id="OpenRouter: only the finish reason",
        ),
    ],
)
def test_an_error_in_the_stream_is_read_in_the_spelling_of(body, expected):
    assert error(body) == expected


def test_an_error_beside_choices_leaves_the_choices_as_they_are():
    body = {"choices": [{"delta": {"content": "a"}, "finish_reason": "error"}], "error": {"message": "no"}}
    (read,) = chunk(body).choices
    assert (read.text, read.finish_reason) == ("a", "error")


@pytest.mark.parametrize(
    "body",
    [
        {"error": None, "choices": []},
        {"error": None},
        {"choices": [], "detail": "not an error"},
        {"choices": [{"delta": {"content": "a"}}], "error": None},
        {"choices": [{"delta": {}, "finish_reason": "stop", "error": None}]},
        {"choices": None, "base_resp": {"status_code": 0, "status_msg": ""}},
        {"choices": None, "base_resp": None},
        {"id": "1", "object": "chat.completion.chunk"},
    ],
)
def test_what_is_no_error_is_none(body):
    assert error(body) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            '{"error": {"message": "no", "code": "tool_use_failed"}}', ErrorDetail("no", "tool_use_failed"), id="Groq"
        ),
        pytest.param('{"message": "no", "code": 400}', ErrorDetail("no", 400), id="flat"),
        pytest.param('"no"', ErrorDetail('"no"'), id="a JSON text"),
        pytest.param("no", ErrorDetail("no"), id="no JSON"),
        pytest.param('{"choices": []}', ErrorDetail('{"choices": []}'), id="any JSON"),
        pytest.param("", ErrorDetail(""), id="nothing"),
        pytest.param(
            '{"a": ' + HUGE + "}", ErrorDetail(('{"a": ' + HUGE)[: MAX_EXCERPT - 3] + "…"), id="a huge number"
        ),
        pytest.param(DEEP, ErrorDetail(DEEP[: MAX_EXCERPT - 3] + "…"), id="too deep"),
    ],
)
def test_an_event_named_error_is_one_whatever_it_holds(data, expected):
    assert error(data, "error") == expected


def test_gemini_sends_an_error_as_a_list_of_one():
    assert error('[{"error": {"message": "no", "code": 400, "status": "INVALID"}}]') == ErrorDetail("no", 400)


@pytest.mark.parametrize(
    ("code", "kind", "passing", "quota"),
    [
        (429, None, True, False),
        ("429", None, True, False),
        (408, None, True, False),
        (409, None, True, False),
        (500, None, True, False),
        (529, None, True, False),
        (400, "server_error", False, False),  # a code that is a status has the word
        (404, None, False, False),
        ("rate_limit_exceeded", None, True, False),
        ("overloaded_error", None, True, False),
        (None, "server_error", True, False),
        (None, "timeout", True, False),
        (None, "service_unavailable", True, False),
        ("context_length_exceeded", "invalid_request_error", False, False),
        (None, None, False, False),
        ("insufficient_quota", "insufficient_quota", False, True),
        (429, "insufficient_quota", False, True),
        ("billing_hard_limit_reached", None, False, True),
        (402, "insufficient_balance", False, True),
        (429, "credits_exhausted", False, True),
        ("9" * 5000, None, False, False),
        ("٤٢٩", None, False, False),
    ],
)
def test_an_error_says_whether_trying_again_may_help(code, kind, passing, quota):
    read = error({"error": {"message": "no", "code": code, "type": kind}})
    assert read == ErrorDetail("no", code, kind, passing, quota)


# ── bodies of refusals ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            '{"error": {"message": "no", "type": "t", "param": null, "code": "c"}}',
            ErrorDetail("no", "c", "t"),
            id="OpenAI",
        ),
        pytest.param('{"error": "no", "error_type": "t"}', ErrorDetail("no", None, "t"), id="TGI"),
        pytest.param('{"error": "no"}', ErrorDetail("no"), id="Ollama"),
        pytest.param(
            '{"object": "error", "message": "no", "type": "t", "code": "1500"}',
            ErrorDetail("no", "1500", "t"),
            id="Mistral",
        ),
        pytest.param('{"detail": "no"}', ErrorDetail("no"), id="Mistral: detail"),
        pytest.param(
            '{"detail": [{"type": "missing", "loc": ["body", "messages", 0], "msg": "required"},'
            ' {"msg": "bad"}, "x", 5, {"a": 1}]}',
            ErrorDetail('body.messages.0: required; bad; x; 5; {"a": 1}'),
            id="FastAPI",
        ),
        pytest.param('{"detail": {"message": "no"}}', ErrorDetail("no"), id="an object with a message"),
        pytest.param('{"detail": {"why": "no"}}', ErrorDetail('{"why": "no"}'), id="an object"),
        pytest.param('{"detail": [{"msg": "no", "loc": 5}]}', ErrorDetail("no"), id="a place that is no list"),
        pytest.param('{"code": 400, "message": "no", "type": "t"}', ErrorDetail("no", 400, "t"), id="doubleword"),
        pytest.param('{"error": {"code": 400, "detail": "no"}}', ErrorDetail("no", 400), id="a detail within"),
        pytest.param(
            '{"error": {"message": "Provider returned error", "code": 400, "metadata":'
            ' {"raw": "{\\"error\\": {\\"message\\": \\"no\\"}}", "provider_name": "X"}}, "user_id": "u"}',
            ErrorDetail("Provider returned error: no", 400),
            id="OpenRouter",
        ),
        pytest.param(
            '{"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "no"}}}',
            ErrorDetail("Provider returned error: no", 400),
            id="OpenRouter: a text",
        ),
        pytest.param(
            '{"error": {"code": 400, "metadata": {"raw": "no"}}}', ErrorDetail("no", 400), id="OpenRouter: no message"
        ),
        pytest.param(
            '{"error": {"message": "no", "metadata": {"raw": {"a": 1}}}}', ErrorDetail("no"), id="OpenRouter: an object"
        ),
        pytest.param('[{"error": {"code": 400, "message": "no"}}]', ErrorDetail("no", 400), id="Gemini"),
        pytest.param("no healthy upstream", ErrorDetail("no healthy upstream"), id="Envoy: a text"),
        pytest.param(
            "<html>\n<head><title>502 Bad Gateway</title></head><h1>x</h1>",
            ErrorDetail("502 Bad Gateway"),
            id="nginx: a page",
        ),
        pytest.param(
            "<html><body><h1>503 Service &lt;Un&gt; available</h1>\nNo server</body>",
            ErrorDetail("503 Service <Un> available"),
            id="HAProxy: a page",
        ),
        pytest.param("<HTML><TITLE lang='en'>\n Oops \n</TITLE>", ErrorDetail("Oops"), id="a page in capitals"),
        pytest.param("<p>Oops</p>", ErrorDetail("<p>Oops</p>"), id="a page without a title"),
        pytest.param("", ErrorDetail(""), id="Caddy: nothing"),
        pytest.param('"no"', ErrorDetail('"no"'), id="a JSON text"),
        pytest.param("[]", ErrorDetail("[]"), id="an empty list"),
        pytest.param('{"a": 1}', ErrorDetail('{"a": 1}'), id="another object"),
        pytest.param('{"error": "no"', ErrorDetail('{"error": "no"'), id="half an object"),
        pytest.param(
            '{"code": ' + HUGE + "}", ErrorDetail(('{"code": ' + HUGE)[: MAX_EXCERPT - 3] + "…"), id="a huge number"
        ),
    ],
)
def test_a_refusal_says_one_sentence_in_the_spelling_of(body, expected):
    assert error_of_body(body) == expected


@pytest.mark.parametrize(
    "body", ["x" * 60_000, "<title>" + "x" * 60_000 + "</title>", json.dumps({"error": {"a": "x" * 60_000}}), DEEP]
)
def test_the_sentence_of_a_refusal_is_at_most_2_kb(body):
    assert len(error_of_body(body).message) <= MAX_EXCERPT


@pytest.mark.parametrize(
    "page",
    ["<title>" * 9000, "<title" * 10_000, "<title>" + " " * 60_000, "<h1>" + " \n" * 30_000 + "</h2>"],
    ids=lambda page: page[:14],
)
def test_no_page_takes_long_to_read(page):
    begin = time.process_time()
    assert error_of_body(page).message.startswith(page[:4])
    assert time.process_time() - begin < 1


# ── what is no chunk (M9) ───────────────────────────────────────────────────────────────────────────────────────

BROKEN = [
    "hello",
    "{",
    '{"choices": [}',
    '{"choices": []} {"choices": []}',
    '{"choices": []}x',
    "[]",
    "[1, 2]",
    "[1]",
    "[",
    "null",
    '"DONE"',
    "[done]",
    '{"a": ' + HUGE + "}",
    '{"a": ' + "[" * 100_000,
    DEEP,
    '{"choices": [{"delta": {"reasoning": ' + "[" * 700 + "]" * 700 + "}}]}" * 2,
]


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:40]))
def test_what_is_no_chunk_is_told_with_at_most_2_kb_of_it(data):
    with pytest.raises(ProtocolViolation, match="an event is not a chunk") as caught:
        list(reader(data))
    assert data[:10] in str(caught.value)
    assert len(str(caught.value)) < MAX_EXCERPT + 300


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:40]))
def test_what_is_no_chunk_is_skipped_and_counted_if_asked(data):
    lenient = ChunkReader(skip_undecodable=True)
    chunks = lenient.read(payloads_of({"choices": []}, data, data, "[DONE]"))
    assert [read.done for read in chunks] == [False, True]
    assert lenient.skipped == 2


def test_nothing_is_skipped_unasked():
    strict = ChunkReader()
    list(strict.read(payloads_of({"choices": []})))
    assert strict.skipped == 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "-0", "1.5"])
def test_numbers_that_python_knows_are_no_harm_where_no_number_is_read(value):
    body = f'{{"choices": [], "logprob": {value}, "usage": {{"total_tokens": 3}}}}'
    assert chunk(body).usage == TokenUsage(total_tokens=3)


def test_a_text_nested_as_deep_as_json_can_be_read_is_no_harm():
    for depth in (10, 100, 300, 900, 2000):
        deep = '{"choices": [{"delta": {"reasoning": %s, "content": "a"}}]}' % ("[" * depth + "]" * depth)
        try:
            assert chunk(deep).choices == (ChoiceDelta(text="a"),)
        except ProtocolViolation:
            assert depth > 100


ODD = [None, 5, 1.5, True, "x", [], [5], ["x"], [[]], [None], {}, {"x": 5}, [{"x": 5}], {"x": {}}]
PLACES = [
    '{"choices": %s}',
    '{"choices": [%s]}',
    '{"choices": [%s, {"delta": {}, "finish_reason": "stop"}]}',
    '{"choices": [{"index": %s, "delta": {"content": "a"}}]}',
    '{"choices": [{"delta": %s, "finish_reason": "stop"}]}',
    '{"choices": [{"message": %s}]}',
    '{"choices": [{"delta": {"content": %s}}]}',
    '{"choices": [{"delta": {"content": [{"text": %s, "thinking": %s}]}}]}',
    '{"choices": [{"delta": {"reasoning_content": %s, "reasoning_details": %s}}]}',
    '{"choices": [{"delta": {"refusal": %s}}]}',
    '{"choices": [{"delta": {"tool_calls": %s}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"index": %s, "id": %s, "function": {"name": %s, "arguments": %s}}]}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"function": %s}, {"custom": %s}]}}]}',
    '{"choices": [{"delta": {"function_call": %s}}]}',
    '{"choices": [{"delta": {}, "finish_reason": %s, "error": %s, "usage": %s}]}',
    '{"id": %s, "model": %s, "usage": %s, "x_groq": %s, "choices": []}',
    '{"usage": {"prompt_tokens": %s, "prompt_tokens_details": %s}, "choices": []}',
    '{"base_resp": %s}',
    '{"base_resp": {"status_code": %s, "status_msg": %s}}',
    '{"error": %s}',
    '{"error": {"message": %s, "code": %s, "type": %s, "metadata": %s}}',
    '{"error": {"message": "no", "metadata": {"raw": %s}}}',
    '{"error": "no", "message": %s, "code": %s, "error_type": %s}',
    '{"detail": %s, "type": %s}',
    '{"detail": [{"msg": %s, "loc": %s}]}',
    '{"detail": [{"msg": "no", "loc": %s}]}',
    '{"message": %s}',
    "[%s]",
]


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_value_in_any_place_gives_values_of_the_right_type_or_a_protocol_violation(place):
    for value in ODD:
        text = place.replace("%s", json.dumps(value))
        assert isinstance(error_of_body(text).message, str)
        try:
            chunks = [*reader(text), *ChunkReader().read([BodyPayload("error", text)])]
        except ProtocolViolation:
            continue
        for read in chunks:
            assert_types(read)


def assert_types(read: Chunk) -> None:
    assert isinstance(read.response_id, (str, type(None)))
    assert isinstance(read.model, (str, type(None)))
    assert all(type(count) is int or count is None for count in usage_counts(read.usage))
    for one in read.choices:
        assert type(one.choice) is int
        assert all(isinstance(text, str) for text in (one.text, one.reasoning, one.refusal))
        assert isinstance(one.finish_reason, (str, type(None)))
        for fragment in one.calls:
            assert type(fragment.call_index) is int or fragment.call_index is None
            assert isinstance(fragment.arguments, str)
            assert all(isinstance(text, (str, type(None))) for text in (fragment.call_id, fragment.name))
    if read.error:
        assert isinstance(read.error.message, str)
        assert isinstance(read.error.code, (str, int, type(None)))
        assert isinstance(read.error.type, (str, type(None)))


def usage_counts(usage: TokenUsage | None) -> tuple[object, ...]:
    return tuple(getattr(usage, name) for name in TokenUsage.__slots__) if usage else ()
