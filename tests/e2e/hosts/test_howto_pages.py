"""The programs on the pages of docs/howto that need a host, in that host: Streamlit, Gradio, Celery."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from celery_worker import celery_worker
from environments import ROOT
from support import REST, THREE, WORDS

from chatstream.testing import cut, delta, head, pause, status

PROGRAMS = Path(__file__).parent / "programs"
TEXT = "".join(WORDS)
PAGES = {
    name: program
    for page in sorted((ROOT / "docs" / "howto").glob("*.md"))
    for name, program in re.findall(r"<!-- host: (\w+) -->\n```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
}


def test_every_program_of_a_page_that_needs_a_host_is_run_in_it():
    assert PAGES.keys() == {"Streamlit", "Gradio", "Celery"}


@pytest.fixture
def model(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a server with the given scripts behind the provider ``openai``."""

    def start(*scripts: Any) -> Any:
        server = serve(*scripts)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-page")
        return server

    return start


@pytest.fixture
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The program of a page, as a file in a folder of its own."""
    path = tmp_path / "page.py"
    path.write_text(PAGES[request.param], "utf-8")
    return path


# ── Celery ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def call_task(page: Path, environment: Any, redis: str, run: Any) -> Any:
    """A function that calls the task of the page once, and returns what happened."""
    variables = {"REDIS": redis, "PYTHONPATH": f"{page.parent}:{PROGRAMS}"}

    def call() -> Any:
        with celery_worker(environment("workers"), "page", variables):
            return run("workers", "celery_page.py", **variables)

    return call


on_the_celery_page = pytest.mark.parametrize("page", ["Celery"], indirect=True)


@on_the_celery_page
def test_the_state_of_a_celery_task_shows_the_answer_while_it_arrives(model, call_task):
    model([head(), delta("one "), pause(1), *THREE[1:], *REST])
    found = call_task()
    assert (found["state"], found["result"]) == ("SUCCESS", TEXT), found
    assert {"answer": "one "} in found["seen"]


@on_the_celery_page
def test_a_celery_task_whose_answer_breaks_is_repeated(model, call_task):
    server = model([head(), *THREE, cut()], [head(), *THREE, *REST])
    found = call_task()
    assert (found["state"], found["result"]) == ("SUCCESS", TEXT), found
    assert len(server.requests) == 2


@on_the_celery_page
def test_a_celery_task_that_is_refused_fails_at_once_with_the_error(model, call_task):
    server = model(status(400, {"error": {"message": "No such model."}}))
    found = call_task()
    assert (found["state"], found["type"]) == ("FAILURE", "UnexpectedStatus"), found
    assert "No such model." in found["result"]
    assert len(server.requests) == 1
