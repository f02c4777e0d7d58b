"""README and docs are true: each page runs as one session, and its blocks print the output shown beside them.

- A ``python`` block is executed; all blocks of a page share one namespace, from top to bottom. A ``text`` block
  directly after it is its output; ``…`` matches anything.
- A ``console`` block is a terminal session. ``$ chatstream …`` followed by output is executed in this process, with
  what ``printf … |`` prints as its stdin; ``$ cat FILE`` writes the file that it shows. All other commands are checked
  against the parsers, the Makefile and setup.cfg.
- ``<!-- skip: reason -->`` above a block prevents its execution, ``<!-- varies: reason -->`` the comparison of its
  output.
- ``<!-- host: NAME -->`` above a block says that it is a program for a web server, and run by the tests in `e2e/hosts`.
- The provider ``openai`` is a server on loopback (`answer` below), ``local`` the real model.
"""

from __future__ import annotations

import configparser
import contextlib
import doctest
import importlib
import io
import json
import os
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import chatstream
import chatstream.cli.main as cli
from benchmarks import report
from chatstream import Provider, _shared, testing
from chatstream._retries import retry
from chatstream.providers import local, presets
from chatstream.testing import FaultServer, Script, Wire, done, end, event, head

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OPTIONAL = {  # what a page imports → the package that it needs
    r"(import|from) opentelemetry": "opentelemetry.sdk",
    r"from pydantic": "pydantic",
    r"import .*partial_json": "jiter",
}
COLUMN = 100  # characters; what a program prints is wrapped by the site
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Block:
    """A fenced block. ``line`` is the line of its fence, ``note`` the HTML comment above it; ``follows`` is true where
    it comes directly after another block."""

    language: str
    text: str
    line: int
    note: str
    follows: bool

    def has_note(self, keyword: str) -> bool:
        return re.match(rf"{keyword}: \S", self.note) is not None


_BLOCK = re.compile(r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)\n", re.DOTALL | re.MULTILINE)
_NOTE = re.compile(r"<!--\s*(.*?)\s*-->\s*\Z", re.DOTALL)


def blocks(path: Path) -> list[Block]:
    page = path.read_text(encoding="utf-8")
    found, end = [], 0
    for match in _BLOCK.finditer(page):
        between, end = page[end : match.start()], match.end()
        note = _NOTE.search(between)
        prose = _NOTE.sub("", between).strip()
        line = page.count("\n", 0, match.start()) + 1
        found.append(Block(match["language"].strip(), match["text"], line, note[1] if note else "", not prose))
    return found


def needs_local_model(path: Path) -> bool:
    return any(
        re.search("[\"']local[\"']|-p local|--provider local", block.text)
        for block in blocks(path)
        if block.language in ("python", "console") and not block.has_note("skip")
    )


def matches(shown: str, printed: str) -> bool:
    """Whether ``printed`` equals the output shown; ``…`` matches anything, and spaces at line ends are ignored."""
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
    """The steps that answer one request."""
    messages = body["messages"]
    last = messages[-1]
    question = str(last["content"])
    if body.get("tools") and last["role"] == "user":
        cities = [city for city in CITIES if city in question]
        choices = [_call_deltas([tool["function"]["name"] for tool in body["tools"]], cities)]
    elif body.get("response_format"):
        cold = '{"city": "Oslo", "degrees": 4}'
        is_list = "value" in body["response_format"]["json_schema"]["schema"]["properties"]
        warm = '{"city": "Paris", "degrees": 18}'
        choices = [_text_deltas(f'{{"value": [{cold}, {warm}]}}' if is_list else cold)]
    elif body.get("tools"):
        choices = [_text_deltas(", ".join(each["content"] for each in messages if each["role"] == "tool") + ".")]
    else:
        text = next((reply for known, reply in ANSWERS.items() if known in question), "Hello.")
        choices = [_text_deltas(text), *([_text_deltas("Because of the air.")] * (body.get("n", 1) - 1))]
    common = {"id": "chatcmpl-1", "model": body["model"]}
    steps = [head(headers={"x-request-id": "req_1"})]
    for index, deltas in enumerate(choices):
        kept = deltas[: body.get("max_tokens")]
        reason = "length" if len(kept) < len(deltas) else "tool_calls" if "tool_calls" in kept[0] else "stop"
        steps += [_chunk(common, index, delta, None) for delta in kept]
        steps.append(_chunk(common, index, {}, reason))
    if body.get("stream_options"):
        prompt = sum(len(str(message["content"]).split()) for message in messages)
        completion = sum(map(len, choices))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        steps.append(event({**common, "choices": [], "usage": usage}))
    return [*steps, done(), end()]


