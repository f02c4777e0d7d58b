"""The findings and the settings that doctor reports on servers with different behaviour."""

from __future__ import annotations

import pytest

from chatstream import ConfigError, ConnectionFailed, Report, _doctor, doctor
from chatstream.testing import FaultServer, chunk, cut, delta, done, end, event, finish, head, pause, send, status
from chatstream.testing import text_answer as answer

PIECES = [f"word{i} " for i in range(10)]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
BAD_REQUEST = status(400, {"error": {"message": "messages: not a list", "code": "bad"}})


def live(*more, **fields):
    """An answer of ten pieces of text with a pause after each."""
    steps = [step for piece in PIECES for step in (delta(piece, **fields), pause(0.005))]
    return [head(), *steps, *(more or (finish("length"), done(), end()))]


def report_on(first, reuse=None, tools=None, role=None, refusal=BAD_REQUEST) -> Report:
    """The report on a server that answers doctor's requests with these scripts, or with a short text by default."""
    default = answer("x")
    with FaultServer(first, reuse or default, tools or default, role or default, refusal) as server:
        return doctor(server.url, model="m1", api_key="sk-0123456789")


def test_a_server_with_the_usual_behaviour_needs_no_settings():
    report = report_on(live(finish("length"), event({"choices": [], "usage": USAGE}), done(), end()))
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
        "connection": "reused",
        "tools": "accepted, but the model made no call",
        "developer role": "accepted",
        "errors": "400, JSON, code 'bad': 'messages: not a list'",
    }
    assert str(report).endswith("no settings")


def test_an_answer_that_arrives_in_one_piece_is_reported_as_buffered():
    events = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' for _ in range(20))
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    report = report_on([head(), pause(0.04), chunk(events + last), end()])
    assert report.findings["live"].startswith("BUFFERED: 21 events in 1 moment(s)")


def test_with_few_events_it_is_unknown_whether_they_were_buffered():
    assert report_on(answer("a", "b")).findings["live"] == "unknown: only 3 events arrived"


def test_with_a_very_short_answer_it_is_unknown_whether_it_was_buffered(monkeypatch):
    monkeypatch.setattr(_doctor, "MIN_DURATION", 9.0)
    assert report_on(answer(*PIECES)).findings["live"].startswith("unknown: all 11 events arrived within ")


def test_for_a_server_without_done_and_finish_reason_eof_completes_is_advised():
    report = report_on(live(end()))
    assert (report.findings["[DONE]"], report.findings["finish reason"]) == ("never sent", "never sent")
    assert report.settings == {"eof_completes": True}
    assert "eof_completes=True" in str(report)


def test_a_server_of_http_1_0_needs_a_new_connection_for_every_request():
    head_1_0 = send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    body = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    script = [head_1_0, send(body), cut()]
    report = report_on(script, reuse=script)
    assert report.findings["protocol"] == "HTTP/1.0, until the connection closes"
    assert report.findings["connection"] == "not reused: each request opened a new one"


def test_refused_stream_options_are_reported_and_not_sent_again():
    with FaultServer(status(400, "unknown field stream_options"), live(), answer("x")) as server:
        report = doctor(server.url)
    assert report.settings["stream_usage"] is False
    assert report.findings["usage"] == "never sent; stream_options is rejected"
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
def test_the_chunk_that_carries_the_usage_is_reported(chunks, place):
    assert report_on([head(), *chunks, done(), end()]).findings["usage"].startswith(place)


def test_the_number_of_comments_is_reported():
    report = report_on([head(), chunk(b": ping\n\n: ping\n\n"), delta("x"), finish(), done(), end()])
    assert report.findings["comments"].startswith("2 in 0.")


def test_the_key_of_the_reasoning_is_reported():
    assert report_on(live(reasoning_content="hm")).findings["reasoning"] == "reasoning_content"


def test_for_reasoning_inside_the_text_think_tags_are_advised():
    report = report_on(answer("<think>hm</think>", "four"))
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
        (status(400, {"error": "no tools"}), "rejected with 400: no tools"),
    ],
)
def test_the_form_of_tool_calls_is_reported(tools, finding):
    assert report_on(live(), tools=tools).findings["tools"] == finding


def test_for_a_refused_developer_role_a_setting_is_advised():
    report = report_on(live(), role=status(422, "role"))
    assert report.findings["developer role"] == "rejected with 422"
    assert report.settings == {"developer_role": False}


@pytest.mark.parametrize(
    ("refusal", "finding"),
    [
        (status(500, "oops"), "500, text: 'oops'"),
        (status(500), "500, no body: ''"),
        (answer("x"), "an invalid request was answered with status 200"),
        ([head(), event({"error": "nonsense"}), end()], "an invalid request was answered with status 200: nonsense"),
    ],
)
def test_the_format_of_errors_is_reported(refusal, finding):
    assert report_on(live(), refusal=refusal).findings["errors"] == finding


def test_the_message_of_a_server_that_refuses_every_request_is_reported():
    with FaultServer(status(401, {"error": {"message": "Invalid key"}})) as server:
        report = doctor(server.url)
    assert report.findings["status"] == "401: Invalid key"
    assert "eof_completes" not in report.settings


def test_an_answer_that_breaks_off_is_reported():
    assert "broke off" in report_on([head(), delta("x"), cut()]).findings["error"]


def test_an_answer_with_a_content_length_is_reported():
    body = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    report = report_on([head(framing=len(body)), send(body)])
    assert report.findings["protocol"] == "HTTP/1.1, Content-Length"


def test_without_a_server_or_with_an_invalid_url_doctor_raises():
    with FaultServer() as server:
        url = server.url
    with pytest.raises(ConnectionFailed):
        doctor(url)
    with pytest.raises(ConfigError):
        doctor("localhost")
