"""What README and docs show is true: each page is run as one session, and what it shows is what comes out.

- A ``python`` block is run; all blocks of a page share one namespace, from top to bottom. A ``text`` block right behind
  it is what it prints, with ``…`` for whatever differs from run to run.
- A ``console`` block is a session of a terminal: ``$ chatstream …`` that shows something is run in this process, all
  other commands are checked against the parser, the Makefile and setup.cfg.
- ``<!-- skip: reason -->`` above a block keeps it from being run, ``<!-- varies: reason -->`` from being compared.
- ``openai`` is a server on loopback (`answer` below), ``"local"`` the real model.
"""

from __future__ import annotations

import configparser
import contextlib
import doctest
import importlib
import io
import os
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import chatstream
import chatstream.cli.main as cli
from chatstream import Provider, _retry, client
from chatstream.providers import local, presets
from chatstream.testing import FaultServer, Script, Wire, done, end, event, head

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Block:
    """A fenced block: ``line`` is its fence's, ``note`` the comment above it, ``follows`` whether nothing else stands
    between it and the block before."""

    language: str
    text: str
    line: int
    note: str
    follows: bool

    def is_marked(self, word: str) -> bool:
        return re.match(rf"{word}: \S", self.note) is not None


_BLOCK = re.compile(
    r"(?P<between>.*?)^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)\n", re.DOTALL | re.MULTILINE
)
_NOTE = re.compile(r"<!--\s*(.*?)\s*-->\s*\Z", re.DOTALL)


def blocks(path: Path) -> list[Block]:
    page = path.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(page):
        note = _NOTE.search(match["between"])
        prose = _NOTE.sub("", match["between"]).strip()
        line = page.count("\n", 0, match.start("fence")) + 1
        found.append(Block(match["language"].strip(), match["text"], line, note[1] if note else "", not prose))
    return found


def is_local(path: Path) -> bool:
    return any(
        re.search("[\"']local[\"']|-p local|--provider local", block.text)
        for block in blocks(path)
        if block.language in ("python", "console") and not block.is_marked("skip")
    )


def matches(shown: str, printed: str) -> bool:
    """Whether ``printed`` is what is shown, ``…`` being anything and blanks at line ends nothing."""
    pattern = ".*?".join(re.escape(piece) for piece in _tidy(shown).split("…"))
    return re.fullmatch(pattern, _tidy(printed), re.DOTALL) is not None


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


# ── the scripted model behind `openai` ──────────────────────────────────────────────────────────────────────────

ANSWERS = {
    "Why is the sky blue?": "Air scatters blue light more than red.",
    "And at sunset?": "The light crosses more air, and the blue is gone.",
}
CITIES = ("Paris", "Oslo")


def answer(body: dict[str, Any]) -> Script:
    """The events of one answer, made from what was asked."""
    messages = body["messages"]
    last = messages[-1]
    asked = str(last["content"])
    if body.get("tools") and last["role"] == "user":
        cities = [city for city in CITIES if city in asked]
        choices = [_calls(body["tools"][0]["function"]["name"], cities)]
    elif body.get("response_format"):
        choices = [_words('{"city": "Oslo", "degrees": 4}')]
    elif body.get("tools"):
        choices = [_words(", ".join(each["content"] for each in messages if each["role"] == "tool") + ".")]
    else:
        text = next((reply for question, reply in ANSWERS.items() if question in asked), "Hello.")
        choices = [_words(text), *([_words("Because of the air.")] * (body.get("n", 1) - 1))]
    told = {"id": "chatcmpl-1", "model": body["model"]}
    steps = [head(headers={"x-request-id": "req_1"})]
    for index, deltas in enumerate(choices):
        kept = deltas[: body.get("max_tokens")]
        reason = "length" if len(kept) < len(deltas) else "tool_calls" if "tool_calls" in kept[0] else "stop"
        steps += [_chunk(told, index, delta, None) for delta in kept]
        steps.append(_chunk(told, index, {}, reason))
    if body.get("stream_options"):
        words = sum(len(str(message["content"]).split()) for message in messages)
        written = sum(map(len, choices))
        usage = {"prompt_tokens": words, "completion_tokens": written, "total_tokens": words + written}
        steps.append(event({**told, "choices": [], "usage": usage}))
    return [*steps, done(), end()]