def _chunk(common: dict[str, Any], index: int, delta: dict[str, Any], reason: str | None) -> Any:
    return event({**common, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]})


def _text_deltas(text: str) -> list[dict[str, Any]]:
    return [{"content": word} for word in re.findall(r"\s*\S+", text)]


def _call_deltas(names: list[str], cities: list[str]) -> list[dict[str, Any]]:
    """A call for each city; the tools take turns."""
    deltas = []
    for index, city in enumerate(cities):
        start, rest = '{"city": ', f'"{city}"}}'
        function = {"name": names[index % len(names)], "arguments": start}
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
    """The directory and the environment in which a page runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-docs")
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.002)
    yield
    while _shared._shared:
        _shared._shared.popitem()[1].close()


# ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────


def run_page(path: Path) -> Iterator[tuple[Block, str, str]]:
    """Runs a page; yields each block that shows output, the output shown, and the output printed."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    for block in blocks(path):
        if block.language == "python" and not (block.has_note("skip") or block.has_note("host")):
            printed = _run_python(block, path, namespace)
        elif block.language == "text" and block.follows and printed is not None:
            if not block.has_note("varies"):
                yield block, block.text, printed
            printed = None
        else:
            printed = None
            if block.language == "console" and not block.has_note("skip"):
                for shown, output in _run_console(block):
                    if not block.has_note("varies"):
                        yield block, shown, output


