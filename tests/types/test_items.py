"""Items and parts: the values they keep, their tagged form, and the values they refuse."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from chatstream.errors import ConfigError
from chatstream.types.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    LocalShellCall,
    Message,
    Reasoning,
    item_from_dict,
)
from chatstream.types.parts import (
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Other,
    OutputImage,
    OutputText,
    Refusal,
    part_from_dict,
)
from chatstream.types.text import arguments_are_whole, strict_json

PARTS = [
    (InputText("hi"), {"type": "input_text", "text": "hi"}),
    (InputImage("https://e.test/a.png"), {"type": "input_image", "image_url": "https://e.test/a.png"}),
    (InputImage("data:,", "low"), {"type": "input_image", "image_url": "data:,", "detail": "low"}),
    (InputAudio("UklG", "wav"), {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}),
    (InputFile(file_id="file-1"), {"type": "input_file", "file_id": "file-1"}),
    (InputFile("data:,", None, "a.pdf"), {"type": "input_file", "file_data": "data:,", "filename": "a.pdf"}),
    (OutputText("hello"), {"type": "output_text", "text": "hello"}),
    (OutputImage("data:,"), {"type": "output_image", "image_url": "data:,"}),
    (Refusal("no"), {"type": "refusal", "refusal": "no"}),
    (Other({"type": "video_url", "fps": 2}), {"type": "video_url", "fps": 2}),
]
ITEMS = [
    (
        Message("user", "hi"),
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    ),
    (
        Message("assistant", "hello"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
    ),
    (Message("user", ()), {"type": "message", "role": "user", "content": []}),
    (
        Message("user", [part for part, _ in PARTS]),
        {"type": "message", "role": "user", "content": [data for _, data in PARTS]},
    ),
    (
        FunctionCall("f", '{"a": 1}', "call_1"),
        {"type": "function_call", "name": "f", "arguments": '{"a": 1}', "call_id": "call_1", "status": "completed"},
    ),
    (
        FunctionCall("f", '{"a', "call_1", "incomplete"),
        {"type": "function_call", "name": "f", "arguments": '{"a', "call_id": "call_1", "status": "incomplete"},
    ),
    (
        FunctionCall("f", "{}", "call_1", "completed", {"seal": {"a": [1, None]}, "function": {"x": ""}}),
        {
            "type": "function_call",
            "name": "f",
            "arguments": "{}",
            "call_id": "call_1",
            "status": "completed",
            "extra": {"seal": {"a": [1, None]}, "function": {"x": ""}},
        },
    ),
    (
        CustomToolCall("sh", "ls", "call_1"),
        {"type": "custom_tool_call", "name": "sh", "input": "ls", "call_id": "call_1", "status": "completed"},
    ),
    (
        CustomToolCall("sh", "ls", "call_1", "incomplete", {"seal": "s"}),
        {
            "type": "custom_tool_call",
            "name": "sh",
            "input": "ls",
            "call_id": "call_1",
            "status": "incomplete",
            "extra": {"seal": "s"},
        },
    ),
    (
        CustomToolCallOutput("call_1", "a b"),
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "a b"},
    ),
    (
        CustomToolCallOutput("call_1", [InputText("a")]),
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "a"}]},
    ),
    (
        Reasoning("hm", details=({"type": "reasoning.encrypted", "data": "AA", "x": None}, {})),
        {
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "details": [{"type": "reasoning.encrypted", "data": "AA", "x": None}, {}],
        },
    ),
    (
        FunctionCallOutput("call_1", "42"),
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ),
    (
        FunctionCallOutput("call_1", [InputText("42")]),
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "42"}]},
    ),
    (
        LocalShellCall("ls_1", None, "completed", {"type": "exec", "command": ["ls"]}),
        {
            "type": "local_shell_call",
            "id": "ls_1",
            "status": "completed",
            "action": {"type": "exec", "command": ["ls"]},
        },
    ),
    (
        LocalShellCall(None, "call_1", "completed", {}),
        {"type": "local_shell_call", "call_id": "call_1", "status": "completed", "action": {}},
    ),
    (Reasoning(), {"type": "reasoning", "summary": []}),
    (
        Reasoning("so", "rs_1", ("in short",), "sealed"),
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "in short"}],
            "content": [{"type": "reasoning_text", "text": "so"}],
            "encrypted_content": "sealed",
        },
    ),
    (Other({"type": "web_search_call", "id": "ws_1"}), {"type": "web_search_call", "id": "ws_1"}),
]


@pytest.mark.parametrize(("part", "data"), PARTS)
def test_a_part_is_equal_after_conversion_to_its_tagged_form_and_back(part, data):
    assert part.to_dict() == data
    assert part_from_dict(data) == part
    assert type(part).from_dict(data) == part


@pytest.mark.parametrize(("item", "data"), ITEMS)
def test_an_item_is_equal_after_conversion_to_its_tagged_form_and_back(item, data):
    assert item.to_dict() == data
    assert item_from_dict(data) == item
    assert type(item).from_dict(data) == item


@pytest.mark.parametrize("value", [value for value, _ in PARTS + ITEMS])
def test_items_and_parts_are_frozen_and_can_be_copied_and_pickled(value):
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert dataclasses.replace(value) == value
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "else")


# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["user", "system", "developer"])
def test_text_of_every_role_but_assistant_is_kept_as_input_text(role):
    assert Message(role, "hi").content == (InputText("hi"),)


def test_text_of_the_assistant_is_kept_as_output_text():
    assert Message("assistant", "hi").content == (OutputText("hi"),)


def test_content_may_mix_str_parts_and_tagged_dicts():
    message = Message("user", ["a", InputText("b"), {"type": "input_text", "text": "c"}])
    assert message.content == (InputText("a"), InputText("b"), InputText("c"))


def test_the_text_of_a_message_joins_its_text_parts():
    unknown = {"type": "text", "text": "c", "cache_control": {"type": "ephemeral"}}
    message = Message("assistant", ["a", InputImage("data:,"), InputText("b"), Refusal("no"), unknown])
    assert message.text == "abc"


def test_a_content_part_of_unknown_type_is_kept_unchanged():
    part = {"type": "video_url", "video_url": {"url": "https://e.test/v.mp4"}}
    assert Message("user", [part]).content == (Other(part),)
    assert Message("user", [part]).to_dict()["content"] == [part]


def test_unknown_keys_of_an_item_are_ignored():
    part = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}
    data = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    assert item_from_dict(data) == Message("assistant", "hi")


def test_the_content_of_a_tagged_message_may_be_a_str():
    assert item_from_dict({"type": "message", "role": "user", "content": "hi"}) == Message("user", "hi")


def test_the_output_of_a_call_is_a_str_or_parts():
    assert FunctionCallOutput("c", "42").output == "42"
    assert FunctionCallOutput("c", ["42", InputImage("data:,")]).output == (InputText("42"), InputImage("data:,"))


def test_a_tagged_call_without_a_status_is_completed():
    assert FunctionCall.from_dict({"name": "f", "arguments": "", "call_id": "c"}).status == "completed"


def test_reasoning_in_several_pieces_is_joined():
    pieces = [{"type": "reasoning_text", "text": "so "}, {"type": "reasoning_text", "text": "what"}]
    assert item_from_dict({"type": "reasoning", "content": pieces}) == Reasoning("so what")


def test_a_summary_given_as_a_list_is_kept_as_a_tuple():
    assert Reasoning(summary=["a", "b"]).summary == ("a", "b")


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "parsed"), [("", {}), ("{}", {}), ('{"a": [1, null]}', {"a": [1, None]}), ("3", 3)]
)
def test_complete_arguments_are_parsed(arguments, parsed):
    assert arguments_are_whole(arguments)
    assert FunctionCall("f", arguments, "c").parsed() == parsed


@pytest.mark.parametrize("arguments", ["", " ", "\n", "{}", ' {"a": 1} '])
def test_arguments_are_whole_if_they_are_json_or_blank(arguments):
    assert arguments_are_whole(arguments)


@pytest.mark.parametrize("arguments", ['{"a": ', "{'a': 1}", '{"a": NaN}', "-Infinity", "{} {}", "[" * 100_000])
def test_arguments_that_are_not_strict_json_are_refused(arguments):
    assert not arguments_are_whole(arguments)
    with pytest.raises(ValueError, match=r"the arguments of f \(c\) are not complete JSON: "):
        FunctionCall("f", arguments, "c").parsed()


def test_the_error_of_strict_json_gives_the_reason():
    with pytest.raises(ValueError, match="NaN is not JSON"):
        strict_json("[NaN]")
    with pytest.raises(ValueError, match="nested too deeply"):
        strict_json("[" * 100_000)


# ── values that are refused ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InputText(1), "^InputText.text must be a str, not int$"),
        (lambda: InputImage(b"png"), "InputImage.image_url must be a str, not bytes"),
        (lambda: InputImage("data:,", 1), "InputImage.detail must be a str or None, not int"),
        (lambda: InputAudio(b"", "wav"), "InputAudio.data must be a str, not bytes"),
        (InputFile, "an InputFile needs file_data or file_id"),
        (lambda: InputFile(b""), "InputFile.file_data must be a str or None, not bytes"),
        (lambda: OutputText(None), "OutputText.text must be a str, not NoneType"),
        (lambda: Refusal(None), "Refusal.refusal must be a str, not NoneType"),
        (lambda: Other("x"), "Other.raw must be a dict whose \"type\" is a str, not 'x'"),
        (lambda: Other({"kind": "x"}), 'Other.raw must be a dict whose "type" is a str'),
        (lambda: Message(None, "hi"), "Message.role must be a str, not NoneType"),
        (lambda: Message("user", None), "content must be a str or a list of parts, not NoneType"),
        (lambda: Message("user", {"type": "input_text"}), "content must be a str or a list of parts, not dict"),
        (lambda: Message("user", [1]), 'expected a dict with the key "type", not 1'),
        (lambda: Message("tool", "42"), r'the role "tool": use FunctionCallOutput\(call_id, output\)'),
        (
            lambda: FunctionCall("f", {"a": 1}, "c"),
            r"FunctionCall.arguments must be JSON text: use json.dumps\(arguments\)",
        ),
        (lambda: FunctionCall("f", "", None), "FunctionCall.call_id must be a str, not NoneType"),
        (lambda: FunctionCall("f", "", "c", "completed", []), "FunctionCall.extra must be a dict, not list"),
        (lambda: CustomToolCall("f", {}, "c"), "CustomToolCall.input must be a str, not dict"),
        (lambda: CustomToolCall("f", "", "c", "completed", "x"), "CustomToolCall.extra must be a dict, not str"),
        (lambda: CustomToolCallOutput(None, ""), "CustomToolCallOutput.call_id must be a str, not NoneType"),
        (lambda: OutputImage({"url": "u"}), "OutputImage.image_url must be a str, not dict"),
        (lambda: FunctionCallOutput(None, ""), "FunctionCallOutput.call_id must be a str, not NoneType"),
        (
            lambda: FunctionCallOutput("c", 42),
            r"output must be a str or a list of parts, not int: call.output\(value\) turns it into JSON",
        ),
        (
            lambda: FunctionCallOutput("c", {"a": 1}),
            r"output must be .*, not dict: call.output\(value\) turns it into JSON",
        ),
        (lambda: CustomToolCallOutput("c", None), "output must be a str or a list of parts, not NoneType"),
        (lambda: LocalShellCall("i", "c", None, {}), "LocalShellCall.status must be a str, not NoneType"),
        (lambda: LocalShellCall("i", "c", "completed", "ls"), "LocalShellCall.action must be a dict, not str"),
        (lambda: LocalShellCall(None, None, "completed", {}), "a LocalShellCall needs call_id or id"),
        (lambda: Reasoning(1), "Reasoning.text must be a str, not int"),
        (lambda: Reasoning(encrypted_content=b""), "Reasoning.encrypted_content must be a str or None, not bytes"),
        (lambda: Reasoning(summary="short"), "Reasoning.summary must be a tuple of str, not 'short'"),
        (lambda: Reasoning(summary=(1,)), r"Reasoning.summary must be a tuple of str, not \(1,\)"),
        (lambda: Reasoning(details={"a": 1}), "Reasoning.details must be a tuple of dicts, not {'a': 1}"),
        (lambda: Reasoning(details=("x",)), r"Reasoning.details must be a tuple of dicts, not \('x',\)"),
        (lambda: item_from_dict("hi"), "expected a dict with the key \"type\", not 'hi'"),
        (lambda: item_from_dict({"content": "hi"}), 'expected a dict with the key "type"'),
        (lambda: item_from_dict({"type": ["message"]}), 'Other.raw must be a dict whose "type" is a str'),
        (lambda: item_from_dict({"type": "message", "role": "user"}), 'expected a dict with the key "content"'),
        (lambda: part_from_dict({"type": "input_text"}), 'expected a dict with the key "text"'),
    ],
)
def test_a_wrong_type_is_refused_with_a_message_that_says_what_is_expected(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("value", "output"), [("sunny", "sunny"), ({"sky": "blue"}, '{"sky": "blue"}'), (None, "null")]
)
def test_the_output_made_by_a_call_has_its_call_id(value, output):
    assert FunctionCall("weather", "{}", "c1").output(value) == FunctionCallOutput("c1", output)


def test_the_output_made_by_a_call_of_a_custom_tool_has_its_call_id():
    call = CustomToolCall("sh", "ls", "c1")
    assert call.output("a b") == CustomToolCallOutput("c1", "a b")
    assert call.output({"files": ["a"]}) == CustomToolCallOutput("c1", '{"files": ["a"]}')
    assert call.output(InputText("a")) == CustomToolCallOutput("c1", ["a"])
    with pytest.raises(ConfigError, match="the output of sh is of the type set, which JSON does not support"):
        call.output({"a"})


@pytest.mark.parametrize("extra", [{}, {"seal": 1}], ids=repr)
def test_items_with_different_details_are_different_and_can_be_hashed(extra):
    call = FunctionCall("f", "{}", "c", "completed", extra)
    assert len({call, FunctionCall("f", "{}", "c", "completed", {"seal": 2})}) == 2
    assert Reasoning("a", details=(extra,)) != Reasoning("a", details=({"x": 1},))
    assert hash(Reasoning("a", details=(extra,))) == hash(Reasoning("a"))
