"""Chunks → events: each test is a list of chunks and the events that it yields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from decoding import run_machine

from chatstream._decode.chunk import CallDelta, ChoiceDelta, Chunk, ErrorDetail
from chatstream._decode.machine import Machine, make_call_id
from chatstream.errors import MAX_EXCERPT, ChatStreamError, ProtocolViolation, ProviderError, StreamTruncated
from chatstream.types.events import (
    Completed,
    Created,
    FunctionCallDelta,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
    TokenUsage,
)
from chatstream.types.items import FunctionCall

DONE = Chunk(done=True)
STOP = "stop"


def text(content: str, choice: int = 0, finish: str | None = None, **fields: object) -> Chunk:
    return Chunk((ChoiceDelta(choice, content, finish_reason=finish, finish_kind=finish_kind_of(finish)),), **fields)  # type: ignore[arg-type]


def end(reason: str = STOP, choice: int = 0, **fields: object) -> Chunk:
    return text("", choice, reason, **fields)


def finish_kind_of(reason: str | None) -> str | None:
    kinds = {"eos": "stop", "function_call": "tool_calls"}
    known = ("stop", "length", "tool_calls", "content_filter", "error")
    return reason and (reason if reason in known else kinds.get(reason, "other"))


def calls(*fragments: CallDelta, choice: int = 0, finish: str | None = None) -> Chunk:
    return Chunk((ChoiceDelta(choice, calls=fragments, finish_reason=finish, finish_kind=finish_kind_of(finish)),))  # type: ignore[arg-type]


def fragment(
    arguments: str = "", name: str | None = None, call_id: str | None = None, index: int | None = None
) -> CallDelta:
    return CallDelta(index, call_id, name, arguments)


def machine(choices: int | None = 1, eof_completes: bool = False) -> Machine:
    numbers = count(1)
    return Machine(choices, eof_completes, lambda: f"generated-{next(numbers)}")


def run(*chunks: Chunk, choices: int | None = 1, eof_completes: bool = False) -> list[ResponseEvent]:
    return list(run_machine(machine(choices, eof_completes), chunks))


def events_and_error(*chunks: Chunk, choices: int | None = 1) -> tuple[list[ResponseEvent], ChatStreamError]:
    """The events before the error, and the error."""
    events: list[ResponseEvent] = []
    with pytest.raises(ChatStreamError) as caught:
        events.extend(run_machine(machine(choices), chunks))
    return events, caught.value


def items(events: Iterable[ResponseEvent]) -> list[FunctionCall]:
    return [event.item for event in events if isinstance(event, OutputItemDone)]  # type: ignore[misc]


def completed(events: list[ResponseEvent]) -> Completed:
    assert [type(event) for event in events].count(Completed) == 1
    assert isinstance(events[-1], Completed)
    return events[-1]


def calls_of(*fragments: CallDelta, finish: str = "tool_calls") -> list[tuple[str, str, str]]:
    """The complete calls that result from ``fragments``, each in its own chunk."""
    events = run(*[calls(one) for one in fragments], end(finish), DONE)
    return [(item.call_id, item.name, item.arguments) for item in items(events)]


# ── text answers ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_answer_yields_created_its_deltas_and_completed():
    events = run(Chunk((ChoiceDelta(),), "r1", "m1"), text("He"), text("llo"), end(), DONE)
    assert events[:-1] == [Created("r1", "m1"), OutputTextDelta("He"), OutputTextDelta("llo")]
    last = completed(events)
    assert (last.response_id, last.model, last.finish_reason, last.status) == ("r1", "m1", "stop", "completed")


def test_empty_text_yields_no_event():
    assert [type(event) for event in run(text(""), text("a"), text(""), end(), DONE)] == [
        Created,
        OutputTextDelta,
        Completed,
    ]


def test_reasoning_and_refusals_yield_events_of_their_own():
    chunk = Chunk((ChoiceDelta(0, "a", "because", "no"),))
    assert run(chunk, end(), DONE)[1:-1] == [ReasoningDelta("because"), OutputTextDelta("a"), RefusalDelta("no")]


def test_text_in_the_chunk_with_the_finish_reason_yields_an_event():
    assert run(text("a", finish=STOP), DONE)[1] == OutputTextDelta("a")


def test_no_chunk_after_done_is_read():
    def chunks() -> Iterator[Chunk]:
        yield text("a", finish=STOP)
        yield DONE
        raise AssertionError("a chunk after [DONE] was read")

    assert completed(list(run_machine(machine(), chunks()))).status == "completed"


def test_a_chunk_with_a_complete_answer_ends_the_stream():
    assert completed(run(text("a", finish=STOP, done=True), text("b"))).status == "completed"
    assert completed(run(text("a", done=True))).status == "unconfirmed"


def test_chunks_after_a_finish_reason_are_still_read():
    events = run(text("a"), end(), text("b"), Chunk(usage={"total_tokens": 3}), DONE)
    assert events[2] == OutputTextDelta("b")
    assert completed(events).token_usage == TokenUsage(total_tokens=3)


def test_completed_has_the_finish_kind_of_its_finish_reason():
    assert completed(run(text("a"), end("length"), DONE)).finish_kind == "length"
    assert completed(run(text("a"), end("unknown"), DONE)).finish_kind == "other"
    assert completed(run(text("a"), DONE)).finish_kind is None
    assert Completed().finish_kind is None


def test_a_repeated_finish_reason_yields_only_one_completed():
    assert [type(event) for event in run(text("a"), end(), end(), DONE)] == [Created, OutputTextDelta, Completed]


def test_the_last_of_several_finish_reasons_is_reported():
    assert completed(run(text("a"), end("tool_calls"), end("stop"), DONE)).finish_reason == "stop"


def test_an_event_is_yielded_before_the_next_chunk_is_read():
    read = []

    def chunks() -> Iterator[Chunk]:
        for word in "abc":
            read.append(word)
            yield text(word)

    events = run_machine(machine(), chunks())
    assert read == []
    next(events)
    next(events)
    assert read == ["a"]
    next(events)
    assert read == ["a", "b"]


# ── Created ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_created_is_held_back_until_a_chunk_has_content():
    read = []

    def chunks() -> Iterator[Chunk]:
        for chunk in (
            Chunk((), "r1"),
            Chunk((ChoiceDelta(),)),
            Chunk(usage={"prompt_tokens": 1}),
            text("a", model="m1"),
        ):
            read.append(chunk)
            yield chunk

    assert next(run_machine(machine(), chunks())) == Created("r1", "m1")
    assert len(read) == 4


def test_an_answer_without_content_yields_created_and_completed():
    assert [type(event) for event in run(end(), DONE)] == [Created, Completed]
    assert [type(event) for event in run(Chunk((ChoiceDelta(),)), DONE)] == [Created, Completed]


def test_done_without_any_choice_raises_stream_truncated():
    for chunks in ([DONE], [Chunk((), "r1", "m1", usage={"prompt_tokens": 1}), DONE]):
        events, error = events_and_error(*chunks)
        assert events == []
        assert isinstance(error, StreamTruncated)
        assert error.args == ("the answer ended before any content arrived",)


def test_done_without_any_choice_raises_an_error_that_quotes_the_first_sentence_of_the_server():
    chunks = [Chunk(note=""), Chunk(note="Nobody is in."), Chunk(note="Come back."), DONE]
    _, error = events_and_error(*chunks)
    assert error.args == ("the answer ended before any content arrived; the server said: Nobody is in.",)
    _, error = events_and_error(Chunk(note="x" * 5000), DONE)
    assert len(str(error)) < MAX_EXCERPT + 200


@pytest.mark.parametrize(
    "chunks",
    [
        [calls(fragment(name="f")), end("tool_calls"), DONE],
        [calls(fragment(name="f"), finish="tool_calls"), DONE],
        [calls(fragment('{"a', name="f")), end("length"), DONE],
        [calls(fragment("{}", name="f")), end("tool_calls"), DONE],
    ],
    ids=["no arguments", "finish reason in the same chunk", "incomplete arguments", "complete arguments"],
)
def test_created_comes_before_a_call_that_is_held_back_until_the_end(chunks):
    assert [type(event) for event in run(*chunks)] == [Created, FunctionCallDelta, OutputItemDone, Completed]


def test_created_comes_before_a_call_that_is_held_back_until_an_error():
    events, _ = events_and_error(calls(fragment(name="f")), Chunk(error=ErrorDetail("no")))
    assert [type(event) for event in events] == [Created, FunctionCallDelta]


def test_the_first_response_id_and_the_first_model_that_are_not_empty_are_kept():
    last = completed(
        run(text("a"), text("b", response_id="r1"), text("c", response_id="r2", model="m1"), end(model="m2"), DONE)
    )
    assert (last.response_id, last.model) == ("r1", "m1")


@pytest.mark.parametrize("text_only", [True, False])
def test_a_response_id_and_a_model_in_later_chunks_are_recorded(text_only):
    chunks = [
        text("a", text_only=text_only),
        text("b", response_id="r1", text_only=text_only),
        text("c", model="m1", text_only=text_only),
    ]
    last = completed(run(*chunks, end(), DONE))
    assert (last.response_id, last.model) == ("r1", "m1")


def test_a_known_response_id_and_a_known_model_are_not_replaced():
    chunks = [text(word, response_id="r1", model="m1", text_only=True) for word in "ab"]
    last = completed(run(*chunks, text("c", response_id="r2", model="m2", text_only=True), end(), DONE))
    assert (last.response_id, last.model) == ("r1", "m1")


# ── the end of the chunks ───────────────────────────────────────────────────────────────────────────────────────


def test_the_end_of_the_bytes_completes_the_answer_if_its_choice_has_finished():
    assert completed(run(text("a"), end())).status == "completed"


@pytest.mark.parametrize(
    ("chunks", "choices", "message"),
    [
        ([], 1, "the answer ended before any content arrived"),
        ([Chunk((), "r1", "m1", usage={"prompt_tokens": 1})], 1, "the answer ended before any content arrived"),
        ([], 2, "the answer ended before any content arrived"),
        ([text("a")], 1, "the answer ended without a finish reason"),
        ([text("a"), end(), text("b", 1)], None, "the answer ended without a finish reason for choice 1"),
        ([text("a"), text("b", 1)], 1, "the answer ended without a finish reason"),
        ([text("b", 1)], None, "the answer ended without a finish reason"),
        ([text("a"), end(), text("b", 1)], 2, "the answer ended without a finish reason for choice 1"),
        ([text("a"), end()], 2, "the answer ended without a finish reason for choice 1"),
        ([text("b", 1), end(choice=1)], 2, "the answer ended without a finish reason for choice 0"),
        ([text("a")], 3, "the answer ended without a finish reason for choice 0, 1, 2"),
        ([text("c", 2), end()], 3, "the answer ended without a finish reason for choice 1, 2"),
    ],
    ids=[
        "no chunk",
        "only id, model and usage",
        "no chunk of two choices",
        "text of one choice",
        "an open choice where the number of choices is unknown",
        "two indexes where one choice was requested",
        "one choice where the number of choices is unknown",
        "the second of two choices unfinished",
        "the second of two choices missing",
        "the first of two choices missing",
        "no choice of three finished",
        "one choice of three finished",
    ],
)
def test_the_end_of_the_bytes_before_all_choices_have_finished_raises_an_error_that_names_them(
    chunks, choices, message
):
    events, error = events_and_error(*chunks, choices=choices)
    assert isinstance(error, StreamTruncated)
    assert error.args == (message,)
    assert str(error) == f"stream disconnected before completion: {message}"
    assert error.retryable
    assert not any(isinstance(event, Completed) for event in events)


def test_done_without_any_finish_reason_gives_the_status_unconfirmed():
    last = completed(run(text("a"), DONE))
    assert (last.status, last.finish_reason) == ("unconfirmed", None)
    assert [choice.status for choice in last.choices] == ["unconfirmed"]


def test_done_completes_the_answer_if_one_of_two_choices_has_a_finish_reason():
    last = completed(run(text("a"), text("b", 1), end(), DONE, choices=2))
    assert last.status == "completed"
    assert [(choice.finish_reason, choice.status) for choice in last.choices] == [
        ("stop", "completed"),
        (None, "unconfirmed"),
    ]


def test_with_eof_completes_the_end_of_the_bytes_completes_the_answer():
    last = completed(run(text("a"), eof_completes=True))
    assert (last.status, last.finish_reason) == ("completed", None)
    assert completed(run(text("a"), choices=2, eof_completes=True)).status == "completed"


def test_with_eof_completes_an_answer_without_choices_still_raises_stream_truncated():
    with pytest.raises(StreamTruncated, match="ended before any content arrived"):
        run(Chunk((), "r1"), eof_completes=True)


def test_finished_becomes_true_when_every_choice_has_its_finish_reason():
    reader = machine(2)
    states = []

    def chunks() -> Iterator[Chunk]:
        for chunk in (text("a"), end(), text("b", 1), end(choice=1), Chunk(usage={"prompt_tokens": 1}), DONE):
            yield chunk
            states.append(reader.finished)

    assert not reader.finished
    list(run_machine(reader, chunks()))
    assert states == [False, False, False, True, True]
    assert reader.finished


@pytest.mark.parametrize("choices", [None, 2], ids=["unknown number", "two requested"])
def test_finished_is_false_while_a_choice_beyond_the_requested_number_is_open(choices):
    reader = machine(choices)
    with pytest.raises(StreamTruncated):
        list(run_machine(reader, [end(), end(choice=1), text("c", 2)]))
    assert not reader.finished


def test_all_indexes_are_one_choice_if_one_choice_was_requested():
    events = run(text("a", 3), text("b", 0, text_only=True), text("c", 7, text_only=True), end(choice=5), DONE)
    assert events[1:-1] == [OutputTextDelta("a"), OutputTextDelta("b"), OutputTextDelta("c")]
    assert [(each.index, each.finish_reason) for each in completed(events).choices] == [(0, "stop")]


def test_each_index_is_a_choice_if_the_number_of_choices_is_unknown():
    events = run(text("a", 3), text("b", 3, text_only=True), text("c", 0), end(choice=3), end(), choices=None)
    assert events[1:-1] == [OutputTextDelta("a", 3), OutputTextDelta("b", 3), OutputTextDelta("c")]
    assert [each.index for each in completed(events).choices] == [0, 3]


def test_a_payload_that_is_no_chunk_raises_protocol_violation_until_every_choice_has_finished():
    nonsense = Chunk(undecodable="nonsense")
    for chunks in ([nonsense], [text("a"), nonsense], [text("a"), end(), nonsense]):
        _, error = events_and_error(*chunks, choices=2)
        assert isinstance(error, ProtocolViolation)
        assert error.args == ("nonsense",)
    events = run(text("a"), end(), end(choice=1), nonsense, text("b", 1), nonsense, DONE, choices=2)
    assert events[1:-1] == [OutputTextDelta("a"), OutputTextDelta("b", 1)]
    assert completed(events).status == "completed"


def test_snapshot_returns_the_values_known_until_then_at_any_time():
    reader = machine()
    assert reader.snapshot().response_id is None
    assert reader.snapshot().choices == ()
    events = run_machine(reader, [text("a", response_id="r1", usage={"prompt_tokens": 1}), text("b"), end(), DONE])
    next(events)
    snapshot = reader.snapshot()
    assert (snapshot.response_id, snapshot.token_usage, snapshot.finish_reason) == ("r1", TokenUsage(1), None)
    assert list(events)[-1] == reader.snapshot()


# ── several choices ─────────────────────────────────────────────────────────────────────────────────────────────


def test_interleaved_choices_keep_the_order_of_their_chunks_and_end_separately():
    events = run(
        text("b", 1),
        text("a"),
        Chunk((ChoiceDelta(0, "c"), ChoiceDelta(1, "d"))),
        end("length", 1),
        end(),
        DONE,
        choices=2,
    )
    assert events[1:-1] == [
        OutputTextDelta("b", 1),
        OutputTextDelta("a"),
        OutputTextDelta("c"),
        OutputTextDelta("d", 1),
    ]
    last = completed(events)
    assert last.finish_reason == "stop"
    assert [(choice.index, choice.finish_reason, choice.status) for choice in last.choices] == [
        (0, "stop", "completed"),
        (1, "length", "incomplete"),
    ]
    assert last.status == "incomplete"


def test_calls_with_the_same_index_in_two_choices_are_two_calls():
    events = run(
        calls(fragment('{"a": 1', "f", "c1", 0)),
        calls(fragment('{"b": 2', "g", "c2", 0), choice=1),
        calls(fragment("}", index=0)),
        calls(fragment("}", index=0), choice=1),
        end("tool_calls", 1),
        end("tool_calls"),
        DONE,
        choices=2,
    )
    assert [event for event in events if isinstance(event, OutputItemDone)] == [
        OutputItemDone(FunctionCall("g", '{"b": 2}', "c2"), 1),
        OutputItemDone(FunctionCall("f", '{"a": 1}', "c1"), 0),
    ]


# ── tool calls ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_yields_a_delta_per_fragment_and_then_the_complete_call():
    events = run(
        calls(fragment("", "get_weather", "call_1", 0)),
        calls(fragment('{"city":', index=0)),
        calls(fragment('"Paris"}', index=0)),
        end("tool_calls"),
        DONE,
    )
    assert events[1:-1] == [
        FunctionCallDelta('{"city":', "call_1", "get_weather"),
        FunctionCallDelta('"Paris"}', "call_1", "get_weather"),
        OutputItemDone(FunctionCall("get_weather", '{"city":"Paris"}', "call_1")),
    ]
    assert completed(events).status == "completed"


def test_a_call_is_complete_when_the_next_one_starts():
    events = run(calls(fragment('{"a": 1}', "f", "c1", 0)), calls(fragment('{"b": 2}', "g", "c2", 1)), end(), DONE)
    assert [type(event) for event in events] == [
        Created,
        FunctionCallDelta,
        OutputItemDone,
        FunctionCallDelta,
        OutputItemDone,
        Completed,
    ]


def test_calls_whose_fragments_alternate_are_complete_at_the_end():
    events = run(
        calls(fragment("{", "f", "c1", 0), fragment("{", "g", "c2", 1)),
        calls(fragment("}", index=1), fragment("}", index=0)),
        end("tool_calls"),
        DONE,
    )
    assert items(events) == [FunctionCall("f", "{}", "c1"), FunctionCall("g", "{}", "c2")]


@pytest.mark.parametrize("arguments", ["", "{}"], ids=["no arguments", "an empty object"])
def test_a_call_without_arguments_is_delivered_only_at_the_end_because_they_may_still_come(arguments):
    events = run(
        calls(fragment(arguments, "f", "c1", 0)), calls(fragment('{"b": 2}', "g", "c2", 1)), text("a"), end(), DONE
    )
    assert events[1:-1] == [
        FunctionCallDelta('{"b": 2}', "c2", "g"),
        OutputTextDelta("a"),
        FunctionCallDelta(arguments, "c1", "f"),
        OutputItemDone(FunctionCall("f", arguments, "c1")),
        OutputItemDone(FunctionCall("g", '{"b": 2}', "c2")),
    ]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("stop", "completed"),
        ("tool_calls", "completed"),
        ("function_call", "completed"),
        ("eos", "completed"),
        ("unknown", "unconfirmed"),
    ],
)
def test_calls_are_delivered_whatever_the_finish_reason_is(reason, status):
    events = run(calls(fragment("{}", "f", "c1", 0)), end(reason), DONE)
    assert items(events) == [FunctionCall("f", "{}", "c1", "completed")]
    assert completed(events).status == status


def test_calls_are_delivered_without_any_finish_reason():
    events = run(calls(fragment("{}", "f", "c1", 0)), DONE)
    assert items(events) == [FunctionCall("f", "{}", "c1")]
    assert completed(events).status == "unconfirmed"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("", "completed"),
        ("{}", "completed"),
        (' {"a": [1, 2.5, null]} \n', "completed"),
        ("5", "completed"),
        ("[]", "completed"),
        ('"text"', "completed"),
        ('{"a": 1', "incomplete"),
        ('{"a": 1}}', "incomplete"),
        ("{'a': 1}", "incomplete"),
        ('{"a": NaN}', "incomplete"),
        ('{"a": Infinity}', "incomplete"),
        (" ", "completed"),
        (" x", "incomplete"),
        ("[" * 100_000, "incomplete"),
    ],
    ids=lambda value: value[:20],
)
def test_a_call_is_completed_only_if_its_arguments_are_strict_json(arguments, status):
    events = run(calls(fragment(arguments, "f", "c1", 0)), end("tool_calls"), DONE)
    assert items(events) == [FunctionCall("f", arguments, "c1", status)]
    assert completed(events).status == status
    assert completed(events).finish_reason == "tool_calls"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize(("arguments", "status"), [('{"a', "incomplete"), ("", "incomplete"), ("{}", "completed")])
def test_in_an_answer_cut_by_length_or_filter_only_a_call_with_complete_arguments_is_completed(
    reason, arguments, status
):
    events = run(calls(fragment(arguments, "f", "c1", 0)), end(reason), DONE)
    assert items(events) == [FunctionCall("f", arguments, "c1", status)]
    assert completed(events).status == "incomplete"


def test_a_finish_reason_on_every_tool_chunk_ends_no_call_early():
    fragments = [
        fragment("", "f", "c1", 0),
        fragment('{"a": ', index=0),
        fragment('{"b": 1}', index=0),
        fragment("}", index=0),
    ]
    events = run(*[calls(one, finish="tool_calls") for one in fragments], DONE)
    assert items(events) == [FunctionCall("f", '{"a": {"b": 1}}', "c1")]


def test_a_call_that_was_delivered_is_not_delivered_again():
    events = run(
        calls(fragment("{}", "f", "c1", 0), finish="tool_calls"), calls(fragment("{}", "f", "c1", 0)), end(), DONE
    )
    assert [type(event) for event in events] == [Created, FunctionCallDelta, OutputItemDone, Completed]
    assert items(events) == [FunctionCall("f", "{}", "c1")]


def test_one_choice_may_have_both_text_and_calls():
    events = run(text("Let me see."), calls(fragment("{}", "f", "c1", 1)), end("tool_calls"), DONE)
    assert [type(event) for event in events] == [Created, OutputTextDelta, FunctionCallDelta, OutputItemDone, Completed]


# ── which call a fragment belongs to ────────────────────────────────────────────────────────────────────────────


def test_fragments_are_assigned_to_calls_by_an_index_that_may_start_anywhere():
    assert calls_of(
        fragment("{", "f", "c1", 1), fragment("{", "g", "c2", 7), fragment("}", index=1), fragment("}", index=7)
    ) == [
        ("c1", "f", "{}"),
        ("c2", "g", "{}"),
    ]


def test_fragments_that_all_repeat_id_and_name_are_one_call_as_novita_baseten_and_tgi_send_them():
    assert calls_of(*[fragment(part, "f", "c1", 0) for part in ('{"a"', ": ", "1}")]) == [("c1", "f", '{"a": 1}')]


def test_calls_with_one_index_are_distinguished_by_id_as_copilot_cerebras_and_openrouter_send_them():
    fragments = [
        fragment("{", "f", "c1", 0),
        fragment("}", index=0),
        fragment("{", "g", "c2", 0),
        fragment("}", index=0),
    ]
    assert calls_of(*fragments) == [("c1", "f", "{}"), ("c2", "g", "{}")]


def test_a_fragment_with_a_known_id_belongs_to_that_call_whatever_its_index_is():
    fragments = [
        fragment("{", "f", "c1", 0),
        fragment("{", "g", "c2", 0),
        fragment("}", None, "c1", 0),
        fragment("}", None, "c2", 1),
    ]
    assert calls_of(*fragments) == [("c1", "f", "{}"), ("c2", "g", "{}")]


def test_the_id_of_a_call_may_arrive_after_its_name():
    fragments = [fragment("", "f", index=0), fragment("{", None, "c1", 0), fragment("}", index=0)]
    assert calls_of(*fragments) == [("c1", "f", "{}")]


def test_an_id_that_arrives_after_one_was_generated_does_not_replace_it_but_identifies_the_call():
    fragments = [
        fragment("", "f", index=0),
        fragment('{"a": ', index=0),
        fragment("", None, "c1", 0),
        fragment("1}", None, "c1"),
    ]
    assert calls_of(*fragments) == [("generated-1", "f", '{"a": 1}')]


def test_the_name_of_a_call_may_arrive_after_its_id_and_is_set_once():
    fragments = [fragment("", None, "c1", 0), fragment("{", "f", index=0), fragment("}", "g", "c1", 0)]
    assert calls_of(*fragments) == [("c1", "f", "{}")]


def test_complete_calls_without_an_index_are_separate_as_gemini_and_mistral_send_them():
    assert calls_of(fragment("{}", "f", "c1"), fragment("{}", "f", "c2")) == [("c1", "f", "{}"), ("c2", "f", "{}")]


def test_complete_calls_with_neither_index_nor_id_are_separate():
    fragments = [fragment('{"a": 1}', "f"), fragment('{"a": 2}', "f"), fragment("{}", "g")]
    assert calls_of(*fragments) == [
        ("generated-1", "f", '{"a": 1}'),
        ("generated-2", "f", '{"a": 2}'),
        ("generated-3", "g", "{}"),
    ]


def test_another_name_without_index_and_id_starts_another_call_even_if_the_last_is_incomplete():
    assert sorted(calls_of(fragment('{"a"', "f"), fragment("{}", "g"))) == [
        ("generated-1", "f", '{"a"'),
        ("generated-2", "g", "{}"),
    ]


@pytest.mark.parametrize("arguments", ["", '{"a"', "{}", " "])
def test_calls_are_delivered_in_the_order_in_which_they_began_even_without_ids(arguments):
    events = run(
        calls(fragment(arguments, "f")), calls(fragment("{}", "g", "c2")), calls(fragment("{}", "h")), end(), DONE
    )
    names = [event.name for event in events if isinstance(event, FunctionCallDelta)]
    assert list(dict.fromkeys(names)) == ["f", "g", "h"]


def test_the_same_name_without_index_and_id_continues_an_incomplete_call():
    assert calls_of(fragment('{"a": ', "f"), fragment("1}", "f")) == [("generated-1", "f", '{"a": 1}')]


def test_arguments_without_index_id_and_name_continue_the_last_call():
    assert calls_of(fragment("{", "f", "c1"), fragment("}"), fragment("", "g", "c2"), fragment("{}")) == [
        ("c1", "f", "{}"),
        ("c2", "g", "{}"),
    ]


def test_arguments_before_any_call_are_a_call_without_a_name():
    assert calls_of(fragment("{}")) == [("generated-1", "", "{}")]


def test_a_name_after_a_complete_call_with_the_same_index_and_no_ids_starts_another_call():
    assert calls_of(fragment('{"a": 1}', "f", index=0), fragment('{"a": 2}', "f", index=0)) == [
        ("generated-1", "f", '{"a": 1}'),
        ("generated-2", "f", '{"a": 2}'),
    ]


def test_a_name_repeated_with_the_same_index_and_no_ids_continues_one_call():
    assert calls_of(*[fragment(part, "f", index=0) for part in ('{"a"', ": ", "1}")]) == [
        ("generated-1", "f", '{"a": 1}')
    ]


def test_a_call_for_which_no_arguments_are_sent_has_empty_arguments():
    assert calls_of(fragment("", "now", "c1", 0)) == [("c1", "now", "")]
    assert calls_of(fragment("", "now")) == [("generated-1", "now", "")]


def test_a_generated_call_id_is_unique_and_ends_in_24_hex_digits():
    ids = {make_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("call_[0-9a-f]{24}", call_id) for call_id in ids)
    events = list(run_machine(Machine(), [calls(fragment("{}", "f")), end(), DONE]))
    assert re.fullmatch("call_[0-9a-f]{24}", items(events)[0].call_id)
    assert events[1] == FunctionCallDelta("{}", items(events)[0].call_id, "f")


def test_every_delta_of_a_call_has_the_id_of_the_complete_call():
    events = run(
        calls(fragment('{"a": ', "f", index=0)),
        calls(fragment("", None, index=0)),
        calls(fragment("1}", None, "late", 0)),
        end(),
        DONE,
    )
    deltas = [event for event in events if isinstance(event, FunctionCallDelta)]
    assert {event.call_id for event in deltas} == {items(events)[0].call_id} == {"generated-1"}
    assert "".join(event.delta for event in deltas) == '{"a": 1}'


# ── token usage ─────────────────────────────────────────────────────────────────────────────────────────────────


def report(**counts: int | None) -> dict[str, Any]:
    """The server's object for these counts, in the spelling of OpenAI."""
    names = {"input": "prompt_tokens", "output": "completion_tokens", "total": "total_tokens"}
    usage: dict[str, Any] = {spelling: counts[name] for name, spelling in names.items() if name in counts}
    if "cached" in counts:
        usage["prompt_tokens_details"] = {"cached_tokens": counts["cached"]}
    return usage


