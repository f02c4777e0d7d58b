"""`record=` writes what a call sends and receives: as it arrives, complete, and without its secrets."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from support import KEY, REST, THREE, WORDS, body, wait_for

import chatstream
from chatstream import (
    Cancelled,
    ConfigError,
    ConnectionFailed,
    IdleTimeout,
    Provider,
    Recorder,
    StreamTruncated,
    UnexpectedStatus,
    collect,
    read_events,
    replay,
)
from chatstream._http.cancel_scope import CancelScope
from chatstream._recording.load import load
from chatstream.testing import (
    chunk,
    cut,
    delta,
    done,
    end,
    finish,
    head,
    reset,
    stall,
    status,
    text_answer,
)

pytestmark = pytest.mark.usefixtures("short_waits")
ROOT = Path(__file__).resolve().parents[2]
THREE_BYTES = b"".join(map(body, WORDS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sse"


@pytest.fixture
def serve_and_connect(serve: Any, connect: Any) -> Any:
    return serve, connect


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.usefixtures("trusted")
def test_a_recording_holds_request_answer_times_and_the_body_byte_for_byte(serve, connect, path, tls, secure):
    server = serve([head(200, {"X-Request-Id": "r1"}), *THREE, *REST], tls=tls if secure else None)
    turn = connect(server).stream("Hi", temperature=0.5, record=path).collect()
    (exchange,) = load(path)
    assert exchange.body.startswith(THREE_BYTES)
    assert exchange.body.endswith(b"data: [DONE]\n\n")
    assert collect(read_events(exchange.body)).text == turn.text == "one two three "
    assert (exchange.status, exchange.whole, exchange.error) == (200, True, None)
    assert exchange.headers == {"content-type": "text/event-stream", "x-request-id": "r1"}
    request = exchange.request
    assert (request["method"], request["url"]) == ("POST", f"{server.url}/chat/completions")
    assert request["body"] == server.requests[0].json
    assert request["headers"]["content-type"] == "application/json"
    times = [exchange.after, *(seconds for seconds, _ in exchange.pieces), exchange.end]
    assert times == sorted(times)


def test_the_recording_of_a_stream_is_an_event_stream_with_the_same_events(serve, connect, path):
    stream = connect(serve(text_answer("a", "b"))).stream("Hi", record=str(path))
    assert list(stream) == list(read_events(path.read_bytes(), choices=1))


def test_the_one_liner_records_too(serve, path):
    provider = Provider("recorded", serve(text_answer("Hello")).url)
    assert chatstream.stream("Hi", model="m1", provider=provider, record=path).collect().text == "Hello"
    assert replay(path).collect().text == "Hello"


def test_each_event_is_in_the_file_before_the_next_one_is_asked_for(serve, connect, path):
    sent = threading.Event()
    server = serve([head(), delta("one "), wait_for(sent), delta("two "), *REST])
    with connect(server).stream("Hi", record=path) as stream:
        next(stream), next(stream)
        assert load(path)[0].body == body("one ")
        sent.set()
        assert "".join(stream.text()) == "two "


def test_the_body_is_recorded_after_decompression(serve, connect, path):
    import gzip

    data = THREE_BYTES + b"data: [DONE]\n\n"
    server = serve([head(200, {"Content-Encoding": "gzip"}), chunk(gzip.compress(data)), end()])
    connect(server).stream("Hi", record=path).collect()
    assert load(path)[0].body == data
    assert "content-encoding" not in load(path)[0].headers


@pytest.mark.parametrize("cut_at", range(0, 40, 3))
def test_pieces_that_end_inside_a_line_or_a_character_are_recorded_as_they_came(serve, connect, path, cut_at):
    data = body("Hé 🌍").replace(b"\\u", b"\\u") + 'data: {"choices":[{"delta":{"content":"é🌍"}}]}\r\n\r\n'.encode()
    pieces = [piece for piece in (data[:cut_at], data[cut_at:-9], data[-9:]) if piece]
    server = serve([head(), *map(chunk, pieces), *REST])
    connect(server).stream("Hi", record=path).collect()
    assert load(path)[0].body.startswith(data)


def test_an_answer_that_is_one_json_text_is_recorded_and_replayed(serve, connect, path):
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    turn = connect(serve(status(200, answer))).stream("Hi", record=path).collect()
    assert load(path)[0].body == json.dumps(answer).encode()
    assert replay(path).collect().items == turn.items


def test_a_recording_without_record_costs_no_module(serve, connect):
    code = "import sys, chatstream.client; print('chatstream._recording.recorder' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


# ── several requests ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_attempt_of_a_call_is_recorded_and_the_last_one_replayed(serve, connect, path):
    server = serve(status(503, "busy"), [head(), reset()], text_answer("Hello"))
    turn = connect(server).stream("Hi", record=path).collect()
    assert turn.text == replay(path).collect().text == "Hello"
    refused, broken, answered = load(path)
    assert [each.attempt for each in load(path)] == [1, 2, 3]
    assert (refused.status, refused.body, refused.whole) == (503, b"busy", True)
    assert (broken.status, broken.whole, broken.error["error"]) == (200, False, "StreamTruncated")
    assert answered.whole


def test_half_an_event_of_a_broken_attempt_does_not_spoil_the_events_of_the_next(serve, connect, path):
    server = serve([head(), chunk(b'data: {"choices": [{"del'), cut()], text_answer("Hello"))
    assert connect(server).stream("Hi", record=path).collect().text == "Hello"
    broken, _ = load(path)
    assert broken.body == b'data: {"choices": [{"del'
    lines = path.read_bytes().split(b"\n\n")
    assert lines[0].endswith(b'{"choices": [{"del\n' + lines[0].splitlines()[-1])
    assert lines[1].startswith(b": request ")


def test_a_recorder_keeps_the_calls_that_it_is_given_in_one_file(serve, connect, path):
    recorder = Recorder(path)
    client = connect(serve(text_answer("one"), text_answer("two")))
    client.stream("Hi", record=recorder).collect()
    client.stream("Ho", record=recorder).collect()
    assert [replay(path, call=number).collect().text for number in (0, 1, -1)] == ["one", "two", "two"]
    assert path.read_bytes().count(b": chatstream recording") == 1


def test_a_recorder_that_appends_keeps_what_the_file_has(serve, connect, path):
    client = connect(serve(text_answer("one"), text_answer("two"), text_answer("three")))
    for _ in range(2):
        client.stream("Hi", record=Recorder(path, append=True)).collect()
    assert [each.body.count(b"two") for each in load(path)] == [0, 1]
    client.stream("Hi", record=path).collect()
    assert len(load(path)) == 1


def test_a_recorder_refuses_to_append_to_something_else(serve, connect, path):
    path.write_text("my notes")
    server = serve(text_answer("one"))
    with pytest.raises(ConfigError, match=r"it exists, and is not a recording$"):
        connect(server).stream("Hi", record=Recorder(path, append=True))
    assert path.read_text() == "my notes"
    assert not server.requests


def test_a_recorder_writes_into_a_file_that_is_open_and_leaves_it_open(serve, connect):
    file = io.BytesIO()
    recorder = Recorder(file)
    client = connect(serve(text_answer("one")))
    client.stream("Hi", record=recorder).collect()
    client.stream("Hi", record=recorder).collect()
    assert file.getvalue().count(b"\n: request ") == 2
    assert "BytesIO" in repr(recorder)


def test_a_thread_whose_stream_another_one_has_closed_can_use_the_recorder_for_its_next_call(
    serve, connect, tmp_path, monkeypatch
):
    """It may run as soon as the other thread has woken it, long before that one has ended the call."""
    recorder = Recorder(tmp_path / "r.sse")
    stream = connect(serve([head(), *THREE, wait_for(threading.Event())])).stream("Hi", record=recorder)
    next(stream)
    begun: list[Any] = []
    cancel = CancelScope.cancel

    def cancel_and_run(scope: CancelScope) -> None:
        cancel(scope)
        begun.append(recorder.begin(1))

    monkeypatch.setattr(CancelScope, "cancel", cancel_and_run)
    stream.close()
    assert len(begun) == 1


def test_a_file_that_raises_when_a_stream_is_closed_leaves_no_connection_open_and_no_thread_blocked(serve, connect):
    class File(io.BytesIO):
        is_broken = False

        def write(self, data: Any) -> int:
            if self.is_broken:
                raise LookupError("broken")
            return super().write(data)

    file = File()
    server = serve([head(), delta("a"), wait_for(threading.Event())])
    stream = connect(server).stream("Hi", record=Recorder(file))
    next(stream)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    file.is_broken = True
    with pytest.raises(LookupError, match="broken"):
        stream.close()
    reader.join(5)
    assert not reader.is_alive()


def test_the_next_call_can_not_use_a_recorder_that_is_still_being_closed(serve, connect, tmp_path, monkeypatch):
    recorder = Recorder(tmp_path / "r.sse")
    refused: list[ConfigError] = []
    close = Recorder.close

    def begin_and_close(self: Recorder) -> None:
        with pytest.raises(ConfigError, match="already recording another call") as caught:
            self.begin(1)
        refused.append(caught.value)
        close(self)

    monkeypatch.setattr(Recorder, "close", begin_and_close)
    connect(serve(text_answer("x"))).stream("Hi", record=recorder).collect()
    assert len(refused) == 1
    assert not recorder.begin(1).ended


def test_a_recorder_records_one_call_at_a_time(serve, connect, path):
    recorder = Recorder(path)
    client = connect(serve([head(), delta("a"), stall()], text_answer("two")))
    with (
        client.stream("Hi", record=recorder),
        pytest.raises(ConfigError, match=r"^the Recorder is already recording another"),
    ):
        client.stream("Hi", record=recorder)
    assert client.stream("Hi", record=recorder).collect().text == "two"


def test_two_calls_are_not_recorded_in_one_file_at_once(serve, connect, path):
    client = connect(serve([head(), delta("a"), stall()], text_answer("two")))
    with client.stream("Hi", record=path) as stream:
        next(stream)
        before = path.read_bytes()
        for record in (path, str(path.parent / "." / "run.sse"), Recorder(path, append=True)):
            with pytest.raises(ConfigError, match=r"can't be written: another call is being recorded there$"):
                client.stream("Hi", record=record)
        assert path.read_bytes() == before
    assert client.stream("Hi", record=path).collect().text == "two"
    assert replay(path).collect().text == "two"


@pytest.mark.parametrize("share", [0.45, 0.8])
def test_a_request_that_is_nested_deep_is_recorded_with_or_without_its_body(serve, connect, path, share):
    deep: Any = "x"
    for _ in range(int(sys.getrecursionlimit() * share)):
        deep = [deep]
    server = serve(text_answer("one"))
    connect(server).stream("Hi", extra_body={"deep": deep}, record=path).collect()
    assert len(server.requests) == 1
    assert replay(path).collect().text == "one"


# ── endings ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("events", [0, 3])
@pytest.mark.parametrize(
    ("last", "kind"), [(cut(), StreamTruncated), (reset(), StreamTruncated), (stall(), IdleTimeout)]
)
def test_a_replayed_stream_breaks_off_with_the_error_and_the_partial_of_the_live_one(
    serve_and_connect, path, last, kind, events
):
    serve, connect = serve_and_connect
    script = [head(), *THREE[:events], last]
    client = connect(serve(script), stream_max_retries=0, stream_idle_timeout=0.2 if kind is IdleTimeout else 10)
    with pytest.raises(kind) as live:
        list(client.stream("Hi", record=path))
    with pytest.raises(kind) as again:
        list(replay(path))
    assert str(again.value) == str(live.value)
    assert again.value.partial.text == live.value.partial.text == "".join(WORDS[:events])
    assert type(again.value) is type(live.value)


def test_a_refusal_is_replayed_as_a_refusal(serve, connect, path):
    refusal = status(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}}, {"X-Request-Id": "r9"})
    with pytest.raises(UnexpectedStatus) as live:
        connect(serve(refusal)).stream("Hi", record=path)
    with pytest.raises(UnexpectedStatus, match="wrong key") as again:
        replay(path)
    for name in ("status", "code", "message", "body", "request_id"):
        assert getattr(again.value, name) == getattr(live.value, name)


def test_a_connection_that_failed_is_replayed_as_one_that_failed(connect, refused_port, path):
    with pytest.raises(ConnectionFailed) as live:
        connect(f"http://127.0.0.1:{refused_port}/v1").stream("Hi", record=path)
    with pytest.raises(ConnectionFailed) as again:
        replay(path)
    assert again.value.args == live.value.args
    assert [each.error["error"] for each in load(path)] == ["ConnectionFailed"] * 2


def test_a_cancelled_stream_is_recorded_up_to_there(serve, connect, path):
    stream = connect(serve([head(), *THREE, stall()])).stream("Hi", record=path)
    while getattr(next(stream), "delta", "") != WORDS[2]:
        pass
    stream.cancel()
    with pytest.raises(Cancelled):
        next(stream)
    with pytest.raises(Cancelled) as again:
        list(replay(path))
    assert again.value.partial.text == "".join(WORDS)


def test_a_stream_whose_loop_was_left_is_recorded_up_to_there(serve, connect, path):
    with connect(serve([head(), *THREE, stall()])).stream("Hi", record=path) as stream:
        for event in stream:
            if getattr(event, "delta", "") == WORDS[2]:
                break
    (exchange,) = load(path)
    assert (exchange.body, exchange.whole, exchange.error) == (THREE_BYTES, False, None)
    with pytest.raises(StreamTruncated) as again:
        list(replay(path))
    assert again.value.partial.text == "".join(WORDS)


KILLED = """
import sys, chatstream
from chatstream import Client, Provider
for event in Client(Provider("t", sys.argv[1]), model="m").stream("Hi", record=sys.argv[2]):
    if getattr(event, "delta", "") == "three ":
        print("there", flush=True)
