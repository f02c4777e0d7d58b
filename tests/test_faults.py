"""The fault table: what a server can do wrong, and what the caller must get.

A test per row, numbered as in the design notes. Rows from 33 on are played over http and https, at once and after
three events: then nothing is tried again, and the three are kept.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import signal
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
from typing import Any

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
    OutputTextDelta,
    ProtocolViolation,
    Provider,
    ProviderError,
    QuotaExceeded,
    RetryInfo,
    RetryLimit,
    StreamTooLarge,
    StreamTruncated,
    UnexpectedStatus,
    _retry,
)
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
Ask = Callable[..., Any]
OK = text_answer("fine")


class Stop(Exception):
    """Raised by ``on_retry``, so that nobody waits."""


def refusal(client: Any, prompt: Any = "Hi", **fields: Any) -> Any:
    """What `stream` raises before there is a stream."""
    with pytest.raises(ChatStreamError) as caught:
        client.stream(prompt, **fields)
    return caught.value


def told(client_of: Callable[..., Any], *scripts: Script) -> RetryInfo:
    """What ``on_retry`` is told of the first retry."""
    infos: list[RetryInfo] = []

    def on_retry(info: RetryInfo) -> None:
        infos.append(info)
        raise Stop

    with pytest.raises(Stop):
        client_of(*scripts, on_retry=on_retry).stream("Hi")
    return infos[0]


@pytest.fixture
def client_of(serve: Any, connect: Any) -> Callable[..., Any]:
    """A client of a server with these scripts."""
    return lambda *scripts, **options: connect(serve(*scripts), **options)


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """The block allocates no more than so many bytes at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak:,} bytes"


def compressor(encoding: str) -> Callable[[bytes, int], bytes]:
    """Packs a text so many times."""
    if encoding == "br":
        brotli = pytest.importorskip("brotli")
        press = brotli.Compressor(quality=1)
        return lambda text, times: b"".join([*(press.process(text) for _ in range(times)), press.finish()])
    if encoding == "zstd":
        zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        press = zstd.ZstdCompressor()
    else:
        press = zlib.compressobj(9, wbits=31)
    return lambda text, times: b"".join([*(press.compress(text) for _ in range(times)), press.flush()])


# ── before there is an answer ───────────────────────────────────────────────────────────────────────────────────


def test_row_01_connection_refused(connect, refused_port):
    error = refusal(connect(f"http://127.0.0.1:{refused_port}/v1"))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert "refused" in str(error)


def test_row_01_name_does_not_resolve(connect, monkeypatch):
    def nobody(*args: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)  # a real one may take as long as the machine's resolver likes
    error = refusal(connect("https://nowhere.invalid/v1"))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert "nowhere.invalid" in str(error)
    assert "not known" in str(error)


def test_row_01_connect_timeout(connect, unanswered_port):
    with within(0.6, least=0.4):
        error = refusal(connect(f"http://127.0.0.1:{unanswered_port}/v1", connect_timeout=0.2))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)


def test_row_02_tls_handshake_never_answered(connect, serve, tls):
    server = serve([unread(), stall()], tls=tls)
    with within(0.7, least=0.4):
        error = refusal(connect(server, connect_timeout=0.2))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert server.connections == 2


def test_row_03_untrusted_certificate(connect, serve, tls):
    server = serve(OK, tls=tls)
    error = refusal(connect(server))
    assert (type(error), error.retryable, server.connections) == (ConnectionFailed, False, 1)
    assert "can't prove who it is" in str(error)


@pytest.mark.usefixtures("trusted")
def test_row_03_certificate_of_another_name(connect, serve, authority):
    server = serve(OK, tls=server_context(authority, "example.org"))
    error = refusal(connect(server))
    assert (type(error), error.retryable, server.connections) == (ConnectionFailed, False, 1)
    assert "127.0.0.1" in str(error)


def test_row_03_plain_http_behind_https(connect, serve):
    server = serve([unread(), send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), cut()])
    error = refusal(connect(server.url.replace("http:", "https:")))
    assert (type(error), error.retryable, server.connections) == (ConnectionFailed, False, 1)


def test_row_04_server_never_reads_the_request(client_of):
    with within(2.0, least=0.4):
        error = refusal(client_of([unread(), stall()], connect_timeout=0.2), "long " * 3_000_000)
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)


@pytest.mark.parametrize("script", [[cut()], [reset()], [unread(), cut()]], ids=["fin", "rst", "fin-unread"])
def test_row_05_gone_before_any_byte_on_a_fresh_connection(client_of, script):
    error = refusal(client_of(script))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("ending", [cut(), reset()], ids=["fin", "rst"])
def test_row_05_gone_before_any_byte_on_a_fresh_tls_connection(connect, serve, tls, ending):
    server = serve([ending], tls=tls)
    error = refusal(connect(server))
    assert (type(error), len(error.attempts), server.connections) == (ConnectionFailed, 2, 2)


@pytest.mark.parametrize("ending", [cut(), reset()], ids=["fin", "rst"])
def test_row_06_gone_before_any_byte_on_a_reused_connection(connect, serve, ending):
    server = serve(OK, [ending], OK)
    client = connect(server, request_max_retries=0)
    assert client.stream("Hi").collect().text == "fine"
    stream = client.stream("Hi")
    assert stream.collect().text == "fine"
    assert len(stream.attempts) == 1
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_row_06_a_connection_that_went_stale_in_the_pool(connect, serve):
    server = serve([*OK, cut()], OK)
    client = connect(server, request_max_retries=0)
    assert client.stream("Hi").collect().text == "fine"
    assert client.stream("Hi").collect().text == "fine"
    assert server.connections == 2


