"""The table of faults: everything that a server can do wrong, and what the caller gets.

Each test carries the number of its fault, so that ``-k fault_40`` selects every test of one fault. Faults from 33 on
run over http and https, before the first event and after three. Before the first event the request is sent again;
after three events it is not, and the error carries their text.
"""

from __future__ import annotations

import gc
import gzip
import json
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from typing import Any, NamedTuple

import pytest
from support import KEY, REST, THREE, WORDS, SchedulingDelay, body, cancelled, server_context, text_of, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Completed,
    ConfigError,
    ConnectionFailed,
    Created,
    DeadlineExceeded,
    IdleTimeout,
    Limits,
    OutputImage,
    OutputText,
    OutputTextDelta,
    ProtocolViolation,
    Provider,
    ProviderError,
    QuotaExceeded,
    RetryInfo,
    RetryLimit,
    StreamClosed,
    StreamTooLarge,
    StreamTruncated,
    UnexpectedStatus,
    collect,
    read_events,
)
from chatstream._retries import retry
from chatstream.testing import (
    Script,
    Step,
    Wire,
    chunk,
    cut,
    delta,
    done,
    drip,
    end,
    event,
    finish,
    forever,
    head,
    pause,
    redirect,
    reset,
    send,
    stall,
    status,
    text_answer,
    unread,
)

pytestmark = pytest.mark.usefixtures("short_waits")
ClientFor = Callable[..., Any]
OK = text_answer("fine")
MEBIBYTE = 2**20


class StopRetrying(Exception):
    """Raised by ``on_retry``, so that the test does not sleep."""


def error_of_sending(client: Any, prompt: Any = "Hi", **fields: Any) -> Any:
    """The error that `Client.stream` raises before it returns a stream."""
    with pytest.raises(ChatStreamError) as caught:
        client.stream(prompt, **fields)
    return caught.value


def first_retry(client_for: ClientFor, *scripts: Script) -> RetryInfo:
    """The first `RetryInfo` that ``on_retry`` receives."""
    infos: list[RetryInfo] = []

    def on_retry(info: RetryInfo) -> None:
        infos.append(info)
        raise StopRetrying

    with pytest.raises(StopRetrying):
        client_for(*scripts, on_retry=on_retry).stream("Hi")
    return infos[0]


def run_threads(count: int, target: Callable[[int], None]) -> None:
    """Runs ``target`` in threads, each with its own number, and joins them."""
    threads = [threading.Thread(target=target, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def client_for(serve: Any, connect: Any) -> ClientFor:
    """Makes a client of a server that plays the scripts given."""
    return lambda *scripts, **options: connect(serve(*scripts), **options)


@pytest.fixture
def slow_backoff(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every retry waits for five seconds; requested after `short_waits`, which it overrides."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 5.0)
    monkeypatch.setattr(retry, "MAX_DELAY", 5.0)


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Asserts that the block never holds more than ``limit`` newly allocated bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak:,} bytes"


class Compressor(NamedTuple):
    """One compressed stream: ``flush`` ends a block, ``finish`` ends the stream."""

    compress: Callable[[bytes], bytes]
    flush: Callable[[], bytes]
    finish: Callable[[], bytes]

    def block(self, data: bytes) -> bytes:
        """Compresses data so that the client can decompress all of it at once."""
        return self.compress(data) + self.flush()

    def last(self, *pieces: bytes) -> bytes:
        """Compresses the pieces and ends the stream."""
        return b"".join([*map(self.compress, pieces), self.finish()])


def compressor(encoding: str) -> Compressor:
    """A new stream in the encoding; skips the test where its package is not installed."""
    if encoding == "br":
        brotli = pytest.importorskip("brotli").Compressor(quality=1)
        return Compressor(brotli.process, brotli.flush, brotli.finish)
    if encoding == "zstd":
        module = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        zstd = module.ZstdCompressor()
        return Compressor(zstd.compress, lambda: zstd.flush(zstd.FLUSH_BLOCK), zstd.flush)
    deflate = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    return Compressor(deflate.compress, lambda: deflate.flush(zlib.Z_SYNC_FLUSH), deflate.flush)


# ── before there is an answer ───────────────────────────────────────────────────────────────────────────────────


def test_fault_01_a_refused_connection_raises_connection_failed(connect, refused_port):
    error = error_of_sending(connect(f"http://127.0.0.1:{refused_port}/v1"))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert "refused" in str(error)


def test_fault_01_a_host_name_that_does_not_resolve_raises_connection_failed(connect, monkeypatch):
    def fail(*args: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)  # a real lookup takes as long as the machine's resolver likes
    error = error_of_sending(connect("https://nowhere.invalid/v1"))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert "nowhere.invalid" in str(error)
    assert "not known" in str(error)


def test_fault_01_a_connection_that_is_never_accepted_raises_connection_failed_at_the_connect_timeout(
    connect, unanswered_port
):
    with within(0.6, least=0.4):
        error = error_of_sending(connect(f"http://127.0.0.1:{unanswered_port}/v1", connect_timeout=0.2))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)


def test_fault_02_an_unanswered_tls_handshake_raises_connection_failed_at_the_connect_timeout(connect, serve, tls):
    server = serve([unread(), stall()], tls=tls)
    with within(0.7, least=0.4):
        error = error_of_sending(connect(server, connect_timeout=0.2))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert server.connections == 2


def test_fault_03_an_untrusted_certificate_raises_connection_failed_and_is_not_retried(connect, serve, tls):
    server = serve(OK, tls=tls)
    error = error_of_sending(connect(server))
    assert (type(error), error.retryable, server.connections) == (ConnectionFailed, False, 1)
    assert f"the certificate of 127.0.0.1:{server.port} was rejected" in str(error)


@pytest.mark.usefixtures("trusted")
def test_fault_03_a_certificate_for_another_name_raises_connection_failed_and_is_not_retried(connect, serve, authority):
    server = serve(OK, tls=server_context(authority, "example.org"))
    error = error_of_sending(connect(server))
    assert (type(error), error.retryable, server.connections) == (ConnectionFailed, False, 1)
    assert "127.0.0.1" in str(error)


def test_fault_03_an_http_answer_to_a_tls_handshake_raises_connection_failed_and_is_not_retried(connect, serve):
    server = serve([unread(), send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), cut()])
    error = error_of_sending(connect(server.url.replace("http:", "https:")))
    assert (type(error), error.retryable, server.connections) == (ConnectionFailed, False, 1)


def test_fault_04_a_server_that_never_reads_the_request_raises_connection_failed_at_the_connect_timeout(client_for):
    with within(2.0, least=0.4):
        error = error_of_sending(client_for([unread(), stall()], connect_timeout=0.2), "long " * 3_000_000)
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)


@pytest.mark.parametrize("script", [[cut()], [reset()], [unread(), cut()]], ids=["fin", "rst", "fin-before-reading"])
def test_fault_05_a_fresh_connection_closed_before_any_byte_raises_connection_failed(client_for, script):
    error = error_of_sending(client_for(script))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("ending", [cut(), reset()], ids=["fin", "rst"])
def test_fault_05_a_fresh_tls_connection_closed_before_any_byte_raises_connection_failed(connect, serve, tls, ending):
    server = serve([ending], tls=tls)
    error = error_of_sending(connect(server))
    assert (type(error), len(error.attempts), server.connections) == (ConnectionFailed, 2, 2)


