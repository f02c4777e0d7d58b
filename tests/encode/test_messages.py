"""A prompt → the body of a request: the messages, their order, and the prompts that are refused."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from bodies import PNG, answer, body, call, calling, messages
from hypothesis import given
from hypothesis import strategies as st

from chatstream import response_format
from chatstream.errors import ConfigError
from chatstream.types.items import CustomToolCall, FunctionCall, FunctionCallOutput, LocalShellCall, Message, Reasoning
from chatstream.types.parts import InputAudio, InputFile, InputImage, InputText, Other, OutputImage, OutputText, Refusal
from chatstream.types.prompt import Prompt
from chatstream.types.tools import Tool

# ── prompts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_str_is_one_user_message():
    assert body("hi") == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_input_of_a_prompt_may_be_a_str():
    assert Prompt(input="hi") == Prompt(None, [Message("user", "hi")], [])


def test_the_input_of_a_prompt_is_a_list_to_append_to():
    prompt = Prompt("Be brief.", [Message("user", "hi")])
    prompt.input += [Message("assistant", "hello"), {"role": "user", "content": "bye"}]
    assert [message["role"] for message in body(prompt)["messages"]] == ["system", "user", "assistant", "user"]


def test_a_prompt_keeps_a_list_and_copies_a_tuple():
    history = [Message("user", "hi")]
    assert Prompt(input=history).input is history
    assert Prompt(input=(Message("user", "hi"),)).input == history
    assert Prompt().input is not Prompt().input


def test_prompt_of_returns_a_prompt_itself():
    prompt = Prompt("Be brief.")
    assert Prompt.of(prompt) is prompt
    assert Prompt.of(["x"]) == Prompt(None, ["x"], [])


def test_items_message_dicts_and_tagged_dicts_may_be_mixed():
    assert messages(
        {"role": "user", "content": "a"},
        Message("assistant", "b"),
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "c"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
    ) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        calling(call("c1")),
        answer("c1"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": "hi", "reasoning_content": "so", "audio": {"id": "audio_1"}, "prefix": True},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
        {"role": "user", "content": []},
    ],
)
def test_a_message_dict_is_sent_unchanged(message):
    before = copy.deepcopy(message)
    assert messages(message) == [message]
    assert message == before


def test_tool_calls_and_tool_results_may_be_message_dicts():
    history = [
        {"role": "user", "content": "weather?"},
        calling(call("c1"), call("c2"), content=""),
        answer("c2"),
        answer("c1", [{"type": "text", "text": "rain"}]),
        {"role": "assistant", "content": "Rain.", "tool_calls": None},
    ]
    assert messages(*history) == history


def test_the_parts_of_a_message_dict_may_be_objects_str_or_tagged_dicts():
    parts = ["a", InputText("b"), {"type": "input_text", "text": "c"}, {"type": "input_image", "image_url": PNG}]
    assert messages({"role": "user", "content": parts}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b"},
                {"type": "text", "text": "c"},
                {"type": "image_url", "image_url": {"url": PNG}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (1, "a prompt must be a str, a list of messages or a Prompt, not int 1"),
        (None, "not None"),
        (b"hi", "not bytes b'hi'"),
        ({"hi"}, "not set {'hi'}"),
        (
            {"messages": []},
            r"""not dict .*; pass its "messages" as the prompt, and the other keys as keyword arguments""",
        ),
        ({"content": "hi"}, 'not dict .*; a message dict has a "role"'),
        (iter("hi"), r"not str_(ascii_)?iterator .*; use list\(…\)"),
        (["hi"], r"""input\[0\] is str 'hi': use Message\("user", 'hi'\), or pass only the text as the prompt"""),
        ([["hi"]], r"input\[0\] is list \['hi'\]: add its items with prompt.input \+= items"),
        (
            [Message("user", "hi"), None],
            r"input\[1\] is None: use Message\(role, text\) or another item, or a message dict",
        ),
        ([{"content": "hi"}], r"input\[0\] is dict"),
        ([{"type": "input_text", "text": "hi"}], r"input\[0\] is dict"),
        ([{"type": "text", "text": "hi"}], r"input\[0\] is dict"),
        ([{"role": None, "content": "hi"}], 'the role of a message must be a str such as "user", not None'),
        ([{"role": " ", "content": "hi"}], "the role of a message must be a str"),
        (
            [{"role": "user", "content": 1}],
            "the content of the user message must be a str or a list of parts, not int 1",
        ),
        ([{"role": "assistant", "tool_calls": "f"}], "the tool_calls of the assistant message must be a list of dicts"),
        (
            [{"role": "assistant", "tool_calls": ["f"]}],
            "the tool_calls of the assistant message must be a list of dicts",
        ),
        ([{"role": "user", "content": [object()]}], "messages can't be written as JSON: Object of type object"),
    ],
)
def test_a_value_that_is_not_a_prompt_is_refused(prompt, message):
    with pytest.raises(ConfigError, match=message):
        body(prompt)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prompt(["Be brief."]), "instructions must be a str or None, not list"),
        (lambda: Prompt(None, {"role": "user"}), "input must be a list, not dict"),
        (lambda: Prompt(None, "hi", Tool("f")), "tools must be a list, not Tool"),
    ],
)
def test_a_prompt_of_wrong_types_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_wrong_attribute_that_was_set_later_is_refused_when_the_prompt_is_sent():
    prompt = Prompt(input="hi")
    prompt.instructions = 1
    with pytest.raises(ConfigError, match="instructions must be a str or None, not int"):
        body(prompt)


@pytest.mark.parametrize("prompt", ["", " \n", [], Prompt(), Prompt(""), [Reasoning("so")]], ids=repr)
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(ConfigError, match="the prompt is empty: add a message to answer"):
        body(prompt)


@pytest.mark.parametrize("input", [(), "", " ", [Reasoning("so")]], ids=repr)
@pytest.mark.parametrize("settings", [{}, {"check_history": False}, {"developer_role": False}], ids=repr)
def test_instructions_alone_are_refused_and_shown_as_the_input_that_they_may_be(input, settings):
    with pytest.raises(ConfigError, match=r"but no message: use Prompt\(input='Why\?'\) to send them as a question"):
        body(Prompt("Why?", input), **settings)
    with pytest.raises(ConfigError, match=r"Prompt\(input='x{60}…'\)"):
        body(Prompt("x" * 1000, input), **settings)


# ── the system message ──────────────────────────────────────────────────────────────────────────────────────────


def test_instructions_are_the_first_message():
    prompt = Prompt("Be brief.", [Message("system", "Be kind."), Message("user", "hi")])
    assert body(prompt)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
    ]


def test_a_system_message_alone_can_be_sent():
    assert messages(Message("system", "Greet me.")) == [{"role": "system", "content": "Greet me."}]
    assert messages({"role": "system", "content": "Greet me."}) == [{"role": "system", "content": "Greet me."}]


@pytest.mark.parametrize("instructions", [None, ""])
def test_without_instructions_there_is_no_system_message(instructions):
    assert body(Prompt(instructions, "hi"))["messages"] == [{"role": "user", "content": "hi"}]


def test_the_role_developer_is_sent_as_system_without_developer_role():
    items = [Message("developer", "a"), {"role": "developer", "content": "b"}, Message("user", "c")]
    assert [message["role"] for message in messages(*items)] == ["developer", "developer", "user"]
    assert [message["role"] for message in messages(*items, developer_role=False)] == ["system", "system", "user"]


# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_text_parts_are_joined_to_one_str():
    assert messages(Message("user", ["a", "b"]), Message("assistant", [OutputText("c"), Refusal("no")])) == [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "cno"},
    ]


def test_the_content_of_a_message_without_parts_is_an_empty_str():
    assert messages(Message("user", ())) == [{"role": "user", "content": ""}]


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (InputImage(PNG), {"type": "image_url", "image_url": {"url": PNG}}),
        (InputImage(PNG, "high"), {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}}),
        (InputAudio("UklG", "wav"), {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}),
        (InputFile(file_id="file-1"), {"type": "file", "file": {"file_id": "file-1"}}),
        (
            InputFile("data:,", filename="a.pdf"),
            {"type": "file", "file": {"file_data": "data:,", "filename": "a.pdf"}},
        ),
        (Other({"type": "video_url", "video_url": {}}), {"type": "video_url", "video_url": {}}),
    ],
)
def test_with_an_image_audio_or_file_the_content_is_a_list(part, sent):
    assert messages(Message("user", ["see", part])) == [
        {"role": "user", "content": [{"type": "text", "text": "see"}, sent]}
    ]


def test_an_image_from_the_model_is_sent_as_a_part_of_its_message():
    sent = [{"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": {"url": PNG}}]
    tagged = {"role": "assistant", "content": ["a cat", {"type": "output_image", "image_url": PNG}]}
    for message in (Message("assistant", ["a cat", OutputImage(PNG)]), tagged):
        assert messages(message) == [{"role": "assistant", "content": sent}]


def test_an_other_of_a_known_type_is_sent_as_that_item():
    known = Other({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c1"})
    assert messages(known, Other({"type": "function_call_output", "call_id": "c1", "output": "42"})) == [
        calling(call("c1")),
        answer("c1"),
    ]
    with pytest.raises(ConfigError, match='expected a dict with the key "call_id"'):
        messages(Other({"type": "function_call", "name": "f", "arguments": "{}"}))


def test_consecutive_assistant_messages_stay_separate():
    assert messages(Message("assistant", "a"), Message("assistant", "b")) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]


# ── calls and their outputs ─────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_an_assistant_message_without_content():
    assert messages(FunctionCall("f", '{"a": 1}', "c1"), FunctionCallOutput("c1", "42")) == [
        calling(call("c1", arguments='{"a": 1}')),
        answer("c1"),
    ]


def test_consecutive_calls_and_the_text_before_them_are_one_message():
    assert messages(
        Message("assistant", "Well."),
        Message("assistant", "Let me see."),
        FunctionCall("f", "{}", "c1"),
        FunctionCall("g", "{}", "c2"),
        FunctionCallOutput("c2", "2"),
        FunctionCallOutput("c1", "1"),
        FunctionCall("f", "{}", "c3"),
        FunctionCallOutput("c3", "3"),
    ) == [
        {"role": "assistant", "content": "Well."},
        calling(call("c1"), call("c2", "g"), content="Let me see."),
        answer("c2", "2"),
        answer("c1", "1"),
        calling(call("c3")),
        answer("c3", "3"),
    ]


def test_reasoning_and_unknown_items_between_calls_do_not_separate_them():
    between = [Reasoning("so"), Other({"type": "web_search_call"})]
    items = [FunctionCall("f", "{}", "c1"), *between, FunctionCall("f", "{}", "c2")]
    outputs = [FunctionCallOutput("c1", "42"), FunctionCallOutput("c2", "42")]
    assert messages(*items, *outputs) == [calling(call("c1"), call("c2")), answer("c1"), answer("c2")]


def test_an_empty_text_before_a_call_is_sent_as_null():
    items = [Message("assistant", ""), FunctionCall("f", "{}", "c1"), FunctionCallOutput("c1", "42")]
    assert messages(*items) == [calling(call("c1")), answer("c1")]


def test_a_call_joins_a_copy_of_the_assistant_message_dict_before_it():
    written = calling(call("c1"), content="Let me see.")
    items = [written, FunctionCall("f", "{}", "c2"), answer("c1"), answer("c2")]
    assert messages(*items)[0] == calling(call("c1"), call("c2"), content="Let me see.")
    assert written == calling(call("c1"), content="Let me see.")


def test_the_output_of_a_call_may_be_a_list_of_parts():
    items = [FunctionCall("f", "{}", "c1"), FunctionCall("f", "{}", "c2")]
    outputs = [FunctionCallOutput("c1", ["4", "2"]), FunctionCallOutput("c2", [InputImage(PNG)])]
    assert messages(*items, *outputs)[1:] == [
        answer("c1", "42"),
        answer("c2", [{"type": "image_url", "image_url": {"url": PNG}}]),
    ]


# ── the local shell ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("id", "call_id", "sent"), [("ls_1", None, "ls_1"), ("ls_1", "c1", "c1"), (None, "c1", "c1")])
def test_a_local_shell_call_is_sent_under_the_id_its_output_refers_to(id, call_id, sent):
    action = {"type": "exec", "command": ["ls"]}
    shell = LocalShellCall(id, call_id, "completed", action)
    entry = {"id": sent, "type": "local_shell_call", "status": "completed", "action": action}
    assert messages(Message("assistant", "Listing."), shell, FunctionCallOutput(sent, "a.txt")) == [
        calling(entry, content="Listing."),
        answer(sent, "a.txt"),
    ]


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tools_are_sent_in_the_chat_shape():
    prompt = Prompt(None, "hi", [Tool("b", "d"), {"type": "function", "name": "a", "strict": True}])
    assert body(prompt)["tools"] == [
        {"type": "function", "function": {"name": "b", "description": "d"}},
        {"type": "function", "function": {"name": "a", "strict": True}},
    ]


def test_tools_may_be_given_as_a_request_field():
    sent = [{"type": "function", "function": {"name": "f"}}]
    assert body("hi", fields={"tools": [Tool("f")]})["tools"] == sent
    assert body(Prompt(None, "hi", [Tool("f")]), fields={"tools": None})["tools"] == sent


def test_an_empty_list_of_tools_is_not_sent():
    assert "tools" not in body(Prompt(None, "hi", []))
    assert "tools" not in body("hi", fields={"tools": []})


def test_other_tools_are_sent_only_if_the_provider_allows_them():
    prompt = Prompt(None, "hi", [{"type": "web_search"}])
    assert body(prompt, other_tools=True)["tools"] == [{"type": "web_search"}]
    with pytest.raises(ConfigError, match="function tools only"):
        body(prompt)


# ── request fields ──────────────────────────────────────────────────────────────────────────────────────────────


def test_other_request_fields_are_sent_unchanged():
    fields = {"temperature": 0, "n": 2, "response_format": {"type": "json_object"}, "stop": None, "stream": True}
    sent = body("hi", fields=fields)
    assert {name: sent[name] for name in fields} == fields


def test_a_class_as_response_format_is_sent_as_its_schema():
    @dataclass
    class Weather:
        city: str

    sent = body("hi", fields={"response_format": Weather})["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "Weather")
    assert sent["json_schema"]["schema"]["properties"] == {"city": {"type": "string"}}
    assert body("hi", fields={"response_format": None})["response_format"] is None
    with pytest.raises(ConfigError, match="response_format must be a dict, or a type such as a dataclass"):
        body("hi", fields={"response_format": "json_object"})


@pytest.mark.parametrize("model", [list[int], int | None, str, Literal["a", "b"], Annotated[int, "how many"]])
def test_any_type_given_as_response_format_is_sent_as_its_schema(model):
    assert body("hi", fields={"response_format": model})["response_format"] == response_format(model)


def test_token_usage_is_requested_unless_stream_usage_is_off():
    assert body("hi")["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body("hi", stream_usage=False)


@pytest.mark.parametrize("stream_usage", [True, False])
def test_stream_options_of_the_caller_replace_the_default(stream_usage):
    options = {"include_obfuscation": False}
    sent = body("hi", fields={"stream_options": options}, stream_usage=stream_usage)
    assert sent["stream_options"] == options


@pytest.mark.parametrize("model", [None, "", "  ", 4])
def test_a_request_without_a_model_is_refused(model):
    with pytest.raises(ConfigError, match="name a model: "):
        body("hi", model=model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages can't be a field: pass the list of messages as the prompt"),
        ({"model": "other"}, "model is given twice"),
        (
            {"stream": False},
            r"answers are always streamed: leave out stream, and use .collect\(\) for the complete answer",
        ),
        ({"tools": Tool("f")}, "tools must be a list, not Tool"),
        ({"metadata": object()}, "metadata can't be written as JSON: Object of type object"),
        ({"temperature": float("nan")}, "temperature can't be written as JSON: Out of range float"),
        ({"stop": {"a", "b"}}, "stop can't be written as JSON: Object of type set"),
        ({"tools": [Tool("f", None, {"default": object()})]}, "tools can't be written as JSON"),
    ],
)
def test_the_error_for_an_invalid_field_names_the_field(fields, message):
    with pytest.raises(ConfigError, match=message):
        body("hi", fields=fields)


def test_tools_in_the_prompt_and_in_the_fields_are_refused():
    with pytest.raises(ConfigError, match="tools were passed twice: pass them either in the prompt or as tools=…"):
        body(Prompt(None, "hi", [Tool("f")]), fields={"tools": [Tool("g")]})


# ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(max_size=8)
URLS = TEXTS.map("data:,{}".format)
PARTS = st.one_of(
    TEXTS.map(InputText),
    TEXTS.map(OutputText),
    TEXTS.map(Refusal),
    st.builds(InputImage, URLS, st.none() | TEXTS),
    st.builds(InputAudio, URLS, TEXTS),
    st.builds(InputFile, URLS, st.none() | TEXTS),
    TEXTS.map(lambda text: Other({"type": "text", "text": text, "cache_control": {}})),
)
MESSAGES = st.builds(
    Message, st.sampled_from(["user", "assistant", "system", "developer"]), st.lists(PARTS, max_size=3)
)
NAMES = st.text("ab_", min_size=1, max_size=4)
KEYS = st.sampled_from(["a", "extra_content"])
EXTRA = st.dictionaries(KEYS, st.dictionaries(TEXTS, TEXTS, max_size=1), max_size=2)
EXTRAS = st.builds(
    lambda outer, kind, inner: outer | ({kind: inner} if inner else {}),
    EXTRA,
    st.sampled_from(["function", "custom"]),
    EXTRA,
)
IDS = st.sampled_from(["c1", "c2"])
CALLS = st.builds(FunctionCall, NAMES, TEXTS | st.just('{"a": 1}'), IDS, extra=EXTRAS)
CUSTOM_CALLS = st.builds(CustomToolCall, NAMES, TEXTS, IDS, extra=EXTRAS)
SHELL_CALLS = st.builds(LocalShellCall, st.just("c3"), st.none(), TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2))
DETAILS = st.fixed_dictionaries({"type": st.just("reasoning.text")}, optional={"text": TEXTS, "signature": TEXTS})
REASONING = st.builds(Reasoning, TEXTS, details=st.lists(DETAILS, max_size=3).map(tuple))
ASIDES = REASONING | TEXTS.map(lambda text: Other({"type": "unknown", "text": text}))


def with_outputs(calls):
    return [*calls, *(FunctionCallOutput(getattr(call, "call_id", None) or call.id, "42") for call in reversed(calls))]


CALLING = st.lists(CALLS | CUSTOM_CALLS | SHELL_CALLS, max_size=3)
TURNS = CALLING.map(with_outputs) | st.lists(MESSAGES | ASIDES, max_size=3)
CONVERSATIONS = st.lists(TURNS, max_size=5).map(lambda turns: [item for turn in turns for item in turn])
PROMPTS = st.builds(Prompt, st.none() | TEXTS, CONVERSATIONS.map(lambda items: [*items, Message("user", "go on")]))
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "echo_reasoning": st.sampled_from(["reasoning", "reasoning_content", "reasoning_details"]),
        "echo_reasoning_always": st.booleans(),
        "echo_reasoning_scope": st.sampled_from(["all", "turn"]),
        "check_history": st.booleans(),
        "developer_role": st.booleans(),
    },
)


@given(PROMPTS, SETTINGS)
def test_encoding_the_messages_of_a_body_again_gives_the_same_body(prompt, settings):
    sent = body(prompt, **settings)
    assert body(json.loads(json.dumps(sent["messages"])), **settings) == sent


@given(PROMPTS, SETTINGS)
def test_a_conversation_in_the_tagged_form_gives_the_same_body(prompt, settings):
    written = json.loads(json.dumps([item.to_dict() for item in prompt.input]))
    assert body(Prompt(prompt.instructions, written), **settings) == body(prompt, **settings)


@given(PROMPTS, SETTINGS)
def test_the_arguments_of_every_call_that_is_sent_are_a_json_object(prompt, settings):
    sent = body(prompt, **{**settings, "check_history": True})["messages"]
    calls = [call for message in sent for call in message.get("tool_calls", ()) if call["type"] == "function"]
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


@given(PROMPTS, SETTINGS)
def test_encoding_does_not_change_the_prompt(prompt, settings):
    before = copy.deepcopy(prompt)
    body(prompt, **settings)
    assert prompt == before
