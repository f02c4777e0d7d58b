"""What holds behind every proxy: whole answers, events in time, and an error whenever a part of the route fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from delivery import DeliveryProbe
from routes import ROUTES_WITHOUT_VARIANTS, SINGLE_PROGRAMS, Route
from support import REST, THREE, WORDS, cancelled, within

from chatstream import (
    Completed,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    OutputTextDelta,
    ResponseStream,
    RetryInfo,
    RetryLimit,
    StreamTruncated,
)
from chatstream.providers.local import LocalServer
from chatstream.testing import FaultServer, Step, Wire, cut, delta, forever, head, pause, reset, stall, text_answer

QUESTION = "Tell me about the sea."
DETERMINISTIC: dict[str, Any] = {"temperature": 0, "seed": 1, "ignore_eos": True}
SLACK = 5.0  # seconds that a busy machine may delay a step by
Serve = Callable[..., FaultServer]
Framing = Literal["chunked", "close"]

single_programs = pytest.mark.parametrize("route", SINGLE_PROGRAMS, indirect=True)
routes_without_variants = pytest.mark.parametrize("route", ROUTES_WITHOUT_VARIANTS, indirect=True)
framings = pytest.mark.parametrize("framing", ["chunked", "close"])
endings = pytest.mark.parametrize("ending", [cut, reset], ids=["fin", "rst"])


def is_buffered(route: Route, framing: Framing) -> bool:
    """Whether the proxy keeps data until its buffer is full or the server has closed the connection."""
    return framing == "close" and route.name in ("nginx", "nginx-http1.1")


def read_first(stream: ResponseStream, count: int) -> list[str]:
    """The first pieces of text."""
    pieces: list[str] = []
    while len(pieces) < count:
        event = next(stream)
        if isinstance(event, OutputTextDelta):
            pieces.append(event.delta)
    return pieces


# ── whole answers ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", [*ROUTES_WITHOUT_VARIANTS, "nginx-http1.1-unbuffered"], indirect=True)
def test_an_answer_of_the_model_arrives_whole_and_event_by_event(route: Route, llama: LocalServer) -> None:
    stream = route(llama).stream(QUESTION, **DETERMINISTIC, max_tokens=30)
    pieces, times = list[str](), list[float]()
    for event in stream:
        if isinstance(event, OutputTextDelta):
            pieces.append(event.delta)
            times.append(time.monotonic())
    assert isinstance(event, Completed)
    assert stream.turn.text == "".join(pieces)
    assert len(pieces) > 15
    assert stream.turn.token_usage is not None
    assert stream.turn.token_usage.output_tokens == 30
    assert stream.turn.finish_reason == "length"
    assert len(stream.attempts) == 1
    assert times[-1] - times[0] > 0.05  # llama.cpp tells nginx not to buffer its events


@framings
def test_each_event_arrives_before_the_next_is_sent_unless_the_proxy_buffers(
    route: Route, serve: Serve, framing: Framing
) -> None:
    buffered = is_buffered(route, framing)
    probe = DeliveryProbe(0.1 if buffered else SLACK)
    stream = route(serve([head(framing=framing), *probe.steps(THREE), *REST])).stream("Hi")
    assert probe.read(stream) == WORDS
    assert probe.in_time == [not buffered] * 3


def test_three_answers_arrive_over_one_connection(route: Route, serve: Serve) -> None:
    client = route(serve(text_answer(*WORDS)), relayed=True)
    assert [client.stream("Hi").collect().text for _ in range(3)] == ["".join(WORDS)] * 3
    assert route.relay.connections == 1


@routes_without_variants
def test_a_long_prompt_and_a_long_answer_arrive_whole(route: Route, serve: Serve) -> None:
    server = serve(text_answer(*["sand and stone " * 1000] * 20))
    prompt = "sea " * 200_000
    assert len(route(server).stream(prompt).collect().text) == 300_000
    assert server.requests[0].json["messages"][0]["content"] == prompt


# ── a part of the route fails ───────────────────────────────────────────────────────────────────────────────────


@framings
@endings
def test_a_server_that_disconnects_during_its_answer_raises_stream_truncated(
    route: Route, serve: Serve, framing: Framing, ending: Callable[[], Step]
) -> None:
    def wait_for_two(wire: Wire) -> None:
        two_are_read.wait(0.1 if is_buffered(route, framing) else SLACK)

    two_are_read = threading.Event()
    server = serve([head(framing=framing), *THREE[:2], wait_for_two, ending()])
    stream = route(server, stream_max_retries=0).stream("Hi")
    pieces: list[str] = []

    def read_all() -> None:
        for piece in stream.text():
            pieces.append(piece)
            if len(pieces) == 2:
                two_are_read.set()

    with pytest.raises(StreamTruncated) as raised:
        read_all()
    assert pieces == WORDS[:2] or is_buffered(route, framing)
    assert raised.value.partial.text == "".join(pieces)
    assert raised.value.partial.status == "incomplete"
    assert raised.value.retryable
    assert len(server.requests) == 1


@routes_without_variants
def test_collect_restarts_a_stream_that_breaks(route: Route, serve: Serve) -> None:
    server = serve([head(), *THREE, cut()], text_answer(*WORDS))
    stream = route(server).stream("Hi")
    assert stream.collect().text == "".join(WORDS)
    assert len(stream.attempts) == len(server.requests) == 2


@pytest.mark.parametrize(
    ("route", "number"),
    [*((name, signal.SIGKILL) for name in ROUTES_WITHOUT_VARIANTS), ("nginx-http1.1-unbuffered", signal.SIGTERM)],
    indirect=["route"],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else None,
)
def test_a_model_server_that_is_killed_raises_stream_truncated(
    route: Route, killable_llama: LocalServer, number: signal.Signals
) -> None:
    stream = route(killable_llama).stream(QUESTION, **DETERMINISTIC, max_tokens=1500)
    pieces = read_first(stream, 1)
    assert killable_llama.pid is not None
    os.kill(killable_llama.pid, number)
    with pytest.raises(StreamTruncated) as raised:
        pieces.extend(stream.text())
    assert raised.value.partial.text == "".join(pieces)
    assert raised.value.partial.finish_reason is None


@pytest.mark.parametrize("route", ["nginx", "haproxy", "squid-stunnel"], indirect=True)
def test_a_model_server_that_is_suspended_raises_idle_timeout(route: Route, killable_llama: LocalServer) -> None:
    client = route(killable_llama, stream_idle_timeout=0.5, first_event_timeout=30.0)
    stream = client.stream(QUESTION, **DETERMINISTIC, max_tokens=1500)
    pieces = read_first(stream, 1)
    assert killable_llama.pid is not None
    os.kill(killable_llama.pid, signal.SIGSTOP)
    with pytest.raises(IdleTimeout) as raised:
        pieces.extend(stream.text())
    assert raised.value.partial.text == "".join(pieces)


@routes_without_variants
def test_a_proxy_that_is_killed_raises_stream_truncated(route: Route, serve: Serve) -> None:
    stream = route(serve([head(), *THREE, stall()])).stream("Hi")
    pieces = read_first(stream, 3)
    route.proxy.process.kill()
    with pytest.raises(StreamTruncated) as raised:
        pieces.extend(stream.text())
    assert raised.value.partial.text == "".join(pieces) == "".join(WORDS)


# ── no answer ───────────────────────────────────────────────────────────────────────────────────────────────────


def error_after_one_retry(route: Route, port: int) -> ConnectionFailed | RetryLimit:
    """The error of a call whose two attempts get no answer."""
    retries: list[RetryInfo] = []
    with pytest.raises((ConnectionFailed, RetryLimit)) as raised:
        route(port, on_retry=retries.append).stream("Hi")
    assert len(retries) == 1
    assert len(raised.value.attempts) == 2
    assert raised.value.retryable
    assert "<" not in str(raised.value)
    return raised.value


REFUSALS = {
    "nginx": (502, "502 Bad Gateway"),
    "haproxy": (503, "503 Service Unavailable"),
    "squid": (503, "The requested URL could not be retrieved"),
}


@routes_without_variants
def test_a_port_without_a_server_raises_the_refusal_of_the_proxy(route: Route, refused_port: int) -> None:
    error = error_after_one_retry(route, refused_port)
    status, message = REFUSALS.get(route.name, (None, "EOF|closed|reset"))
    assert getattr(error, "status", None) == status
    assert message in str(error) or status is None


@routes_without_variants
@endings
def test_a_server_that_disconnects_before_its_first_byte_raises_status_502_or_connection_failed(
    route: Route, serve: Serve, ending: Callable[[], Step]
) -> None:
    server = serve([ending()])
    error = error_after_one_retry(route, server.port)
    assert getattr(error, "status", None) == (None if "stunnel" in route.name else 502)
    # haproxy closes a kept-alive connection without a response, so the client sends the request again at once
    assert len(server.requests) == (3 if route.name == "haproxy" else 2)


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────


@routes_without_variants
def test_the_idle_timeout_of_the_client_holds_behind_a_proxy(route: Route, serve: Serve) -> None:
    stream = route(serve([head(), *THREE, stall()]), stream_idle_timeout=0.8).stream("Hi")
    pieces = read_first(stream, 2)
    with within(0.95), pytest.raises(IdleTimeout) as raised:
        pieces.extend(stream.text())
    assert raised.value.partial.text == "".join(pieces)


@single_programs
def test_a_timeout_of_the_proxy_during_an_answer_raises_stream_truncated(route: Route, serve: Serve) -> None:
    stream = route(serve([head(), *THREE, stall()]), timeout=1).stream("Hi")
    with within(3.0), pytest.raises(StreamTruncated) as raised:
        list(stream)
    assert raised.value.partial.text == "".join(WORDS)


@single_programs
def test_a_timeout_of_the_proxy_before_the_headers_raises_status_504_or_connection_failed(
    route: Route, serve: Serve
) -> None:
    client = route(serve([stall()]), timeout=1, request_max_retries=0)
    with within(4.0), pytest.raises((ConnectionFailed, RetryLimit)) as raised:
        client.stream("Hi")
    assert getattr(raised.value, "status", None) == (None if "stunnel" in route.name else 504)


@routes_without_variants
def test_cancel_wakes_a_blocked_reader_behind_a_proxy(route: Route, serve: Serve) -> None:
    stream = route(serve([head(), *THREE, stall()])).stream("Hi")
    pieces = read_first(stream, 3)
    assert cancelled(stream, 0.1).partial.text == "".join(pieces)


@routes_without_variants
def test_closing_a_stream_makes_the_proxy_close_its_connection_to_the_server(route: Route, serve: Serve) -> None:
    server = serve([head(), forever(delta("word "), pause(0.05))])  # haproxy notices it only when it writes
    with route(server).stream("Hi") as stream:
        read_first(stream, 3)
    assert server.client_closed(within=SLACK)


@single_programs
def test_a_deadline_holds_while_a_proxy_waits_for_headers(route: Route, serve: Serve) -> None:
    client = route(serve([stall()]))
    with within(0.6, least=0.4), pytest.raises(DeadlineExceeded):
        client.stream("Hi", deadline=0.4)
