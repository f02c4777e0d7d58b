"""Asks for many prompts through an executor of another package: ``many_prompts.py dask|loky|map URL OUT COUNT``.

Prints one JSON object: how many results have an answer, what errors there were, and how many processes answered.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from chatstream import Client, Provider, map_prompts

WORKERS = 4
KILL_AFTER = 0.2  # of the prompts: a worker is killed


@contextmanager
def dask(kill: list[Any]) -> Iterator[Executor]:
    """Four worker processes and their scheduler, on loopback. ``kill`` gets a function that kills a worker."""
    from distributed import Client as DaskClient
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=8, host="127.0.0.1", dashboard_address=None) as cluster,
        DaskClient(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        kill.append(lambda: os.kill(pids[0], signal.SIGKILL))
        yield client.get_executor()


@contextmanager
def loky(kill: list[Any]) -> Iterator[Executor]:
    from loky import get_reusable_executor

    with get_reusable_executor(max_workers=WORKERS) as executor:
        yield executor


def main(kind: str, url: str, out: str, count: int) -> None:
    provider = Provider("test", url, env_key="MANY_KEY", retry_budget=None)
    client, kill = Client(provider, model="m1"), list[Any]()
    answered, errors = 0, list[str]()
    with {"dask": dask, "loky": loky}[kind](kill) as executor:
        prompts = (f"p{number}" for number in range(count))
        for number, result in enumerate(map_prompts(client, prompts, executor=executor, concurrency=32, out=out)):
            answered += result.turn is not None
            errors += [] if result.error is None else [str(result.error)]
            if kill and number >= count * KILL_AFTER:
                kill.pop()()
    print(json.dumps({"answered": answered, "errors": errors}))


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
