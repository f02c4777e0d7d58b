"""Histories: what a server can take is sent, and what it would refuse raises an error that names the place."""

from __future__ import annotations

import json

import pytest
from bodies import answer, body, call, calling, messages

from chatstream import collect, read_events
from chatstream._encode.body import encode_json, request_body
from chatstream.errors import ConfigError
from chatstream.types.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    LocalShellCall,
    Message,
    Reasoning,
)
from chatstream.types.parts import InputImage
from chatstream.types.prompt import Prompt
from chatstream.types.tools import Tool

CALL, OUTPUT = FunctionCall("f", "{}", "c1"), FunctionCallOutput("c1", "42")
HI = Message("user", "hi")


# ── calls and their outputs ─────────────────────────────────────────────────────────────────────────────────────


def test_outputs_may_come_in_another_order_than_their_calls():
    calls = [CALL, FunctionCall("g", "{}", "c2"), CustomToolCall("h", "x", "c3")]
    outputs = [CustomToolCallOutput("c3", "3"), FunctionCallOutput("c2", "2"), OUTPUT]
    assert messages(*calls, *outputs)[1:] == [answer("c3", "3"), answer("c2", "2"), answer("c1")]


def test_a_call_id_may_be_used_again_after_its_output():
    turn = [FunctionCall("f", "{}", "call_0"), FunctionCallOutput("call_0", "42")]
    assert messages(*turn, Message("assistant", "42."), *turn) == [
        calling(call("call_0")),
        answer("call_0"),
        calling(call("call_0"), content="42."),
        answer("call_0"),
    ]


def test_two_calls_with_one_id_need_two_outputs():
    twice = [FunctionCall("f", "{}", "c1"), FunctionCall("g", "{}", "c1")]
    assert len(messages(*twice, OUTPUT, OUTPUT)) == 3
    with pytest.raises(ConfigError, match="call_id c1 has no output"):
        messages(*twice, OUTPUT)


def test_calls_without_ids_are_matched_with_outputs_in_order():
    # The history of a server that sends no ids has neither `id` nor `tool_call_id`.
    history = [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, {"role": "tool", "content": "42"}]
    assert messages(*history) == history


def test_a_call_of_the_newest_kind_and_one_before_tools_may_stand_in_message_dicts():
    history = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
        calling({"id": "c1", "type": "custom", "custom": {"name": "g", "input": "x"}}),
        answer("c1"),
    ]
    assert messages(*history) == history


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([OUTPUT, CALL], "the output of call_id c1 has no earlier call: add the call before it"),
        ([OUTPUT], "the output of call_id c1 has no earlier call"),
        ([answer("c1")], "the output of call_id c1 has no earlier call"),
        ([calling(call("c1")), answer("c1"), answer("c1")], "the output of call_id c1 has no earlier call"),
        ([CALL, OUTPUT, HI, OUTPUT], "the output of call_id c1 has no earlier call"),
        ([CALL, CustomToolCallOutput("c2", "42")], "the output of call_id c2 has no earlier call"),
        (
            [CALL],
            r"call_id c1 has no output at the end: put FunctionCallOutput\('c1', …\) right after the call, or drop",
        ),
        ([HI, CALL, HI], r"call_id c1 has no output before messages\[2\], whose role is user: put FunctionCallOutput"),
        ([HI, CALL, HI, OUTPUT], r"call_id c1 has no output before messages\[2\], whose role is user"),
        ([CALL, Message("assistant", "x"), OUTPUT], r"no output before messages\[1\], whose role is assistant"),
        (
            [CALL, Message("system", "x"), OUTPUT],
            r"call_id c1 has no output before messages\[1\], whose role is system",
        ),
        ([CALL, Message("assistant", "x"), CALL, OUTPUT, OUTPUT], r"before messages\[1\], whose role is assistant"),
        ([calling(call("c1"), call("c2")), answer("c1")], "call_id c2 has no output at the end"),
        ([calling(call("c1")), {"role": "user", "content": "hi"}, answer("c1")], r"before messages\[1\]"),
        ([CustomToolCall("f", "x", "c1")], "call_id c1 has no output at the end"),
        ([LocalShellCall("ls_1", None, "completed", {})], "call_id ls_1 has no output at the end"),
    ],
)
def test_the_error_for_a_call_or_output_without_its_counterpart_has_the_call_id_and_the_place(items, message):
    with pytest.raises(ConfigError, match=message):
        messages(*items)


