"""Events → complete items: `aggregate`, `collect`, and the turn."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterable, Iterator

import pytest

from chatstream import Prompt, aggregate, collect, read_events
from chatstream._decode.aggregate import Collector
from chatstream._encode.body import request_body
from chatstream.errors import ChatStreamError, ConfigError, ProviderError, StreamTruncated
from chatstream.types.events import (
    ChoiceEnd,
    Completed,
    ContentPartDone,
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
from chatstream.types.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    LocalShellCall,
    Message,
    Reasoning,
)
from chatstream.types.parts import InputText, Other, OutputImage, OutputText, Refusal
from chatstream.types.turn import Timing, Turn

COMPLETED = Completed("r1", "m1", TokenUsage(1, None, 2), "stop", "completed", (ChoiceEnd(0, "stop", "stop"),))
CALL = FunctionCall("f", '{"a": 1}', "c1")
EVENTS = [
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
    COMPLETED,
]
MESSAGE = Message("assistant", [OutputText("Hello"), Refusal("But no.")])
ITEMS = [OutputItemDone(Reasoning("Because why")), OutputItemDone(MESSAGE), OutputItemDone(CALL), COMPLETED]


def events_then_error(events: Iterable[ResponseEvent], error: Exception) -> Iterator[ResponseEvent]:
    """``events``, and then ``error``."""
    yield from events
    raise error


# ── aggregate ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_aggregate_joins_text_deltas_into_one_message_before_completed():
    events = [Created("r1"), OutputTextDelta("Hel"), OutputTextDelta("lo"), COMPLETED]
    assert list(aggregate(events)) == [OutputItemDone(Message("assistant", "Hello")), COMPLETED]


def test_aggregate_yields_the_reasoning_then_the_message_then_the_calls():
    assert list(aggregate(EVENTS)) == ITEMS


def test_aggregate_yields_no_item_before_the_answer_has_ended():
    read = []

    def events() -> Iterator[ResponseEvent]:
        for event in EVENTS:
            read.append(event)
            yield event

    stream = aggregate(events())
    assert read == []
    assert next(stream) == ITEMS[0]
    assert read == EVENTS


def test_aggregating_aggregated_events_changes_nothing():
    assert list(aggregate(aggregate(EVENTS))) == ITEMS
    assert list(aggregate(aggregate(aggregate(iter(EVENTS))))) == ITEMS


def test_aggregate_merges_complete_messages_with_deltas():
    events = [
        OutputItemDone(Message("assistant", "He")),
        OutputTextDelta("l"),
        OutputItemDone(Message("assistant", [OutputText("lo"), Refusal("no"), InputText("by hand"), OutputText("!")])),
        OutputItemDone(Reasoning("be")),
        ReasoningDelta("cause"),
        COMPLETED,
    ]
    assert list(aggregate(events)) == [
        OutputItemDone(Reasoning("because")),
        OutputItemDone(
            Message("assistant", [OutputText("Hello"), InputText("by hand"), OutputText("!"), Refusal("no")])
        ),
        COMPLETED,
    ]


def test_aggregate_keeps_pictures_and_other_parts_between_the_texts():
    picture, other = OutputImage("data:image/png;base64,AA"), Other({"type": "reference", "ids": [1]})
    events = [
        OutputTextDelta("a"),
        OutputTextDelta("b"),
        ContentPartDone(picture),
        ContentPartDone(other),
        OutputTextDelta("c"),
        OutputTextDelta(""),
        ContentPartDone(picture),
        COMPLETED,
    ]
    message = Message("assistant", [OutputText("ab"), picture, other, OutputText("c"), picture])
    assert list(aggregate(events)) == list(aggregate(aggregate(events))) == [OutputItemDone(message), COMPLETED]
    assert collect(events).text == "abc"


def test_the_details_of_all_pieces_of_reasoning_are_on_the_one_reasoning_item():
    first, second = {"type": "reasoning.text", "text": "be"}, {"type": "reasoning.encrypted", "data": "x"}
    events = [ReasoningDelta("be", 0, (first,)), ReasoningDelta("cause"), ReasoningDelta("", 0, (second,)), COMPLETED]
    reasoning = Reasoning("because", details=(first, second))
    assert list(aggregate(events)) == list(aggregate(aggregate(events))) == [OutputItemDone(reasoning), COMPLETED]
    sealed = [ReasoningDelta("", 0, (second,)), COMPLETED]
    assert list(aggregate(sealed)) == [OutputItemDone(Reasoning(details=(second,))), COMPLETED]


def test_aggregate_yields_calls_of_custom_tools_among_the_other_calls():
    custom = CustomToolCall("sh", "ls", "c2")
    events = [
        FunctionCallDelta('{"a": 1}', "c1", "f"),
        FunctionCallDelta("ls", "c2", "sh", 0, True),
        OutputItemDone(CALL),
        OutputItemDone(custom),
        COMPLETED,
    ]
    assert list(aggregate(events)) == [OutputItemDone(CALL), OutputItemDone(custom), COMPLETED]
    assert (collect(events).function_calls, collect(events).custom_calls) == ((CALL,), (custom,))
    with pytest.raises(StreamTruncated) as caught:
        collect(events[:2])
    assert caught.value.partial is not None
    assert caught.value.partial.custom_calls == (CustomToolCall("sh", "ls", "c2", "incomplete"),)


def test_aggregate_does_not_modify_the_events_it_reads():
    before = copy.deepcopy(EVENTS)
    list(aggregate(EVENTS))
    assert before == EVENTS


def test_aggregate_yields_only_completed_for_an_empty_answer():
    assert list(aggregate([Created(), COMPLETED])) == [COMPLETED]
    assert list(aggregate([OutputTextDelta(""), COMPLETED])) == [COMPLETED]


def test_aggregate_yields_heartbeats_immediately():
    heartbeat = Heartbeat()
    assert list(aggregate([heartbeat, OutputTextDelta("a"), heartbeat, COMPLETED])) == [
        heartbeat,
        heartbeat,
        OutputItemDone(Message("assistant", "a")),
        COMPLETED,
    ]
    assert next(aggregate(aggregate([OutputTextDelta("a"), heartbeat, COMPLETED]))) == heartbeat


def test_aggregate_yields_items_in_the_order_of_their_choices():
    end = Completed(choices=(ChoiceEnd(0, "stop"), ChoiceEnd(1, "stop")))
    events = [OutputTextDelta("b", 1), OutputTextDelta("a"), ReasoningDelta("r", 1), OutputItemDone(CALL, 1), end]
    assert list(aggregate(events)) == [
        OutputItemDone(Message("assistant", "a")),
        OutputItemDone(Reasoning("r"), 1),
        OutputItemDone(Message("assistant", "b"), 1),
        OutputItemDone(CALL, 1),
        end,
    ]


def test_aggregate_yields_calls_in_the_order_in_which_they_were_delivered():
    """The first delta of a call without arguments comes at the end, whenever the call began."""
    first, second = FunctionCall("f", "{}", "c1"), FunctionCall("g", '{"a": 1}', "c2")
    events = [
        FunctionCallDelta('{"a": 1}', "c2", "g"),
        FunctionCallDelta("{}", "c1", "f"),
        OutputItemDone(first),
        OutputItemDone(second),
        COMPLETED,
    ]
    assert list(aggregate(events))[:-1] == [OutputItemDone(first), OutputItemDone(second)]
    reverse = [*events[:2], OutputItemDone(second), OutputItemDone(first), COMPLETED]
    assert list(aggregate(reverse))[:-1] == [OutputItemDone(second), OutputItemDone(first)]


def test_aggregate_yields_calls_in_the_order_in_which_the_server_began_them():
    calls = [{"index": 0, "id": "c1", "function": {"name": "f"}}]
    calls += [{"index": i, "id": f"c{i + 1}", "function": {"name": "g", "arguments": '{"a": 1}'}} for i in (1, 2)]
    bodies: list[dict] = [{"choices": [{"delta": {"tool_calls": [call]}}]} for call in calls]
    data = b"".join(b"data: %b\n\n" % json.dumps(body).encode() for body in bodies) + b"data: [DONE]\n\n"
    assert [call.call_id for call in collect(read_events([data])).function_calls] == ["c1", "c2", "c3"]


def test_a_delta_after_its_complete_call_changes_nothing():
    assert list(aggregate([OutputItemDone(CALL), FunctionCallDelta("}", "c1", "f"), COMPLETED])) == [
        OutputItemDone(CALL),
        COMPLETED,
    ]


def test_aggregate_leaves_out_items_that_models_do_not_stream():
    shell = LocalShellCall("s1", None, "completed", {})
    assert list(aggregate([OutputItemDone(shell), OutputTextDelta("a"), COMPLETED])) == [
        OutputItemDone(Message("assistant", "a")),
        COMPLETED,
    ]


@pytest.mark.parametrize("take", [lambda events: list(aggregate(events)), collect], ids=["aggregate", "collect"])
def test_an_error_among_the_events_has_the_items_collected_until_then(take):
    with pytest.raises(ProviderError, match="no") as caught:
        take(events_then_error(EVENTS[:3], ProviderError("no")))
    partial = caught.value.partial
    assert partial is not None
    assert partial.items == (Message("assistant", "Hel"), FunctionCall("f", '{"a"', "c1", "incomplete"))
    assert (partial.status, partial.finish_reason) == ("incomplete", None)


@pytest.mark.parametrize("take", [lambda events: list(aggregate(events)), collect], ids=["aggregate", "collect"])
def test_events_that_end_without_completed_raise_stream_truncated(take):
    with pytest.raises(StreamTruncated, match="the events ended without a Completed event") as caught:
        take(EVENTS[:-1])
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"
    assert caught.value.partial.status == "incomplete"


@pytest.mark.parametrize("take", [lambda events: list(aggregate(events)), collect], ids=["aggregate", "collect"])
@pytest.mark.parametrize("values", [b"data: {}", "Hello", ["Hel", "lo"], [{"choices": []}]], ids=repr)
def test_values_that_are_no_events_raise_a_config_error_that_says_what_is_needed(take, values):
    with pytest.raises(
        ConfigError, match=r"need events, such as those of read_events\(…\) .* of the type (int|str|dict)$"
    ):
        take(values)


def test_a_call_that_was_never_reported_as_done_is_incomplete_even_with_valid_arguments():
    with pytest.raises(StreamTruncated) as caught:
        collect([FunctionCallDelta("", "c1", "f"), FunctionCallDelta("{}", "c1", "f")])
    assert caught.value.partial is not None
    assert caught.value.partial.function_calls == (FunctionCall("f", "{}", "c1", "incomplete"),)


def test_an_error_that_already_has_a_partial_turn_keeps_it():
    error = ProviderError("no")
    error.partial = Turn((Message("assistant", "more"),))
    with pytest.raises(ChatStreamError) as caught:
        collect(events_then_error(EVENTS[:2], error))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "more"


def test_exceptions_of_other_types_propagate_through_aggregate():
    with pytest.raises(KeyError):
        list(aggregate(events_then_error(EVENTS[:2], KeyError("mine"))))


# ── collect and the turn ────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_has_the_items_texts_calls_status_and_usage_of_its_events():
    turn = collect(EVENTS)
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


def test_collect_returns_the_same_turn_for_complete_items_as_for_deltas():
    assert collect(ITEMS) == collect(aggregate(EVENTS)) == collect(EVENTS)


@pytest.mark.parametrize("status", ["completed", "incomplete", "unconfirmed"])
def test_a_turn_has_the_status_of_its_choice(status):
    assert (
        collect([OutputTextDelta("a"), Completed(status=status, choices=(ChoiceEnd(0, None, None, status),))]).status
        == status
    )
    assert collect([OutputTextDelta("a"), Completed(status=status)]).status == status


def test_completed_without_choices_sets_the_finish_reason_of_the_only_choice():
    turn = collect([OutputTextDelta("a"), Completed(finish_reason="eos")])
    assert (turn.finish_reason, turn.status) == ("eos", "completed")


def test_a_turn_of_several_choices_has_the_values_of_the_first_and_a_view_of_each():
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


def test_a_choice_without_content_is_in_the_choices_of_the_turn():
    turn = collect([OutputTextDelta("a"), Completed(choices=(ChoiceEnd(0, "stop"), ChoiceEnd(1, "stop")))])
    assert [choice.text for choice in turn.choices] == ["a", ""]
    assert turn.choices[1].items == ()


def test_a_choice_that_completed_does_not_list_is_in_the_choices_of_the_turn():
    turn = collect([OutputTextDelta("b", 1), Completed(finish_reason="stop", choices=(ChoiceEnd(0, "stop"),))])
    assert [choice.text for choice in turn.choices] == ["", "b"]


def test_the_turn_of_an_empty_answer_has_no_items():
    turn = collect([COMPLETED])
    assert (turn.items, turn.text, turn.status) == ((), "", "completed")


def test_parsed_decodes_the_text_of_a_turn_as_json():
    turn = collect([OutputTextDelta('{"a": '), OutputTextDelta("1}"), COMPLETED])
    assert turn.parsed() == {"a": 1}
    with pytest.raises(ValueError, match="JSON"):
        collect([OutputTextDelta('{"a": '), COMPLETED]).parsed()


def test_a_collector_returns_the_turn_received_until_then_at_any_time():
    collector = Collector()
    assert (collector.turn().text, collector.turn().status) == ("", "incomplete")
    for event in collector.tee(EVENTS):
        if event == OutputTextDelta("lo"):
            break
    assert collector.turn().text == "Hello"
    assert collector.turn().reasoning == "Because "
    assert collector.turn().status == "incomplete"
    assert collector.completed is None
    for event in EVENTS[5:]:
        collector.add(event)
    assert collector.completed == COMPLETED
    assert collector.turn() == collect(EVENTS)


def test_the_turn_of_an_unfinished_answer_has_the_values_known_until_then():
    collector = Collector()
    collector.add(OutputTextDelta("a"))
    snapshot = Completed("r1", "m1", TokenUsage(1), "stop", "completed", (ChoiceEnd(0, "stop", "stop", "completed"),))
    turn = collector.turn(snapshot, Timing(0.1, 0.2, None))
    assert (turn.response_id, turn.model, turn.token_usage) == ("r1", "m1", TokenUsage(1))
    assert (turn.finish_reason, turn.status) == ("stop", "incomplete")
    assert turn.timing == Timing(0.1, 0.2, None)


def test_tee_adds_each_event_to_the_collector_before_it_yields_the_event():
    collector = Collector()
    events = []
    for event in collector.tee(iter(EVENTS)):
        events.append(event)
        if isinstance(event, OutputTextDelta):
            assert collector.turn().text.endswith(event.delta)
    assert events == EVENTS


def test_a_turn_can_be_pickled_copied_and_compared():
    turn = collect(EVENTS)
    assert pickle.loads(pickle.dumps(turn)) == copy.deepcopy(turn) == copy.copy(turn) == turn
    assert hash(turn) == hash(collect(EVENTS))
    assert turn != collect([OutputTextDelta("Hello"), COMPLETED])


# ── the next request ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_items_of_a_turn_can_be_added_to_the_prompt_and_sent():
    prompt = Prompt(input=[Message("user", "What is f of 1?")])
    turn = collect(EVENTS)
    prompt.input += turn.items
    prompt.input.append(FunctionCallOutput("c1", "2"))
    messages = request_body(prompt, model="m1", fields={})["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "c1"
    assert messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}


def test_a_call_without_an_id_from_the_server_can_be_answered():
    body = (
        b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}\n\n'
        b'data: {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}\n\ndata: [DONE]\n\n'
    )
    turn = collect(read_events([body]))
    (call,) = turn.function_calls
    prompt = Prompt(input=[Message("user", "f?"), *turn.items, FunctionCallOutput(call.call_id, "1")])
    messages = request_body(prompt, model="m1", fields={})["messages"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]


# ── read_events ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_read_events_ignores_empty_pieces():
    pieces = [b"", b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}', b"", b"\n\n", b""]
    assert [type(event) for event in read_events(pieces)] == [Created, OutputTextDelta, Completed]


def test_an_error_of_read_events_has_the_partial_turn_with_id_model_and_usage():
    body = (
        b'data: {"id": "r1", "model": "m1", "usage": {"total_tokens": 3}, "choices": [{"delta": {"content": "a"}}]}\n\n'
    )
    with pytest.raises(StreamTruncated) as caught:
        list(read_events([body]))
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.response_id, partial.model, partial.status) == ("a", "r1", "m1", "incomplete")
    assert partial.token_usage == TokenUsage(total_tokens=3)


def test_read_events_requires_a_finish_reason_for_each_requested_choice():
    body = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    assert collect(read_events([body])).text == "a"
    with pytest.raises(StreamTruncated, match="choice 1"):
        collect(read_events([body], choices=2))
