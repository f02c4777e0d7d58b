"""``--record``, ``chatstream replay`` and ``serve``, ``--timing``, and functions that the model calls (``--tool``)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from consoles import ANSWER, KEY, Screen, Shell
from test_printed_output import THINKING

from chatstream import replay
from chatstream.cli.main import main
from chatstream.testing import Script, cut, delta, done, end, event, finish, head, text_answer

MODULE = """
def get_weather(city: str) -> str:
    "The weather in a city."
    return f"4 degrees in {city}"

def forecast(city: str) -> str:
    "The forecast of a city."
    raise RuntimeError("no forecast")

number = 3
"""


def call(name: str, **arguments: str) -> Script:
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"index": 0, "id": f"call_{name}", "type": "function", "function": function}]
    made = event({"id": "c1", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]})
    return [head(), delta("Let me look."), made, finish("tool_calls"), done(), end()]


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module ``weather_of_test``."""
    (tmp_path / "weather_of_test.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "weather_of_test", raising=False)
    return tmp_path


# ── recordings ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_recorded_answer_is_replayed_as_it_was_written(run: Any, tmp_path: Path, capsys: Any) -> None:
    path = str(tmp_path / "run.sse")
    assert run(ANSWER, "--record", path) == (0, "Hello\n", "")
    assert KEY not in Path(path).read_text("utf-8")
    for options in ([], ["--speed", "1"], ["--aggregate"], ["--call", "0"], ["--plain"]):
        assert main(["replay", path, *options]) == 0
        assert capsys.readouterr() == ("Hello\n", "")
    assert main(["replay", path, "--json"]) == 0
    assert [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()][-1] == "completed"


def test_a_recording_of_a_broken_answer_breaks_off_again(run: Any, tmp_path: Path, capsys: Any) -> None:
    path = str(tmp_path / "run.sse")
    assert run([head(), delta("Half"), cut()], "--record", path)[:2] == (1, "Half\n")
    assert main(["replay", path]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("Half\n", 1)
    assert err.startswith("chatstream: stream disconnected before completion: ")


def test_a_recording_of_a_conversation_has_all_its_calls(openai_server: Any, stdin: Any, tmp_path: Path) -> None:
    openai_server(text_answer("One"), text_answer("Two"))
    stdin(b"1\n2\n")
    path = tmp_path / "run.sse"
    options = ["-m", "m1", "-C", str(tmp_path / "talk.jsonl"), "--record", str(path)]
    assert main(["chat", *options]) == 0
    assert [replay(path, call=number).collect().text for number in (0, 1)] == ["One", "Two"]


@pytest.mark.parametrize(
    ("command", "content"),
    [("serve", None), ("replay", None), *(("replay", each) for each in (b"", b"\x89PNG\r\n", b"hello\n", b"{}"))],
)
def test_a_file_that_is_no_recording_is_an_error_of_one_line(
    command: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.sse"
    if content is not None:
        path.write_bytes(content)
    assert main([command, str(path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("chatstream: ")


def test_a_replay_on_a_terminal_shows_reasoning(run: Any, tmp_path: Path, terminal: Screen, monkeypatch: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    path = str(tmp_path / "run.sse")
    run(THINKING, "--record", path)
    monkeypatch.setattr(sys, "stdout", terminal.file)
    assert main(["replay", path]) == 0
    assert b"\x1b[2mLet me think.\x1b[22m" in terminal.seen(b"\n")


@pytest.mark.usefixtures("capsys")
def test_serve_answers_with_recordings_until_ctrl_c(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: Screen, interrupt: Any
) -> None:
    path = str(tmp_path / "run.sse")
    run(ANSWER, "--record", path)
    answered = []

    def ask() -> None:
        url = pipe.seen(b"\n").decode().strip()
        command = [sys.executable, "-m", "chatstream", "Hi", "--base-url", url, "-m", "m1"]
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        answered.append((url, asked.returncode, asked.stdout, asked.stderr))
        interrupt()

    monkeypatch.setattr(sys, "stdout", pipe.file)
    thread = threading.Thread(target=ask)
    thread.start()
    assert main(["serve", path]) == 130
    thread.join()
    [(url, *rest)] = answered
    assert url.startswith("http://127.0.0.1:")
    assert rest == [0, b"Hello\n", b""]


# ── timing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_timing_prints_when_the_bytes_arrived_to_stderr(run: Any) -> None:
    code, out, err = run(ANSWER, "--timing")
    assert (code, out, err.count("\n")) == (0, "Hello\n", 1)
    bars, facts = err[1:].split("] ")
    assert len(bars) == 40
    assert set(bars) <= set("▁▂▃▄▅▆▇█ ")
    assert "first text 0." in facts or "first text" in facts


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [[], ["--aggregate"]])
def test_the_model_calls_functions_and_stderr_says_which(
    openai_server: Any, weather: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    server = openai_server(call("get_weather", city="Oslo"), call("forecast", city="Oslo"), text_answer("It is cold."))
    tools = ["--tool", "weather_of_test:get_weather", "--tool", "weather_of_test:forecast"]
    assert main(["Weather?", "-m", "m1", *tools, *options]) == 0
    out, err = capsys.readouterr()
    assert out == "Let me look.\nLet me look.\nIt is cold.\n"
    first, second = err.splitlines()
    assert first == '[get_weather({"city": "Oslo"}) → 4 degrees in Oslo]'
    assert second.startswith('[forecast({"city": "Oslo"}) → ')
    assert "no forecast" in second
    assert [each["function"]["name"] for each in server.requests[0].json["tools"]] == ["get_weather", "forecast"]


def test_a_conversation_keeps_the_calls_and_their_outputs(openai_server: Any, weather: Path) -> None:
    server = openai_server(call("get_weather", city="Oslo"), text_answer("It is cold."), text_answer("Yes."))
    options = ["-m", "m1", "-C", "talk.jsonl", "--tool", "weather_of_test:get_weather"]
    assert main(["chat", *options, "Weather?"]) == 0
    assert main(["chat", *options, "Sure?"]) == 0
    roles = [each["role"] for each in server.requests[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_a_conversation_keeps_the_part_that_arrived_after_a_call(openai_server: Any, weather: Path) -> None:
    openai_server(call("get_weather", city="Oslo"), [head(), delta("It is"), cut()])
    options = ["-m", "m1", "-C", "talk.jsonl", "--tool", "weather_of_test:get_weather"]
    assert main(["chat", *options, "Weather?"]) == 1
    types = [json.loads(line)["type"] for line in Path("talk.jsonl").read_text("utf-8").splitlines()]
    assert types == ["message", "message", "function_call", "function_call_output", "message"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("weather_of_test:number", "weather_of_test:number is not a function, but of the type int"),
        ("weather_of_test:nothing", "weather_of_test:nothing does not exist: "),
        ("get_weather", "get_weather must be module:name"),
    ],
)
def test_a_tool_that_can_not_be_called_is_an_error_of_one_line(
    run: Any, weather: Path, reference: str, message: str
) -> None:
    code, out, err = run(ANSWER, "--tool", reference)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"chatstream: {message}")


def test_a_function_of_the_current_directory_is_found_in_a_shell(openai_server: Any, weather: Path) -> None:
    server = openai_server(call("get_weather", city="Oslo"), text_answer("It is cold."))
    code, out, err = Shell(server).run("--tool", "weather_of_test:get_weather")
    assert (code, out, err.count(b"\n")) == (0, b"Let me look.\nIt is cold.\n", 1)
