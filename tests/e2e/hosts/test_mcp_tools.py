"""The program on the page docs/howto/mcp-tools.md, with a real MCP server that it talks to over stdin and stdout."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from environments import ROOT

from chatstream.testing import Script, done, end, event, finish, head, text_answer

PAGE = (ROOT / "docs" / "howto" / "mcp-tools.md").read_text("utf-8")
FILES = dict(re.findall(r"<!-- host: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
SECONDS = 60


def calls(*given: dict[str, str]) -> Script:
    """An answer that calls ``get_weather`` once with each of the arguments."""
    made = [
        {"index": index, "id": f"c{index}", "function": {"name": "get_weather", "arguments": json.dumps(arguments)}}
        for index, arguments in enumerate(given)
    ]
    return [
        head(),
        event({"choices": [{"index": 0, "delta": {"tool_calls": made}}]}),
        finish("tool_calls"),
        done(),
        end(),
    ]


@pytest.fixture
def program(environment, tmp_path, serve):
    """Runs the program of the page, with a server of MCP that has this text, against a scripted model."""

    def run(server: str, *scripts: Script):
        (tmp_path / "program.py").write_text(FILES["program"], "utf-8")
        (tmp_path / "weather_server.py").write_text(server, "utf-8")
        model = serve(*scripts)
        variables = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-page", "PYTHONIOENCODING": "utf-8"}
        command = [str(environment("mcp")), str(Path("program.py"))]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        return done, [request.json for request in model.requests]

    return run


def test_a_model_calls_the_tools_of_an_mcp_server(program):
    done, requests = program(FILES["server"], calls({"city": "Paris"}, {"city": "Oslo"}), text_answer("In Paris."))
    assert (done.stdout, done.returncode) == ("In Paris.\n", 0), done.stderr
    (tool,) = requests[0]["tools"]
    assert tool["function"]["description"] == "Get the current temperature in a city."
    assert tool["function"]["parameters"]["required"] == ["city"]
    outputs = [message["content"] for message in requests[1]["messages"] if message["role"] == "tool"]
    assert outputs == ["Paris has 18 °C", "Oslo has 4 °C"]


def test_what_an_mcp_server_reports_as_an_error_is_told_to_the_model(program):
    done, requests = program(FILES["server"], calls({"city": "Rome"}, {"town": "Oslo"}), text_answer("I don't know."))
    assert (done.stdout, done.returncode) == ("I don't know.\n", 0), done.stderr
    outputs = [message["content"] for message in requests[1]["messages"] if message["role"] == "tool"]
    assert all(output.startswith("get_weather failed: RuntimeError: ") for output in outputs)
    assert "city" in outputs[1]


def test_an_mcp_server_that_does_not_start_ends_the_program_with_an_error(program):
    done, requests = program("raise SystemExit('no weather today')", text_answer("Never."))
    assert done.returncode == 1
    assert "no weather today" in done.stderr
    assert requests == []
