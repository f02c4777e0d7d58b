"""How an answer ends: its finish reasons and what they mean, end markers, and what may follow either."""

from __future__ import annotations

from typing import Any

import pytest
from answers import DONE, STOP, called, calls, chunk, part, read, sse, text, texts, turn_of

from chatstream import Completed, ProtocolViolation, ProviderError, StreamTruncated

MEANINGS: dict[tuple[str, str], str] = {
    ("stop", "completed"): "stop eos eos_token stop_sequence end_turn complete",
    ("tool_calls", "completed"): "tool_calls function_call tool_use",
    ("length", "incomplete"): "length max_tokens max_output_tokens model_length model_context_window_exceeded",
    ("content_filter", "incomplete"): (
        "content_filter safety recitation blocklist prohibited_content spii image_safety language sensitive "
        "guardrail_intervened content_filtered refusal error_toxic"
    ),
    ("error", "incomplete"): (
        "abort network_error insufficient_system_resource malformed_function_call unexpected_tool_call user_cancel "
        "cancelled timeout"
    ),
    ("other", "unconfirmed"): "pause_turn stop_ stopped unknown 5 finish_reason_unspecified",
}
REASONS = [(reason, *meaning) for meaning, reasons in MEANINGS.items() for reason in reasons.split()]


@pytest.mark.parametrize(("reason", "kind", "status"), REASONS, ids=[reason for reason, *_ in REASONS])
def test_the_finish_reason_is_kept_as_sent_and_its_meaning_decides_the_status_in_any_case(reason, kind, status):
    for spelled in (reason, reason.upper(), reason.title()):
        turn = turn_of(text("a"), chunk(finish=spelled))
        assert (turn.finish_reason, turn.finish_kind, turn.status) == (spelled, kind, status)
        (*_, last) = read(sse(text("a"), chunk(finish=spelled), done=False)).events
        assert (last.finish_reason, last.finish_kind, last.status) == (spelled, kind, status)


@pytest.mark.parametrize("none", [{}, {"finish_reason": None}, {"finish_reason": ""}, {"finish_reason": []}], ids=repr)
def test_a_missing_null_or_empty_finish_reason_does_not_finish_a_choice(none):
    bodies = [{"choices": [{"index": 0, "delta": {"content": piece}, **none}]} for piece in "abc"]
    assert type(read(sse(*bodies, done=False)).error) is StreamTruncated
    turn = turn_of(*bodies)
    assert (turn.text, turn.finish_reason, turn.finish_kind, turn.status) == ("abc", None, None, "unconfirmed")


SEVERAL: dict[str, tuple[list[str], tuple[str, str]]] = {
    "the same twice": (["stop", "stop"], ("stop", "completed")),
    "a good one, then a cut": (["stop", "length"], ("length", "incomplete")),
    "a cut, then a good one": (["length", "stop"], ("stop", "completed")),
    "an unknown one, then a good one": (["odd", "stop"], ("stop", "completed")),
    "a good one, then an unknown one": (["stop", "odd"], ("odd", "unconfirmed")),
    "a good one, then one that means breaking off": (["stop", "abort"], ("abort", "incomplete")),
}


@pytest.mark.parametrize(("reasons", "expected"), SEVERAL.values(), ids=SEVERAL)
def test_of_several_finish_reasons_the_last_counts(reasons, expected):
    turn = turn_of(text("a"), *(chunk(finish=reason) for reason in reasons))
    assert (turn.finish_reason, turn.status) == expected


def test_a_finish_reason_may_come_on_every_chunk_of_text_reasoning_and_calls():
    bodies = [
        chunk({"reasoning": "Hm"}, "stop"),
        chunk({"reasoning": "."}, "stop"),
        chunk({"content": "It "}, "stop"),
        chunk({"content": "rains"}, "stop"),
        calls(part("", "north", "n", 0), finish="tool_calls"),
        calls(part('{"x": {"y"', None, None, 0), finish="tool_calls"),
        calls(part(": 1}}", None, None, 0), finish="tool_calls"),
    ]
    answer = read(sse(*bodies))
    assert (answer.turn.reasoning, answer.turn.text) == ("Hm.", "It rains")
    assert called(answer.turn) == [("north", '{"x": {"y": 1}}')]
    assert [type(event) for event in answer.events].count(Completed) == 1