def test_row_07_no_headers_for_the_idle_time(client_of):
    client = client_of([stall()], stream_idle_timeout=0.2)
    with within(0.5, least=0.4):
        error = refusal(client)
    assert (type(error), error.retryable, len(error.attempts)) == (IdleTimeout, True, 2)


@pytest.mark.parametrize(
    "fault",
    [
        [send(b"HTTP/1.1 200 OK\r\n"), drip(b"X-Word: " + b"a" * 1000, every=0.02)],
        [forever(send(b"HTTP/1.1 100 Continue\r\n\r\n"), pause(0.01))],
        [forever(send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100))],
    ],
    ids=["drip", "continue", "continue-at-full-speed"],
)
def test_row_08_headers_without_an_end(client_of, fault):
    with within(0.4, least=0.3):
        error = refusal(client_of(fault, deadline=0.3))
    assert (type(error), len(error.attempts)) == (DeadlineExceeded, 1)


@pytest.mark.parametrize(
    "words",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["garbage", "http2", "half-a-status-line", "101-headers", "70-kB-header", "bare-103", "bare-101"],
)
def test_row_09_not_http(client_of, words):
    error = refusal(client_of([send(words), cut()]))
    assert (type(error), error.retryable, len(error.attempts)) == (ProtocolViolation, False, 1)


@pytest.mark.parametrize("more", [b"", b"Content-Ty", b"Transfer-Encoding: chunked\r\n"])
def test_row_10_fin_inside_the_headers(client_of, more):
    stream = client_of([send(b"HTTP/1.1 200 OK\r\n" + more), cut()]).stream("Hi")
    with pytest.raises(StreamTruncated) as caught:
        list(stream)
    assert (caught.value.retryable, len(caught.value.attempts)) == (True, 2)


# ── redirects ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_row_11_redirect_to_another_host_or_port(connect, serve, code, host):
    other = serve(OK)
    error = refusal(connect(serve(redirect(f"http://{host}:{other.port}/v1/chat/completions", code))))
    assert (type(error), error.status, error.retryable) == (UnexpectedStatus, code, False)
    assert f"{host}:{other.port}" in str(error)
    assert (other.connections, len(error.attempts)) == (0, 1)


@pytest.mark.parametrize("code", [307, 308])
def test_row_12_redirect_on_the_same_origin_is_followed_once(connect, serve, code):
    server = serve(redirect("/v2/chat", code), OK)
    stream = connect(server).stream("Hi")
    assert stream.collect().text == "fine"
    first, second = server.requests
    assert (second.method, second.path, second.body) == ("POST", "/v2/chat", first.body)
    assert second.headers["Authorization"] == f"Bearer {KEY}"
    assert len(stream.attempts) == 1


def test_row_12_and_waited_for_as_long_as_any_other(connect, serve):
    server = serve(redirect("/v2/chat"), [stall()])
    with within(0.6, least=0.4):
        error = refusal(connect(server, stream_idle_timeout=0.4, request_max_retries=0))
    assert type(error) is IdleTimeout


def test_row_12_but_not_twice(connect, serve):
    server = serve(redirect("/elsewhere", 307))
    assert refusal(connect(server)).status == 307
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [301, 302, 303])
def test_row_12_and_never_as_a_get(connect, serve, code):
    server = serve(redirect("/elsewhere", code))
    assert refusal(connect(server)).status == code
    assert [request.method for request in server.requests] == ["POST"]


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_row_13_refused_for_good(client_of, code):
    body = {"error": {"message": "No such thing.", "code": "nope"}}
    error = refusal(client_of(status(code, body, {"X-Request-Id": "req_7"})))
    assert (type(error), error.status, error.message, error.code) == (UnexpectedStatus, code, "No such thing.", "nope")
    assert (json.loads(error.body), error.request_id, error.retryable, len(error.attempts)) == (body, "req_7", False, 1)


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 504, 529])
def test_row_14_refused_for_now(client_of, code):
    error = refusal(client_of(status(code, "later"), request_max_retries=2))
    assert (type(error), error.status, error.body, error.retryable) == (RetryLimit, code, "later", True)
    assert [attempt.status for attempt in error.attempts] == [code] * 3


def test_row_14_and_then_answered(client_of):
    stream = client_of(status(503), status(429), OK, request_max_retries=2).stream("Hi")
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
)
def test_row_15_retry_after_says_how_long(client_of, headers, seconds):
    assert told(client_of, status(429, headers=headers)).delay == seconds


def test_row_15_and_that_long_is_waited(client_of):
    stream = None
    with within(0.5, least=0.05):
        stream = client_of(status(429, headers={"Retry-After": "0.05"}), OK).stream("Hi")
    assert stream.collect().text == "fine"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [("61", 61.0), ("9" * 30, 1e30), ("inf", None), ("9" * 400, None), ("Fri, 31 Dec 99999 23:59:59 GMT", None)],
)
def test_row_16_a_wait_too_long_to_sleep(client_of, asked, kept):
    error = refusal(client_of(status(429, headers={"Retry-After": asked})))
    assert (type(error), error.retry_after, len(error.attempts)) == (UnexpectedStatus, kept, 1)


def test_row_16_until_the_year_2099(client_of):
    error = refusal(client_of(status(503, headers={"Retry-After": "Thu, 31 Dec 2099 23:59:59 GMT"})))
    assert error.retry_after > 1e9
    assert len(error.attempts) == 1


