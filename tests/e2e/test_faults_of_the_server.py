"""Streams whose real server is killed, suspended or restarted."""

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

QUESTION = "Tell me about the sea."
DETERMINISTIC: dict[str, Any] = {"temperature": 0, "seed": 1}


def send_signal(server: LocalServer, number: signal.Signals) -> None:
    assert server.pid is not None
    os.kill(server.pid, number)


def read_three_pieces(stream: ResponseStream) -> list[str]:
    """The first three pieces of text."""
    pieces: list[str] = []
    while len(pieces) < 3:
        event = next(stream)
        if isinstance(event, OutputTextDelta):
            pieces.append(event.delta)
    return pieces


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_server_that_is_killed_raises_stream_truncated_with_the_text_received(
    connect: Callable[..., Client], killable_llama: LocalServer, number: signal.Signals
) -> None:
    stream = connect(killable_llama).stream(QUESTION, **DETERMINISTIC, ignore_eos=True, max_tokens=500)
    pieces = read_three_pieces(stream)
    send_signal(killable_llama, number)
    with pytest.raises(StreamTruncated) as raised:
        pieces.extend(event.delta for event in stream)
    error = raised.value
    assert error.partial.text == stream.turn.text == "".join(pieces)
    assert error.partial.status == "incomplete"
    assert error.retryable
    assert len(error.attempts) == 1
    assert str(error).startswith("stream disconnected before completion: ")


def test_a_server_that_is_suspended_raises_idle_timeout_with_the_text_received(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    client = connect(killable_llama, stream_idle_timeout=1.0, first_event_timeout=30.0)
    stream = client.stream(QUESTION, **DETERMINISTIC, ignore_eos=True, max_tokens=500)
    pieces = read_three_pieces(stream)

    def read_rest() -> None:
        nonlocal last
        for event in stream:
            last = time.monotonic()
            pieces.append(event.delta)

    send_signal(killable_llama, signal.SIGSTOP)
    last = time.monotonic()
    with SchedulingDelay() as scheduling_delay, pytest.raises(IdleTimeout) as raised:
        read_rest()
    assert 0.5 < time.monotonic() - last < 1.1 + scheduling_delay.seconds
    assert raised.value.partial.text == "".join(pieces)


def test_a_server_that_resumes_before_the_idle_timeout_completes_its_answer(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    stream = connect(killable_llama).stream(QUESTION, **DETERMINISTIC, max_tokens=20, heartbeat=0.1)
    read_three_pieces(stream)
    send_signal(killable_llama, signal.SIGSTOP)
    rest = []
    for event in stream:
        rest.append(event)
        if isinstance(event, Heartbeat):
            send_signal(killable_llama, signal.SIGCONT)
    assert any(isinstance(event, Heartbeat) for event in rest)
    assert isinstance(rest[-1], Completed)
    assert stream.turn.token_usage.output_tokens == 20


def test_the_error_keeps_the_text_received_when_no_restart_reaches_the_server(
    connect: Callable[..., Client], killable_llama: LocalServer
) -> None:
    client = connect(killable_llama, request_max_retries=1, stream_max_retries=1)
    stream = client.stream(QUESTION, **DETERMINISTIC, ignore_eos=True, max_tokens=500)

    def kill_after_the_first_text() -> None:
        while not stream.turn.text:
            time.sleep(0.01)
        send_signal(killable_llama, signal.SIGKILL)

    killer = threading.Thread(target=kill_after_the_first_text)
    killer.start()
    with pytest.raises(ConnectionFailed, match="refused") as raised:
        stream.collect()
    killer.join()
    assert raised.value.partial.text
    assert [attempt.status for attempt in raised.value.attempts] == [200, None, None]


def test_aggregate_hides_a_restart_of_the_server_and_of_the_stream(
    connect: Callable[..., Client], killable_llama: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restart_server(info: RetryInfo) -> None:
        retries.append(info)
        killable_llama.stop()
        relay.target = killable_llama.start().base_url
        set_key()

    def set_key() -> None:
        monkeypatch.setenv("MODEL_KEY", str(killable_llama.provider.key()))

    set_key()
    retries: list[RetryInfo] = []
    with Relay(killable_llama.base_url) as relay:
        client = connect(relay, env_key="MODEL_KEY", on_retry=restart_server)
        stream = client.stream(QUESTION, **DETERMINISTIC, max_tokens=40)
        send_signal(killable_llama, signal.SIGKILL)
        events = list(stream.aggregate())
    assert [info.number for info in retries] == [1]
    assert str(retries[0]).startswith("stream error: stream disconnected before completion: ")
    assert len(events) == 2
    assert stream.turn.token_usage.output_tokens == 40
    assert [attempt.status for attempt in stream.attempts] == [200, 200]
