"""What doctor says of servers that do this or that."""

from __future__ import annotations

import pytest

from chatstream import ConfigError, ConnectionFailed, Report, _doctor, doctor
from chatstream.testing import FaultServer, chunk, cut, delta, done, end, event, finish, head, pause, send, status
from chatstream.testing import text_answer as answer

WORDS = [f"word{i} " for i in range(10)]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
REFUSED = status(400, {"error": {"message": "messages: not a list", "code": "bad"}})


def live(*more, **fields):
    """Ten words, each at a moment of its own."""
    steps = [step for word in WORDS for step in (delta(word, **fields), pause(0.005))]
    return [head(), *steps, *(more or (finish("length"), done(), end()))]


def examined(first, reuse=None, tools=None, role=None, refusal=REFUSED) -> Report:
    """The report on a server that answers doctor's requests in turn; a plain answer where nothing is said."""
    plain = answer("x")
    with FaultServer(first, reuse or plain, tools or plain, role or plain, refusal) as server:
        return doctor(server.url, model="m1", api_key="sk-0123456789")


def test_a_server_that_does_everything_right_needs_no_settings():
    report = examined(live(finish("length"), event({"choices": [], "usage": USAGE}), done(), end()))
    assert report.settings == {}
    found = report.findings
    assert found.pop("live").startswith("yes: 11 events")
    assert found == {
        "protocol": "HTTP/1.1, chunked",
        "[DONE]": "sent",
        "finish reason": "length",
        "usage": "in a chunk of its own",
        "comments": "none",
        "reasoning": "none seen",
        "connection": "serves several requests",
        "tools": "accepted, but the model made no call",
        "developer role": "accepted",
        "errors": "400, JSON, code 'bad': 'messages: not a list'",
    }
    assert str(report).endswith("nothing: the defaults suit it")


def test_an_answer_that_comes_in_one_piece_after_a_silence_is_buffered():
    events = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' for _ in range(20))
    report = examined([head(), pause(0.04), chunk(events), finish(), done(), end()])
    assert report.findings["live"].startswith("BUFFERED: 21 events in 1 moment(s)")


def test_a_handful_of_events_shows_nothing_of_buffering():
    assert examined(answer("a", "b")).findings["live"] == "unknown: only 3 events came"


def test_an_answer_that_is_over_at_once_shows_nothing_either(monkeypatch):
    monkeypatch.setattr(_doctor, "TOO_FAST", 9.0)
    assert examined(answer(*WORDS)).findings["live"].startswith("unknown: all 11 events came within ")


def test_a_server_without_done_and_without_finish_reason_wants_eof_completes():
    report = examined(live(end()))
    assert (report.findings["[DONE]"], report.findings["finish reason"]) == ("never sent", "never sent")
    assert report.settings == {"eof_completes": True}
    assert "eof_completes=True" in str(report)


def test_a_server_of_http_1_0_closes_its_connections():
    head_1_0 = send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    body = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    script = [head_1_0, send(body), cut()]
    report = examined(script, reuse=script)
    assert report.findings["protocol"] == "HTTP/1.0, until the connection closes"
    assert report.findings["connection"] == "a new one for every request"


def test_a_refused_stream_options_is_seen_and_left_out():
    with FaultServer(status(400, "unknown field stream_options"), live(), answer("x")) as server:
        report = doctor(server.url)
    assert report.settings["stream_usage"] is False
    assert report.findings["usage"] == "never sent; stream_options is refused"
    assert "stream_options" in server.requests[0].json
    assert "stream_options" not in server.requests[1].json


@pytest.mark.parametrize(
    ("chunks", "place"),
    [
        ([finish("stop", usage=USAGE)], "in the finish chunk"),
        ([event({"choices": [{"delta": {"content": "x"}}], "usage": USAGE}), finish()], "in every chunk"),
        (
            [finish("stop", usage=USAGE), event({"usage": USAGE, "choices": []})],
            "in a chunk of its own and in the finish",
        ),
    ],
)
def test_the_place_of_the_usage_is_told(chunks, place):
    assert examined([head(), *chunks, done(), end()]).findings["usage"].startswith(place)


def test_comments_are_counted():
    report = examined([head(), chunk(b": ping\n\n: ping\n\n"), delta("x"), finish(), done(), end()])
    assert report.findings["comments"].startswith("2 in 0.")


def test_the_key_of_the_reasoning_is_told():
    assert examined(live(reasoning_content="hm")).findings["reasoning"] == "reasoning_content"


def test_thoughts_inside_the_text_want_think_tags():
    report = examined(answer("<think>hm</think>", "four"))
    assert report.findings["reasoning"] == "<think> inside the text"
    assert report.settings == {"think_tags": ("think",)}


def call(**fields):
    return event(
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": "get_weather", "arguments": "{}"}, **fields}]}}]}
    )


@pytest.mark.parametrize(
    ("tools", "finding"),
    [
        ([head(), call(index=1, id="c"), finish("tool_calls"), done(), end()], "id, index from 1, 1 fragment(s)"),
        ([head(), call(), finish("stop"), done(), end()], "no id, no index, 1 fragment(s)"),
        (status(400, {"error": "no tools"}), "refused with 400: no tools"),
    ],
)
def test_the_spelling_of_tool_calls_is_told(tools, finding):
    assert examined(live(), tools=tools).findings["tools"] == finding


def test_a_refused_developer_role_is_a_setting():
    report = examined(live(), role=status(422, "role"))
    assert report.findings["developer role"] == "refused with 422"
    assert report.settings == {"developer_role": False}


@pytest.mark.parametrize(
    ("refusal", "finding"),
    [
        (status(500, "oops"), "500, text: 'oops'"),
        (status(500), "500, no body: ''"),
        (answer("x"), "nonsense is answered with 200"),
        ([head(), event({"error": "nonsense"}), end()], "nonsense is answered with 200: nonsense"),
    ],
)
def test_the_shape_of_errors_is_told(refusal, finding):
    assert examined(live(), refusal=refusal).findings["errors"] == finding


def test_a_server_that_refuses_everything_is_reported_with_its_sentence():
    with FaultServer(status(401, {"error": {"message": "Invalid key"}})) as server:
        report = doctor(server.url)
    assert report.findings["status"] == "401: Invalid key"
    assert "eof_completes" not in report.settings


def test_an_answer_cut_short_is_reported():
    assert "broke off" in examined([head(), delta("x"), cut()]).findings["error"]


def test_an_answer_by_length_is_told():
    body = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    report = examined([head(framing=len(body)), send(body)])
    assert report.findings["protocol"] == "HTTP/1.1, Content-Length"


def test_no_server_is_an_error_of_its_own():
    with FaultServer() as server:
        url = server.url
    with pytest.raises(ConnectionFailed):
        doctor(url)
    with pytest.raises(ConfigError):
        doctor("localhost")
