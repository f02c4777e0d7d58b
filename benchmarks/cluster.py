"""Many prompts on a Dask cluster: prompts per second of one worker, and of four. ``python -m benchmarks.cluster``.

    a server whose answers take a while ◀─ 8 threads of each worker process ◀─Dask─ map_prompts ──▶ prompts per second

The server is a separate process on loopback and waits before each answer, as one does that has room for all: what is
measured is whether the workers are kept busy, and not how fast two cores are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from chatstream import Client, Provider, map_prompts
from chatstream.testing import FaultServer, pause, text_answer

from .environments import interpreter

ROOT = Path(__file__).resolve().parents[1]
THREADS = 8  # of each worker
ANSWER_SECONDS = 1.0
ROUNDS = 20  # of answers in each thread
KEY = "BENCHMARK_KEY"


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cluster", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def serve() -> None:
    """Answer until stdin is closed; the URL is printed first."""
    with FaultServer([pause(ANSWER_SECONDS), *text_answer("fine")]) as answering:
        print(answering.url, flush=True)
        sys.stdin.read()


@contextmanager
def cluster(workers: int) -> Iterator[Executor]:
    """The executor of so many worker processes on loopback."""
    from distributed import Client as Dask
    from distributed import LocalCluster

    local = LocalCluster(
        n_workers=workers, threads_per_worker=THREADS, host="127.0.0.1", dashboard_address=None, memory_limit=0
    )
    with local, Dask(local) as dask:
        yield dask.get_executor()


def rate(url: str, workers: int) -> float:
    """Prompts per second. Twice as many are in flight as there are threads, so that none waits for the next."""
    threads = workers * THREADS
    client = Client(Provider("bench", url, env_key=KEY), model="m1")
    with cluster(workers) as executor:
        for count in (2 * threads, ROUNDS * threads):  # the first ones import chatstream and connect
            prompts = (f"prompt {count}-{number}" for number in range(count))
            began = time.perf_counter()
            for result in map_prompts(client, prompts, executor=executor, concurrency=2 * threads):
                assert result.turn, result.error
            found = count / (time.perf_counter() - began)
    return found


def measured(python: str, workers: int) -> float:
    """`rate`, in a process of its own."""
    with server() as url:
        command = [python, "-m", "benchmarks.cluster", "rate", url, str(workers)]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), KEY: "sk-benchmark"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=variables)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv" / "bench")
    options = parser.parse_args()
    python = interpreter("dask", options.environments)
    rates: dict[int, list[float]] = {1: [], 4: []}
    for _ in range(options.rounds):
        for workers, found in rates.items():
            found.append(measured(python, workers))
    ratios = [four / one for one, four in zip(*rates.values(), strict=True)]
    found = {f"{workers} worker{'s' * (workers > 1)}": statistics.median(each) for workers, each in rates.items()}
    print(json.dumps(found | {"ratio": statistics.median(ratios), "ratios": ratios}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["rate"]:
        print(rate(sys.argv[2], int(sys.argv[3])))
    else:
        main()