"""


def test_the_recording_of_a_killed_process_has_all_that_it_received(serve, path):
    server = serve([head(), *THREE, chunk(b'data: {"ch'), stall()])
    with subprocess.Popen([sys.executable, "-c", KILLED, server.url, path], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
    assert load(path)[0].body == THREE_BYTES
    with pytest.raises(StreamTruncated) as caught:
        list(replay(path))
    assert caught.value.partial.text == "".join(WORDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_that_inherited_a_recorded_stream_writes_nothing(serve, connect, path):
    stream = connect(serve([head(), *THREE, *REST])).stream("Hi", record=path)
    next(stream)
    child = os.fork()
    if not child:
        stream._reader.call.recording.end(None)
        os._exit(0)
    os.waitpid(child, 0)
    assert b": cut" not in path.read_bytes()
    assert stream.collect().status == "completed"
    assert load(path)[0].whole


# ── what can't be written ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ("", "record must be the path of a file or a Recorder, not an empty text"),
        (b"run.sse", "not bytes"),
        (3, "not int"),
        (True, "not bool"),
        (object(), "not object"),
        ("nowhere/run.sse", "No such file or directory"),
        (".", "Is a directory"),
        ("a\0b", "embedded null"),
        ("x" * 5000, "too long"),
        pytest.param(
            "/dev/full",
            "No space left on device",
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here"),
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_sent(serve, connect, record, what, tmp_path):
    server = serve(text_answer("Hello"))
    if record in {"nowhere/run.sse", "."}:
        record = tmp_path / record
    with pytest.raises(ConfigError, match=what) as caught:
        connect(server).stream("Hi", record=record)
    assert "\n" not in str(caught.value)
    assert not server.requests


def test_a_text_file_is_refused_as_the_target_of_a_recorder(tmp_path):
    with (
        open(tmp_path / "run.sse", "w") as file,
        pytest.raises(ConfigError, match=r"a Recorder needs a file opened in binary mode: open\(path, 'wb'\)$"),
    ):
        Recorder(file)


class FullAfter(io.BytesIO):
    """A file on a device that is full after some bytes, and takes a few at a time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(bytes(data[: min(100, self.room)]))
        self.room -= taken
        return taken