@pytest.mark.parametrize("asked", ["-5", "nan", "Fri, 31 Dec 1999 23:59:59 GMT", "abc", "", "1e3", "0x10"])
def test_row_17_a_wait_that_makes_no_sense(client_of, asked):
    assert told(client_of, status(429, headers={"Retry-After": asked})).delay < 0.01


def test_row_17_nor_in_digits_of_another_script(client_of):
    answer = "HTTP/1.1 429 No\r\nRetry-After: ٣\r\nContent-Length: 0\r\n\r\n".encode()
    assert told(client_of, [send(answer)]).delay < 0.01


def test_row_18_milliseconds_before_seconds(client_of):
    assert told(client_of, status(429, headers={"retry-after-ms": "50", "Retry-After": "30"})).delay == 0.05


def test_row_19_the_server_says_whether_to_try_again(client_of):
    never = refusal(client_of(status(500, headers={"x-should-retry": "false"})))
    assert (type(never), len(never.attempts)) == (UnexpectedStatus, 1)
    again = refusal(client_of(status(400, headers={"x-should-retry": "true"})))
    assert (type(again), len(again.attempts)) == (RetryLimit, 2)


def test_row_20_nothing_left_to_spend(client_of):
    body = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    error = refusal(client_of(status(429, body)))
    assert (type(error), error.retryable, len(error.attempts)) == (QuotaExceeded, False, 1)
    assert json.loads(error.body) == body


@pytest.mark.parametrize("code", [400, 422])
def test_row_21_usage_is_not_known_here(connect, serve, code):
    server = serve(status(code, {"detail": "extra field: stream_options"}), OK)
    client = connect(server, request_max_retries=0)
    for _ in range(2):
        assert client.stream("Hi").collect().text == "fine"
    assert ["stream_options" in request.json for request in server.requests] == [True, False, False]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_row_22_the_body_of_a_refusal_is_a_bomb(client_of, encoding):
    data = compressor(encoding)(b"\0" * 2**20, 200)
    script = [head(400, {"Content-Encoding": encoding}, framing=len(data)), send(data)]
    client = client_of(script)
    with within(1.0), memory_below(4_000_000):
        error = refusal(client)
    assert (type(error), len(error.body)) == (UnexpectedStatus, 2**16)


@pytest.mark.parametrize(
    "body",
    [forever(chunk(b"no " * 1000)), forever(chunk(b"no "), pause(0.01)), stall()],
    ids=["flood", "drip", "silence"],
)
def test_row_22_the_body_of_a_refusal_has_no_end(client_of, body):
    client = client_of([head(400), chunk(b"no "), body])
    with within(1.0), memory_below(4_000_000):
        error = refusal(client)
    assert type(error) is UnexpectedStatus
    assert 2**16 >= len(error.body) >= 3


# ── 200, but no stream ──────────────────────────────────────────────────────────────────────────────────────────


def answer(body: str, kind: str = "application/json", code: int = 200) -> Script:
    return status(code, body, {"Content-Type": kind})


def test_row_23_a_whole_completion(client_of):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "id": "c1",
        "model": "m1",
        "choices": [
            {"index": 0, "message": {"content": "fine", "tool_calls": [call]}, "finish_reason": "tool_calls"},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    stream = client_of(answer(json.dumps(body))).stream("Hi")
    created, text, _, item, completed = stream
    assert (created, text) == (Created("c1", "m1"), OutputTextDelta("fine"))
    assert (item.item.name, item.item.call_id) == ("f", "call_1")
    assert (completed.finish_reason, completed.token_usage.total_tokens) == ("tool_calls", 3)


def test_row_24_a_json_error(client_of):
    stream = client_of(answer('{"error": {"message": "No.", "code": 7}}')).stream("Hi")
    with pytest.raises(ProviderError) as caught:
        list(stream)
    assert (caught.value.message, caught.value.code, len(caught.value.attempts)) == ("No.", 7, 1)


def test_row_24_an_html_page(client_of):
    stream = client_of(answer("<html><h1>Welcome</h1></html>", "text/html")).stream("Hi")
    with pytest.raises(ProtocolViolation, match=r"base URL.*Welcome") as caught:
        list(stream)
    assert len(caught.value.attempts) == 1


def test_row_24_an_empty_body(client_of):
    stream = client_of(answer("")).stream("Hi")
    with pytest.raises(StreamTruncated) as caught:
        list(stream)
    assert len(caught.value.attempts) == 2


def test_row_24_no_content(client_of):
    error = refusal(client_of([send(b"HTTP/1.1 204 No Content\r\n\r\n")]))
    assert (type(error), len(error.attempts)) == (ProtocolViolation, 1)


# ── secrets and surroundings ────────────────────────────────────────────────────────────────────────────────────


def test_row_25_cookies_are_not_sent_back(connect, serve):
    server = serve([head(headers={"Set-Cookie": "a=b; Path=/"}), *THREE, *REST])
    client = connect(server)
    client.stream("Hi").collect()
    client.stream("Hi").collect()
    assert [request.headers["Cookie"] for request in server.requests] == [None, None]


WRONG_KEYS = ["sk-Zq7\nkey", "sk-Zq7\0key", "sk-\u2019Zq7", "sk Zq7 key", b"sk-Zq7"]


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_row_26_a_key_that_no_header_can_carry(key):
    with pytest.raises(ConfigError) as caught:
        Provider("test", "http://127.0.0.1/v1", api_key=key)
    assert "Zq7" not in "".join(traceback.format_exception(caught.value))


def test_row_26_nor_from_the_environment(connect, serve, monkeypatch):
    server = serve(OK)
    monkeypatch.setenv("TEST_KEY", "sk-Zq7\nkey")
    error = refusal(connect(server, api_key=None, env_key="TEST_KEY"))
    assert type(error) is ConfigError
    assert "Zq7" not in "".join(traceback.format_exception(error))
    assert server.connections == 0


@pytest.mark.parametrize("key", [KEY, None])
def test_row_27_a_netrc_takes_no_part(connect, serve, monkeypatch, tmp_path, key):
    (tmp_path / "own").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "own"))
    server = serve(OK)
    connect(server, api_key=key).stream("Hi").collect()
    assert server.requests[0].headers["Authorization"] == (f"Bearer {key}" if key else None)


