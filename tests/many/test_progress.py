"""How far a run is: a function of the caller, the bar of tqdm, the last line on stderr."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from echo import Echo

from chatstream import Progress, TokenUsage, map_prompts
from chatstream.testing import status, text_answer


class Bar:
    """Stands for tqdm, which the tests do not need."""

    def __init__(self, total: int | None, unit: str, file: Any) -> None:
        self.total, self.done, self.postfix, self.closed = total, 0, "", False
        bars.append(self)

    def update(self, number: int) -> None:
        self.done += number

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.postfix = text

    def close(self) -> None:
        self.closed = True


bars: list[Bar] = []


def test_a_function_gets_the_progress_after_each_result(serve, connect, tmp_path):
    seen: list[Progress] = []
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.5}
    server = serve(text_answer("a", usage=usage), status(400, "No."), text_answer("b"))
    for prompts in (["a"], ["a", "b", "c"]):
        list(map_prompts(connect(server), prompts, out=tmp_path / "out.jsonl", concurrency=1, progress=seen.append))
    assert [(each.done, each.failed, each.resumed) for each in seen] == [(1, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    assert seen[0].tokens == TokenUsage(3, None, 2, None, 5, cost=0.5)
    assert seen[3].tokens == TokenUsage()
    assert 0 < seen[0].seconds < 60


def test_progress_reads_as_one_line():
    assert str(Progress()) == "0 done, 0 failed, 0.0 s"
    assert Progress(tokens=TokenUsage(output_tokens=2)).tokens_per_second is None
    whole = Progress(1200, 3, 40, TokenUsage(output_tokens=5000, cost=0.12345), 10.0)
    assert str(whole) == "1,200 done, 3 failed, 40 from the file, 5,000 tokens (500/s), cost 0.1235, 10.0 s"


@pytest.mark.parametrize("sized", [True, False])
def test_the_bar_is_that_of_tqdm_and_a_last_line_says_what_became_of_the_run(
    serve, connect, capsys, monkeypatch, sized
):
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=Bar))
    prompts: Any = ["a", "b"]
    list(map_prompts(connect(serve([Echo()])), prompts if sized else iter(prompts), progress=True))
    bar = bars.pop()
    assert (bar.total, bar.done, bar.closed) == (2 if sized else None, 2, True)
    assert bar.postfix.startswith("2 done, 0 failed, 4 tokens")
    assert capsys.readouterr().err.startswith("2 done, 0 failed, 4 tokens")


def test_without_tqdm_there_is_the_last_line_alone(serve, connect, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    list(map_prompts(connect(serve([Echo()])), ["a"], progress=True))
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sys, "stderr", None)
    list(map_prompts(connect(serve([Echo()])), ["a"], progress=True))


def test_without_progress_nothing_is_written(serve, connect, capsys):
    list(map_prompts(connect(serve([Echo()])), ["a"]))
    list(map_prompts(connect(serve([Echo()])), ["a"], progress=False))
    assert capsys.readouterr() == ("", "")
