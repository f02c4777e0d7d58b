"""`replay` gives the stream of a recording, whoever has saved it, in its time."""

from __future__ import annotations

import gzip
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import REST, THREE, WORDS, within

from chatstream import (
    Cancelled,
    Completed,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    Heartbeat,
    Limits,
    OutputTextDelta,
    ProtocolViolation,
    ProviderError,
    ReasoningDelta,
    ResponseStream,
    RetryLimit,
    StreamTooLarge,
    StreamTruncated,
    UnexpectedStatus,
    replay,
)
from chatstream._recording.format import first_line, note
from chatstream.testing import chunk, cut, delta, done, end, event, finish, head, pause, send, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")
RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
BODY = (
    b'data: {"id":"c1","model":"m1","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
FIRST = BODY[: BODY.index(b"\n\n") + 2]
HTTP = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: r1\r\n\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sse"


def recording(*lines: bytes, **request: Any) -> bytes:
    """A recording of one call whose answer is made of these lines."""
    response = note("response", {"status": 200, "headers": {}, "after": 0.0})
    return first_line() + note("request", {"attempt": 1, **request}) + response + b"".join(lines)


def run(seconds: float, data: bytes) -> bytes:
    return b": %f %d\n%b" % (seconds, len(data), data)


# ── the same stream ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replayed_stream_has_the_events_and_the_turn_of_the_live_one(serve, connect, path):
    server = serve([head(200, {"X-Request-Id": "r1"}), *THREE, finish(usage={"prompt_tokens": 3}), done(), end()])
    live = connect(server).stream("Hi", record=path)
    events = list(live)
    again = replay(path)
    assert isinstance(again, ResponseStream)
    assert list(again) == events
    assert again.turn.items == live.turn.items
    assert again.turn.token_usage == live.turn.token_usage
    assert (again.request_id, again.status) == ("r1", 200)
    assert again.headers["Content-Type"] == again.headers["content-type"] == "text/event-stream"
    assert again.timing.bytes == live.timing.bytes


def test_a_replayed_stream_can_be_read_in_every_way(serve, connect, path):
    connect(serve(text_answer(*WORDS))).stream("Hi", record=path).collect()
    assert list(replay(path).text()) == WORDS
    assert [type(each) for each in replay(path).aggregate()][-1] is Completed
    assert b"".join(replay(path).sse()).endswith(b"data: [DONE]\n\n")
    with replay(path) as stream:
        assert next(iter(stream)) is not None


def test_the_settings_of_the_provider_that_change_the_reading_are_recorded(serve, connect, path):
    answer = [head(), delta("<think>hm</think>yes"), chunk(b"data: {broken\n\n"), end()]
    client = connect(serve(answer), think_tags=("think",), skip_undecodable=True, eof_completes=True)
    live = client.stream("Hi", record=path)
    events = list(live)
    again = replay(path)
    assert list(again) == events
    assert [each.delta for each in events if isinstance(each, ReasoningDelta)] == ["hm"]
    assert again.skipped == live.skipped == 1


def test_the_number_of_choices_that_were_asked_for_is_recorded(serve, connect, path):
    answer = [head(), delta("a", 0), delta("b", 1), finish(choice=0), end()]
    with pytest.raises(StreamTruncated) as live:
        list(connect(serve(answer)).stream("Hi", n=2, record=path))
    with pytest.raises(StreamTruncated) as again:
        list(replay(path))
    assert str(again.value) == str(live.value)
    assert [each.text for each in again.value.partial.choices] == ["a", "b"]


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ([event({"error": {"message": "overloaded", "code": 529}})], ProviderError),
        ([chunk(b"data: {broken\n\n")], ProtocolViolation),
        ([send(b"zz\r\n")], ProtocolViolation),
    ],
)
def test_an_error_in_the_bytes_is_raised_again_from_the_bytes(serve, connect, path, last, kind):
    with pytest.raises(kind) as live:
        list(connect(serve([head(), *THREE, *last, cut()])).stream("Hi", record=path))
    with pytest.raises(kind) as again:
        list(replay(path))
    assert str(again.value) == str(live.value)
    assert again.value.partial.text == "".join(WORDS)