def test_row_27_a_password_in_the_url():
    with pytest.raises(ConfigError) as caught:
        Provider("test", "http://me:secret@127.0.0.1/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_row_28_a_proxy_that_is_dead(connect, monkeypatch, scheme, refused_port):
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{refused_port}")
    error = refusal(connect(f"{scheme}://api.invalid/v1", api_key=None))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, True, 2)
    assert "secret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_row_28_a_proxy_that_wants_another_password(connect, serve, monkeypatch, scheme):
    proxy = serve(status(407, "who are you?", {"Proxy-Authenticate": "Basic"}))
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
    error = refusal(connect(f"{scheme}://api.invalid/v1", api_key=None))
    assert (type(error), error.retryable, len(error.attempts)) == (ConnectionFailed, False, 1)
    assert "407" in str(error)
    assert "secret" not in "".join(traceback.format_exception(error))


def test_row_29_certificates_in_no_file(connect, serve, tls, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    error = refusal(connect(serve(OK, tls=tls)))
    assert (type(error), len(error.attempts)) == (ConfigError, 0)


@pytest.mark.parametrize("url", ["127.0.0.1/v1", "http://", "http://a b/", "http://h:99999/", f"http://{'a' * 64}.de/"])
def test_row_29_urls_that_are_none(url):
    with pytest.raises(ConfigError):
        Provider("test", url)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "30"}])
def test_row_30_no_time_left_for_another_try(client_of, monkeypatch, headers):
    monkeypatch.setattr(_retry, "FIRST_DELAY", 5.0)
    monkeypatch.setattr(_retry, "MAX_DELAY", 5.0)
    with within(0.3):
        error = refusal(client_of(status(503, "busy", headers), deadline=1.0))
    assert (type(error), len(error.attempts)) == (DeadlineExceeded, 1)
    assert isinstance(error.__cause__, UnexpectedStatus)


