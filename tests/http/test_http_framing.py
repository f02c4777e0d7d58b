"""The head of an answer and the sizes of chunks, read from bytes: the cases that the fault tests do not cover."""

from __future__ import annotations

import io
from http.client import BadStatusLine, HTTPException, HTTPResponse, LineTooLong
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import computing_at_most

from chatstream._http.framing import chunk_size, read_head


def head_of(data: bytes) -> bytes:
    """The head that `read_head` returns for these bytes."""
    return read_head(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]


def test_a_head_is_returned_with_one_line_per_field_and_the_body_is_left():
    file = io.BufferedReader(io.BytesIO(b"HTTP/1.1 200 OK\nA:1\r\nB : 2 \r\n \t3\r\n\r\nbody"))  # type: ignore[arg-type]
    assert read_head(file) == b"HTTP/1.1 200 OK\nA: 1\r\nB: 2 3\r\n\r\n"
    assert file.read() == b"body"


class Bytes:
    """Bytes in the place of a socket, for http.client."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def read_by_http_client(data: bytes) -> tuple[Any, ...]:
    response = HTTPResponse(Bytes(data), method="POST")  # type: ignore[arg-type]
    response.begin()
    fields = sorted((name.lower(), value.strip(" \t")) for name, value in response.headers.items())
    return response.status, response.reason, response.version, fields, response.will_close, response.read()


TOKENS = st.text("!#$%&'*+-.^_`|~019azAZ", min_size=1, max_size=9)
VISIBLE = "".join(map(chr, [*range(0x21, 0x7F), *range(0x80, 0x100)]))
FIELDS = st.tuples(TOKENS, st.sampled_from(["", " ", "\t "]), st.text(f"{VISIBLE} \t", max_size=40))
FRAMINGS = st.sampled_from(
    [
        ("Content-Length", "5", b"hello"),
        ("content-length", "005", b"hello"),
        ("Transfer-Encoding", "chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        ("Connection", "close", b"hello"),
    ]
)


@given(
    st.sampled_from(["1.1 200 OK", "1.0 503", "1.1 429 Too  Many", "1.1 304 \xe9", "1.1 999 "]),
    st.lists(FIELDS, max_size=8),
    FRAMINGS,
    st.sampled_from(["\r\n", "\n"]),
)
def test_every_well_formed_head_is_read_as_http_client_reads_it(status_line, fields, framing, line_end):
    name, value, body = framing
    lines = [f"HTTP/{status_line}", *(f"{each}:{blanks}{text}" for each, blanks, text in fields), f"{name}: {value}"]
    data = (line_end.join(lines) + line_end * 2).encode("latin-1")
    assert read_by_http_client(head_of(data) + body) == read_by_http_client(data + body)


def test_the_head_of_a_closed_connection_is_empty():
    assert head_of(b"") == b""


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        (b"HTTP/1.1 200 OK", b""),
        (b"HTTP/1.1 200 OK\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n", b"A: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 1", b"A: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Le", b"A: 1\r\n"),
    ],
)
def test_a_header_line_that_the_end_of_the_connection_cuts_off_is_left_out(cut, kept):
    assert head_of(cut).split(b"OK")[1].removeprefix(b"\r\n").removesuffix(b"\r\n") == kept


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HTTP/1.", BadStatusLine),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", BadStatusLine),
        (b"HTTP/1.1 100 Continue\r\n\r\n", BadStatusLine),
        (b"HTTP/1.1 " + b"2" * 70_000, LineTooLong),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000, LineTooLong),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100 + b"\r\n", HTTPException),
        (b"HTTP/1.1 103 Early Hints\r\n" + b"A: b\r\n" * 100 + b"\r\n", HTTPException),
    ],
)
def test_a_head_that_is_too_long_or_not_http_raises_an_exception_of_http_client(data, error):
    with pytest.raises(HTTPException) as caught:
        head_of(data)
    assert type(caught.value) is error


def test_ninety_nine_header_lines_are_read():
    head = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 99 + b"\r\n"
    assert head_of(head) == head


@pytest.mark.parametrize(
    "line",
    [
        b"A:" + b" " * 60_000 + b"\0",
        b"A" + b" " * 60_000 + b"\0: b",
        b"A" * 60_000,
        b"A: b" + b"\r\n " * 20_000 + b"\r",
        b"A: " + b"\t \r" * 20_000,
        b"Content-Length: " + b"1" * 60_000,
        b"Content-Length: " + b"1," * 30_000,
        b"Transfer-Encoding: " + b"," * 60_000,
    ],
    ids=["blanks", "blanks-in-a-name", "name", "folds", "carriage-returns", "digits", "lengths", "codings"],
)
def test_a_false_header_line_is_refused_in_time_proportional_to_its_length(line):
    with computing_at_most(0.2), pytest.raises(HTTPException):
        head_of(b"HTTP/1.1 200 OK\r\n" + (line + b"\r\n") * 90 + b"\r\n")


def test_the_error_for_a_false_header_line_has_its_number_and_not_its_text():
    with pytest.raises(HTTPException) as caught:
        head_of(b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n e\r\nthe secret\r\n\r\n")
    assert str(caught.value) == "line 4 of the headers is invalid"


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (b"0\r\n", 0),
        (b"1f\r\n", 31),
        (b"1F \t\r\n", 31),
        (b"0" * 999 + b"1;a=b\r\n", 1),
        (b"ffffffffffff\r\n", 2**48 - 1),
    ],
)
def test_the_size_of_a_chunk_is_read_from_hexadecimal_digits(line, size):
    assert chunk_size(line) == size


@pytest.mark.parametrize(
    "line", [b"", b"\r\n", b"5", b"5\n", b"5\r", b"5\n\r\n", b" 5\r\n", b"5 5\r\n", b"-0\r\n", b"1000000000000\r\n"]
)
def test_a_size_line_of_anything_else_raises_value_error(line):
    with pytest.raises(ValueError, match="chunk size"):
        chunk_size(line)