def _run_python(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    code = compile("\n" * block.line + block.text, page_name(path), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, namespace)
    return out.getvalue()


def _run_console(block: Block) -> Iterator[tuple[str, str]]:
    """Runs or checks the commands of a terminal session; yields the output shown and printed of those that it runs."""
    status = 0
    for entry in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = entry.partition("\n")
        before, _, command = line.rpartition(" | ")
        arguments = shlex.split(command, comments=True)
        if command.startswith("echo $?"):
            assert shown.strip() == str(status)
        elif arguments[0] == "chatstream" or arguments[:3] == ["python", "-m", "chatstream"]:
            argv = arguments[1 if arguments[0] == "chatstream" else 3 :]
            if shown.strip():
                status, printed = _run_command(argv, stdin=_printed(before))
                yield shown, printed
            else:
                name = argv.pop(0) if argv[:1] and argv[0] in cli.COMMANDS else "ask"
                cli.load(name).parser().parse_intermixed_args(argv)
        elif arguments[0] == "cat" and shown:
            Path(arguments[1]).write_text(shown, encoding="utf-8")
        else:
            check_command(arguments)


def _printed(command: str) -> str | None:
    """What a command before a pipe prints; None if there is none, or it is not run here."""
    if not command.startswith("printf "):
        return None
    return subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout


def _run_command(argv: list[str], stdin: str | None) -> tuple[int, str]:
    screen = io.StringIO()
    before, sys.stdin = sys.stdin, open(os.devnull if stdin is None else _file(stdin), encoding="utf-8")  # noqa: SIM115
    try:
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            try:
                status = cli.main(argv)
            except SystemExit as exit:
                status = int(exit.code or 0)
    finally:
        sys.stdin.close()
        sys.stdin = before
    return status, screen.getvalue()


def _file(text: str) -> Path:
    """A file with the text: the command line reads stdin by itself if it is a pipe or a file."""
    path = Path("stdin")
    path.write_text(text, encoding="utf-8")
    return path


def check_command(arguments: list[str]) -> None:
    """A command that is not run here names an existing target of the Makefile or extra of setup.cfg."""
    program = arguments[0]
    assert program in ("make", "pip", "python3", "export", "echo", "git"), f"there is no check for {program}"
    if program == "make":
        targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(arguments[1:]) <= set(targets)
    if program == "pip":
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        extras = re.findall(r"\[(\w+)\]", " ".join(arguments))
        assert set(extras) <= set(setup["options.extras_require"])
        pinned = [argument for argument in arguments if "==" in argument]
        assert all(requirement in local.INSTALL for requirement in pinned)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.e2e] if needs_local_model(path) else [], id=page_name(path))
        for path in PAGES
    ],
)
@pytest.mark.usefixtures("session")
def test_the_blocks_of_a_page_print_the_output_that_it_shows(path: Path) -> None:
    if needs_local_model(path) and find_spec("xllamacpp") is None and not os.environ.get("CHATSTREAM_REQUIRE_E2E"):
        pytest.skip("llama.cpp (xllamacpp) is not installed")
    for imports, package in OPTIONAL.items():
        if any(re.search(imports, block.text) for block in blocks(path) if not block.has_note("host")):
            pytest.importorskip(package)
    for block, shown, printed in run_page(path):
        assert matches(shown, printed), f"{page_name(path)}:{block.line} shows\n{shown}\nbut prints\n{printed}"


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_at_most_one_block_of_a_page_is_skipped_and_every_exception_states_its_reason(path: Path) -> None:
    languages = ("python", "text", "console", "toml", "json", "{eval-rst}", "{toctree}")
    assert [block.line for block in blocks(path) if block.language not in languages] == []
    assert sum(block.has_note("skip") for block in blocks(path)) <= 1
    assert all(re.match(r"(skip|varies|host): \S|$", block.note) for block in blocks(path))


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=page_name)
def test_no_line_of_code_is_longer_than_the_column_of_the_site(path: Path) -> None:
    code = [block for block in blocks(path) if block.language in ("python", "console", "toml", "json")]
    lines = [line for block in code for line in _without_output(block) if len(line) > COLUMN]
    assert lines == []


def _without_output(block: Block) -> list[str]:
    lines = block.text.splitlines()
    return [line for line in lines if line.startswith("$ ")] if block.language == "console" else lines


# ── the text beside the blocks ──────────────────────────────────────────────────────────────────────────────────


OTHER_PAGES = [*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md", ROOT / "tests" / "recordings" / "README.md"]
LINKING = sorted({*PAGES, *OTHER_PAGES})
LINK = re.compile(r"\]\(([^)\s]+)\)|<(https?:[^>\s]+)>|(?:src|href)=\"([^\"]+)\"|^\[[^\]]+\]: (\S+)", re.MULTILINE)
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")


def links(path: Path) -> list[str]:
    """The targets of the links and pictures in the text of a page."""
    page = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    page = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "``", page)
    return [next(filter(None, found)) for found in LINK.findall(page)]


def is_broken(target: str, path: Path) -> bool:
    """Whether an inner link of a page has no target, or an outer one is no https URL of a public host."""
    if re.match(r"\w+:", target):
        url = urlsplit(target)
        return url.scheme != "https" or not HOST.fullmatch(url.netloc) or target[-1] in ".,;:"
    file, _, anchor = target.partition("#")
    linked = path.parent / file if file else path
    return not linked.is_file() or (bool(anchor) and anchor not in _anchors(linked))


def _anchors(path: Path) -> list[str]:
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", LINKING, ids=page_name)
def test_every_inner_link_of_a_page_has_its_target_and_every_outer_link_is_an_https_url(path: Path) -> None:
    assert [target for target in links(path) if is_broken(target, path)] == []