def test_row_31_a_hundred_failures_in_a_row(connect, serve):
    server = serve(status(503))
    client = connect(server, request_max_retries=4)

    def ten() -> None:
        for _ in range(10):
            assert type(refusal(client)) is RetryLimit

    threads = [threading.Thread(target=ten) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 100 <= len(server.requests) <= 150


# ── what follows is played over http and https ──────────────────────────────────────────────────────────────────


@pytest.fixture(params=["http", "https"])
def ask(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Iterator[Any]:
    """Opens a stream to a server with these scripts; ``ask.server`` is the server."""
    options = {}
    if request.param == "https":
        request.getfixturevalue("trusted")
        options["tls"] = request.getfixturevalue("tls")
    streams = []

    def asked(*scripts: Script, n: int | None = None, heartbeat: float | None = None, **more: Any) -> Any:
        asked.server = serve(*scripts, **options)  # type: ignore[attr-defined]
        fields = {} if n is None else {"n": n}
        streams.append(connect(asked.server, **more).stream("Hi", heartbeat=heartbeat, **fields))  # type: ignore[attr-defined]
        return streams[-1]

    yield asked
    for stream in streams:
        stream.close()


at_once_and_after_three = pytest.mark.parametrize("before", [0, 3], ids=["at-once", "after-three"])


def said(count: int) -> str:
    return "".join(WORDS[:count])


def read_until_it_breaks(stream: Any) -> tuple[list[Any], Any]:
    """The events before the error, and the error."""
    seen = []
    try:
        for each in stream:
            seen.append(each)
    except ChatStreamError as error:
        return seen, error
    raise AssertionError("it did not break")


def breaks(ask: Any, fault: Script, error: type, before: int, *, again: bool, **options: Any) -> Any:
    """The stream ends in this error with what came before it, and is tried ``again`` only if nothing had come.

    With a head of its own (``begin``) the fault brings that along itself, if it is ``packed``.
    """
    begin, packed = options.pop("begin", head()), options.pop("packed", False)
    stream = ask([begin, *([] if packed else THREE[:before]), *fault], **options)
    seen, caught = read_until_it_breaks(stream)
    assert type(caught) is error, caught
    assert text_of(seen) == caught.partial.text == stream.turn.text == said(before)
    assert caught.partial.status == "incomplete"
    assert len(stream.attempts) == (2 if again and not before else 1)
    assert caught.attempts == stream.attempts
    assert caught.retryable is again
    return caught


# ── cancel: where a stream can wait, it has begun once and broken, so that it is begun again ────────────────────

BROKEN: Script = [head(), chunk(b": hello\n\n"), pause(0.02), cut()]


def test_row_32_cancel_while_connecting(connect):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as crowd:

        def answer_once() -> None:
            with listener.accept()[0] as sock:
                for _ in range(4):
                    other = crowd.enter_context(socket.socket())
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


def test_row_32_cancel_in_the_handshake(ask):
    error = cancelled(ask(BROKEN, [unread(), stall()]))
    assert [attempt.status for attempt in error.attempts] == [200, None]


def test_row_32_cancel_while_waiting_for_headers(ask):
    error = cancelled(ask(BROKEN, [stall()]))
    assert [attempt.status for attempt in error.attempts] == [200, None]


def test_row_32_cancel_in_the_backoff(ask, monkeypatch):
    monkeypatch.setattr(_retry, "FIRST_DELAY", 5.0)
    monkeypatch.setattr(_retry, "MAX_DELAY", 5.0)
    error = cancelled(ask(BROKEN, OK))
    assert [attempt.status for attempt in error.attempts] == [200]


@pytest.mark.parametrize("framing", ["chunked", "close"])
@at_once_and_after_three
def test_row_32_cancel_while_reading(ask, before, framing):
    error = cancelled(ask([head(framing=framing), *THREE[:before], stall()]))
    assert error.partial.text == said(before)
    assert ask.server.client_closed()


def test_row_32_cancel_before_reading(ask):
    stream = ask(OK)
    stream.cancel()
    with pytest.raises(Cancelled):
        list(stream)


def test_row_32_cancel_after_reading(ask):
    stream = ask(OK)
    list(stream)
    stream.cancel()
    stream.cancel()
    assert list(stream) == []
    assert stream.turn.text == "fine"


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────


@at_once_and_after_three
def test_row_33_only_comments_then_fin(ask, before):
    breaks(ask, [chunk(b": one\n\n"), chunk(b":\n"), end()], StreamTruncated, before, again=True)


@at_once_and_after_three
@pytest.mark.parametrize(
    "fault",
    [
        [forever(chunk(b": ping\n\n"), pause(0.01))],
        [stall()],
        [drip(b"100\r\n" + b"data: {" + b" " * 100, every=0.02)],
        [drip(b"0" * 100, every=0.02)],
        [chunk(b"data: {"), forever(chunk(b" "), pause(0.01))],
    ],
    ids=["comments", "silence", "drip", "drip-in-the-chunk-size", "half-an-event"],
)
def test_row_34_nothing_comes_to_an_end(ask, fault, before):
    with within(0.55, least=0.4):
        breaks(ask, fault, IdleTimeout, before, again=True, stream_idle_timeout=0.4 if before else 0.2)


def test_row_34_comments_are_life_if_the_provider_says_so(ask):
    comments = [each for _ in range(8) for each in (chunk(b": ping\n\n"), pause(0.1))]
    stream = ask([head(), *comments, *THREE, *REST], keepalive_resets_idle=True, stream_idle_timeout=0.5)
    assert stream.collect().text == said(3)


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────


def completes(stream: Any, text: str, most: float = 0.08) -> Completed:
    """The stream says the text and completes, and takes at most so many more seconds after it."""
    seen = []
    with SchedulingDelay() as scheduling_delay:
        for each in stream:
            seen.append(each)
            last = time.monotonic()
        took = time.monotonic() - last
    assert took <= most + scheduling_delay.seconds
    assert text_of(seen) == stream.turn.text == text
    assert isinstance(seen[0], Created)
    assert [type(each) for each in seen].count(Completed) == 1
    assert isinstance(seen[-1], Completed)
    return seen[-1]


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
def test_row_35_no_end_after_done(ask, fault):
    stream = ask([head(), *THREE, finish(), done(), *fault], OK)
    assert completes(stream, said(3), most=0.12).status == "completed"
    assert ask.server.client_closed()


@pytest.mark.usefixtures("default_drain_time")
def test_row_36_the_terminator_comes_late(ask):
    stream = ask([head(), *THREE, finish(), done(), pause(0.02), end()])
    assert completes(stream, said(3), most=0.12).status == "completed"
    assert not ask.server.client_closed(within=0.05)


def test_row_36_and_the_connection_is_used_again(connect, serve):
    server = serve([head(), *THREE, finish(), done(), pause(0.02), end()])
    client = connect(server)
    for _ in range(3):
        client.stream("Hi").collect()
    assert server.connections == 1


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data:DONE\r\n"])
@pytest.mark.parametrize("finished", [[], [finish()]], ids=["", "finished"])
def test_row_37_done_without_its_blank_line(ask, framing, last, finished):
    stream = ask([head(framing=framing), *THREE, *finished, chunk(last), end()])
    assert completes(stream, said(3)).status == ("completed" if finished else "unconfirmed")


def test_row_38_finished_without_done(ask):
    assert completes(ask([head(), *THREE, finish("stop"), end()]), said(3)).finish_reason == "stop"


@pytest.mark.usefixtures("default_drain_time")
@pytest.mark.parametrize("more", [[stall()], [forever(chunk(b": ping\n\n"), pause(0.01))]], ids=["silence", "comments"])
def test_row_39_finished_and_then_silent(ask, more):
    with within(0.45, least=0.2):
        stream = ask([head(), *THREE, finish("stop"), *more], finish_grace=0.2)
        assert completes(stream, said(3), most=0.12).finish_reason == "stop"


HALF = b'data: {"choices": [{"index": 0, "delta": {"content": "fo'
CUTS = {
    "chunked-end": ("chunked", [end()]),
    "chunked-fin": ("chunked", [cut()]),
    "chunked-fin-in-the-size": ("chunked", [send(b"ff"), cut()]),
    "chunked-fin-in-a-chunk": ("chunked", [send(b"ff\r\n" + HALF), cut()]),
    "chunked-fin-behind-a-chunk": ("chunked", [send(b"3\r\n:\n\n"), cut()]),
    "chunked-fin-half-an-event": ("chunked", [chunk(HALF), cut()]),
    "chunked-end-half-an-event": ("chunked", [chunk(HALF), end()]),
    "chunked-rst": ("chunked", [pause(0.02), reset()]),
    "close-end": ("close", [end()]),
    "close-fin": ("close", [cut()]),
    "close-end-half-an-event": ("close", [chunk(HALF), end()]),
    "close-rst-half-an-event": ("close", [chunk(HALF), pause(0.02), reset()]),
    "length-fin": (100_000, [cut()]),
    "length-fin-half-an-event": (100_000, [chunk(HALF), cut()]),
    "length-rst": (100_000, [pause(0.02), reset()]),
}


@at_once_and_after_three
@pytest.mark.parametrize(("framing", "fault"), CUTS.values(), ids=CUTS)
def test_row_40_cut_without_a_finish_reason(ask, before, framing, fault):
    breaks(ask, fault, StreamTruncated, before, again=True, begin=head(framing=framing))


@at_once_and_after_three
def test_row_40_a_length_that_is_too_short(ask, before):
    size = sum(len(body(word)) for word in WORDS[:before]) + 10
    fault = [delta("four "), *REST]
    error = breaks(ask, fault, StreamTruncated, before, again=True, begin=head(framing=size))
    assert {attempt.status for attempt in error.attempts} == {200}


def zipped(words: list[str]) -> tuple[Any, Script]:
    """A compressor, and a chunk per word that it has packed and flushed."""
    press = zlib.compressobj(wbits=31)
    return press, [chunk(press.compress(body(word)) + press.flush(zlib.Z_SYNC_FLUSH)) for word in words]


ZIPPED = head(headers={"Content-Encoding": "gzip"})


@at_once_and_after_three
def test_row_40_gzip_cut_short(ask, before):
    press, packed = zipped(WORDS[:before])
    rest = press.compress(body("four ")) + press.flush()
    breaks(ask, [*packed, chunk(rest[:9]), end()], StreamTruncated, before, again=True, begin=ZIPPED, packed=True)


@at_once_and_after_three
@pytest.mark.parametrize("size", [b"xyz", b"-5", b"-0x5", b"%x" % 2**71, b"", b"5" * 70_000])
def test_row_41_a_chunk_size_that_is_none(ask, before, size):
    breaks(ask, [send(size + b"\r\n" + b"abc\r\n"), stall()], ProtocolViolation, before, again=False)


@at_once_and_after_three
def test_row_41_no_line_end_behind_a_chunk(ask, before):
    breaks(ask, [send(b"3\r\n: \nmore than three\r\n"), stall()], ProtocolViolation, before, again=False)


def test_row_41_an_encoding_below_the_chunks(connect, serve):
    error = refusal(connect(serve([head(headers={"Transfer-Encoding": "gzip, chunked"}), *THREE, *REST])))
    assert (type(error), len(error.attempts)) == (ProtocolViolation, 1)


@at_once_and_after_three
def test_row_41_plain_text_behind_a_gzip_header(ask, before):
    _, packed = zipped(WORDS[:before])
    fault = [*packed, pause(0.03), chunk(b"data: plain text, and more of it\n\n" * 9), stall()]
    breaks(ask, fault, ProtocolViolation, before, again=False, begin=ZIPPED, packed=True)


ENCODINGS = ["gzip", "deflate", "br", "zstd"]


def packer(encoding: str) -> Callable[[bytes], bytes]:
    """Packs and flushes a piece of one stream at a time."""
    if encoding == "br":
        brotli = pytest.importorskip("brotli").Compressor()
        return lambda data: brotli.process(data) + brotli.flush()
    if encoding == "zstd":
        zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        press = zstd.ZstdCompressor()
        return lambda data: press.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)
    flate = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    return lambda data: flate.compress(data) + flate.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_row_42_packed_and_flushed_event_by_event(ask, encoding, framing):
    pack = packer(encoding)
    sent: list[float] = []

    def note(wire: Wire) -> None:
        sent.append(time.monotonic())

    words = [step for word in WORDS for step in (note, chunk(pack(body(word))), pause(0.1))]
    rest = [chunk(pack(b'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')), end()]
    stream = ask([head(headers={"Content-Encoding": encoding}, framing=framing), *words, *rest])
    assert encoding in ask.server.requests[0].headers["Accept-Encoding"]
    with SchedulingDelay() as scheduling_delay:
        seen = [(time.monotonic(), each.delta) for each in stream if isinstance(each, OutputTextDelta)]
    assert [delta for _, delta in seen] == WORDS
    late = 0.05 + scheduling_delay.seconds
    assert all(came - went < late for (came, _), went in zip(seen, sent, strict=True))


MEBIBYTE = 2**20
TOO_LARGE: dict[str, list[bytes]] = {
    "bomb": [b"data: " + b"x" * MEBIBYTE, *[b"x" * MEBIBYTE] * 99],
    "bomb-of-blanks": [b" " * MEBIBYTE] * 20,
    "line": [b"data: " + b"x" * 1000] * 2000,
    "comment": [b": " + b"x" * MEBIBYTE] * 4,
    "event": [b"data: " + b"x" * 1000 + b"\n"] * 2000,
    "lines": [b"data:\n" * 100] * 1000,
    "fields": [b"x:\n" * 100] * 1000,
}


@at_once_and_after_three
@pytest.mark.parametrize("pieces", TOO_LARGE.values(), ids=TOO_LARGE)
def test_row_43_more_than_anybody_wants(ask, before, pieces):
    press, packed = zipped(WORDS[:before])
    flood = chunk(b"".join([*(press.compress(piece) for piece in pieces), press.flush()]))
    with memory_below(4 * MEBIBYTE):
        breaks(
            ask, [*packed, pause(0.03), flood, end()], StreamTooLarge, before, again=False, begin=ZIPPED, packed=True
        )


def test_row_43_a_stream_without_an_end(ask):
    stream = ask([head(), *THREE, forever(chunk(b": ping\n\n" * 1000))], limits=Limits(stream_bytes=MEBIBYTE))
    with memory_below(4 * MEBIBYTE), pytest.raises(StreamTooLarge) as caught:
        list(stream)
    assert caught.value.partial.text == said(3)
    assert ask.server.client_closed()


@pytest.mark.parametrize(
    ("strange", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"\xe2\x82", "\ufffd"),
        (b"\xf0\x9f\x98\x80", "\U0001f600"),
        (b"\xed\xa0\x80", "\ufffd" * 3),
    ],
)
def test_row_44_text_that_is_not_utf_8(ask, strange, text):
    noise = [chunk(b": " + strange + b"\n\n"), chunk(b"event: " + strange + b"\ndata: {}\n\n")]
    split = [step for byte in body("a?b").replace(b"?", strange) for step in (chunk(bytes([byte])),)]
    assert completes(ask([head(), *noise, *split, *REST]), f"a{text}b").status == "completed"


