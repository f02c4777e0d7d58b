"""Which server, model and key are asked: options, the user's file of providers, the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consoles import ANSWER, KEY

from chatstream import ConfigError
from chatstream.cli.main import main
from chatstream.cli.settings import data_home, with_scheme
from chatstream.testing import FaultServer

if sys.version_info < (3, 11):
    pytest.importorskip("tomli")


@pytest.fixture
def own_file(serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], FaultServer]:
    """Writes the user's own file of providers, in which {url} is that of a server that it starts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def written(text: str) -> FaultServer:
        server: FaultServer = serve(ANSWER)
        path = tmp_path / "config" / "chatstream" / "providers.toml"
        path.parent.mkdir(parents=True)
        path.write_text(text.replace("{url}", server.url), encoding="utf-8")
        return server

    return written


OWN = """
model_provider = "mine"
model = "m8"

[model_providers.mine]
base_url = "{url}"
model = "m7"

[model_providers.groq]
base_url = "{url}"
model = "m9"
"""


@pytest.mark.parametrize(
    ("options", "model"), [([], "m8"), (["-p", "mine"], "m7"), (["-p", "groq"], "m9"), (["-m", "m1"], "m1")]
)
def test_the_own_file_has_providers_and_says_what_is_asked_by_default(
    own_file: Any, capsys: pytest.CaptureFixture[str], options: list[str], model: str
) -> None:
    server = own_file(OWN)
    assert main(["Hi", *options]) == 0
    assert capsys.readouterr() == ("Hello\n", "")
    assert server.requests[0].json["model"] == model


def test_the_own_file_is_below_the_home_directory_unless_its_variable_says_otherwise(
    serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(ANSWER)
    (tmp_path / ".config" / "chatstream").mkdir(parents=True)
    (tmp_path / ".config" / "chatstream" / "providers.toml").write_text(OWN.replace("{url}", server.url), "utf-8")
    for relative in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CONFIG_HOME", relative)
        monkeypatch.setenv("XDG_DATA_HOME", relative)
        assert main(["Hi"]) == 0
    assert len(server.requests) == 2
    assert data_home() == tmp_path / ".local" / "share" / "chatstream"


def test_a_file_given_by_an_option_is_read_in_place_of_the_own_one(own_file: Any, tmp_path: Path) -> None:
    server = own_file(OWN)
    (tmp_path / "other.toml").write_text(f'[model_providers.mine]\nbase_url = "{server.url}"\nmodel = "m5"\n', "utf-8")
    assert main(["Hi", "-c", str(tmp_path / "other.toml"), "-p", "mine"]) == 0
    assert server.requests[0].json["model"] == "m5"


def test_a_ready_made_provider_is_found_beside_the_own_ones(own_file: Any, openai_server: Any) -> None:
    own_file(OWN)
    server = openai_server(ANSWER)
    assert main(["Hi", "-p", "openai", "-m", "m1"]) == 0
    assert main(["Hi", "-p", server.url, "-m", "m1"]) == 0
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (OWN, ["-p", "mien"], "unknown provider, neither built in nor in "),
        ("[model_providers", [], "providers.toml is not TOML: "),
        ("model_provider = 3", [], "providers.toml: model_provider must be a string"),
        ("model = 3", [], "providers.toml: model must be a string"),
        ("model_providers = 3", [], "providers.toml: model_providers must be a table"),
        (
            "[model_providers.mine]\nurl = 3",
            ["-p", "mine"],
            "providers.toml: [model_providers.mine]: unknown setting 'url'",
        ),
        (
            'model_provider = "opnai"',
            [],
            "unknown built-in provider (its name is not shown, because it may be a key). Did you mean 'openai'?",
        ),
        (OWN, ["--base-url", "http://127.0.0.1:1", "-p", "mine"], "provider and base_url were both given"),
        (OWN, ["-p", "openai", "--key-env", "NO_SUCH_KEY"], "Missing environment variable: `NO_SUCH_KEY`."),
        (OWN, ["-c", "."], "can't read "),
        (OWN, ["-p", ""], "unknown provider, neither built in nor in "),
        ("", ["-p", ""], "unknown built-in provider (its name is not shown, because it may be a key)."),
        ("", ["--base-url", ""], "this is not a server: use a URL, or a host such as"),
    ],
)
def test_settings_that_can_not_work_are_an_error_of_one_line(
    own_file: Any, capsys: pytest.CaptureFixture[str], text: str, options: list[str], message: str
) -> None:
    server = own_file(text)
    assert main(["Hi", *options]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), server.requests) == ("", 1, [])
    assert message in err


def test_an_unknown_provider_is_compared_with_the_own_ones(own_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    own_file(OWN)
    assert main(["Hi", "-p", "mien"]) == 1
    assert "Did you mean 'mine'? Known: mine, groq, openai, " in capsys.readouterr().err


def test_another_server_is_asked_with_the_key_of_a_variable(
    serve: Any, monkeypatch: pytest.MonkeyPatch, own_file: Any
) -> None:
    own_file(OWN)
    server = serve(ANSWER)
    monkeypatch.setenv("OTHER_KEY", KEY)
    host = server.url.removeprefix("http://")
    assert main(["Hi", "--base-url", host, "--key-env", "OTHER_KEY", "-m", "m1"]) == 0
    assert main(["Hi", "--base-url", server.url, "-m", "m1"]) == 0
    with_key, without = server.requests
    assert with_key.headers["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in without.headers


def test_the_default_model_of_the_own_file_is_not_asked_of_another_server(
    own_file: Any, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    own_file(OWN)
    server = serve(ANSWER)
    assert main(["Hi", "--base-url", server.url]) == 1
    assert "name a model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("localhost", "http://localhost"),
        ("localhost:8080/v1", "http://localhost:8080/v1"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("192.168.1.7/v1", "http://192.168.1.7/v1"),
        ("[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("gpu-box:8000", "http://gpu-box:8000"),
        ("gpu.local/v1", "http://gpu.local/v1"),
        ("api.localhost/v1", "http://api.localhost/v1"),
        ("llm.example.com:8000/v1", "http://llm.example.com:8000/v1"),
        ("llm.example.com/v1", "https://llm.example.com/v1"),
        ("llm.example.com:443", "https://llm.example.com:443"),
        ("http://llm.example.com", "http://llm.example.com"),
    ],
)
def test_a_host_without_a_scheme_is_taken_for_the_url_that_it_most_likely_has(given: str, expected: str) -> None:
    assert with_scheme(given) == expected


@pytest.mark.parametrize("given", ["who?", "user:secret@host", "a b", "", "[::1", "host:99999", "host:x", "/path"])
def test_what_is_no_host_is_an_error_that_does_not_repeat_it(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_scheme(given)
    assert "secret" not in str(caught.value)