@pytest.mark.parametrize("ending", [cut(), reset()], ids=["fin", "rst"])
def test_fault_06_a_reused_connection_closed_before_any_byte_is_replaced_in_the_same_attempt(connect, serve, ending):
    server = serve(OK, [ending], OK)
    client = connect(server, request_max_retries=0)
    assert client.stream("Hi").collect().text == "fine"
    stream = client.stream("Hi")
    assert stream.collect().text == "fine"
    assert len(stream.attempts) == 1
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_fault_06_a_pooled_connection_that_the_server_has_closed_is_replaced_without_a_retry(connect, serve):
    server = serve([*OK, cut()], OK)
    client = connect(server, request_max_retries=0)
    assert client.stream("Hi").collect().text == "fine"
    assert client.stream("Hi").collect().text == "fine"
    assert server.connections == 2


def test_fault_07_missing_headers_raise_idle_timeout(client_for):
    client = client_for([stall()], stream_idle_timeout=0.2)
    with within(0.5, least=0.4):
        error = error_of_sending(client)
    assert (type(error), error.retryable, len(error.attempts)) == (IdleTimeout, True, 2)


@pytest.mark.parametrize(
    "fault",
    [
        [send(b"HTTP/1.1 200 OK\r\n"), drip(b"X-Word: " + b"a" * 1000, every=0.02)],
        [forever(send(b"HTTP/1.1 100 Continue\r\n\r\n"), pause(0.01))],
        [forever(send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100))],
    ],
    ids=["one-byte-at-a-time", "repeated-100-continue", "repeated-100-continue-at-full-speed"],
)
def test_fault_08_headers_that_never_end_raise_deadline_exceeded(client_for, fault):
    with within(0.4, least=0.3):
        error = error_of_sending(client_for(fault, deadline=0.3))
    assert (type(error), len(error.attempts)) == (DeadlineExceeded, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["garbage", "http2", "half-a-status-line", "101-header-lines", "70-kB-header", "status-103", "status-101"],
)
def test_fault_09_a_response_that_is_not_http_raises_protocol_violation(client_for, data):
    error = error_of_sending(client_for([send(data), cut()]))
    assert (type(error), error.retryable, len(error.attempts)) == (ProtocolViolation, False, 1)


@pytest.mark.parametrize(
    "more",
    [b"", b"Content-Ty", b"Transfer-Encoding: chunked\r\n"],
    ids=["after-the-status-line", "inside-a-header", "after-a-header"],
)
def test_fault_10_a_connection_closed_inside_the_headers_raises_stream_truncated(client_for, more):
    stream = client_for([send(b"HTTP/1.1 200 OK\r\n" + more), cut()]).stream("Hi")
    with pytest.raises(StreamTruncated) as caught:
        list(stream)
    assert (caught.value.retryable, len(caught.value.attempts)) == (True, 2)


# ── redirects ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_fault_11_a_redirect_to_another_host_or_port_is_not_followed(connect, serve, code, host):
    other = serve(OK)
    error = error_of_sending(connect(serve(redirect(f"http://{host}:{other.port}/v1/chat/completions", code))))
    assert (type(error), error.status, error.retryable) == (UnexpectedStatus, code, False)
    assert f"{host}:{other.port}" in str(error)
    assert (other.connections, len(error.attempts)) == (0, 1)


@pytest.mark.parametrize("code", [307, 308])
def test_fault_12_a_redirect_to_the_same_origin_is_followed_with_the_same_post_request(connect, serve, code):
    server = serve(redirect("/v2/chat", code), OK)
    stream = connect(server).stream("Hi")
    assert stream.collect().text == "fine"
    first, second = server.requests
    assert (second.method, second.path, second.body) == ("POST", "/v2/chat", first.body)
    assert second.headers["Authorization"] == f"Bearer {KEY}"
    assert len(stream.attempts) == 1


def test_fault_12_the_idle_timeout_applies_to_the_target_of_a_redirect(connect, serve):
    server = serve(redirect("/v2/chat"), [stall()])
    with within(0.6, least=0.4):
        error = error_of_sending(connect(server, stream_idle_timeout=0.4, request_max_retries=0))
    assert type(error) is IdleTimeout


def test_fault_12_a_second_redirect_is_not_followed(connect, serve):
    server = serve(redirect("/elsewhere", 307))
    assert error_of_sending(connect(server)).status == 307
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [301, 302, 303])
def test_fault_12_a_redirect_that_would_turn_post_into_get_is_not_followed(connect, serve, code):
    server = serve(redirect("/elsewhere", code))
    assert error_of_sending(connect(server)).status == code
    assert [request.method for request in server.requests] == ["POST"]


REDIRECTED = {
    "a compressed bomb": ({"Content-Encoding": "gzip"}, [chunk(gzip.compress(bytes(20_000_000))), end()]),
    "an endless body": ({}, [forever(chunk(b"x" * 65536))]),
    "a dripping body": ({}, [forever(chunk(b"x"), pause(0.02))]),
    "no body where one was announced": ({}, [stall()]),
}


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("headers", "body"), REDIRECTED.values(), ids=REDIRECTED)
def test_fault_58_the_body_of_a_redirect_is_bounded_in_time_and_size(connect, serve, code, headers, body):
    server = serve([head(code, {"Location": "http://elsewhere.invalid/v1", **headers}), *body])
    client = connect(server, limits=Limits(error_body_bytes=1000))
    with within(1.2):
        error = error_of_sending(client)
    assert (type(error), error.status, len(error.attempts)) == (UnexpectedStatus, code, 1)
    assert len(error.body) <= 1000
    assert "redirects to http://elsewhere.invalid/v1" in error.message


@pytest.mark.parametrize(("headers", "body"), REDIRECTED.values(), ids=REDIRECTED)
def test_fault_58_a_redirect_to_the_same_origin_is_followed_whatever_its_body(connect, serve, headers, body):
    server = serve([head(308, {"Location": "/v2/chat", **headers}), *body], OK)
    with within(1.0):
        assert connect(server).stream("Hi").collect().text == "fine"


@pytest.mark.parametrize("code", [301, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        b"http://[::1/v1",
        b"http://[v1.x]:99999999/",
        b"http://h:port/v1",
        b"\xff\xfe/v1",
        b"http://127.0.0.1\xff/",
        b"",
        b" ",
        b"/v1/" + b"x" * 20_000,
        b"http://elsewhere.invalid/" + b"x" * 20_000,
    ],
    ids=lambda location: repr(location[:20]),
)
def test_fault_59_a_redirect_to_what_is_no_url_is_a_refusal(connect, serve, code, location):
    head_bytes = b"HTTP/1.1 %d Moved\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % (code, location)
    server = serve([send(head_bytes)])
    error = error_of_sending(connect(server))
    assert (type(error), error.status, len(server.requests)) == (UnexpectedStatus, code, 1)
    assert len(error.message) < 3000


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_fault_13_a_permanent_refusal_raises_unexpected_status_with_its_body_and_message(client_for, code):
    body = {"error": {"message": "No such thing.", "code": "nope"}}
    error = error_of_sending(client_for(status(code, body, {"X-Request-Id": "req_7"})))
    assert (type(error), error.status, error.message, error.code) == (UnexpectedStatus, code, "No such thing.", "nope")
    assert (json.loads(error.body), error.request_id, error.retryable, len(error.attempts)) == (body, "req_7", False, 1)


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 504, 529])
def test_fault_14_a_temporary_refusal_is_retried_until_retry_limit_is_raised(client_for, code):
    error = error_of_sending(client_for(status(code, "later"), request_max_retries=2))
    assert (type(error), error.status, error.body, error.retryable) == (RetryLimit, code, "later", True)
    assert [attempt.status for attempt in error.attempts] == [code] * 3


