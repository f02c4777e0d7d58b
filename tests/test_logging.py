"""The log of calls that ``CHATSTREAM_LOG`` switches on: its lines, what is never in them, and where they go."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
from support import KEY, REST, THREE

from chatstream import (
    Client,
    ConfigError,
    ConnectionFailed,
    ProtocolViolation,
    Provider,
    StreamTruncated,
    UnexpectedStatus,
)
from chatstream._calls import log as call_log
from chatstream.testing import cut, delta, event, head, send, stall, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")
OK = text_answer("fi", "ne", usage={"prompt_tokens": 3, "completion_tokens": 2})
MAX_LINE = 3 * call_log.MAX_BODY

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _unread_variable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test reads the variable anew, and leaves the logger as it was."""
    log = logging.getLogger("chatstream")
    before = log.level, log.handlers[:]
    monkeypatch.setattr(call_log, "_level", [])
    yield
    log.setLevel(before[0])
    log.handlers[:] = before[1]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines that a handler of the program has got."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == "chatstream"]


@pytest.fixture
def info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSTREAM_LOG", "info")


@pytest.fixture
def debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSTREAM_LOG", "debug")


def values(line: str) -> dict[str, str]:
    """The values of a line of a call, by name."""
    found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)
    return {name: json.loads(value) if value.startswith('"') else value for name, value in found}


# ── info ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("info")
def test_info_logs_one_line_for_a_call_with_its_model_status_tokens_times_and_retries(serve, connect, lines, caplog):
    connect(serve(status(503, "", {"retry-after-ms": "1"}), OK)).stream("Hi").collect()
    _, line = lines()  # the first is the announcement of the retry
    found = values(line)
    assert list(found) == [
        *("call", "provider", "model", "status", "answer", "finish_reason", "input_tokens", "output_tokens"),
        *("headers", "first_event", "total", "retries"),
    ]
    assert [found[name] for name in ("provider", "model", "status", "answer", "finish_reason", "retries")] == [
        *("test", "m1", "200", "completed", "stop", "1")
    ]
    assert (found["input_tokens"], found["output_tokens"]) == ("3", "2")
    assert all(re.fullmatch(r"\d+\.\d{3}s", found[name]) for name in ("headers", "first_event", "total"))
    assert caplog.records[-1].levelno == logging.INFO


@pytest.mark.usefixtures("info")
def test_info_logs_no_text_of_a_question_or_an_answer(serve, connect, lines):
    connect(serve(text_answer("an answer of its own"))).stream("a question of my own").collect()
    assert "of its own" not in str(lines())
    assert "of my own" not in str(lines())


@pytest.mark.usefixtures("info")
def test_the_line_of_a_stream_that_is_cut_has_its_error_and_the_time_of_its_first_event(serve, connect, lines):
    with pytest.raises(StreamTruncated):
        list(connect(serve([head(), *THREE, cut()])).stream("Hi"))
    found = values(lines()[-1])
    assert (found["status"], found["answer"], found["retries"]) == ("200", "incomplete", "0")
    assert found["error"].startswith("StreamTruncated: stream disconnected before completion")
    assert "first_event" in found


@pytest.mark.usefixtures("info")
def test_the_line_of_a_refused_call_has_the_status_the_id_and_the_message_of_the_server(serve, connect, lines):
    refusal = status(400, {"error": {"message": "Too long."}}, {"x-request-id": "req_1"})
    with pytest.raises(UnexpectedStatus):
        connect(serve(refusal)).stream("Hi")
    found = values(lines()[-1])
    assert (found["status"], found["request_id"]) == ("400", "req_1")
    assert found["error"] == "UnexpectedStatus: unexpected status 400: Too long., request id: req_1"
    assert {"headers", "first_event", "finish_reason", "input_tokens"}.isdisjoint(found)


@pytest.mark.usefixtures("info")
def test_the_line_of_a_call_without_a_response_has_no_status(serve, connect, refused_port, lines):
    with pytest.raises(ConnectionFailed):
        connect(f"http://127.0.0.1:{refused_port}/v1", request_max_retries=0).stream("Hi")
    found = values(lines()[-1])
    assert "status" not in found
    assert found["error"].startswith("ConnectionFailed: ")


@pytest.mark.usefixtures("info")
def test_the_line_of_a_stream_that_nobody_reads_to_its_end_has_no_error(serve, connect, lines):
    for _ in connect(serve([head(), *THREE, stall()])).stream("Hi").text():
        break
    found = values(lines()[-1])
    assert found["answer"] == "incomplete"
    assert "error" not in found


@pytest.mark.usefixtures("info")
def test_the_line_of_an_answer_with_several_choices_has_each_finish_reason(serve, connect, lines):
    choices = [{"index": n, "delta": {"content": "a"}, "finish_reason": r} for n, r in enumerate(["stop", "length"])]
    connect(serve([head(), event({"choices": choices}), *REST[1:]])).stream("Hi", n=2).collect()
    assert values(lines()[-1])["finish_reason"] == "stop,length"


