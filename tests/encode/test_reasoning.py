"""Reasoning items → a key of the assistant message they belong to, as the settings of a provider have it."""

from __future__ import annotations

import copy

import pytest
from bodies import answer, call, calling, messages

from chatstream.types.items import FunctionCall, FunctionCallOutput, Message, Reasoning
from chatstream.types.parts import Other

HI = Message("user", "hi")
HELLO = Message("assistant", "hello")
CALL, OUTPUT = FunctionCall("f", "{}", "c1"), FunctionCallOutput("c1", "42")
WITH_REASONING = [HI, Reasoning("so"), Other({"type": "web_search_call"}), HELLO]


def user(text="hi"):
    return {"role": "user", "content": text}


def assistant(text="hello", **more):
    return {"role": "assistant", "content": text, **more}


def echoed(*items, key="reasoning", **settings):
    """The reasoning of each assistant message, None where it has none."""
    sent = messages(*items, echo_reasoning=key, **settings)
    assert all(key not in message for message in sent if message["role"] != "assistant")
    return [message.get(key) for message in sent if message["role"] == "assistant"]


# ── the message that reasoning belongs to ───────────────────────────────────────────────────────────────────────


def test_reasoning_and_unknown_items_are_not_sent():
    details = Reasoning("so", details=({"type": "reasoning.text", "text": "so"},))
    assert messages(*WITH_REASONING) == [user(), assistant()]
    assert messages(HI, details, HELLO) == [user(), assistant()]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_with_echo_reasoning_reasoning_is_a_key_of_the_assistant_message_that_follows(name):
    assert messages(*WITH_REASONING, echo_reasoning=name)[1:] == [assistant(**{name: "so"})]


def test_with_echo_reasoning_reasoning_is_a_key_of_the_message_with_the_calls_that_follow():
    items = [
        Reasoning("one"),
        Message("assistant", "Let me see."),
        Reasoning("two"),
        CALL,
        OUTPUT,
        Message("assistant", "42."),
    ]
    assert messages(*items, echo_reasoning="reasoning") == [
        calling(call("c1"), content="Let me see.", reasoning="one\ntwo"),
        answer("c1"),
        assistant("42."),
    ]


@pytest.mark.parametrize(
    ("items", "reasoning"),
    [
        ([HI, HELLO, Reasoning("so")], ["so"]),
        ([HI, HELLO, Reasoning("so"), HI], ["so"]),
        ([HI, HELLO, Reasoning("so"), user()], ["so"]),
        ([HI, CALL, Reasoning("so"), OUTPUT], ["so"]),
        ([HI, CALL, Reasoning("so"), answer("c1")], ["so"]),
        ([HI, CALL, Reasoning("so"), FunctionCall("f", "{}", "c2"), OUTPUT, answer("c2")], ["so"]),
        ([HI, Reasoning("one"), HELLO, Reasoning("two"), HI], ["one\ntwo"]),
    ],
    ids=["last", "before a user", "before a dict", "before an output", "before a tool dict", "between calls", "twice"],
)
def test_reasoning_after_its_message_belongs_to_that_message(items, reasoning):
    assert echoed(*items) == reasoning


@pytest.mark.parametrize("second", [HELLO, assistant()], ids=["item", "dict"])
def test_reasoning_between_two_assistant_messages_belongs_to_the_second(second):
    assert echoed(HI, HELLO, Reasoning("so"), second) == [None, "so"]


def test_reasoning_of_each_step_stays_with_its_step():
    step = [Reasoning("first"), CALL, OUTPUT, Reasoning("second"), FunctionCall("f", "{}", "c2"), answer("c2")]
    assert echoed(HI, *step, Reasoning("third"), HELLO) == ["first", "second", "third"]


@pytest.mark.parametrize(
    "items",
    [
        [Reasoning("so"), HI, HELLO],
        [HI, Reasoning("so"), HI, HELLO],
        [CALL, OUTPUT, Reasoning("so"), HI],
        [CALL, OUTPUT, Reasoning("so")],
        [HI, Reasoning("so")],
    ],
)
def test_reasoning_without_an_assistant_message_beside_it_is_not_echoed(items):
    assert set(echoed(*items)) <= {None}


def test_reasoning_does_not_wait_for_a_message_of_the_next_turn():
    assert echoed(HI, HELLO, Reasoning("so"), HI, HELLO) == ["so", None]


