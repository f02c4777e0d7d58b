"""The pages for those who come from other libraries: both programs of each pair print the same, and send the same."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, Environments, run_program
from test_docs import answer

from chatstream.testing import FaultServer, Script, Wire, delta, end, head

PAGES = {
    "openai-python": ("openai>=2",),
    "langchain": ("langchain-openai>=1",),
    "litellm": ("litellm==1.102.4",),
    "llm": ("llm>=0.27",),
}
HEAVY = ("langchain", "litellm", "llm")  # their environments take 80 to 280 MB, and minutes on a busy machine
BROKEN: Script = [head(), delta("Air scatters"), delta(" blue"), end()]  # whole for HTTP, but not for Chat Completions


@dataclass(frozen=True)
class Pair:
    """A program of another library, the same one with chatstream, and the output that the page shows."""

    page: str
    number: int
    theirs: str
    ours: str
    shown: str

    @property
    def name(self) -> str:
        return f"{self.page}-{self.number}"


def pairs(page: str) -> list[Pair]:
    text = (ROOT / "docs" / "coming-from" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(
        rf"<!-- host: {page} -->\n```python\n(.*?)```(.*?)```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S
    )
    assert len(blocks) == text.count("<!-- host: ") > 0
    return [Pair(page, number, theirs, ours, shown) for number, (theirs, _, ours, shown) in enumerate(blocks, 1)]


PAIRS = [pair for page in PAGES for pair in pairs(page)]


def parameter(value: Pair | str) -> Any:
    """A pair or a page as a parameter of a test, marked if its environment is heavy."""
    page, name = (value.page, value.name) if isinstance(value, Pair) else (value, value)
    return pytest.param(value, id=name, marks=[pytest.mark.heavy] if page in HEAVY else [])


@pytest.fixture
def run(environment: Environments, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in the environment of its page, against a server."""

    def run_page(page: str, program: str, url: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "sk-page",
            "LLM_USER_PATH": str(tmp_path),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise litellm downloads a table when it is imported
        }
        return run_program(environment(page, *PAGES[page]), program, tmp_path, variables)

    return run_page


@pytest.fixture
def model() -> Iterator[FaultServer]:
    """The scripted model that the examples of the docs talk to."""

    def step(wire: Wire) -> None:
        for each in answer(server.requests[-1].json):
            each(wire)

    with FaultServer([step]) as server:
        yield server


def sent(model: FaultServer) -> list[Any]:
    """The roles and texts of the messages of each request."""
    return [
        [(each["role"], text_of(each.get("content"))) for each in request.json["messages"]]
        for request in model.requests
    ]


def text_of(content: Any) -> str:
    parts = [{"text": content}] if isinstance(content, str) else content or []
    return "".join(part["text"] for part in parts)


def test_each_page_for_those_who_come_from_another_library_is_run():
    assert {path.stem for path in (ROOT / "docs" / "coming-from").glob("*.md")} == PAGES.keys()


@pytest.mark.parametrize("pair", [parameter(pair) for pair in PAIRS])
def test_both_programs_of_a_pair_print_the_same_and_send_the_same_messages(pair, run, model):
    theirs = run(pair.page, pair.theirs, model.url)
    assert theirs.returncode == 0, theirs.stderr
    before = sent(model)
    model.requests.clear()
    ours = run(pair.page, pair.ours, model.url)
    assert ours.returncode == 0, ours.stderr
    assert theirs.stdout == ours.stdout == pair.shown
    assert before == sent(model)


@pytest.mark.parametrize("page", [parameter(page) for page in PAGES])
def test_another_library_ends_an_answer_that_was_cut_as_if_it_were_complete(page, run):
    first = pairs(page)[0]
    with FaultServer(BROKEN) as server:
        theirs = run(page, first.theirs, server.url)
        ours = run(page, first.ours, server.url)
    assert theirs.stdout.startswith("Air scatters blue\n"), theirs.stderr  # the line end follows the loop
    assert ours.stdout == "Air scatters blue"
    assert "StreamTruncated" in ours.stderr