def usage_of(*chunks: Chunk, choices: int = 1) -> TokenUsage | None:
    return completed(run(*chunks, DONE, choices=choices)).token_usage


def test_token_usage_is_none_if_the_server_reports_none():
    assert usage_of(text("a"), end()) is None


def test_the_last_of_several_usage_reports_is_used():
    cumulative = [
        text("a", usage=report(input=1, output=1)),
        text("b", usage=report(input=1, output=2)),
        end(usage=report(input=1, output=3)),
    ]
    assert usage_of(*cumulative) == TokenUsage(1, None, 3)


@pytest.mark.parametrize("choices", [1, 2])
def test_repeated_usage_reports_are_not_summed_because_groq_sends_up_to_three(choices):
    usage = report(input=5, output=2, total=7)
    finished = [end(choice=i, usage=usage) for i in range(choices)]
    assert usage_of(text("a"), *finished, Chunk(usage=usage), choices=choices) == TokenUsage(5, None, 2, None, 7)


def test_a_usage_report_with_a_repeated_finish_reason_is_used():
    assert usage_of(text("a"), end(), end(usage=report(input=1))) == TokenUsage(1)


def test_usage_reports_after_each_choice_are_summed_as_llama_cpp_sends_them():
    reports = [
        Chunk(usage=report(input=38, output=16, total=54)),
        Chunk(usage=report(input=38, cached=30, output=10, total=48)),
    ]
    choices = [text("b", 1), text("a"), end("length", 1), end("length")]
    assert usage_of(*choices, *reports, choices=2) == TokenUsage(76, 30, 26, None, 102)
    assert usage_of(*choices[:3], reports[0], choices[3], reports[1], choices=2) == TokenUsage(76, 30, 26, None, 102)


