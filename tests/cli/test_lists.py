"""``chatstream models``, ``providers`` and ``completion``, and the words that are no commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from consoles import ANSWER, KEY

from chatstream.cli.main import COMMANDS, load, main
from chatstream.testing import status


def test_models_lists_the_names_of_a_server_one_a_line(openai_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = openai_server(status(200, {"data": [{"id": "m1"}, {"id": "m\x1b2"}]}))
    assert main(["models"]) == 0
    assert capsys.readouterr() == ("m1\nm␛2\n", "")
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_models_that_a_server_does_not_list_are_an_error_of_one_line(
    openai_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    openai_server(status(404, "no such page"))
    assert main(["models"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("chatstream: unexpected status 404: no such page")


def test_the_models_command_rejects_the_option_for_a_model(
    openai_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = openai_server(status(200, {"data": []}))
    with pytest.raises(SystemExit) as ended:
        main(["models", "-m", "gpt-4.1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("chatstream models: error: unrecognized arguments: -m gpt-4.1\n")
    assert server.requests == []


def test_providers_lists_the_own_ones_first_and_says_which_keys_are_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    own = tmp_path / "own.toml"
    own.write_text(
        '[model_providers.xai]\nbase_url = "http://127.0.0.1:1/v1?key=secret"\nenv_key = "NO_KEY"\n', "utf-8"
    )
    assert main(["providers", "-c", str(own)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["xai", "http://127.0.0.1:1/v1?***", "NO_KEY", "(unset)"]
    assert sum(line.startswith("xai ") for line in lines) == 1
    assert "groq         https://api.groq.com/openai/v1                           GROQ_API_KEY (set)" in lines
    assert next(line for line in lines if line.startswith("ollama")).endswith("no key")
    assert not any(KEY in line or "secret" in line for line in lines)


def test_providers_without_a_file_of_the_user_lists_the_ready_made_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers"]) == 0
    assert capsys.readouterr().out.startswith("openai ")


# ── completion ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_code_that_the_shell_accepts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert all(name in code for name in (*COMMANDS, "--max-tokens", "groq", "--conversation"))
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=code, text=True, check=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("chatstream mod", "models"),
        ("chatstream chat --ne", "--new"),
        ("chatstream --agg", "--aggregate"),
        ("chatstream -p open", "openai openrouter"),
        ("chatstream models --provider gro", "groq"),
    ],
)
def test_bash_completes_commands_options_and_providers(
    words: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    main(["completion", "bash"])
    code = capsys.readouterr().out
    given = words.split()
    script = f"{code}\nCOMP_WORDS=({words})\nCOMP_CWORD={len(given) - 1}\n"
    script += f'_shtab_chatstream chatstream "{given[-1]}" "{given[-2]}"\necho "${{COMPREPLY[*]}}"\n'
    done = subprocess.run(["bash"], input=script, text=True, check=True, capture_output=True)
    assert done.stdout.split() == expected.split()


def test_without_shtab_completion_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert capsys.readouterr().err == "chatstream: completion needs shtab: pip install 'chatstream-py[cli]'\n"


# ── words that are no commands ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["modles"], "models"),
        (["Models"], "models"),
        (["provider"], "providers"),
        (["chats", "-p", "local"], "chat"),
        (["-m", "m1", "chat"], "chat"),
        (["docter", "http://127.0.0.1:8080/v1"], "doctor"),
        (["chatt", __file__], "chat"),
        (["help"], "--help"),
        (["version"], "--version"),
    ],
)
def test_a_word_that_is_nearly_a_command_is_not_sent_as_a_question(
    openai_server: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], meant: str
) -> None:
    server = openai_server(ANSWER)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), server.requests) == ("", 1, [])
    assert (
        f" is not a command: did you mean 'chatstream {meant} …'? To send a one-word question, use 'chatstream ask "
        in err
    )


@pytest.mark.parametrize(
    "arguments",
    [["Hello"], ["models?", "Which", "are", "there?"], ["modles of thought"], ["ask", "modles"], ["ask", "models"]],
)
def test_a_question_that_begins_like_a_command_is_sent(openai_server: Any, arguments: list[str]) -> None:
    server = openai_server(ANSWER)
    assert main([*arguments, "-m", "m1"]) == 0
    assert server.requests[0].json["messages"][0]["content"] == " ".join(arguments).removeprefix("ask ")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_teaches_by_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    example = '  chatstream "' if name == "ask" else f"  chatstream {name} "
    assert example in out.partition("examples:\n")[2]
    assert out.startswith(f"usage: chatstream {'[ask]' if name == 'ask' else name} ")
    assert load(name).__doc__