def test_the_place_counts_the_instructions_too():
    with pytest.raises(ConfigError, match=r"before messages\[3\]"):
        body(Prompt("Be brief.", [HI, CALL, HI]))


def test_the_error_for_a_missing_output_names_the_switch_for_unchecked_histories():
    with pytest.raises(ConfigError, match="a provider with check_history=False sends it unchecked"):
        messages(CALL)


# ── roles ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_the_roles_that_servers_know_are_sent(role):
    assert messages(Message(role, "x")) == messages({"role": role, "content": "x"}) == [{"role": role, "content": "x"}]


@pytest.mark.parametrize("role", ["ipython", "User", "human", "model"])
def test_a_role_that_no_server_knows_is_refused_with_its_place(role):
    known = "the roles are system, developer, user, assistant, tool, function"
    for message in (Message(role, "x"), {"role": role, "content": "x"}):
        with pytest.raises(ConfigError, match=rf"messages\[1\] has the role '{role}'; {known}"):
            messages(HI, message)


# ── the arguments and the name of a call ────────────────────────────────────────────────────────────────────────


def sent_arguments(arguments, **settings):
    sent = messages(FunctionCall("f", arguments, "c1"), OUTPUT, **settings)
    return sent[0]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize("arguments", ["{}", "{ }", ' {"b": 1,\n"a": 2.50}\n', '{"a": "ü"}', '{"a": 1, "a": 2}'])
def test_arguments_that_are_a_json_object_are_sent_as_the_model_wrote_them(arguments):
    assert sent_arguments(arguments) == arguments


@pytest.mark.parametrize("arguments", ["", " ", "\n\t"])
def test_no_arguments_at_all_are_sent_as_an_empty_object(arguments):
    assert sent_arguments(arguments) == "{}"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city": "Os',
        "Oslo, please",
        '{"a": NaN}',
        "{'a': 1}",
        '{"a": 1}{"a": 1}',
        "[1, 2]",
        "[]",
        '"Oslo"',
        "4",
        "null",
        "[" * 100_000,
        '{"a": ' + "1" * 5_000 + "}",
        '{"ü": "\N{GRINNING FACE}',
    ],
    ids=lambda arguments: arguments[:12],
)
def test_arguments_that_are_no_json_object_are_sent_wrapped_in_one(arguments):
    assert json.loads(sent_arguments(arguments)) == {"malformed_arguments": arguments}


def test_the_escape_of_half_a_character_in_arguments_is_sent_as_the_replacement_character():
    assert json.loads(sent_arguments('{"a": "x\\ud83d", "\\ude00": [1]}')) == {"a": "x\ufffd", "\ufffd": [1]}


def test_two_escapes_of_one_character_in_arguments_are_sent_as_the_model_wrote_them():
    whole = '{"a": "\\ud83d\\ude00"}'
    assert sent_arguments(whole) == whole


def test_arguments_in_a_message_dict_are_sent_as_written():
    for arguments in ("", "half", "[]", {"a": 1}, None):
        history = [calling(call("c1", arguments=arguments)), answer("c1")]
        assert messages(*history) == history


def test_the_input_of_a_custom_call_is_never_wrapped():
    assert (
        messages(CustomToolCall("f", "half {", "c1"), answer("c1"))[0]["tool_calls"][0]["custom"]["input"] == "half {"
    )