@pytest.mark.usefixtures("info")
def test_an_exception_of_a_hook_is_named_in_the_line_without_its_message(serve, connect, lines):
    def fail(_: object) -> None:
        raise LookupError("user 4711")

    with pytest.raises(LookupError):
        connect(serve(OK), on_request=fail).stream("Hi")
    assert values(lines()[-1])["error"] == "LookupError"


# ── what is never in a line ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("reply", [lambda text: status(400, {"error": {"message": text}}), text_answer])
def test_no_secret_of_a_call_is_logged_though_the_server_repeats_it(serve, connect, lines, monkeypatch, reply):
    secrets = (KEY, "tok_8f3Kd92mQx71Lp", "q7Wm2xR9vK4tZ", "sid_a9Xk2Lq8Zt")
    monkeypatch.setenv("GATEWAY_TOKEN", secrets[1])
    client = connect(
        serve(reply(f"no {' '.join(secrets)} here")),
        env_http_headers={"X-Gateway": "GATEWAY_TOKEN"},
        http_headers={"Cookie": f"sid={secrets[3]}"},
        query_params={"sig": secrets[2]},
    )
    with contextlib.suppress(UnexpectedStatus):
        client.stream(f"is {KEY} mine?").collect()
    assert len(lines()) == 3
    for secret in secrets:
        assert secret not in str(lines())


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize("before", range(call_log.MAX_BODY - len(KEY) - 12, call_log.MAX_BODY, 5))
def test_no_beginning_of_a_secret_is_logged_where_a_body_is_cut(serve, connect, lines, before):
    refusal = "x" * before + KEY + "y" * 100
    with pytest.raises(UnexpectedStatus):
        connect(serve(status(400, refusal))).stream("Hi")
    answer = next(line for line in lines() if " answer 400: " in line)
    assert KEY[:8] not in answer


@pytest.mark.usefixtures("info")
def test_a_key_given_as_the_model_is_not_logged(serve, connect, lines):
    connect(serve(OK), model="q8Zt3Lm5Xw9Kp2Rv7Ns4").stream("Hi").collect()
    assert values(lines()[-1])["model"] == "***"


@pytest.mark.usefixtures("info")
def test_a_model_that_is_no_text_is_logged_with_the_error_that_it_causes(serve, connect, lines):
    with pytest.raises(ConfigError):
        connect(serve(OK), model=5).stream("Hi")
    assert values(lines()[-1])["model"] == "5"


@pytest.mark.usefixtures("debug")
def test_control_characters_of_a_server_are_escaped_so_that_a_call_stays_one_line(serve, connect, lines):
    hostile = "a\x1b[31m\r\n\u202ecall=7 provider=fake"
    name = Provider("test\n\x1b]0;x\x07", serve(status(400, {"error": {"message": hostile}})).url)
    with Client(name, model="m\u202e1") as client, pytest.raises(UnexpectedStatus):
        client.stream(hostile)
    assert len(lines()) == 3
    assert all(line.isprintable() for line in lines())
    assert values(lines()[-1])["provider"].startswith("test")


@pytest.mark.usefixtures("debug")
def test_of_long_bodies_and_messages_only_the_beginning_is_logged_with_their_size(serve, connect, lines):
    long = "\x01" * 1_000_000
    with pytest.raises(UnexpectedStatus):
        connect(serve(status(400, "z" * 60_000))).stream(long, user="u" * 100_000)
    request, answer, line = lines()
    assert max(map(len, (request, answer, line))) <= MAX_LINE
    assert request.endswith(" bytes)")
    assert answer.endswith("… (60000 bytes)")


# ── debug ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("debug")
def test_debug_logs_the_body_of_each_request_and_of_each_answer_in_order(serve, connect, lines):
    server = serve(status(503, "Busy.", {"retry-after-ms": "1"}), OK)
    connect(server).stream("Hi").collect()
    first, refusal, retry, second, answer, line = lines()
    number = values(line)["call"]
    url = re.escape(f"{server.url}/chat/completions")
    assert re.fullmatch(rf'call={number} attempt=1 POST {url}: {{"model".*"Hi".*}}', first)
    assert refusal == f"call={number} answer 503: Busy."
    assert retry.startswith("stream error")
    assert second == first.replace("attempt=1", "attempt=2")
    assert answer.startswith(rf'call={number} answer 200: data: {{"id": "c1"')
    assert answer.endswith(r"data: [DONE]\n\n")


@pytest.mark.usefixtures("debug")
def test_debug_logs_what_arrived_of_a_stream_that_is_restarted_before_the_retry_is_announced(serve, connect, lines):
    connect(serve([head(), delta("half"), cut()], OK)).stream("Hi").collect()
    _, answer, retry, *_ = lines()
    assert "half" in answer
    assert retry.startswith("stream error")


@pytest.mark.usefixtures("debug")
def test_debug_logs_what_arrived_of_an_answer_that_is_no_stream(serve, connect, lines):
    page = [head(headers={"Content-Type": "text/html"}, framing=13), send(b"<html>A page.")]
    with pytest.raises(ProtocolViolation):
        connect(serve(page)).stream("Hi").collect()
    assert any(line.endswith("answer 200: <html>A page.") for line in lines())


