"""The laws: what holds for every stream, however it is spelled and however it is cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from decoding import body_payloads, run_machine, sse_events
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strategies import JSON_VALUES, NOISY_BYTES, ODD_BODIES, ODD_CHUNKS, Call, Said, pieces, streams

from chatstream import Prompt, aggregate, collect, read_events
from chatstream._decode.chunks import ChunkReader
from chatstream._decode.error_body import error_of_body
from chatstream._decode.machine import Machine
from chatstream._decode.sse import SSEDecoder
from chatstream._encode.body import request_body
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
from chatstream.types.items import FunctionCall, FunctionCallOutput, Message, Reasoning
from chatstream.types.limits import Limits
from chatstream.types.turn import Turn

# The same examples in every run: a law that fails, fails for everyone.
settings.register_profile(
    "laws", deadline=None, derandomize=True, max_examples=100, database=None, suppress_health_check=list(HealthCheck)
)
law = settings(settings.get_profile("laws"))
often = settings(law, max_examples=250)


def events_of(source: Iterable[bytes], choices: int) -> Iterator[ResponseEvent]:
    """As `read_events`, with ids for calls that have none that are the same each time."""
    numbers = count(1)
    machine = Machine(choices, new_call_id=lambda: f"made-{next(numbers)}")
    return run_machine(machine, ChunkReader().read(body_payloads(source)))


def outcome(source: Iterable[bytes], choices: int = 1) -> tuple[list[ResponseEvent], str]:
    """All that can be seen of a stream: its events, and how it ended."""
    seen: list[ResponseEvent] = []
    try:
        for event in events_of(source, choices):
            seen.append(event)
    except ChatStreamError as error:
        return seen, f"{type(error).__name__}: {error}"
    return seen, "whole"


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


def meant(one: Said) -> tuple[Any, ...]:
    calls = [(call.name, call.arguments, "completed" if call.whole else "incomplete") for call in one.calls]
    return (one.text, one.reasoning, one.refusal, calls, one.finish_reason, one.status)


# ── what was meant ──────────────────────────────────────────────────────────────────────────────────────────────


@law
@given(streams())
def test_what_was_meant_is_what_the_turn_says(stream):
    turn = collect(read_events([stream.data], choices=len(stream.said)))
    assert reported(turn) == [meant(one) for one in stream.said]
    assert (turn.response_id, turn.model) == (stream.response_id, stream.model)
    usage = turn.token_usage
    counts = (
        {name: getattr(usage, name) for name in usage.__slots__ if getattr(usage, name) is not None} if usage else None
    )
    assert counts == stream.usage


@law
@given(streams())
def test_the_ids_of_the_server_are_kept_and_others_are_made_up_and_all_differ(stream):
    turn = collect(read_events([stream.data], choices=len(stream.said)))
    for view, one in zip(turn.choices, stream.said, strict=True):
        ids = [call.call_id for call in view.function_calls]
        assert len(set(ids)) == len(ids)
        for call_id, call in zip(ids, one.calls, strict=True):
            if call.call_id:
                assert call_id == call.call_id
            else:
                assert re.fullmatch("call_[0-9a-f]{24}", call_id)


# ── cutting ─────────────────────────────────────────────────────────────────────────────────────────────────────


@law
@given(st.data(), streams())
def test_cutting_the_bytes_elsewhere_changes_nothing(data, stream):
    cut = data.draw(pieces(stream.data))
    assert outcome(cut, len(stream.said)) == outcome([stream.data], len(stream.said))


@law
@given(st.data(), NOISY_BYTES)
@example(None, b'\n\n{"choices": []}')
@example(None, b'\xef\xbb\xbf[{"error": "no"}]')
@example(None, b"event: x")
@example(None, b"data\n\ndata")
@example(None, b"\xef\xbb")
def test_cutting_any_bytes_elsewhere_changes_nothing(data, noise):
    cut = data.draw(pieces(noise)) if data else [noise[i : i + 1] for i in range(len(noise))]
    assert outcome(cut) == outcome([noise] if noise else [])


@law
@given(st.data(), NOISY_BYTES)
def test_cutting_any_bytes_elsewhere_changes_no_event_no_tail_and_no_comment(data, noise):
    def seen(source: Iterable[bytes]) -> tuple[Any, ...]:
        decoder = SSEDecoder()
        events = [(event.event, event.data) for event in sse_events(source, decoder=decoder)]
        return events, decoder.comments, decoder.tail.lstrip(b"\n")  # blank lines before it are nothing

    assert seen(data.draw(pieces(noise))) == seen([noise] if noise else [])


@law
@given(st.data(), NOISY_BYTES, st.integers(1, 40), st.integers(1, 6))
def test_cutting_any_bytes_elsewhere_moves_no_limit(data, noise, size, lines):
    noise = re.sub(rb"(\r\n|\r|\n){3,}", b"\n\n", noise).lstrip(b"\r\n")  # a blank line too many may count by a byte
    limits = Limits(event_bytes=size, event_lines=lines)

    def ending(source: Iterable[bytes]) -> str:
        try:
            for _ in sse_events(source, limits):
                pass
        except ChatStreamError as error:
            return type(error).__name__
        return "whole"

    assert ending(data.draw(pieces(noise))) == ending([noise] if noise else [])


@law
@given(NOISY_BYTES)
def test_bytes_mean_what_the_specification_says(noise):
    assert [(event.event, event.data) for event in sse_events([noise] if noise else [])] == specified(noise)


def specified(data: bytes) -> list[tuple[str, str]]:
    """WHATWG HTML 9.2.6, word for word, on a whole stream at once."""
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


# ── the shape of every answer ───────────────────────────────────────────────────────────────────────────────────


@law
@given(streams())
def test_created_is_first_and_completed_is_last_and_both_are_there_once(stream):
    kinds = [type(event) for event in events_of([stream.data], len(stream.said))]
    assert kinds[0] is Created
    assert kinds[-1] is Completed
    assert kinds.count(Created) == kinds.count(Completed) == 1


@law
@given(streams())
def test_deltas_join_to_the_message(stream):
    seen = list(events_of([stream.data], len(stream.said)))
    whole = [event for event in aggregate(seen) if isinstance(event, OutputItemDone)]
    for index in range(len(stream.said)):
        joined = {kind: joined_deltas(seen, kind, index) for kind in (OutputTextDelta, ReasoningDelta, RefusalDelta)}
        own = [event.item for event in whole if event.choice == index]
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


def joined_deltas(seen: list[ResponseEvent], kind: type, index: int) -> str:
    return "".join(event.delta for event in seen if type(event) is kind and event.choice == index)  # type: ignore[union-attr]


@law
@given(streams())
def test_the_deltas_of_a_call_join_to_its_arguments_and_come_before_it(stream):
    open_calls: dict[tuple[int, str], str] = {}
    done: set[tuple[int, str]] = set()
    for event in events_of([stream.data], len(stream.said)):
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


@law
@given(streams())
def test_no_delta_is_empty_but_the_first_of_a_call(stream):
    known = set()
    for event in events_of([stream.data], len(stream.said)):
        if isinstance(event, FunctionCallDelta):
            assert event.delta or (event.choice, event.call_id) not in known
            known.add((event.choice, event.call_id))
        elif isinstance(event, (OutputTextDelta, ReasoningDelta, RefusalDelta)):
            assert event.delta


@law
@given(streams())
def test_aggregating_twice_is_aggregating_once(stream):
    seen = list(events_of([stream.data], len(stream.said)))
    once = list(aggregate(seen))
    assert list(aggregate(once)) == once
    assert collect(once) == collect(seen)


@law
@given(streams(), st.lists(st.integers(0, 100), max_size=4))
def test_heartbeats_change_nothing_but_are_there(stream, places):
    seen = list(events_of([stream.data], len(stream.said)))
    with_beats = list(seen)
    for place in places:
        with_beats.insert(place % len(seen), Heartbeat())
    assert collect(with_beats) == collect(seen)
    assert [event for event in aggregate(with_beats) if type(event) is not Heartbeat] == list(aggregate(seen))


@law
@given(streams())
def test_what_a_turn_says_can_be_sent_back(stream):
    turn = collect(read_events([stream.data], choices=len(stream.said)))
    outputs = [FunctionCallOutput(call.call_id, "done") for call in turn.function_calls]
    body = request_body(Prompt(input=[Message("user", "?"), *turn.items, *outputs]), model="m", fields={})
    assert json.loads(json.dumps(body)) == body
    sent = [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]
    assert sent == [call.call_id for call in turn.function_calls]


# ── streams that are cut off ────────────────────────────────────────────────────────────────────────────────────


@law
@given(st.data(), streams())
def test_no_stream_cut_before_its_last_finish_reason_ends_quietly(data, stream):
    end = data.draw(st.integers(0, stream.complete_at - 1))
    with pytest.raises(StreamTruncated) as caught:
        collect(read_events(data.draw(pieces(stream.data[:end])), choices=len(stream.said)))
    partial = caught.value.partial
    assert partial is not None
    assert partial.status == "incomplete"
    for index, view in enumerate(partial.choices[: len(stream.said)]):
        if len(partial.choices) == len(stream.said):
            assert stream.said[index].text.startswith(view.text)
            assert stream.said[index].reasoning.startswith(view.reasoning)


@law
@given(st.data(), streams())
def test_a_stream_cut_after_its_last_finish_reason_says_the_same(data, stream):
    end = data.draw(st.integers(stream.complete_at, len(stream.data)))
    turn = collect(read_events([stream.data[:end]], choices=len(stream.said)))
    for view, one in zip(turn.choices, stream.said, strict=True):
        assert one.text.startswith(view.text)
        assert view.finish_reason == one.finish_reason


@law
@given(st.data(), streams())
def test_the_events_of_a_cut_stream_are_the_first_ones_of_the_whole(data, stream):
    end = data.draw(st.integers(0, len(stream.data)))
    whole, _ = outcome([stream.data], len(stream.said))
    cut, _ = outcome([stream.data[:end]] if end else [], len(stream.said))
    for kind in (OutputTextDelta, ReasoningDelta, RefusalDelta):
        words = [event for event in cut if isinstance(event, kind)]
        assert words == [event for event in whole if isinstance(event, kind)][: len(words)]


@law
@given(
    st.data(),
    streams(),
    st.sampled_from([{"error": {"message": "no", "code": 500}}, {"error": "no"}, {"detail": "no"}]),
)
def test_an_error_before_the_last_finish_reason_is_raised_with_what_came_before(data, stream, error):
    blocks = stream.data.split(b"\n\n")
    keep = data.draw(st.integers(0, max(len(stream.data[: stream.complete_at].split(b"\n\n")) - 1, 0)))
    head = b"".join(block + b"\n\n" for block in blocks[:keep])
    broken = head + b"data: " + json.dumps(error).encode() + b"\n\n" + stream.data[len(head) :]
    with pytest.raises(ProviderError, match="no") as caught:
        collect(read_events([broken], choices=len(stream.said)))
    assert caught.value.partial is not None


# ── anything at all ─────────────────────────────────────────────────────────────────────────────────────────────


@often
@given(st.lists(ODD_CHUNKS | ODD_BODIES, max_size=3), st.sampled_from([b"data: ", b"event: error\ndata: "]))
def test_whatever_json_comes_only_errors_of_the_house_are_raised(bodies, name):
    data = b"".join(name + json.dumps(body).encode() + b"\n\n" for body in bodies)
    seen, end = outcome([data, b"data: [DONE]\n\n"])
    assert end.startswith(("whole", "ProviderError", "ProtocolViolation"))
    for event in seen:
        assert isinstance(getattr(event, "delta", ""), str)
        assert type(getattr(event, "choice", 0)) is int


@often
@given(ODD_BODIES | JSON_VALUES)
def test_whatever_the_body_of_a_refusal_holds_there_is_a_sentence_in_it(body):
    assert isinstance(error_of_body(json.dumps(body)).message, str)


# ── counterexamples found ───────────────────────────────────────────────────────────────────────────────────────


def sse(*bodies: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies) + b"data: [DONE]\n\n"


def test_the_strategy_means_what_it_spells():
    """The strategies are tests too: what they call whole has to be whole."""
    one = Said("a", calls=[Call("f", "{}", "c")], finish_reason="stop")
    assert one.status == "completed"
    assert Said(finish_reason="length").status == "incomplete"
    assert Said().status == "unconfirmed"


def test_an_id_that_comes_in_the_second_chunk_with_text_is_kept():
    data = sse(
        {"id": "", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
        {"id": "r-1", "choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}]},
        {"id": "", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    assert collect(read_events([data])).response_id == "r-1"


def test_a_call_without_id_and_arguments_stays_before_the_next():
    calls = [{"function": {"name": "f", "arguments": ""}}, {"function": {"name": "g", "arguments": "{}"}}]
    data = sse(*[{"choices": [{"delta": {"tool_calls": [call]}}]} for call in calls])
    assert [call.name for call in collect(read_events([data])).function_calls] == ["f", "g"]


def test_an_answer_behind_blank_lines_is_an_answer():
    body = b'\n\n{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'
    assert collect(read_events([body])).text == "a"