def test_fault_14_a_call_succeeds_when_a_retry_is_answered(client_for):
    stream = client_for(status(503), status(429), OK, request_max_retries=2).stream("Hi")
    assert stream.collect().text == "fine"
    assert [attempt.status for attempt in stream.attempts] == [503, 429, 200]


NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "1"}, 1.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": formatdate(NOW + 1, usegmt=True), "Date": formatdate(NOW, usegmt=True)}, 1.0),
    ],
    ids=["seconds", "decimal", "date"],
)
def test_fault_15_retry_after_sets_the_delay_of_the_retry(client_for, headers, seconds):
    assert first_retry(client_for, status(429, headers=headers)).delay == seconds


def test_fault_15_the_delay_that_retry_after_sets_is_slept(client_for):
    stream = None
    with within(0.5, least=0.05):
        stream = client_for(status(429, headers={"Retry-After": "0.05"}), OK).stream("Hi")
    assert stream.collect().text == "fine"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("61", 61.0), ("9" * 30, 1e30), ("inf", None), ("9" * 400, None), ("Fri, 31 Dec 99999 23:59:59 GMT", None)],
    ids=["61", "30-digits", "inf", "400-digits", "year-99999"],
)
def test_fault_16_a_retry_after_above_the_limit_raises_at_once(client_for, value, seconds):
    error = error_of_sending(client_for(status(429, headers={"Retry-After": value})))
    assert (type(error), error.retry_after, len(error.attempts)) == (UnexpectedStatus, seconds, 1)


def test_fault_16_a_retry_after_in_the_year_2099_raises_at_once(client_for):
    error = error_of_sending(client_for(status(503, headers={"Retry-After": "Thu, 31 Dec 2099 23:59:59 GMT"})))
    assert error.retry_after > 1e9
    assert len(error.attempts) == 1


@pytest.mark.parametrize("value", ["-5", "nan", "Fri, 31 Dec 1999 23:59:59 GMT", "abc", "", "1e3", "0x10"])
def test_fault_17_a_retry_after_that_makes_no_sense_is_ignored(client_for, value):
    assert first_retry(client_for, status(429, headers={"Retry-After": value})).delay < 0.01


def test_fault_17_a_retry_after_in_digits_beyond_ascii_is_ignored(client_for):
    answer = "HTTP/1.1 429 No\r\nRetry-After: ٣\r\nContent-Length: 0\r\n\r\n".encode()
    assert first_retry(client_for, [send(answer)]).delay < 0.01


def test_fault_18_retry_after_ms_takes_precedence_over_retry_after(client_for):
    headers = {"retry-after-ms": "50", "Retry-After": "30"}
    assert first_retry(client_for, status(429, headers=headers)).delay == 0.05


WAITS_IN_THE_BODY = {
    "retryDelay": {"error": {"code": 429, "message": "Busy", "details": [{"a": 1}, {"retryDelay": "0.75s"}]}},
    "retryDelay-in-a-list": [{"error": {"message": "Busy", "details": [{"retryDelay": "0.75s"}]}}],
    "sentence": {"error": {"message": "Limit reached. Please try again in 750ms. Thank you."}},
    "sentence-in-seconds": {"detail": "Slow down, retry after 0.75 seconds"},
}


@pytest.mark.parametrize("body", WAITS_IN_THE_BODY.values(), ids=WAITS_IN_THE_BODY)
def test_fault_84_a_wait_in_the_body_of_a_429_sets_the_delay_of_the_retry(client_for, body):
    assert first_retry(client_for, status(429, body)).delay == 0.75


def test_fault_84_a_wait_in_the_headers_takes_precedence_over_one_in_the_body(client_for):
    body = WAITS_IN_THE_BODY["sentence"]
    assert first_retry(client_for, status(429, body, headers={"Retry-After": "0.5"})).delay == 0.5


def test_fault_84_a_wait_in_the_body_above_the_limit_raises_at_once(client_for):
    body = {"error": {"message": "Please try again in 1h2m3s."}}
    error = error_of_sending(client_for(status(429, body)))
    assert (type(error), error.retry_after, len(error.attempts)) == (UnexpectedStatus, 3723.0, 1)


def test_fault_19_x_should_retry_decides_whether_a_refusal_is_retried(client_for):
    never = error_of_sending(client_for(status(500, headers={"x-should-retry": "false"})))
    assert (type(never), len(never.attempts)) == (UnexpectedStatus, 1)
    again = error_of_sending(client_for(status(400, headers={"x-should-retry": "true"})))
    assert (type(again), len(again.attempts)) == (RetryLimit, 2)


def test_fault_20_an_exhausted_quota_raises_quota_exceeded_and_is_not_retried(client_for):
    body = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    error = error_of_sending(client_for(status(429, body)))
    assert (type(error), error.retryable, len(error.attempts)) == (QuotaExceeded, False, 1)
    assert json.loads(error.body) == body


@pytest.mark.parametrize("code", [400, 422])
def test_fault_21_stream_options_are_left_out_after_a_server_refuses_them_once(connect, serve, code):
    server = serve(status(code, {"detail": "extra field: stream_options"}), OK)
    client = connect(server, request_max_retries=0)
    for _ in range(2):
        assert client.stream("Hi").collect().text == "fine"
    assert ["stream_options" in request.json for request in server.requests] == [True, False, False]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_fault_22_a_decompression_bomb_in_an_error_body_is_read_up_to_its_limit(client_for, encoding):
    data = compressor(encoding).last(*[b"\0" * MEBIBYTE] * 200)
    script = [head(400, {"Content-Encoding": encoding}, framing=len(data)), send(data)]
    client = client_for(script)
    with within(1.0), memory_below(4_000_000):
        error = error_of_sending(client)
    assert (type(error), len(error.body)) == (UnexpectedStatus, 2**16)


@pytest.mark.parametrize(
    "body",
    [forever(chunk(b"no " * 1000)), forever(chunk(b"no "), pause(0.01)), stall()],
    ids=["at-full-speed", "slowly", "silent"],
)
def test_fault_22_an_error_body_without_an_end_is_read_for_less_than_a_second(client_for, body):
    client = client_for([head(400), chunk(b"no "), body])
    with within(1.0), memory_below(4_000_000):
        error = error_of_sending(client)
    assert type(error) is UnexpectedStatus
    assert 2**16 >= len(error.body) >= 3


# ── status 200 without a stream ─────────────────────────────────────────────────────────────────────────────────


def answer(body: str, content_type: str = "application/json") -> Script:
    return status(200, body, {"Content-Type": content_type})


