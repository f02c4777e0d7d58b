"""What the content of an answer becomes: text, reasoning, refusals, pictures and other parts, however it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from answers import STOP, called, calls, chunk, part, read, sse, text, texts, turn_of

from chatstream import (
    ContentPartDone,
    Message,
    Other,
    OutputImage,
    OutputText,
    Reasoning,
    ReasoningDelta,
    Refusal,
    StreamTruncated,
    collect,
)

URL = "data:image/png;base64,QUJD"
IMAGE = {"type": "image_url", "image_url": {"url": URL}}

# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS: dict[str, list[Any]] = {
    "strings": ["It ", "rains"],
    "strings, nulls and empty strings": [None, "It ", "", None, "rains", ""],
    "parts of the type text": [[{"type": "text", "text": "It "}], [{"type": "text", "text": "rains"}]],
    "parts of the type output_text": [
        [{"type": "output_text", "text": "It "}, {"type": "output_text", "text": "rains"}]
    ],
    "untyped parts": [[{"text": "It "}, {"text": "rains"}]],
    "strings in lists": [["It ", "rains"]],
    "strings and parts mixed": ["It", [" ", {"type": "text", "text": "ra"}], [{"text": "in"}, "s"]],
    "a part that is not in a list": [{"type": "text", "text": "It "}, {"type": "text", "text": "rains"}],
    "parts with more keys": [[{"type": "text", "text": "It rains", "annotations": [], "x": 1}]],
    "parts among empty and odd ones": [[], [None, 7, {"type": "text", "text": "It "}, {}, {"type": "text"}], ["rains"]],
}


@pytest.mark.parametrize("contents", TEXTS.values(), ids=TEXTS)
def test_the_text_of_an_answer_is_read_from(contents):
    answer = read(sse(*map(text, contents), STOP))
    assert answer.turn.items == (Message("assistant", "It rains"),)
    assert "".join(texts(answer)) == answer.turn.text == "It rains"


def test_text_may_come_in_the_chunk_with_the_finish_reason():
    assert turn_of(text("It "), chunk({"content": "rains"}, "stop")).text == "It rains"


def test_a_message_or_a_text_beside_the_delta_repeats_it_and_is_not_read():
    repeated = {"message": {"content": "It rains", "tool_calls": [part("{}", "north", "n", 0)]}, "text": "It rains"}
    bodies = [{"choices": [{"index": 0, "delta": {"content": piece}, **repeated}]} for piece in ("It ", "rains")]
    turn = turn_of(*bodies, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", **repeated}]})
    assert (turn.text, called(turn)) == ("It rains", [])


def test_a_stream_with_messages_instead_of_deltas_goes_on_until_its_end():
    bodies = [
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": piece}}]} for piece in ("It ", "rains")
    ]
    bodies += [{"choices": [{"index": 0, "message": {"tool_calls": [part('{"x": 1}', "north", "n", 0)]}}]}]
    turn = turn_of(*bodies, chunk(finish="tool_calls"), {"choices": [], "usage": {"total_tokens": 3}})
    assert (turn.text, called(turn), turn.finish_reason) == ("It rains", [("north", '{"x": 1}')], "tool_calls")
    assert turn.token_usage is not None
    cut = read(sse(*bodies, done=False))
    assert type(cut.error) is StreamTruncated
    assert cut.turn.text == "It rains"


@pytest.mark.parametrize("reason", ["stop", None, ""], ids=repr)
def test_a_stream_of_one_message_is_not_whole_before_its_finish_reason_or_its_end_marker(reason):
    body = {"choices": [{"index": 0, "message": {"content": "It rains"}, "finish_reason": reason}]}
    assert turn_of(body).status == ("completed" if reason else "unconfirmed")
    assert (read(sse(body, done=False)).error is None) == bool(reason)


@pytest.mark.parametrize(("reason", "status"), [("stop", "completed"), ("length", "incomplete"), (None, "unconfirmed")])
def test_a_json_answer_that_is_no_stream_is_whole_at_once(reason, status):
    message = {
        "role": "assistant",
        "content": [{"type": "text", "text": "It "}, {"type": "text", "text": "rains"}],
        "reasoning_content": "Wet.",
        "refusal": "No more.",
        "tool_calls": [part('{"x": 1}', "north", "n")],
    }
    answer = read(
        text_of({"id": "r", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": reason}]})
    )
    turn = answer.turn
    assert (turn.text, turn.reasoning, turn.refusal, called(turn)) == (
        "It rains",
        "Wet.",
        "No more.",
        [("north", '{"x": 1}')],
    )
    assert (turn.finish_reason, turn.status, turn.response_id) == (reason, status, "r")


def text_of(body: dict[str, Any]) -> bytes:
    """The body of an answer that is no event stream."""
    return sse(body, done=False).removeprefix(b"data: ").rstrip()


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "deltas",
    [
        [{"refusal": "I can"}, {"refusal": None}, {"refusal": "not."}],
        [{"content": [{"type": "refusal", "refusal": "I can"}]}, {"content": [{"type": "refusal", "refusal": "not."}]}],
        [{"refusal": "I can", "content": [{"type": "refusal", "refusal": "not."}]}],
    ],
    ids=["the field", "parts of the content", "both"],
)
def test_a_refusal_is_read_from(deltas):
    turn = turn_of(*map(chunk, deltas), STOP)
    assert turn.items == (Message("assistant", [Refusal("I cannot.")]),)
    assert (turn.refusal, turn.text) == ("I cannot.", "")


# ── pictures and other parts ────────────────────────────────────────────────────────────────────────────────────

REFERENCE = {"type": "reference", "reference_ids": [3, 1]}
FILE = {"type": "file", "file": {"file_id": "f-1"}, "x": None}

PARTS: dict[str, tuple[list[dict[str, Any]], list[Any]]] = {
    "a picture between texts": (
        [
            {"content": "See "},
            {"content": [{"type": "text", "text": "this: "}, IMAGE, {"type": "text", "text": "Nice"}]},
            {"content": "."},
        ],
        [OutputText("See this: "), OutputImage(URL), OutputText("Nice.")],
    ),
    "a picture alone": ([{"content": [IMAGE]}], [OutputImage(URL)]),
    "a picture whose address is a string": (
        [{"content": [{"type": "image_url", "image_url": URL}]}],
        [OutputImage(URL)],
    ),
    "a picture without a type": ([{"content": [{"image_url": {"url": URL}}]}], [OutputImage(URL)]),
    "images beside the text": (
        [{"content": "Here", "images": [IMAGE, IMAGE]}],
        [OutputText("Here"), OutputImage(URL), OutputImage(URL)],
    ),
    "images without text": (
        [{"content": None, "images": [IMAGE]}, {"images": [{"image_url": {"url": URL}}]}],
        [OutputImage(URL), OutputImage(URL)],
    ),
    "an image without an address": (
        [{"images": [{"b64_json": "QUJD"}]}],
        [Other({"type": "image", "b64_json": "QUJD"})],
    ),
    "references and files": (
        [{"content": ["See ", REFERENCE]}, {"content": [FILE, "there"]}],
        [OutputText("See "), Other(REFERENCE), Other(FILE), OutputText("there")],
    ),
    "a part that is not in a list": ([{"content": REFERENCE}, {"content": "a"}], [Other(REFERENCE), OutputText("a")]),
    "parts with reasoning and refusals among them": (
        [
            {
                "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    "a",
                    IMAGE,
                    {"type": "refusal", "refusal": "No."},
                    "b",
                ]
            }
        ],
        [OutputText("a"), OutputImage(URL), OutputText("b"), Refusal("No.")],
    ),
    "parts beside images that are none": (
        [{"content": "a", "images": [None, 5]}, {"content": "b", "images": "c"}],
        [OutputText("ab")],
    ),
    "a picture whose address is missing": (
        [{"content": [{"type": "image_url", "image_url": None}]}],
        [Other({"type": "image_url", "image_url": None})],
    ),
}


@pytest.mark.parametrize(("deltas", "content"), PARTS.values(), ids=PARTS)
def test_the_message_keeps_in_order(deltas, content):
    answer = read(sse(*map(chunk, deltas), STOP))
    (message,) = [item for item in answer.turn.items if isinstance(item, Message)]
    assert message.content == tuple(content)
    assert answer.turn.text == "".join(each.text for each in content if isinstance(each, OutputText))
    others = [each for each in content if not isinstance(each, (OutputText, Refusal))]
    assert [event.part for event in answer.events if isinstance(event, ContentPartDone)] == others
    assert collect(answer.events).items == answer.turn.items


def test_the_parts_of_two_choices_are_kept_apart():
    bodies = [
        chunk({"content": [IMAGE]}, index=1),
        chunk({"content": ["a", REFERENCE]}),
        STOP,
        chunk(finish="stop", index=1),
    ]
    first, second = turn_of(*bodies, choices=2).choices
    assert first.items == (Message("assistant", [OutputText("a"), Other(REFERENCE)]),)
    assert second.items == (Message("assistant", [OutputImage(URL)]),)


# ── reasoning ───────────────────────────────────────────────────────────────────────────────────────────────────

REASONING: dict[str, list[dict[str, Any]]] = {
    "reasoning_content": [{"reasoning_content": "Wet "}, {"reasoning_content": "feet"}],
    "reasoning": [{"reasoning": "Wet "}, {"reasoning": "feet", "content": ""}],
    "reasoning_text": [{"reasoning_text": "Wet "}, {"reasoning_text": "feet", "content": None}],
    "an object with text": [{"reasoning": {"text": "Wet "}}, {"reasoning": {"text": "feet", "content": None}}],
    "an object with content": [{"reasoning": {"content": "Wet "}}, {"reasoning_content": {"content": "feet"}}],
    "the same under two keys": [{"reasoning_content": each, "reasoning": each} for each in ("Wet ", "feet")],
    "the same under three keys": [
        {"reasoning_content": each, "reasoning": each, "reasoning_text": each} for each in ("Wet ", "feet")
    ],
    "the second key where the first is empty": [{"reasoning_content": "", "reasoning": "Wet feet"}],
    "the third key where the others are null": [
        {"reasoning_content": None, "reasoning": None, "reasoning_text": "Wet feet"}
    ],
    "the second key where the first is an object without text": [
        {"reasoning_content": {"effort": "low"}, "reasoning": "Wet feet"}
    ],
    "a field and parts with the same": [
        {"reasoning": "Wet feet", "content": [{"type": "thinking", "thinking": "Wet feet"}]}
    ],
    "thinking parts": [
        {"content": [{"type": "thinking", "thinking": "Wet "}]},
        {"content": [{"type": "thinking", "thinking": "feet"}]},
    ],
    "thinking parts with a list": [
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Wet "}, {"text": "feet"}]}]}
    ],
    "untyped thinking parts": [{"content": [{"thinking": "Wet "}, {"thinking": [{"text": "feet"}]}]}],
    "reasoning parts with text": [
        {"content": [{"type": "reasoning", "text": "Wet "}, {"type": "reasoning_text", "text": "feet"}]}
    ],
    "reasoning parts with a summary": [
        {
            "content": [
                {
                    "type": "reasoning",
                    "summary": [{"type": "summary_text", "text": "Wet "}, {"type": "summary_text", "text": "feet"}],
                }
            ]
        }
    ],
    "reasoning parts with a content list": [
        {"content": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Wet feet"}]}]}
    ],
    "summary parts": [{"content": [{"type": "summary_text", "text": "Wet feet"}]}],
    "details with text": [
        {"reasoning_details": [{"type": "reasoning.text", "text": "Wet "}, {"type": "reasoning.text", "text": "feet"}]}
    ],
    "details with a summary": [{"reasoning_details": [{"type": "reasoning.summary", "summary": "Wet feet"}]}],
    "a field and details with the same": [{"reasoning": "Wet feet", "reasoning_details": [{"text": "Wet feet"}]}],
    "parts and details with the same": [
        {"content": [{"type": "thinking", "thinking": "Wet feet"}], "reasoning_details": [{"text": "Wet feet"}]}
    ],
}


@pytest.mark.parametrize("deltas", REASONING.values(), ids=REASONING)
def test_reasoning_is_read_once_from(deltas):
    answer = read(sse(*map(chunk, deltas), text("Stay in."), STOP))
    assert (answer.turn.reasoning, answer.turn.text) == ("Wet feet", "Stay in.")
    assert "".join(event.delta for event in answer.events if isinstance(event, ReasoningDelta)) == "Wet feet"
    details = [entry for delta in deltas for entry in delta.get("reasoning_details", ())]
    assert answer.turn.items[0] == Reasoning("Wet feet", details=tuple(details))


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": None},
        {"reasoning": ""},
        {"reasoning": 5},
        {"reasoning": {}},
        {"reasoning": []},
        {"reasoning_details": None},
        {"reasoning_details": []},
        {"reasoning_details": [None, 5]},
        {"content": [{"type": "thinking"}]},
    ],
    ids=repr,
)
def test_no_reasoning_is_made_of(delta):
    answer = read(sse(chunk(delta), text("a"), STOP))
    assert answer.turn.items == (Message("assistant", "a"),)
    assert not any(isinstance(event, ReasoningDelta) for event in answer.events)


def test_the_entries_of_reasoning_details_are_kept_as_they_came_on_the_reasoning_item():
    entries: list[dict[str, Any]] = [
        {"type": "reasoning.text", "text": "Wet ", "index": 0, "format": "x"},
        {"type": "reasoning.text", "text": "feet", "index": 0, "signature": None},
        {"type": "reasoning.text", "signature": "c2ln", "index": 0},
        {"type": "reasoning.encrypted", "data": "AAEC", "id": "e-1", "nested": {"a": [1, {}]}},
        {"type": "reasoning.encrypted", "data": "AAEC", "id": "e-1", "nested": {"a": [1, {}]}},
    ]
    answer = read(sse(*(chunk({"reasoning_details": [entry]}) for entry in entries), text("a"), STOP))
    assert answer.turn.items[0] == Reasoning("Wet feet", details=tuple(entries))
    pieces = [event for event in answer.events if isinstance(event, ReasoningDelta)]
    assert [event.delta for event in pieces] == ["Wet ", "feet", "", "", ""]
    assert [event.details for event in pieces] == [(entry,) for entry in entries]


def test_sealed_details_before_a_call_make_a_reasoning_item_without_text():
    seal = {"type": "reasoning.encrypted", "data": "AAEC"}
    turn = turn_of(chunk({"reasoning_details": [seal]}), calls(part('{"x": 1}', "north", "n", 0)), STOP)
    assert turn.items[0] == Reasoning(details=(seal,))
    assert (turn.reasoning, len(turn.items)) == ("", 2)


def test_reasoning_after_the_text_is_still_before_the_message():
    turn = turn_of(text("Stay "), chunk({"reasoning": "Wet"}), text("in."), STOP)
    assert turn.items == (Reasoning("Wet"), Message("assistant", "Stay in."))