@pytest.mark.parametrize("room", [700, 800, 900, 1000])
def test_a_full_disk_in_the_middle_ends_the_recording_with_a_warning_and_not_the_answer(serve, connect, room):
    file = FullAfter(room)
    stream = connect(serve(text_answer(*WORDS, "x" * 500))).stream("Hi", record=Recorder(file))
    with pytest.warns(UserWarning, match="^the recording is incomplete, because .* No space left on device$") as warned:
        assert stream.collect().text == "".join(WORDS) + "x" * 500
    assert [each.filename for each in warned] == [__file__]
    assert len(file.getvalue()) == room


def test_a_file_that_takes_a_few_bytes_at_a_time_gets_them_all(serve, connect):
    file = FullAfter(10_000)
    connect(serve(text_answer("x" * 500))).stream("Hi", record=Recorder(file)).collect()
    assert collect(read_events(file.getvalue())).text == "x" * 500


def test_a_call_that_is_refused_before_it_is_sent_leaves_the_recording_of_another_call_alone(serve, connect, path):
    client = connect(serve(text_answer("Hello")))
    client.stream("Hi", record=path).collect()
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        client.stream("Hi", temperature=object(), record=path)
    assert path.read_bytes() == before


def test_record_is_an_option_of_each_call_and_no_field_of_a_request(serve, connect):
    with pytest.raises(ConfigError, match=r"^defaults can't have record: pass it to each call$"):
        connect("http://127.0.0.1/v1", defaults={"record": "x"})


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "tok-9fK2xQ7Lw0Zr4"
SPELLINGS = {
    "as it is": KEY,
    "in capitals": KEY.upper(),
    "escaped for JSON": "".join(f"\\u{ord(each):04x}" for each in KEY),
    "escaped for a URL": "".join(f"%{ord(each):02x}" for each in KEY),
    "with its scheme": f"Bearer {KEY}",
    "with escaped dashes": KEY.replace("-", "\\/-").replace("\\/-", "\\u002d"),
}