def test_two_usage_reports_for_one_choice_are_not_summed():
    assert usage_of(text("a"), end(), Chunk(usage=report(input=1)), Chunk(usage=report(input=2))) == TokenUsage(2)


def test_the_last_count_that_is_not_null_is_used_for_each_count_separately():
    reports = [report(input=7, cached=3, output=1), report(input=8, output=None, cached=None), report(total=9)]
    usage = usage_of(*[text("a", usage=each) for each in reports], end())
    assert usage == TokenUsage(8, 3, 1, None, 9)
    assert usage is not None
    assert usage.raw == {
        "prompt_tokens": 8,
        "completion_tokens": 1,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3},
    }


def test_reports_without_any_count_are_no_usage():
    assert usage_of(text("a", usage=report(input=None)), end(usage={"cost": 1})) is None


# ── errors in the stream ────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_in_the_stream_raises_provider_error_with_its_message_code_and_type():
    events, error = events_and_error(text("a"), Chunk(error=ErrorDetail("no", "c", "t", retryable=True)), text("b"))
    assert events == [Created(), OutputTextDelta("a")]
    assert isinstance(error, ProviderError)
    assert (error.message, error.code, error.type, error.retryable) == ("no", "c", "t", True)
    assert str(error) == "stream disconnected before completion: no (code: c)"


