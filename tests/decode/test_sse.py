"""Bytes → payloads: the rules of WHATWG HTML 9.2.6, and the bodies that chat servers send instead of a stream."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from decoding import body_payloads, sse_events
from support import computing_at_most

from chatstream._decode.sse import BodyDecoder, SSEDecoder
from chatstream.errors import MAX_EXCERPT, ProtocolViolation, StreamTooLarge
from chatstream.types.limits import Limits

MEGABYTE = 2**20
BOM = b"\xef\xbb\xbf"
ENDLESS = 10**9  # pieces: practically without end


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def events(*pieces: bytes, limits: Limits | None = None) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in sse_events(pieces, limits)]


def payloads(*pieces: bytes, limits: Limits | None = None) -> list[tuple[str, str]]:
    return [(payload.event, payload.data) for payload in body_payloads(pieces, limits)]


def messages(*data: str) -> list[tuple[str, str]]:
    return [("message", text) for text in data]


# ── the specification ───────────────────────────────────────────────────────────────────────────────────────────

RULES = [
    ("a blank line ends an event", b"data: sky\n\n", messages("sky")),
    ("an additional blank line has no effect", b"\n\ndata: sky\n\n\n\n\ndata: sea\n\n\n", messages("sky", "sea")),
    ("data lines are joined by line feeds", b"data: blue\ndata: sky\n\n", messages("blue\nsky")),
    (
        "data lines are joined whatever lines stand between them",
        b"data: a\n: no\nid: 7\nx: y\ndata: b\n\n",
        messages("a\nb"),
    ),
    ("an empty data line is joined too", b"data: a\ndata:\ndata\ndata: b\n\n", messages("a\n\n\nb")),
    ("an empty data line makes an event with empty data", b"data\n\ndata\ndata\n\n", messages("", "\n")),
    ("the space after the colon is optional", b"data:sky\n\n", messages("sky")),
    ("only one space after the colon is removed", b"data:  sky \n\n", messages(" sky ")),
    ("a tab after the colon is not removed", b"data:\tsky\n\n", messages("\tsky")),
    ("colons in the value are kept", b"data: a:b: c:\n\n", messages("a:b: c:")),
    ("the event field sets the name", b"event: ping\ndata: 1\n\n", [("ping", "1")]),
    ("a name applies to one event only", b"event: ping\ndata: 1\n\ndata: 2\n\n", [("ping", "1"), ("message", "2")]),
    ("a name without data is discarded", b"event: ping\n\ndata: 2\n\n", messages("2")),
    ("the last of two names is used", b"event: a\nevent: b\ndata: 1\n\n", [("b", "1")]),
    ("an empty name is ignored", b"event:\ndata: 1\n\n", messages("1")),
    ("the name may follow the data", b"data: 1\nevent: ping\n\n", [("ping", "1")]),
    ("a line that begins with a colon is a comment", b": keep-alive\n:\n:data: no\ndata: 1\n\n", messages("1")),
    ("a block of comments is not an event", b": one\n\n: two\n\ndata: 1\n\n", messages("1")),
    ("id and retry are not data", b"id: 7\nretry: 100\ndata: 1\n\nid: 8\n\n", messages("1")),
    ("an id with NUL is ignored", b"id: a\0b\ndata: 1\n\n", messages("1")),
    ("a retry that is not a number is ignored", b"retry: soon\ndata: 1\n\n", messages("1")),
    ("a retry that is a huge number is ignored", b"retry: " + b"9" * 5000 + b"\ndata: 1\n\n", messages("1")),
    ("unknown fields are ignored", b"date: x\ndatas: x\ndata: 1\nDATA: x\n\n", messages("1")),
    ("a field name with spaces around it is unknown", b" data: x\ndata : x\ndata: 1\n\n", messages("1")),
    ("an unfinished event at the end is dropped", b"data: 1\n\ndata: 2\n", messages("1")),
    ("an unfinished line at the end is dropped", b"data: 1\n\ndata: 2", messages("1")),
    ("a byte order mark at the beginning is removed", BOM + b"data: 1\n\n", messages("1")),
    ("a byte order mark alone is not an event", BOM, []),
    ("an incomplete byte order mark makes an unknown field", BOM[:2] + b"data: 1\ndata: 2\n\n", messages("2")),
    (
        "a byte order mark after the beginning makes an unknown field",
        b"data: 1\n\n" + BOM + b"data: 2\ndata: 3\n\n",
        messages("1", "3"),
    ),
    ("a second byte order mark makes an unknown field", BOM + BOM + b"data: 2\ndata: 3\n\n", messages("3")),
    ("a byte order mark in the data is kept", b"data: " + BOM + b"1\n\n", messages("\ufeff1")),
    (
        "no other character ends a line",
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\0j\n\n".encode(),
        messages("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\0j"),
    ),
    ("multibyte characters are decoded", "data: ñ 日本 🦊\n\n".encode(), messages("ñ 日本 🦊")),
    ("an invalid byte becomes U+FFFD", b"data: a\xffb\n\ndata: c\n\n", messages("a\ufffdb", "c")),
    ("an incomplete character becomes U+FFFD", b"data: \xf0\x9f\xa6\n\ndata: c\n\n", messages("\ufffd", "c")),
    ("an encoded surrogate becomes U+FFFD", b"data: \xed\xa0\x80\n\n", messages("\ufffd\ufffd\ufffd")),
    ("an overlong encoding becomes U+FFFD", b"data: \xc0\xaf\n\n", messages("\ufffd\ufffd")),
    ("invalid bytes in a comment are ignored", b": \xff\xfe\ndata: 1\n\n", messages("1")),
    ("invalid bytes in a name change only the name", b"event: \xff\ndata: 1\n\n", [("\ufffd", "1")]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(("data", "expected"), [pytest.param(d, e, id=rule) for rule, d, e in RULES])
def test_the_sse_decoder_follows_the_specification(data, expected, size):
    assert events(*cut(data, size)) == expected


LINES = [b"event: a", b"data: 1", b"", b"data: 2", b": c", b"data: 3", b"", b""]


@pytest.mark.parametrize("ends", [*itertools.product([b"\n", b"\r", b"\r\n"], repeat=3)], ids=repr)
def test_any_mixture_of_line_endings_split_anywhere_yields_the_same_events(ends):
    ends = [*ends, *ends, *ends[:2]]
    for i in range(1, len(LINES)):
        if LINES[i] == b"" and (ends[i - 1], ends[i]) == (b"\r", b"\n"):
            ends[i] = b"\r"  # CR and LF in a row would be one line ending, not two
    data = b"".join(itertools.chain(*zip(LINES, ends, strict=True)))
    expected = [("a", "1"), ("message", "2\n3")]
    assert events(data) == expected
    assert events(*cut(data, 1)) == expected
    for i in range(len(data)):
        assert events(data[:i], data[i:]) == expected


def test_a_crlf_split_between_two_pieces_is_one_line_ending():
    assert events(b"data: 1\r", b"\n", b"\r", b"\n", b"data: 2\r\n\r\n") == messages("1", "2")


def test_a_carriage_return_ends_its_line_without_waiting_for_a_line_feed():
    def source() -> Iterator[bytes]:
        yield b"data: 1\r\r"
        raise AssertionError("read more than it needed")

    assert next(sse_events(source())).data == "1"


def test_an_event_is_yielded_before_more_bytes_are_read():
    read = []

    def source() -> Iterator[bytes]:
        for number in (1, 2, 3):
            read.append(number)
            yield b"data: %d\n\n" % number

    stream = body_payloads(source())
    assert read == []
    for number in (1, 2, 3):
        assert next(stream).data == str(number)
        assert read == list(range(1, number + 1))


def test_a_piece_may_have_many_events_and_an_event_may_span_many_pieces():
    assert payloads(b"data: 1\n\ndata: 2\n\nda", b"ta: 3", b"\n", b"\ndata: 4\n\n") == messages("1", "2", "3", "4")


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_comments_are_counted_however_the_bytes_are_split(size):
    data = b": one\n\n:two\n: three\ndata: 1\r\n:four\r\n\r\ndata: : no\n\n: five\n: six"
    decoder = BodyDecoder()
    assert [event.data for event in body_payloads(cut(data, size), decoder=decoder)] == ["1", ": no"]
    assert decoder.sse.comments == 6


def test_a_comment_is_counted_as_soon_as_its_line_ends_even_before_any_event():
    decoder = SSEDecoder()
    counts = []
    for piece in (b": one\n", b": two\n", b": half", b"\ndata: 1\n\n"):
        list(decoder.feed(piece))
        counts.append(decoder.comments)
    assert counts == [1, 2, 3, 3]


# ── the end of the bytes ──────────────────────────────────────────────────────────────────────────────────

ONE = b"data: 1\n\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b"data: [DONE]", ("message", "[DONE]")),
        (b"data:[DONE]\n", ("message", "[DONE]")),
        (b"data: [DONE]\r", ("message", "[DONE]")),
        (b"data: DONE", ("message", "DONE")),
        (b": bye\ndata: [DONE]", ("message", "[DONE]")),
        (b'data: {"choices": []}', ("message", '{"choices": []}')),
        (b'data: {"choices":\ndata: []}\n', ("message", '{"choices":\n[]}')),
        (b'event: error\ndata: {"message": "no"}', ("error", '{"message": "no"}')),
        ('data: {"a": "日"}'.encode(), ("message", '{"a": "日"}')),
    ],
)
def test_a_complete_last_event_is_delivered_without_its_blank_line(tail, expected, size):
    assert payloads(*cut(ONE + tail, size)) == [("message", "1"), expected]


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "tail",
    [
        b"d",
        b"data:",
        b"data: [DON",
        b"data: [DONE] and more",
        b'data: {"choices": [',
        b'data: {"choices": []}\ndata: half',
        b'data: {"choices": []} {',
        b"data: [1]",
        b"data: 2\n",
        b"data: text",
        b"event: error\n",
        b"event: error\ndata: overloaded",
        b": comment",
        b"data: " + b'{"a":' * 100_000,
    ],
    ids=lambda tail: repr(tail[:40]),
)
def test_an_incomplete_last_event_is_dropped(tail, size):
    assert payloads(*cut(ONE + tail, size)) == messages("1")


def test_tail_has_the_lines_of_the_unfinished_event():
    decoder = SSEDecoder()
    assert decoder.tail == b""
    pieces = [b"data: 1\r\n\r\ndata: 2\r\nda", b"ta: 3"]
    assert [event.data for event in sse_events(pieces, decoder=decoder)] == ["1"]
    assert decoder.tail == b"data: 2\ndata: 3"


# ── bodies that are not a stream ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("blank", [b"", b"\n\n", b" \r\n\t", BOM])
@pytest.mark.parametrize("body", ['{"a": "日",\n\n"b": 1}', '[{"error": {}}]\n', "{"])
def test_a_json_body_is_one_payload(body, blank, size):
    ((event, data),) = payloads(*cut(blank + body.encode(), size))
    assert event == "message"
    assert data.strip() == body.strip()


def test_invalid_utf_8_in_a_json_body_is_replaced():
    assert payloads(b'{"a": "\xff"}') == messages('{"a": "\ufffd"}')


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_html_page_raises_protocol_violation_with_its_beginning_and_a_hint_about_the_base_url(size):
    page = b"\n <!DOCTYPE html><html><h1>502 Bad Gateway</h1>" + b"x" * 5000 + b"</html>"
    with pytest.raises(ProtocolViolation, match=r"HTML page.*base_url.*502 Bad Gateway") as caught:
        payloads(*cut(page, size))
    assert not isinstance(caught.value, StreamTooLarge)
    assert len(str(caught.value)) < MAX_EXCERPT + 300


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "text",
    [b"upstream request timeout", b"no healthy upstream\n\n", b"Bad\ngateway\n" + b"x" * 5000],
    ids=["one line", "two lines", "a long text"],
)
def test_a_text_body_raises_protocol_violation_with_its_beginning(text, size):
    with pytest.raises(ProtocolViolation, match=r"is plain text, not an event stream.*base_url") as caught:
        payloads(*cut(text, size))
    assert text[:15].decode().split("\n")[0] in str(caught.value)
    assert len(str(caught.value)) < MAX_EXCERPT + 300


@pytest.mark.parametrize("text", [b"idle workers: none", b"retry later", b"database is locked", b"events are off\n"])
def test_a_text_body_that_begins_like_a_field_is_recognized_as_text(text):
    with pytest.raises(ProtocolViolation, match="is plain text, not an event stream"):
        payloads(text)


@pytest.mark.parametrize(
    "body", [b"", b"\n", b" \r\n\r\n", BOM, BOM[:1], b": ping\n\n: ping\n\n", b"id: 1\nretry: 3\n\n"]
)
def test_a_body_without_data_has_no_payloads(body):
    assert payloads(*cut(body, 1)) == payloads(*cut(body, 1000)) == []


@pytest.mark.parametrize(
    "line", [b"data: 1\n", b"event: error\n", b"id: 1\n", b"retry: 1\n", b": c\n", BOM + b"data: 1"]
)
def test_a_stream_cut_within_its_first_line_is_not_taken_for_a_text_body(line):
    for end in range(1, len(line)):
        assert payloads(line[:end]) == payloads(*cut(line[:end], 1)) == []


def test_a_stream_that_begins_with_an_unknown_field_is_not_taken_for_a_text_body():
    assert payloads(b"x-note: hello\n\ndata: 1\n\n") == messages("1")


# ── empty pieces ────────────────────────────────────────────────────────────────────────────────────────────


def test_empty_pieces_change_no_event():
    pieces = [b"", b"\n", b"", b"data: 1\n\n", b"", b"", b"data: 2\r", b"", b"\n\r", b"", b"\ndata: [DONE]", b""]
    assert payloads(*pieces) == messages("1", "2", "[DONE]")
    assert payloads(b'{"a":', b"", b"1}") == messages('{"a":1}')


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_default_limits_have_their_documented_values():
    limits = Limits()
    assert (limits.event_bytes, limits.event_lines) == (16 * MEGABYTE, 10_000)
    assert limits.json_containers == 5_000_000
    assert (limits.stream_bytes, limits.error_body_bytes) == (256 * MEGABYTE, 64 * 1024)


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_longer_than_event_bytes_raises_stream_too_large_however_it_is_split(end, size):
    limits = Limits(event_bytes=100)
    for length in range(90, 110):
        event = b"data: ".ljust(length, b"x")
        pieces = cut(ONE + event + end + end, size)
        if length < 100:
            assert payloads(*pieces, limits=limits) == messages("1", "x" * (length - 6))
        elif length > 100:
            with pytest.raises(StreamTooLarge, match="an event is longer than 100 bytes"):
                payloads(*pieces, limits=limits)


@pytest.mark.parametrize("length", [98, 99, 100, 101, 102])
def test_the_limit_event_bytes_does_not_depend_on_how_the_bytes_are_split(length):
    def outcome(size: int) -> object:
        try:
            return payloads(*cut(b"data: ".ljust(length, b"x") + b"\n\n", size), limits=Limits(event_bytes=100))
        except StreamTooLarge as error:
            return str(error)

    assert outcome(1) == outcome(7) == outcome(10_000)


@pytest.mark.parametrize("lines", [3, 4, 5, 6, 7])
def test_the_limit_event_lines_does_not_depend_on_how_the_bytes_are_split(lines):
    def outcome(size: int) -> object:
        try:
            return payloads(*cut(b"data: x\n" * lines + b"\n", size), limits=Limits(event_lines=5))
        except StreamTooLarge as error:
            return str(error)

    assert outcome(1) == outcome(7) == outcome(10_000)
    assert isinstance(outcome(1), list) == (lines <= 5)


@pytest.mark.parametrize("size", [4096, 10**7])
def test_an_event_of_100_000_data_lines_raises_stream_too_large(size):
    with pytest.raises(StreamTooLarge, match="an event has more than 10000 lines"):
        payloads(*cut(b"data: x\n" * 100_000 + b"\n", size))


def test_many_small_events_in_one_piece_do_not_exceed_the_limits_of_one_event():
    limits = Limits(event_bytes=20, event_lines=2)
    assert len(payloads(b"data: 1\ndata: 2\n\n" * 100, limits=limits)) == 100


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_a_stream_longer_than_stream_bytes_raises_stream_too_large(size):
    limits = Limits(stream_bytes=900)
    assert len(payloads(*cut(ONE * 100, size), limits=limits)) == 100
    with pytest.raises(StreamTooLarge, match="the stream is longer than 900 bytes"):
        payloads(*cut(ONE * 101, size), limits=limits)


def test_a_json_body_longer_than_event_bytes_raises_stream_too_large():
    limits = Limits(event_bytes=1000)
    assert payloads(b"{" + b" " * 998 + b"}", limits=limits) == messages("{" + " " * 998 + "}")
    with pytest.raises(StreamTooLarge, match="longer than 1000 bytes"):
        payloads(b"{" + b" " * 999 + b"}", limits=limits)


def test_a_comment_longer_than_event_bytes_raises_stream_too_large():
    with pytest.raises(StreamTooLarge):
        payloads(b": " + b"x" * 2000, limits=Limits(event_bytes=1000))


def repeat(piece: bytes, head: bytes = b"") -> Iterator[bytes]:
    """``head``, and then ``piece`` practically without end."""
    if head:
        yield head
    yield from itertools.repeat(piece, ENDLESS)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: repeat(b"x" * 65536, b"data: "), id="an endless line"),
        pytest.param(lambda: repeat(b"data: x\n" * 1000), id="an endless event"),
        pytest.param(lambda: repeat(b"x" * 65536, b": "), id="an endless comment"),
        pytest.param(lambda: repeat(b"x" * 65536, b"{"), id="an endless JSON body"),
        pytest.param(lambda: repeat(b"x" * 65536, b"<"), id="an endless HTML page"),
        pytest.param(lambda: repeat(b"x" * 65536), id="an endless text body"),
        pytest.param(lambda: repeat(b"\n" * 65536), id="endless blank lines"),
        pytest.param(lambda: repeat(b" " * 65536), id="an endless blank line"),
        pytest.param(lambda: repeat(b"\r\n" * 8), id="blank lines in small pieces"),
        pytest.param(lambda: repeat(b"data: " + b"x" * 92 + b"\n\n"), id="endless events"),
    ],
)
def test_endless_input_raises_stream_too_large_within_4_megabytes_of_memory(source):
    limits = Limits(stream_bytes=2 * MEGABYTE)
    tracemalloc.start()
    try:
        with pytest.raises(StreamTooLarge):
            for _ in body_payloads(bounded(source(), 8 * MEGABYTE), limits):
                pass
        assert tracemalloc.get_traced_memory()[1] < 4 * MEGABYTE
    finally:
        tracemalloc.stop()


def bounded(source: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """``source`` up to ``limit`` bytes, so that a decoder without a limit fails instead of reading forever."""
    size = 0
    for piece in source:
        size += len(piece)
        assert size < limit, "the decoder does not stop"
        yield piece


@pytest.mark.thorough
@pytest.mark.parametrize(
    "event", [b"data: x\n" * 40_000, b"data: " + b"x" * 320_000 + b"\n"], ids=["many lines", "one line"]
)
def test_decoding_one_event_in_many_pieces_takes_linear_time(event):
    data = event + b"\n"
    limits = Limits(event_lines=10**6)
    with computing_at_most(5):  # half a second if linear, hours if quadratic
        assert len(payloads(*cut(data, 1), limits=limits)) == 1