def recorded(path: Path) -> str:
    text = path.read_text("utf-8")
    for secret in (KEY, SECRET):
        assert secret.lower() not in text.lower()
    return text


def test_no_header_of_a_request_is_recorded_that_is_not_on_the_list(serve, connect, path):
    server = serve([head(200, {"Set-Cookie": f"id={SECRET}", "X-Trace": SECRET, "Server": "s1"}), *THREE, *REST])
    headers = {"X-Token": SECRET, "X-Title": "My App", "Cookie": f"a={SECRET}"}
    connect(server, http_headers=headers).stream("Hi", extra_headers={"X-More": SECRET}, record=path).collect()
    recorded(path)
    (exchange,) = load(path)
    assert sorted(exchange.request["headers"]) == ["accept", "content-type", "user-agent"]
    assert sorted(exchange.headers) == ["content-type", "server"]


def test_a_secret_in_a_header_of_the_list_is_masked(serve, connect, path):
    server = serve([head(200, {"X-Request-Id": f"id-{KEY}", "Location": f"/v1?sig={SECRET}"}), *THREE, *REST])
    connect(server, http_headers={"User-Agent": f"me/{KEY}"}).stream("Hi", record=path).collect()
    recorded(path)
    assert load(path)[0].request["headers"]["user-agent"] == "me/***"
    assert load(path)[0].headers["location"] == "/v1?sig=***"