def test_an_error_in_the_first_chunk_is_raised_before_any_event():
    events, error = events_and_error(Chunk(error=ErrorDetail("no")))
    assert events == []
    assert not error.retryable
    assert str(error) == "stream disconnected before completion: no"


def test_text_beside_an_error_is_delivered_before_the_error_is_raised():
    events, error = events_and_error(text("a", finish="error", error=ErrorDetail("no", 502)))
    assert events == [Created(), OutputTextDelta("a")]
    assert isinstance(error, ProviderError)


def test_an_error_in_place_of_done_is_raised():
    assert isinstance(events_and_error(text("a"), end(), Chunk(error=ErrorDetail("no")))[1], ProviderError)
    assert isinstance(events_and_error(text("a", done=True, error=ErrorDetail("no")))[1], ProviderError)


def test_a_call_that_is_held_back_is_delivered_before_an_error():
    events, _ = events_and_error(text("a"), calls(fragment('{"a', "f", index=0)), Chunk(error=ErrorDetail("no")))
    assert events[2:] == [FunctionCallDelta('{"a', "generated-1", "f")]


def test_a_call_that_is_held_back_is_delivered_before_stream_truncated():
    events, error = events_and_error(calls(fragment('{"a": 1}', "f")), calls(fragment("{}", "g", "c2")))
    assert isinstance(error, StreamTruncated)
    assert items(events) == [FunctionCall("f", '{"a": 1}', "generated-1")]
    assert events[-1] == FunctionCallDelta("{}", "c2", "g")


