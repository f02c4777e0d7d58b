"""A real Celery worker, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

READY_SECONDS = 30.0
OPTIONS = ("--pool", "prefork", "--concurrency", "2", "--without-gossip", "--without-mingle", "--loglevel", "INFO")


@contextmanager
def celery_worker(python: Path, application: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Runs a worker with two processes for the module ``application``, with ``variables`` in its environment."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(python), "-m", "celery", "--app", application, "worker", *OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | variables,
        )

        def printed() -> str:
            log.seek(0)
            return log.read().decode("utf-8", "replace")

        try:
            until = time.monotonic() + READY_SECONDS
            while " ready." not in printed():
                assert process.poll() is None, printed()
                assert time.monotonic() < until, printed()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(20)