def _chunk(told: dict[str, Any], index: int, delta: dict[str, Any], reason: str | None) -> Any:
    return event({**told, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]})


def _words(text: str) -> list[dict[str, Any]]:
    return [{"content": word} for word in re.findall(r"\s*\S+", text)]


def _calls(name: str, cities: list[str]) -> list[dict[str, Any]]:
    deltas = []
    for index, city in enumerate(cities):
        start, rest = '{"city": ', f'"{city}"}}'
        function = {"name": name, "arguments": start}
        deltas.append({"tool_calls": [{"index": index, "id": f"call_{index + 1}", "function": function}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": rest}}]})
    return deltas


@pytest.fixture(scope="module")
def model() -> Iterator[FaultServer]:
    def step(wire: Wire) -> None:
        for each in answer(server.requests[-1].json):
            each(wire)

    with FaultServer([step]) as server:
        yield server


@pytest.fixture
def session(model: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The place and the environment that a page is run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-docs")
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.002)
    yield
    while client._shared:
        client._shared.popitem()[1].close()


# ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────


def played(path: Path) -> Iterator[tuple[Block, str, str]]:
    """Runs a page: each block that shows something, what it shows, and what came."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    for block in blocks(path):
        if block.language == "python" and not block.is_marked("skip"):
            printed = _run(block, path, namespace)
        elif block.language == "text" and block.follows and printed is not None:
            if not block.is_marked("varies"):
                yield block, block.text, printed
            printed = None
        else:
            printed = None
            if block.language == "console" and not block.is_marked("skip"):
                for shown, came in _converse(block):
                    if not block.is_marked("varies"):
                        yield block, shown, came


def _run(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    code = compile("\n" * block.line + block.text, named(path), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, namespace)
    return out.getvalue()


def _converse(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a terminal session that is ours: what it shows, and what came."""
    status = 0
    for entry in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = entry.partition("\n")
        before, _, command = line.rpartition(" | ")
        words = shlex.split(command, comments=True)
        if command.startswith("echo $?"):
            assert shown.strip() == str(status)
        elif words[0] == "chatstream" or words[:3] == ["python", "-m", "chatstream"]:
            argv = words[1 if words[0] == "chatstream" else 3 :]
            if shown.strip():
                status, came = _command(argv, stdin=before)
                yield shown, came
            else:
                cli.parser().parse_intermixed_args(argv)
        else:
            check_command(words)


def _command(argv: list[str], stdin: str) -> tuple[int, str]:
    screen = io.StringIO()
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            try:
                status = cli.main(argv)
            except SystemExit as left:
                status = int(left.code or 0)
    finally:
        sys.stdin = before
    return status, screen.getvalue()


def check_command(words: list[str]) -> None:
    """A command that is not run here names what there is: a target of the Makefile, an extra of setup.cfg."""
    assert words[0] in ("make", "pip", "python3", "export", "echo", "git"), f"no check knows {words}"
    if words[0] == "make":
        targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    if words[0] == "pip":
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        extras = re.findall(r"\[(\w+)\]", " ".join(words))
        assert set(extras) <= set(setup["options.extras_require"])
        pinned = [word for word in words if "==" in word]
        assert all(word in local.INSTALL for word in pinned)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.e2e] if is_local(path) else [], id=named(path)) for path in PAGES],
)
@pytest.mark.usefixtures("session")
def test_a_page_does_what_it_shows(path: Path) -> None:
    if is_local(path) and find_spec("xllamacpp") is None and not os.environ.get("CHATSTREAM_REQUIRE_E2E"):
        pytest.skip("llama.cpp (xllamacpp) is not installed")
    for block, shown, came in played(path):
        assert matches(shown, came), f"{named(path)}:{block.line} shows\n{shown}\nand this came:\n{came}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_few_blocks_are_kept_from_the_tests_and_each_says_why(path: Path) -> None:
    known = ("python", "text", "console", "toml", "json", "{eval-rst}", "{toctree}")
    assert [block.line for block in blocks(path) if block.language not in known] == []
    assert sum(block.is_marked("skip") for block in blocks(path)) <= 1
    assert all(re.match(r"(skip|varies): \S|$", block.note) for block in blocks(path))