def test_a_stream_that_exceeded_a_limit_exceeds_it_again(serve, connect, path):
    server = serve([head(), *THREE, chunk(b"data: " + b"x" * 5000), *REST])
    with pytest.raises(StreamTooLarge) as live:
        list(connect(server, limits=Limits(event_bytes=1000)).stream("Hi", record=path))
    with pytest.raises(StreamTooLarge) as again:
        list(replay(path, limits=Limits(event_bytes=1000)))
    assert str(again.value) == str(live.value)


def test_a_call_that_met_its_deadline_meets_it_again(serve, connect, path):
    server = serve([head(), *THREE, pause(1), *REST])
    with pytest.raises(DeadlineExceeded) as live:
        list(connect(server).stream("Hi", deadline=0.2, record=path))
    with pytest.raises(DeadlineExceeded) as again:
        list(replay(path))
    assert str(again.value) == str(live.value)


def test_the_last_of_several_refusals_is_raised(serve, connect, path):
    with pytest.raises(RetryLimit):
        connect(serve(status(503, "busy"))).stream("Hi", record=path)
    with pytest.raises(RetryLimit, match="busy"):
        replay(path)


def test_a_refused_stream_options_is_not_asked_for_again(serve, connect, path):
    refusal = status(400, {"error": {"message": "stream_options is unknown"}})
    with pytest.raises(UnexpectedStatus):
        connect(serve(refusal)).stream("Hi", stream_options={"include_usage": True}, record=path)
    with pytest.raises(UnexpectedStatus, match="stream_options is unknown"):
        replay(path)


def test_an_error_of_another_library_becomes_a_truncated_stream(path):
    path.write_bytes(recording(run(0, FIRST), note("cut", 1.0, {"error": "Exception", "message": "what?"})))
    with pytest.raises(StreamTruncated, match="Exception: what\\?"):
        list(replay(path))


def test_a_recording_that_ends_before_an_answer_is_a_failed_connection(path):
    path.write_bytes(first_line() + note("request", {"attempt": 1, "parser": [], "body": "x"}))
    with pytest.raises(ConnectionFailed, match="the recording ends before an answer"):
        replay(path)


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("speed", "least", "most"), [(0, 0.0, 0.3), (1, 0.4, 0.8), (2, 0.2, 0.6)])
def test_a_replay_takes_the_time_of_the_answer_divided_by_its_speed(path, speed, least, most):
    path.write_bytes(recording(run(0.2, FIRST), run(0.4, BODY[len(FIRST) :]), note("end", 0.6)))
    with within(most, least):
        stream = replay(path, speed=speed)
        arrived = [(time.monotonic(), each.delta) for each in stream if isinstance(each, OutputTextDelta)]
    assert [text for _, text in arrived] == ["Hi"]
    if speed:
        assert 0.15 / speed < stream.timing.first_event < 0.2 / speed + 0.3


def test_a_replay_waits_for_the_headers_too(serve, connect, path):
    connect(serve([pause(0.3), *text_answer("Hi")])).stream("Hi", record=path).collect()
    with within(0.6, 0.3):
        stream = replay(path, speed=1)
    stream.close()
    with within(0.2):
        stream = replay(path)
    stream.close()


def test_cancel_wakes_a_replay_that_waits(path):
    path.write_bytes(recording(run(0, FIRST), note("end", 60.0)))
    stream = replay(path, speed=1)
    threading.Timer(0.1, stream.cancel).start()
    with within(0.4), pytest.raises(Cancelled) as caught:
        list(stream)
    assert caught.value.partial.text == "Hi"


@pytest.mark.parametrize("speed", [0, 1])
def test_a_replay_has_heartbeats_while_it_waits(path, speed):
    path.write_bytes(recording(run(0, FIRST), run(0.35, BODY[len(FIRST) :]), note("end", 0.35)))
    pieces = list(replay(path, speed=speed).text(heartbeat=0.1))
    assert "".join(pieces) == "Hi"
    assert (pieces.count("") >= 2) == bool(speed)
    assert Heartbeat() not in list(replay(path))


@pytest.mark.parametrize("speed", [-1, True, "1", None, float("nan"), float("inf")])
def test_a_wrong_speed_is_refused(path, speed):
    path.write_bytes(recording(run(0, BODY), note("end", 0.1)))
    with pytest.raises(ConfigError, match=r"^speed must be 0 \(no waiting\) or a factor"):
        replay(path, speed=speed)


