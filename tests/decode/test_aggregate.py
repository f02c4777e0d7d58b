"""Events to whole items: aggregate, collect, and the turn they fill."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Iterator

import pytest

from chatstream import Prompt, aggregate, collect, read_events
from chatstream._decode.aggregate import Collector
from chatstream._encode.body import request_body
from chatstream.errors import ChatStreamError, ProviderError, StreamTruncated
from chatstream.types.events import (
    ChoiceEnd,
    Completed,
    Created,
    FunctionCallDelta,
    Heartbeat,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
    TokenUsage,
)
from chatstream.types.items import FunctionCall, FunctionCallOutput, LocalShellCall, Message, Reasoning
from chatstream.types.parts import InputText, OutputText, Refusal
from chatstream.types.turn import Timing, Turn

END = Completed("r1", "m1", TokenUsage(1, None, 2), "stop", "completed", (ChoiceEnd(0, "stop", "stop"),))
CALL = FunctionCall("f", '{"a": 1}', "c1")
TALK = [
    Created("r1", "m1"),
    OutputTextDelta("Hel"),
    FunctionCallDelta('{"a"', "c1", "f"),
    ReasoningDelta("Because "),
    OutputTextDelta("lo"),
    RefusalDelta("But "),
    FunctionCallDelta(": 1}", "c1", "f"),
    OutputItemDone(CALL),
    RefusalDelta("no."),
    ReasoningDelta("why"),
    END,
]
MESSAGE = Message("assistant", [OutputText("Hello"), Refusal("But no.")])
WHOLE = [OutputItemDone(Reasoning("Because why")), OutputItemDone(MESSAGE), OutputItemDone(CALL), END]


def breaking(events: Iterable[ResponseEvent], error: Exception) -> Iterator[ResponseEvent]:
    yield from events
    raise error


# ── aggregate (A1–A4) ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_turn_becomes_its_message_and_completed():
    events = [Created("r1"), OutputTextDelta("Hel"), OutputTextDelta("lo"), END]
    assert list(aggregate(events)) == [OutputItemDone(Message("assistant", "Hello")), END]


def test_whole_items_come_in_the_order_of_a_conversation():
    assert list(aggregate(TALK)) == WHOLE


def test_it_is_silent_while_the_model_talks():
    taken = []

    def events() -> Iterator[ResponseEvent]:
        for event in TALK:
            taken.append(event)
            yield event

    stream = aggregate(events())
    assert taken == []
    assert next(stream) == WHOLE[0]
    assert taken == TALK


def test_doing_it_twice_changes_nothing():
    assert list(aggregate(aggregate(TALK))) == WHOLE
    assert list(aggregate(aggregate(aggregate(iter(TALK))))) == WHOLE


def test_whole_messages_and_pieces_of_them_are_merged():
    events = [
        OutputItemDone(Message("assistant", "He")),
        OutputTextDelta("l"),
        OutputItemDone(Message("assistant", [OutputText("lo"), Refusal("no"), InputText("not mine")])),
        OutputItemDone(Reasoning("be")),
        ReasoningDelta("cause"),
        END,
    ]
    assert list(aggregate(events)) == [
        OutputItemDone(Reasoning("because")),
        OutputItemDone(Message("assistant", [OutputText("Hello"), Refusal("no")])),
        END,
    ]


def test_the_events_given_to_it_are_not_changed():
    before = copy.deepcopy(TALK)
    list(aggregate(TALK))
    assert before == TALK


def test_an_answer_without_anything_is_only_completed():
    assert list(aggregate([Created(), END])) == [END]
    assert list(aggregate([OutputTextDelta(""), END])) == [END]


def test_heartbeats_pass_through_as_they_come():
    beat = Heartbeat()
    assert list(aggregate([beat, OutputTextDelta("a"), beat, END])) == [
        beat,
        beat,
        OutputItemDone(Message("assistant", "a")),
        END,
    ]
    assert next(aggregate(aggregate([OutputTextDelta("a"), beat, END]))) == beat


def test_choices_are_told_one_after_the_other():
    end = Completed(choices=(ChoiceEnd(0, "stop"), ChoiceEnd(1, "stop")))
    events = [OutputTextDelta("b", 1), OutputTextDelta("a"), ReasoningDelta("r", 1), OutputItemDone(CALL, 1), end]
    assert list(aggregate(events)) == [
        OutputItemDone(Message("assistant", "a")),
        OutputItemDone(Reasoning("r"), 1),
        OutputItemDone(Message("assistant", "b"), 1),
        OutputItemDone(CALL, 1),
        end,
    ]


def test_calls_stay_in_the_order_in_which_they_began():
    first, second = FunctionCall("f", "{}", "c1"), FunctionCall("g", "{}", "c2")
    events = [
        FunctionCallDelta("{", "c1", "f"),
        FunctionCallDelta("{}", "c2", "g"),
        OutputItemDone(second),
        OutputItemDone(first),
        END,
    ]
    assert list(aggregate(events))[:-1] == [OutputItemDone(first), OutputItemDone(second)]


def test_a_late_piece_of_a_whole_call_changes_nothing():
    assert list(aggregate([OutputItemDone(CALL), FunctionCallDelta("}", "c1", "f"), END])) == [
        OutputItemDone(CALL),
        END,
    ]


def test_items_that_no_model_streams_are_left_out():
    shell = LocalShellCall("s1", None, "completed", {})
    assert list(aggregate([OutputItemDone(shell), OutputTextDelta("a"), END])) == [
        OutputItemDone(Message("assistant", "a")),
        END,
    ]


@pytest.mark.parametrize("take", [lambda events: list(aggregate(events)), collect], ids=["aggregate", "collect"])
def test_what_was_collected_is_not_lost_when_the_events_break_off(take):
    with pytest.raises(ProviderError, match="no") as caught:
        take(breaking(TALK[:3], ProviderError("no")))
    partial = caught.value.partial
    assert partial is not None
    assert partial.items == (Message("assistant", "Hel"), FunctionCall("f", '{"a"', "c1", "incomplete"))
    assert (partial.status, partial.finish_reason) == ("incomplete", None)


@pytest.mark.parametrize("take", [lambda events: list(aggregate(events)), collect], ids=["aggregate", "collect"])
def test_events_that_end_without_completed_are_cut(take):
    with pytest.raises(StreamTruncated, match="the events ended without Completed") as caught:
        take(TALK[:-1])
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"
    assert caught.value.partial.status == "incomplete"


def test_a_call_that_never_was_whole_is_incomplete_whatever_it_looks_like():
    with pytest.raises(StreamTruncated) as caught:
        collect([FunctionCallDelta("", "c1", "f"), FunctionCallDelta("{}", "c1", "f")])
    assert caught.value.partial is not None
    assert caught.value.partial.function_calls == (FunctionCall("f", "{}", "c1", "incomplete"),)


def test_a_partial_that_is_there_already_stays():
    error = ProviderError("no")
    error.partial = Turn((Message("assistant", "more"),))
    with pytest.raises(ChatStreamError) as caught:
        collect(breaking(TALK[:2], error))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "more"


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError):
        list(aggregate(breaking(TALK[:2], KeyError("mine"))))


# ── collect and the turn (A5) ───────────────────────────────────────────────────────────────────────────────────


def test_a_turn_shows_everything():
    turn = collect(TALK)
    assert turn.items == (Reasoning("Because why"), MESSAGE, CALL)
    assert (turn.text, turn.reasoning, turn.refusal, turn.function_calls) == (
        "Hello",
        "Because why",
        "But no.",
        (CALL,),
    )
    assert (turn.finish_reason, turn.finish_kind, turn.status) == ("stop", "stop", "completed")
    assert (turn.response_id, turn.model, turn.token_usage) == ("r1", "m1", TokenUsage(1, None, 2))
    assert turn.choices == (turn,)
    assert turn.timing is None


def test_collecting_whole_items_gives_the_same_turn():
    assert collect(WHOLE) == collect(aggregate(TALK)) == collect(TALK)


@pytest.mark.parametrize("status", ["completed", "incomplete", "unconfirmed"])
def test_a_turn_has_the_status_of_its_choice(status):
    assert (
        collect([OutputTextDelta("a"), Completed(status=status, choices=(ChoiceEnd(0, None, None, status),))]).status
        == status
    )
    assert collect([OutputTextDelta("a"), Completed(status=status)]).status == status


def test_an_end_without_choices_tells_of_the_only_one():
    turn = collect([OutputTextDelta("a"), Completed(finish_reason="eos")])
    assert (turn.finish_reason, turn.status) == ("eos", "completed")


def test_a_turn_of_several_choices_shows_the_first_and_holds_a_view_of_each():
    ends = (ChoiceEnd(0, "stop", "stop", "completed", {"x": [1]}), ChoiceEnd(1, "length", "length", "incomplete"))
    end = Completed("r1", "m1", TokenUsage(1), "stop", "incomplete", ends)
    turn = collect([OutputTextDelta("b", 1), OutputTextDelta("a"), end])
    assert [choice.text for choice in turn.choices] == ["a", "b"]
    assert [(choice.finish_reason, choice.finish_kind, choice.status) for choice in turn.choices] == [
        ("stop", "stop", "completed"),
        ("length", "length", "incomplete"),
    ]
    assert [choice.extra for choice in turn.choices] == [{"x": [1]}, {}]
    assert all((view.response_id, view.model, view.token_usage) == ("r1", "m1", TokenUsage(1)) for view in turn.choices)
    assert (turn.text, turn.finish_reason, turn.status, turn.extra) == ("a", "stop", "completed", {"x": [1]})
    assert turn.choices[1].choices == (turn.choices[1],)


def test_a_choice_that_said_nothing_is_still_a_choice():
    turn = collect([OutputTextDelta("a"), Completed(choices=(ChoiceEnd(0, "stop"), ChoiceEnd(1, "stop")))])
    assert [choice.text for choice in turn.choices] == ["a", ""]
    assert turn.choices[1].items == ()


def test_a_choice_of_which_the_end_says_nothing_is_shown_too():
    turn = collect([OutputTextDelta("b", 1), Completed(finish_reason="stop", choices=(ChoiceEnd(0, "stop"),))])
    assert [choice.text for choice in turn.choices] == ["", "b"]


def test_an_empty_answer_is_an_empty_turn():
    turn = collect([END])
    assert (turn.items, turn.text, turn.status) == ((), "", "completed")


def test_the_text_as_json():
    turn = collect([OutputTextDelta('{"a": '), OutputTextDelta("1}"), END])
    assert turn.parsed() == {"a": 1}
    with pytest.raises(ValueError, match="JSON"):
        collect([OutputTextDelta('{"a": '), END]).parsed()


def test_a_collector_shows_what_there_is_at_any_time():
    collector = Collector()
    assert (collector.turn().text, collector.turn().status) == ("", "incomplete")
    for event in collector.tee(TALK):
        if event == OutputTextDelta("lo"):
            break
    assert collector.turn().text == "Hello"
    assert collector.turn().reasoning == "Because "
    assert collector.turn().status == "incomplete"
    assert collector.completed is None
    for event in TALK[5:]:
        collector.add(event)
    assert collector.completed == END
    assert collector.turn() == collect(TALK)


def test_what_is_known_of_an_answer_that_has_not_ended_is_shown():
    collector = Collector()
    collector.add(OutputTextDelta("a"))
    snapshot = Completed("r1", "m1", TokenUsage(1), "stop", "completed", (ChoiceEnd(0, "stop", "stop", "completed"),))
    turn = collector.turn(snapshot, Timing(0.1, 0.2, None))
    assert (turn.response_id, turn.model, turn.token_usage) == ("r1", "m1", TokenUsage(1))
    assert (turn.finish_reason, turn.status) == ("stop", "incomplete")
    assert turn.timing == Timing(0.1, 0.2, None)


def test_passing_events_on_changes_none_and_notes_each_before_it_is_handed_over():
    collector = Collector()
    seen = []
    for event in collector.tee(iter(TALK)):
        seen.append(event)
        if isinstance(event, OutputTextDelta):
            assert collector.turn().text.endswith(event.delta)
    assert seen == TALK


def test_a_turn_can_be_pickled_copied_and_compared():
    turn = collect(TALK)
    assert pickle.loads(pickle.dumps(turn)) == copy.deepcopy(turn) == copy.copy(turn) == turn
    assert hash(turn) == hash(collect(TALK))
    assert turn != collect([OutputTextDelta("Hello"), END])


# ── what a turn is for: the next one ────────────────────────────────────────────────────────────────────────────


def test_the_items_of_a_turn_can_be_added_to_the_prompt_and_sent():
    prompt = Prompt(input=[Message("user", "What is f of 1?")])
    turn = collect(TALK)
    prompt.input += turn.items
    prompt.input.append(FunctionCallOutput("c1", "2"))
    messages = request_body(prompt, model="m1", fields={})["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "c1"
    assert messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}


def test_a_call_for_which_the_server_gave_no_id_can_be_answered():
    body = (
        b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}\n\n'
        b'data: {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}\n\ndata: [DONE]\n\n'
    )
    turn = collect(read_events([body]))
    (call,) = turn.function_calls
    prompt = Prompt(input=[Message("user", "f?"), *turn.items, FunctionCallOutput(call.call_id, "1")])
    messages = request_body(prompt, model="m1", fields={})["messages"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]


# ── read_events: any iterable of bytes ──────────────────────────────────────────────────────────────────────────


def test_a_recorded_body_becomes_events_with_empty_pieces_left_aside():
    pieces = [b"", b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}', b"", b"\n\n", b""]
    assert [type(event) for event in read_events(pieces)] == [Created, OutputTextDelta, Completed]


def test_an_error_carries_what_was_received_and_known():
    body = (
        b'data: {"id": "r1", "model": "m1", "usage": {"total_tokens": 3}, "choices": [{"delta": {"content": "a"}}]}\n\n'
    )
    with pytest.raises(StreamTruncated) as caught:
        list(read_events([body]))
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.response_id, partial.model, partial.status) == ("a", "r1", "m1", "incomplete")
    assert partial.token_usage == TokenUsage(total_tokens=3)


def test_the_number_of_choices_asked_for_counts():
    body = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    assert collect(read_events([body])).text == "a"
    with pytest.raises(StreamTruncated, match="choice 1"):
        collect(read_events([body], choices=2))
