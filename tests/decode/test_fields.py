"""Token counts, and what servers send beside text and calls."""

from __future__ import annotations

import json

import pytest

from chatstream import TokenUsage, Turn, collect, read_events
from chatstream._decode.fields import extra_of, join_extra, total, usage_of


def test_openais_names_with_their_details():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert usage_of(usage) == TokenUsage(9, 4, 5, 2, 14)


def test_anthropics_names_where_a_gateway_kept_them():
    assert usage_of({"input_tokens": 9, "output_tokens": 5}) == TokenUsage(9, None, 5, None, None)


def test_nothing_is_made_up():
    assert usage_of({"prompt_tokens": 9, "prompt_tokens_details": None}) == TokenUsage(input_tokens=9)
    assert usage_of({"prompt_tokens": "9", "total_tokens": 1.5, "completion_tokens": True, "x": 1}) is None


@pytest.mark.parametrize("usage", [None, {}, [], "9", {"prompt_tokens": None}, {"prompt_tokens_details": [1]}])
def test_a_report_without_counts_is_no_report(usage):
    assert usage_of(usage) is None


def test_reports_of_single_choices_are_added_up_where_there_are_counts():
    assert total([TokenUsage(1, None, 3, None, 4), TokenUsage(2, None, None, 7, 6)]) == TokenUsage(3, None, 3, 7, 10)


def answered(*chunks: dict) -> Turn:
    lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    return collect(read_events([*lines, b"data: [DONE]\n\n"]))


def choice(finish_reason: str | None = None, index: int = 0, delta: dict | None = None, **more: object) -> dict:
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish_reason, **more}]}


def test_logprobs_of_all_chunks_are_on_the_turn():
    first = {"content": [{"token": "a", "logprob": -0.1}], "refusal": None}
    second = {"content": [{"token": "b", "logprob": -0.2}], "refusal": None}
    turn = answered(
        choice(delta={"content": "a"}, logprobs=first), choice(delta={"content": "b"}, logprobs=second), choice("stop")
    )
    assert turn.text == "ab"
    assert turn.extra["logprobs"] == {"content": first["content"] + second["content"], "refusal": None}


def test_perplexitys_citations_are_those_of_the_last_chunk():
    chunks = [{**choice(delta={"content": "x"}), "citations": ["u1"]}, {**choice("stop"), "citations": ["u1", "u2"]}]
    assert answered(*chunks).extra["citations"] == ["u1", "u2"]


def test_citations_that_come_with_text_alone_are_kept():
    assert answered({**choice(delta={"content": "x"}), "citations": ["u1"]}, choice("stop")).extra["citations"] == [
        "u1"
    ]


def test_annotations_gather_over_the_deltas():
    notes = [{"type": "url_citation", "url": "u1"}, {"type": "url_citation", "url": "u2"}]
    turn = answered(*(choice(delta={"content": "x", "annotations": [note]}) for note in notes), choice("stop"))
    assert turn.extra["annotations"] == notes


def test_audio_is_joined_piece_by_piece():
    pieces = [{"id": "a1", "transcript": "Hel"}, {"transcript": "lo", "data": "AA"}, {"data": "BB", "expires_at": 9}]
    turn = answered(*(choice(delta={"audio": piece}) for piece in pieces), choice("stop"))
    assert turn.extra["audio"] == {"id": "a1", "transcript": "Hello", "data": "AABB", "expires_at": 9}


def test_each_choice_has_its_own():
    turn = answered(
        choice("stop", 0, logprobs={"content": [1]}),
        choice("stop", 1, logprobs={"content": [2]}) | {"timings": {"n": 1}},
    )
    assert [dict(each.extra) for each in turn.choices] == [
        {"timings": {"n": 1}, "logprobs": {"content": [1]}},
        {"timings": {"n": 1}, "logprobs": {"content": [2]}},
    ]


def test_words_numbers_and_empty_things_are_left_to_raw():
    body = {"object": "chunk", "created": 1, "seed": None, "warnings": [], "timings": {"n": 1}, "model": "m"}
    assert extra_of(body, frozenset(("model",))) == {"timings": {"n": 1}}
    assert extra_of({"model": "m"}, frozenset(("model",))) == {}


def test_joining_leaves_the_chunks_as_they_came():
    old: dict = {}
    first, second = {"a": [1], "b": "x", "c": {"d": [1]}}, {"a": [2], "b": None, "c": {"d": [2], "e": 1}}
    join_extra(old, first)
    join_extra(old, second)
    assert old == {"a": [1, 2], "b": "x", "c": {"d": [1, 2], "e": 1}}
    assert first == {"a": [1], "b": "x", "c": {"d": [1]}}