@pytest.mark.usefixtures("debug")
def test_debug_logs_an_answer_that_the_caller_left_as_far_as_it_was_read(serve, connect, lines):
    for _ in connect(serve([head(), delta("one"), stall()])).stream("Hi").text():
        break
    assert "one" in lines()[-2]


@pytest.mark.usefixtures("info")
def test_the_bodies_are_logged_only_by_debug(serve, connect, lines):
    connect(serve(OK)).stream("Hi").collect()
    assert len(lines()) == 1


# ── the switch ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_value_no_call_is_logged_and_the_logger_is_left_alone(serve, connect, lines, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("CHATSTREAM_LOG", value)
    log = logging.getLogger("chatstream")
    connect(serve(OK)).stream("Hi").collect()
    assert lines() == []
    assert log.level == logging.NOTSET
    assert not any(isinstance(handler, call_log.StderrHandler) for handler in log.handlers)


@pytest.mark.parametrize("value", ["INFO", " Info\n"])
def test_case_and_blanks_of_the_value_do_not_matter(serve, connect, lines, monkeypatch, value):
    monkeypatch.setenv("CHATSTREAM_LOG", value)
    connect(serve(OK)).stream("Hi").collect()
    assert len(lines()) == 1


@pytest.mark.parametrize("value", ["verbose", "1", "INFO,DEBUG", "x" * 5000])
def test_a_wrong_value_is_one_warning_that_names_the_values(serve, connect, lines, monkeypatch, value):
    monkeypatch.setenv("CHATSTREAM_LOG", value)
    client = connect(serve(OK))
    with pytest.warns(UserWarning, match="CHATSTREAM_LOG must be info or debug, not") as caught:
        client.stream("Hi").collect()
    client.stream("Hi").collect()  # a warning is an error
    assert [each.filename for each in caught] == [__file__]
    assert len(str(caught[0].message)) < 200
    assert lines() == []


def test_a_wrong_value_fails_one_call_at_most_where_warnings_are_errors(serve, connect, monkeypatch):
    monkeypatch.setenv("CHATSTREAM_LOG", "verbose")
    client = connect(serve(OK))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="CHATSTREAM_LOG"):
            client.stream("Hi")
        assert client.stream("Hi").collect().text == "fine"


def test_the_variable_is_read_once(serve, connect, lines, monkeypatch):
    client = connect(serve(OK))
    client.stream("Hi").collect()
    monkeypatch.setenv("CHATSTREAM_LOG", "info")
    client.stream("Hi").collect()
    assert lines() == []


# ── where the lines go ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def unconfigure(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that takes away the handlers that pytest adds when a test begins."""
    return lambda: monkeypatch.setattr(logging.root, "handlers", [])


@pytest.mark.usefixtures("info")
def test_the_lines_are_written_to_standard_error_where_the_program_has_configured_no_logging(
    serve, connect, capsys, unconfigure
):
    unconfigure()
    client = connect(serve(status(503), OK))
    client.stream("Hi").collect()
    retry, line = capsys.readouterr().err.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} chatstream WARNING stream error", retry)
    assert re.match(r"\S+ \S+ chatstream INFO call=\d+ provider=test ", line)


@pytest.mark.usefixtures("info")
@pytest.mark.parametrize("name", [None, "chatstream"])
def test_nothing_is_written_to_standard_error_once_the_program_has_a_handler(serve, connect, capsys, name, unconfigure):
    unconfigure()
    client = connect(serve(OK))
    client.stream("Hi").collect()
    assert capsys.readouterr().err
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger(name).addHandler(handler)
    client.stream("Hi").collect()
    assert capsys.readouterr().err == ""
    assert len(records) == 1


@pytest.mark.usefixtures("info")
def test_handlers_that_the_logger_does_not_propagate_to_do_not_count(serve, connect, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("chatstream"), "propagate", False)
    connect(serve(OK)).stream("Hi").collect()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("info")
def test_a_program_without_standard_error_gets_its_answer(serve, connect, monkeypatch, capsys, unconfigure):
    unconfigure()
    monkeypatch.setattr(sys, "stderr", None)
    assert connect(serve(OK)).stream("Hi").collect().text == "fine"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("info")
def test_a_program_whose_standard_error_is_closed_gets_its_answer(serve, connect, monkeypatch, tmp_path, unconfigure):
    unconfigure()
    with (tmp_path / "log").open("w") as file:
        pass
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert connect(serve(OK)).stream("Hi").collect().text == "fine"


def test_a_new_process_logs_to_standard_error(serve):
    server = serve(OK)
    code = (
        "from chatstream import Client, Provider\n"
        f"print(Client(Provider('test', {server.url!r}), model='m1').stream('Hi').collect().text)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"CHATSTREAM_LOG": "debug", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == "fine\n"
    assert [re.sub(r"^\S+ \S+ ", "", line)[:30] for line in done.stderr.splitlines()] == [
        "chatstream DEBUG call=1 attemp",
        "chatstream DEBUG call=1 answer",
        "chatstream INFO call=1 provide",
    ]
