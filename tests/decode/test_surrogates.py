"""Characters that a server cuts into two surrogates: the halves are joined, and no half is ever handed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from answers import STOP, called, calls, chunk, deltas, part, read, sse, text

from chatstream import FunctionCall, OutputImage, OutputText, Reasoning, ReasoningDelta, RefusalDelta, StreamTruncated
from chatstream._decode.parser import EventParser

HIGH, LOW = "\ud83e", "\udd8a"  # the halves of a fox
FOX = "🦊"
GONE = "\ufffd"


def no_half_in(value: Any) -> bool:
    """No text in the value, its keys and its attributes has a surrogate."""
    match value:
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case Mapping():
            return all(map(no_half_in, (*value.keys(), *value.values())))
        case list() | tuple():
            return all(map(no_half_in, value))
        case BaseException():
            return no_half_in([str(value), *value.args, vars(value)])
        case None | int() | float():
            return True
        case _:
            return all(no_half_in(getattr(value, name)) for name in type(value).__slots__)


# What the fragments of one text are, and what they become.
CUTS: dict[str, tuple[list[str], str]] = {
    "over two fragments": (["a" + HIGH, LOW + "b"], f"a{FOX}b"),
    "over fragments of one half each": ([HIGH, LOW], FOX),
    "with an empty fragment between": (["a" + HIGH, "", LOW], f"a{FOX}"),
    "several times in a row": ([HIGH, LOW + HIGH, LOW + HIGH, LOW], FOX * 3),
    "not at all": ([f"a{HIGH}{LOW}b", FOX], f"a{FOX}b{FOX}"),
    "and the second half never comes": (["a" + HIGH, "b"], f"a{GONE}b"),
    "and nothing follows": (["a" + HIGH], f"a{GONE}"),
    "and the first half never came": (["a", LOW + "b"], f"a{GONE}b"),
    "and the first half comes twice": ([HIGH, HIGH + LOW], GONE + FOX),
    "and the second half comes twice": ([HIGH, LOW + LOW], FOX + GONE),
    "and the halves are in the wrong order": ([LOW, HIGH], GONE + GONE),
    "in the middle of a fragment": ([f"a{HIGH}b{LOW}c"], f"a{GONE}b{GONE}c"),
}
CHANNELS: dict[str, Any] = {
    "text": lambda piece: {"content": piece},
    "text in parts": lambda piece: {"content": [{"type": "text", "text": piece}]},
    "text after a picture": lambda piece: (
        {"content": [{"type": "image_url", "image_url": {"url": "u"}}, piece]}
        if piece.startswith("a")
        else {"content": piece}
    ),
    "reasoning": lambda piece: {"reasoning_content": piece},
    "reasoning in an object": lambda piece: {"reasoning": {"text": piece}},
    "thinking parts": lambda piece: {"content": [{"type": "thinking", "thinking": piece}]},
    "a refusal": lambda piece: {"refusal": piece},
}


def content_of(answer: Any) -> str:
    turn = answer.turn
    return turn.text + turn.reasoning + turn.refusal


@pytest.mark.parametrize(("fragments", "whole"), CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)
def test_a_character_is_whole_or_replaced_if_it_is_cut(channel, fragments, whole):
    bodies = [chunk(channel(fragment)) for fragment in fragments]
    for more in ([STOP], [{"choices": [], "usage": {"total_tokens": 1}}, STOP], []):
        answer = read(sse(*bodies, *more))
        assert content_of(answer) == whole
        assert no_half_in(answer.events)
        assert no_half_in(answer.turn)


@pytest.mark.parametrize(("fragments", "whole"), CUTS.values(), ids=CUTS)
def test_a_character_of_arguments_and_of_custom_input_is_whole_or_replaced_if_it_is_cut(fragments, whole):
    pieces = ['{"x": "', *fragments, '"}']
    entries = [part(piece, "north" if not i else None, "n" if not i else None, 0) for i, piece in enumerate(pieces)]
    answer = read(sse(*map(calls, entries), STOP))
    assert called(answer.turn) == [("north", f'{{"x": "{whole}"}}')]
    assert answer.turn.function_calls[0].parsed() == {"x": whole}
    assert "".join(delta for _, delta in deltas(answer)) == f'{{"x": "{whole}"}}'
    assert no_half_in(answer.events)
    custom = [{"index": 0, "type": "custom", "custom": {"name": "sh", "input": fragment}} for fragment in fragments]
    answer = read(sse(*map(calls, custom), STOP))
    assert called(answer.turn) == [("sh", whole)]
    assert no_half_in(answer.events)


def test_a_half_that_waits_is_delivered_before_an_error_and_before_another_call():
    for body in (chunk({"content": HIGH}), chunk({"reasoning": HIGH}), chunk({"refusal": HIGH})):
        answer = read(sse(body, done=False))
        assert type(answer.error) is StreamTruncated
        assert content_of(answer) == GONE
    answer = read(sse(calls(part('{"x": "' + HIGH, "north", "n", 0)), done=False))
    assert called(answer.turn) == [("north", '{"x": "' + GONE)]
    bodies = [calls(part('{"x": "' + HIGH, "north", "n", 0)), calls(part("{}", "south", "s", 1)), STOP]
    assert called(read(sse(*bodies)).turn) == [("north", '{"x": "' + GONE), ("south", "{}")]


def test_each_text_waits_for_its_own_second_half():
    bodies = [
        chunk({"content": HIGH, "reasoning": "r" + HIGH, "refusal": HIGH}),
        chunk({"reasoning": LOW}),
        chunk({"content": LOW + "t"}),
        chunk({"refusal": LOW}),
    ]
    turn = read(sse(*bodies, STOP)).turn
    assert (turn.text, turn.reasoning, turn.refusal) == (FOX + "t", "r" + FOX, FOX)
    two = [text(HIGH, 0), text(HIGH, 1), text(LOW + "a", 0), text(LOW + "b", 1), STOP, chunk(finish="stop", index=1)]
    assert [view.text for view in read(sse(*two), 2).turn.choices] == [FOX + "a", FOX + "b"]
    calls_ = [calls(part('{"x": "' + HIGH, "north", "n", 0)), calls(part('{"y": "' + HIGH, "south", "s", 1))]
    calls_ += [calls(part(LOW + '"}', None, None, 1)), calls(part(LOW + '"}', None, None, 0))]
    assert called(read(sse(*calls_, STOP)).turn) == [("north", f'{{"x": "{FOX}"}}'), ("south", f'{{"y": "{FOX}"}}')]


def test_a_half_behind_many_chunks_of_the_same_form_is_joined():
    pieces = ["a", "b", "c", "d", "e" + HIGH, LOW + "f", "g", HIGH, "h"]
    assert read(sse(*map(text, pieces), STOP)).turn.text == f"abcde{FOX}fg{GONE}h"
    fragments = [part('{"x": "', "north", "n", 0), *(part(piece, None, None, 0) for piece in [*pieces, '"}'])]
    assert called(read(sse(*map(calls, fragments), STOP)).turn) == [("north", f'{{"x": "abcde{FOX}fg{GONE}h"}}')]


def test_a_half_between_think_tags_is_joined():
    parser = EventParser(1, think_tags=("think",))
    events = [*parser.feed(sse(*map(text, ["<think>" + HIGH, LOW + "</think>" + HIGH, LOW]), STOP)), *parser.close()]
    assert [event.delta for event in events if isinstance(event, ReasoningDelta)] == [FOX]
    assert no_half_in(events)


# ── everything else that is handed over ─────────────────────────────────────────────────────────────────────────

HALVES = [HIGH, LOW, f"x{HIGH}y", FOX + LOW]


@pytest.mark.parametrize("half", HALVES, ids=ascii)
def test_no_half_is_handed_over_in(half):
    entry = {**part('{"x": 1}', "na" + half, "id" + half, 0), "seal" + half: {"deep": [half, {half: half}]}}
    entry["function"]["more"] = half
    first = {
        "id": "r" + half,
        "model": "m" + half,
        "citations": [half, {half: 1}],
        "choices": [
            {
                "index": 0,
                "delta": {
                    "content": [
                        {"type": "reference", "ids": [half]},
                        {"type": "image_url", "image_url": {"url": half}},
                    ],
                    "reasoning_details": [{"type": "x", "data": half, half: [half]}],
                    "annotations": [{half: half}],
                    "tool_calls": [entry],
                    "audio": {"transcript": half, "data": half},
                },
                "logprobs": {"content": [{"token": half, "bytes": None}]},
            }
        ],
        "usage": {"total_tokens": 3, "note": half, half: {"a": half}},
    }
    for form in (first, [first]):
        for finish in ("stop", "odd" + half):
            answer = read(sse(form, chunk(finish=finish)))
            assert answer.error is None
            assert no_half_in(answer.events)
            assert no_half_in(answer.turn)
            assert answer.turn.token_usage is not None
            assert no_half_in(answer.turn.token_usage.raw)
            assert no_half_in([each.extra for each in answer.turn.function_calls])
            assert no_half_in([item.to_dict() for item in answer.turn.items])
    parser = EventParser(1)
    for _ in parser.feed(sse(first, done=False)):
        assert no_half_in(parser.raw)


ERRORS: dict[str, Any] = {
    "an error object": lambda half: sse({"error": {"message": half, "code": half, "type": half, "param": half}}),
    "an error that is text": lambda half: sse({"error": half}),
    "an error of another shape": lambda half: sse({"error": [half]}),
    "an error in a list": lambda half: sse([{"error": {"message": half, "type": half}}]),
    "an error in a choice": lambda half: sse({"choices": [{"delta": {}, "error": {"message": half, "code": half}}]}),
    "a named event": lambda half: b"event: error\n" + sse({"message": half, "type": half, "code": half}),
    "a named event with other JSON": lambda half: b"event: error\n" + sse({"x": half}),
    "a named event with text": lambda half: b"event: error\n" + sse(json.dumps(half)),
    "an error field": lambda half: (
        b"error: " + json.dumps({"message": half, "type": half, "code": half}).encode() + b"\n\n"
    ),
    "a bare line": lambda half: json.dumps({"error": {"message": half, "type": half}}).encode(),
    "a detail": lambda half: sse({"detail": [{"msg": half, "loc": [half]}]}),
    "a raw text under an error": lambda half: sse({"error": {"message": "x", "metadata": {"raw": half}}}),
    "a sentence": lambda half: sse({"message": half}),
    "no JSON": lambda half: sse('{"a": "' + json.dumps(half)[1:-1]),
    "a call that goes on": lambda half: sse(
        calls(part('{"x": 1}', half, half, 0)), chunk(finish="stop"), calls(part("x" + half, None, half, 0))
    ),
}


@pytest.mark.parametrize("half", HALVES, ids=ascii)
@pytest.mark.parametrize("form", ERRORS.values(), ids=ERRORS)
def test_no_half_is_handed_over_in_the_error_of(form, half):
    answer = read(form(half))
    assert answer.error is not None
    assert no_half_in(answer.error)
    assert no_half_in(answer.events)


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ('{"x": "\\ud83e\\udd8a"}', {"x": FOX}),
        ('{"x": "\\ud83e"}', {"x": GONE}),
        ('{"\\ud83e": ["\\udd8a", {"y": "\\ud83e\\ud83e\\udd8a"}]}', {GONE: [GONE, {"y": GONE + FOX}]}),
    ],
)
def test_parsed_arguments_have_no_half_though_their_text_escapes_one(arguments, parsed):
    assert FunctionCall("f", arguments, "c").parsed() == parsed
    answer = read(sse(calls(part(arguments, "f", "c", 0)), STOP))
    assert answer.turn.function_calls == (FunctionCall("f", arguments, "c"),)
    assert answer.turn.function_calls[0].parsed() == parsed


def test_a_name_in_pieces_and_with_a_cut_character_has_no_half():
    answer = read(sse(calls(part("", "fo" + HIGH, "n", 0)), calls(part('{"x": 1}', LOW + "x", None, 0)), STOP))
    assert no_half_in(answer.events)
    assert {name for name, _ in deltas(answer)} == {answer.turn.function_calls[0].name}


def test_the_pieces_of_a_transcript_join_to_whole_characters():
    pieces = [{"audio": {"transcript": "a" + HIGH}}, {"audio": {"transcript": LOW + "b"}}]
    assert read(sse(*map(chunk, pieces), STOP)).turn.extra == {"audio": {"transcript": f"a{FOX}b"}}


def test_the_second_half_in_another_part_of_the_message_is_joined():
    image = {"type": "image_url", "image_url": {"url": "u"}}
    answer = read(sse(text(["a", image, "b" + HIGH]), text(LOW + "c"), chunk({"reasoning": "r"}), STOP))
    assert answer.turn.items[1].content == (OutputText("a"), OutputImage("u"), OutputText(f"b{FOX}c"))
    assert answer.turn.items[0] == Reasoning("r")
    assert not any(isinstance(event, RefusalDelta) for event in answer.events)
