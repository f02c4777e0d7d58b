"""How the events of an answer lie in its bytes: line ends, comments, names, and line ends that are missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from answers import DONE, STOP, chunk, in_pieces, read, sse, text, texts

from chatstream import ProtocolViolation, StreamTruncated, collect
from chatstream._decode.parser import EventParser


def body(content: str) -> str:
    return json.dumps(text(content))


FINISH = json.dumps(STOP)
FRAMINGS: dict[str, str] = {
    "two line feeds": "data: {a}\n\ndata: {b}\n\ndata: {stop}\n\ndata: [DONE]\n\n",
    "CRLF": "data: {a}\r\n\r\ndata: {b}\r\n\r\ndata: {stop}\r\n\r\ndata: [DONE]\r\n\r\n",
    "CR": "data: {a}\r\rdata: {b}\r\rdata: {stop}\r\rdata: [DONE]\r\r",
    "mixed line ends": "data: {a}\r\n\ndata: {b}\n\r\ndata: {stop}\r\r\ndata: [DONE]\n\r",
    "no space behind the colon": "data:{a}\n\ndata:{b}\n\ndata:{stop}\n\ndata:[DONE]\n\n",
    "two spaces behind the colon": "data:  {a}\n\ndata:  {b}\n\ndata:  {stop}\n\ndata:  [DONE]\n\n",
    "comments before and between": ": hi\n\n: one\ndata: {a}\n:\n\n::\n\ndata: {b}\n\n: x\n\ndata: {stop}\n\n: bye\n\n",
    "ids and retry times": "id: 1\nretry: 5\ndata: {a}\n\ndata: {b}\nid: 2\n\nretry: x\n\ndata: {stop}\nid\n\n",
    "blank lines before and between": "\n\n\ndata: {a}\n\n\n\n\ndata: {b}\n\n\ndata: {stop}\n\n\n",
    "a byte order mark": "\ufeffdata: {a}\n\ndata: {b}\n\ndata: {stop}\n\ndata: [DONE]\n\n",
    "names on all events": "event: chunk\ndata: {a}\n\nevent: chunk\ndata: {b}\n\nevent: chunk\ndata: {stop}\n\n",
    "a name on the first event": "event: start\ndata: {a}\n\ndata: {b}\n\ndata: {stop}\n\ndata: [DONE]\n\n",
    "names behind the data": "data: {a}\nevent: delta\n\ndata: {b}\nevent: error\n\ndata: {stop}\nevent: done\n\n",
    "the name message": "event: message\ndata: {a}\n\nevent: message\ndata: {b}\n\nevent: message\ndata: {stop}\n\n",
    "one line end between events": "data: {a}\ndata: {b}\ndata: {stop}\ndata: [DONE]\n\n",
    "one line end between some events": "data: {a}\ndata: {b}\n\ndata: {stop}\ndata: [DONE]\n\n",
    "one CRLF between events": "data: {a}\r\ndata: {b}\r\ndata: {stop}\r\ndata: [DONE]\r\n\r\n",
    "one line end and a bare end marker": "data: {a}\n\ndata: {b}\n\ndata: {stop}\ndata: DONE\n\n",
    "one line end and no end marker": "data: {a}\ndata: {b}\ndata: {stop}\n\n",
    "one line end and comments between events": "data: {a}\n: x\ndata: {b}\nid: 7\ndata: {stop}\n\n",
    "one line end, and none at the end": "data: {a}\ndata: {b}\ndata: {stop}",
    "one line end between named events": "event: x\ndata: {a}\ndata: {b}\n\ndata: {stop}\n\n",
    "whole JSON without data": "data: {a}\n\n{b}\n\n{stop}\n\n",
}


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_the_events_of_an_answer_are_found_with(framing):
    data = framing.replace("{a}", body("It ")).replace("{b}", body("rains")).replace("{stop}", FINISH).encode()
    answer = read(data)
    assert answer.error is None
    assert texts(answer) == ["It ", "rains"]
    assert (answer.turn.finish_reason, answer.turn.status) == ("stop", "completed")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_json_over_several_data_lines_is_one_event(end):
    lines = json.dumps(text("It rains"), indent=2).split("\n")
    event = "".join(f"data: {line}{end}" for line in lines) + end
    assert read(event.encode() + sse(STOP)).turn.text == "It rains"


def test_lines_that_are_not_all_whole_objects_or_end_markers_are_not_separate_events():
    for lines in (
        [body("a"), "null"],
        [body("a"), "{"],
        [body("a"), "[]"],
        ["null", "17"],
        [body("a"), "[DONE]", "x"],
    ):
        data = "".join(f"data: {line}\n" for line in lines).encode() + b"\n" + sse(STOP)
        answer = read(data)
        assert type(answer.error) is ProtocolViolation, lines
        assert answer.events == []


def test_one_object_over_two_lines_is_not_taken_apart_though_one_of_its_lines_is_an_object():
    data = b'data: {"choices": [{"index": 0, "delta":\ndata: {"content": "a"}\ndata: }]}\n\n' + sse(STOP)
    assert read(data).turn.text == "a"


def test_lines_behind_an_end_marker_in_one_event_are_not_read():
    data = f"data: {body('a')}\ndata: {FINISH}\ndata: [DONE]\ndata: {body('b')}\n\n".encode()
    assert read(data).turn.text == "a"


@pytest.mark.parametrize("name", ["ping", "keep-alive", "start", "usage", "Error", "done"])
@pytest.mark.parametrize(
    "data",
    [
        "",
        "{}",
        "null",
        "[DONE]",
        "x",
        '{"type": "ping"}',
        '{"error": "x"}',
        '{"usage": {"total_tokens": 3}}',
        "[[",
        "[{}]",
    ],
)
def test_a_named_event_without_choices_is_ignored(name, data):
    named = f"event: {name}\ndata: {data}\n\n".encode()
    answer = read(named + sse(text("a"), done=False) + named + sse(STOP, done=False) + named + DONE)
    assert (answer.turn.text, answer.turn.status, answer.turn.token_usage) == ("a", "completed", None)


@pytest.mark.parametrize("name", ["", "delta", "error", "chat.completion.chunk", "ping"])
def test_a_named_event_with_choices_is_a_chunk(name):
    events = [
        f"event: {name}\ndata: {json.dumps(each)}\n\n"
        for each in (text("a"), text("b"), text("c"), text("d"), text("e"), STOP)
    ]
    answer = read("".join(events).encode())
    assert (answer.turn.text, answer.turn.status) == ("abcde", "completed")


def test_an_error_in_a_named_event_with_choices_is_an_error_beside_them():
    for name in ("delta", "error"):
        data = f"event: {name}\ndata: {json.dumps({**text('a'), 'error': {'message': 'no'}})}\n\n"
        answer = read(data.encode())
        assert (getattr(answer.error, "message", ""), answer.turn.text) == ("no", "a")


def raw_values(data: bytes, **options: Any) -> list[Any]:
    """The value of ``raw`` after each event of an answer."""
    parser = EventParser(1, **options)
    found = [parser.raw for piece in in_pieces(data, 9) for _ in parser.feed(piece)]
    return found + [parser.raw for _ in parser.close()]


def test_raw_is_the_last_chunk_that_was_json_when_the_answer_has_completed():
    usage = {"choices": [], "usage": {"total_tokens": 3}}
    for data in (
        sse(text("a"), STOP, usage),
        sse(text("a"), STOP, usage, "nonsense"),
        sse(text("a"), STOP, usage, done=False) + b"event: ping\ndata: {}\n\n" + DONE,
        b"".join(b"event: x\ndata: %b\n\n" % json.dumps(each).encode() for each in (text("a"), STOP, usage)),
        sse(text("a"), STOP, done=False) + json.dumps(usage).encode() + b"\n\n",
    ):
        assert raw_values(data)[-1] == usage


def test_fields_nobody_knows_break_nothing_and_are_in_raw():
    odd = {"content": "a", "mood": {"x": [1, {"y": None}]}, "n": 5}
    body_ = {**chunk(odd), "bid": 7, "who": "me", "deep": [[[{}]]]}
    body_["choices"][0]["rank"] = {"a": []}
    assert raw_values(sse(body_, STOP))[:2] == [body_, body_]
    answer = read(sse(body_, STOP))
    assert answer.turn.text == "a"
    assert answer.turn.extra == {"mood": {"x": [1, {"y": None}]}, "deep": [[[{}]]], "rank": {"a": []}}


def test_with_skip_undecodable_events_that_are_no_chunks_are_left_out_and_counted():
    parser = EventParser(1, skip_undecodable=True)
    turn = collect([*parser.feed(sse("nonsense", text("a"), "{", "[", STOP, "late", done=False)), *parser.close()])
    assert (turn.text, parser.skipped) == ("a", 4)


def test_the_parser_counts_the_payloads_and_the_comments_that_have_arrived():
    parser = EventParser(1)
    for _ in parser.feed(b": one\n\n:\n" + sse(text("a"), done=False) + b"event: ping\ndata: x\n\n: two\n"):
        pass
    assert (parser.comments, parser.payloads) == (3, 2)


def test_a_stream_of_comments_alone_is_truncated():
    answer = read(b": one\n\n: two\n\n")
    assert type(answer.error) is StreamTruncated
