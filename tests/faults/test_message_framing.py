"""Where an answer ends, and what its head says: bytes behind an answer, odd lengths, codings, chunks and headers.

Every test runs over http and https, unless it says otherwise. The answers are sent in one piece where it matters, so
that all their bytes arrive in one TLS record.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from support import REST, THREE, WORDS, body, computing_at_most, text_of, within

from chatstream import (
    ChatStreamError,
    DeadlineExceeded,
    IdleTimeout,
    ProtocolViolation,
    QuotaExceeded,
    StreamTruncated,
    UnexpectedStatus,
)
from chatstream.testing import (
    FaultServer,
    Script,
    Wire,
    chunk,
    cut,
    done,
    event,
    finish,
    forever,
    head,
    pause,
    send,
    stall,
    status,
    text_answer,
)

pytestmark = pytest.mark.usefixtures("short_waits")
ServeBoth = Callable[..., FaultServer]
NEXT = text_answer("the next answer")
before_and_after_three_events = pytest.mark.parametrize(
    "count", [0, 3], ids=["before-the-first-event", "after-three-events"]
)


@pytest.fixture(params=["http", "https"])
def serve_both(request: pytest.FixtureRequest, serve: Any) -> ServeBoth:
    """Starts a server of http, and of https in a second run of the test."""
    if request.param == "http":
        return serve
    request.getfixturevalue("trusted")
    tls = request.getfixturevalue("tls")
    return lambda *scripts: serve(*scripts, tls=tls)


@pytest.fixture
def requests_session() -> Iterator[requests.Session]:
    """A session as a caller may give one to `Client`."""
    with requests.Session() as session:
        yield session


@pytest.fixture(params=["own-session", "given-session"])
def any_session(request: pytest.FixtureRequest, requests_session: requests.Session) -> requests.Session | None:
    """None, and a session of requests in a second run of the test."""
    return None if request.param == "own-session" else requests_session


class Sink:
    """Collects what the steps of a script send."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


def bytes_of(script: Script, framing: Any = "chunked") -> bytes:
    """All bytes that a script sends; ``framing`` is that of its body, if it sends no head."""
    sink: Any = Sink()
    wire = Wire(sink, 1, threading.Event())
    wire.framing = framing
    for step in script:
        step(wire)
    return sink.data