BAD_JSON = ["{", '{"choices": [', "nonsense", "[1]", "17", "{}{}", '{"a": "' + "x" * 100_000, "[" * 100_000]


@at_once_and_after_three
@pytest.mark.parametrize("text", BAD_JSON, ids=lambda text: text[:9])
def test_row_45_broken_json(ask, before, text):
    error = breaks(ask, [event(text), *REST], ProtocolViolation, before, again=False)
    assert len(str(error)) < 2500


def test_row_45_is_skipped_if_asked(ask):
    broken = [event(text) for text in BAD_JSON]
    stream = ask([head(), *broken, *THREE, *broken, *REST], skip_undecodable=True)
    completes(stream, said(3))
    assert stream.skipped == 2 * len(BAD_JSON)


CHOICE = {"index": 0, "delta": {}, "finish_reason": None}
ERRORS: dict[str, tuple[Step, str | int | None, bool]] = {
    "object": (
        event({"error": {"message": "No.", "code": "context_length_exceeded"}}),
        "context_length_exceeded",
        False,
    ),
    "rate limit": (event({"error": {"message": "No.", "code": "rate_limit_exceeded"}}), "rate_limit_exceeded", True),
    "number": (event({"error": {"message": "No.", "code": 502}}), 502, True),
    "number as text": (event({"error": {"message": "No.", "code": "429"}}), "429", True),
    "text": (event({"error": "No."}), None, False),
    "named": (event({"error": {"message": "No.", "type": "server_error"}}, name="error"), None, True),
    "named, not JSON": (event("No.", name="error"), None, False),
    "flat": (event({"object": "error", "message": "No.", "code": 500}), 500, True),
    "detail": (event({"detail": "No."}), None, False),
    "in the choice": (
        event({"choices": [{**CHOICE, "error": {"message": "No.", "code": 503}, "finish_reason": "error"}]}),
        503,
        True,
    ),
    "beside choices": (event({"choices": [CHOICE], "error": {"message": "No.", "code": 400}}), 400, False),
}


