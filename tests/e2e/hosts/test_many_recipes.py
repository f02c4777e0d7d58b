"""The programs on the page docs/howto/many-prompts.md that need processes, a cluster, Ray or Spark, as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, Environments, run_program
from test_docs import answer

from chatstream.testing import FaultServer, Wire, status

PAGE = (ROOT / "docs" / "howto" / "many-prompts.md").read_text("utf-8")
RECIPES = {
    name: (program, shown)
    for name, program, shown in re.findall(
        r"<!-- host: (\w+) -->\n```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL
    )
}
ENVIRONMENTS = {"processes": "many", "Dask": "many", "Ray": "ray", "Spark": "spark"}
HEAVY = ("Ray", "Spark")  # whose environments take 210 and 480 MB
KEY = "sk-of-the-workers"

each_recipe = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.heavy] if name in HEAVY else []) for name in ENVIRONMENTS]
)


def test_every_program_of_the_page_is_run():
    assert RECIPES.keys() == ENVIRONMENTS.keys()
    assert PAGE.count("<!-- host: ") == len(RECIPES)


@pytest.fixture
def run_recipe(environment: Environments, tmp_path: Path) -> Any:
    """A function that runs a recipe against a server, with variables of its environment."""

    def run(name: str, url: str, **variables: str) -> subprocess.CompletedProcess[str]:
        if name == "Spark" and shutil.which("java") is None:
            assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), "Spark needs Java, which is not installed"
            pytest.skip("Spark needs Java, which is not installed")
        python = str(environment(ENVIRONMENTS[name]))
        variables |= {"OPENAI_BASE_URL": url, "RAY_USAGE_STATS_ENABLED": "0"}
        variables |= {"PYSPARK_PYTHON": python, "SPARK_LOCAL_IP": "127.0.0.1"}
        return run_program(python, RECIPES[name][0], tmp_path, variables)

    return run


@each_recipe
def test_a_recipe_for_many_prompts_prints_what_the_page_shows_and_asks_each_prompt_once(name, run_recipe):
    def step(wire: Wire) -> None:
        assert wire.request is not None
        for each in answer(wire.request.json):
            each(wire)

    with FaultServer([step]) as server:
        done = run_recipe(name, server.url, OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == RECIPES[name][1]
    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    asked = sorted(request.json["messages"][-1]["content"] for request in server.requests)
    assert asked == ["And at sunset?", "Why is the sky blue?"]


@pytest.mark.parametrize("name", ["processes", pytest.param("Ray", marks=pytest.mark.heavy)])
def test_a_recipe_prints_the_error_of_a_prompt_that_is_refused_and_of_a_key_that_is_missing(name, run_recipe):
    with FaultServer(status(400, {"error": {"message": "No such model."}})) as server:
        refused = run_recipe(name, server.url, OPENAI_API_KEY=KEY)
        server.requests.clear()
        keyless = run_recipe(name, server.url)
    assert refused.stdout.count("No such model.") == 2, refused.stderr[-3000:]
    assert keyless.stdout.count("Missing environment variable: `OPENAI_API_KEY`.") == 2, keyless.stderr[-3000:]
    assert server.requests == []
