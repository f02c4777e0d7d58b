"""Payloads → chunks: every format that is supported, with a server that uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support import computing_at_most

from chatstream._decode.chunk import BodyPayload, CallDelta, ChoiceDelta, Chunk, ErrorDetail, PlainPayload
from chatstream._decode.chunks import ChunkReader
from chatstream._decode.error_body import error_of_body
from chatstream._decode.machine import Machine
from chatstream.errors import MAX_EXCERPT, ProtocolViolation
from chatstream.types.events import TokenUsage
from chatstream.types.parts import Other, OutputImage

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "9" * 5000  # more digits than Python converts to an int


def payloads_of(*data: str | dict[str, Any]) -> list[PlainPayload]:
    texts = [text if isinstance(text, str) else json.dumps(text) for text in data]
    return [PlainPayload("message", text) for text in texts]


def read_chunks(*data: str | dict[str, Any]) -> Iterator[Chunk]:
    return ChunkReader().read(payloads_of(*data))


def chunk(data: str | dict[str, Any]) -> Chunk:
    (only,) = read_chunks(data)
    return only


def raw(data: str | dict[str, Any]) -> dict[str, Any] | None:
    reader = ChunkReader()
    list(reader.read(payloads_of(data)))
    return reader.raw


def choice(**fields: Any) -> ChoiceDelta:
    """The choice as parsed, without ``finish_kind`` and ``extra``."""
    (only,) = chunk({"choices": [{"index": 0, **fields}]}).choices
    return only._replace(finish_kind=None, extra=None)


def delta(**fields: Any) -> ChoiceDelta:
    return choice(delta=fields, finish_reason=None)


def call(**fields: Any) -> CallDelta:
    (only,) = delta(tool_calls=[fields]).calls
    return only


def error(data: str | dict[str, Any], event: str = "message") -> ErrorDetail | None:
    text = data if isinstance(data, str) else json.dumps(data)
    (only,) = ChunkReader().read([PlainPayload(event, text)])
    return only.error


# ── common chunks and other payloads ────────────────────────────────────────────────────────────────────────────


def test_all_fields_of_an_openai_chunk_are_parsed():
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
    parsed = chunk(body)
    assert parsed.choices == (ChoiceDelta(text="Hi"),)
    assert (parsed.response_id, parsed.model, raw(body)) == ("chatcmpl-1", "gpt-4.1-mini", body)
    assert (parsed.usage, parsed.error, parsed.done) == (None, None, False)


def test_unknown_objects_and_lists_are_kept_in_extra_and_all_fields_in_raw():
    body = {
        "choices": [{"index": 0, "delta": {"content": "a", "annotations": [1], "x": 5}, "logprobs": {"content": [2]}}],
        "timings": {"n": 3},
        "system_fingerprint": "fp",
        "note": "a string",
    }
    parsed = chunk(body)
    assert raw(body) == body
    assert parsed.extra == {"timings": {"n": 3}}
    assert parsed.choices[0].extra == {"annotations": [1], "logprobs": {"content": [2]}}


@pytest.mark.parametrize(
    "fields", [{}, {"logprobs": None}, {"logprobs": {}}, {"annotations": []}, {"x": 5}, {"x": "a"}], ids=repr
)
def test_unknown_strings_numbers_and_empty_values_are_left_out_of_extra(fields):
    (parsed,) = chunk(
        {"choices": [{"index": 0, "delta": {"content": "a", **fields}, "finish_reason": None, **fields}]}
    ).choices
    assert not parsed.extra


@pytest.mark.parametrize("data", ["[DONE]", "DONE", " [DONE]", "[DONE]\n"])
def test_done_ends_the_stream_with_or_without_brackets(data):
    assert list(read_chunks(data)) == [Chunk(done=True)]


@pytest.mark.parametrize("data", ["", " ", "\n"])
def test_an_event_with_blank_data_yields_no_chunk(data):
    assert list(read_chunks(data)) == []


def test_seen_counts_every_payload_including_those_that_are_not_chunks():
    payloads = [("ping", "-"), ("message", ""), ("message", "{}"), ("message", "[DONE]")]
    reader = ChunkReader()
    counts = [reader.seen for _ in reader.read([PlainPayload(*each) for each in payloads])]
    assert counts == [3, 4]


@pytest.mark.parametrize("data", ["", " ", "[DONE]"])
def test_raw_is_none_for_data_that_is_not_a_json_object(data):
    assert raw(data) is None


def test_raw_is_the_only_object_of_a_json_list():
    assert raw([{"error": {"message": "no"}}]) == {"error": {"message": "no"}}


@pytest.mark.parametrize("name", ["ping", "keepalive", "completion", "Error", "errors", ""])
def test_events_of_other_names_are_ignored_whatever_their_data(name):
    texts = (
        "",
        "-",
        "null",
        "{",
        "{}",
        '{"error": {"message": "no"}}',
        '{"message": "no", "code": 500}',
        "[DONE]",
        DEEP,
    )
    assert list(ChunkReader().read([PlainPayload(name, text) for text in texts])) == []


@pytest.mark.parametrize("name", ["ping", "completion", "chat.completion.chunk", "Error", "error", ""])
def test_an_event_of_any_name_whose_json_has_choices_is_a_chunk(name):
    text = '{"choices": [{"delta": {"content": "%s"}}]}'
    payloads = [PlainPayload(name, text % word) for word in ("a", "b", "c", "d", "e")]
    reader = ChunkReader()
    assert [parsed.choices for parsed in reader.read(payloads)] == [(ChoiceDelta(0, word),) for word in "abcde"]
    assert reader.raw == json.loads(text % "e")
    assert [parsed.choices for parsed in ChunkReader().read([PlainPayload(name, '{"choices": []}')])] == [()]


@pytest.mark.parametrize("data", ['{"choices": []} ', '{"choices": []}\n\n', ' {"choices": []}', '\n\t{"choices": []}'])
def test_whitespace_around_the_json_is_ignored(data):
    assert chunk(data).choices == ()
    assert raw(data) == {"choices": []}


# ── choices ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body", [{}, {"choices": None}, {"choices": []}, {"choices": {}}, {"choices": "none"}], ids=repr
)
def test_a_chunk_without_choices_is_accepted_as_azure_and_others_send_it(body):
    assert chunk({"id": "1", "prompt_filter_results": [], **body}).choices == ()


@pytest.mark.parametrize(
    "fields", [{}, {"delta": None}, {"delta": {}}, {"delta": "?"}, {"content_filter_offsets": {}}], ids=repr
)
def test_a_choice_without_a_delta_adds_nothing_as_azure_sends_it(fields):
    assert choice(**fields) == ChoiceDelta()


def test_a_choice_without_an_index_is_the_first_choice():
    assert chunk({"choices": [{"delta": {"content": "a"}}]}).choices == (ChoiceDelta(0, "a"),)
    assert chunk({"choices": [{"index": None, "delta": {"content": "a"}}]}).choices == (ChoiceDelta(0, "a"),)


@pytest.mark.parametrize("index", ["1", [1], {"n": 1}, 1.5, True], ids=repr)
def test_a_choice_whose_index_is_not_an_integer_is_the_first_choice(index):
    assert chunk({"choices": [{"index": index, "delta": {"content": "a"}}]}).choices == (ChoiceDelta(0, "a"),)


def test_several_choices_in_one_chunk_may_come_in_any_order():
    body = {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]}
    assert chunk(body).choices == (ChoiceDelta(1, "b"), ChoiceDelta(0, "a"))


@pytest.mark.parametrize("body", [{}, {"id": "", "model": ""}, {"id": None, "model": None}], ids=repr)
def test_a_missing_or_empty_id_and_model_are_none_as_azure_tgi_and_gemini_send_them(body):
    parsed = chunk({"choices": [], "object": "", **body})
    assert (parsed.response_id, parsed.model) == (None, None)


def test_an_id_and_a_model_that_are_not_strings_are_none():
    parsed = chunk({"choices": [], "id": 7, "model": {"name": "m"}})
    assert (parsed.response_id, parsed.model) == (None, None)


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [None, "", [], {}, 5, False], ids=repr)
def test_content_that_is_neither_a_string_nor_parts_adds_no_text(content):
    assert delta(role="assistant", content=content) == ChoiceDelta()


def test_the_text_of_parts_and_strings_in_content_is_joined_as_mistral_sends_it():
    assert delta(content=[{"type": "text", "text": "a"}, "b", {"text": "c"}, 7, None]) == ChoiceDelta(text="abc")


def test_a_part_that_is_no_text_is_kept_whole_between_the_texts_as_mistral_sends_it():
    reference = {"type": "reference", "reference_ids": [1]}
    parts = [{"type": "text", "text": "a"}, "b", reference, 7, None, {"type": "text", "text": "c"}]
    assert delta(content=parts) == ChoiceDelta(parts=("a", "b", Other(reference), "c"))


def test_thinking_parts_are_parsed_as_reasoning_as_mistral_sends_it():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "text", "text": "m."}]}
    assert delta(content=[thinking, {"type": "text", "text": "Yes"}]) == ChoiceDelta(text="Yes", reasoning="Hmm.")


def test_a_message_beside_the_delta_is_ignored_because_perplexity_repeats_the_text_there():
    assert choice(delta={"content": "b"}, message={"content": "ab"}).text == "b"
    assert choice(delta={"content": ""}, message={"content": "ab"}).text == ""


def test_a_text_field_beside_the_delta_is_ignored_because_together_repeats_the_text_there():
    assert choice(delta={"content": "a"}, text="a").text == "a"
    assert choice(delta={}, text="a").text == ""


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        pytest.param({"index": None}, {}, id="a null index"),
        pytest.param({"index": "0"}, {}, id="an index that is a string"),
        pytest.param({"finish_reason": "stop"}, {}, id="a finish reason"),
        pytest.param({"logprobs": {"content": [1]}}, {}, id="logprobs"),
        pytest.param({"content_filter_results": {"a": 1}}, {}, id="an unknown object in the choice"),
        pytest.param({}, {"usage": {"total_tokens": 3}}, id="usage"),
        pytest.param({}, {"citations": ["u"]}, id="an unknown list beside the choices"),
        pytest.param({}, {"error": {"message": "no"}}, id="an error"),
    ],
)
def test_text_is_parsed_together_with_the_other_fields_of_its_chunk(fields, more):
    full_choice = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None, **fields}
    parsed = chunk({"id": "r1", "model": "m1", "choices": [full_choice], **more})
    assert (parsed.response_id, parsed.model) == ("r1", "m1")
    (one,) = parsed.choices
    assert (one.choice, one.text, one.finish_reason) == (0, "a", fields.get("finish_reason"))
    assert bool(one.extra) == bool(fields.keys() & {"logprobs", "content_filter_results"})
    assert (parsed.usage is not None, bool(parsed.extra), parsed.error is not None) == (
        "usage" in more,
        "citations" in more,
        "error" in more,
    )


def test_a_completion_that_is_not_streamed_is_marked_as_done():
    full_choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    bodies = [{"choices": [full_choice]}, {"choices": [full_choice, {**full_choice, "index": 1}]}, {"choices": []}]
    payloads = [BodyPayload("message", json.dumps(body)) for body in bodies]
    assert [parsed.done for parsed in ChunkReader().read(payloads)] == [True, True, False]


def test_an_event_with_a_message_instead_of_a_delta_is_not_marked_as_done():
    full_choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    assert not chunk({"choices": [full_choice]}).done
    assert not chunk({"choices": [full_choice, {**full_choice, "index": 1}]}).done
    assert not chunk({"choices": [{**full_choice, "delta": {}}]}).done


def test_a_completion_that_is_not_streamed_is_parsed_from_its_message():
    message = {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}
    assert choice(message=message, finish_reason="stop") == ChoiceDelta(
        text="Hi", calls=(CallDelta(None, "c", "f"),), finish_reason="stop"
    )
    assert choice(message=None, finish_reason="stop") == ChoiceDelta(finish_reason="stop")


def test_text_in_the_chunk_with_the_finish_reason_is_parsed():
    assert choice(delta={"content": "."}, finish_reason="stop") == ChoiceDelta(text=".", finish_reason="stop")


def test_a_refusal_delta_is_parsed_as_openai_sends_it():
    assert delta(refusal="I can't", content=None) == ChoiceDelta(refusal="I can't")
    assert delta(refusal=None) == delta(refusal={"why": 1}) == ChoiceDelta()


# ── reasoning ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"reasoning_content": "Hm", "content": None}, id="DeepSeek, xAI, Z.ai, llama.cpp"),
        pytest.param({"reasoning": "Hm", "content": ""}, id="vLLM, Cerebras, Ollama, Groq"),
        pytest.param({"reasoning_text": "Hm"}, id="Copilot"),
        pytest.param({"reasoning_content": None, "reasoning": "Hm"}, id="a null under the first key"),
        pytest.param({"reasoning_content": "", "reasoning_text": "Hm"}, id="an empty string under the first key"),
        pytest.param({"reasoning": {"text": "Hm"}}, id="an object with text"),
        pytest.param({"reasoning": {"content": "Hm", "effort": 1}}, id="an object with content"),
        pytest.param(
            {"reasoning_details": [{"type": "reasoning.text", "text": "H"}, {"text": "m"}]}, id="reasoning_details"
        ),
        pytest.param(
            {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]}, id="a summary in reasoning_details"
        ),
        pytest.param({"reasoning_content": "Hm", "reasoning": "Hm"}, id="MiniMax, doubleword, Avian: two keys"),
        pytest.param(
            {"reasoning": "Hm", "reasoning_details": [{"text": "Hm"}]}, id="OpenRouter: reasoning and reasoning_details"
        ),
        pytest.param({"reasoning": "Hm", "content": [{"thinking": "Hm"}]}, id="a key and a thinking part"),
    ],
)
def test_reasoning_is_parsed_once_whichever_keys_carry_it(fields):
    details = tuple(fields.get("reasoning_details", ()))
    assert delta(**fields) == ChoiceDelta(reasoning="Hm", details=details)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": None},
        {"reasoning": {"effort": "high"}},
        {"reasoning": 5},
        {"reasoning_details": [None, "", 5]},
        {"reasoning_details": {}},
        {"reasoning_details": []},
        {"reasoning_details": ""},
    ],
    ids=repr,
)
def test_reasoning_without_text_is_ignored(fields):
    assert delta(**fields, content="Hi") == ChoiceDelta(text="Hi")


def test_the_entries_of_reasoning_details_are_kept_unchanged_even_without_text():
    details = [{"type": "reasoning.encrypted", "data": "gAAA", "index": 0}, {"signature": "s", "x": None}]
    assert delta(reasoning_details=[*details, None], content="Hi") == ChoiceDelta(text="Hi", details=tuple(details))


def test_think_tags_in_the_text_are_left_in_the_text_of_a_chunk():
    assert delta(content="<think>Hm</think>").text == "<think>Hm</think>"


# ── tool calls ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_fragments_of_a_call_are_parsed_as_openai_sends_them():
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
            {"index": 0, "id": "c", "function": {"name": "f"}},
            CallDelta(0, "c", "f"),
            id="Databricks, Copilot: no arguments",
        ),
        pytest.param(
            {"index": 1, "id": "c", "type": "", "function": {"name": "f"}},
            CallDelta(1, "c", "f"),
            id="Anthropic: indexes from 1",
        ),
        pytest.param(
            {"function": {"name": "f", "arguments": {"ä": 1}}},
            CallDelta(None, None, "f", '{"ä": 1}'),
            id="arguments that are an object",
        ),
        pytest.param({"function": {"arguments": []}}, CallDelta(arguments="[]"), id="arguments that are a list"),
        pytest.param(
            {"index": "0", "function": {"name": "f"}}, CallDelta(None, None, "f"), id="an index that is a string"
        ),
        pytest.param({"index": None, "id": 7, "function": {"name": 8}}, CallDelta(), id="an id that is not a string"),
        pytest.param({"index": 0, "function": None}, CallDelta(0), id="a null function"),
        pytest.param({"index": 0}, CallDelta(0), id="no function"),
        pytest.param({"index": 0, "function": "f"}, CallDelta(0), id="a function that is a string"),
        pytest.param(
            {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}},
            CallDelta(None, "c", "f", "x", custom=True),
            id="OpenAI: a custom tool call",
        ),
        pytest.param(
            {"id": "c", "sig": {"a": [1]}, "x": None, "function": {"name": "f", "arguments": "", "y": 2}},
            CallDelta(None, "c", "f", extra={"sig": {"a": [1]}, "x": None, "function": {"y": 2}}),
            id="unknown keys of the call and of its function",
        ),
    ],
)
def test_a_tool_call_is_parsed_in_the_format_of(fields, expected):
    assert call(**fields) == expected


def test_several_calls_in_the_chunk_with_the_finish_reason_are_parsed_as_mistral_sends_them():
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}, None, {"id": "b", "function": {"name": "g"}}]
    parsed = choice(delta={"tool_calls": calls}, finish_reason="tool_calls")
    assert parsed.calls == (CallDelta(None, "a", "f", "{}"), CallDelta(None, "b", "g"))
    assert parsed.finish_reason == "tool_calls"


@pytest.mark.parametrize("calls", [None, [], {}, 5, "none", [None], ["x"]], ids=repr)
def test_a_tool_calls_field_without_calls_is_ignored(calls):
    assert delta(tool_calls=calls, content="a") == ChoiceDelta(text="a")


def test_the_legacy_function_call_field_is_parsed_as_a_call_without_an_id():
    assert delta(function_call={"name": "f", "arguments": ""}).calls == (CallDelta(0, None, "f"),)
    assert delta(function_call={"arguments": "{}"}).calls == (CallDelta(0, arguments="{}"),)
    assert delta(function_call=None).calls == delta(function_call="f").calls == ()
    assert delta(function_call={"name": "old"}, tool_calls=[{"id": "c"}]).calls == (CallDelta(None, "c"),)


# ── finish reasons ──────────────────────────────────────────────────────────────────────────────────────────────

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
def test_finish_reason_is_the_string_that_the_server_sent(reason):
    assert choice(delta={}, finish_reason=reason, native_finish_reason="X") == ChoiceDelta(finish_reason=reason)


@pytest.mark.parametrize(
    "fields", [{}, {"finish_reason": None}, {"finish_reason": ""}, {"finish_reason": ["stop"]}], ids=repr
)
def test_a_missing_or_empty_finish_reason_is_none_as_cloudflare_and_snowflake_send_it(fields):
    assert choice(delta={"content": "a"}, **fields) == ChoiceDelta(text="a")


@pytest.mark.parametrize(
    ("finish_kind", "reasons"),
    [
        ("stop", "stop eos eos_token stop_sequence end_turn STOP"),
        ("length", "length max_tokens model_length max_output_tokens MAX_TOKENS"),
        ("tool_calls", "tool_calls tool_use function_call"),
        ("content_filter", "content_filter safety recitation SAFETY"),
        ("error", "insufficient_system_resource"),
        ("other", "unknown"),
    ],
)
def test_finish_kind_classifies_the_finish_reason(finish_kind, reasons):
    for reason in reasons.split():
        (parsed,) = chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).choices
        assert (parsed.finish_reason, parsed.finish_kind) == (reason, finish_kind)


def test_finish_kind_is_none_without_a_finish_reason():
    (parsed,) = chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": None}]}).choices
    assert parsed.finish_kind is None


# ── token usage ─────────────────────────────────────────────────────────────────────────────────────────────────


COUNTS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")


def counts(body: dict[str, Any]) -> TokenUsage | None:
    return counts_of(chunk(body))


def counts_of(parsed: Chunk) -> TokenUsage | None:
    """The counts in the ``usage`` object that a chunk keeps."""
    machine = Machine(None)
    list(machine.read([Chunk(usage=parsed.usage)]))
    return machine.snapshot().token_usage


def test_usage_is_parsed_with_its_cached_and_reasoning_tokens():
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert counts({"choices": [], "usage": usage}) == TokenUsage(10, 4, 5, 3, 15)
    assert chunk({"choices": [], "usage": usage}).usage == usage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            {"usage": {"prompt_tokens": 1, "completion_tokens": 0}},
            TokenUsage(1, None, 0),
            id="no total_tokens",
        ),
        pytest.param(
            {"usage": {"input_tokens": 1, "output_tokens": 2}},
            TokenUsage(1, None, 2),
            id="the names of the Responses API",
        ),
        pytest.param({"usage": {"prompt_tokens": 1, "prompt_tokens_details": None}}, TokenUsage(1), id="null details"),
        pytest.param(
            {"usage": {"prompt_tokens": 1, "completion_tokens_details": [1]}},
            TokenUsage(1),
            id="details that are a list",
        ),
        pytest.param(
            {"usage": {"prompt_tokens": None, "total_tokens": 3}}, TokenUsage(None, total_tokens=3), id="a null count"
        ),
        pytest.param(
            {"usage": {"prompt_tokens": "1", "completion_tokens": True, "total_tokens": 3}},
            TokenUsage(total_tokens=3),
            id="counts that are not integers",
        ),
        pytest.param({"usage": {"prompt_tokens": None, "total_tokens": None}}, None, id="only null counts"),
        pytest.param({"usage": None}, None, id="OpenAI: null until the end"),
        pytest.param({"usage": {}}, None, id="an empty object"),
        pytest.param({"usage": "none"}, None, id="a string"),
        pytest.param({}, None, id="no usage field"),
        pytest.param({"x_groq": {"id": "r", "usage": {"total_tokens": 3}}}, TokenUsage(total_tokens=3), id="Groq"),
        pytest.param({"x_groq": {"id": "r"}}, None, id="Groq: x_groq without usage"),
        pytest.param({"x_groq": None}, None, id="a null x_groq"),
        pytest.param({"x_groq": "r"}, None, id="x_groq that is a string"),
        pytest.param(
            {"usage": {"total_tokens": 4}, "x_groq": {"usage": {"total_tokens": 3}}},
            TokenUsage(total_tokens=4),
            id="Groq: usage and x_groq",
        ),
    ],
)
def test_usage_is_parsed_in_the_format_of(body, expected):
    assert counts({"choices": [{"delta": {}, "finish_reason": "stop"}], **body}) == expected
    assert counts({"choices": [], **body}) == expected


def test_usage_inside_a_choice_is_parsed_as_moonshot_sends_it():
    body = {"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"total_tokens": 3}}]}
    assert counts(body) == TokenUsage(total_tokens=3)
    assert counts({"choices": [None, *body["choices"]]}) == TokenUsage(total_tokens=3)


# ── errors in a stream ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"error": {"message": "no", "type": "t", "code": "c"}}, ErrorDetail("no", "c", "t"), id="OpenAI"),
        pytest.param(
            {"error": {"message": "no", "code": 400}, "choices": []},
            ErrorDetail("no", 400),
            id="llama.cpp: an integer code",
        ),
        pytest.param({"error": {"message": "no", "code": "400"}}, ErrorDetail("no", "400"), id="a code of digits"),
        pytest.param({"error": {"message": "no", "code": None, "type": None}}, ErrorDetail("no"), id="no code"),
        pytest.param({"error": {"message": "no", "code": ""}}, ErrorDetail("no"), id="an empty code"),
        pytest.param(
            {"error": {"message": "no", "code": {"a": 1}, "status_code": 400}},
            ErrorDetail("no", 400),
            id="a code that is an object",
        ),
        pytest.param({"error": {"code": 1}}, ErrorDetail('{"code": 1}', 1), id="no message"),
        pytest.param({"error": {}}, ErrorDetail("{}"), id="an empty error object"),
        pytest.param({"error": "no"}, ErrorDetail("no"), id="transformers: a string"),
        pytest.param({"error": "no", "error_type": "validation"}, ErrorDetail("no", None, "validation"), id="TGI"),
        pytest.param(
            {"error": "Bad", "message": "no", "status_code": 401}, ErrorDetail("no", 401), id="error and message"
        ),
        pytest.param({"error": 500}, ErrorDetail('{"error": 500}'), id="an error that is a number"),
        pytest.param({"error": ["no"]}, ErrorDetail('{"error": ["no"]}'), id="an error that is a list"),
        pytest.param(
            {"object": "error", "message": "no", "type": "t", "code": 40301},
            ErrorDetail("no", 40301, "t"),
            id="Mistral, vLLM",
        ),
        pytest.param({"detail": "no"}, ErrorDetail("no"), id="FastAPI: a detail string"),
        pytest.param({"detail": "no", "choices": []}, ErrorDetail("no"), id="a detail beside an empty list of choices"),
        pytest.param(
            {"choices": [{"index": 0, "delta": {}, "error": {"message": "no", "code": 400}}]},
            ErrorDetail("no", 400),
            id="an error in a choice without a finish reason",
        ),
        pytest.param(
            {"detail": [{"msg": "is missing", "loc": ["body", "model"]}]},
            ErrorDetail("body.model: is missing"),
            id="FastAPI: a detail list",
        ),
        pytest.param(
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
            ErrorDetail("rate limit", 1002),
            id="MiniMax",
        ),
        pytest.param(
            {"choices": None, "base_resp": {"status_code": 1004}},
            ErrorDetail("base_resp", 1004),
            id="MiniMax: no status_msg",
        ),
        pytest.param(
            {"choices": [{"delta": {"content": "a"}}], "error": {"message": "no", "code": 400}},
            ErrorDetail("no", 400),
            id="OpenRouter: an error beside the choices",
        ),
        pytest.param(
            {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "no", "code": 400}}]},
            ErrorDetail("no", 400),
            id="OpenRouter: an error in the choice",
        ),
        pytest.param(
            {"choices": [{"delta": {}, "finish_reason": "error"}]},
            ErrorDetail("the server ended the answer with finish_reason 'error'", "error"),
            id="OpenRouter: only the finish reason",
        ),
    ],
)
def test_an_error_in_the_stream_is_parsed_in_the_format_of(body, expected):
    assert error(body) == expected


def test_an_error_beside_choices_does_not_change_the_choices():
    body = {"choices": [{"delta": {"content": "a"}, "finish_reason": "error"}], "error": {"message": "no"}}
    (parsed,) = chunk(body).choices
    assert (parsed.text, parsed.finish_reason) == ("a", "error")


@pytest.mark.parametrize(
    "body",
    [
        {"error": None, "choices": []},
        {"error": None},
        {"choices": [{"delta": {"content": "a"}}], "detail": "not an error"},
        {"choices": [{"delta": {"content": "a"}}], "error": None},
        {"choices": [{"delta": {"content": "a"}}], "error": None, "detail": "not an error"},
        {"choices": [{"delta": {"content": "a"}}], "error": None, "message": "not an error", "status": "running"},
        {"choices": [{"delta": {}, "finish_reason": "stop", "error": None}]},
        {"choices": None, "base_resp": {"status_code": 0, "status_msg": ""}},
        {"choices": None, "base_resp": None},
        {"id": "1", "object": "chat.completion.chunk"},
    ],
    ids=repr,
)
def test_no_error_is_found_in_a_chunk_that_reports_none(body):
    assert error(body) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            '{"error": {"message": "no", "code": "tool_use_failed"}}', ErrorDetail("no", "tool_use_failed"), id="Groq"
        ),
        pytest.param('{"message": "no", "code": 400}', ErrorDetail("no", 400), id="message and code at the top level"),
        pytest.param('"no"', ErrorDetail('"no"'), id="a JSON string"),
        pytest.param("no", ErrorDetail("no"), id="text that is not JSON"),
        pytest.param('{"a": []}', ErrorDetail('{"a": []}'), id="an object without a message"),
        pytest.param("", ErrorDetail(""), id="empty data"),
        pytest.param(
            '{"a": ' + HUGE + "}",
            ErrorDetail(('{"a": ' + HUGE)[: MAX_EXCERPT - 3] + "…"),
            id="a number with too many digits",
        ),
        pytest.param(DEEP, ErrorDetail(DEEP[: MAX_EXCERPT - 3] + "…"), id="JSON nested too deeply"),
    ],
)
def test_an_event_named_error_is_an_error_whatever_its_data(data, expected):
    assert error(data, "error") == expected


def test_an_error_in_a_list_of_one_is_parsed_as_gemini_sends_it():
    assert error('[{"error": {"message": "no", "code": 400, "status": "INVALID"}}]') == ErrorDetail("no", 400)


@pytest.mark.parametrize(
    ("code", "kind", "retryable", "quota"),
    [
        (429, None, True, False),
        ("429", None, True, False),
        (408, None, True, False),
        (409, None, True, False),
        (500, None, True, False),
        (529, None, True, False),
        (400, "server_error", False, False),  # a code that is an HTTP status takes precedence
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
def test_the_code_and_type_of_an_error_decide_whether_it_is_retryable_and_whether_the_quota_is_exhausted(
    code, kind, retryable, quota
):
    parsed = error({"error": {"message": "no", "code": code, "type": kind}})
    assert parsed == ErrorDetail("no", code, kind, retryable, quota)


# ── error bodies ────────────────────────────────────────────────────────────────────────────────────────────────


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
        pytest.param('{"detail": {"message": "no"}}', ErrorDetail("no"), id="a detail object with a message"),
        pytest.param('{"detail": {"why": "no"}}', ErrorDetail('{"why": "no"}'), id="a detail object"),
        pytest.param('{"detail": [{"msg": "no", "loc": 5}]}', ErrorDetail("no"), id="a loc that is not a list"),
        pytest.param('{"code": 400, "message": "no", "type": "t"}', ErrorDetail("no", 400, "t"), id="doubleword"),
        pytest.param(
            '{"error": {"code": 400, "detail": "no"}}', ErrorDetail("no", 400), id="a detail inside the error"
        ),
        pytest.param(
            '{"error": {"message": "Provider returned error", "code": 400, "metadata":'
            ' {"raw": "{\\"error\\": {\\"message\\": \\"no\\"}}", "provider_name": "X"}}, "user_id": "u"}',
            ErrorDetail("Provider returned error: no", 400),
            id="OpenRouter",
        ),
        pytest.param(
            '{"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "no"}}}',
            ErrorDetail("Provider returned error: no", 400),
            id="OpenRouter: raw text",
        ),
        pytest.param(
            '{"error": {"code": 400, "metadata": {"raw": "no"}}}',
            ErrorDetail("no", 400),
            id="OpenRouter: raw text without a message",
        ),
        pytest.param(
            '{"error": {"message": "no", "metadata": {"raw": {"a": 1}}}}',
            ErrorDetail("no"),
            id="OpenRouter: raw that is an object",
        ),
        pytest.param('[{"error": {"code": 400, "message": "no"}}]', ErrorDetail("no", 400), id="Gemini"),
        pytest.param("no healthy upstream", ErrorDetail("no healthy upstream"), id="Envoy: a text body"),
        pytest.param(
            "<html>\n<head><title>502 Bad Gateway</title></head><h1>x</h1>",
            ErrorDetail("502 Bad Gateway"),
            id="nginx: an HTML page",
        ),
        pytest.param(
            "<html><body><h1>503 Service &lt;Un&gt; available</h1>\nNo server</body>",
            ErrorDetail("503 Service <Un> available"),
            id="HAProxy: an HTML page",
        ),
        pytest.param("<HTML><TITLE lang='en'>\n Oops \n</TITLE>", ErrorDetail("Oops"), id="HTML tags in capitals"),
        pytest.param("<p>Oops</p>", ErrorDetail("<p>Oops</p>"), id="HTML without a title"),
        pytest.param("", ErrorDetail(""), id="Caddy: an empty body"),
        pytest.param('"no"', ErrorDetail('"no"'), id="a JSON string"),
        pytest.param("[]", ErrorDetail("[]"), id="an empty list"),
        pytest.param('{"a": 1}', ErrorDetail('{"a": 1}'), id="an unknown object"),
        pytest.param('{"error": "no"', ErrorDetail('{"error": "no"'), id="incomplete JSON"),
        pytest.param(
            '{"code": ' + HUGE + "}",
            ErrorDetail(('{"code": ' + HUGE)[: MAX_EXCERPT - 3] + "…"),
            id="a number with too many digits",
        ),
    ],
)
def test_an_error_body_is_parsed_in_the_format_of(body, expected):
    assert error_of_body(body) == expected


@pytest.mark.parametrize(
    "body",
    ["x" * 60_000, "<title>" + "x" * 60_000 + "</title>", json.dumps({"error": {"a": "x" * 60_000}}), DEEP],
    ids=["text", "HTML title", "JSON error", "deeply nested JSON"],
)
def test_the_message_of_an_error_body_is_at_most_2_kb(body):
    assert len(error_of_body(body).message) <= MAX_EXCERPT


@pytest.mark.parametrize(
    "page",
    ["<title>" * 9000, "<title" * 10_000, "<title>" + " " * 60_000, "<h1>" + " \n" * 30_000 + "</h2>"],
    ids=lambda page: page[:14],
)
def test_a_malformed_html_page_is_searched_for_its_title_in_under_a_second(page):
    with computing_at_most(1):
        assert error_of_body(page).message.startswith(page[:4])


# ── data that is not a chunk ────────────────────────────────────────────────────────────────────────────────────

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
def test_data_that_is_not_a_chunk_raises_protocol_violation_with_an_excerpt_of_at_most_2_kb(data):
    undecodable = chunk(data)
    assert undecodable == Chunk(undecodable=undecodable.undecodable)
    with pytest.raises(ProtocolViolation, match="an event is not a chunk") as caught:
        list(Machine().read([undecodable]))
    assert data[:10] in str(caught.value)
    assert len(str(caught.value)) < MAX_EXCERPT + 300


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:40]))
def test_data_that_is_not_a_chunk_is_not_in_raw(data):
    reader = ChunkReader()
    list(reader.read(payloads_of({"choices": []}, data)))
    assert reader.raw == {"choices": []}


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:40]))
def test_data_that_is_not_a_chunk_is_skipped_and_counted_with_skip_undecodable(data):
    reader = ChunkReader(skip_undecodable=True)
    chunks = reader.read(payloads_of({"choices": []}, data, data, "[DONE]"))
    assert [parsed.done for parsed in chunks] == [False, True]
    assert reader.skipped == 2


def test_no_event_is_counted_as_skipped_by_default():
    reader = ChunkReader()
    list(reader.read(payloads_of({"choices": []})))
    assert reader.skipped == 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "-0", "1.5"])
def test_unusual_json_numbers_are_accepted_in_fields_that_are_not_read(value):
    body = f'{{"choices": [], "logprob": {value}, "usage": {{"total_tokens": 3}}}}'
    assert counts(json.loads(body)) == TokenUsage(total_tokens=3)
    assert chunk(body).usage == {"total_tokens": 3}


def test_deeply_nested_json_is_parsed_or_raises_protocol_violation():
    for depth in (10, 100, 300, 900, 2000):
        deep = '{"choices": [{"delta": {"reasoning": %s, "content": "a"}}]}' % ("[" * depth + "]" * depth)
        parsed = chunk(deep)
        assert bool(parsed.undecodable) != (parsed.choices == (ChoiceDelta(text="a"),))
        assert depth > 100 or not parsed.undecodable


UNEXPECTED = [None, 5, 1.5, True, "x", [], [5], ["x"], [[]], [None], {}, {"x": 5}, [{"x": 5}], {"x": {}}]
TEMPLATES = [
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
    '{"choices": [{"delta": {"tool_calls": [{"type": %s, "function": {"name": "f", "input": %s}}]}}]}',
    '{"choices": [{"delta": {"images": %s, "audio": %s}, "logprobs": %s}]}',
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


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_unexpected_value_in_any_field_yields_values_of_the_right_type(template):
    for value in UNEXPECTED:
        text = template.replace("%s", json.dumps(value))
        assert isinstance(error_of_body(text).message, str)
        payloads = [PlainPayload("error", text), PlainPayload("other", text), BodyPayload("message", text)]
        for parsed in [*read_chunks(text), *ChunkReader().read(payloads)]:
            assert_types(parsed)


def assert_types(parsed: Chunk) -> None:
    assert isinstance(parsed.response_id, (str, type(None)))
    assert isinstance(parsed.model, (str, type(None)))
    assert isinstance(parsed.usage, (dict, type(None)))
    usage = counts_of(parsed)
    assert all(type(count) is int or count is None for count in (getattr(usage, name, None) for name in COUNTS))
    assert isinstance(parsed.note, str)
    assert isinstance(parsed.undecodable, str)
    for one in parsed.choices:
        assert type(one.choice) is int
        assert all(isinstance(text, str) for text in (one.text, one.reasoning, one.refusal))
        assert isinstance(one.finish_reason, (str, type(None)))
        assert all(isinstance(part, (str, OutputImage, Other)) for part in one.parts)
        assert all(type(entry) is dict for entry in one.details)
        for fragment in one.calls:
            assert type(fragment.call_index) is int or fragment.call_index is None
            assert isinstance(fragment.arguments, str)
            assert isinstance(fragment.extra, (dict, type(None)))
            assert all(isinstance(text, (str, type(None))) for text in (fragment.call_id, fragment.name))
    if parsed.error:
        assert isinstance(parsed.error.message, str)
        assert isinstance(parsed.error.code, (str, int, type(None)))
        assert isinstance(parsed.error.type, (str, type(None)))