@at_once_and_after_three
@pytest.mark.parametrize(("fault", "code", "passing"), ERRORS.values(), ids=ERRORS)
def test_row_46_errors_of_every_shape(ask, before, fault, code, passing):
    error = breaks(ask, [chunk(b": hello\n\n"), fault, done(), end()], ProviderError, before, again=passing)
    assert (error.message, error.code) == ("No.", code)


def test_row_46_an_end_by_error_without_a_word(ask):
    error = breaks(ask, [finish("error"), *REST], ProviderError, 3, again=False)
    assert error.code == "error"


def test_row_47_what_means_nothing_is_ignored(ask):
    noise = [
        event({"type": "ping"}, name="ping"),
        event("whatever", name="of another kind"),
        event({"choices": []}),
        event({"choices": None, "usage": None}),
        event({"choices": [{"index": 0, "delta": None, "finish_reason": ""}]}),
        event(""),
        chunk(b"id: 7\nretry: 10\n\n"),
    ]
    stream = ask([head(), *noise, *THREE, *noise, finish(), *noise, done(), event("{nonsense"), delta("more"), end()])
    assert completes(stream, said(3)).status == "completed"


@at_once_and_after_three
def test_row_48_one_choice_of_two_is_missing(ask, before):
    started = [delta("other", choice=1)] if before else []
    stream = ask([head(), *THREE[:before], *started, finish(), end()], n=2, stream_max_retries=0)
    with pytest.raises(StreamTruncated, match="choice 1") as caught:
        list(stream)
    first, *others = caught.value.partial.choices
    assert (first.text, first.finish_reason) == (said(before), "stop")
    assert [choice.text for choice in others] == ["other"] * len(started)
    assert caught.value.retryable


