"""Celery and RQ with a real Redis: their time limits are exceptions of a signal handler, raised inside a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery_worker import celery_worker
from environments import Environments
from support import REST, THREE, WORDS

from chatstream.testing import FaultServer, Step, Wire, chunk, delta, forever, head, pause, stall, status

PROGRAMS = Path(__file__).parent / "programs"
WAITS = {
    "waiting for the headers": ([stall()], None),
    "waiting for the first event": ([head(), stall()], ""),
    "waiting after three events": ([head(), *THREE, stall()], "".join(WORDS)),
    "reading keep-alive comments": ([head(), *THREE, forever(chunk(b": hi\n\n"), pause(0.01))], "".join(WORDS)),
    "waiting to retry": (status(503, headers={"Retry-After": "5"}), None),
}


def echo() -> Step:
    """A step that answers with the question."""

    def step(wire: Wire) -> None:
        assert wire.request is not None
        delta(wire.request.json["messages"][-1]["content"])(wire)

    return step


@pytest.fixture(scope="module")
def celery(environment: Environments, redis: str) -> Iterator[dict[str, str]]:
    """The variables of a Celery worker with two processes, which were forked after a first call of their client."""
    python = environment("workers")
    with FaultServer([head(), echo(), *REST]) as warm:
        variables = {"REDIS": redis, "WARM_PORT": str(warm.port), "PYTHONPATH": str(PROGRAMS)}
        with celery_worker(python, "celery_tasks", variables):
            yield variables


def test_the_processes_of_a_celery_pool_get_their_own_answers_from_a_client_used_before_the_fork(celery, run):
    found = run("workers", "celery_calls.py", "echo", "40", **celery)
    assert [text for _, text in found["answers"]] == [f"question {number}" for number in range(40)], found
    assert len({process for process, _ in found["answers"]}) == 2


@pytest.mark.parametrize("wait", WAITS)
def test_the_soft_time_limit_of_celery_passes_through_a_stream_at_once_and_nothing_is_retried(
    celery: dict[str, str], run: Callable[..., Any], serve: Any, wait: str
) -> None:
    script, text = WAITS[wait]
    server = serve(script)
    found = run("workers", "celery_calls.py", "limited", str(server.port), **celery)
    kind, kept, seconds = found["ended"]
    assert (kind, kept) == ("SoftTimeLimitExceeded", text)
    assert seconds < 2
    assert len(server.requests) == 1
    assert "retry" in wait or server.client_closed()


def test_a_celery_task_that_ignores_its_time_limit_fails_with_it(celery, run, serve):
    server = serve([head(), *THREE, stall()])
    found = run("workers", "celery_calls.py", "unguarded", str(server.port), **celery)
    assert found == {"state": "FAILURE", "error": "SoftTimeLimitExceeded"}
    assert server.client_closed()
    assert len(server.requests) == 1


@pytest.mark.parametrize("wait", ["waiting for the headers", "waiting after three events"])
def test_the_timeout_of_an_rq_job_passes_through_a_stream_at_once_and_nothing_is_retried(redis, run, serve, wait):
    script, text = WAITS[wait]
    server = serve(script)
    found = run("workers", "rq_jobs.py", str(server.port), REDIS=redis, PYTHONPATH=str(PROGRAMS))
    assert "ended" in found, found
    kind, kept, seconds = found["ended"]
    assert (kind, kept) == ("JobTimeoutException", text)
    assert seconds < 2
    assert len(server.requests) == 1
    assert server.client_closed()