def test_a_secret_in_the_url_is_masked(serve, connect, path):
    server = serve(text_answer("Hello"))
    client = connect(f"{server.url}?sig={SECRET}", query_params={"api-version": "2024-10-21", "token": SECRET})
    client.stream("Hi", record=path).collect()
    recorded(path)
    url = load(path)[0].request["url"]
    assert url == f"{server.url}/chat/completions?sig=***&api-version=2024-10-21&token=***"


def test_secrets_in_the_body_of_the_request_are_masked(serve, connect, path):
    server = serve(text_answer("Hello"))
    tools = [{"type": "mcp", "server_url": "https://a.b", "authorization": SECRET, "headers": {"x-api-key": "short"}}]
    tools[0]["headers"]["X-Mine"] = tools[0]["headers"]["Accept"] = SECRET
    tools[0]["headers"]["Accept-Language"] = "en"
    image = {"type": "image_url", "image_url": {"url": f"https://a.b/c.png?w=100&X-Amz-Signature={SECRET}"}}
    prompt = [
        {"role": "user", "content": f"My key is {KEY}, is it safe?"},
        {"role": "user", "content": [image]},
    ]
    connect(server, other_tools=True).stream(prompt, tools=tools, record=path).collect()
    recorded(path)
    body = load(path)[0].request["body"]
    assert body["messages"][0]["content"] == "My key is ***, is it safe?"
    assert body["tools"][0]["authorization"] == body["tools"][0]["headers"]["x-api-key"] == "***"
    assert body["tools"][0]["server_url"] == "https://a.b"
    assert body["tools"][0]["headers"]["Accept-Language"] == "en"
    assert body["messages"][1]["content"][0]["image_url"]["url"] == "https://a.b/c.png?w=100&X-Amz-Signature=***"
    assert server.requests[0].json["tools"][0]["authorization"] == SECRET


