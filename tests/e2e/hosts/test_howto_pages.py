"""The programs on the pages of docs/howto that need a host, in that host: Streamlit, Gradio, Celery."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery_worker import celery_worker
from environments import ROOT
from support import REST, THREE, WORDS
from web_hosts import WebHost

from chatstream.testing import cut, delta, forever, head, pause, stall, status

PROGRAMS = Path(__file__).parent / "programs"
TEXT = "".join(WORDS)
PAGES = {
    name: program
    for page in sorted((ROOT / "docs" / "howto").glob("*.md"))
    for name, program in re.findall(r"<!-- host: (\w+) -->\n```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
}


def test_every_program_of_a_page_that_needs_a_host_is_run_in_it():
    of_mcp = {"program", "server"}  # see test_mcp_tools.py
    of_many_prompts = {"processes", "Dask", "Ray", "Spark"}  # see test_many_recipes.py
    assert PAGES.keys() == {"Streamlit", "Gradio", "Celery"} | of_mcp | of_many_prompts


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
    variables = {"REDIS": redis, "PYTHONPATH": f"{page.parent}{os.pathsep}{PROGRAMS}"}

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


# ── Gradio ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def gradio(page: Path, environment: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that starts the chat of the page and asks it once; returns what a user sees."""
    for name, value in {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    hosts = []

    def ask(*questions: str) -> Any:
        start = "import page; page.demo.launch(server_port=@port)"
        hosts.append(WebHost(["-c", start], environment("gradio"), page.parent))
        found = run("gradio", "gradio_page.py", f"http://127.0.0.1:{hosts[-1].port}", *questions)
        assert "shown" in found, found
        return found["shown"]

    yield ask
    for host in hosts:
        host.close()


on_the_gradio_page = pytest.mark.parametrize("page", ["Gradio"], indirect=True)


@on_the_gradio_page
def test_a_gradio_chat_shows_an_answer_while_it_arrives_and_keeps_the_conversation(model, gradio):
    server = model([head(), *(step for text in THREE for step in (text, pause(0.3))), *REST])
    first, second = gradio("Open?", "Really?")
    assert first == second
    assert (first["values"][-1], first["error"]) == (TEXT, None)
    assert len(first["values"]) >= 2
    assert [message["content"] for message in server.requests[1].json["messages"]] == ["Open?", TEXT, "Really?"]


@on_the_gradio_page
def test_a_gradio_chat_shows_the_error_of_a_broken_answer_and_goes_on(model, gradio):
    model([head(), *THREE, cut()], [head(), *THREE, *REST])
    first, second = gradio("Open?", "Really?")
    assert "stream disconnected before completion" in first["error"]
    assert (second["values"][-1], second["error"]) == (TEXT, None)


@on_the_gradio_page
@pytest.mark.parametrize("rest", [[forever(delta("more "), pause(0.1))], [stall()]], ids=["more text", "silence"])
def test_a_gradio_chat_closes_the_connection_to_the_model_when_its_user_stops_the_answer(model, gradio, rest):
    server = model([head(), delta("one "), *rest])
    assert gradio("stop")[0]["values"] == ["one "]
    assert server.client_closed(within=5)


# ── Streamlit ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def streamlit(page: Path, environment: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that starts the application of the page, and asks it one question after the other."""
    monkeypatch.setenv("STREAMLIT_BROWSER_GATHER_USAGE_STATS", "false")
    options = ["--server.port", "@port", "--server.address", "127.0.0.1", "--server.headless", "true"]
    hosts = []

    def ask(*questions: str) -> Any:
        hosts.append(WebHost(["-m", "streamlit", "run", str(page), *options], environment("streamlit"), page.parent))
        found = run("streamlit", "streamlit_page.py", str(hosts[-1].port), *questions)
        assert "shown" in found, found
        return found["shown"]

    yield ask
    for host in hosts:
        host.close()


on_the_streamlit_page = pytest.mark.parametrize("page", ["Streamlit"], indirect=True)


@on_the_streamlit_page
def test_a_streamlit_application_shows_an_answer_while_it_arrives_and_keeps_the_conversation(model, streamlit):
    whole = [head(), *(step for text in THREE for step in (text, pause(0.3))), *REST]
    server = model(whole)
    first, second = streamlit("Open?", "Really?")
    assert first["texts"] == ["Open?", TEXT.strip()]
    assert second["texts"] == ["Open?", TEXT.strip(), "Really?", TEXT.strip()]
    # before its first text, Streamlit imports pandas
    assert any("one" in text and "three" not in text for text in second["seen"])
    assert [message["content"] for message in server.requests[1].json["messages"]] == ["Open?", TEXT, "Really?"]


@on_the_streamlit_page
def test_a_streamlit_application_shows_the_error_of_a_broken_answer_and_goes_on(model, streamlit):
    server = model([head(), *THREE, cut()], [head(), *THREE, *REST])
    first, second = streamlit("Open?", "Really?")
    assert "stream disconnected before completion" in first["errors"][0]
    assert second["texts"] == ["Really?", TEXT.strip()]
    assert [message["content"] for message in server.requests[1].json["messages"]] == ["Really?"]


@on_the_streamlit_page
def test_a_streamlit_application_closes_the_connection_to_the_model_when_its_user_presses_stop(model, streamlit):
    server = model([head(), *THREE, forever(delta("more "), pause(0.1))], [head(), *THREE, *REST])
    stopped, second = streamlit("stop", "Really?")
    assert stopped["errors"] == []
    assert second["texts"] == ["Really?", TEXT.strip()]
    assert server.client_closed(within=2)