def test_fault_23_a_completion_that_is_not_streamed_yields_the_same_events(client_for):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "id": "c1",
        "model": "m1",
        "choices": [
            {"index": 0, "message": {"content": "fine", "tool_calls": [call]}, "finish_reason": "tool_calls"},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    stream = client_for(answer(json.dumps(body))).stream("Hi")
    created, text, _, item, completed = stream
    assert (created, text) == (Created("c1", "m1"), OutputTextDelta("fine"))
    assert (item.item.name, item.item.call_id) == ("f", "call_1")
    assert (completed.finish_reason, completed.token_usage.total_tokens) == ("tool_calls", 3)


def test_fault_24_a_json_error_with_status_200_raises_provider_error(client_for):
    stream = client_for(answer('{"error": {"message": "No.", "code": 7}}')).stream("Hi")
    with pytest.raises(ProviderError) as caught:
        list(stream)
    assert (caught.value.message, caught.value.code, len(caught.value.attempts)) == ("No.", 7, 1)


def test_fault_24_an_html_page_with_status_200_raises_protocol_violation_with_a_hint(client_for):
    stream = client_for(answer("<html><h1>Welcome</h1></html>", "text/html")).stream("Hi")
    with pytest.raises(ProtocolViolation, match=r"base_url.*Welcome") as caught:
        list(stream)
    assert len(caught.value.attempts) == 1


def test_fault_24_an_empty_body_with_status_200_raises_stream_truncated(client_for):
    stream = client_for(answer("")).stream("Hi")
    with pytest.raises(StreamTruncated) as caught:
        list(stream)
    assert len(caught.value.attempts) == 2


def test_fault_24_status_204_raises_protocol_violation(client_for):
    error = error_of_sending(client_for([send(b"HTTP/1.1 204 No Content\r\n\r\n")]))
    assert (type(error), len(error.attempts)) == (ProtocolViolation, 1)


# ── secrets and environment ─────────────────────────────────────────────────────────────────────────────────────


def test_fault_25_cookies_are_not_sent_back(connect, serve):
    server = serve([head(headers={"Set-Cookie": "a=b; Path=/"}), *THREE, *REST])
    client = connect(server)
    client.stream("Hi").collect()
    client.stream("Hi").collect()
    assert [request.headers["Cookie"] for request in server.requests] == [None, None]


INVALID_KEYS = ["sk-Zq7\nkey", "sk-Zq7\0key", "sk-\u2019Zq7", "sk Zq7 key", b"sk-Zq7"]


@pytest.mark.parametrize("key", INVALID_KEYS, ids=["line-break", "null", "not-latin-1", "spaces", "bytes"])
def test_fault_26_a_key_that_no_header_can_carry_raises_config_error_without_showing_it(key):
    with pytest.raises(ConfigError) as caught:
        Provider("test", "http://127.0.0.1/v1", api_key=key)
    assert "Zq7" not in "".join(traceback.format_exception(caught.value))


def test_fault_26_an_environment_key_that_no_header_can_carry_raises_config_error_without_showing_it(
    connect, serve, monkeypatch
):
    server = serve(OK)
    monkeypatch.setenv("TEST_KEY", "sk-Zq7\nkey")
    error = error_of_sending(connect(server, api_key=None, env_key="TEST_KEY"))
    assert type(error) is ConfigError
    assert "Zq7" not in "".join(traceback.format_exception(error))
    assert server.connections == 0


@pytest.mark.parametrize("key", [KEY, None], ids=["with-a-key", "without-a-key"])
def test_fault_27_credentials_in_netrc_are_not_used(connect, serve, monkeypatch, tmp_path, key):
    (tmp_path / "own").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "own"))
    server = serve(OK)
    connect(server, api_key=key).stream("Hi").collect()
    assert server.requests[0].headers["Authorization"] == (f"Bearer {key}" if key else None)


def test_fault_27_a_password_in_the_base_url_raises_config_error_without_showing_it():
    with pytest.raises(ConfigError) as caught:
        Provider("test", "http://me:secret@127.0.0.1/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_fault_28_an_unreachable_proxy_raises_connection_failed_without_showing_its_password(
    connect, monkeypatch, scheme, refused_port
):
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{refused_port}")
    error = error_of_sending(connect(f"{scheme}://api.invalid/v1", api_key=None))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert "secret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_fault_28_a_proxy_that_rejects_its_password_raises_connection_failed_without_showing_it(
    connect, serve, monkeypatch, scheme
):
    proxy = serve(status(407, "who are you?", {"Proxy-Authenticate": "Basic"}))
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
    error = error_of_sending(connect(f"{scheme}://api.invalid/v1", api_key=None))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, False, 1)
    assert "407" in str(error)
    assert "secret" not in "".join(traceback.format_exception(error))


def test_fault_29_a_missing_certificate_bundle_raises_config_error(connect, serve, tls, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    error = error_of_sending(connect(serve(OK, tls=tls)))
    assert (type(error), len(error.attempts)) == (ConfigError, 0)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1/v1", "http://", "http://a b/", "http://h:99999/", f"http://{'a' * 64}.de/"],
    ids=["no-scheme", "no-host", "space-in-the-host", "port-too-large", "label-too-long"],
)
def test_fault_29_an_invalid_base_url_raises_config_error(url):
    with pytest.raises(ConfigError):
        Provider("test", url)


@pytest.mark.usefixtures("slow_backoff")
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "30"}], ids=["backoff", "retry-after"])
def test_fault_30_a_retry_that_would_pass_the_deadline_raises_deadline_exceeded_at_once(client_for, headers):
    with within(0.3):
        error = error_of_sending(client_for(status(503, "busy", headers), deadline=1.0))
    assert (type(error), len(error.attempts)) == (DeadlineExceeded, 1)
    assert isinstance(error.__cause__, UnexpectedStatus)


def test_fault_31_a_hundred_failing_calls_share_one_retry_budget(connect, serve):
    server = serve(status(503))
    client = connect(server, request_max_retries=4)

    def fail_ten_times(_: int) -> None:
        for _ in range(10):
            assert type(error_of_sending(client)) is RetryLimit

    run_threads(10, fail_ten_times)
    assert 100 <= len(server.requests) <= 150


# ── from here on over http and https ────────────────────────────────────────────────────────────────────────────


class StreamOpener:
    """Opens a stream to a new `FaultServer` with the scripts given; ``server`` is the latest one."""

    server: Any

    def __init__(self, serve: Any, connect: Any, tls: Any) -> None:
        self.streams: list[Any] = []
        self._serve, self._connect, self._tls = serve, connect, tls

    def __call__(self, *scripts: Script, n: int | None = None, **options: Any) -> Any:
        self.server = self._serve(*scripts, tls=self._tls)
        fields = {} if n is None else {"n": n}
        self.streams.append(self._connect(self.server, **options).stream("Hi", **fields))
        return self.streams[-1]


