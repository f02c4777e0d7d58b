"""The cost of chatstream compared with that of a hand-written loop: a ratio of CPU times in one run, and counts.

A separate process measures it (`benchmarks.guard`), because coverage would slow down only one of the two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import PEERS
from chatstream import FunctionCallDelta, OutputTextDelta, ReasoningDelta, RefusalDelta
from chatstream._decode.aggregate import Collector
from chatstream._decode.chunks import ChunkReader
from chatstream._decode.fastpath import FastPath
from chatstream._decode.machine import Machine
from chatstream._decode.sse import BodyDecoder
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.reply import Reply
from chatstream.testing import text_answer

ROOT = Path(__file__).parents[1]
MOST = {"text": 1.0, "reasoning": 1.1, "tools": 1.3, "unlike": 1.4}  # times the CPU time of the hand-written loop
TRIES = 3  # other work of the machine may spoil a run
MOST_CALLS = 55  # per event, of Python and C functions, when every event arrives alone
# Compiled by the import: one per frozen class and named tuple, where standard dataclasses take six each. From Python
# 3.13 on, the module dataclasses adds an empty one for each class.
MOST_SOURCES = 60 if sys.version_info < (3, 13) else 80
MOST_BYTES = 120  # per event: its text, stored once
THIRD_PARTY = ("requests", "urllib3", "sseclient")


@cache
def measured(what: str, number: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.guard", what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    return json.loads(done.stdout)


def best_ratio(shape: str, way: str) -> float:
    """The ratio of the first run that is within its bound, else the best of all runs."""
    ratios = []
    for number in range(TRIES):
        ratios.append(measured(shape, number)[way])
        if ratios[-1] <= MOST[shape]:
            break
    return min(ratios)


@pytest.mark.timing
@pytest.mark.parametrize("way", ["stream", "collect"])
@pytest.mark.parametrize("shape", MOST)
def test_the_cpu_time_per_event_is_close_to_that_of_a_hand_written_loop(shape, way):
    assert best_ratio(shape, way) <= MOST[shape]


def test_the_import_benchmark_loads_every_module_that_a_first_answer_needs():
    code = f"""
import sys
{PEERS["stream"].imports}
before = set(sys.modules)
from benchmarks.clients import drained, stream
from benchmarks.server import path, running
with running() as server:
    drained(stream(server + path("text", 10), "text")())
print(*[name for name in set(sys.modules) - before if name.partition(".")[0] in {{"chatstream", *{THIRD_PARTY}}}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_importing_compiles_at_most_a_fixed_number_of_source_strings():
    sources = measured("imports")
    assert sources["stream"] - sources["loop"] <= MOST_SOURCES


@pytest.mark.parametrize("kind", [ChunkReader, Collector, Machine, Reply, BodyDecoder, FastPath, CancelScope])
def test_the_classes_that_process_each_event_have_slots_and_no_instance_dict(kind):
    assert kind.__dictoffset__ == 0


@pytest.mark.parametrize("kind", [OutputTextDelta, ReasoningDelta, RefusalDelta, FunctionCallDelta])
def test_the_attributes_of_a_delta_are_read_without_a_function(kind):
    assert not {"__getattr__", "__getattribute__"} & set(vars(kind)), "reading any attribute would take twice as long"


def test_between_two_events_of_one_read_no_clock_is_asked_without_a_deadline(monkeypatch, serve, connect):
    asked = []

    def interrupted(scope: CancelScope) -> bool:
        asked.append(scope)
        return False

    monkeypatch.setattr(CancelScope, "interrupted", property(interrupted))
    server = serve(text_answer(*"abcdef"))
    assert connect(server).stream("Hi").collect().text == "abcdef"
    assert asked == []
    assert connect(server).stream("Hi", deadline=60.0).collect().text == "abcdef"
    assert len(asked) >= len("abcdef")


@pytest.mark.parametrize("events", ["1000", "8000"])
def test_the_number_of_function_calls_per_event_is_bounded(events):
    assert measured("counts")[events]["stream"]["calls"] <= MOST_CALLS


@pytest.mark.parametrize("events", ["1000", "8000"])
def test_the_memory_kept_per_event_is_little_more_than_its_text(events):
    assert measured("counts")[events]["stream"]["bytes"] <= MOST_BYTES


@pytest.mark.parametrize("what", ["calls", "bytes"])
def test_the_cost_per_event_does_not_grow_with_the_number_of_events(what):
    few, many = (measured("counts")[events]["stream"][what] for events in ("1000", "8000"))
    assert many <= few * 1.02