# ── what is said beside the blocks ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=named)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    page = _BLOCK.sub(lambda match: match["between"], path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", page):
        file, _, anchor = target.partition("#")
        if "://" not in target:
            there = path.parent / file if file else path
            assert there.is_file(), target
            assert not anchor or anchor in _anchors(there), target


def _anchors(path: Path) -> list[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


def test_the_table_of_providers_is_that_of_the_code() -> None:
    page = (DOCS / "providers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`|]*)`)?[^|]*\| (?:`([^`|]*)`)?[^|]*\|", page, re.MULTILINE)
    assert {id: (url, key) for id, url, key in rows if id in presets.PRESETS} == {
        id: ("" if id == "local" else ready["base_url"], ready.get("env_key", ""))
        for id, ready in presets.PRESETS.items()
    }
    assert [id for id, ready in presets.PRESETS.items() if ready["developer_role"]] == ["openai", "azure"]


def test_every_field_of_a_provider_is_documented() -> None:
    page = (DOCS / "providers.md").read_text(encoding="utf-8")
    assert [each.name for each in fields(Provider) if f"`{each.name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("request_max_retries", "4"),
        ("stream_max_retries", "5"),
        ("stream_idle_timeout", "300 s"),
        ("first_event_timeout", "as `stream_idle_timeout`"),
        ("connect_timeout", "10 s"),
        ("max_retry_after", "60 s"),
        ("finish_grace", "2 s"),
    ],
)
def test_the_defaults_in_the_docs_are_those_of_the_code(name: str, words: str) -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    default = {each.name: each.default for each in fields(Provider)}[name]
    assert words.removesuffix(" s") == f"{default:g}" if default is not None else words.startswith("as ")
    assert re.search(rf"^\|[^\n]*`{name}`[^\n]*\| {words} \|$", page, re.MULTILINE)


def test_the_limits_in_the_docs_are_those_of_the_code() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", page, re.MULTILINE))
    assert {name: int(size.replace(",", "")) for name, size in shown.items()} == {
        each.name: each.default for each in fields(chatstream.Limits)
    }


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: chatstream\.(\w+)(?:\(\))?$", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(chatstream.__all__) - {"__version__"})


def test_the_error_tree_is_that_of_the_code() -> None:
    assert (chatstream.errors.__doc__ or "").split("\n\n")[1].replace("\n    ", "\n").strip() in "\n".join(
        block.text for block in blocks(DOCS / "errors.md")
    )


def test_every_option_of_the_command_line_is_documented() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    options = [name for action in cli.parser()._actions for name in action.option_strings]
    assert [name for name in options if f"`{name}`" not in page] == []


def test_the_changelog_tells_of_this_version() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{chatstream.__version__}]" in page


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=named)
def test_every_attribute_of_a_public_name_exists(path: Path) -> None:
    page = _BLOCK.sub(lambda match: match["between"], path.read_text(encoding="utf-8"))
    for name, attribute in re.findall(r"`([A-Z][A-Za-z]+)\.([a-z]\w*)", page):
        thing = getattr(chatstream, name, None)
        assert thing is None or attribute in dir(thing), f"{name}.{attribute}"


MODULES = ["chatstream", *(each.name for each in pkgutil.walk_packages(chatstream.__path__, "chatstream."))]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
@pytest.mark.usefixtures("session")
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