# ── its text ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "blank",
    [Reasoning(), Reasoning(" \n\t"), Reasoning(encrypted_content="x"), Reasoning(summary=("", " "))],
    ids=["empty", "white space", "encrypted", "summary"],
)
def test_blank_reasoning_is_never_echoed(blank):
    assert echoed(HI, blank, HELLO) == [None]
    assert echoed(HI, Reasoning("one"), blank, Reasoning("two"), HELLO) == ["one\ntwo"]


def test_a_summary_is_echoed_if_there_is_no_full_text():
    assert echoed(Reasoning(summary=("a", "b")), HELLO) == ["a\nb"]
    assert echoed(Reasoning("full", summary=("a", "b")), HELLO) == ["full"]


def test_white_space_around_reasoning_is_kept():
    assert echoed(Reasoning("\n so. \n\n"), HELLO) == ["\n so. \n\n"]


def test_reasoning_of_a_message_dict_comes_before_that_of_an_item():
    assert echoed(Reasoning("two"), assistant(reasoning="one")) == ["one\ntwo"]
    assert echoed(Reasoning("two"), assistant(reasoning=None)) == ["two"]
    assert echoed(assistant(reasoning="one")) == ["one"]


def test_reasoning_in_a_message_dict_that_is_not_a_str_is_kept():
    details = assistant(reasoning=[{"text": "so"}])
    assert messages(Reasoning("so"), details, echo_reasoning="reasoning") == [details]


# ── echo_reasoning_always ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("key", "empty"), [("reasoning_content", ""), ("reasoning", ""), ("reasoning_details", [])])
def test_with_echo_reasoning_always_each_assistant_message_has_the_key(key, empty):
    items = [HI, HELLO, HI, assistant(), HI, CALL, OUTPUT, HELLO, HI]
    assert echoed(*items, key=key, echo_reasoning_always=True) == [empty] * 4


def test_with_echo_reasoning_always_a_null_of_a_message_dict_is_filled_in():
    assert echoed(user(), assistant(reasoning=None), echo_reasoning_always=True) == [""]


def test_with_echo_reasoning_always_reasoning_is_sent_as_without_it():
    items = [HI, Reasoning("so"), CALL, OUTPUT, Reasoning(" "), HELLO, HI, assistant(reasoning="own")]
    assert echoed(*items, echo_reasoning_always=True) == ["so", "", "own"]


def test_echo_reasoning_always_needs_echo_reasoning():
    assert messages(*WITH_REASONING, echo_reasoning_always=True) == [user(), assistant()]


def test_echo_reasoning_always_does_not_change_a_message_dict_of_the_caller():
    given = assistant()
    assert echoed(given, echo_reasoning_always=True) == [""]
    assert given == assistant()


# ── echo_reasoning_scope ────────────────────────────────────────────────────────────────────────────────────────

TWO_TURNS = [HI, Reasoning("one"), CALL, OUTPUT, Reasoning("two"), HELLO, HI, Reasoning("three"), CALL, OUTPUT]


def test_with_the_scope_turn_only_reasoning_after_the_last_user_message_is_echoed():
    assert echoed(*TWO_TURNS) == ["one", "two", "three"]
    assert echoed(*TWO_TURNS, echo_reasoning_scope="turn") == [None, None, "three"]
    assert echoed(*TWO_TURNS, user(), echo_reasoning_scope="turn") == [None, None, None]


def test_the_whole_tool_loop_after_the_last_user_message_is_one_turn():
    steps = [Reasoning("one"), CALL, OUTPUT, Reasoning("two"), CALL, OUTPUT, Reasoning("three"), HELLO]
    assert echoed(HI, *steps, echo_reasoning_scope="turn") == ["one", "two", "three"]


def test_without_a_user_message_the_whole_conversation_is_one_turn():
    assert echoed(Reasoning("so"), HELLO, echo_reasoning_scope="turn") == ["so"]


def test_a_system_message_does_not_begin_a_turn():
    items = [HI, Reasoning("so"), HELLO, Message("system", "Be brief."), Message("developer", "Be kind.")]
    assert echoed(*items, echo_reasoning_scope="turn") == ["so"]


def test_with_the_scope_turn_and_always_older_messages_have_an_empty_key():
    assert echoed(*TWO_TURNS, echo_reasoning_scope="turn", echo_reasoning_always=True) == ["", "", "three"]


def test_with_the_scope_turn_the_reasoning_of_an_older_message_dict_is_the_callers_and_stays():
    assert echoed(user(), assistant(reasoning="so"), HI, echo_reasoning_scope="turn") == ["so"]


