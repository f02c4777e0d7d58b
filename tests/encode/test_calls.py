"""What a server put on a call or on its reasoning goes back with it, and survives every way of keeping an item."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from bodies import answer, calling, messages

from chatstream import collect, read_events
from chatstream.types.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Message,
    Reasoning,
    item_from_dict,
)
from chatstream.types.parts import InputImage

GOOGLE = {"google": {"thought_signature": "CiQB+/=="}}
SIGNED = FunctionCall("f", '{"a": 1}', "c1", extra={"extra_content": GOOGLE})
INSIDE = FunctionCall("f", "{}", "c2", extra={"x_outer": [1, None], "function": {"x_inner": {"a": "ü"}}})
CUSTOM = CustomToolCall("run", "SELECT 1;\n", "c3", extra={"x_outer": True, "custom": {"x_inner": "b"}})
DETAILS = (
    {"type": "reasoning.text", "text": "so", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "Zx8=", "id": None, "index": 1},
)
THOUGHTS = Reasoning("so", details=DETAILS)
KEPT = [THOUGHTS, Message("assistant", "Well."), SIGNED, INSIDE, CUSTOM]
OUTPUTS = [FunctionCallOutput("c1", "1"), FunctionCallOutput("c2", "2"), CustomToolCallOutput("c3", "3")]
SENT = [
    calling(
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}, "extra_content": GOOGLE},
        {
            "id": "c2",
            "type": "function",
            "function": {"name": "f", "arguments": "{}", "x_inner": {"a": "ü"}},
            "x_outer": [1, None],
        },
        {
            "id": "c3",
            "type": "custom",
            "custom": {"name": "run", "input": "SELECT 1;\n", "x_inner": "b"},
            "x_outer": True,
        },
        content="Well.",
        reasoning_details=list(DETAILS),
    ),
    answer("c1", "1"),
    answer("c2", "2"),
    answer("c3", "3"),
]


def sent(items):
    return messages(*items, echo_reasoning="reasoning_details")


def test_keys_that_nobody_reads_go_back_on_the_entry_and_inside_the_function():
    before = copy.deepcopy(KEPT)
    assert sent([*KEPT, *OUTPUTS]) == SENT
    assert before == KEPT


@pytest.mark.parametrize("echo", [None, "reasoning"])
def test_keys_of_a_call_go_back_whatever_echo_reasoning_is(echo):
    assert messages(*KEPT, *OUTPUTS, echo_reasoning=echo)[0]["tool_calls"] == SENT[0]["tool_calls"]


@pytest.mark.parametrize(
    "keep",
    [
        lambda item: item_from_dict(item.to_dict()),
        lambda item: item_from_dict(json.loads(json.dumps(item.to_dict()))),
        lambda item: pickle.loads(pickle.dumps(item)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["to_dict", "JSON", "pickle", "copy", "deepcopy"],
)
def test_an_item_that_was_kept_is_equal_and_sent_the_same(keep):
    kept = [keep(item) for item in [*KEPT, *OUTPUTS]]
    assert kept == [*KEPT, *OUTPUTS]
    assert [item.extra for item in kept[2:5]] == [SIGNED.extra, INSIDE.extra, CUSTOM.extra]
    assert kept[0].details == DETAILS
    assert sent(kept) == SENT


def test_the_tagged_form_may_stand_in_the_input_itself():
    assert sent(json.loads(json.dumps([item.to_dict() for item in [*KEPT, *OUTPUTS]]))) == SENT


def test_the_tagged_form_of_an_item_without_extra_has_no_key_for_it():
    assert "extra" not in FunctionCall("f", "{}", "c1").to_dict()
    assert "extra" not in CustomToolCall("f", "x", "c1").to_dict()
    assert "details" not in Reasoning("so").to_dict()


@pytest.mark.parametrize("inner", [{"name": "other", "arguments": "other"}, "other", None])
def test_extra_never_replaces_what_the_item_says(inner):
    call = FunctionCall("f", "{}", "c1", extra={"id": "other", "function": inner, "custom": {"a": 1}})
    (entry,) = messages(call, answer("c1"))[0]["tool_calls"]
    function = {"name": "f", "arguments": "{}"}
    assert entry == {"id": "c1", "type": "function", "function": function, "custom": {"a": 1}}


def test_a_type_of_call_that_is_unknown_here_goes_back_as_it_came():
    own = {"id": "c1", "type": "builtin_function", "function": {"name": "$web_search", "arguments": '{"q": "x"}'}}
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **own}]}, "finish_reason": "tool_calls"}]}
    turn = collect(read_events(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"))
    assert messages(*turn.items, answer("c1"))[0]["tool_calls"] == [own]


def test_a_custom_call_without_extra_has_name_and_input_alone():
    (entry,) = messages(CustomToolCall("run", "", "c1"), answer("c1"))[0]["tool_calls"]
    assert entry == {"id": "c1", "type": "custom", "custom": {"name": "run", "input": ""}}


def test_the_output_of_a_custom_call_is_a_tool_message_of_text_or_parts():
    image = CustomToolCallOutput("c3", [InputImage("https://example.com/a.png")])
    assert messages(CUSTOM, CUSTOM.output("1 row"))[1] == answer("c3", "1 row")
    assert messages(CUSTOM, CustomToolCallOutput("c3", ["1 ", "row"]))[1] == answer("c3", "1 row")
    assert messages(CUSTOM, image)[1]["content"][0]["type"] == "image_url"


def chunk(**delta):
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


def test_the_items_of_an_answer_are_sent_back_as_they_came():
    entries = SENT[0]["tool_calls"]
    pieces = [chunk(reasoning_details=[detail]) for detail in DETAILS]
    calls = [chunk(tool_calls=[{"index": index, **entry}]) for index, entry in enumerate(entries)]
    turn = collect(read_events([*pieces, chunk(content="Well."), *calls, b"data: [DONE]\n\n"]))
    assert sent([*turn.items, *OUTPUTS]) == SENT