@pytest.fixture(params=["http", "https"])
def open_stream(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Iterator[StreamOpener]:
    """Opens streams, and closes them after the test."""
    tls = None
    if request.param == "https":
        request.getfixturevalue("trusted")
        tls = request.getfixturevalue("tls")
    opener = StreamOpener(serve, connect, tls)
    yield opener
    for stream in opener.streams:
        stream.close()


before_and_after_three_events = pytest.mark.parametrize(
    "count", [0, 3], ids=["before-the-first-event", "after-three-events"]
)


def text_of_first(count: int) -> str:
    return "".join(WORDS[:count])


def read_until_error(stream: Any) -> tuple[list[Any], Any]:
    """The events before the error, and the error."""
    events = []
    try:
        for each in stream:
            events.append(each)
    except ChatStreamError as error:
        return events, error
    raise AssertionError("the stream ended without an error")


def assert_fails(
    open_stream: Any,
    fault: Script,
    error: type,
    count: int,
    *,
    retryable: bool,
    begin: Script | None = None,
    **options: Any,
) -> Any:
    """The stream ends in this error and keeps the text of its first ``count`` events; returns the error.

    It is restarted if the error is retryable and no event came before it. ``begin`` sends the head and these events.
    """
    begin = [head(), *THREE[:count]] if begin is None else begin
    stream = open_stream([*begin, *fault], **options)
    events, caught = read_until_error(stream)
    assert type(caught) is error, caught
    assert text_of(events) == caught.partial.text == stream.turn.text == text_of_first(count)
    assert caught.partial.status == "incomplete"
    assert len(stream.attempts) == (2 if retryable and not count else 1)
    assert caught.attempts == stream.attempts
    assert caught.retryable is retryable
    return caught


# ── cancel; the first attempt breaks, so that an open stream can be cancelled in any phase of the second ────────

BROKEN: Script = [head(), chunk(b": hello\n\n"), pause(0.02), cut()]


def test_fault_32_cancel_wakes_a_stream_that_is_connecting(connect):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:

        def answer_once() -> None:
            with listener.accept()[0] as sock:
                for _ in range(4):  # fill the backlog, so that the next connection is never accepted
                    other = stack.enter_context(socket.socket())
                    other.setblocking(False)
                    other.connect_ex(listener.getsockname())
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        thread = threading.Thread(target=answer_once)
        thread.start()
        stream = connect(f"http://127.0.0.1:{listener.getsockname()[1]}/v1").stream("Hi")
        thread.join()
        error = cancelled(stream)
    assert [attempt.status for attempt in error.attempts] == [200, None]


def test_fault_32_cancel_wakes_a_stream_whose_server_reads_nothing(open_stream):
    error = cancelled(open_stream(BROKEN, [unread(), stall()]))  # over https: in the handshake
    assert [attempt.status for attempt in error.attempts] == [200, None]


def test_fault_32_cancel_wakes_a_stream_that_waits_for_headers(open_stream):
    error = cancelled(open_stream(BROKEN, [stall()]))
    assert [attempt.status for attempt in error.attempts] == [200, None]


@pytest.mark.usefixtures("slow_backoff")
def test_fault_32_cancel_wakes_a_stream_that_waits_for_its_retry(open_stream):
    error = cancelled(open_stream(BROKEN, OK))
    assert [attempt.status for attempt in error.attempts] == [200]


@pytest.mark.parametrize("framing", ["chunked", "close"])
@before_and_after_three_events
def test_fault_32_cancel_wakes_a_blocked_reader_and_closes_the_connection(open_stream, count, framing):
    error = cancelled(open_stream([head(framing=framing), *THREE[:count], stall()]))
    assert error.partial.text == text_of_first(count)
    assert open_stream.server.client_closed()


def test_fault_32_a_stream_cancelled_before_it_is_read_raises_cancelled(open_stream):
    stream = open_stream(OK)
    stream.cancel()
    with pytest.raises(Cancelled):
        list(stream)


def test_fault_32_cancel_after_the_last_event_changes_nothing(open_stream):
    stream = open_stream(OK)
    list(stream)
    stream.cancel()
    stream.cancel()
    assert list(stream) == []
    assert stream.turn.text == "fine"


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────


@before_and_after_three_events
def test_fault_33_a_stream_that_ends_after_comments_raises_stream_truncated(open_stream, count):
    fault = [chunk(b": one\n\n"), chunk(b":\n"), end()]
    assert_fails(open_stream, fault, StreamTruncated, count, retryable=True)


@before_and_after_three_events
@pytest.mark.parametrize(
    "fault",
    [
        [forever(chunk(b": ping\n\n"), pause(0.01))],
        [stall()],
        [drip(b"100\r\n" + b"data: {" + b" " * 100, every=0.02)],
        [drip(b"0" * 100, every=0.02)],
        [chunk(b"data: {"), forever(chunk(b" "), pause(0.01))],
    ],
    ids=["comments", "silence", "event-byte-by-byte", "chunk-size-byte-by-byte", "endless-event"],
)
def test_fault_34_a_stream_without_another_complete_event_raises_idle_timeout(open_stream, fault, count):
    timeout = 0.4 if count else 0.2
    with within(0.55, least=0.4):
        assert_fails(open_stream, fault, IdleTimeout, count, retryable=True, stream_idle_timeout=timeout)


def test_fault_34_comments_reset_the_idle_timeout_where_the_provider_allows_it(open_stream):
    comments = [each for _ in range(8) for each in (chunk(b": ping\n\n"), pause(0.1))]
    stream = open_stream([head(), *comments, *THREE, *REST], keepalive_resets_idle=True, stream_idle_timeout=0.5)
    assert stream.collect().text == text_of_first(3)


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_completes(stream: Any, text: str, most: float = 0.08) -> Completed:
    """The stream yields the text and completes; its end takes at most ``most`` seconds."""
    events = []
    with SchedulingDelay() as scheduling_delay:
        for each in stream:
            events.append(each)
            last = time.monotonic()
        took = time.monotonic() - last
    assert took <= most + scheduling_delay.seconds
    assert text_of(events) == stream.turn.text == text
    assert isinstance(events[0], Created)
    assert [type(each) for each in events].count(Completed) == 1
    assert isinstance(events[-1], Completed)
    return events[-1]


@pytest.mark.parametrize(
    "fault",
    [
        [send(b"0\r\n"), forever(send(b"X-Trailer: a\r\n"), pause(0.01))],
        [stall()],
        [forever(chunk(b":\n"), pause(0.01))],
    ],
    ids=["trailers", "silence", "comments"],
)
@pytest.mark.usefixtures("default_drain_time")
def test_fault_35_a_stream_completes_after_done_although_the_response_does_not_end(open_stream, fault):
    stream = open_stream([head(), *THREE, finish(), done(), *fault], OK)
    assert assert_completes(stream, text_of_first(3), most=0.12).status == "completed"
    assert open_stream.server.client_closed()


@pytest.mark.usefixtures("default_drain_time")
def test_fault_36_a_response_that_ends_soon_after_done_leaves_the_connection_open(open_stream):
    stream = open_stream([head(), *THREE, finish(), done(), pause(0.02), end()])
    assert assert_completes(stream, text_of_first(3), most=0.12).status == "completed"
    assert not open_stream.server.client_closed(within=0.05)


def test_fault_36_a_connection_is_reused_although_its_response_ended_after_done(connect, serve):
    server = serve([head(), *THREE, finish(), done(), pause(0.02), end()])
    client = connect(server)
    for _ in range(3):
        client.stream("Hi").collect()
    assert server.connections == 1


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data:DONE\r\n"])
@pytest.mark.parametrize("finished", [[], [finish()]], ids=["no-finish-reason", "finish-reason"])
def test_fault_37_done_without_a_blank_line_completes_the_stream(open_stream, framing, last, finished):
    stream = open_stream([head(framing=framing), *THREE, *finished, chunk(last), end()])
    assert assert_completes(stream, text_of_first(3)).status == ("completed" if finished else "unconfirmed")


def test_fault_38_a_finish_reason_without_done_completes_the_stream(open_stream):
    stream = open_stream([head(), *THREE, finish("stop"), end()])
    assert assert_completes(stream, text_of_first(3)).finish_reason == "stop"


@pytest.mark.usefixtures("default_drain_time")
@pytest.mark.parametrize("more", [[stall()], [forever(chunk(b": ping\n\n"), pause(0.01))]], ids=["silence", "comments"])
def test_fault_39_a_stream_completes_when_no_event_follows_the_finish_reason_in_the_grace_time(open_stream, more):
    with within(0.45, least=0.2):
        stream = open_stream([head(), *THREE, finish("stop"), *more], finish_grace=0.2)
        assert assert_completes(stream, text_of_first(3), most=0.12).finish_reason == "stop"


HALF = b'data: {"choices": [{"index": 0, "delta": {"content": "fo'
CUTS = {
    "chunked-end": ("chunked", [end()]),
    "chunked-fin": ("chunked", [cut()]),
    "chunked-fin-in-a-chunk-size": ("chunked", [send(b"ff"), cut()]),
    "chunked-fin-in-a-chunk": ("chunked", [send(b"ff\r\n" + HALF), cut()]),
    "chunked-fin-after-a-chunk": ("chunked", [send(b"3\r\n:\n\n"), cut()]),
    "chunked-fin-in-an-event": ("chunked", [chunk(HALF), cut()]),
    "chunked-end-in-an-event": ("chunked", [chunk(HALF), end()]),
    "chunked-rst": ("chunked", [pause(0.02), reset()]),
    "close-end": ("close", [end()]),
    "close-fin": ("close", [cut()]),
    "close-end-in-an-event": ("close", [chunk(HALF), end()]),
    "close-rst-in-an-event": ("close", [chunk(HALF), pause(0.02), reset()]),
    "length-fin": (100_000, [cut()]),
    "length-fin-in-an-event": (100_000, [chunk(HALF), cut()]),
    "length-rst": (100_000, [pause(0.02), reset()]),
}


@before_and_after_three_events
@pytest.mark.parametrize(("framing", "fault"), CUTS.values(), ids=CUTS)
def test_fault_40_a_stream_that_ends_without_a_finish_reason_raises_stream_truncated(
    open_stream, count, framing, fault
):
    begin = [head(framing=framing), *THREE[:count]]
    assert_fails(open_stream, fault, StreamTruncated, count, retryable=True, begin=begin)


@before_and_after_three_events
def test_fault_40_a_content_length_that_ends_inside_an_event_raises_stream_truncated(open_stream, count):
    size = sum(len(body(word)) for word in WORDS[:count]) + 10
    begin = [head(framing=size), *THREE[:count]]
    error = assert_fails(open_stream, [delta("four "), *REST], StreamTruncated, count, retryable=True, begin=begin)
    assert {attempt.status for attempt in error.attempts} == {200}


def begin_gzip(count: int) -> tuple[Script, Compressor]:
    """The head and the first ``count`` events in gzip, one chunk each; and the stream that compresses what follows."""
    gzip = compressor("gzip")
    return [
        head(headers={"Content-Encoding": "gzip"}),
        *(chunk(gzip.block(body(word))) for word in WORDS[:count]),
    ], gzip


@before_and_after_three_events
def test_fault_40_a_gzip_stream_cut_inside_its_data_raises_stream_truncated(open_stream, count):
    begin, gzip = begin_gzip(count)
    fault = [chunk(gzip.last(body("four "))[:9]), end()]
    assert_fails(open_stream, fault, StreamTruncated, count, retryable=True, begin=begin)


@before_and_after_three_events
@pytest.mark.parametrize(
    "size",
    [b"xyz", b"-5", b"-0x5", b"%x" % 2**71, b"", b"5" * 70_000],
    ids=["letters", "negative", "negative-hexadecimal", "more-than-64-bits", "empty", "70000-digits"],
)
def test_fault_41_an_invalid_chunk_size_raises_protocol_violation(open_stream, count, size):
    fault = [send(size + b"\r\n" + b"abc\r\n"), stall()]
    assert_fails(open_stream, fault, ProtocolViolation, count, retryable=False)


@before_and_after_three_events
def test_fault_41_a_chunk_that_is_longer_than_its_size_raises_protocol_violation(open_stream, count):
    fault = [send(b"3\r\n: \nmore than three\r\n"), stall()]
    assert_fails(open_stream, fault, ProtocolViolation, count, retryable=False)


def test_fault_41_a_transfer_encoding_beside_chunked_raises_protocol_violation(connect, serve):
    script = [head(headers={"Transfer-Encoding": "gzip, chunked"}), *THREE, *REST]
    error = error_of_sending(connect(serve(script)))
    assert (type(error), len(error.attempts)) == (ProtocolViolation, 1)


@before_and_after_three_events
def test_fault_41_uncompressed_data_in_a_gzip_stream_raises_protocol_violation(open_stream, count):
    begin, _ = begin_gzip(count)
    fault = [pause(0.03), chunk(b"data: plain text, and more of it\n\n" * 9), stall()]
    assert_fails(open_stream, fault, ProtocolViolation, count, retryable=False, begin=begin)


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_fault_42_a_compressed_stream_yields_each_event_as_soon_as_it_is_flushed(open_stream, encoding, framing):
    compressed = compressor(encoding)
    sent: list[float] = []

    def record_sending(wire: Wire) -> None:
        sent.append(time.monotonic())

    words = [step for word in WORDS for step in (record_sending, chunk(compressed.block(body(word))), pause(0.1))]
    finish_and_done = b'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    begin = head(headers={"Content-Encoding": encoding}, framing=framing)
    stream = open_stream([begin, *words, chunk(compressed.block(finish_and_done)), end()])
    assert encoding in open_stream.server.requests[0].headers["Accept-Encoding"]
    with SchedulingDelay() as scheduling_delay:
        received = [(time.monotonic(), each.delta) for each in stream if isinstance(each, OutputTextDelta)]
    assert [text for _, text in received] == WORDS
    most = 0.05 + scheduling_delay.seconds
    assert all(arrival - sending < most for (arrival, _), sending in zip(received, sent, strict=True))


TOO_LARGE: dict[str, list[bytes]] = {
    "line-of-100-MiB": [b"data: " + b"x" * MEBIBYTE, *[b"x" * MEBIBYTE] * 99],
    "line-of-20-MiB-of-spaces": [b" " * MEBIBYTE] * 20,
    "line-of-2-MB": [b"data: " + b"x" * 1000] * 2000,
    "comment-of-4-MiB": [b": " + b"x" * MEBIBYTE] * 4,
    "event-of-2-MB": [b"data: " + b"x" * 1000 + b"\n"] * 2000,
    "event-of-100000-lines": [b"data:\n" * 100] * 1000,
    "event-of-100000-unknown-fields": [b"x:\n" * 100] * 1000,
}


@before_and_after_three_events
@pytest.mark.parametrize("pieces", TOO_LARGE.values(), ids=TOO_LARGE)
def test_fault_43_a_compressed_line_or_event_over_its_limit_raises_stream_too_large(open_stream, count, pieces):
    begin, gzip = begin_gzip(count)
    fault = [pause(0.03), chunk(gzip.last(*pieces)), end()]
    limits = Limits(event_bytes=MEBIBYTE)
    with memory_below(4 * MEBIBYTE):
        error = assert_fails(open_stream, fault, StreamTooLarge, count, retryable=False, begin=begin, limits=limits)
    assert re.search(r"\(Limits\.event_(bytes|lines)\)|blank bytes", str(error))


@before_and_after_three_events
def test_fault_43_a_line_over_the_default_limit_raises_stream_too_large_within_three_times_its_memory(
    open_stream, count
):
    begin, gzip = begin_gzip(count)
    fault = [pause(0.03), chunk(gzip.last(b"data: ", *[b"x" * MEBIBYTE] * 40)), end()]
    with memory_below(3 * Limits().event_bytes):
        error = assert_fails(open_stream, fault, StreamTooLarge, count, retryable=False, begin=begin)
    assert "longer than 16777216 bytes (Limits.event_bytes)" in str(error)


@before_and_after_three_events
def test_fault_43_a_json_answer_or_event_over_the_default_limit_raises_stream_too_large_that_names_the_setting(
    open_stream, count
):
    begin, gzip = begin_gzip(count)
    text = b'{"choices": [{"index": 0, "message": {"content": "' if not count else b'data: {"choices": [{"x": "'
    fault = [pause(0.03), chunk(gzip.last(text, *[b"x" * MEBIBYTE] * 17, b'"}}]}\n\n')), end()]
    error = assert_fails(open_stream, fault, StreamTooLarge, count, retryable=False, begin=begin)
    assert "longer than 16777216 bytes (Limits.event_bytes)" in str(error)


PICTURE = "data:image/png;base64," + "QUJD" * MEBIBYTE


def test_fault_83_an_event_of_4_mb_with_a_picture_is_delivered_by_default(open_stream):
    image = {"type": "image_url", "image_url": {"url": PICTURE}}
    chunks = [{"content": "Here:"}, {"images": [image]}, {"content": [image, {"type": "text", "text": "Bye"}]}]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in chunks]
    script = [head(), *(chunk(b"data: %b\n\n" % json.dumps(event).encode()) for event in events), *REST]
    turn = open_stream(script).collect()
    (message,) = turn.items
    assert message.content == (OutputText("Here:"), OutputImage(PICTURE), OutputImage(PICTURE), OutputText("Bye"))
    assert (turn.text, turn.status) == ("Here:Bye", "completed")


