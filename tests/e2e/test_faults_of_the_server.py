"""A real server that is killed, stopped and started again under a stream."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from relay import Relay
from support import SchedulingDelay

from chatstream import (
    Client,
    Completed,
    ConnectionFailed,
    Heartbeat,
    IdleTimeout,
    OutputTextDelta,
    ResponseStream,
    RetryInfo,
    StreamTruncated,
)
from chatstream.providers.local import LocalServer

SEA = "Tell me about the sea."
SURE: dict[str, Any] = {"temperature": 0, "seed": 1}


def send(server: LocalServer, number: signal.Signals) -> None:
    assert server.pid is not None
    os.kill(server.pid, number)


def read_three(stream: ResponseStream) -> list[str]:
    """The first three pieces of text."""
    said: list[str] = []
    while len(said) < 3:
        event = next(stream)
        if isinstance(event, OutputTextDelta):
            said.append(event.delta)
    return said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_dies_is_a_truncated_stream(
    connect: Callable[..., Client], killable_llama: LocalServer, number: signal.Signals
) -> None:
    stream = connect(killable_llama).stream(SEA, **SURE, ignore_eos=True, max_tokens=500)
    said = read_three(stream)
    send(killable_llama, number)
    with pytest.raises(StreamTruncated) as raised:
        said.extend(event.delta for event in stream)
    error = raised.value
    assert error.partial.text == stream.turn.text == "".join(said)
    assert error.partial.status == "incomplete"
    assert error.retryable
    assert len(error.attempts) == 1
    assert str(error).startswith("stream disconnected before completion: ")


def test_a_server_that_stands_still_is_an_idle_timeout(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    client = connect(killable_llama, stream_idle_timeout=1.0, first_event_timeout=30.0)
    stream = client.stream(SEA, **SURE, ignore_eos=True, max_tokens=500)
    said = read_three(stream)

    def read_rest() -> None:
        nonlocal last
        for event in stream:
            last = time.monotonic()
            said.append(event.delta)

    send(killable_llama, signal.SIGSTOP)
    last = time.monotonic()
    with SchedulingDelay() as scheduling_delay, pytest.raises(IdleTimeout) as raised:
        read_rest()
    assert 0.5 < time.monotonic() - last < 1.1 + scheduling_delay.seconds
    assert raised.value.partial.text == "".join(said)


def test_a_server_that_goes_on_in_time_loses_nothing(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    stream = connect(killable_llama).stream(SEA, **SURE, max_tokens=20, heartbeat=0.1)
    read_three(stream)
    send(killable_llama, signal.SIGSTOP)
    rest = []
    for event in stream:
        rest.append(event)
        if isinstance(event, Heartbeat):
            send(killable_llama, signal.SIGCONT)
    assert any(isinstance(event, Heartbeat) for event in rest)
    assert isinstance(rest[-1], Completed)
    assert stream.turn.token_usage.output_tokens == 20


def test_what_was_gathered_is_kept_when_the_server_stays_away(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    client = connect(killable_llama, request_max_retries=1, stream_max_retries=1)
    stream = client.stream(SEA, **SURE, ignore_eos=True, max_tokens=500)

    def kill_when_it_talks() -> None:
        while not stream.turn.text:
            time.sleep(0.01)
        send(killable_llama, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_it_talks)
    killer.start()
    with pytest.raises(ConnectionFailed, match="refused") as raised:
        stream.collect()
    killer.join()
    assert raised.value.partial.text
    assert [attempt.status for attempt in raised.value.attempts] == [200, None, None]


def test_a_server_that_comes_back_is_asked_again_unseen(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    def start_again(info: RetryInfo) -> None:
        told.append(info)
        killable_llama.stop()
        relay.target = killable_llama.start().base_url

    told: list[RetryInfo] = []
    with Relay(killable_llama.base_url) as relay:
        stream = connect(relay, on_retry=start_again).stream(SEA, **SURE, max_tokens=40)
        send(killable_llama, signal.SIGKILL)
        events = list(stream.aggregate())
    assert [info.number for info in told] == [1]
    assert str(told[0]).startswith("stream error: stream disconnected before completion: ")
    assert len(events) == 2
    assert stream.turn.token_usage.output_tokens == 40
    assert [attempt.status for attempt in stream.attempts] == [200, 200]