@pytest.mark.parametrize("events", [0, 3])
@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_a_key_that_the_server_repeats_in_the_stream_is_masked(serve, connect, path, spelled, events):
    line = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % spelled.encode()
    server = serve([head(), *THREE[:events], chunk(line), *REST])
    turn = connect(server).stream("Hi", record=path).collect()
    recorded(path)
    assert load(path)[0].body.count(b"***") == 1
    assert spelled not in load(path)[0].body.decode()
    again = replay(path).collect()
    assert again.text.endswith("***")
    assert len(turn.text) > len(again.text)


@pytest.mark.parametrize("cut_at", range(1, len(KEY), 4))
def test_a_key_that_arrives_in_two_reads_is_masked_too(serve, connect, path, cut_at):
    line = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % KEY.encode()
    at, half = line.index(KEY.encode()) + cut_at, threading.Event()
    server = serve([head(), *THREE, chunk(line[:at]), wait_for(half), chunk(line[at:]), *REST])
    with connect(server).stream("Hi", record=path) as stream:
        next(stream)
        half.set()
        stream.collect()
    assert "***" in recorded(path)


def test_a_key_in_the_body_of_a_refusal_or_in_the_text_of_an_error_is_masked(serve, connect, path):
    with pytest.raises(UnexpectedStatus):
        connect(serve(status(401, f"wrong key {KEY}"))).stream("Hi", record=path)
    recorded(path)
    with pytest.raises(chatstream.ProviderError):
        list(connect(serve([head(), chunk(b'data: {"error": {"message": "bad %b"}}\n\n' % KEY.encode())])).stream(
            "Hi", record=path
        ))  # fmt: skip
    recorded(path)


def test_the_password_of_a_session_is_masked(serve, connect, path):
    server = serve([head(), delta(SECRET), finish(), done(), end()])
    with requests.Session() as session:
        session.auth = ("me", SECRET)
        session.params = {"token": SECRET}
        session.trust_env = False
        connect(server, api_key=None, session=session).stream("Hi", record=path).collect()
    assert "***" in recorded(path)


def test_text_that_only_begins_like_the_key_is_recorded_as_it_is(serve, connect, path):
    begins = KEY[:9] + " " + "x" * 600 + " " + KEY[:9]
    connect(serve(text_answer(begins))).stream("Hi", record=path).collect()
    assert replay(path).collect().text == begins


def test_the_repr_of_a_recorder_shows_its_path(path):
    assert repr(Recorder(path)) == f"Recorder({str(path)!r})"


def test_what_arrives_after_the_end_of_a_recording_is_not_written(serve, connect, path):
    more = threading.Event()
    stream = connect(serve([head(), *THREE, wait_for(more), *REST])).stream("Hi", record=path)
    next(stream)
    stream._reader.call.recording.end(None)  # as another thread does that closes the stream during a read
    more.set()
    assert stream.collect().status == "completed"
    assert b"[DONE]" not in path.read_bytes()
