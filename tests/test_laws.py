"""Properties of every stream, whatever its format and however its bytes are split."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from decoding import body_payloads, run_machine, sse_events
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strategies import (
    JSON_VALUES,
    NOISY_BYTES,
    ODD_BODIES,
    ODD_CHUNKS,
    ExpectedCall,
    ExpectedChoice,
    answers_with_unknown_keys,
    loose_streams,
    pieces,
    streams,
)

from chatstream import Prompt, aggregate, collect, read_events
from chatstream._decode.chunks import ChunkReader
from chatstream._decode.error_body import error_of_body
from chatstream._decode.machine import Machine
from chatstream._decode.sse import SSEDecoder
from chatstream._encode.body import encode_json, request_body
from chatstream.errors import ChatStreamError, ProviderError, StreamTruncated
from chatstream.types.events import (
    Completed,
    Created,
    FunctionCallDelta,
    Heartbeat,
    OutputItemDone,
    OutputTextDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseEvent,
)
from chatstream.types.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Message,
    Reasoning,
    item_from_dict,
)
from chatstream.types.limits import Limits
from chatstream.types.turn import Turn

pytestmark = pytest.mark.thorough

# The examples are the same in every run, so that a failure is reproducible.
settings.register_profile(
    "properties",
    deadline=None,
    derandomize=True,
    max_examples=100,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SHARE = float(os.environ.get("CHATSTREAM_EXAMPLES", "1"))  # of the examples; the suites on other Pythons try fewer
property_test = settings(settings.get_profile("properties"), max_examples=int(100 * SHARE))
more_examples = settings(property_test, max_examples=int(250 * SHARE))
many_examples = settings(property_test, max_examples=int(800 * SHARE))


COUNTS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")


def events_of(source: Iterable[bytes], choices: int) -> Iterator[ResponseEvent]:
    """As `read_events`, but the ids generated for calls are the same each time."""
    numbers = count(1)
    machine = Machine(choices, new_call_id=lambda: f"generated-{next(numbers)}")
    return run_machine(machine, ChunkReader().read(body_payloads(source)))


def outcome(source: Iterable[bytes], choices: int = 1) -> tuple[list[ResponseEvent], str]:
    """Everything that a stream delivers: its events, and its error if it has one."""
    events: list[ResponseEvent] = []
    try:
        for event in events_of(source, choices):
            events.append(event)
    except ChatStreamError as error:
        return events, f"{type(error).__name__}: {error}"
    return events, "complete"


def reported(turn: Turn) -> list[tuple[Any, ...]]:
    return [
        (
            view.text,
            view.reasoning,
            view.refusal,
            [(call.name, call.arguments, call.status) for call in view.function_calls],
            view.finish_reason,
            view.status,
        )
        for view in turn.choices
    ]


def expected(one: ExpectedChoice) -> tuple[Any, ...]:
    calls = [(call.name, call.arguments, "completed" if call.complete else "incomplete") for call in one.calls]
    return (one.text, one.reasoning, one.refusal, calls, one.finish_reason, one.status)


# ── content ────────────────────────────────────────────────────────────────────────────────────────────────────────


@property_test
@given(streams())
def test_the_turn_has_the_content_that_the_stream_encodes(stream):
    turn = collect(read_events([stream.data], choices=len(stream.choices)))
    assert reported(turn) == [expected(one) for one in stream.choices]
    assert (turn.response_id, turn.model) == (stream.response_id, stream.model)
    usage = turn.token_usage
    counts = {name: getattr(usage, name) for name in COUNTS if getattr(usage, name) is not None} if usage else None
    assert counts == stream.usage


@property_test
@given(streams())
def test_call_ids_of_the_server_are_kept_missing_ones_are_generated_and_all_differ(stream):
    turn = collect(read_events([stream.data], choices=len(stream.choices)))
    for view, one in zip(turn.choices, stream.choices, strict=True):
        ids = [call.call_id for call in view.function_calls]
        assert len(set(ids)) == len(ids)
        for call_id, call in zip(ids, one.calls, strict=True):
            if call.call_id:
                assert call_id == call.call_id
            else:
                assert re.fullmatch("call_[0-9a-f]{24}", call_id)


# ── loose identity and round trip ───────────────────────────────────────────────────────────────────────────────


@many_examples
@given(loose_streams())
def test_calls_and_choices_are_the_same_however_loosely_they_are_numbered_named_and_cut(stream):
    turn = collect(read_events([stream.data], choices=len(stream.choices)))
    assert reported(turn) == [expected(one) for one in stream.choices]
    for view, one in zip(turn.choices, stream.choices, strict=True):
        ids = [call.call_id for call in view.function_calls]
        assert len(set(ids)) == len(ids)
        for call_id, call in zip(ids, one.calls, strict=True):
            assert call_id == call.call_id if call.call_id else re.fullmatch("call_[0-9a-f]{24}|id-[0-9]+", call_id)


@many_examples
@given(loose_streams())
def test_the_deltas_of_loosely_identified_calls_join_to_their_calls(stream):
    events = list(read_events([stream.data], choices=len(stream.choices)))
    joined: dict[tuple[int, str], str] = {}
    for event in events:
        if isinstance(event, FunctionCallDelta):
            key = (event.choice, event.call_id)
            joined[key] = joined.get(key, "") + event.delta
    done = [(event.choice, event.item) for event in events if isinstance(event, OutputItemDone)]
    assert joined == {(choice, item.call_id): item.arguments for choice, item in done}
    names = {(choice, item.call_id): item.name for choice, item in done}
    assert all(names[e.choice, e.call_id] == e.name for e in events if isinstance(e, FunctionCallDelta))


@more_examples
@given(answers_with_unknown_keys(), st.sampled_from(["as they are", "to_dict and JSON", "pickle"]))
def test_what_a_server_must_get_back_is_in_the_next_request_unchanged(answer, kept):
    items: Any = collect(read_events([answer.data])).items
    if kept == "to_dict and JSON":
        items = [item_from_dict(each) for each in json.loads(json.dumps([item.to_dict() for item in items]))]
    elif kept == "pickle":
        items = pickle.loads(pickle.dumps(items))
    outputs = [item.output("done") for item in items if isinstance(item, (FunctionCall, CustomToolCall))]
    prompt = Prompt(input=[Message("user", "?"), *items, *outputs])
    body = request_body(prompt, model="m", fields={}, echo_reasoning="reasoning_details")
    messages = json.loads(encode_json(body))["messages"]
    sent = [message for message in messages if message["role"] == "assistant"]
    entries = [entry for message in sent for entry in message.get("tool_calls") or ()]
    details = [entry for message in sent for entry in message.get("reasoning_details") or ()]
    assert [written(entry) for entry in entries] == [written(entry) for entry in answer.tool_calls]
    assert [written(entry) for entry in details] == [written(entry) for entry in answer.reasoning_details]


def written(value: Any) -> str:
    """The bytes of a JSON value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True)