def test_row_49_a_call_cut_by_length(ask):
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a": '}}
    stream = ask(
        [head(), event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}), finish("length"), done(), end()]
    )
    (call,) = stream.collect().function_calls
    assert (call.name, call.arguments, call.status) == ("f", '{"a": ', "incomplete")


# ── letting go ──────────────────────────────────────────────────────────────────────────────────────────────────

OPEN: Script = [head(), *THREE, stall()]


def test_row_50_closing_twice(ask):
    stream = ask(OPEN)
    assert next(stream) == Created("c1", "m1")
    stream.close()
    stream.close()
    assert list(stream) == []
    assert ask.server.client_closed()


def test_row_50_closing_while_iterating(ask):
    stream = ask(OPEN)
    seen = []
    for each in stream:
        seen.append(each)
        if len(seen) == 2:
            stream.close()
    assert said(3).startswith(text_of(seen))  # what had come along with the first is not taken back
    assert ask.server.client_closed()


def test_row_50_breaking_out(ask):
    for each in ask(OPEN):
        if isinstance(each, OutputTextDelta):
            break
    gc.collect()
    assert ask.server.client_closed()


def test_row_50_leaving_its_block(ask):
    with ask(OPEN) as stream:
        assert next(stream.text()) == "one "
    assert ask.server.client_closed()


# ── around the library ──────────────────────────────────────────────────────────────────────────────────────────


def interrupt_after(seconds: float) -> threading.Timer:
    """Ctrl-C for the main thread, after so many seconds."""
    timer = threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    return timer


def test_row_51_ctrl_c_while_reading(ask):
    stream = ask([head(), *THREE, stall()])
    interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert stream.turn.text == said(3)
    assert ask.server.client_closed()


def test_row_51_ctrl_c_while_waiting_for_headers(connect, serve):
    server = serve([stall()])
    interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt):
        connect(server).stream("Hi")
    gc.collect()
    assert server.client_closed()


def test_row_51_ctrl_c_in_the_backoff(connect, serve, monkeypatch):
    monkeypatch.setattr(_retry, "FIRST_DELAY", 5.0)
    monkeypatch.setattr(_retry, "MAX_DELAY", 5.0)
    server = serve(status(503))
    interrupt_after(0.3)
    with within(0.5), pytest.raises(KeyboardInterrupt):
        connect(server).stream("Hi")
    assert len(server.requests) == 1


def echo(wire: Wire) -> None:
    """Answers with the words that it was asked."""
    assert wire.request is not None
    for word in wire.request.json["messages"][-1]["content"].split():
        delta(word + " ")(wire)


FORKS = """
import os, sys
from chatstream import Client, Provider
from chatstream._http import transport

transport.DRAIN_SECONDS = 2.0  # however busy the machine is, connections are used again
client = Client(Provider("test", sys.argv[1]), model="m1")
ask = lambda words: client.stream(words).collect().text == words + " "
assert ask("before the first fork")
for number in range(60):
    child = os.fork()
    if child == 0:
        os._exit(0 if ask(f"child {number} " * 50 + "end") else 1)
    assert ask(f"parent {number} " * 50 + "end")
    assert os.waitpid(child, 0)[1] == 0
client.close()
"""


def test_row_52_both_sides_of_a_fork_get_their_own_answers(serve):
    server = serve([head(), echo, *REST])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", FORKS, server.url]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(server.requests) == 121
    assert server.connections == 61


def test_row_53_thirty_two_threads_on_one_client(connect, serve):
    client = connect(serve([head(), echo, *REST]))
    wrong = []

    def chat(number: int) -> None:
        for turn in range(10):
            words = f"thread {number} turn {turn} " * 20 + "end"
            if client.stream(words).collect().text != words + " ":
                wrong.append(words)

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def traces(error: BaseException) -> str:
    """All that can be seen of an error: its text, its attributes, its pickle, its traceback, and so for its causes."""
    shown = [repr(error), str(error), repr(vars(error)), *traceback.format_exception(error)]
    if isinstance(error, ChatStreamError):
        shown.append(repr(pickle.dumps(error)))
    if request := getattr(error, "request", None):  # as the errors of requests have one
        shown.append(repr(request.headers))
    causes = [cause for cause in (error.__cause__, error.__context__) if cause is not None]
    return "".join([*shown, *map(traces, causes)])


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
)
def test_row_54_the_key_is_nowhere(connect, serve, caplog, script):
    caplog.set_level(logging.DEBUG)
    client = connect(serve(script), stream_idle_timeout=0.05)
    seen = [repr(client), repr(vars(client)), repr(pickle.dumps(client))]
    try:
        stream = client.stream("Hi")
        seen += [repr(stream), repr(vars(stream))]
        seen += [repr(stream.collect()), repr(stream.attempts), repr(stream.headers)]
    except ChatStreamError as error:
        seen.append(traces(error))
    assert KEY not in "".join(seen)
    assert KEY not in caplog.text


def test_row_55_the_text_is_the_servers_own(ask):
    strange = "\x1b[31mred\x1b]0;title\x07 \u202eback\u2066 line\rover"
    assert completes(ask([head(), delta(strange), *REST]), strange).status == "completed"


def test_row_57_the_wall_clock_jumps(ask, monkeypatch):
    real = time.time
    days = iter(range(1, 10_000))
    monkeypatch.setattr(time, "time", lambda: real() + next(days) * 86400 * (-1) ** next(days))
    with within(1.0, least=0.4):
        breaks(ask, [stall()], IdleTimeout, 0, again=True, stream_idle_timeout=0.2, deadline=30.0)