def test_fault_83_a_json_answer_of_4_mb_with_a_picture_is_delivered_by_default(open_stream):
    content = [{"type": "text", "text": "Here:"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    answer = {"choices": [{"index": 0, "message": {"content": content}, "finish_reason": "stop"}]}
    headers = {"Content-Type": "application/json"}
    turn = open_stream([head(headers=headers), chunk(json.dumps(answer).encode()), end()]).collect()
    (message,) = turn.items
    assert message.content == (OutputText("Here:"), OutputImage(PICTURE))
    assert turn.status == "completed"


def test_fault_83_read_events_takes_the_limits_of_its_caller():
    event = b'data: {"choices": [{"delta": {"content": "' + b"x" * 5000 + b'"}, "finish_reason": "stop"}]}\n\n'
    assert len(collect(read_events([event])).text) == 5000
    with pytest.raises(StreamTooLarge, match=r"longer than 5000 bytes \(Limits\.event_bytes\)"):
        collect(read_events([event], limits=Limits(event_bytes=5000)))


def test_fault_43_an_endless_stream_raises_stream_too_large_at_its_limit(open_stream):
    script = [head(), *THREE, forever(chunk(b": ping\n\n" * 1000))]
    stream = open_stream(script, limits=Limits(stream_bytes=MEBIBYTE))
    with memory_below(4 * MEBIBYTE), pytest.raises(StreamTooLarge) as caught:
        list(stream)
    assert caught.value.partial.text == text_of_first(3)
    assert open_stream.server.client_closed()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"\xe2\x82", "\ufffd"),
        (b"\xf0\x9f\x98\x80", "\U0001f600"),
        (b"\xed\xa0\x80", "\ufffd" * 3),
    ],
    ids=["invalid-byte", "incomplete-character", "valid-character", "surrogate"],
)
def test_fault_44_invalid_utf_8_becomes_replacement_characters(open_stream, data, text):
    noise = [chunk(b": " + data + b"\n\n"), chunk(b"event: " + data + b"\ndata: {}\n\n")]
    byte_by_byte = [chunk(bytes([byte])) for byte in body("a?b").replace(b"?", data)]
    stream = open_stream([head(), *noise, *byte_by_byte, *REST])
    assert assert_completes(stream, f"a{text}b").status == "completed"