@pytest.mark.parametrize(
    "nameless",
    [
        FunctionCall("", "{}", "c1"),
        FunctionCall(" ", "{}", "c1"),
        CustomToolCall("", "x", "c1"),
        calling(call("c1", name="")),
        calling({"id": "c1", "type": "function", "function": {"arguments": "{}"}}),
        calling({"id": "c1", "type": "custom", "custom": {"name": None, "input": ""}}),
    ],
)
def test_a_call_without_a_name_is_refused_with_the_way_out(nameless):
    with pytest.raises(ConfigError, match=r"the call c1 has no name, so servers reject it: send turn\.complete_items"):
        messages(HI, nameless, OUTPUT)


CUT = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "Let me look.", "tool_calls": ['
    b'{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}, '
    b'{"index": 1, "id": "c2", "function": {"arguments": "{}"}}, '
    b'{"index": 2, "id": "c3", "function": {"name": "g", "arguments": "{\\"a"}}]}, "finish_reason": "length"}]}\n\n'
)


def test_the_complete_items_of_a_cut_turn_can_be_sent():
    turn = collect(read_events(CUT))
    assert [item.call_id for item in turn.function_calls] == ["c1", "c2", "c3"]
    with pytest.raises(ConfigError, match="the call c2 has no name"):
        messages(HI, *turn.items, *(answer(item.call_id) for item in turn.function_calls))
    assert messages(HI, *turn.complete_items, answer("c1"))[1:] == [
        calling(call("c1", arguments='{"a": 1}'), content="Let me look."),
        answer("c1"),
    ]


def test_a_cut_call_can_be_answered():
    cut = collect(read_events(CUT)).function_calls[2]
    sent = messages(HI, cut, cut.output("your arguments are not JSON"))
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == '{"malformed_arguments": "{\\"a"}'


# ── check_history=False ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("items", "sent"),
    [
        ([CALL, HI], [calling(call("c1")), {"role": "user", "content": "hi"}]),
        ([OUTPUT], [answer("c1")]),
        ([{"role": "ipython", "content": "x"}], [{"role": "ipython", "content": "x"}]),
        ([Message("human", "x")], [{"role": "human", "content": "x"}]),
        ([FunctionCall("", "half", "c1")], [calling(call("c1", "", "half"))]),
        ([FunctionCall("f", "", "c1")], [calling(call("c1", arguments=""))]),
        ([FunctionCall("f", "[]", "c1")], [calling(call("c1", arguments="[]"))]),
        (
            [CustomToolCall("", "x", "c1")],
            [calling({"id": "c1", "type": "custom", "custom": {"name": "", "input": "x"}})],
        ),
    ],
)
def test_without_check_history_a_history_is_sent_as_it_stands(items, sent):
    assert messages(*items, check_history=False) == sent


def test_without_check_history_an_empty_prompt_and_wrong_types_are_still_refused():
    with pytest.raises(ConfigError, match="the prompt is empty"):
        messages(Reasoning("so"), check_history=False)
    with pytest.raises(ConfigError, match=r"input\[0\] is str"):
        messages("hi", check_history=False)
    with pytest.raises(ConfigError, match="the role of a message must be a str"):
        messages({"role": "", "content": "x"}, check_history=False)


# ── halves of characters ────────────────────────────────────────────────────────────────────────────────────────