# ── splitting ───────────────────────────────────────────────────────────────────────────────────────────────────


@property_test
@given(st.data(), streams())
def test_splitting_a_stream_elsewhere_changes_neither_its_events_nor_its_error(data, stream):
    cut = data.draw(pieces(stream.data))
    assert outcome(cut, len(stream.choices)) == outcome([stream.data], len(stream.choices))


@property_test
@given(st.data(), NOISY_BYTES)
@example(None, b'\n\n{"choices": []}')
@example(None, b'\xef\xbb\xbf[{"error": "no"}]')
@example(None, b"event: x")
@example(None, b"data\n\ndata")
@example(None, b"\xef\xbb")
def test_splitting_arbitrary_bytes_elsewhere_changes_neither_the_events_nor_the_error(data, noise):
    cut = data.draw(pieces(noise)) if data else [noise[i : i + 1] for i in range(len(noise))]
    assert outcome(cut) == outcome([noise] if noise else [])


@property_test
@given(st.data(), NOISY_BYTES)
def test_splitting_arbitrary_bytes_elsewhere_changes_no_sse_event_no_tail_and_no_comment_count(data, noise):
    def decode(source: Iterable[bytes]) -> tuple[Any, ...]:
        decoder = SSEDecoder()
        events = [(event.event, event.data) for event in sse_events(source, decoder=decoder)]
        return events, decoder.comments, decoder.tail.lstrip(b"\n")  # blank lines before it have no meaning

    assert decode(data.draw(pieces(noise))) == decode([noise] if noise else [])