NOT_JSON_OBJECTS = {
    "open-object": "{",
    "open-array": '{"choices": [',
    "text": "nonsense",
    "array": "[1]",
    "number": "17",
    "two-objects": "{}{}",
    "open-string-of-100-kB": '{"a": "' + "x" * 100_000,
    "100000-open-arrays": "[" * 100_000,
}


@before_and_after_three_events
@pytest.mark.parametrize("text", NOT_JSON_OBJECTS.values(), ids=NOT_JSON_OBJECTS)
def test_fault_45_a_payload_that_is_not_a_json_object_raises_protocol_violation(open_stream, count, text):
    error = assert_fails(open_stream, [event(text), *REST], ProtocolViolation, count, retryable=False)
    assert len(str(error)) < 2500


def test_fault_45_payloads_that_are_not_json_objects_are_skipped_where_the_provider_allows_it(open_stream):
    broken = [event(text) for text in NOT_JSON_OBJECTS.values()]
    stream = open_stream([head(), *broken, *THREE, *broken, *REST], skip_undecodable=True)
    assert_completes(stream, text_of_first(3))
    assert stream.skipped == 2 * len(NOT_JSON_OBJECTS)


CHOICE = {"index": 0, "delta": {}, "finish_reason": None}
ERRORS: dict[str, tuple[Step, str | int | None, bool]] = {
    "error-object": (
        event({"error": {"message": "No.", "code": "context_length_exceeded"}}),
        "context_length_exceeded",
        False,
    ),
    "retryable-code": (
        event({"error": {"message": "No.", "code": "rate_limit_exceeded"}}),
        "rate_limit_exceeded",
        True,
    ),
    "number": (event({"error": {"message": "No.", "code": 502}}), 502, True),
    "number-as-text": (event({"error": {"message": "No.", "code": "429"}}), "429", True),
    "error-as-text": (event({"error": "No."}), None, False),
    "event-named-error": (event({"error": {"message": "No.", "type": "server_error"}}, name="error"), None, True),
    "event-named-error-without-json": (event("No.", name="error"), None, False),
    "fields-at-the-top-level": (event({"object": "error", "message": "No.", "code": 500}), 500, True),
    "detail": (event({"detail": "No."}), None, False),
    "inside-a-choice": (
        event({"choices": [{**CHOICE, "error": {"message": "No.", "code": 503}, "finish_reason": "error"}]}),
        503,
        True,
    ),
    "beside-choices": (event({"choices": [CHOICE], "error": {"message": "No.", "code": 400}}), 400, False),
}


@before_and_after_three_events
@pytest.mark.parametrize(("fault", "code", "retryable"), ERRORS.values(), ids=ERRORS)
def test_fault_46_an_error_of_any_shape_inside_the_stream_raises_provider_error(
    open_stream, count, fault, code, retryable
):
    script = [chunk(b": hello\n\n"), fault, done(), end()]
    error = assert_fails(open_stream, script, ProviderError, count, retryable=retryable)
    assert (error.message, error.code) == ("No.", code)


def test_fault_46_the_finish_reason_error_without_a_message_raises_provider_error(open_stream):
    error = assert_fails(open_stream, [finish("error"), *REST], ProviderError, 3, retryable=False)
    assert error.code == "error"