def test_the_pages_have_links_to_check() -> None:
    found = [target for path in LINKING for target in links(path)]
    assert len([target for target in found if "://" in target]) > 4
    assert len([target for target in found if "#" in target and "://" not in target]) > 100


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](other.md) ![a](picture.svg) [a](other.md#a-heading) [a](#here)", []),
        ("[a](missing.md) ![a](missing.svg)", ["missing.md", "missing.svg"]),
        (
            "[a](other.md#no-heading) [a](other.md#in-a-block) [a](#nowhere)",
            ["other.md#no-heading", "other.md#in-a-block", "#nowhere"],
        ),
        ('[a\nb](missing.md) <img src="missing.svg">', ["missing.md", "missing.svg"]),
        ("[a][b]\n\n[b]: missing.md", ["missing.md"]),
        ("[a](https://example.com/a#b) <https://example.com>", []),
        ("[a](http://example.com) <http://example.com>", ["http://example.com", "http://example.com"]),
        ("[a](https://example) [a](https:/example.com)", ["https://example", "https:/example.com"]),
        ("[a](https://example.com/.)", ["https://example.com/."]),
        ("`[a](missing.md)`\n\n```text\n[a](missing.md)\n```\n", []),
    ],
)
def test_the_check_of_links_finds_those_that_lead_nowhere(text: str, broken: list[str], tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading\n\n```python\n# in a block\n```\n", "utf-8")
    (tmp_path / "picture.svg").touch()
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{text}\n", "utf-8")
    assert [target for target in links(page) if is_broken(target, page)] == broken


def test_every_link_of_the_readme_leads_to_the_repository_where_the_package_index_shows_it(tmp_path: Path) -> None:
    made = runpy.run_path(str(ROOT / "setup.py"))
    page = tmp_path / "page.md"
    page.write_text(made["long_description"](), "utf-8")
    found = links(page)
    inner = [target.partition("/main/")[2] for target in found if target.startswith(made["FORGE"])]
    assert [target for target in found if is_broken(target, page)] == []
    assert [target for target in inner if is_broken(target, ROOT / "README.md")] == []
    assert len(inner) == len(links(ROOT / "README.md")) > 30
    assert f"{made['FORGE']}/raw/main/docs/terminal.svg" in found


def test_every_how_to_page_is_on_the_list_of_tasks() -> None:
    listed = links(DOCS / "howto" / "index.md")
    pages = [path.name for path in (DOCS / "howto").glob("*.md") if path.name != "index.md"]
    assert sorted(set(pages) - set(listed)) == []
    assert {"../web.md", "../logging.md"} <= set(listed)


def test_the_table_of_providers_matches_the_presets() -> None:
    page = (DOCS / "providers.md").read_text(encoding="utf-8").partition("## What each server wants")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`|]*)`)?[^|]*\| (?:`([^`|]*)`)?[^|]*\|", page, re.MULTILINE)
    assert {id: (url, key) for id, url, key in rows if id in presets.PRESETS} == {
        id: ("" if id == "local" else preset["base_url"], preset.get("env_key", ""))
        for id, preset in presets.PRESETS.items()
    }
    assert [id for id, preset in presets.PRESETS.items() if preset["developer_role"]] == ["openai", "azure"]


def test_every_field_of_a_provider_is_documented() -> None:
    page = (DOCS / "providers.md").read_text(encoding="utf-8")
    assert [each.name for each in fields(Provider) if f"`{each.name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("request_max_retries", "4"),
        ("stream_max_retries", "5"),
        ("stream_idle_timeout", "300 s"),
        ("first_event_timeout", "same as `stream_idle_timeout`"),
        ("connect_timeout", "10 s"),
        ("max_retry_after", "60 s"),
        ("rate_limit_timeout", "600 s"),
        ("retry_budget", "20"),
        ("finish_grace", "2 s"),
    ],
)
def test_the_documented_default_of_a_setting_matches_the_code(name: str, shown: str) -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    default = {each.name: each.default for each in fields(Provider)}[name]
    assert shown.removesuffix(" s") == f"{default:g}" if default is not None else shown.startswith("same as ")
    assert re.search(rf"^\|[^\n]*`{name}`[^\n]*\| {shown} \|$", page, re.MULTILINE)


