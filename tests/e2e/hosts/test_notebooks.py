"""A real kernel of IPython: the notebook of the docs, and the stop button of a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, Environments
from support import THREE

from chatstream.providers.local import MODEL_VARIABLE, find_model
from chatstream.testing import FaultServer, delta, head, pause, stall

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells of code of a notebook."""
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def structure(cell: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The kinds of a cell's outputs, each with the types of its data or the name of its stream."""
    return [(each["output_type"], sorted(each.get("data", [each.get("name")]))) for each in cell["outputs"]]


@pytest.fixture(scope="module")
def executed(environment: Environments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook of the docs, executed anew."""
    if find_spec("xllamacpp") is None and not os.environ.get("CHATSTREAM_REQUIRE_E2E"):
        pytest.skip("llama.cpp (xllamacpp) is not installed")
    path = tmp_path_factory.mktemp("notebook") / "notebook.ipynb"
    command = [str(environment("notebook")), str(ROOT / "tools" / "notebook.py"), str(NOTEBOOK), "--to", str(path)]
    environ = {**os.environ, MODEL_VARIABLE: str(find_model()), "IPYTHONDIR": str(path.parent / "ipython")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def test_the_notebook_of_the_docs_runs_and_its_outputs_are_of_the_kinds_that_are_kept_in_it(executed):
    kept, made = cells_of(NOTEBOOK), cells_of(executed)
    assert [cell["source"] for cell in kept] == [cell["source"] for cell in made]
    assert [structure(cell) for cell in kept] == [structure(cell) for cell in made]
    assert sum(len(cell["outputs"]) for cell in kept) >= 8


@pytest.mark.parametrize("which", ["kept", "made"])
def test_an_answer_in_the_notebook_is_one_markdown_output_with_tokens_and_times_beneath(executed, which):
    cells = cells_of(NOTEBOOK if which == "kept" else executed)
    shown = [cell for cell in cells if ".show()" in "".join(cell["source"])]
    for cell in shown:
        for output in cell["outputs"]:
            assert sorted(output["data"]) == ["text/markdown", "text/plain"]
            text, _, note = "".join(output["data"]["text/markdown"]).partition("\n\n<small>")
            assert text
            assert "tokens out" in note
            assert "first text" in note
    assert [len(cell["outputs"]) for cell in shown] == [1, 2]


def test_the_notebook_shows_no_key_and_no_path(executed):
    for path in (NOTEBOOK, executed):
        outputs = json.dumps([cell["outputs"] for cell in cells_of(path)])
        assert "sk-secret" not in outputs
        assert str(ROOT) not in outputs


def test_the_picture_of_the_docs_is_made_by_the_notebook(executed):
    kept, made = (ET.parse(path.parent / "timing.svg").getroot() for path in (NOTEBOOK, executed))
    assert kept.attrib == made.attrib
    assert {each.tag for each in kept.iter()} == {each.tag for each in made.iter()}


@pytest.fixture
def stopped(run: Callable[..., dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """What a kernel sends that is interrupted when it has shown the whole text of a stream that does not end."""
    slow = [step for _ in range(200) for step in (delta("word "), pause(0.005))]
    with FaultServer([head(), *slow, *THREE, stall()]) as server:
        return run("notebook", "kernel.py", server.url, IPYTHONDIR=str(tmp_path))


def test_the_stop_button_keeps_the_partial_answer_and_returns_the_turn_to_the_cell(stopped):
    assert "failure" not in stopped
    assert stopped["status"] == "ok"
    text = "word " * 200 + "one two three "
    assert stopped["printed"] == f"{(text, 'incomplete', True)!r}\n"
    markdown, _, note = stopped["updates"][-1][1].partition("\n\n<small>")
    assert markdown == text
    assert "incomplete" in note


def test_a_kernel_gets_at_most_ten_updates_a_second(stopped):
    moments = [moment for moment, _ in stopped["updates"]]
    assert 5 < len(moments) <= 2 + (moments[-1] - moments[0]) * 10
    assert all(later - before > 0.05 for before, later in pairwise(moments[:-1]))  # as received: some are delayed
