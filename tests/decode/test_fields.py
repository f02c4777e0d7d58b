"""Token counts, and the extra fields that servers send beside text and calls."""

from __future__ import annotations

import json

import pytest

from chatstream import TokenUsage, Turn, collect, read_events
from chatstream._decode.fields import extra_of, join_extra, total, usage_of


def test_usage_of_reads_the_names_and_details_of_openai():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert usage_of(usage) == TokenUsage(9, 4, 5, 2, 14)


def test_usage_of_reads_the_names_of_anthropic_that_some_gateways_keep():
    assert usage_of({"input_tokens": 9, "output_tokens": 5}) == TokenUsage(9, None, 5, None, None)


def test_usage_of_leaves_missing_and_invalid_counts_none():
    assert usage_of({"prompt_tokens": 9, "prompt_tokens_details": None}) == TokenUsage(input_tokens=9)
    assert usage_of({"prompt_tokens": "9", "total_tokens": 1.5, "completion_tokens": True, "x": 1}) is None


@pytest.mark.parametrize(
    "usage", [None, {}, [], "9", {"prompt_tokens": None}, {"prompt_tokens_details": [1]}], ids=repr
)
def test_usage_of_returns_none_for_a_report_without_counts(usage):
    assert usage_of(usage) is None


def test_total_adds_the_counts_that_the_reports_have():
    assert total([TokenUsage(1, None, 3, None, 4), TokenUsage(2, None, None, 7, 6)]) == TokenUsage(3, None, 3, 7, 10)


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


def test_extra_of_leaves_out_strings_numbers_and_empty_values():
    body = {"object": "chunk", "created": 1, "seed": None, "warnings": [], "timings": {"n": 1}, "model": "m"}
    assert extra_of(body, frozenset(("model",))) == {"timings": {"n": 1}}
    assert extra_of({"model": "m"}, frozenset(("model",))) == {}


def test_join_extra_does_not_modify_the_chunks():
    old: dict = {}
    first, second = {"a": [1], "b": "x", "c": {"d": [1]}}, {"a": [2], "b": None, "c": {"d": [2], "e": 1}}
    join_extra(old, first)
    join_extra(old, second)
    assert old == {"a": [1, 2], "b": "x", "c": {"d": [1, 2], "e": 1}}
    assert first == {"a": [1], "b": "x", "c": {"d": [1]}}
