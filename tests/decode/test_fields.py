"""Token counts, and the extra fields that servers send beside text and calls."""

from __future__ import annotations

import json

import pytest

from chatstream import TokenUsage, Turn, collect, read_events
from chatstream._decode.chunk import ChoiceDelta, Chunk
from chatstream._decode.machine import Machine


def usage_of(usage: dict) -> TokenUsage | None:
    """The token usage of an answer that reports this object once."""
    return turn_of(choice("stop"), {"choices": [], "usage": usage}).token_usage


def test_usage_is_read_in_the_names_and_details_of_openai():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert usage_of(usage) == TokenUsage(9, 4, 5, 2, 14)


def test_usage_is_read_in_the_names_of_anthropic_that_some_gateways_keep():
    assert usage_of({"input_tokens": 9, "output_tokens": 5}) == TokenUsage(9, None, 5, None, None)


SPELLINGS = {
    "input_tokens": [{"prompt_tokens": 7}, {"input_tokens": 7}, {"prompt_tokens": None, "input_tokens": 7}],
    "output_tokens": [{"completion_tokens": 7}, {"output_tokens": 7}],
    "total_tokens": [{"total_tokens": 7}, {"total_tokens": 7.0}],
    "cached_input_tokens": [
        {"prompt_tokens_details": {"cached_tokens": 7}},
        {"input_tokens_details": {"cached_tokens": 7.0}},
        {"prompt_tokens_details": {"cached_tokens": None}, "cached_tokens": 7},
        {"cached_tokens": 7},
        {"prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 2},
        {"cache_read_input_tokens": 7},
    ],
    "reasoning_output_tokens": [
        {"completion_tokens_details": {"reasoning_tokens": 7}},
        {"output_tokens_details": {"reasoning_tokens": 7}},
        {"completion_tokens_details": None, "reasoning_tokens": 7},
        {"reasoning_tokens": 7},
    ],
}


@pytest.mark.parametrize(
    ("name", "usage"), [(name, usage) for name, usages in SPELLINGS.items() for usage in usages], ids=repr
)
def test_a_count_is_read_in_each_of_its_spellings_and_the_object_is_kept(name, usage):
    chunks = [
        [choice("stop"), {"choices": [], "usage": usage}],
        [choice("stop") | {"usage": usage}],
        [choice("stop"), {"choices": [], "x_groq": {"usage": usage}}],
        [choice("stop", usage=usage)],
        [choice(delta={"content": "a"}, usage=usage), choice("stop")],
        [choice("stop"), {"choices": [], "usage": {**usage, "cost": 0.5}}, {"choices": [], "usage": None}],
    ]
    for each in chunks:
        found = turn_of(*each).token_usage
        assert found in (TokenUsage(**{name: 7}), TokenUsage(**{name: 7}, cost=0.5))
        assert found is not None
        assert usage.items() <= found.raw.items()


def test_the_last_count_is_used_though_it_is_spelled_in_another_way():
    reports = [
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}},
        {"input_tokens": 7, "cached_tokens": 4},
    ]
    turn = turn_of(*({"choices": [], "usage": report} for report in reports), choice("stop"))
    assert turn.token_usage == TokenUsage(7, 4)
    turn = turn_of(choice("stop") | {"usage": {"prompt_tokens": None}, "x_groq": {"usage": {"prompt_tokens": 3}}})
    assert turn.token_usage == TokenUsage(3)


def test_usage_in_the_second_choice_is_read():
    body = choice("stop") | {"choices": [{"index": i, "delta": {}, "finish_reason": "stop"} for i in (0, 1)]}
    body["choices"][1]["usage"] = {"total_tokens": 3}
    assert turn_of(body).token_usage == TokenUsage(total_tokens=3)


def test_usage_has_none_for_missing_and_invalid_counts():
    assert usage_of({"prompt_tokens": 9, "prompt_tokens_details": None}) == TokenUsage(input_tokens=9)
    assert usage_of({"prompt_tokens": "9", "total_tokens": 1.5, "completion_tokens": True, "x": 1}) is None


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": "9"},
        {"prompt_tokens": 1.5},
        {"prompt_tokens_details": [1]},
        {"prompt_tokens_details": {"cached_tokens": None}},
        {"cost": 0.1, "num_sources_used": 3},
    ],
    ids=repr,
)
def test_a_report_without_counts_is_no_usage(usage):
    assert usage_of(usage) is None


