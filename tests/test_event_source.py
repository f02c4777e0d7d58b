"""`ResponseStream.sse`: what a browser receives, and when the connection to the model is closed."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest
from support import KEY, REST, THREE, WORDS, text_of, wait_for

from chatstream import ConfigError, Heartbeat, OutputTextDelta
from chatstream._event_source import EventSourceBody
from chatstream.testing import chunk, cut, delta, done, end, event, finish, forever, head, pause, stall

pytestmark = pytest.mark.usefixtures("short_waits")
WHOLE = [head(), *THREE, *REST]
COMMENT = b":\n\n"
SILENCES = {
    "nothing": [stall()],
    "keep-alive comments": [forever(chunk(b": keep-alive\n\n"), pause(0.005))],
    "pings": [forever(event({}, name="ping"), pause(0.005))],
    "chunks without choices": [forever(event({"id": "c1", "choices": []}), pause(0.005))],
    "an event that does not end": [chunk(b"data: "), forever(chunk(b"x"), pause(0.005))],
}


@pytest.fixture(params=["http", "https"])
def open_stream(request: Any, serve: Any, connect: Any, tls: Any, trusted: None) -> Iterator[Any]:
    """A function that opens a stream to a server with these scripts, plain or TLS; ``server`` is the server."""

    def opened(*scripts: Any, **options: Any) -> Any:
        opened.server = serve(*scripts, tls=tls if request.param == "https" else None)  # type: ignore[attr-defined]
        opened.client = connect(opened.server, **options)  # type: ignore[attr-defined]
        return opened.client.stream("Hi")  # type: ignore[attr-defined]

    return opened


def parsed(body: Any) -> list[tuple[str, Any]]:
    """The events of a body as pairs of type and data, read as the HTML standard says; comments are left out."""
    events = []
    for block in b"".join(body).decode().split("\n\n")[:-1]:
        lines = block.split("\n")
        assert all(line.startswith((":", "data: ", "event: ")) for line in lines), block
        data = [line[6:] for line in lines if line.startswith("data: ")]
        name = next((line[7:] for line in lines if line.startswith("event: ")), "message")
        if data:
            text = "\n".join(data)
            events.append((name, text if text == "[DONE]" else json.loads(text)))
    return events


def next_event(body: Iterator[bytes]) -> bytes:
    """The next event that is no comment."""
    return next(piece for piece in body if piece != COMMENT)


# ── the events ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_browser_receives_each_piece_of_text_as_an_event_and_done_at_the_end(open_stream):
    body = open_stream(WHOLE).sse()
    assert parsed(body) == [*(("message", {"text": word}) for word in WORDS), ("message", "[DONE]")]
    assert next(body, None) is None


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", "a\r", "\n\n", "data: x\n\nevent: error\n\n", "é😀\u2028\u0085\x00", '"\\', ":", " "],
    ids=repr,
)
def test_a_text_with_line_ends_arrives_unchanged_in_one_event(open_stream, text):
    assert parsed(open_stream([head(), delta(text), *REST]).sse())[0] == ("message", {"text": text})


def test_reasoning_calls_and_other_choices_become_comments(serve, connect):
    call = {"index": 0, "id": "t1", "function": {"name": "f", "arguments": "{}"}}
    others = [delta("", reasoning_content="hm"), delta("", tool_calls=[call]), delta("other", choice=1)]
    server = serve([head(), *others, *THREE, finish(), finish(choice=1), done(), end()])
    pieces = list(connect(server).stream("Hi", n=2).sse())
    assert parsed(pieces) == [*(("message", {"text": word}) for word in WORDS), ("message", "[DONE]")]
    assert pieces.count(COMMENT) >= len(others)


def test_a_body_begins_with_a_comment_so_that_the_headers_are_sent_before_the_first_text(open_stream):
    body = open_stream([head(), stall()]).sse()
    assert next(body) == COMMENT
    body.close()


def test_what_was_read_before_is_not_sent_again(open_stream):
    stream = open_stream(WHOLE)
    before = text_of([next(stream), next(stream)])
    assert parsed(stream.sse()) == [*(("message", {"text": word}) for word in WORDS[1:]), ("message", "[DONE]")]
    assert before == WORDS[0]
    assert stream.turn.text == "".join(WORDS)


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES)
@pytest.mark.parametrize("before", [[], THREE], ids=["first", "after three events"])
def test_comments_are_sent_while_the_model_says_nothing(open_stream, before, silence):
    body = open_stream([head(), *before, *silence], deadline=2).sse(heartbeat=0.05)
    for _ in before:
        next_event(body)
    assert [next(body) for _ in range(4)] == [COMMENT] * 4
    body.close()
    assert open_stream.server.client_closed()


@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES)
def test_a_loop_gets_heartbeats_while_the_server_sends_anything_but_events(serve, connect, silence):
    client = connect(serve([head(), *silence]), deadline=2)
    stream = client.stream("Hi", heartbeat=0.05)
    assert [next(stream) for _ in range(3)] == [Heartbeat()] * 3
    stream.close()


def test_events_that_arrive_more_often_than_the_heartbeat_leave_no_room_for_one(serve, connect):
    steps = [step for word in WORDS * 4 for step in (pause(0.1), delta(word))]
    assert Heartbeat() not in list(connect(serve([head(), *steps, *REST])).stream("Hi", heartbeat=5))


def test_sse_sends_heartbeats_after_a_restart_too(open_stream):
    body = open_stream([head(), cut()], [head(), stall()]).sse(heartbeat=0.05)
    assert [next(body), next(body)] == [COMMENT] * 2
    assert len(open_stream.server.requests) == 2
    body.close()


def test_heartbeats_do_not_keep_a_broken_stream_from_a_restart(open_stream):
    gate = threading.Event()
    body = open_stream([head(), wait_for(gate), cut()], WHOLE).sse(heartbeat=0.02)
    assert next(body) == COMMENT
    gate.set()
    assert parsed(body) == [*(("message", {"text": word}) for word in WORDS), ("message", "[DONE]")]


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), "1", None], ids=repr)
def test_a_heartbeat_of_sse_that_is_no_time_is_a_config_error(open_stream, heartbeat):
    with (
        open_stream(WHOLE) as stream,
        pytest.raises(ConfigError, match="heartbeat must be a number of seconds above 0"),
    ):
        stream.sse(heartbeat=heartbeat)


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ([cut()], "StreamTruncated"),
        ([event("{")], "ProtocolViolation"),
        ([event({"error": {"message": "Overloaded", "code": 529}})], "ProviderError"),
        ([stall()], "IdleTimeout"),
    ],
    ids=["cut", "broken JSON", "error of the server", "silence"],
)
@pytest.mark.parametrize("before", [[], THREE], ids=["first", "after three events"])
def test_an_error_after_the_headers_is_the_last_event_and_nothing_says_done(open_stream, before, fault, kind):
    script = [head(), *before, *fault]
    body = open_stream(script, stream_idle_timeout=0.5, stream_max_retries=0).sse()
    *texts, (name, error) = parsed(body)
    assert texts == [("message", {"text": word}) for word in WORDS[: len(before)]]
    assert (name, error["type"]) == ("error", kind)
    assert error["message"].startswith("stream disconnected before completion: ")
    assert open_stream.server.client_closed()


def test_the_error_event_shows_the_message_of_the_server_on_one_line_and_never_the_key(open_stream):
    fault = event({"error": {"message": f"no\n\ncredit for {KEY}"}})
    body = open_stream([head(), delta("Well"), fault]).sse()
    _, (name, error) = parsed(body)
    assert (name, error["type"]) == ("error", "ProviderError")
    assert error["message"] == "stream disconnected before completion: no\n\ncredit for ***"


def test_a_deadline_ends_a_body_with_an_error_event(serve, connect):
    body = connect(serve([head(), delta("Well"), stall()])).stream("Hi", deadline=0.5).sse(heartbeat=0.1)
    assert parsed(body)[-1] == (
        "error",
        {"type": "DeadlineExceeded", "message": "the deadline of 0.5 s for all attempts has passed"},
    )


def test_cancelling_the_stream_ends_its_body_with_an_error_event(open_stream):
    stream = open_stream([head(), *THREE, stall()])
    body = stream.sse()
    next_event(body)
    stream.cancel()
    assert parsed(body)[-1] == ("error", {"type": "Cancelled", "message": "the stream was cancelled"})


@pytest.mark.parametrize("begun", [False, True], ids=["unread", "begun"])
def test_a_body_whose_stream_was_closed_says_so_instead_of_ending_quietly(open_stream, begun):
    with open_stream([head(), *THREE, stall()]) as stream:
        body = stream.sse()
        if begun:
            next_event(body)
    (name, error) = parsed(body)[-1]
    assert (name, error["type"]) == ("error", "StreamClosed")
    assert "was closed" in error["message"]


def test_an_exception_that_is_not_of_this_library_passes_through_a_body_unchanged():
    class Alarm(Exception):
        pass

    def events() -> Iterator[OutputTextDelta]:
        yield OutputTextDelta("Well")
        raise Alarm

    body = EventSourceBody(events(), lambda: None)
    assert next_event(body) == b'data: {"text": "Well"}\n\n'
    with pytest.raises(Alarm):
        next(body)


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("read", [0, 1, 3], ids=["unread", "begun", "after three events"])
def test_closing_a_body_closes_the_connection_to_the_model_and_ends_the_iteration(open_stream, read):
    stream = open_stream([head(), *THREE, stall()])
    body = stream.sse()
    for _ in range(read):
        next(body)
    body.close()
    body.close()
    assert open_stream.server.client_closed()
    assert stream.turn.status == "incomplete"


@pytest.mark.parametrize("read", [0, 1, 3], ids=["unread", "begun", "after three events"])
def test_a_body_that_is_dropped_closes_the_connection_to_the_model_at_once_and_without_a_warning(open_stream, read):
    gc.disable()  # nothing but the last reference may be needed
    try:
        stream = open_stream([head(), *THREE, stall()])
        body = stream.sse()
        for _ in range(read):
            next(body)
        del body
        assert open_stream.server.client_closed()
    finally:
        gc.enable()


def test_closing_a_body_wakes_the_thread_that_waits_for_its_next_event(open_stream):
    body = open_stream([head(), *THREE, stall()]).sse()
    pieces: list[bytes] = []
    reader = threading.Thread(target=lambda: pieces.extend(body))
    reader.start()
    while len([piece for piece in pieces if piece != COMMENT]) < 3:
        time.sleep(0.005)
    body.close()
    reader.join(2)
    assert not reader.is_alive()
    assert open_stream.server.client_closed()


@pytest.fixture(params=["asyncio", "anyio"])
def event_loop_threads(request: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that are run in threads of anyio: none where the host has none."""
    calls: list[Any] = []

    async def run_sync(function: Any) -> Any:
        calls.append(function)
        return await asyncio.shield(asyncio.to_thread(function))

    module = types.SimpleNamespace(run_sync=run_sync) if request.param == "anyio" else None
    monkeypatch.setitem(sys.modules, "anyio.to_thread", module)  # type: ignore[arg-type]
    return calls


