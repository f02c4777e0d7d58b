"""``chatstream doctor URL``."""

from __future__ import annotations

from typing import Any

import pytest

from chatstream.cli.main import main
from chatstream.testing import text_answer


def test_doctor_prints_the_report_on_a_server(
    openai_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(text_answer("a"))
    monkeypatch.setenv("OTHER_KEY", "sk-9876543210")
    assert main(["doctor", server.url, "-m", "m7", "--key-env", "OTHER_KEY"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{server.url}\nprotocol        HTTP/1.1, chunked\n")
    assert server.requests[0].headers["Authorization"] == "Bearer sk-9876543210"
    assert server.requests[0].json["model"] == "m7"


def test_doctor_takes_a_host_without_a_scheme(openai_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = openai_server(text_answer("a"))
    assert main(["doctor", server.url.removeprefix("http://")]) == 0
    assert capsys.readouterr().out.startswith(f"{server.url}\n")


def test_doctor_fails_if_the_variable_named_by_key_env_is_unset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "http://127.0.0.1:1/v1", "--key-env", "NO_SUCH_KEY"]) == 1
    assert capsys.readouterr().err == "chatstream: Missing environment variable: `NO_SUCH_KEY`.\n"