def test_what_comes_after_a_finish_reason_belongs_to_the_answer():
    bodies = [
        text("It "),
        STOP,
        text("rains"),
        chunk({"reasoning": "Wet."}),
        calls(part('{"x": 1}', "north", "n", 0)),
        chunk({"annotations": [{"url": "u"}]}),
        {"choices": [], "usage": {"prompt_tokens": 4}},
        {"choices": [], "citations": ["u"]},
    ]
    for done in (True, False):
        answer = read(sse(*bodies, done=done))
        assert (answer.turn.text, answer.turn.reasoning) == ("It rains", "Wet.")
        assert called(answer.turn) == [("north", '{"x": 1}')]
        assert answer.turn.extra == {"annotations": [{"url": "u"}], "citations": ["u"]}
        assert answer.turn.token_usage is not None
        assert (answer.turn.token_usage.input_tokens, answer.turn.status) == (4, "completed")


def test_calls_with_the_finish_reason_stop_are_delivered():
    turn = turn_of(calls(part('{"x": 1}', "north", "n", 0)), STOP)
    assert (called(turn), turn.finish_reason, turn.status) == ([("north", '{"x": 1}')], "stop", "completed")


def test_the_finish_reason_error_raises_provider_error_in_any_case():
    for reason in ("error", "ERROR", "Error"):
        answer = read(sse(text("a"), chunk({"content": "b"}, reason)))
        assert type(answer.error) is ProviderError
        assert answer.turn.text == "ab"


# ── end markers ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("marker", ["[DONE]", "DONE", " [DONE] "])
def test_an_end_marker_ends_the_answer_with_or_without_brackets(marker):
    data = sse(text("a"), done=False) + f"data: {marker}\n\n".encode() + sse(text("b"), "nonsense")
    turn = read(data).turn
    assert (turn.text, turn.status, turn.finish_reason) == ("a", "unconfirmed", None)


BODIES_WITHOUT_A_CHOICE: dict[str, list[Any]] = {
    "nothing": [],
    "an id and a model": [{"id": "r", "model": "m"}],
    "empty choices": [{"choices": []}, {"choices": None}],
    "usage": [{"choices": [], "usage": {"total_tokens": 3}}],
}


@pytest.mark.parametrize("bodies", BODIES_WITHOUT_A_CHOICE.values(), ids=BODIES_WITHOUT_A_CHOICE)
@pytest.mark.parametrize("choices", [1, 2, None])
@pytest.mark.parametrize("done", [True, False], ids=["end marker", "end of the bytes"])
def test_an_answer_without_any_choice_is_truncated_even_if_an_end_marker_follows(bodies, choices, done):
    answer = read(sse(*bodies, done=done), choices)
    assert type(answer.error) is StreamTruncated
    assert answer.events == []
    assert "ended before any content arrived" in str(answer.error)


def test_a_choice_without_content_and_an_end_marker_is_an_empty_answer():
    turn = turn_of(chunk({"role": "assistant"}))
    assert (turn.items, turn.status) == ((), "unconfirmed")


def test_without_an_end_marker_every_choice_must_have_finished():
    assert read(sse(text("a"), STOP, done=False)).turn.status == "completed"
    bodies = [text("a"), text("b", 1), STOP]
    answer = read(sse(*bodies, done=False), 2)
    assert type(answer.error) is StreamTruncated
    assert "choice 1" in str(answer.error)
    assert [view.text for view in answer.turn.choices] == ["a", "b"]
    assert read(sse(*bodies, chunk(finish="stop", index=1), done=False), 2).error is None


