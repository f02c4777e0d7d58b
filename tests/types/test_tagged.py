"""Values as dicts: what `to_dict` writes, `from_dict` reads."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from chatstream import (
    ChoiceEnd,
    ClientUsage,
    Completed,
    ConfigError,
    ContentPartDone,
    Created,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallDelta,
    FunctionCallOutput,
    Heartbeat,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    LocalShellCall,
    Message,
    Other,
    OutputImage,
    OutputItemDone,
    OutputText,
    OutputTextDelta,
    Prompt,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    ResponseEvent,
    ResponseItem,
    Timing,
    TokenUsage,
    Tool,
    Turn,
    aggregate,
    collect,
    event_from_dict,
    item_from_dict,
    read_events,
)

DETAILS = ({"type": "reasoning.encrypted", "data": "Zx8=", "list": [1, {"a": None}]},)
PARTS = [
    InputText("Hi"),
    InputImage("https://a.example/b.png", "low"),
    InputAudio("AAAA", "wav"),
    InputFile(None, "file-1", "a.pdf"),
    OutputText("😀 é"),
    OutputImage("data:image/png;base64,iVBO"),
    Refusal("no"),
    Other({"type": "reference", "ids": [1, {"a": [None, True]}]}),
]
ITEMS = [
    Message("user", PARTS),
    Message("assistant", ""),
    Message("developer", []),
    FunctionCall("f", '{"a": 1}', "call_1", "incomplete", {"extra_content": {"google": {"signature": "x"}}}),
    FunctionCall("f", "", "call_2"),
    FunctionCallOutput("call_1", "18 °C"),
    FunctionCallOutput("call_1", [InputText("18 °C"), InputImage("https://a.example/b.png")]),
    CustomToolCall("run", "SELECT 1", "call_3", extra={"list": [1, [2]]}),
    CustomToolCallOutput("call_3", "1"),
    LocalShellCall(None, "call_4", "completed", {"type": "exec", "command": ["ls", "-l"]}),
    Reasoning("hm", "r1", ("a", "b"), "sealed", DETAILS),
    Reasoning(),
    Other({"type": "web_search_call", "action": {"query": "x"}}),
]
USAGE = TokenUsage(9, 4, 5, 0, 14, {"prompt_tokens": 9, "cost_details": {"upstream": None}}, 0.0012)
EXTRA = {"logprobs": {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}]}}
ENDS = (ChoiceEnd(0, "stop", "stop", "completed", EXTRA), ChoiceEnd(1, "MAX", "length", "incomplete"))
EVENTS = [
    Created("c1", "m1"),
    Created(),
    OutputTextDelta(""),
    OutputTextDelta("Hi", 1),
    ReasoningDelta("hm", 0, DETAILS),
    ReasoningDelta(""),
    RefusalDelta("no", 2),
    FunctionCallDelta('{"a', "call_1", "f", 1, True),
    *(ContentPartDone(part, 1) for part in PARTS),
    *(OutputItemDone(item) for item in ITEMS),
    Completed("c1", "m1", USAGE, "stop", "incomplete", ENDS),
    Completed(),
    Heartbeat(),
]
CHOICE = Turn((ITEMS[4],), "length", USAGE, "c1", "m1", "incomplete", Timing(0.1), "length")
TURNS = [
    Turn(),
    Turn(tuple(ITEMS), "stop", USAGE, "c1", "m1", "completed", Timing(0.1, 0.2, 0.3, None, 9.5, 0.0, 7, 1, True)),
    Turn((ITEMS[0],), finish_kind="stop", extra=EXTRA, _choices=(CHOICE, CHOICE)),
]
PROMPTS = [
    Prompt(),
    Prompt("Be brief.", "Hi"),
    Prompt(
        None,
        [
            *ITEMS,
            {"role": "user", "content": "Hi"},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text"}]},
        ],
        [Tool("f", "d", {"type": "object", "properties": {}}, False), Tool("g", None, {}), Tool("h")],
    ),
    Prompt(
        "",
        [ITEMS[0].to_dict(), {"type": "message", "role": "user", "content": "Hi"}, {"type": "as_given"}, {}],
        [{"type": "function", "name": "f"}, {"type": "tool", "name": "x"}, {"type": "as_given", "value": 1}, {}],
    ),
]
OTHERS = [USAGE, TokenUsage(), Timing(), *ENDS, ClientUsage(3, 1, USAGE), *PARTS]
VALUES = [*EVENTS, *ITEMS, *TURNS, *PROMPTS, *OTHERS]
KINDS: list[Any] = list(dict.fromkeys(map(type, VALUES)))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_tagged_form_is_plain_json_and_gives_the_value_back(value: Any):
    tagged = value.to_dict()
    assert json.loads(json.dumps(tagged, allow_nan=False)) == tagged
    again = type(value).from_dict(tagged)
    assert again == value
    assert again.to_dict() == tagged
    assert isinstance(tagged["type"], str)


def test_every_kind_of_event_and_item_is_tested_here():
    assert {type(each) for each in EVENTS} == set(get_args(ResponseEvent))
    assert {type(each) for each in ITEMS} == set(get_args(ResponseItem))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_read_without_knowing_its_kind(event):
    assert event_from_dict(json.loads(json.dumps(event.to_dict()))) == event


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_an_item_is_read_without_knowing_its_kind(item):
    assert item_from_dict(json.loads(json.dumps(item.to_dict()))) == item


def test_an_event_has_the_name_of_its_class_as_its_type():
    assert OutputTextDelta("Hi").to_dict() == {"type": "output_text_delta", "delta": "Hi", "choice": 0}
    assert [each.to_dict()["type"] for each in (Created(), FunctionCallDelta("", "a", "f"), Heartbeat())] == [
        "created",
        "function_call_delta",
        "heartbeat",
    ]


def test_what_raw_holds_comes_back_though_it_does_not_count_for_equality():
    assert TokenUsage.from_dict(USAGE.to_dict()).raw == USAGE.raw


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_to_change_the_tagged_form_does_not_change_the_value(value: Any):
    before = json.dumps(value.to_dict())
    _spoil(value.to_dict())
    assert json.dumps(value.to_dict()) == before


def _spoil(value: Any) -> None:
    """Change every list and dict in ``value``."""
    for each in [*value.values()] if isinstance(value, dict) else [*value]:
        if isinstance(each, (dict, list)):
            _spoil(each)
    if isinstance(value, dict):
        value["spoilt"] = 1
    else:
        value.append(1)


@pytest.mark.parametrize("kind", [type(each) for each in (*EVENTS[:8], EVENTS[-1], *TURNS[:1], *OTHERS[:6])])
def test_a_newer_version_may_have_written_further_keys(kind):
    value = next(each for each in VALUES if type(each) is kind)
    assert kind.from_dict({**value.to_dict(), "new": {"a": 1}}) == value


@pytest.mark.parametrize(
    "data",
    [
        None,
        "output_text_delta",
        [],
        {},
        {"type": None},
        {"type": []},
        {"type": "nonsense"},
        {"type": "message", "role": "user", "content": "an item"},
        {"type": "output_text_delta"},
        {"type": "output_text_delta", "delta": None},
        {"type": "output_text_delta", "delta": 5},
        {"type": "output_text_delta", "delta": ["a"]},
        {"type": "output_text_delta", "delta": "a", "choice": "0"},
        {"type": "reasoning_delta", "delta": "a", "details": {"a": 1}},
        {"type": "reasoning_delta", "delta": "a", "details": ["a"]},
        {"type": "created", "model": {"a": 1}},
        {"type": "output_item_done"},
        {"type": "output_item_done", "item": "text"},
        {"type": "output_item_done", "item": {"type": "message"}},
        {"type": "content_part_done", "part": {"text": "without a type"}},
        {"type": "completed", "token_usage": {"type": "timing"}},
        {"type": "completed", "token_usage": 7},
        {"type": "completed", "choices": [7]},
    ],
    ids=lambda data: repr(data)[:60],
)
def test_what_is_no_event_raises_a_config_error(data):
    with pytest.raises(ConfigError):
        event_from_dict(data)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_no_dict_raises_a_config_error(kind):
    for data in (None, 7, [], "text", '{"type": "turn"}', b"text"):
        with pytest.raises(ConfigError):
            kind.from_dict(data)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Other], ids=lambda kind: kind.__name__)
def test_the_tagged_form_of_something_else_raises_a_config_error(kind):
    for value in VALUES:
        if not isinstance(value, kind):
            with pytest.raises(ConfigError, match='expected a dict with the type "'):
                kind.from_dict(value.to_dict())


@pytest.mark.parametrize(
    "data",
    [
        {"type": "prompt", "instructions": 5},
        {"type": "prompt", "input": "Hi"},
        {"type": "prompt", "input": ["Hi"]},
        {"type": "prompt", "input": [{"type": "message"}]},
        {"type": "prompt", "input": [{"type": "as_given"}]},
        {"type": "prompt", "input": [{"type": "as_given", "value": 5}]},
        {"type": "prompt", "tools": {"a": 1}},
        {"type": "prompt", "tools": [5]},
        {"type": "prompt", "tools": [{"type": "tool"}]},
        {"type": "turn", "items": "text"},
        {"type": "turn", "items": [{"type": "function_call"}]},
        {"type": "turn", "items": [{"type": "reasoning", "content": 5}]},
        {"type": "turn", "items": [{"type": "reasoning", "summary": ["so"]}]},
        {"type": "turn", "extra": []},
        {"type": "turn", "choices": [{"type": "prompt"}]},
        {"type": "turn", "timing": {"bytes": "7"}},
    ],
    ids=lambda data: repr(data)[:60],
)
def test_a_broken_prompt_or_turn_raises_a_config_error(data):
    with pytest.raises(ConfigError):
        {"prompt": Prompt, "turn": Turn}[data["type"]].from_dict(data)


def test_turns_models_and_functions_of_a_prompt_are_kept_as_what_they_stand_for():
    class Model:
        def model_dump(self, **options: object) -> dict[str, object]:
            return {"role": "user", "content": "Hi"}

    def add(a: int) -> int:
        """Add one."""
        return a + 1

    answer = Message("assistant", "Hello")
    prompt = Prompt(input=[Turn((answer,)), Model()], tools=[add])  # type: ignore[list-item]
    read = Prompt.from_dict(json.loads(json.dumps(prompt.to_dict())))
    assert read.input == [answer, {"role": "user", "content": "Hi"}]
    assert read.tools == [Tool.from_function(add)]  # a tool is compared without its function


@pytest.mark.parametrize("prompt", [Prompt(input=[5]), Prompt(tools=[5])], ids=["item", "tool"])  # type: ignore[list-item]
def test_a_prompt_with_something_that_can_not_be_sent_has_no_tagged_form(prompt):
    with pytest.raises(ConfigError):
        prompt.to_dict()


def test_the_events_that_a_proxy_passes_on_are_the_same_answer():
    recorded = [
        b'data: {"id": "c1", "choices": [{"index": 0, "delta": {"reasoning": "hm"}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "cite": ["a"]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": 3, "cost": 0.5}}\n\ndata: [DONE]\n\n',
    ]
    lines = [json.dumps(event.to_dict()) for event in read_events(recorded)]
    events = [event_from_dict(json.loads(line)) for line in lines]
    assert events == list(read_events(recorded))
    assert collect(events) == collect(read_events(recorded))
    items = [json.dumps(event.to_dict()) for event in aggregate(events)]
    assert collect(event_from_dict(json.loads(item)) for item in items) == collect(read_events(recorded))
