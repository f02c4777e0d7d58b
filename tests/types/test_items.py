"""What a conversation holds: kept as given, written in the tagged form, read back the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from chatstream.errors import ConfigError
from chatstream.types.items import (
    FunctionCall,
    FunctionCallOutput,
    LocalShellCall,
    Message,
    Reasoning,
    arguments_are_whole,
    item_from_dict,
    strict_json,
)
from chatstream.types.parts import (
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Other,
    OutputText,
    Refusal,
    part_from_dict,
)

PARTS = [
    (InputText("hi"), {"type": "input_text", "text": "hi"}),
    (InputImage("https://e.test/a.png"), {"type": "input_image", "image_url": "https://e.test/a.png"}),
    (InputImage("data:,", "low"), {"type": "input_image", "image_url": "data:,", "detail": "low"}),
    (InputAudio("UklG", "wav"), {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}),
    (InputFile(file_id="file-1"), {"type": "input_file", "file_id": "file-1"}),
    (InputFile("data:,", None, "a.pdf"), {"type": "input_file", "file_data": "data:,", "filename": "a.pdf"}),
    (OutputText("hello"), {"type": "output_text", "text": "hello"}),
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
def test_a_part_becomes_its_tagged_form_and_comes_back_the_same(part, data):
    assert part.to_dict() == data
    assert part_from_dict(data) == part
    assert type(part).from_dict(data) == part


@pytest.mark.parametrize(("item", "data"), ITEMS)
def test_an_item_becomes_its_tagged_form_and_comes_back_the_same(item, data):
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
def test_text_said_to_the_model_is_kept_as_input_text(role):
    assert Message(role, "hi").content == (InputText("hi"),)


def test_text_the_assistant_said_is_kept_as_output_text():
    assert Message("assistant", "hi").content == (OutputText("hi"),)


def test_content_may_mix_texts_parts_and_tagged_dicts():
    message = Message("user", ["a", InputText("b"), {"type": "input_text", "text": "c"}])
    assert message.content == (InputText("a"), InputText("b"), InputText("c"))


def test_the_text_of_a_message_is_its_text_parts_joined():
    unknown = {"type": "text", "text": "c", "cache_control": {"type": "ephemeral"}}
    message = Message("assistant", ["a", InputImage("data:,"), InputText("b"), Refusal("no"), unknown])
    assert message.text == "abc"


def test_a_content_part_of_unknown_type_survives():
    part = {"type": "video_url", "video_url": {"url": "https://e.test/v.mp4"}}
    assert Message("user", [part]).content == (Other(part),)
    assert Message("user", [part]).to_dict()["content"] == [part]


def test_keys_that_only_another_api_knows_are_left_aside():
    part = {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}
    data = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    assert item_from_dict(data) == Message("assistant", "hi")


def test_a_message_dict_may_have_its_content_as_text():
    assert item_from_dict({"type": "message", "role": "user", "content": "hi"}) == Message("user", "hi")


def test_the_output_of_a_call_is_text_or_parts():
    assert FunctionCallOutput("c", "42").output == "42"
    assert FunctionCallOutput("c", ["42", InputImage("data:,")]).output == (InputText("42"), InputImage("data:,"))


def test_a_call_dict_without_a_status_is_completed():
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
def test_whole_arguments_are_parsed(arguments, parsed):
    assert arguments_are_whole(arguments)
    assert FunctionCall("f", arguments, "c").parsed() == parsed


@pytest.mark.parametrize("arguments", ['{"a": ', "{'a': 1}", '{"a": NaN}', "-Infinity", "{} {}", " ", "[" * 100_000])
def test_arguments_that_are_not_strict_json_are_refused(arguments):
    assert not arguments_are_whole(arguments)
    with pytest.raises(ValueError, match=r"the arguments of f \(c\) are not whole JSON: "):
        FunctionCall("f", arguments, "c").parsed()


def test_strict_json_says_what_it_refuses():
    with pytest.raises(ValueError, match="NaN is not JSON"):
        strict_json("[NaN]")
    with pytest.raises(ValueError, match="nested too deeply"):
        strict_json("[" * 100_000)


# ── what can't be right ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: InputText(1), r"give InputText.text as text \(str\), not int"),
        (lambda: InputImage(b"png"), "give InputImage.image_url as text .*, not bytes"),
        (lambda: InputImage("data:,", 1), "give InputImage.detail as text .*, not int"),
        (lambda: InputAudio(b"", "wav"), "give InputAudio.data as text"),
        (InputFile, "give an InputFile its file_data or its file_id"),
        (lambda: InputFile(b""), "give InputFile.file_data as text"),
        (lambda: OutputText(None), "give OutputText.text as text .*, not NoneType"),
        (lambda: Refusal(None), "give Refusal.refusal as text"),
        (lambda: Other("x"), "give Other a dict that names its \"type\", not 'x'"),
        (lambda: Other({"kind": "x"}), 'give Other a dict that names its "type"'),
        (lambda: Message(None, "hi"), "give Message.role as text"),
        (lambda: Message("user", None), "give content as text or as a list of parts, not NoneType"),
        (lambda: Message("user", {"type": "input_text"}), "give content as text or as a list of parts, not dict"),
        (lambda: Message("user", [1]), 'give a dict that has "type", not 1'),
        (lambda: Message("tool", "42"), r'no role "tool": give FunctionCallOutput\(call_id, output\) instead'),
        (lambda: FunctionCall("f", {"a": 1}, "c"), r"arguments as JSON text: json.dumps\(arguments\)"),
        (lambda: FunctionCall("f", "", None), "give FunctionCall.call_id as text"),
        (lambda: FunctionCallOutput(None, ""), "give FunctionCallOutput.call_id as text"),
        (lambda: FunctionCallOutput("c", 42), "give content as text or as a list of parts, not int"),
        (lambda: LocalShellCall("i", "c", None, {}), "give LocalShellCall.status as text"),
        (lambda: LocalShellCall("i", "c", "completed", "ls"), "give a LocalShellCall its action as a dict, not str"),
        (lambda: LocalShellCall(None, None, "completed", {}), "give a LocalShellCall its call_id or its id"),
        (lambda: Reasoning(1), "give Reasoning.text as text"),
        (lambda: Reasoning(encrypted_content=b""), "give Reasoning.encrypted_content as text"),
        (lambda: Reasoning(summary="short"), "give a Reasoning its summary as a tuple of texts"),
        (lambda: Reasoning(summary=(1,)), "give a Reasoning its summary as a tuple of texts"),
        (lambda: item_from_dict("hi"), "give a dict that has \"type\", not 'hi'"),
        (lambda: item_from_dict({"content": "hi"}), 'give a dict that has "type"'),
        (lambda: item_from_dict({"type": ["message"]}), 'give Other a dict that names its "type"'),
        (lambda: item_from_dict({"type": "message", "role": "user"}), 'give a dict that has "content"'),
        (lambda: part_from_dict({"type": "input_text"}), 'give a dict that has "text"'),
    ],
)
def test_a_wrong_type_is_refused_with_a_sentence_that_says_what_to_give(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize(("value", "sent"), [("sunny", "sunny"), ({"sky": "blue"}, '{"sky": "blue"}'), (None, "null")])
def test_a_call_makes_its_own_output(value, sent):
    assert FunctionCall("weather", "{}", "c1").output(value) == FunctionCallOutput("c1", sent)