@property_test
@given(st.data(), NOISY_BYTES, st.integers(1, 40), st.integers(1, 6))
def test_splitting_arbitrary_bytes_elsewhere_does_not_change_which_limit_is_exceeded(data, noise, size, lines):
    noise = re.sub(rb"(\r\n|\r|\n){3,}", b"\n\n", noise).lstrip(b"\r\n")  # an extra blank line may count as one byte
    limits = Limits(event_bytes=size, event_lines=lines)

    def ending(source: Iterable[bytes]) -> str:
        try:
            for _ in sse_events(source, limits):
                pass
        except ChatStreamError as error:
            return type(error).__name__
        return "complete"

    assert ending(data.draw(pieces(noise))) == ending([noise] if noise else [])


@property_test
@given(NOISY_BYTES)
def test_the_sse_events_of_arbitrary_bytes_are_those_of_the_whatwg_algorithm(noise):
    assert [(event.event, event.data) for event in sse_events([noise] if noise else [])] == whatwg_events(noise)


def whatwg_events(data: bytes) -> list[tuple[str, str]]:
    """The algorithm of WHATWG HTML 9.2.6, applied to the whole stream at once."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    dispatched = []
    name, lines = "", []
    for line in re.findall(r"([^\r\n]*)(?:\r\n|\r|\n)", text):
        if not line:
            if lines:
                dispatched.append((name or "message", "\n".join(lines)))
            name, lines = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            lines.append(value)
        elif field == "event":
            name = value
    return dispatched


# ── the order of events ─────────────────────────────────────────────────────────────────────────────────────────


@property_test
@given(streams())
def test_created_is_the_first_event_completed_is_the_last_and_each_occurs_once(stream):
    kinds = [type(event) for event in events_of([stream.data], len(stream.choices))]
    assert kinds[0] is Created
    assert kinds[-1] is Completed
    assert kinds.count(Created) == kinds.count(Completed) == 1


@property_test
@given(streams())
def test_the_deltas_of_a_choice_join_to_its_message_and_its_reasoning(stream):
    events = list(events_of([stream.data], len(stream.choices)))
    items = [event for event in aggregate(events) if isinstance(event, OutputItemDone)]
    for index in range(len(stream.choices)):
        joined = {kind: joined_deltas(events, kind, index) for kind in (OutputTextDelta, ReasoningDelta, RefusalDelta)}
        own = [event.item for event in items if event.choice == index]
        messages = [item for item in own if isinstance(item, Message)]
        assert (
            "".join(part.text for item in messages for part in item.content if hasattr(part, "text"))
            == joined[OutputTextDelta]
        )
        assert (
            "".join(part.refusal for item in messages for part in item.content if hasattr(part, "refusal"))
            == joined[RefusalDelta]
        )
        assert "".join(item.text for item in own if isinstance(item, Reasoning)) == joined[ReasoningDelta]


def joined_deltas(events: list[ResponseEvent], kind: type, index: int) -> str:
    return "".join(event.delta for event in events if type(event) is kind and event.choice == index)  # type: ignore[union-attr]


@property_test
@given(streams())
def test_the_deltas_of_a_call_join_to_its_arguments_and_come_before_the_complete_call(stream):
    open_calls: dict[tuple[int, str], str] = {}
    done: set[tuple[int, str]] = set()
    for event in events_of([stream.data], len(stream.choices)):
        if isinstance(event, FunctionCallDelta):
            key = (event.choice, event.call_id)
            assert key not in done
            open_calls[key] = open_calls.get(key, "") + event.delta
        elif isinstance(event, OutputItemDone):
            assert isinstance(event.item, FunctionCall)
            key = (event.choice, event.item.call_id)
            assert open_calls.pop(key) == event.item.arguments
            done.add(key)
    assert not open_calls


@property_test
@given(streams() | loose_streams())
def test_no_delta_is_empty_except_for_a_call_without_arguments_and_for_reasoning_with_details(stream):
    events = list(events_of([stream.data], len(stream.choices)))
    arguments = {(e.choice, e.item.call_id): e.item.arguments for e in events if isinstance(e, OutputItemDone)}
    announced = set()
    for event in events:
        if isinstance(event, FunctionCallDelta):
            key = (event.choice, event.call_id)
            assert event.delta or (not arguments[key] and key not in announced)
            assert event.name
            announced.add(key)
        elif isinstance(event, ReasoningDelta):
            assert event.delta or event.details
        elif isinstance(event, (OutputTextDelta, RefusalDelta)):
            assert event.delta


@property_test
@given(streams())
def test_aggregate_applied_twice_equals_aggregate_applied_once(stream):
    events = list(events_of([stream.data], len(stream.choices)))
    aggregated = list(aggregate(events))
    assert list(aggregate(aggregated)) == aggregated
    assert collect(aggregated) == collect(events)


@property_test
@given(streams(), st.lists(st.integers(0, 100), max_size=4))
def test_heartbeats_change_neither_the_turn_nor_the_items(stream, places):
    events = list(events_of([stream.data], len(stream.choices)))
    with_heartbeats = list(events)
    for place in places:
        with_heartbeats.insert(place % len(events), Heartbeat())
    assert collect(with_heartbeats) == collect(events)
    assert [event for event in aggregate(with_heartbeats) if type(event) is not Heartbeat] == list(aggregate(events))


@property_test
@given(streams())
def test_the_items_of_a_turn_can_be_sent_in_the_next_request(stream):
    turn = collect(read_events([stream.data], choices=len(stream.choices)))
    outputs = [FunctionCallOutput(call.call_id, "done") for call in turn.function_calls]
    body = request_body(Prompt(input=[Message("user", "?"), *turn.items, *outputs]), model="m", fields={})
    assert json.loads(json.dumps(body)) == body
    sent = [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]
    assert sent == [call.call_id for call in turn.function_calls]


# ── streams that are cut off ────────────────────────────────────────────────────────────────────────────────────


@property_test
@given(st.data(), streams())
def test_a_stream_cut_before_its_last_finish_reason_raises_stream_truncated(data, stream):
    end = data.draw(st.integers(0, stream.complete_at - 1))
    with pytest.raises(StreamTruncated) as caught:
        collect(read_events(data.draw(pieces(stream.data[:end])), choices=len(stream.choices)))
    partial = caught.value.partial
    assert partial is not None
    assert partial.status == "incomplete"
    for index, view in enumerate(partial.choices[: len(stream.choices)]):
        if len(partial.choices) == len(stream.choices):
            assert stream.choices[index].text.startswith(view.text)
            assert stream.choices[index].reasoning.startswith(view.reasoning)


@property_test
@given(st.data(), streams())
def test_a_stream_cut_after_its_last_finish_reason_keeps_all_finish_reasons(data, stream):
    end = data.draw(st.integers(stream.complete_at, len(stream.data)))
    turn = collect(read_events([stream.data[:end]], choices=len(stream.choices)))
    for view, one in zip(turn.choices, stream.choices, strict=True):
        assert one.text.startswith(view.text)
        assert view.finish_reason == one.finish_reason


@property_test
@given(st.data(), streams())
def test_the_deltas_of_a_cut_stream_are_a_prefix_of_those_of_the_whole_stream(data, stream):
    end = data.draw(st.integers(0, len(stream.data)))
    whole, _ = outcome([stream.data], len(stream.choices))
    cut, _ = outcome([stream.data[:end]] if end else [], len(stream.choices))
    for kind in (OutputTextDelta, ReasoningDelta, RefusalDelta):
        deltas = [event for event in cut if isinstance(event, kind)]
        assert deltas == [event for event in whole if isinstance(event, kind)][: len(deltas)]


@property_test
@given(
    st.data(),
    streams(),
    st.sampled_from([{"error": {"message": "no", "code": 500}}, {"error": "no"}, {"detail": "no"}]),
)
def test_an_error_event_before_the_last_finish_reason_raises_provider_error_with_a_partial_turn(data, stream, error):
    blocks = stream.data.split(b"\n\n")
    keep = data.draw(st.integers(0, max(len(stream.data[: stream.complete_at].split(b"\n\n")) - 1, 0)))
    head = b"".join(block + b"\n\n" for block in blocks[:keep])
    broken = head + b"data: " + json.dumps(error).encode() + b"\n\n" + stream.data[len(head) :]
    with pytest.raises(ProviderError, match="no") as caught:
        collect(read_events([broken], choices=len(stream.choices)))
    assert caught.value.partial is not None


# ── arbitrary input ─────────────────────────────────────────────────────────────────────────────────────────────


@more_examples
@given(st.lists(ODD_CHUNKS | ODD_BODIES, max_size=3), st.sampled_from([b"data: ", b"event: error\ndata: "]))
def test_arbitrary_json_raises_only_errors_of_this_library(bodies, name):
    data = b"".join(name + json.dumps(body).encode() + b"\n\n" for body in bodies)
    events, end = outcome([data, b"data: [DONE]\n\n"])
    assert end.startswith(("complete", "ProviderError", "ProtocolViolation", "StreamTruncated"))
    if end.startswith("StreamTruncated"):
        assert "the answer ended before any content arrived" in end
        assert events == []
    for event in events:
        assert isinstance(getattr(event, "delta", ""), str)
        assert type(getattr(event, "choice", 0)) is int


@more_examples
@given(ODD_BODIES | JSON_VALUES)
def test_every_error_body_yields_a_message(body):
    assert isinstance(error_of_body(json.dumps(body)).message, str)


# ── earlier counterexamples ─────────────────────────────────────────────────────────────────────────────────────


def sse(*bodies: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies) + b"data: [DONE]\n\n"


def test_the_strategy_expects_the_status_that_its_choices_have():
    """An error in a strategy would hide errors of the library."""
    one = ExpectedChoice("a", calls=[ExpectedCall("f", "{}", "c")], finish_reason="stop")
    assert one.status == "completed"
    assert ExpectedChoice(finish_reason="length").status == "incomplete"
    assert ExpectedChoice().status == "unconfirmed"


def test_a_response_id_that_arrives_with_the_second_text_chunk_is_kept():
    data = sse(
        {"id": "", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
        {"id": "r-1", "choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}]},
        {"id": "", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    assert collect(read_events([data])).response_id == "r-1"


def test_a_call_without_id_and_arguments_keeps_its_place_before_the_next_call():
    calls = [{"function": {"name": "f", "arguments": ""}}, {"function": {"name": "g", "arguments": "{}"}}]
    data = sse(*[{"choices": [{"delta": {"tool_calls": [call]}}]} for call in calls])
    assert [call.name for call in collect(read_events([data])).function_calls] == ["f", "g"]


def test_a_json_body_after_blank_lines_is_read():
    body = b'\n\n{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'
    assert collect(read_events([body])).text == "a"