def test_the_documented_limits_match_the_code() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", page, re.MULTILINE))
    assert {name: int(size.replace(",", "")) for name, size in shown.items()} == {
        each.name: each.default for each in fields(chatstream.Limits)
    }


def test_every_public_name_is_in_the_api_reference() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto(?!module)\w+:: (chatstream\.[\w.]+)(?:\(\))?$", page, re.MULTILINE)
    public = [f"chatstream.{name}" for name in chatstream.__all__ if name != "__version__"]
    public += [f"chatstream.testing.{name}" for name in testing.__all__] + ["chatstream.telemetry.instrument"]
    assert sorted(listed) == sorted(public)


def test_every_public_name_is_explained_outside_the_reference() -> None:
    guides = [path for path in PAGES if path.name not in ("api.md", "changelog.md")]
    named = set(re.findall(r"\w+", "".join(path.read_text("utf-8") for path in guides)))
    assert sorted(set(chatstream.__all__) - {"__version__"} - named) == []


def test_the_tables_and_the_picture_of_the_retries_match_the_code() -> None:
    made = runpy.run_path(str(DOCS / "retries.py"))
    page = (DOCS / "explanation" / "retries.md").read_text("utf-8")
    assert made["page"](page) == page
    assert made["picture"]() == (DOCS / "explanation" / "retries.svg").read_text("utf-8")
    assert all(f"<!-- begin: {name} -->" in page for name in made["TABLES"])


def test_the_tables_of_the_speed_page_are_made_from_the_results_of_the_benchmarks() -> None:
    page = (DOCS / "speed.md").read_text("utf-8")
    assert report.page_with(page, results()) == page, "run: python3 -m benchmarks --again"
    assert page.index(report.SUMMARY) < page.index("\n## ") < page.index(report.BEGIN)


def test_the_summary_of_the_speed_page_compares_chatstream_with_the_loop_and_openai_python() -> None:
    rows = [line.split(" | ") for line in report.summary(results()).splitlines()]
    assert [row[0] for row in rows[2:]] == [
        "| **chatstream** events",
        "| the loop: requests, sseclient-py, `json.loads`",
        f"| openai-python `create(stream=True)` {results()['results']['version']['openai_create']['version']}",
    ]
    tables = report.table(results())
    cells = [cell.strip(" |") for row in rows[2:] for cell in row[1:]]
    assert [cell for cell in cells if f"| {cell} |" not in tables] == []


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    text, unlike = (results()["results"][f"cpu {shape}"]["stream"]["ratio"] for shape in ("text", "unlike"))
    assert f"In the benchmark of {results()['machine']['date']} " in page
    assert re.search(rf"took about {text:.1f} × the\s+CPU time", page)
    assert f"and {unlike:.1f} × if no two chunks are alike" in page


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results.json").read_text("utf-8"))
    return found


def test_the_documented_error_tree_matches_the_code() -> None:
    assert (chatstream.errors.__doc__ or "").split("\n\n")[1].replace("\n    ", "\n").strip() in "\n".join(
        block.text for block in blocks(DOCS / "errors.md")
    )


def test_every_option_of_the_command_line_is_documented() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    actions = [action for name in cli.COMMANDS for action in cli.load(name).parser()._actions]
    options = [name for action in actions for name in action.option_strings]
    assert [name for name in options if f"`{name}`" not in page] == []


def test_the_changelog_has_an_entry_for_this_version() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{chatstream.__version__}]" in page


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=page_name)
def test_every_attribute_that_the_docs_name_exists(path: Path) -> None:
    page = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    for name, attribute in re.findall(r"`([A-Z][A-Za-z]+)\.([a-z]\w*)", page):
        value = getattr(chatstream, name, None)
        assert value is None or attribute in dir(value), f"{name}.{attribute}"


MODULES = ["chatstream", *(each.name for each in pkgutil.walk_packages(chatstream.__path__, "chatstream."))]


def test_every_test_that_the_docs_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", "".join(path.read_text("utf-8") for path in PAGES)))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []
    assert len(named) > 40


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
@pytest.mark.usefixtures("session")
def test_the_examples_in_the_docstrings_of_a_module_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
