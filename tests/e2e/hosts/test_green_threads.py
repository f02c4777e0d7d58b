"""Limits and cancellation where gevent or eventlet has patched the standard library, before or after the import."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support import REST, THREE, WORDS

from chatstream.testing import FaultServer, chunk, forever, head, pause, stall, status

SCRIPTS = {
    "answer": [head(), *THREE, pause(0.3), *REST],
    "idle": [head(), *THREE, stall()],
    "heartbeats": [head(), *THREE, stall()],
    "first event": [head(), stall()],
    "headers": [stall()],
    "deadline": [head(), *THREE, forever(chunk(b": keep-alive\n\n"), pause(0.1))],
    "cancel": [head(), *THREE, stall()],
    "retries": status(503),
    "timeout of the library": [head(), *THREE, stall()],
}
ENDS = {
    "answer": "".join(WORDS),
    "idle": "IdleTimeout",
    "heartbeats": "IdleTimeout",
    "first event": "IdleTimeout",
    "headers": "IdleTimeout",
    "deadline": "DeadlineExceeded",
    "cancel": "Cancelled",
    "retries": "RetryLimit",
    "timeout of the library": "theirs",
}
LONGEST = {"answer": 5.0, "cancel": 0.5, "retries": 2.0}  # seconds; fifty streams, one after the other, take 15
HOSTS = [(library, order) for library in ("gevent", "eventlet") for order in ("before", "after")]


@pytest.fixture(scope="module", params=HOSTS, ids=[f"{library} patches {order} the import" for library, order in HOSTS])
def ended(request: pytest.FixtureRequest, run: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What fifty green threads report of each script."""
    with ExitStack() as stack:
        urls = {name: stack.enter_context(FaultServer(script)).url for name, script in SCRIPTS.items()}
        yield run("web", "green_threads.py", *request.param, json.dumps(urls), NO_PROXY="127.0.0.1")


@pytest.mark.parametrize("scenario", SCRIPTS)
def test_fifty_green_threads_end_at_once_and_in_the_way_that_a_thread_does(ended, scenario):
    assert scenario in ended, ended.get("failure")
    assert ended[scenario]["ends"] == [ENDS[scenario]]
    assert ended[scenario]["longest"] < LONGEST.get(scenario, 4.0)