def test_with_the_scope_turn_older_details_are_left_out():
    entry = {"type": "reasoning.encrypted", "data": "x"}
    items = [HI, Reasoning(details=(entry,)), HELLO, HI, Reasoning(details=(entry,)), HELLO]
    assert echoed(*items, key="reasoning_details", echo_reasoning_scope="turn") == [None, [entry]]


# ── reasoning_details ───────────────────────────────────────────────────────────────────────────────────────────

SUMMARY = {"type": "reasoning.summary", "summary": "In short.", "format": "openai-responses-v1", "index": 0}
ENCRYPTED = {"type": "reasoning.encrypted", "data": "Zx8=", "id": "rs_1", "format": "openai-responses-v1", "index": 1}
PIECE = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}


def details(*entries, **settings):
    """The details of an assistant message whose reasoning has these entries."""
    before = copy.deepcopy(entries)
    (sent,) = echoed(HI, Reasoning("so", details=entries), HELLO, key="reasoning_details", **settings)
    assert entries == before
    return sent


def test_details_are_sent_unchanged_and_in_order():
    unknown = {"type": "reasoning.picture", "url": None, "nested": {"keys": [1, 2.5, True]}}
    assert details(SUMMARY, ENCRYPTED, unknown) == [SUMMARY, ENCRYPTED, unknown]


def test_details_of_several_items_and_of_the_message_dict_are_one_list():
    items = [Reasoning(details=(SUMMARY,)), Reasoning(details=(ENCRYPTED,)), assistant(reasoning_details=[PIECE])]
    assert echoed(*items, key="reasoning_details") == [[PIECE, SUMMARY, ENCRYPTED]]
    assert echoed(items[0], assistant(reasoning_details=None), key="reasoning_details") == [[SUMMARY]]


def test_details_of_a_message_dict_that_are_no_list_give_way_to_those_of_an_item():
    given = [user(), Reasoning(details=(SUMMARY,)), assistant(reasoning_details="so")]
    assert echoed(*given, key="reasoning_details") == [[SUMMARY]]


def test_reasoning_without_details_is_not_sent_as_details():
    assert details() is None
    assert echoed(HI, Reasoning("so"), assistant(reasoning_details=[PIECE]), key="reasoning_details") == [[PIECE]]


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_details_are_not_sent_under_the_key_of_a_text(key):
    assert echoed(HI, Reasoning("so", details=(SUMMARY,)), HELLO, key=key) == ["so"]
    assert echoed(HI, Reasoning(details=(SUMMARY,)), HELLO, key=key) == [None]


@pytest.mark.parametrize(
    "last",
    [
        {**PIECE, "signature": "s1"},
        {**PIECE, "signature": "s1", "text": ""},
        {**PIECE, "signature": "s1", "text": None},
        {**PIECE, "signature": "s1", "text": "Then."},
    ],
    ids=["no text", "empty", "null", "text"],
)
def test_text_in_pieces_is_joined_with_the_signature_that_ends_it(last):
    pieces = [{**PIECE, "text": text, "signature": None} for text in ("One", " city\n", " first. ")]
    text = "One city\n first. " + (last.get("text") or "")
    assert details(*pieces, last, ENCRYPTED) == [{**PIECE, "text": text, "signature": "s1"}, ENCRYPTED]


def test_each_signature_ends_a_block_of_its_own():
    first, second = PIECE, {**PIECE, "index": 1}
    entries = [
        {**first, "text": "a"},
        {**first, "signature": "s1"},
        {**second, "text": "b"},
        {**second, "signature": "s2"},
    ]
    same_index = [{**each, "index": 0} for each in entries]
    assert details(*entries) == [{**first, "text": "a", "signature": "s1"}, {**second, "text": "b", "signature": "s2"}]
    assert [each["text"] for each in details(*same_index)] == ["a", "b"]


@pytest.mark.parametrize(
    "before",
    [
        {**PIECE, "index": 1, "text": "a"},
        {**PIECE, "type": "reasoning.other", "text": "a"},
        {**PIECE, "text": "a", "signature": "s0"},
        {**PIECE, "data": "a"},
        ENCRYPTED,
    ],
    ids=["other index", "other type", "signed", "no text", "encrypted"],
)
def test_a_signature_is_not_joined_with_what_it_does_not_sign(before):
    signature = {**PIECE, "signature": "s1"}
    assert details(before, signature) == [before, signature]


def test_text_without_a_signature_and_text_with_its_own_are_sent_as_they_came():
    entries = [{**PIECE, "text": "a"}, {**PIECE, "text": "b"}]
    assert details(*entries) == entries
    signed = {**PIECE, "text": "ab", "signature": "s1"}
    assert details(signed) == [signed]
