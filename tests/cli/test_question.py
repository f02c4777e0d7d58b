"""The request that arguments, files, images and stdin become."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consoles import ANSWER, Shell

from chatstream.cli.main import main
from chatstream.testing import text_answer

PIXEL = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\b\6\0\0\0\x1f\x15\xc4\x89\0\0\0\nIDATx\x9cc\0\1\0\0\5\0\1\r\n-\xb4\0\0\0\0"
    b"IEND\xaeB`\x82"
)
TYPES = """
from dataclasses import dataclass

@dataclass
class Planet:
    name: str
    moons: int

Planets = list[Planet]
number = 3
"""


@pytest.fixture
def sent(openai_server: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command line, which succeeds; returns the JSON of the request."""

    def ran(*arguments: str, answer: Any = ANSWER) -> Any:
        server = openai_server(answer)
        code = main([*arguments, "-m", "m1"])
        assert (code, capsys.readouterr().err) == (0, "")
        return server.requests[0].json

    return ran


@pytest.fixture
def refused(openai_server: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line, which sends nothing; returns its one line on stderr."""

    def ran(*arguments: str, code: int = 1) -> str:
        server = openai_server(ANSWER)
        assert main([*arguments, "-m", "m1"]) == code
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), server.requests) == ("", 1, [])
        return err

    return ran


@pytest.fixture
def planets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module ``planets_of_test``."""
    (tmp_path / "planets_of_test.py").write_text(TYPES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "planets_of_test", raising=False)
    importlib.invalidate_caches()
    return tmp_path


def question(body: Any) -> Any:
    return body["messages"][-1]["content"]


# ── stdin ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["Review:"], "Review:\n\nline 1\nline 2"),
        ([], "line 1\nline 2"),
        (["Review", "-", "now"], "Review line 1\nline 2\n now"),
    ],
)
def test_what_is_piped_follows_the_question_unless_a_dash_puts_it_elsewhere(
    sent: Any, stdin: Any, arguments: list[str], expected: str
) -> None:
    stdin(b"line 1\nline 2\n")
    assert question(sent(*arguments)) == expected


def test_an_empty_pipe_adds_nothing(sent: Any, stdin: Any) -> None:
    stdin(b"")
    assert question(sent("Why?")) == "Why?"


