"""Which call a fragment belongs to, and which choice, however loosely a server handles index, id and name."""

from __future__ import annotations

from typing import Any

import pytest
from answers import STOP, called, calls, chunk, deltas, ids, part, read, sse, text, texts, turn_of

from chatstream import (
    ConfigError,
    CustomToolCall,
    FunctionCall,
    FunctionCallDelta,
    FunctionCallOutput,
    Message,
    OutputItemDone,
    Prompt,
    ProtocolViolation,
    StreamTruncated,
)
from chatstream._encode.body import request_body

# Each row: the fragments, the calls (name, arguments), and their ids; * is a generated one.
Row = tuple[list[dict[str, Any]], list[tuple[str, str]], list[str]]

WITHOUT_NAME: dict[str, Row] = {
    "the call at its index that has its id, though another began there since": (
        [
            part('{"x": ', "north", "n", 0),
            part('{"y": ', "south", "s", 0),
            part("1}", None, "n", 0),
            part("2}", None, "s", 0),
        ],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the call that has its id, if the call at its index has another id": (
        [
            part('{"x": ', "north", "n", 0),
            part('{"y": ', "south", "s", 1),
            part("1}", None, "n", 1),
            part("2}", None, "s", 0),
        ],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the call that has its id, if no call is at its index": (
        [part('{"x": ', "north", "n", 0), part('{"y": 2}', "south", "s", 1), part("1}", None, "n", 5)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the call at its index, if that has no id and another call has this one": (
        [part('{"x": 1}', "north", "n", 0), part('{"y": ', "south", None, 1), part("2}", None, "n", 1)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "*"],
    ),
    "the call at its index, if its id is unknown": (
        [
            part('{"x": ', "north", "n", 0),
            part('{"y": ', "south", "s", 1),
            part("1}", None, "other", 0),
            part("2}", None, "another", 1),
        ],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the newest call at its index, if it has no id": (
        [part('{"x": 1}', "north", "n", 0), part('{"y": ', "south", "s", 0), part("2}", None, None, 0)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the last call, if it has neither index nor id": (
        [part('{"x": 1}', "north", "n", 0), part('{"y": ', "south", "s", 4), part("2}")],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the last call, if its index is unknown and it has no id": (
        [part('{"x": 1}', "north", "n", 0), part('{"y": ', "south", "s", 1), part("2}", None, None, 9)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the last call, if its id is unknown and it has no index": (
        [part('{"x": ', "north", "n"), part("1", None, "o"), part("}", None, "p")],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "the call of its id without any index": (
        [part('{"x": ', "north", "n"), part('{"y": ', "south", "s"), part("1}", None, "n"), part("2}", None, "s")],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "a new call, if index and id are both unknown": (
        [part('{"x": 1}', "north", "n", 0), part("", None, "s", 1), part('{"y": 2}', "south", None, 1)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "a new call, if it is the first fragment of all": (
        [part("", None, "n"), part('{"x": 1}', "north", "n")],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "a call of its own under an unsteady id and a counting index is opened only by the first fragment": (
        [part("", "north", "n", 0), part('{"x": ', None, None, 1), part("1}", None, None, 2)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
}

WITH_NAME: dict[str, Row] = {
    "the call that has its id at this index": (
        [part('{"x": ', "north", "n", 0), part("1", "north", "n", 0), part("}", "north", "n", 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "the call that has its id, without an index": (
        [
            part('{"x": ', "north", "n"),
            part('{"y": ', "south", "s"),
            part("1}", "north", "n"),
            part("2}", "south", "s"),
        ],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "a new call, if the call with its id at this index is whole and has another name": (
        [part('{"x": 1}', "north", "n", 0), part('{"y": 2}', "south", "n", 0)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "*"],
    ),
    "a new call, if the call with its id is whole and has another name, without an index": (
        [part('{"x": 1}', "north", "n"), part('{"y": 2}', "south", "n")],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "*"],
    ),
    "the whole call that has its id, if the name is the same": (
        [part('{"x": 1}', "north", "n", 0), part('{"x": 1}', "north", "n", 0), part("", "north", "n", 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "a new call with an id of its own, if its id is known at another index": (
        [
            part('{"x": ', "north", "n", 0),
            part('{"y": ', "south", "n", 1),
            part("1}", None, "n", 0),
            part("2}", None, "n", 1),
        ],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "*"],
    ),
    "a new call of the same name with an id of its own, if its id is known at another index": (
        [part('{"x": 1}', "north", "n", 0), part('{"x": 2}', "north", "n", 1), part('{"x": 3}', "north", "n", 2)],
        [("north", '{"x": 1}'), ("north", '{"x": 2}'), ("north", '{"x": 3}')],
        ["n", "*", "*"],
    ),
    "a new call, if its id is new and the call at its index has another": (
        [part('{"x": ', "north", "n", 0), part("1}", None, None, 0), part('{"y": 2}', "south", "s", 0)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "s"],
    ),
    "the call at its index that has no id yet, if the name is stated again": (
        [part('{"x": ', "north", None, 0), part("1}", "north", "n", 0)],
        [("north", '{"x": 1}')],
        ["*"],
    ),
    "the call at its index that has no id and no arguments yet, if the name is stated again": (
        [part("", "north", None, 0), part('{"x": 1}', "north", "n", 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "the call at its index that has no id yet, if the name grows": (
        [part("", "nor", None, 0), part('{"x": 1}', "north", "n", 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "the call at its index that has neither id nor name": (
        [part("", None, None, 0), part('{"x": 1}', "north", "n", 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "a new call, if its id is new and the call at its index is whole without one": (
        [part('{"x": 1}', "north", None, 0), part('{"x": 2}', "north", "n", 0)],
        [("north", '{"x": 1}'), ("north", '{"x": 2}')],
        ["*", "n"],
    ),
    "a new call, if its id is new and the name is another than that of the call without an id": (
        [part("", "north", None, 0), part('{"y": 2}', "south", "s", 0)],
        [("north", ""), ("south", '{"y": 2}')],
        ["*", "s"],
    ),
    "the call at its index, if ids are new for each fragment and all bring arguments": (
        [part('{"x": ', "north", "n", 0), part("1", "north", "o", 0), part("}", "north", "p", 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "a new call, if its id is new and it brings no arguments": (
        [part('{"x": ', "north", "n", 0), part("", "north", "o", 0), part('{"x": 2}', None, "o", 0)],
        [("north", '{"x": '), ("north", '{"x": 2}')],
        ["n", "o"],
    ),
    "a new call, if its id is new and the call at its index has no arguments yet": (
        [part("", "north", "n", 0), part('{"x": 2}', "north", "o", 0)],
        [("north", ""), ("north", '{"x": 2}')],
        ["n", "o"],
    ),
    "a new call, if its id is new and the call at its index is whole": (
        [part('{"x": 1}', "north", "n", 0), part('{"x": 2}', "north", "o", 0)],
        [("north", '{"x": 1}'), ("north", '{"x": 2}')],
        ["n", "o"],
    ),
    "a new call, if its id is new and the call at its index has another name": (
        [part('{"x": ', "north", "n", 0), part('{"y": 2}', "south", "o", 0)],
        [("north", '{"x": '), ("south", '{"y": 2}')],
        ["n", "o"],
    ),
    "the call at its index, without an id": (
        [part('{"x": ', "north", None, 3), part("1", "north", None, 3), part("}", "north", None, 3)],
        [("north", '{"x": 1}')],
        ["*"],
    ),
    "a new call, without an id, if the call at its index is whole and it brings arguments": (
        [part('{"x": 1}', "north", None, 0), part('{"x": 1}', "north", None, 0)],
        [("north", '{"x": 1}'), ("north", '{"x": 1}')],
        ["*", "*"],
    ),
    "the whole call at its index, without an id, if it brings no arguments": (
        [part('{"x": 1}', "north", "n", 0), part("", "north", None, 0), part(None, "north", None, 0)],
        [("north", '{"x": 1}')],
        ["n"],
    ),
    "a new call, without an id, if the call at its index is whole and has another name": (
        [part('{"x": 1}', "north", "n", 0), part("", "south", None, 0), part('{"y": 2}', None, None, 0)],
        [("north", '{"x": 1}'), ("south", '{"y": 2}')],
        ["n", "*"],
    ),
    "a new call, without id and index, if the last one is whole": (
        [part('{"x": 1}', "north"), part('{"x": 2}', "north"), part('{"y": 3}', "south")],
        [("north", '{"x": 1}'), ("north", '{"x": 2}'), ("south", '{"y": 3}')],
        ["*", "*", "*"],
    ),
    "a new call, without id and index, if the name of the last one differs": (
        [part("", "north"), part('{"y": 2}', "south")],
        [("north", ""), ("south", '{"y": 2}')],
        ["*", "*"],
    ),
    "the last call, without id and index, if that has the same name and is not whole": (
        [part('{"x": ', "north"), part("1", "north"), part("}", "north")],
        [("north", '{"x": 1}')],
        ["*"],
    ),
    "the last call, without id and index, if that has no name yet": (
        [part("", None, "n", 0), part('{"x": 1}', "north")],
        [("north", '{"x": 1}')],
        ["n"],
    ),
}


@pytest.mark.parametrize(("fragments", "expected", "call_ids"), WITHOUT_NAME.values(), ids=WITHOUT_NAME)
def test_a_fragment_without_a_name_belongs_to(fragments, expected, call_ids):
    assert_calls(fragments, expected, call_ids)


@pytest.mark.parametrize(("fragments", "expected", "call_ids"), WITH_NAME.values(), ids=WITH_NAME)
def test_a_fragment_with_a_name_belongs_to(fragments, expected, call_ids):
    assert_calls(fragments, expected, call_ids)


def assert_calls(fragments: list[dict[str, Any]], expected: list[tuple[str, str]], call_ids: list[str]) -> None:
    """The fragments make these calls, each in a chunk of its own or all in one, with a finish reason at any place."""
    separate = [calls(fragment) for fragment in fragments]
    finishing = [calls(fragment, finish="tool_calls") for fragment in fragments]
    for bodies in ([*separate, STOP], [calls(*fragments), STOP], [*separate[:-1], finishing[-1]], separate):
        turn = turn_of(*bodies)
        assert called(turn) == expected
        assert [each if own != "*" else own for each, own in zip(ids(turn), call_ids, strict=True)] == call_ids
    answer = read(sse(*separate, STOP))
    names = {item.call_id: item.name for item in answer.turn.function_calls}
    for event in answer.events:
        if isinstance(event, FunctionCallDelta):
            assert event.name == names[event.call_id]


def test_the_ids_of_a_turn_are_distinct_even_if_the_server_gives_all_calls_the_same():
    fragments = [part(f'{{"x": {i}}}', f"tool{i}", "same", i) for i in range(5)]
    turn = turn_of(*map(calls, fragments), STOP)
    assert ids(turn) == ["same", "*", "*", "*", "*"]
    assert [call.parsed() for call in turn.function_calls] == [{"x": i} for i in range(5)]


@pytest.mark.parametrize("indexes", [(1, 2), (0, 0), (7, 3), (-1, -2), (None, None), (2**70, 1)], ids=repr)
def test_an_index_is_a_key_and_not_a_position(indexes):
    first, second = indexes
    fragments = [
        part('{"x": ', "north", "n", first),
        part("1}", None, None, first),
        part('{"y": ', "south", "s", second),
        part("2}", None, None, second),
    ]
    turn = turn_of(*map(calls, fragments), STOP)
    assert (called(turn), ids(turn)) == ([("north", '{"x": 1}'), ("south", '{"y": 2}')], ["n", "s"])


# ── the parts of a call ─────────────────────────────────────────────────────────────────────────────────────────


NAMES: dict[str, tuple[list[str | None], str]] = {
    "comes whole": (["find_cafe"], "find_cafe"),
    "comes in two pieces": (["find_", "cafe"], "find_cafe"),
    "comes in four pieces": (["fi", "nd", "_c", "afe"], "find_cafe"),
    "is stated again": (["find_cafe", "find_cafe", "find_cafe"], "find_cafe"),
    "grows": (["f", "find", "find_cafe"], "find_cafe"),
    "grows, then comes in a piece": (["find", "find_", "cafe"], "find_cafe"),
    "comes after nulls and empty strings": ([None, "", "find_cafe", "", None], "find_cafe"),
}


@pytest.mark.parametrize(("names", "name"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("call_id", ["n", None], ids=["with id", "without id"])
def test_a_call_has_its_whole_name_if_the_name(names, name, call_id):
    first, *rest = names
    fragments = [part("", first, call_id, 0), *(part(None, each, None, 0) for each in rest)]
    fragments += [part('{"x": ', None, None, 0), part("1}", None, None, 0)]
    answer = read(sse(*map(calls, fragments), STOP))
    assert called(answer.turn) == [(name, '{"x": 1}')]
    assert deltas(answer) == [(name, '{"x": '), (name, "1}")]


def test_a_name_that_comes_in_the_fragment_with_the_first_arguments_is_the_last_piece_of_it():
    answer = read(sse(calls(part("", "find_", "n", 0)), calls(part('{"x": 1}', "cafe", None, 0)), STOP))
    assert deltas(answer) == [("find_cafe", '{"x": 1}')]


def test_a_name_that_comes_once_the_arguments_have_begun_changes_nothing():
    answer = read(
        sse(
            calls(part('{"x": ', "find", "n", 0)),
            calls(part("1", "find_cafe", "n", 0)),
            calls(part("}", "x", "n", 0)),
            STOP,
        )
    )
    assert called(answer.turn) == [("find", '{"x": 1}')]


def test_a_name_that_comes_after_the_arguments_is_the_name_of_all_deltas():
    answer = read(
        sse(
            calls(part('{"x": ', None, "n", 0)),
            calls(part("1}", None, None, 0)),
            calls(part("", "find", None, 0)),
            STOP,
        )
    )
    assert called(answer.turn) == [("find", '{"x": 1}')]
    assert {name for name, _ in deltas(answer)} == {"find"}
    assert "".join(delta for _, delta in deltas(answer)) == '{"x": 1}'


def test_a_call_that_never_gets_a_name_is_incomplete_and_not_among_the_items_to_be_sent_back():
    turn = turn_of(text("Hm."), calls(part('{"x": 1}', None, "n", 0)), STOP)
    assert [(call.name, call.status) for call in turn.function_calls] == [("", "incomplete")]
    assert turn.status == "incomplete"
    assert [item for item in turn.complete_items if isinstance(item, FunctionCall)] == []
    with pytest.raises(ConfigError, match="complete_items"):
        request_body(
            Prompt(input=[Message("user", "Hi"), *turn.items, FunctionCallOutput("n", "1")]), model="m", fields={}
        )


def test_the_first_id_of_a_call_is_kept():
    fragments = [
        part("", "north", "", 0),
        part('{"x": ', None, "n", 0),
        part("1}", None, "o", 0),
        part("", None, "p", 0),
    ]
    assert ids(turn_of(*map(calls, fragments), STOP)) == ["n"]


ARGUMENTS: dict[str, tuple[list[Any], str]] = {
    "strings": (['{"x"', "", ": 1}"], '{"x": 1}'),
    "nulls among strings": ([None, '{"x"', None, ": 1}", None], '{"x": 1}'),
    "an object": ([{"x": {"y": [1, "ä"]}}], '{"x": {"y": [1, "ä"]}}'),
    "an empty object": ([{}], "{}"),
    "blanks around them": ([" ", '{"x": 1}', "\n"], ' {"x": 1}\n'),
    "whole arguments stated again": (['{"x": 1}', '{"x": 1}', ' {"x": 1} '], '{"x": 1}'),
    "whole arguments in pieces, stated again whole": (['{"x"', ": 1}", '{"x": 1}'], '{"x": 1}'),
    "a placeholder before them": (["{}", '{"x"', ": 1}"], '{"x": 1}'),
    "a placeholder in pieces before them": (["{", "}", '{"x": 1}'], '{"x": 1}'),
    "a placeholder in many pieces before them": (["{", *[" "] * 12, "}", " ", '{"x": 1}'], '{"x": 1}'),
    "a placeholder that is an object": ([{}, '{"x": 1}'], '{"x": 1}'),
    "a placeholder stated again": (["{}", "{}", "{}"], "{}"),
    "an empty object inside them": (['{"x": ', "{}", "}"], '{"x": {}}'),
    "braces and quotes inside strings": (['{"x": "}', '{\\"', '}"', "}"], '{"x": "}{\\"}"}'),
    "a backslash at the end of a piece": (['{"x": "\\', '"}', '"}'], '{"x": "\\"}"}'),
}


@pytest.mark.parametrize(("pieces", "arguments"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_the_arguments_of_a_call_are_joined_from(pieces, arguments):
    fragments = [part(None, "north", "n", 0), *(part(piece, None, None, 0) for piece in pieces)]
    answer = read(sse(*map(calls, fragments), STOP))
    assert called(answer.turn) == [("north", arguments)]
    assert "".join(delta for _, delta in deltas(answer)) == arguments
    assert answer.turn.function_calls[0].status == "completed"
    together = [part(pieces[0], "north", "n", 0), *(part(piece, None, None, 0) for piece in pieces[1:])]
    assert called(turn_of(calls(*together), STOP)) == [("north", arguments)]


@pytest.mark.parametrize("type", [{}, {"type": "function"}, {"type": ""}, {"type": None}], ids=repr)
def test_the_type_of_a_call_may_be_missing(type):
    turn = turn_of(calls({**part('{"x": 1}', "north", "n", 0), **type}), STOP)
    assert (called(turn), ids(turn), turn.function_calls[0].extra) == ([("north", '{"x": 1}')], ["n"], {})


# ── when a call is handed over ──────────────────────────────────────────────────────────────────────────────────


def kinds(answer: Any) -> list[str]:
    """The events of calls and texts, in order."""
    found = []
    for event in answer.events:
        match event:
            case OutputItemDone(item):
                found.append(f"done {item.name}")
            case FunctionCallDelta():
                found.append(f"delta {event.name}")
    return found


def test_a_whole_call_is_handed_over_when_the_next_one_begins():
    bodies = [
        calls(part('{"x": 1}', "north", "n", 0)),
        calls(part('{"y": ', "south", "s", 1)),
        calls(part("2}", None, None, 1)),
    ]
    answer = read(sse(*bodies, STOP))
    assert kinds(answer) == ["delta north", "done north", "delta south", "delta south", "done south"]


def test_a_call_that_is_not_whole_when_the_next_one_begins_waits_for_its_arguments():
    bodies = [
        calls(part('{"x": ', "north", "n", 0)),
        calls(part('{"y": 2}', "south", "s", 1)),
        calls(part("1}", None, None, 0)),
        STOP,
    ]
    answer = read(sse(*bodies))
    assert kinds(answer) == ["delta north", "delta south", "delta north", "done north", "done south"]


@pytest.mark.parametrize("empty", [None, "", "{}", " ", "{ }", {}], ids=repr)
def test_a_call_without_arguments_is_announced_and_handed_over_only_at_the_end(empty):
    bodies = [calls(part(empty, "north", "n", 0)), calls(part('{"y": 2}', "south", "s", 1)), STOP]
    answer = read(sse(*bodies))
    assert kinds(answer) == ["delta south", "delta north", "done north", "done south"]
    assert [call.status for call in answer.turn.function_calls] == ["completed", "completed"]


@pytest.mark.parametrize("empty", [None, "", "{}", " "], ids=repr)
def test_arguments_behind_another_call_reach_the_call_that_had_none(empty):
    bodies = [
        calls(part(empty, "north", "n", 0)),
        calls(part('{"y": 2}', "south", "s", 1)),
        STOP,
        calls(part('{"x": 1}', None, None, 0)),
    ]
    answer = read(sse(*bodies))
    assert [(name, arguments.strip()) for name, arguments in called(answer.turn)] == [
        ("north", '{"x": 1}'),
        ("south", '{"y": 2}'),
    ]


LATE_AND_HARMLESS = ["", None, " ", "\n\n", '{"x": 1}', ' {"x": 1}\n', {"x": 1}]


@pytest.mark.parametrize("late", LATE_AND_HARMLESS, ids=repr)
@pytest.mark.parametrize("name", [None, "north"], ids=["without name", "with name"])
def test_a_blank_or_repeated_fragment_for_a_call_that_was_handed_over_is_ignored(late, name):
    for before in ([calls(part('{"y": 2}', "south", "s", 1))], [chunk(finish="tool_calls")]):
        bodies = [calls(part('{"x": 1}', "north", "n", 0)), *before, calls(part(late, name, "n", 0)), STOP]
        answer = read(sse(*bodies))
        assert answer.error is None
        assert called(answer.turn)[0] == ("north", '{"x": 1}')
        assert kinds(answer).count("done north") == 1


@pytest.mark.parametrize("late", ["}", '{"x": 2}', "x", "{}", " ]"], ids=repr)
def test_other_arguments_for_a_call_that_was_handed_over_raise_protocol_violation(late):
    for before in ([calls(part('{"y": 2}', "south", "s", 1))], [chunk(finish="tool_calls")]):
        bodies = [calls(part('{"x": 1}', "north", "n", 0)), *before, calls(part(late, None, "n", 0)), STOP]
        answer = read(sse(*bodies))
        assert type(answer.error) is ProtocolViolation
        assert "north" in str(answer.error)
        assert called(answer.turn)[0] == ("north", '{"x": 1}')


def test_whole_arguments_that_go_on_before_the_call_was_handed_over_are_incomplete():
    turn = turn_of(calls(part('{"x": 1}', "north", "n", 0)), calls(part("}", None, None, 0)), STOP)
    assert turn.function_calls == (FunctionCall("north", '{"x": 1}}', "n", "incomplete"),)


def test_blanks_behind_whole_arguments_belong_to_them_until_the_call_is_handed_over():
    bodies = [
        calls(part('{"x": 1}', "north", "n", 0)),
        calls(part("\n", None, None, 0)),
        calls(part(" ", None, None, 0)),
        STOP,
    ]
    turn = turn_of(*bodies)
    assert turn.function_calls[0].parsed() == {"x": 1}
    assert turn.function_calls[0].status == "completed"


@pytest.mark.parametrize("reason", ["length", "content_filter", "abort"])
@pytest.mark.parametrize(("arguments", "status"), [("", "incomplete"), (None, "incomplete"), ('{"x": 1}', "completed")])
def test_in_an_answer_that_was_cut_a_call_without_arguments_is_incomplete(reason, arguments, status):
    turn = turn_of(calls(part(arguments, "north", "n", 0)), chunk(finish=reason))
    assert ([call.status for call in turn.function_calls], turn.status) == ([status], "incomplete")


@pytest.mark.parametrize("arguments", [None, "", "{}", '{"x"'], ids=repr)
def test_in_an_answer_that_broke_off_a_call_that_was_not_handed_over_is_incomplete(arguments):
    answer = read(sse(calls(part(arguments, "north", "n", 0)), done=False))
    assert type(answer.error) is StreamTruncated
    assert answer.turn.function_calls == (FunctionCall("north", arguments or "", "n", "incomplete"),)


# ── extra keys ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_keys_of_a_call_and_of_its_function_are_kept_in_extra():
    entry = {**part('{"x": 1}', "north", "n", 0), "seal": {"by": "me", "n": [1, None]}, "flag": False, "none": None}
    entry["function"]["strict"] = True
    turn = turn_of(calls(entry), STOP)
    assert turn.function_calls[0].extra == {
        "seal": {"by": "me", "n": [1, None]},
        "flag": False,
        "none": None,
        "function": {"strict": True},
    }


def test_the_type_of_a_call_that_is_no_function_comes_back():
    entry = {**part('{"q": "x"}', "$search", "n", 0), "type": "builtin_function"}
    turn = turn_of(calls(entry), STOP)
    prompt = Prompt(input=[Message("user", "Hi"), *turn.items, FunctionCallOutput("n", "1")])
    (sent,) = request_body(prompt, model="m", fields={})["messages"][1]["tool_calls"]
    assert sent == {key: value for key, value in entry.items() if key != "index"}


def test_unknown_keys_in_later_fragments_are_merged_and_a_null_replaces_nothing():
    fragments = [
        {**part("", "north", "n", 0), "seal": {"a": 1, "list": [1]}},
        {**part('{"x": 1}', None, None, 0), "seal": {"b": 2, "list": [2]}, "tail": "t"},
        {**part(None, None, None, 0), "seal": None, "tail": None},
    ]
    (call,) = turn_of(*map(calls, fragments), STOP).function_calls
    assert call.extra == {"seal": {"a": 1, "b": 2, "list": [2]}, "tail": "t"}


@pytest.mark.parametrize(
    "late",
    [[calls(part('{"y": 2}', "south", "s", 1))], [chunk(finish="tool_calls")]],
    ids=["next call", "finish reason"],
)
def test_unknown_keys_that_come_after_the_call_was_handed_over_are_in_the_turn(late):
    bodies = [calls(part('{"x": 1}', "north", "n", 0)), *late, calls({"index": 0, "id": "n", "seal": "s"}), STOP]
    assert turn_of(*bodies).function_calls[0].extra == {"seal": "s"}


# ── legacy and custom calls ─────────────────────────────────────────────────────────────────────────────────────


def test_function_call_is_one_call_without_an_id():
    pieces = [{"name": "north", "arguments": ""}, {"arguments": '{"x": '}, {"name": "", "arguments": "1}"}]
    answer = read(sse(*(chunk({"function_call": piece}) for piece in pieces), chunk(finish="function_call")))
    assert (called(answer.turn), ids(answer.turn)) == ([("north", '{"x": 1}')], ["*"])
    assert (answer.turn.finish_reason, answer.turn.finish_kind, answer.turn.status) == (
        "function_call",
        "tool_calls",
        "completed",
    )


def custom(input: Any = None, name: str | None = None, id: str | None = None, **more: Any) -> dict[str, Any]:
    entry = part(input, name, id, 0, type="custom", **more)
    function = entry.pop("function")
    return {**entry, "custom": {key.replace("arguments", "input"): value for key, value in function.items()}}


@pytest.mark.parametrize("pieces", [["ls -l\n"], ["ls", " -l", "\n"], ["", "ls -l\n", None]], ids=repr)
def test_a_custom_call_has_its_input_as_free_text(pieces):
    fragments = [custom("", "sh", "n"), *map(custom, pieces)]
    answer = read(sse(*map(calls, fragments), STOP))
    assert answer.turn.custom_calls == (CustomToolCall("sh", "ls -l\n", "n"),)
    assert (answer.turn.function_calls, answer.turn.status) == ((), "completed")
    assert all(event.custom for event in answer.events if isinstance(event, FunctionCallDelta))
    assert "".join(delta for _, delta in deltas(answer)) == "ls -l\n"


@pytest.mark.parametrize("input", ["", "{}", '{"a": 1', '{"x": 1}{"x": 1}', "}", "[NaN"], ids=repr)
def test_the_input_of_a_custom_call_is_never_judged_as_json(input):
    bodies = [calls(custom(input, "sh", "n")), STOP]
    assert turn_of(*bodies).custom_calls == (CustomToolCall("sh", input, "n", "completed"),)


def test_the_input_of_a_custom_call_that_looks_like_whole_json_goes_on():
    bodies = [calls(custom('{"x": 1}', "sh", "n")), calls(custom('\n{"x": 2}')), calls(custom('{"x": 1}')), STOP]
    assert turn_of(*bodies).custom_calls[0].input == '{"x": 1}\n{"x": 2}{"x": 1}'


def test_a_custom_call_is_incomplete_if_its_answer_was_cut_or_it_has_no_name():
    assert turn_of(calls(custom("ls", "sh", "n")), chunk(finish="length")).custom_calls[0].status == "incomplete"
    assert turn_of(calls(custom("ls", None, "n")), STOP).custom_calls[0].status == "incomplete"
    answer = read(sse(calls(custom("ls", "sh", "n")), done=False))
    assert answer.turn.custom_calls == (CustomToolCall("sh", "ls", "n", "incomplete"),)


def test_unknown_keys_of_a_custom_call_are_kept_in_extra():
    entry = {**custom("ls", "sh", "n"), "seal": [1]}
    entry["custom"]["format"] = "text"
    assert turn_of(calls(entry), STOP).custom_calls[0].extra == {"seal": [1], "custom": {"format": "text"}}


# ── which choice ────────────────────────────────────────────────────────────────────────────────────────────────


INDEXES: dict[str, list[Any]] = {
    "counts the chunks": [0, 1, 2, 3],
    "is one throughout": [1, 1, 1, 1],
    "counts down": [9, 7, -1, 0],
    "comes and goes": [0, None, 3, 0],
}


@pytest.mark.parametrize("indexes", INDEXES.values(), ids=INDEXES)
def test_one_requested_choice_is_read_whole_if_its_index(indexes):
    deltas_ = [
        {"reasoning": "Hm."},
        {"content": "Rain "},
        {"content": "all day"},
        {"tool_calls": [part("{}", "north", "n", 0)]},
    ]
    bodies = [{"choices": [{"index": i, "delta": delta}]} for i, delta in zip(indexes, deltas_, strict=True)]
    answer = read(sse(*bodies, chunk(finish="tool_calls", index=5)))
    assert (answer.turn.reasoning, answer.turn.text, called(answer.turn)) == ("Hm.", "Rain all day", [("north", "{}")])
    assert (len(answer.turn.choices), answer.turn.finish_reason) == (1, "tool_calls")
    assert texts(answer) == ["Rain ", "all day"]
    assert {getattr(event, "choice", 0) for event in answer.events} == {0}


def test_a_call_under_rising_indexes_of_its_one_choice_is_one_call():
    fragments = [part("", "north", "n", 0), part('{"x": ', None, None, 0), part("1}", None, None, 0)]
    bodies = [{"choices": [{"index": i, "delta": {"tool_calls": [each]}}]} for i, each in enumerate(fragments)]
    assert called(turn_of(*bodies, STOP)) == [("north", '{"x": 1}')]


@pytest.mark.parametrize("choices", [2, None], ids=["two requested", "unknown number"])
def test_each_index_is_a_choice_unless_one_was_requested(choices):
    bodies = [
        text("a", 0),
        text("x", 1),
        text("b", 0),
        text("y", 1),
        chunk(finish="stop"),
        chunk(finish="length", index=1),
    ]
    answer = read(sse(*bodies), choices)
    assert [view.text for view in answer.turn.choices] == ["ab", "xy"]
    assert [view.status for view in answer.turn.choices] == ["completed", "incomplete"]
    assert (texts(answer), texts(answer, 1)) == (["a", "b"], ["x", "y"])


def test_a_choice_that_was_not_requested_does_not_stand_for_one_that_was():
    for index in (-1, 2, 7):
        bodies = [text("a"), text("x", index), chunk(finish="stop"), chunk(finish="stop", index=index)]
        answer = read(sse(*bodies, done=False), 2)
        assert type(answer.error) is StreamTruncated
        assert "choice 1" in str(answer.error)


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}], ids=repr)
def test_chunks_may_have_no_choices(choices):
    bodies = [
        {"id": "", "model": "", **choices},
        text("a"),
        {"id": "r-9", "model": "m-9", **choices},
        STOP,
        {"usage": {"total_tokens": 3}, **choices},
    ]
    turn = turn_of(*bodies)
    assert (turn.text, turn.response_id, turn.model) == ("a", "r-9", "m-9")
    assert turn.token_usage is not None
    assert turn.token_usage.total_tokens == 3


def test_the_first_id_and_model_that_are_not_empty_are_kept():
    bodies = [
        {**text("a"), "id": "", "model": None},
        {**text("b"), "id": "r-1", "model": "m-1"},
        {**STOP, "id": "r-2", "model": "m-2"},
    ]
    turn = turn_of(*bodies)
    assert (turn.response_id, turn.model) == ("r-1", "m-1")


@pytest.mark.parametrize("delta", [{}, {"delta": None}, {"delta": {}}], ids=repr)
def test_a_choice_may_have_no_delta_and_no_index(delta):
    bodies = [
        {"choices": [delta]},
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{**delta, "finish_reason": "stop"}]},
    ]
    assert turn_of(*bodies, choices=None).text == "a"