FINISHED = sse(text("a"), done=False) + b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}'
LAST: dict[str, tuple[bytes, str]] = {
    "a whole end marker": (sse(text("a"), done=False) + b"data: [DONE]", "unconfirmed"),
    "a whole end marker and one line end": (sse(text("a"), done=False) + b"data: [DONE]\n", "unconfirmed"),
    "a bare end marker": (sse(text("a"), done=False) + b"data:DONE", "unconfirmed"),
    "whole JSON": (FINISHED, "completed"),
    "whole JSON and one line end": (FINISHED + b"\n", "completed"),
    "whole JSON over two lines": (
        sse(text("a"), done=False) + b'data: {"choices": [{"delta": {},\ndata: "finish_reason": "stop"}]}\n',
        "completed",
    ),
    "whole JSON, and an end marker one line end further": (FINISHED + b"\ndata: [DONE]", "completed"),
    "whole JSON in a named event": (
        sse(text("a"), done=False) + b'event: x\ndata: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n',
        "completed",
    ),
}


@pytest.mark.parametrize(("data", "status"), LAST.values(), ids=LAST)
def test_the_last_event_may_lack_its_blank_line_if_it_is(data, status):
    answer = read(data)
    assert answer.error is None
    assert (answer.turn.text, answer.turn.status) == ("a", status)


@pytest.mark.parametrize(
    "tail",
    [
        b'data: {"choices": [{"delta": {"content": "b"}}',
        b"data: [DON",
        b"data: ",
        b"dat",
        b'data: {"a": 1',
        b"event: x",
    ],
    ids=repr,
)
def test_half_an_event_at_the_end_never_counts(tail):
    answer = read(sse(text("a"), done=False) + tail)
    assert type(answer.error) is StreamTruncated
    assert texts(answer) == ["a"]
    assert read(sse(text("a"), STOP, done=False) + tail).turn.status == "completed"


# ── after the last finish reason ────────────────────────────────────────────────────────────────────────────────

NO_CHUNKS = ["null", '"[DONE]"', "[done]", "[Done]", "Bye.", "17", "[]", "{", '{"choices": [', "true", "[END]"]


@pytest.mark.parametrize("data", NO_CHUNKS)
def test_what_is_no_chunk_is_ignored_once_every_choice_has_finished(data):
    usage = {"choices": [], "usage": {"total_tokens": 3}}
    for bodies in ([data], [data, usage], [usage, data, data]):
        for done in (True, False):
            turn = read(sse(text("a"), STOP, *bodies, done=done)).turn
            assert (turn.text, turn.status) == ("a", "completed")
    both = [text("a"), text("b", 1), STOP, chunk(finish="stop", index=1), data]
    assert [view.text for view in turn_of(*both, choices=2).choices] == ["a", "b"]


@pytest.mark.parametrize("data", NO_CHUNKS)
def test_what_is_no_chunk_raises_protocol_violation_before_every_choice_has_finished(data):
    for bodies in ([data], [text("a"), data], [text("a"), STOP, data]):
        answer = read(sse(*bodies, chunk(finish="stop", index=1)), 2)
        assert type(answer.error) is ProtocolViolation
        assert answer.turn.text == ("a" if text("a") in bodies else "")


@pytest.mark.parametrize("choices", [1, None])
def test_an_error_after_the_last_finish_reason_is_an_error_with_the_whole_answer_as_its_partial_turn(choices):
    bodies = [text("It "), text("rains"), calls(part('{"x": 1}', "north", "n", 0)), STOP]
    for error in ({"error": {"message": "Billing failed"}}, {"error": "Billing failed"}, {"detail": "Billing failed"}):
        for done in (True, False):
            answer = read(sse(*bodies, error, done=done), choices)
            assert type(answer.error) is ProviderError
            assert answer.error.message == "Billing failed"
            assert (answer.turn.text, called(answer.turn)) == ("It rains", [("north", '{"x": 1}')])
            assert answer.turn.finish_reason == "stop"


def test_nothing_after_the_end_marker_is_read():
    data = sse(text("a"), STOP) + sse({"error": {"message": "late"}}, "nonsense") + DONE
    assert read(data).turn.text == "a"