@pytest.mark.parametrize("arguments", ["", "{}"], ids=["no arguments", "an empty object"])
def test_calls_without_arguments_are_announced_before_an_error_but_are_not_delivered(arguments):
    events, _ = events_and_error(
        calls(fragment(arguments, "f", "c1")), calls(fragment(arguments, "g", "c2")), Chunk(error=ErrorDetail("no"))
    )
    assert events == [Created(), FunctionCallDelta(arguments, "c1", "f"), FunctionCallDelta(arguments, "c2", "g")]


def test_an_error_of_reading_chunks_propagates_after_the_events_that_were_held_back():
    def chunks() -> Iterator[Chunk]:
        yield calls(fragment("{", "f"))
        raise ProtocolViolation("malformed")

    events: list[ResponseEvent] = []
    with pytest.raises(ProtocolViolation, match="malformed"):
        events.extend(run_machine(machine(), chunks()))
    assert FunctionCallDelta("{", "generated-1", "f") in events


def test_no_delta_is_delivered_twice_before_an_error():
    events, _ = events_and_error(calls(fragment("{", "f", "c1", 0)), calls(fragment('"a', index=0)))
    assert "".join(event.delta for event in events if isinstance(event, FunctionCallDelta)) == '{"a'


# ── extra fields ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_extra_fields_of_all_chunks_are_joined_in_the_end_of_each_choice():
    first = Chunk((ChoiceDelta(0, "a", extra={"logprobs": {"content": [1]}, "audio": {"id": "x", "data": "AB"}}),))
    second = Chunk((ChoiceDelta(0, "b", extra={"logprobs": {"content": [2]}, "audio": {"id": "y", "data": "CD"}}),))
    other = Chunk((ChoiceDelta(1, "c", extra={"logprobs": {"content": None}}),), extra={"citations": ["u"]})
    last = completed(
        run(first, second, other, end(), end(choice=1), Chunk(extra={"timings": {"n": 1}}), DONE, choices=2)
    )
    shared = {"citations": ["u"], "timings": {"n": 1}}
    assert last.choices[0].extra == {"logprobs": {"content": [1, 2]}, "audio": {"id": "y", "data": "ABCD"}, **shared}
    assert last.choices[1].extra == {"logprobs": {"content": None}, **shared}


def test_joining_extra_fields_does_not_modify_the_chunks():
    first, second = {"logprobs": {"content": [1]}}, {"logprobs": {"content": [2]}}
    run(*[Chunk((ChoiceDelta(extra=extra),)) for extra in (first, second)], end(), DONE)
    assert (first, second) == ({"logprobs": {"content": [1]}}, {"logprobs": {"content": [2]}})


def test_a_null_does_not_replace_the_value_of_an_extra_field():
    chunks = [Chunk((ChoiceDelta(extra={"a": {"b": value}}),)) for value in ([1], None, "x", "y")]
    assert completed(run(*chunks, end(), DONE)).choices[0].extra == {"a": {"b": "y"}}


def test_an_extra_field_may_be_deeply_nested():
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    assert completed(run(Chunk((ChoiceDelta(extra={"a": {"b": deep}}),)), end(), DONE)).choices[0].extra["a"]