def test_a_replay_is_logged_as_a_live_stream_is(path, monkeypatch, caplog):
    from chatstream._calls import log as call_log

    path.write_bytes(recording(run(0, BODY), note("end", 0.1)))
    monkeypatch.setattr(call_log, "_level", [10])
    caplog.set_level(10, logger="chatstream")
    replay(path).collect()
    assert "answer 200: data: {" in caplog.text


# ── files of others ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "data",
    [
        BODY,
        HTTP + BODY,
        HTTP.replace(b"\r\n", b"\n") + BODY,
        b"\xef\xbb\xbf" + BODY.replace(b"\n", b"\r\n"),
        b": keep-alive\n\n" + BODY,
        b"event: message\n" + BODY,
        json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode(),
    ],
    ids=["body", "with headers", "with headers and LF", "BOM and CRLF", "a comment first", "a name first", "JSON"],
)
def test_an_answer_that_another_program_saved_is_replayed(path, data, pack):
    path.write_bytes(pack(data))
    stream = replay(str(path))
    assert stream.collect().text == "Hi"
    assert stream.request_id == ("r1" if data.startswith(b"HTTP") else None)


def test_a_compressed_recording_is_replayed(serve, connect, path):
    connect(serve(text_answer("Hi"))).stream("Hi", record=path).collect()
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert replay(path).collect().text == "Hi"


def test_a_refusal_that_another_program_saved_is_raised(path):
    path.write_bytes(b'HTTP/1.1 401 Unauthorized\r\nX-Request-Id: r7\r\n\r\n{"error": {"message": "wrong key"}}')
    with pytest.raises(UnexpectedStatus, match="wrong key") as caught:
        replay(path)
    assert (caught.value.status, caught.value.request_id) == (401, "r7")


@pytest.mark.parametrize("saved", sorted(RECORDINGS.glob("*/stream_text*.http")), ids=lambda each: each.parent.name)
def test_what_curl_saved_of_real_servers_is_replayed(saved):
    assert replay(saved).collect().text


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"\x89PNG\r\n", "is neither a recording nor the body of a stream: it begins with"),
        (b"<html><body>", "is neither a recording nor the body of a stream: it begins with '<html><body>'"),
        (b"import os\n", "is neither a recording nor the body of a stream: it begins with 'import os"),
        (HTTP, "is neither a recording nor the body of a stream"),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\n", "ends inside its HTTP headers"),
        (b"\x1f\x8bgarbage", "is damaged"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (first_line(), "is a recording without a request"),
    ],
)
def test_a_file_that_is_no_recording_is_one_clear_error(path, data, what):
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        replay(path)
    assert str(caught.value).startswith(f"{path} {what}")
    assert "\n" not in str(caught.value)


def test_a_compressed_file_is_unpacked_to_a_limit(path, monkeypatch):
    from chatstream._recording import load

    monkeypatch.setattr(load, "Limits", lambda: Limits(stream_bytes=10))
    path.write_bytes(gzip.compress(BODY))
    with pytest.raises(ConfigError, match=r"is longer than 10 bytes$"):
        replay(path)


@pytest.mark.parametrize("name", ["missing.sse", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path, name):
    with pytest.raises(ConfigError, match="can't be read"):
        replay(tmp_path / name)


@pytest.mark.parametrize("call", [1, -2, 7])
def test_a_call_that_a_recording_has_not_is_one_clear_error(path, call):
    path.write_bytes(recording(run(0, BODY), note("end", 0.1)))
    with pytest.raises(ConfigError, match=f"run.sse has no call {call}: it contains 1 call$"):
        replay(path, call=call)


@pytest.mark.parametrize("request_", [{"url": "ftp://a"}, {"parser": {"think_tags": 3}}])
def test_settings_in_a_recording_that_cannot_work_are_one_clear_error(path, request_):
    path.write_bytes(recording(run(0, BODY), note("end", 0.1), **request_))
    with pytest.raises(ConfigError, match=r"run\.sse is a damaged recording: (base_url|think_tags)"):
        replay(path)


def test_a_recording_whose_request_was_edited_is_replayed_as_far_as_it_is_understood(path):
    path.write_bytes(
        recording(run(0, BODY), note("end", 0.1), body={"model": 3}, parser={"other": 1}, url="", choices="2")
    )
    assert replay(path).collect().text == "Hi"