def test_a_body_is_an_asynchronous_iterator_too_as_asgi_wants_it(open_stream, event_loop_threads):
    async def read() -> list[bytes]:
        return [piece async for piece in open_stream(WHOLE).sse()]

    assert [data for _, data in parsed(asyncio.run(read()))] == [*({"text": word} for word in WORDS), "[DONE]"]
    assert open_stream.client.stream("Again").collect().text == "".join(WORDS)
    assert open_stream.server.connections == 1
    assert len(set(event_loop_threads)) <= 1


@pytest.mark.usefixtures("event_loop_threads")
def test_cancelling_the_task_that_reads_a_body_closes_the_connection_without_a_garbage_collection(open_stream):
    async def read() -> None:
        body = open_stream([head(), *THREE, stall()]).sse()
        async for _ in body:
            begun.set()

    async def leave() -> None:
        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        tracebacks.append(caught)

    begun, tracebacks = asyncio.Event(), list[Any]()
    asyncio.run(leave())
    assert open_stream.server.client_closed()
    assert tracebacks


def test_a_body_that_was_read_to_its_end_gives_the_connection_back(open_stream):
    stream = open_stream(WHOLE)
    assert parsed(stream.sse())[-1] == ("message", "[DONE]")
    assert open_stream.client.stream("Again").collect().text == "".join(WORDS)
    assert open_stream.server.connections == 1


def test_each_piece_of_a_body_may_be_read_by_another_thread(open_stream):
    body = open_stream(WHOLE).sse()
    pieces: list[bytes | None] = []
    while not pieces or pieces[-1] is not None:
        thread = threading.Thread(target=lambda: pieces.append(next(body, None)))
        thread.start()
        thread.join()
    assert [data for _, data in parsed(piece for piece in pieces if piece)] == [*({"text": w} for w in WORDS), "[DONE]"]


def test_the_idle_limit_holds_while_heartbeats_are_sent(open_stream):
    stream = open_stream([head(), *THREE, stall()], stream_idle_timeout=0.3)
    assert parsed(stream.sse(heartbeat=0.05))[-1][1]["type"] == "IdleTimeout"
