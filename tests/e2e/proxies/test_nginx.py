"""What nginx alone does: its limits, its gzip, its buffers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

import pytest
from support import REST, THREE, WORDS
from ways import HTTP_1_1, LIVE, Proxies

from chatstream import Client, ProviderError, RetryInfo, RetryLimit, StreamTruncated, UnexpectedStatus
from chatstream.testing import (
    FaultServer,
    Script,
    Step,
    Wire,
    cut,
    delta,
    event,
    head,
    reset,
    stall,
    status,
    text_answer,
)

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]
Framing = Literal["chunked", "close"]
GZIP = "gzip on; gzip_types text/event-stream; gzip_min_length 0;"


def test_a_prompt_that_is_too_large(run: Proxies, serve: Serve, connect: Connect) -> None:
    server = serve(text_answer(*WORDS))
    client = connect(run("nginx", server.port).url)  # its client_max_body_size is 1 MB unless it is told
    with pytest.raises(UnexpectedStatus, match="413 Request Entity Too Large") as raised:
        client.stream("sea " * 1_000_000)
    assert (type(raised.value), raised.value.status, raised.value.retryable) == (UnexpectedStatus, 413, False)
    assert server.requests == []
    assert client.stream("Hi").collect().text == "".join(WORDS)


def test_a_limit_of_requests(run: Proxies, serve: Serve, connect: Connect) -> None:
    told: list[RetryInfo] = []
    server = serve(text_answer(*WORDS))
    proxy = run("nginx", server.port, more="limit_req zone=asked; limit_req_status 429;")
    client = connect(proxy.url, on_retry=told.append)
    assert client.stream("Hi").collect().text == "".join(WORDS)
    with pytest.raises(RetryLimit, match="429 Too Many Requests") as raised:
        client.stream("Hi")
    assert (raised.value.status, len(told), len(server.requests)) == (429, 1, 1)


def test_a_refusal_of_the_server_comes_through_as_it_is(run: Proxies, serve: Serve, connect: Connect) -> None:
    refusal = {"error": {"message": "There is no such model.", "code": "model_not_found"}}
    server = serve(status(404, refusal, {"x-request-id": "r-1"}))
    with pytest.raises(UnexpectedStatus, match=r"There is no such model\.") as raised:
        connect(run("nginx", server.port).url).stream("Hi")
    assert (raised.value.code, raised.value.request_id) == ("model_not_found", "r-1")


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("more", [LIVE, HTTP_1_1 + LIVE, ""], ids=["1.0", "1.1", "buffering"])
def test_gzip_is_live_where_nothing_is_buffered(
    run: Proxies, serve: Serve, connect: Connect, more: str, framing: Framing
) -> None:
    def heard_it(wire: Wire) -> None:
        in_time.append(heard.acquire(timeout=5.0 if more else 0.1))

    heard, in_time = threading.Semaphore(0), list[bool]()
    steps: list[Step] = [step for each in THREE for step in (each, heard_it)]
    server = serve([head(framing=framing), *steps, *REST])
    stream = connect(run("nginx", server.port, more=GZIP + more).url).stream("Hi")
    said = []
    for piece in stream.text():
        said.append(piece)
        heard.release()
    assert stream.headers["Content-Encoding"] == "gzip"
    assert said == WORDS
    assert in_time == [bool(more)] * 3


@pytest.mark.parametrize("more", [LIVE, ""], ids=["live", "buffering"])
@pytest.mark.parametrize("script", [[head(), *THREE, cut()], [head(framing="close"), *THREE, reset()]])
def test_gzip_does_not_hide_a_cut(run: Proxies, serve: Serve, connect: Connect, more: str, script: Script) -> None:
    server = serve(script)
    stream = connect(run("nginx", server.port, more=GZIP + more).url).stream("Hi")
    said: list[str] = []
    with pytest.raises(StreamTruncated) as raised:
        said.extend(stream.text())
    assert raised.value.partial.text == "".join(said)


def test_a_server_may_ask_for_its_events_to_be_live(run: Proxies, serve: Serve, connect: Connect) -> None:
    def heard_it(wire: Wire) -> None:
        in_time.append(heard.acquire(timeout=5.0))

    heard, in_time = threading.Semaphore(0), list[bool]()
    server = serve([head(headers={"X-Accel-Buffering": "no"}, framing="close"), delta("one "), heard_it, *REST])
    stream = connect(run("nginx", server.port).url).stream("Hi")
    for _ in stream.text():
        heard.release()
    assert in_time == [True]


def test_an_error_inside_the_stream(run: Proxies, serve: Serve, connect: Connect) -> None:
    server = serve([head(), *THREE, event({"error": {"message": "out of memory", "code": 500}}), stall()])
    stream = connect(run("nginx", server.port).url).stream("Hi")
    with pytest.raises(ProviderError, match="out of memory") as raised:
        list(stream)
    assert raised.value.partial.text == "".join(WORDS)