def raw(*lines: bytes, body: bytes = b"", code: bytes = b"200 OK") -> bytes:
    """An answer with these header lines."""
    head = [b"HTTP/1.1 " + code, b"Content-Type: text/event-stream", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


EVENTS = bytes_of([*THREE, finish(), done()], "close")
CHUNKED = bytes_of([*THREE, *REST])
TEXT = "".join(WORDS)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def error_of(client: Any) -> Any:
    """The error of a call, raised before or after its stream begins."""
    with pytest.raises(ChatStreamError) as caught:
        client.stream("Hi").collect()
    return caught.value


def assert_the_next_call_gets_its_own_answer(client: Any, server: FaultServer) -> None:
    """The connection of the first call was closed, and the next call opens another one."""
    assert server.client_closed(1)
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 2


# ── bytes behind a complete answer ──────────────────────────────────────────────────────────────────────────────

OTHER = bytes_of(text_answer("the answer to somebody else"))
LENGTH = b"Content-Length: %d" % len(EVENTS)
CODING = b"Transfer-Encoding: chunked"
ANSWERS = {
    "chunked": raw(CODING, body=CHUNKED),
    "chunked-with-a-trailer": raw(CODING, body=CHUNKED[:-2] + b"X-Trailer: a\r\n\r\n"),
    "chunked-and-compressed": raw(CODING, b"Content-Encoding: gzip", body=chunked(gzip.compress(EVENTS))),
    "length": raw(LENGTH, body=EVENTS),
    "length-and-compressed": raw(
        b"Content-Length: %d" % len(gzip.compress(EVENTS, mtime=0)),
        b"Content-Encoding: gzip",
        body=gzip.compress(EVENTS, mtime=0),
    ),
    "length-and-chunked": raw(LENGTH, CODING, body=CHUNKED),
}
BEHIND = {
    "the-end-again": b"0\r\n\r\n",
    "a-line-end": b"\r\n",
    "another-answer": OTHER,
    "part-of-a-status-line": b"HTTP/1.1 2",
    "more-than-a-tls-record": OTHER * 200,
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_followed_by_other_bytes_is_complete_and_its_connection_is_closed(
    serve_both, connect, answer, behind
):
    server = serve_both([send(answer + behind)], NEXT)
    client = connect(server)
    turn = client.stream("Hi").collect()
    assert (turn.text, turn.status) == (TEXT, "completed")
    assert_the_next_call_gets_its_own_answer(client, server)


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_body_that_arrives_after_its_head_and_with_other_bytes_leaves_no_connection_open(
    serve_both, connect, answer, behind
):
    head, _, body = answer.partition(b"\r\n\r\n")
    server = serve_both([send(head + b"\r\n\r\n"), pause(0.03), send(body + behind)], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    assert_the_next_call_gets_its_own_answer(client, server)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_bytes_that_arrive_some_time_after_an_answer_do_not_begin_the_next_one(serve_both, connect, answer):
    server = serve_both([send(answer), pause(0.03), send(OTHER)], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    threading.Event().wait(0.1)
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 2


@pytest.mark.parametrize("answer", [each for each in ANSWERS if each != "length-and-chunked"])
def test_a_connection_without_bytes_behind_its_answer_is_used_again(serve_both, connect, answer):
    server = serve_both([send(ANSWERS[answer])], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 1


def test_a_connection_is_closed_after_an_answer_with_a_length_and_a_transfer_coding(serve_both, connect):
    server = serve_both([send(ANSWERS["length-and-chunked"])], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    assert_the_next_call_gets_its_own_answer(client, server)


def test_a_connection_is_closed_after_an_answer_of_http_1_0_in_chunks(serve_both, connect):
    answer = raw(CODING, b"Connection: keep-alive", body=CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0")
    server = serve_both([send(answer)], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    assert_the_next_call_gets_its_own_answer(client, server)


def test_a_content_length_counted_in_characters_does_not_mix_two_answers_up(serve_both, connect):
    events = bytes_of([event({"choices": [{"index": 0, "delta": {"content": "naïve café"}}]}), finish(), done()], 0)
    assert len(events) - len(events.decode()) == 2  # the last two line ends are behind the answer
    server = serve_both([send(raw(b"Content-Length: %d" % len(events.decode()), body=events))], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == "naïve café"
    assert_the_next_call_gets_its_own_answer(client, server)


def test_a_content_length_that_ends_inside_an_event_does_not_mix_two_answers_up(serve_both, connect):
    server = serve_both([send(raw(b"Content-Length: %d" % (len(EVENTS) // 2), body=EVENTS))], NEXT)
    client = connect(server, stream_max_retries=0)
    assert type(error_of(client)) is StreamTruncated
    assert_the_next_call_gets_its_own_answer(client, server)


def test_the_body_of_an_answer_of_length_zero_does_not_begin_the_next_answer(serve_both, connect):
    server = serve_both([send(raw(b"Content-Length: 0", body=OTHER))], NEXT)
    client = connect(server, stream_max_retries=0)
    assert type(error_of(client)) is StreamTruncated
    assert_the_next_call_gets_its_own_answer(client, server)


@pytest.mark.parametrize("code", [b"204 No Content", b"304 Not Modified"])
def test_the_body_of_an_answer_that_has_none_does_not_begin_the_next_answer(serve_both, connect, code):
    server = serve_both([send(raw(b"Content-Length: 5", body=b"hello" + OTHER, code=code))], NEXT)
    client = connect(server)
    assert type(error_of(client)) in (ProtocolViolation, UnexpectedStatus)
    assert_the_next_call_gets_its_own_answer(client, server)


REFUSAL = b'{"error": {"message": "No such model: caf\xc3\xa9."}}'
REFUSALS = {
    "length": raw(b"Content-Length: %d" % len(REFUSAL), body=REFUSAL, code=b"404 Not Found"),
    "length-in-characters": raw(b"Content-Length: %d" % (len(REFUSAL) - 1), body=REFUSAL, code=b"404 Not Found"),
    "chunked": raw(CODING, body=chunked(REFUSAL), code=b"404 Not Found"),
    "compressed": raw(CODING, b"Content-Encoding: gzip", body=chunked(gzip.compress(REFUSAL)), code=b"404 Not Found"),
    "longer-than-what-is-kept": raw(b"Content-Length: 100000", body=REFUSAL.ljust(100_000), code=b"404 Not Found"),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_followed_by_other_bytes_is_raised_and_its_connection_is_closed(serve_both, connect, refusal, behind):
    server = serve_both([send(refusal + behind)], NEXT)
    client = connect(server)
    error = error_of(client)
    assert (type(error), error.status) == (UnexpectedStatus, 404)
    assert "No such model" in error.body
    assert_the_next_call_gets_its_own_answer(client, server)


def test_a_retry_after_a_refusal_followed_by_other_bytes_gets_its_own_answer(serve_both, connect):
    refusal = bytes_of(status(503, {"error": {"message": "Busy."}}))
    server = serve_both([send(refusal + bytes_of(status(401, "not for you")))], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == "the next answer"
    assert (server.client_closed(1), server.connections) == (True, 2)


def test_an_exhausted_quota_followed_by_another_answer_is_raised_as_it_is(serve_both, connect):
    refusal = bytes_of(status(429, {"error": {"code": "insufficient_quota", "message": "Pay."}}))
    server = serve_both([send(refusal + OTHER)], NEXT)
    client = connect(server)
    assert type(error_of(client)) is QuotaExceeded
    assert_the_next_call_gets_its_own_answer(client, server)


@pytest.fixture
def connect_through_tls(
    request: pytest.FixtureRequest, tls: ssl.SSLContext, serve: Any, connect: Any
) -> Iterator[Callable[..., tuple[Any, FaultServer]]]:
    """A function that makes a client and a server of https, with a proxy between them that itself speaks TLS."""
    request.getfixturevalue("trusted")
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept(server: FaultServer) -> None:
        with suppress(OSError):
            while True:
                ours = tls.wrap_socket(listener.accept()[0], server_side=True)
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += ours.recv(1)
                theirs = socket.create_connection(("127.0.0.1", server.port))
                opened.extend([ours, theirs])
                ours.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                for ends in [(ours, theirs), (theirs, ours)]:
                    threads.append(threading.Thread(target=pump, args=ends))
                    threads[-1].start()

    def connect_to(*scripts: Script) -> tuple[Any, FaultServer]:
        server = serve(*scripts, tls=tls)
        threads.append(threading.Thread(target=accept, args=(server,)))
        threads[-1].start()
        proxy = f"https://127.0.0.1:{listener.getsockname()[1]}"
        request.getfixturevalue("monkeypatch").setenv("HTTPS_PROXY", proxy)
        return connect(server), server

    threads: list[threading.Thread] = []
    yield connect_to
    for sock in [listener, *opened]:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for sock in [listener, *opened]:
        sock.close()


@pytest.mark.parametrize("behind", [b"", *BEHIND.values()], ids=["nothing", *BEHIND])
@pytest.mark.parametrize("answer", ["chunked", "length"])
def test_bytes_behind_an_answer_through_tls_inside_tls_do_not_begin_the_next_one(connect_through_tls, answer, behind):
    head, _, body = ANSWERS[answer].partition(b"\r\n\r\n")
    client, server = connect_through_tls([send(head + b"\r\n\r\n"), pause(0.03), send(body + behind)], NEXT)
    assert client.stream("Hi").collect().text == TEXT
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == (2 if behind else 1)


@pytest.mark.usefixtures("trusted")
def test_a_body_in_the_answer_of_a_proxy_that_opens_a_tunnel_is_ignored(serve, connect, tls, monkeypatch):
    tunnel = [send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), lambda wire: wire.start_tls(tls)]
    proxy = serve([*tunnel, Wire.receive, send(ANSWERS["chunked"])])
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    assert connect("https://127.0.0.1:1/v1").stream("Hi").collect().text == TEXT


# ── lengths and codings ─────────────────────────────────────────────────────────────────────────────────────────

FALSE_LENGTHS = {
    "two-different": [b"Content-Length: 5", b"Content-Length: 6"],
    "two-different-apart": [b"Content-Length: 5", b"X-A: b", b"content-length: 6"],
    "two-different-in-one": [b"Content-Length: 5, 6"],
    "one-in-a-folded-line": [b"Content-Length: 5", b"X: y\r\nContent-Length:\r\n 6"],
    "one-with-a-blank-before-its-colon": [b"Content-Length: 5", b"Content-Length : 6"],
    "negative": [b"Content-Length: -5"],
    "plus": [b"Content-Length: +5"],
    "underscore": [b"Content-Length: 5_0"],
    "hexadecimal": [b"Content-Length: 0x5"],
    "fraction": [b"Content-Length: 5.0"],
    "empty": [b"Content-Length:"],
    "one-and-an-empty-one": [b"Content-Length: 5", b"Content-Length: "],
    "words": [b"Content-Length: five"],
    "superscript": [b"Content-Length: \xb2"],
    "full-width": ["Content-Length: ５".encode()],
    "no-break-space": [b"Content-Length: \xa05"],
    "huge": [b"Content-Length: " + b"9" * 19],
    "4301-digits": [b"Content-Length: " + b"9" * 4301],
    "two-with-identity": [b"Transfer-Encoding: identity", b"Content-Length: 5, 6"],
}


def assert_violates(client: Any) -> ProtocolViolation:
    error = error_of(client)
    assert (type(error), error.retryable, len(error.attempts)) == (ProtocolViolation, False, 1), error
    return error


@pytest.mark.parametrize("code", [b"200 OK", b"429 Too Many Requests"], ids=["200", "429"])
@pytest.mark.parametrize("lines", FALSE_LENGTHS.values(), ids=FALSE_LENGTHS)
def test_a_content_length_that_is_not_one_number_raises_protocol_violation(serve_both, connect, lines, code):
    server = serve_both([send(raw(*lines, body=EVENTS, code=code)), stall()], NEXT)
    client = connect(server)
    assert_violates(client)
    assert_the_next_call_gets_its_own_answer(client, server)


@pytest.mark.parametrize(
    "lines",
    [
        [LENGTH, LENGTH],
        [b"Content-Length: %d, %d" % (len(EVENTS), len(EVENTS))],
        [b"Content-Length: 0%d" % len(EVENTS), LENGTH],
        [b"Content-Length:\t%d \t" % len(EVENTS)],
        [b"Content-Length :%d" % len(EVENTS)],
        [b"Content-Length:\r\n %d" % len(EVENTS)],
        [b"Transfer-Encoding: identity", LENGTH],
    ],
    ids=["twice", "twice-in-one", "leading-zero", "tabs", "blank-before-the-colon", "folded", "identity"],
)
def test_a_content_length_that_is_one_number_is_read_however_it_is_written(serve_both, connect, lines):
    server = serve_both([send(raw(*lines, body=EVENTS))], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 1


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: chunked "],
        [b"Transfer-Encoding: chunked\t"],
        [b"Transfer-Encoding:\t chunked \t "],
        [b"Transfer-Encoding:chunked"],
        [b"Transfer-Encoding: Chunked"],
        [b"TRANSFER-ENCODING: CHUNKED"],
        [b"Transfer-Encoding: ,chunked,"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding:\r\n chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: "],
    ],
    ids=[
        "blank-behind",
        "tab-behind",
        "blanks-around",
        "no-blank",
        "capital",
        "capitals",
        "commas",
        "blank-before-the-colon",
        "folded",
        "twice",
        "once-and-an-empty-one",
    ],
)
def test_chunked_is_read_however_it_is_written(serve_both, connect, lines):
    server = serve_both([send(raw(*lines, body=CHUNKED))], NEXT)
    client = connect(server)
    stream = client.stream("Hi")
    assert stream.collect().text == TEXT
    assert stream.headers["transfer-encoding"] == "chunked"
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 1


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: identity, chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked;q=1"],
        [b'Transfer-Encoding: "chunked"'],
        [b"Transfer-Encoding: chunked\x0b"],
        [b"Transfer-Encoding: \xa0chunked"],
        [b"Transfer-Encoding: chunked\x85"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: " + b"chunked, " * 600],
    ],
    ids=[
        "gzip",
        "gzip-and-chunked-apart",
        "chunked-and-identity-apart",
        "identity",
        "prefix",
        "parameter",
        "quoted",
        "vertical-tab",
        "no-break-space",
        "next-line",
        "empty",
        "5-kB",
    ],
)
def test_a_transfer_coding_that_is_not_exactly_chunked_raises_protocol_violation(serve_both, connect, lines):
    server = serve_both([send(raw(*lines, body=CHUNKED)), stall()], NEXT)
    client = connect(server)
    assert_violates(client)
    assert_the_next_call_gets_its_own_answer(client, server)


# ── interim answers ─────────────────────────────────────────────────────────────────────────────────────────────

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "interim",
    [
        HINTS,
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 104 Upload Resumption\r\n\r\n",
        b"HTTP/1.1 199\r\nTransfer-Encoding: gzip\r\nContent-Length: 7\r\nno header at all\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + HINTS + b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS,
    ],
    ids=["103", "102", "100", "104", "199-with-framing", "several"],
)
@pytest.mark.parametrize("answer", ["chunked", "length"])
def test_interim_answers_are_read_over(serve_both, connect, interim, answer):
    server = serve_both([send(interim), pause(0.02), send(interim + ANSWERS[answer])], NEXT)
    client = connect(server)
    stream = client.stream("Hi")
    assert stream.collect().text == TEXT
    assert "link" not in stream.headers
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 1


def test_a_refusal_after_an_interim_answer_is_raised(serve_both, connect):
    client = connect(serve_both([send(HINTS + REFUSALS["length"])]))
    error = error_of(client)
    assert (type(error), error.status) == (UnexpectedStatus, 404)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 20", b"HTTP/1.1 103 Early Hints\r\nLink: </a"])
def test_an_interim_answer_that_no_answer_follows_raises_protocol_violation(serve_both, connect, begun):
    assert_violates(connect(serve_both([send(HINTS + begun), cut()])))


def test_silence_after_an_interim_answer_ends_at_the_idle_timeout(serve_both, connect):
    client = connect(serve_both([send(HINTS), stall()]), stream_idle_timeout=0.2, request_max_retries=0)
    with within(0.4, least=0.2):
        assert type(error_of(client)) is IdleTimeout


@pytest.mark.parametrize("steps", [[send(HINTS), pause(0.01)], [send(HINTS * 100)]], ids=["slow", "at-full-speed"])
def test_interim_answers_without_end_end_at_the_deadline(serve_both, connect, steps):
    client = connect(serve_both([forever(*steps)]), deadline=0.3)
    with within(0.5, least=0.3):
        assert type(error_of(client)) is DeadlineExceeded


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────────────────

FALSE_SIZES = {
    "0x": b"0x%x",
    "0X": b"0X%X",
    "plus": b"+%x",
    "minus": b"-%x",
    "underscore": b"0_%x",
    "leading-blank": b" %x",
    "leading-tab": b"\t%x",
    "inner-blank": b"0 %x",
    "letter-behind": b"%xh",
    "no-break-space": b"%x\xa0",
    "full-width": "０%x".encode(),
    "null": b"%x\0",
    "carriage-return": b"%x\r",
    "carriage-return-in-an-extension": b"%x;a\rb",
    "extension-alone": b";%x",
    "comma": b"%x,a",
    "2^48": b"1000000000000",
    "empty": b"",
}


def begun(count: int, *lines: bytes) -> list[Any]:
    """The head and the first ``count`` events, one chunk each."""
    pieces = (chunk(body(word)) for word in WORDS[:count])
    return [head(headers=dict(line.decode().split(": ") for line in lines)), *pieces]


def assert_breaks_off(client: Any, count: int, error: type = ProtocolViolation) -> None:
    """The stream ends in this error after its first ``count`` events, and is not restarted."""
    stream, events = client.stream("Hi"), []
    with pytest.raises(ChatStreamError) as caught:
        events.extend(stream)
    assert type(caught.value) is error, caught.value
    assert stream.turn.text == caught.value.partial.text == "".join(WORDS[:count])
    assert len(stream.attempts) == 1


@before_and_after_three_events
@pytest.mark.parametrize("size", FALSE_SIZES.values(), ids=FALSE_SIZES)
def test_a_chunk_size_that_is_not_hexadecimal_digits_raises_protocol_violation(serve_both, connect, count, size):
    data = body("not to be read")
    line = size % len(data) if b"%" in size else size
    server = serve_both([*begun(count), send(line + b"\r\n" + data + b"\r\n"), *REST, stall()], NEXT)
    client = connect(server)
    assert_breaks_off(client, count)
    assert_the_next_call_gets_its_own_answer(client, server)


@before_and_after_three_events
def test_a_chunk_size_that_ends_in_a_bare_line_feed_raises_protocol_violation(serve_both, connect, count):
    data = body("not to be read")
    server = serve_both([*begun(count), send(b"%x\n%b\r\n" % (len(data), data)), *REST, stall()], NEXT)
    assert_breaks_off(connect(server), count)


@pytest.mark.parametrize("line", [b"%x;name=value", b'%X ; name="a;b"', b"000%x", b"%x;", b"%x \t"])
def test_a_chunk_size_with_an_extension_zeros_or_blanks_behind_it_is_read(serve_both, connect, line):
    data = body("four")
    server = serve_both([*begun(3), send(line % len(data) + b"\r\n" + data + b"\r\n"), *REST], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT + "four"
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 1


WRONG_ENDS = {"letters": b"XY", "line-feed": b"\nX", "carriage-return": b"\rX", "swapped": b"\n\r", "missing": b""}


@before_and_after_three_events
@pytest.mark.parametrize("size", [10, 100_000], ids=["short-chunk", "chunk-longer-than-the-buffer"])
@pytest.mark.parametrize("wrong", WRONG_ENDS.values(), ids=WRONG_ENDS)
def test_a_wrong_byte_where_the_line_end_of_a_chunk_belongs_raises_protocol_violation(
    serve_both, connect, count, size, wrong
):
    comment = b":" + b" " * size + b"\n"
    bad = b"%x\r\n%b%b" % (len(comment), comment, wrong)
    server = serve_both([*begun(count), send(bad + CHUNKED), stall()], NEXT)
    client = connect(server)
    assert_breaks_off(client, count)
    assert_the_next_call_gets_its_own_answer(client, server)


@before_and_after_three_events
@pytest.mark.parametrize("wrong", [b"X", b"\rX", b"\n"])
def test_a_wrong_line_end_of_a_chunk_is_found_although_nothing_follows_it(serve_both, connect, count, wrong):
    server = serve_both([*begun(count), send(b"3\r\n: \n" + wrong), stall()])
    with within(1):
        assert_breaks_off(connect(server), count)


@before_and_after_three_events
@pytest.mark.parametrize("bad", [b"0x5\r\n", b"+5\r\n", b"5\n"], ids=["0x", "plus", "line-feed"])
def test_a_false_chunk_size_in_a_compressed_body_raises_protocol_violation(serve_both, connect, count, bad):
    steps = [chunk(gzip.compress(body(word))) for word in WORDS[:count]]
    server = serve_both([head(headers={"Content-Encoding": "gzip"}), *steps, send(bad + b"hello\r\n"), stall()])
    assert_breaks_off(connect(server), count)


@before_and_after_three_events
@pytest.mark.parametrize("wrong", WRONG_ENDS.values(), ids=WRONG_ENDS)
def test_a_wrong_line_end_of_a_chunk_in_a_compressed_body_raises_protocol_violation(serve_both, connect, count, wrong):
    comment = gzip.compress(b": comment\n")
    steps = [chunk(gzip.compress(body(word))) for word in WORDS[:count]]
    bad = b"%x\r\n%b%b" % (len(comment), comment, wrong)
    server = serve_both([head(headers={"Content-Encoding": "gzip"}), *steps, send(bad + CHUNKED), stall()])
    assert_breaks_off(connect(server), count)


@before_and_after_three_events
@pytest.mark.parametrize("begun_end", [b"", b"\r"])
def test_a_connection_closed_in_the_line_end_of_a_chunk_raises_stream_truncated(serve_both, connect, count, begun_end):
    server = serve_both([*begun(count), send(b"3\r\n: \n" + begun_end), cut()])
    stream, events = connect(server, stream_max_retries=0).stream("Hi"), []
    with pytest.raises(StreamTruncated):
        events.extend(stream)
    assert text_of(events) == "".join(WORDS[:count])


# ── header lines ────────────────────────────────────────────────────────────────────────────────────────────────

FALSE_HEADERS = {
    "no-colon": b"no header at all",
    "http-again": b"HTTP/1.1 200 OK",
    "empty-name": b": value",
    "blank-in-the-name": b"X Y: value",
    "letter-beyond-ascii-in-the-name": b"X-\xe9: value",
    "control-character-in-the-name": b"X\x0bY: value",
    "null-in-the-name": b"X\0Y: value",
    "null-in-the-value": b"X-Word: a\0b",
    "null-after-60-kB-of-blanks": b"X-Word:" + b" " * 60_000 + b"\0",
    "60-kB-name-without-a-colon": b"X" * 60_000,
    "bare-carriage-return": b"X-Word: a\rTransfer-Encoding: gzip",
    "two-carriage-returns": b"X-Word: a\r",
    "folded-into-70-kB": b"X-Word: a" + b"\r\n " + b"b" * 35_000 + b"\r\n " + b"b" * 35_000,
    "blanks-alone-after-a-false-name": b"X Y: a\r\n  ",
}


@pytest.mark.parametrize("code", [b"200 OK", b"400 Bad Request"], ids=["200", "400"])
@pytest.mark.parametrize("line", FALSE_HEADERS.values(), ids=FALSE_HEADERS)
def test_a_header_line_that_could_be_read_in_two_ways_raises_protocol_violation(serve_both, connect, line, code):
    server = serve_both([send(raw(line, CODING, body=CHUNKED, code=code)), stall()], NEXT)
    client = connect(server)
    with computing_at_most(0.5):
        assert_violates(client)
    assert_the_next_call_gets_its_own_answer(client, server)


def test_a_first_header_line_that_begins_with_a_blank_raises_protocol_violation(serve_both, connect):
    answer = b"HTTP/1.1 200 OK\r\n Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert_violates(connect(serve_both([send(answer + CHUNKED), stall()])))


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 2_00 OK",
        b"HTTP/1.1 +200 OK",
        b"HTTP/1.1 0200 OK",
        b"HTTP/1.1 20\xb2 OK",
        b"HTTP/1.1\xa0200 103 OK",
    ],
)
def test_a_status_that_is_not_three_digits_raises_protocol_violation(serve_both, connect, line):
    answer = raw(CODING, body=CHUNKED).replace(b"HTTP/1.1 200 OK", line)
    assert_violates(connect(serve_both([send(answer), stall()])))


def test_folded_headers_and_blanks_before_a_colon_are_read_as_one_value(serve_both, connect):
    lines = [b"X-Request-ID :\t req_7 ", b"X-Long: one\r\n two \r\n\tthree\r\n  ", b"X-Latin: caf\xe9", CODING]
    stream = connect(serve_both([send(raw(*lines, body=CHUNKED))])).stream("Hi")
    assert stream.collect().text == TEXT
    assert (stream.headers["x-long"].rstrip(), stream.headers["x-latin"]) == ("one two three", "café")
    assert stream.request_id == "req_7"


def test_header_lines_and_trailers_that_end_in_a_bare_line_feed_are_read(serve_both, connect):
    head, _, body = ANSWERS["chunked-with-a-trailer"].partition(b"\r\n\r\n")
    answer = head.replace(b"\r\n", b"\n") + b"\n\n" + body.replace(b"X-Trailer: a\r\n\r\n", b"X-Trailer: a\n\n")
    server = serve_both([send(answer)], NEXT)
    client = connect(server)
    assert client.stream("Hi").collect().text == TEXT
    assert client.stream("Hi").collect().text == "the next answer"
    assert server.connections == 1


# ── large headers ───────────────────────────────────────────────────────────────────────────────────────────────

SIZE = 60_000
LARGE = {
    "cookies": [b"Set-Cookie: a=" + b"b; c=d" * (SIZE // 6)] * 97,
    "folded-cookies": [b"Set-Cookie: a" + b"".join(b"\r\n " + b"b;c=d" * 5_000 for _ in range(90))],
    "cookies-of-4-kB": [b"Set-Cookie: a=" + b"b;c=d" * 800] * 97,
    "cookies-of-semicolons": [b"Set-Cookie: a=" + b";" * 4_000] * 97,
    "cookies-with-many-dates": [b"Set-Cookie: a=b" + b"; expires=Wed, 09 Jun 2099 10:18:14 GMT" * 100] * 97,
    "media-types": [b"Content-Type: text/event-stream" + b";a=b" * (SIZE // 4)] * 97,
    "media-types-of-4-kB": [b"Content-Type: text/event-stream" + b";a=b" * 1_000] * 97,
    "links": [b"Link: " + b"</a>; rel=b, " * (SIZE // 13)] * 97,
    "challenges": [b"WWW-Authenticate: " + b'Basic realm="a", ' * (SIZE // 17)] * 97,
    "locations": [b"Location: /" + b"../a%20" * (SIZE // 7)] * 97,
    "waits": [b"Retry-After: " + b"1 " * (SIZE // 2)] * 97,
    "one-header-repeated": [b"X-Long: " + b"a, " * (SIZE // 3)] * 97,
    "blanks": [b"X-Long: a" + b" " * SIZE + b"b"] * 97,
    "long-names": [b"X" * SIZE + b"%d: a" % number for number in range(97)],
}


@pytest.mark.thorough
@pytest.mark.parametrize("code", [200, 307, 400], ids=["200", "307", "400"])
@pytest.mark.parametrize("lines", LARGE.values(), ids=LARGE)
def test_a_head_of_six_megabytes_takes_less_than_a_second_to_read(serve, connect, any_session, lines, code):
    answer = raw(CODING, *lines, body=CHUNKED, code=b"%d Whatever" % code)
    server = serve([send(answer)])
    client = connect(server, session=any_session)
    with computing_at_most(1):
        if code == 200:
            assert client.stream("Hi").collect().text == TEXT
        else:
            assert error_of(client).status == code
    assert len(server.requests) == 1


@pytest.mark.usefixtures("trusted")
def test_cookies_of_six_megabytes_over_tls_take_less_than_a_second_to_read(serve, connect, tls):
    server = serve([send(raw(CODING, *LARGE["cookies"], body=CHUNKED))], tls=tls)
    client = connect(server)
    with computing_at_most(1):
        assert client.stream("Hi").collect().text == TEXT


def test_a_cookie_too_long_for_any_client_is_left_out_and_the_others_are_kept(serve, connect, requests_session):
    lines = [b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=" + b"2" * 4_100, b"Set-Cookie: c=3", b"X-Word: hello"]
    server = serve([send(raw(CODING, *lines, body=CHUNKED))], NEXT)
    client = connect(server, session=requests_session)
    stream = client.stream("Hi")
    assert stream.collect().text == TEXT
    assert (stream.headers["set-cookie"], stream.headers["x-word"]) == ("a=1; Path=/, c=3", "hello")
    assert client.stream("Hi").collect().text == "the next answer"
    assert sorted(server.requests[1].headers["Cookie"].split("; ")) == ["a=1", "c=3"]