def test_the_sum_of_the_reports_of_two_choices_has_the_counts_that_any_report_has():
    reports = [
        {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
        {"prompt_tokens": 2, "reasoning_tokens": 7, "total_tokens": 6},
    ]
    chunks = [choice("stop"), choice("stop", 1), *({"choices": [], "usage": report} for report in reports)]
    assert turn_of(*chunks).token_usage == TokenUsage(3, None, 3, 7, 10)


def turn_of(*chunks: dict) -> Turn:
    lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    return collect(read_events([*lines, b"data: [DONE]\n\n"]))


def choice(finish_reason: str | None = None, index: int = 0, delta: dict | None = None, **more: object) -> dict:
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish_reason, **more}]}


def test_the_logprobs_of_all_chunks_are_joined_in_the_extra_of_the_turn():
    first = {"content": [{"token": "a", "logprob": -0.1}], "refusal": None}
    second = {"content": [{"token": "b", "logprob": -0.2}], "refusal": None}
    turn = turn_of(
        choice(delta={"content": "a"}, logprobs=first), choice(delta={"content": "b"}, logprobs=second), choice("stop")
    )
    assert turn.text == "ab"
    assert turn.extra["logprobs"] == {"content": first["content"] + second["content"], "refusal": None}


def test_the_citations_of_the_last_chunk_replace_earlier_ones_as_perplexity_sends_them():
    chunks = [{**choice(delta={"content": "x"}), "citations": ["u1"]}, {**choice("stop"), "citations": ["u1", "u2"]}]
    assert turn_of(*chunks).extra["citations"] == ["u1", "u2"]


def test_citations_sent_only_with_a_text_chunk_are_kept():
    assert turn_of({**choice(delta={"content": "x"}), "citations": ["u1"]}, choice("stop")).extra["citations"] == ["u1"]


def test_the_annotations_of_all_deltas_are_joined():
    notes = [{"type": "url_citation", "url": "u1"}, {"type": "url_citation", "url": "u2"}]
    turn = turn_of(*(choice(delta={"content": "x", "annotations": [note]}) for note in notes), choice("stop"))
    assert turn.extra["annotations"] == notes


def test_the_pieces_of_audio_data_and_transcript_are_joined():
    pieces = [{"id": "a1", "transcript": "Hel"}, {"transcript": "lo", "data": "AA"}, {"data": "BB", "expires_at": 9}]
    turn = turn_of(*(choice(delta={"audio": piece}) for piece in pieces), choice("stop"))
    assert turn.extra["audio"] == {"id": "a1", "transcript": "Hello", "data": "AABB", "expires_at": 9}


def test_each_choice_has_its_own_logprobs_and_the_extra_of_the_response():
    turn = turn_of(
        choice("stop", 0, logprobs={"content": [1]}),
        choice("stop", 1, logprobs={"content": [2]}) | {"timings": {"n": 1}},
    )
    assert [dict(each.extra) for each in turn.choices] == [
        {"timings": {"n": 1}, "logprobs": {"content": [1]}},
        {"timings": {"n": 1}, "logprobs": {"content": [2]}},
    ]


def test_the_extra_of_the_turn_leaves_out_strings_numbers_and_empty_values():
    body = {"object": "chunk", "created": 1, "seed": None, "warnings": [], "timings": {"n": 1}, "model": "m"}
    assert turn_of(choice("stop") | body).extra == {"timings": {"n": 1}}
    assert turn_of(choice("stop") | {"model": "m"}).extra == {}


def test_joining_nested_extra_fields_does_not_modify_the_chunks():
    machine = Machine()
    first, second = {"a": [1], "b": "x", "c": {"d": [1]}}, {"a": [2], "b": None, "c": {"d": [2], "e": 1}}
    list(machine.read([Chunk((ChoiceDelta(extra=extra),)) for extra in (first, second)]))
    assert machine.snapshot().choices[0].extra == {"a": [1, 2], "b": "x", "c": {"d": [1, 2], "e": 1}}
    assert first == {"a": [1], "b": "x", "c": {"d": [1]}}
