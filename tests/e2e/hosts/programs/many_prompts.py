"""Asks for many prompts through an executor of another package, twice: ``many_prompts.py dask|loky URL OUT COUNT``.

The second run asks again for what has failed in the first. Prints one JSON object for each: how many results have an
answer of this run, how many one from the file, the errors by their type, and how many keys the results have.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
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


def run(client: Client, executor: Executor, out: str, count: int, kill: list[Any]) -> dict[str, Any]:
    found, keys = Counter[str](), set[str]()
    prompts = (f"p{number}" for number in range(count))
    for number, result in enumerate(map_prompts(client, prompts, executor=executor, concurrency=32, out=out)):
        found["resumed" if result.resumed else "answered" if result.turn else type(result.error).__name__] += 1
        keys.add(result.key)
        if kill and number >= count * KILL_AFTER:
            kill.pop()()
    return {**found, "keys": len(keys)}


def main(kind: str, url: str, out: str, count: int) -> None:
    provider = Provider("test", url, env_key="MANY_KEY", retry_budget=None, stream_idle_timeout=2)
    client, kill = Client(provider, model="m1"), list[Any]()
    with {"dask": dask, "loky": loky}[kind](kill) as executor:
        for _ in range(2):
            print(json.dumps(run(client, executor, out, count, kill)), flush=True)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
