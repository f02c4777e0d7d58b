"""``chatstream QUESTION``: the request that is sent, and what is written to stdout and stderr."""

from __future__ import annotations

import io
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from consoles import ANSWER, KEY, Screen, error_event

from chatstream import Turn
from chatstream.cli.main import main
from chatstream.cli.report import print_report
from chatstream.testing import Step, Wire, cut, delta, done, end, event, finish, head, text_answer


def test_stdout_has_the_answer_and_nothing_else(run: Any) -> None:
    assert run(ANSWER) == (0, "Hello\n", "")


def test_an_answer_that_ends_its_line_gets_no_second_line_end(run: Any) -> None:
    assert run(text_answer("Hello", "\n")) == (0, "Hello\n", "")


def test_an_empty_answer_writes_nothing_to_stdout(run: Any) -> None:
    assert run([head(), finish(), done(), end()]) == (0, "", "")


def test_chunks_that_a_server_numbers_as_choices_are_one_answer_on_stdout(run: Any) -> None:
    numbered = [head(), delta("one", choice=0), delta(" answer", choice=1), finish(choice=2), done(), end()]
    assert run(numbered) == (0, "one answer\n", "")


def test_a_refusal_is_written_to_stderr(run: Any) -> None:
    refusal = event({"id": "c1", "choices": [{"index": 0, "delta": {"refusal": "I can't\nhelp \x1b[1mwith that."}}]})
    code, out, err = run([head(), refusal, finish(), done(), end()])
    assert (code, out) == (0, "")
    assert err == "chatstream: the model refused: I can't help ␛[1mwith that.\n"


def test_each_piece_of_text_is_written_when_it_arrives(openai_server: Any, pipe: Screen) -> None:
    def read_it_first(wire: Wire) -> None:
        read.append(pipe.seen())

    read: list[bytes] = []
    openai_server([head(), delta("one "), read_it_first, delta("two"), read_it_first, finish(), done(), end()])
    assert pipe.run() == 0
    assert read == [b"one ", b"two"]


@pytest.mark.parametrize("fault", [cut(), end(), error_event("overloaded")])
def test_received_text_stays_on_stdout_when_the_answer_breaks_off(run: Any, fault: Step) -> None:
    code, out, err = run([head(), delta("one "), delta("two"), fault, end()], "--stats")
    assert (code, out) == (1, "one two\n")
    assert err.startswith("chatstream: stream disconnected before completion: ")
    assert err.count("\n") == 1


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_question_options_and_system_prompt_become_the_request(
    openai_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(ANSWER)
    options = ["-s", "Be short.", "--max-tokens", "5", "--temperature", "0"]
    assert main(["Why", "-m", "m1", "is the sky", *options, "blue?"]) == 0
    body = server.requests[0].json
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Why is the sky blue?"},
    ]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m1", 5, 0)
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_options_that_are_not_given_are_not_sent(openai_server: Any) -> None:
    server = openai_server(ANSWER)
    main(["Hi", "-m", "m1"])
    assert server.requests[0].json.keys() == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("größer\n".encode(), "größer"),
        (b"gr\xf6\xdfer", "gr\ufffd\ufffder"),
        (b"", ""),
    ],
)
def test_a_dash_is_replaced_by_the_text_of_stdin(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, given: bytes, expected: str
) -> None:
    server = openai_server(ANSWER)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))
    assert main(["Review:", "-m", "m1", "-"]) == 0
    assert server.requests[0].json["messages"][0]["content"] == f"Review: {expected}".strip()


def test_every_dash_is_replaced_by_the_same_text(openai_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = openai_server(ANSWER)
    monkeypatch.setattr(sys, "stdin", io.StringIO("twice"))
    assert main(["-", "-", "-m", "m1"]) == 0
    assert server.requests[0].json["messages"][0]["content"] == "twice twice"


def test_without_a_question_nothing_is_sent(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(ANSWER)
    monkeypatch.setattr(sys, "stdin", None)  # as a shell's <&- leaves it
    assert main(["-", "-m", "m1"]) == 1
    assert capsys.readouterr().err.startswith("chatstream: no question: pass one as an argument")
    assert not server.requests


def test_without_a_key_the_error_names_the_variable_and_nothing_is_sent(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(ANSWER)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main(["Hi", "-m", "m1"]) == 1
    assert capsys.readouterr().err.startswith("chatstream: Missing environment variable: `OPENAI_API_KEY`. ")
    assert not server.requests


def test_a_provider_can_be_read_from_a_toml_file(
    openai_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(text_answer("Hello"))
    config = tmp_path / "own.toml"
    config.write_text(f'[model_providers.mine]\nbase_url = "{server.url}"\nmodel = "m7"\n')
    assert main(["Hi", "-c", str(config), "-p", "mine"]) == 0
    assert (capsys.readouterr().out, server.requests[0].json["model"]) == ("Hello\n", "m7")


def test_a_missing_toml_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chatstream", "Hi", "-c", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.toml" in done.stderr
    assert done.stderr.count("\n") == 1


# ── statistics ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_stats_go_to_stderr(run: Any) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    code, out, err = run(text_answer("Hello", reason="length", usage=usage), "--stats")
    assert (code, out) == (0, "Hello\n")
    assert err.startswith("[m1: length; 3 tokens in, 2 out; first event after 0.")
    assert err.endswith(" s]\n")


def test_stats_of_an_empty_answer_are_printed(run: Any) -> None:
    code, out, err = run([head(), finish(), done(), end()], "--stats")
    assert (code, out) == (0, "")
    assert err.startswith("[None: stop; no usage reported; ")


def test_stats_say_that_a_server_reported_no_usage_and_no_finish_reason(run: Any) -> None:
    *_, err = run([head(), delta("Hello"), done(), end()], "--stats")
    assert err.startswith("[m1: unconfirmed; no usage reported; first event after 0.")


def test_the_statistics_of_a_turn_without_times_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(Turn(model="m1"), Namespace(stats=True, timing=True, schema=None))
    assert capsys.readouterr().err == "[m1: incomplete; no usage reported; no times]\n"