def test_fault_47_pings_unknown_events_and_empty_chunks_are_ignored(open_stream):
    noise = [
        event({"type": "ping"}, name="ping"),
        event("whatever", name="of another kind"),
        event({"choices": []}),
        event({"choices": None, "usage": None}),
        event({"choices": [{"index": 0, "delta": None, "finish_reason": ""}]}),
        event(""),
        chunk(b"id: 7\nretry: 10\n\n"),
    ]
    after_done = [event("{nonsense"), delta("more"), end()]
    stream = open_stream([head(), *noise, *THREE, *noise, finish(), *noise, done(), *after_done])
    assert assert_completes(stream, text_of_first(3)).status == "completed"


@before_and_after_three_events
def test_fault_48_a_stream_without_one_of_the_choices_requested_raises_stream_truncated(open_stream, count):
    started = [delta("other", choice=1)] if count else []
    stream = open_stream([head(), *THREE[:count], *started, finish(), end()], n=2, stream_max_retries=0)
    with pytest.raises(StreamTruncated, match="choice 1") as caught:
        list(stream)
    first, *others = caught.value.partial.choices
    assert (first.text, first.finish_reason) == (text_of_first(count), "stop")
    assert [choice.text for choice in others] == ["other"] * len(started)
    assert caught.value.retryable


def test_fault_49_a_function_call_cut_by_the_token_limit_is_incomplete(open_stream):
    fragment = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a": '}}
    chunk_with_call = event({"choices": [{"index": 0, "delta": {"tool_calls": [fragment]}}]})
    stream = open_stream([head(), chunk_with_call, finish("length"), done(), end()])
    (call,) = stream.collect().function_calls
    assert (call.name, call.arguments, call.status) == ("f", '{"a": ', "incomplete")


# ── leaving a stream early ──────────────────────────────────────────────────────────────────────────────────────

OPEN: Script = [head(), *THREE, stall()]


def test_fault_50_a_stream_can_be_closed_twice(open_stream):
    stream = open_stream(OPEN)
    assert next(stream) == Created("c1", "m1")
    stream.close()
    stream.close()
    with pytest.raises(StreamClosed):
        list(stream)
    assert open_stream.server.client_closed()


def test_fault_50_closing_a_stream_inside_its_loop_ends_the_loop(open_stream):
    stream = open_stream(OPEN)
    events = []
    for each in stream:
        events.append(each)
        if len(events) == 2:
            stream.close()
    assert text_of_first(3).startswith(text_of(events))  # events that arrived together with the first still come
    assert open_stream.server.client_closed()


def test_fault_50_breaking_out_of_the_loop_closes_the_connection(open_stream):
    for each in open_stream(OPEN):
        if isinstance(each, OutputTextDelta):
            break
    gc.collect()
    assert open_stream.server.client_closed()


def test_fault_50_leaving_the_with_block_closes_the_connection(open_stream):
    with open_stream(OPEN) as stream:
        assert next(stream.text()) == "one "
    assert open_stream.server.client_closed()


# ── around the library ──────────────────────────────────────────────────────────────────────────────────────────


def test_fault_51_ctrl_c_while_reading_closes_the_connection_and_keeps_the_turn(open_stream, interrupt):
    stream = open_stream(OPEN)
    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert stream.turn.text == text_of_first(3)
    assert open_stream.server.client_closed()


def test_fault_51_ctrl_c_while_waiting_for_headers_closes_the_connection(connect, serve, interrupt):
    server = serve([stall()])
    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        connect(server).stream("Hi")
    gc.collect()
    assert server.client_closed()


@pytest.mark.usefixtures("slow_backoff")
def test_fault_51_ctrl_c_ends_the_wait_before_a_retry(connect, serve, interrupt):
    server = serve(status(503))
    threading.Timer(0.3, interrupt).start()
    with within(0.5), pytest.raises(KeyboardInterrupt):
        connect(server).stream("Hi")
    assert len(server.requests) == 1


def echo(wire: Wire) -> None:
    """Answers with the text of the request's last message."""
    assert wire.request is not None
    for word in wire.request.json["messages"][-1]["content"].split():
        delta(word + " ")(wire)


FORKS = """
import os, sys
from chatstream import Client, Provider
from chatstream._http import reply

reply.DRAIN_SECONDS = 2.0  # connections are reused on a busy machine too
client = Client(Provider("test", sys.argv[1]), model="m1")
is_echoed = lambda text: client.stream(text).collect().text == text + " "
assert is_echoed("before the first fork")
for number in range(60):
    child = os.fork()
    if child == 0:
        os._exit(0 if is_echoed(f"child {number} " * 50 + "end") else 1)
    assert is_echoed(f"parent {number} " * 50 + "end")
    assert os.waitpid(child, 0)[1] == 0
client.close()
"""


def test_fault_52_parent_and_child_of_a_fork_get_their_own_answers(serve):
    server = serve([head(), echo, *REST])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", FORKS, server.url]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(server.requests) == 121
    assert server.connections == 61


def test_fault_53_thirty_two_threads_that_share_a_client_get_their_own_answers(connect, serve):
    client = connect(serve([head(), echo, *REST]))
    wrong = []

    def chat(number: int) -> None:
        for turn in range(10):
            text = f"thread {number} turn {turn} " * 20 + "end"
            if client.stream(text).collect().text != text + " ":
                wrong.append(text)

    run_threads(32, chat)
    assert wrong == []


def everything_in(error: BaseException) -> str:
    """The text, the attributes, the pickle and the traceback of an error and of its causes."""
    shown = [repr(error), str(error), repr(vars(error)), *traceback.format_exception(error)]
    if isinstance(error, ChatStreamError):
        shown.append(repr(pickle.dumps(error)))
    if request := getattr(error, "request", None):  # errors of requests carry one
        shown.append(repr(request.headers))
    causes = [cause for cause in (error.__cause__, error.__context__) if cause is not None]
    return "".join([*shown, *map(everything_in, causes)])


@pytest.mark.parametrize(
    "script",
    [
        OK,
        status(401, "no"),
        status(500, "no"),
        [cut()],
        [stall()],
        [send(b"x\r\n")],
        [head(), cut()],
        [head(), stall()],
    ],
    ids=["answer", "401", "500", "no-response", "no-headers", "not-http", "truncated", "silent"],
)
def test_fault_54_no_text_log_or_pickle_contains_the_key(connect, serve, caplog, script):
    caplog.set_level(logging.DEBUG)
    client = connect(serve(script), stream_idle_timeout=0.05)
    shown = [repr(client), repr(vars(client)), repr(pickle.dumps(client))]
    try:
        stream = client.stream("Hi")
        shown += [repr(stream), repr(vars(stream))]
        shown += [repr(stream.collect()), repr(stream.attempts), repr(stream.headers)]
    except ChatStreamError as error:
        shown.append(everything_in(error))
    assert KEY not in "".join(shown)
    assert KEY not in caplog.text


def test_fault_55_control_characters_in_the_text_are_kept_as_the_server_sent_them(open_stream):
    text = "\x1b[31mred\x1b]0;title\x07 \u202eback\u2066 line\rover"
    assert assert_completes(open_stream([head(), delta(text), *REST]), text).status == "completed"


def test_fault_57_jumps_of_the_wall_clock_do_not_affect_timeouts(open_stream, monkeypatch):
    real_time = time.time
    days = iter(range(1, 10_000))
    monkeypatch.setattr(time, "time", lambda: real_time() + next(days) * 86400 * (-1) ** next(days))
    with within(1.0, least=0.4):
        assert_fails(open_stream, [stall()], IdleTimeout, 0, retryable=True, stream_idle_timeout=0.2, deadline=30.0)