def test_a_file_as_stdin_counts_as_piped(sent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("the notes", encoding="utf-8")
    with (tmp_path / "notes.txt").open(encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert question(sent("Sum up:")) == "Sum up:\n\nthe notes"


def test_a_stdin_that_nobody_put_there_is_not_read(sent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/null", encoding="utf-8") as nothing:
        for own in (None, nothing, io.StringIO("x")):
            monkeypatch.setattr(sys, "stdin", own)
            assert question(sent("Why?")) == "Why?"


def test_an_empty_pipe_without_a_question_is_an_error(refused: Any, stdin: Any) -> None:
    stdin(b" \n")
    assert refused().startswith("chatstream: no question: pass one as an argument")


def test_a_shell_pipes_into_the_question(openai_server: Any) -> None:
    server = openai_server(ANSWER)
    assert Shell(server).run(stdin="grün".encode()) == (0, b"Hello\n", b"")
    assert question(server.requests[0].json) == "Hi\n\ngrün"


# ── files and images ────────────────────────────────────────────────────────────────────────────────────────────


def test_text_files_follow_the_question_under_their_names_in_one_text(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("a = 1\n", encoding="utf-8")
    (tmp_path / "new.md").write_bytes(b"\xef\xbb\xbf````\nb\n````")
    body = sent("What differs?", "-f", str(tmp_path / "old.py"), "--file", str(tmp_path / "new.md"))
    assert question(body) == "What differs?\n\nold.py:\n```\na = 1\n```\n\nnew.md:\n`````\n````\nb\n````\n`````"


def test_a_file_or_an_image_alone_is_a_question(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("Why?", encoding="utf-8")
    assert question(sent("-f", str(tmp_path / "q.txt"))) == "q.txt:\n```\nWhy?\n```"
    (tmp_path / "pixel").write_bytes(PIXEL)
    assert [part["type"] for part in question(sent("-i", str(tmp_path / "pixel")))] == ["image_url"]


def test_images_are_sent_from_files_and_as_urls(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "pixel.png").write_bytes(PIXEL)
    body = sent("What is it?", "-i", str(tmp_path / "pixel.png"), "-i", "https://example.com/a.jpg")
    text, file, url = question(body)
    assert text == {"type": "text", "text": "What is it?"}
    assert file["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert url["image_url"]["url"] == "https://example.com/a.jpg"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-f", "can't read {}/missing: No such file or directory"),
        ("-f", "can't read {}: Is a directory"),
        ("-f", "{}/pixel.png is not UTF-8 text; use -i to attach an image"),
        ("-i", "missing"),
        ("-i", "note.txt is of the type 'text/plain', but needs a media type that begins with image/"),
    ],
)
def test_a_file_that_can_not_be_attached_is_an_error_of_one_line(
    refused: Any, tmp_path: Path, option: str, message: str
) -> None:
    (tmp_path / "pixel.png").write_bytes(PIXEL)
    (tmp_path / "note.txt").write_text("text", encoding="utf-8")
    name = next((name for name in ("missing", "pixel.png", "note.txt") if name in message), "")
    assert message.format(tmp_path) in refused("Why?", option, str(tmp_path / name))


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_option_sets_any_field_of_the_request(sent: Any) -> None:
    fields = [
        "seed=1",
        "logit_bias={}",
        "stop=[4, null]",
        "user=me",
        'suffix="3"',
        "prediction=true",
        "x=a=b",
        "top_k=1",
    ]
    body = sent("Why?", *(part for field in fields for part in ("-o", field)))
    expected = {"seed": 1, "logit_bias": {}, "stop": [4, None], "user": "me", "suffix": "3", "prediction": True}
    assert {name: body[name] for name in expected} == expected
    assert (body["x"], body["top_k"]) == ("a=b", 1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("seed", "-o needs KEY=JSON, such as -o seed=1"),
        ("=1", "-o needs KEY=JSON, such as -o seed=1"),
        ("stop=[4", "-o stop=… is not JSON: "),
        ("deadline=3", "-o deadline=… is not a request field: it may be an option of its own (see --help)"),
        ("model=other", "-o model=… is not a request field: it may be an option of its own (see --help)"),
        ("heartbeat=1", "-o heartbeat=… is not a request field"),
        ("stream=false", ""),
        ("base_url=http://a", "base_url="),
        ("seed=NaN", "seed can't be written as JSON"),
    ],
)
def test_a_field_that_can_not_be_sent_is_an_error_of_one_line(refused: Any, option: str, message: str) -> None:
    assert refused("Why?", "-o", option).startswith(f"chatstream: {message}")


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_warning_is_one_line_without_a_place_in_the_code(run: Any) -> None:
    code, out, err = run(ANSWER, "-o", "temprature=1")
    assert (code, out) == (0, "Hello\n")
    assert err == "chatstream: the unknown field temprature is sent unchanged: did you mean temperature?\n"


# ── schemas ─────────────────────────────────────────────────────────────────────────────────────────────────────

PLANET = '{"name": "Mars", "moons": 2}'
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def test_a_type_of_a_module_is_the_format_of_the_answer(sent: Any, planets: Path) -> None:
    for _ in range(2):  # the second time its directory is known
        body = sent("A planet", "--schema", "planets_of_test:Planet", answer=text_answer(PLANET))
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["name", "moons"]
    sent("Planets", "--schema", "planets_of_test:Planets", answer=text_answer(f'{{"value": [{PLANET}]}}'))


def test_a_file_with_a_json_schema_is_the_format_of_the_answer(sent: Any, planets: Path) -> None:
    (planets / "a planet.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    body = sent("A planet", "--schema", "a planet.json", answer=text_answer(PLANET))
    expected = {"type": "json_schema", "json_schema": {"name": "a_planet", "schema": SCHEMA}}
    assert body["response_format"] == expected
    (planets / "whole.json").write_text(json.dumps(expected), encoding="utf-8")
    assert sent("A planet", "--schema", "whole.json", answer=text_answer(PLANET))["response_format"] == expected


@pytest.mark.parametrize(
    ("given", "content", "message"),
    [
        ("missing.json", None, "can't read missing.json: No such file or directory"),
        ("s.json", "{", "s.json is not JSON: "),
        ("s.json", "[]", "s.json is not a JSON schema: an object is expected"),
        ("planets_of_test:Nothing", None, "planets_of_test:Nothing does not exist: module 'planets_of_test' has no"),
        ("no_such_module:A", None, "no_such_module:A can't be imported: No module named 'no_such_module'"),
        ("planets_of_test:number", None, "response_format must be a dict, or a type"),
        ("planets_of_test:", None, "planets_of_test: must be module:name"),
        ("broken_module:A", "exit(3)", "broken_module:A can't be imported: SystemExit: 3"),
        ("broken_module:A", "1 / 0", "broken_module:A can't be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_schema_that_can_not_be_used_is_an_error_of_one_line(
    refused: Any, planets: Path, given: str, content: str | None, message: str
) -> None:
    if content is not None:
        name = given if given.endswith(".json") else "broken_module.py"
        (planets / name).write_text(content, encoding="utf-8")
    assert refused("A planet", "--schema", given).startswith(f"chatstream: {message}")


@pytest.mark.parametrize("answer", ['{"name": "Mars"}', '{"name": "Mars", "moons": "two"}', "Mars", '{"name": "Ma'])
def test_an_answer_that_does_not_match_its_schema_is_printed_and_is_an_error(
    run: Any, planets: Path, answer: str
) -> None:
    code, out, err = run(text_answer(answer), "--schema", "planets_of_test:Planet")
    assert (code, out) == (1, f"{answer}\n")
    assert err.startswith("chatstream: the answer does not match planets_of_test:Planet: ")
    assert err.count("\n") == 1
