"""What must hold behind every proxy: whole answers, live events, and no quiet end when something on the way dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from support import REST, THREE, WORDS, cancelled, within
from ways import FAMILIES, Through

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

SEA = "Tell me about the sea."
SURE: dict[str, Any] = {"temperature": 0, "seed": 1, "ignore_eos": True}
PATIENCE = 5.0  # seconds for what a noisy machine may delay
Serve = Callable[..., FaultServer]
Framing = Literal["chunked", "close"]

single = pytest.mark.parametrize("through", ["nginx", "haproxy", "squid", "stunnel"], indirect=True)
families = pytest.mark.parametrize("through", FAMILIES, indirect=True)
framings = pytest.mark.parametrize("framing", ["chunked", "close"])


def is_held(through: Through, framing: Framing) -> bool:
    """Whether the proxy keeps what comes until its buffer is full or the server has closed."""
    return framing == "close" and through.way in ("nginx", "nginx-1.1")


def read(stream: ResponseStream, pieces: int) -> list[str]:
    """The first pieces of text."""
    said: list[str] = []
    while len(said) < pieces:
        event = next(stream)
        if isinstance(event, OutputTextDelta):
            said.append(event.delta)
    return said


# ── whole answers ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("through", [*FAMILIES, "nginx-1.1-live"], indirect=True)
def test_an_answer_of_the_model(through: Through, llama: LocalServer) -> None:
    stream = through(llama).stream(SEA, **SURE, max_tokens=30)
    said, moments = list[str](), list[float]()
    for event in stream:
        if isinstance(event, OutputTextDelta):
            said.append(event.delta)
            moments.append(time.monotonic())
    assert isinstance(event, Completed)
    assert stream.turn.text == "".join(said)
    assert len(said) > 15
    assert stream.turn.token_usage is not None
    assert stream.turn.token_usage.output_tokens == 30
    assert stream.turn.finish_reason == "length"
    assert len(stream.attempts) == 1
    assert moments[-1] - moments[0] > 0.05  # llama.cpp asks nginx not to hold its events back


@framings
def test_each_event_is_here_before_the_next_is_written(through: Through, serve: Serve, framing: Framing) -> None:
    def heard_it(wire: Wire) -> None:
        in_time.append(heard.acquire(timeout=PATIENCE if not is_held(through, framing) else 0.1))

    heard, in_time = threading.Semaphore(0), list[bool]()
    steps: list[Step] = [step for each in THREE for step in (each, heard_it)]
    stream = through(serve([head(framing=framing), *steps, *REST])).stream("Hi")
    said = []
    for piece in stream.text():
        said.append(piece)
        heard.release()
    assert said == WORDS
    assert in_time == [not is_held(through, framing)] * 3


def test_one_connection_serves_three_answers(through: Through, serve: Serve) -> None:
    client = through(serve(text_answer(*WORDS)), relayed=True)
    assert [client.stream("Hi").collect().text for _ in range(3)] == ["".join(WORDS)] * 3
    assert through.relay.connections == 1


@families
def test_a_long_question_and_a_long_answer(through: Through, serve: Serve) -> None:
    server = serve(text_answer(*["sand and stone " * 1000] * 20))
    question = "sea " * 200_000
    assert len(through(server).stream(question).collect().text) == 300_000
    assert server.requests[0].json["messages"][0]["content"] == question


# ── something dies ──────────────────────────────────────────────────────────────────────────────────────────────


@framings
@pytest.mark.parametrize("ending", [cut, reset])
def test_a_server_that_goes_in_the_middle(
    through: Through, serve: Serve, framing: Framing, ending: Callable[[], Step]
) -> None:
    def two_are_read(wire: Wire) -> None:
        read.wait(0.1 if is_held(through, framing) else PATIENCE)

    read = threading.Event()
    server = serve([head(framing=framing), *THREE[:2], two_are_read, ending()])
    stream = through(server, stream_max_retries=0).stream("Hi")
    said: list[str] = []

    def read_all() -> None:
        for piece in stream.text():
            said.append(piece)
            if len(said) == 2:
                read.set()

    with pytest.raises(StreamTruncated) as raised:
        read_all()
    assert said == WORDS[:2] or is_held(through, framing)
    assert raised.value.partial.text == "".join(said)
    assert raised.value.partial.status == "incomplete"
    assert raised.value.retryable
    assert len(server.requests) == 1


@families
def test_a_server_that_goes_unseen_is_asked_again(through: Through, serve: Serve) -> None:
    server = serve([head(), *THREE, cut()], text_answer(*WORDS))
    stream = through(server).stream("Hi")
    assert stream.collect().text == "".join(WORDS)
    assert len(stream.attempts) == len(server.requests) == 2


@pytest.mark.parametrize(
    ("through", "number"),
    [*((way, signal.SIGKILL) for way in FAMILIES), ("nginx-1.1-live", signal.SIGTERM)],
    indirect=["through"],
)
def test_a_model_that_is_killed(through: Through, killable_llama: LocalServer, number: signal.Signals) -> None:
    stream = through(killable_llama).stream(SEA, **SURE, max_tokens=1500)
    said = read(stream, 1)
    assert killable_llama.pid is not None
    os.kill(killable_llama.pid, number)
    with pytest.raises(StreamTruncated) as raised:
        said.extend(stream.text())
    assert raised.value.partial.text == "".join(said)
    assert raised.value.partial.finish_reason is None


@pytest.mark.parametrize("through", ["nginx", "haproxy", "squid-stunnel"], indirect=True)
def test_a_model_that_stands_still(through: Through, killable_llama: LocalServer) -> None:
    client = through(killable_llama, stream_idle_timeout=0.5, first_event_timeout=30.0)
    stream = client.stream(SEA, **SURE, max_tokens=1500)
    said = read(stream, 1)
    assert killable_llama.pid is not None
    os.kill(killable_llama.pid, signal.SIGSTOP)
    with pytest.raises(IdleTimeout) as raised:
        said.extend(stream.text())
    assert raised.value.partial.text == "".join(said)


@families
def test_a_proxy_that_is_killed(through: Through, serve: Serve) -> None:
    stream = through(serve([head(), *THREE, stall()])).stream("Hi")
    said = read(stream, 3)
    through.proxy.process.kill()
    with pytest.raises(StreamTruncated) as raised:
        said.extend(stream.text())
    assert raised.value.partial.text == "".join(said) == "".join(WORDS)


# ── no answer ───────────────────────────────────────────────────────────────────────────────────────────────────


def refused(through: Through, port: int) -> ConnectionFailed | RetryLimit:
    """The error when no answer begins, after a second try of which the caller is told."""
    told: list[RetryInfo] = []
    with pytest.raises((ConnectionFailed, RetryLimit)) as raised:
        through(port, on_retry=told.append).stream("Hi")
    assert len(told) == 1
    assert len(raised.value.attempts) == 2
    assert raised.value.retryable
    assert "<" not in str(raised.value)
    return raised.value


REFUSALS = {
    "nginx": (502, "502 Bad Gateway"),
    "haproxy": (503, "503 Service Unavailable"),
    "squid": (503, "The requested URL could not be retrieved"),
}


@families
def test_a_server_that_is_not_there(through: Through, refused_port: int) -> None:
    error = refused(through, refused_port)
    status, message = REFUSALS.get(through.way, (None, "EOF|closed|reset"))
    assert getattr(error, "status", None) == status
    assert message in str(error) or status is None


@families
@pytest.mark.parametrize("ending", [cut, reset])
def test_a_server_that_goes_before_its_first_byte(through: Through, serve: Serve, ending: Callable[[], Step]) -> None:
    server = serve([ending()])
    error = refused(through, server.port)
    assert getattr(error, "status", None) == (None if "stunnel" in through.way else 502)
    # haproxy closes a connection that it kept alive without a word, so that the client asks again at once (row 6)
    assert len(server.requests) == (3 if through.way == "haproxy" else 2)


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────


@families
def test_our_idle_timeout_is_kept(through: Through, serve: Serve) -> None:
    stream = through(serve([head(), *THREE, stall()]), stream_idle_timeout=0.8).stream("Hi")
    said = read(stream, 2)
    with within(0.95), pytest.raises(IdleTimeout) as raised:
        said.extend(stream.text())
    assert raised.value.partial.text == "".join(said)


@single
def test_a_proxy_that_loses_patience_in_the_middle(through: Through, serve: Serve) -> None:
    stream = through(serve([head(), *THREE, stall()]), timeout=1).stream("Hi")
    with within(3.0), pytest.raises(StreamTruncated) as raised:
        list(stream)
    assert raised.value.partial.text == "".join(WORDS)


@single
def test_a_proxy_that_loses_patience_before_the_headers(through: Through, serve: Serve) -> None:
    client = through(serve([stall()]), timeout=1, request_max_retries=0)
    with within(4.0), pytest.raises((ConnectionFailed, RetryLimit)) as raised:
        client.stream("Hi")
    assert getattr(raised.value, "status", None) == (None if "stunnel" in through.way else 504)


@families
def test_cancel_wakes_a_reader(through: Through, serve: Serve) -> None:
    stream = through(serve([head(), *THREE, stall()])).stream("Hi")
    said = read(stream, 3)
    assert cancelled(stream, 0.1).partial.text == "".join(said)


@families
def test_a_stream_given_up_is_given_up_on_the_whole_way(through: Through, serve: Serve) -> None:
    server = serve([head(), forever(delta("word "), pause(0.05))])  # haproxy hears of it when it writes
    with through(server).stream("Hi") as stream:
        read(stream, 3)
    assert server.client_closed(within=PATIENCE)


@single
def test_a_deadline_holds_before_the_headers(through: Through, serve: Serve) -> None:
    client = through(serve([stall()]))
    with within(0.6, least=0.4), pytest.raises(DeadlineExceeded):
        client.stream("Hi", deadline=0.4)
