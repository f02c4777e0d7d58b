"""What only nginx does: its limits, its gzip and its buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from delivery import DeliveryProbe
from proxy_programs import ProxyStarter
from routes import HTTP_1_1, UNBUFFERED
from support import REST, THREE, WORDS

from chatstream import Client, ProviderError, RetryInfo, RetryLimit, StreamTruncated, UnexpectedStatus
from chatstream.testing import FaultServer, Script, cut, delta, event, head, reset, stall, status, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]
Framing = Literal["chunked", "close"]
GZIP = "gzip on; gzip_types text/event-stream; gzip_min_length 0;"


def test_a_prompt_over_the_body_limit_of_nginx_raises_status_413(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    server = serve(text_answer(*WORDS))
    client = connect(start_proxy("nginx", server.port).url)  # client_max_body_size is 1 MB by default
    with pytest.raises(UnexpectedStatus, match="413 Request Entity Too Large") as raised:
        client.stream("sea " * 1_000_000)
    assert (type(raised.value), raised.value.status, raised.value.retryable) == (UnexpectedStatus, 413, False)
    assert server.requests == []
    assert client.stream("Hi").collect().text == "".join(WORDS)


def test_a_rate_limit_by_nginx_is_retried_until_retry_limit_is_raised(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    retries: list[RetryInfo] = []
    server = serve(text_answer(*WORDS))
    proxy = start_proxy("nginx", server.port, more="limit_req zone=requests; limit_req_status 429;")
    client = connect(proxy.url, on_retry=retries.append)
    assert client.stream("Hi").collect().text == "".join(WORDS)
    with pytest.raises(RetryLimit, match="429 Too Many Requests") as raised:
        client.stream("Hi")
    assert (raised.value.status, len(retries), len(server.requests)) == (429, 1, 1)


def test_nginx_leaves_a_refusal_of_the_server_unchanged(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    refusal = {"error": {"message": "There is no such model.", "code": "model_not_found"}}
    server = serve(status(404, refusal, {"x-request-id": "r-1"}))
    with pytest.raises(UnexpectedStatus, match=r"There is no such model\.") as raised:
        connect(start_proxy("nginx", server.port).url).stream("Hi")
    assert (raised.value.code, raised.value.request_id) == ("model_not_found", "r-1")


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize(
    "more",
    [UNBUFFERED, HTTP_1_1 + UNBUFFERED, ""],
    ids=["http1.0-unbuffered", "http1.1-unbuffered", "buffered"],
)
def test_each_event_in_gzip_arrives_before_the_next_is_sent_unless_nginx_buffers(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect, more: str, framing: Framing
) -> None:
    probe = DeliveryProbe(5.0 if more else 0.1)
    server = serve([head(framing=framing), *probe.steps(THREE), *REST])
    stream = connect(start_proxy("nginx", server.port, more=GZIP + more).url).stream("Hi")
    assert probe.read(stream) == WORDS
    assert stream.headers["Content-Encoding"] == "gzip"
    assert probe.in_time == [bool(more)] * 3


@pytest.mark.parametrize("more", [UNBUFFERED, ""], ids=["unbuffered", "buffered"])
@pytest.mark.parametrize(
    "script", [[head(), *THREE, cut()], [head(framing="close"), *THREE, reset()]], ids=["chunked-fin", "close-rst"]
)
def test_a_stream_that_breaks_behind_the_gzip_of_nginx_raises_stream_truncated(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect, more: str, script: Script
) -> None:
    server = serve(script)
    stream = connect(start_proxy("nginx", server.port, more=GZIP + more).url).stream("Hi")
    pieces: list[str] = []
    with pytest.raises(StreamTruncated) as raised:
        pieces.extend(stream.text())
    assert raised.value.partial.text == "".join(pieces)


def test_nginx_does_not_buffer_an_answer_with_the_header_x_accel_buffering_no(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    probe = DeliveryProbe(5.0)
    begin = head(headers={"X-Accel-Buffering": "no"}, framing="close")
    server = serve([begin, *probe.steps([delta("one ")]), *REST])
    probe.read(connect(start_proxy("nginx", server.port).url).stream("Hi"))
    assert probe.in_time == [True]


def test_nginx_leaves_an_error_inside_the_stream_unchanged(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    server = serve([head(), *THREE, event({"error": {"message": "out of memory", "code": 500}}), stall()])
    stream = connect(start_proxy("nginx", server.port).url).stream("Hi")
    with pytest.raises(ProviderError, match="out of memory") as raised:
        list(stream)
    assert raised.value.partial.text == "".join(WORDS)
