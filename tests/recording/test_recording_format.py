"""A recording holds every body byte for byte, and is an event stream to everyone else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import ConfigError, collect, read_events
from chatstream._recording.format import BodyWriter, Exchange, exchanges_of, first_line, note

START = first_line() + note("request", {"attempt": 1}) + note("response", {"status": 200, "headers": {}, "after": 0.5})
ANSWER = (
    b'data: {"id":"c1","model":"m1","choices":[{"index":0,"delta":{"content":"H\xc3\xa9"}}]}\n\n'
    b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
TRICKS = {
    "whole events": ANSWER,
    "CRLF": ANSWER.replace(b"\n", b"\r\n"),
    "CR": ANSWER.replace(b"\n", b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + ANSWER,
    "only a byte order mark": b"\xef\xbb\xbf",
    "half a byte order mark": b"\xef\xbb",
    "comments like those of a recording": b": 0.500000 12\n: end 1.0\n\n: request {}\n" + ANSWER,
    "another recording": START + b": 0.6 8\ndata: x\n: end 1.0\n",
    "no line end": ANSWER.rstrip(b"\n"),
    "one JSON text": b'{"choices": []}',
    "a page": b"<html>\n<body>\r\n: 1 2\n</body>",
    "bytes that are no text": bytes(range(256)) * 3,
    "line ends alone": b"\n\r\n\r\r\n\n",
    "nothing": b"",
}


def written(pieces: list[bytes], end: bytes = b"end") -> bytes:
    """A recording of a body that arrives in these pieces, one in a hundredth of a second."""
    writer = BodyWriter(lambda data: data)
    lines = [writer.feed(number / 100, piece) for number, piece in enumerate(pieces)]
    return START + b"".join(lines) + writer.close() + note(end.decode(), len(pieces) / 100)


def read(data: bytes) -> Exchange:
    (exchange,) = exchanges_of(data, "run.sse")
    return exchange


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("body", TRICKS.values(), ids=TRICKS)
def test_a_recorded_body_comes_back_byte_for_byte_and_piece_for_piece(body, size):
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    exchange = read(written(pieces))
    assert exchange.body == body
    assert [piece for _, piece in exchange.pieces] == pieces
    assert [seconds for seconds, _ in exchange.pieces] == [number / 100 for number in range(len(pieces))]
    assert exchange.whole
    assert exchange.status == 200


@given(st.lists(st.text("da:t \r\n\ufeffé0.1", min_size=1).map(str.encode), max_size=8))
def test_any_body_in_any_pieces_comes_back(pieces):
    exchange = read(written(pieces))
    assert [piece for _, piece in exchange.pieces] == pieces


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize("name", ["whole events", "CRLF", "CR", "a byte order mark", "no line end"])
def test_what_reads_an_event_stream_reads_a_recording(name, size):
    body = TRICKS[name]
    data = written([body[at : at + size] for at in range(0, len(body), size)])
    assert collect(read_events(data)).text == collect(read_events(body)).text == "Hé"


def test_a_recording_that_was_cut_off_anywhere_has_the_events_that_were_whole():
    events = [line + b"\n\n" for line in ANSWER.split(b"\n\n") if line]
    data = written(events)
    begin = len(START)
    for end in range(begin, len(data)):
        body = read(data[:end]).body
        assert ANSWER.startswith(body)
        assert len(body) >= sum(map(len, events[: data[:end].count(b"\n\n")]))


def test_the_comment_of_a_run_says_when_each_of_its_pieces_arrived():
    writer = BodyWriter(lambda data: data)
    assert writer.feed(0.5, b"data: a\n\ndata: b") == b": 0.500000 9\ndata: a\n\n"
    assert writer.feed(0.75, b"c") == b""
    assert writer.feed(1.0, b"\n\n") == b": 0.500000 7 0.750000 1 1.000000 2\ndata: bc\n\n"
    assert writer.close() == b""


def test_a_redacted_run_counts_the_bytes_that_were_written():
    writer = BodyWriter(lambda data: data.replace(b"secret", b"***"))
    assert writer.feed(0.5, b"data: sec") == b""
    run = writer.feed(0.6, b"ret\n\n")
    assert run == b": 0.600000 11\ndata: ***\n\n"
    assert read(START + run).pieces == ((0.6, b"data: ***\n\n"),)


def test_comments_and_blank_lines_that_were_added_by_hand_are_passed_over():
    exchange = read(START + b"\r\n: a note of mine\n: 0.5 9\ndata: a\n\n\n: end 1\n")
    assert (exchange.body, exchange.end, exchange.whole) == (b"data: a\n\n", 1.0, True)


def test_an_answer_that_broke_off_keeps_its_error():
    exchange = read(START + note("cut", 1.5, {"error": "IdleTimeout", "message": "too long"}))
    assert (exchange.whole, exchange.end) == (False, 1.5)
    assert exchange.error == {"error": "IdleTimeout", "message": "too long"}


def test_line_ends_inside_a_note_are_escaped():
    line = note("request", {"body": "a\nb\r\u2028c"})
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert json.loads(line[len(": request ") :]) == {"body": "a\nb\r\u2028c"}


@pytest.mark.parametrize("number", [True, "2", None, 1.5])
def test_an_attempt_without_a_number_counts_as_the_first(number):
    assert Exchange({"attempt": number} if number is not True else {}).attempt == 1


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (
            b": chatstream recording 9\n",
            "is a recording in format version '9'; this version of chatstream reads version 1",
        ),
        (b": chatstream recording 1", None),
        (first_line() + b": response {}\n", "line 2: it has an answer before the first request"),
        (first_line() + b": request {\n", "line 2: a comment has no JSON object"),
        (first_line() + b": request []\n", "line 2: a comment has no JSON object"),
        (first_line() + b": request " + b"[" * 200_000 + b"\n", "line 2: a comment has no JSON object"),
        (START + b"data: a\n", "line 4: the length of a body differs from its comment"),
        (START + b": 0.5 3\ndata: a\n\n", "line 4: the length of a body differs from its comment"),
        (START + b": 0.5 7\ndata: abc\n\n", "line 4: the length of a body differs from its comment"),
        (START.replace(b"\n", b"\r\n"), "line 1: the length of a body differs from its comment"),
        (START + b": 0.5\n", "line 4: a time has no count of bytes"),
        (START + b": 0.5 x\n", "line 4: 'x' is not a count of bytes"),
        (START + b": 0.5 " + b"9" * 5000 + b"\n", "is not a count of bytes"),
        (START + b": 0.5.1 3\n", "line 4: '0.5.1' is not a number of seconds"),
        (START + b": 0.5 3 nan 2\n", "line 4: 'nan' is not a number of seconds"),
        (START + b": 1e999 3\n", "line 4: '1e999' is not a number of seconds"),
        (START + b": end soon\n", "line 4: 'soon' is not a number of seconds"),
        (START + b": cut 1 x\n", "line 4: a comment has no JSON object"),
        (START + note("response", {"headers": {}, "after": 1}), "line 4: its response has no status or no headers"),
        (START + note("response", {"status": 200, "headers": [], "after": 1}), "no status or no headers"),
        (START + note("response", {"status": 200, "headers": {}}), "'None' is not a number of seconds"),
    ],
)
def test_a_damaged_recording_is_one_clear_error(data, what):
    if what is None:
        assert exchanges_of(data, "run.sse") == []
        return
    with pytest.raises(ConfigError) as caught:
        exchanges_of(data, "run.sse")
    text = str(caught.value)
    assert text.startswith("run.sse is a ")
    assert what in text
    assert "\n" not in text
    assert len(text) < 2500