HIGH, LOW = "\ud83d", "\ude00"  # the two surrogates of U+1F600
PLACES = [
    ("messages[0].content", lambda text: {"instructions": text}),
    ("messages[1].content", lambda text: {"input": [HI, Message("assistant", text)]}),
    ("messages[0].content[1].text", lambda text: {"input": [{"role": "user", "content": ["a", text]}]}),
    ("messages[0].content[0].image_url.url", lambda text: {"input": [Message("user", [InputImage(f"data:{text}")])]}),
    ("messages[0].name", lambda text: {"input": [{"role": "user", "content": "hi", "name": text}]}),
    ("messages[1].content", lambda text: {"input": [CALL, FunctionCallOutput("c1", text)]}),
    ("messages[0].reasoning", lambda text: {"input": [Reasoning(text), Message("assistant", "x")]}),
    (
        "messages[0].tool_calls[0].function.arguments",
        lambda text: {"input": [FunctionCall("f", f'{{"a": "{text}"}}', "c1"), OUTPUT]},
    ),
    (
        "messages[0].tool_calls[1].id",
        lambda text: {"input": [CALL, FunctionCall("f", "{}", text), OUTPUT, FunctionCallOutput(text, "x")]},
    ),
    (
        "messages[0].tool_calls[0].custom.input",
        lambda text: {"input": [CustomToolCall("f", text, "c1"), OUTPUT]},
    ),
    (
        "messages[0].tool_calls[0].extra_content.google.thought_signature",
        lambda text: {
            "input": [
                FunctionCall("f", "{}", "c1", extra={"extra_content": {"google": {"thought_signature": text}}}),
                OUTPUT,
            ]
        },
    ),
    ("tools[1].function.description", lambda text: {"tools": [Tool("f"), Tool("g", text)]}),
    (
        "tools[0].function.parameters.properties.a.enum[1]",
        lambda text: {"tools": [{"name": "f", "parameters": {"properties": {"a": {"enum": ["x", text]}}}}]},
    ),
    ("user", lambda text: {"fields": {"user": text}}),
    ("stop[1]", lambda text: {"fields": {"stop": ["x", text]}}),
    ("stop[1]", lambda text: {"fields": {"stop": ("x", text)}}),
    ("metadata.a", lambda text: {"fields": {"metadata": {"a": text}}}),
    ("model", lambda text: {"model": text}),
]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"metadata": {f"a{HIGH}": 1}}, r"the key 'a\\ud83d' of metadata"),
        ({f"a{HIGH}": 1}, r"the key 'a\\ud83d'"),
    ],
)
def test_half_of_a_character_in_a_key_is_refused_with_its_place(fields, place):
    with pytest.raises(ConfigError, match=f"^{place} holds half of a character"):
        sent_with(fields=fields)


@pytest.mark.parametrize("depth", [300, 500, 900, 2_000, 100_000])
def test_half_of_a_character_deep_inside_a_field_is_refused(depth):
    value = HIGH
    for _ in range(depth):
        value = [value]
    with pytest.raises(ConfigError):
        sent_with(fields={"metadata": value})


def test_half_of_a_character_in_arguments_that_are_no_json_is_refused():
    with pytest.raises(ConfigError, match=r"^messages\[0\]\.tool_calls\[0\]\.function\.arguments holds half"):
        sent_with(input=[FunctionCall("f", HIGH, "c1"), OUTPUT])


def sent_with(instructions=None, input=(HI,), tools=(), model="m", fields=None):
    """The bytes of a request."""
    prompt = Prompt(instructions, list(input), tools)
    return encode_json(request_body(prompt, model=model, fields=fields or {}, echo_reasoning="reasoning"))


@pytest.mark.parametrize(("place", "prompt_with"), PLACES)
def test_half_of_a_character_is_refused_with_its_place(place, prompt_with):
    with pytest.raises(ConfigError) as caught:
        sent_with(**prompt_with(f"a{HIGH}"))
    message = "holds half of a character (a lone surrogate), which no server can read: remove it"
    assert str(caught.value) == f"{place} {message}"


@pytest.mark.parametrize("half", [HIGH, LOW, LOW + HIGH, HIGH + HIGH + LOW, HIGH + LOW + LOW], ids=ascii)
def test_each_kind_of_half_is_refused(half):
    with pytest.raises(ConfigError, match=r"messages\[0\]\.content holds half of a character"):
        messages(Message("user", half))


@pytest.mark.parametrize(("place", "prompt_with"), PLACES)
def test_two_halves_side_by_side_are_sent_as_their_character(place, prompt_with):
    assert sent_with(**prompt_with(f"a{HIGH}{LOW}b")) == sent_with(**prompt_with("a\N{GRINNING FACE}b"))


def test_text_that_spells_the_escape_of_half_a_character_is_sent():
    assert messages(Message("user", r"\ud83d")) == [{"role": "user", "content": r"\ud83d"}]


def test_without_check_history_half_of_a_character_is_still_refused():
    with pytest.raises(ConfigError, match=r"messages\[0\]\.content holds half of a character"):
        messages(Message("user", HIGH), check_history=False)
