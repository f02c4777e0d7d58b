"""`map_prompts`: a client and many prompts → their results, as they finish.

    prompts ─▶ Run ─Result▶ the caller's loop
                └─▶ a file from which a killed run continues

Rules:
- An error in the call as a whole is a `ConfigError` of the call. An error in one prompt is its result.
- The calls of a run share the connections, the retry budget and the usage of the client, and are cancelled separately.
- A run that is still open when the program ends is closed, as if its loop had been left.
- Only the thread that has read last waits while it closes a run. The garbage collector closes it in any thread, perhaps
  in one that the run waits for; then a new thread does that.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Generator, Iterable, Mapping, Sized
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from threading import Thread, get_ident
from typing import Any
from weakref import ref

from .._retries.limiter import Limiter
from ..client import Client
from ..errors import ConfigError
from ..providers import local  # noqa: F401  # whose hook at exit, which kills the server, is called after the one here
from .asking import ask, worker_arguments
from .futures import Futures
from .progress import Report, Tally
from .ready import Ready
from .result import Result
from .run import Run
from .store import Store
from .tasks import OPTIONS, make_task, read_lines
from .threads import Threads

_exiting: list[bool] = []  # true when the program ends
_open_runs: set[ref[Any]] = set()  # an interrupt may be lost in the Python of a WeakSet


def map_prompts(
    client: Client,
    prompts: Iterable[Any] | os.PathLike[str],
    *,
    executor: Executor | None = None,
    concurrency: int = 8,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    ordered: bool = False,
    limiter: Limiter | None = None,
    progress: bool | Report | None = None,
    **fields: Any,
) -> Generator[Result, None, None]:
    """Send every prompt to the model, and yield a `Result` for each as it finishes.

    - ``prompts``: an iterable, read only as fast as calls can start, or the path of a JSON Lines file. A prompt is
      whatever `Client.stream` accepts; a dict with ``prompt`` or ``messages`` and, optionally, an ``id`` and request
      fields; or a line of an OpenAI batch file.
    - ``executor``: where the calls run; without it, in up to ``concurrency`` threads. At most ``concurrency`` prompts
      are in flight in any executor. Workers in other processes read the key from their own environment.
    - ``out``: a file to which each result is appended, as a line of JSON. With ``resume``, prompts that already have
      an answer in the file are skipped, and those that failed are sent again.
    - ``ordered``: yield in the order of the prompts.
    - ``limiter``: replaces that of the client. Without either, a new `Limiter` adapts to the server.
    - ``progress``: True for a bar on stderr, or a function that is called with a `Progress` after each result.
    - ``fields``: arguments of `Client.stream` for all prompts. The fields of a dict take precedence, but ``model``
      replaces the models that dicts name.

    A failed call is a `Result` with its error, and does not end the run. Leaving the loop cancels the prompts in
    flight; with ``out``, they are finished and written first. What ``prompts`` raises is raised after the results of
    the prompts in flight. Raises `ConfigError` for arguments that can't work, for a file of another run or one that
    another run is writing to, and OSError if a result can't be written.
    """
    if not isinstance(client, Client):
        raise ConfigError(f"client must be a Client, not {type(client).__name__}")
    _check(prompts, executor, concurrency, out, fields)
    client._checked_fields({name: value for name, value in fields.items() if name not in OPTIONS})
    tally = Tally(progress, len(prompts) if isinstance(prompts, Sized) else None)
    client = client._for_run(limiter)
    arguments = None if executor is None else worker_arguments(client, executor, fields)

    def results() -> Generator[Result, None, None]:
        with ExitStack() as stack:
            stack.callback(tally.end)
            store = None if out is None else stack.enter_context(Store(out, resume))
            flight = (
                Threads(store, partial(ask, client), concurrency)
                if executor is None
                else Futures(store, executor, partial(ask, client), arguments)
            )
            run = Run(
                flight,
                ready := Ready(ordered, tally.add),
                lambda index, given: make_task(client, index, given, fields),
                client.cancel if arguments is None else None,
                concurrency=concurrency,
                store=store,
            )
            stack.callback(flight.stop_threads)
            stack.callback(run.end)
            try:
                yield from run.results(read_lines(prompts))
            finally:
                if ready.reader not in (0, get_ident()) and not _exiting:
                    Thread(target=stack.pop_all().close, name="chatstream_end").start()

    return _opened(results())


def _opened(run: Generator[Result, None, None]) -> Generator[Result, None, None]:
    _open_runs.add(ref(run, _open_runs.discard))
    return run


def _close_open_runs() -> None:
    _exiting.append(True)
    with ExitStack() as stack:
        for run in filter(None, [reference() for reference in _open_runs.copy()]):
            if not run.gi_running:  # otherwise by another thread, which ends with the program
                stack.callback(run.close)


def _check(prompts: Any, executor: Any, concurrency: Any, out: Any, fields: Mapping[str, Any]) -> None:
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, (Iterable, os.PathLike)):
        raise ConfigError(f"prompts must be a list or another iterable, or a Path, not {type(prompts).__name__}")
    if hasattr(prompts, "columns"):  # over which a loop goes, or over their names
        raise ConfigError('prompts must be rows, not a table: use table[["id", "prompt"]].to_dict("records")')
    if executor is not None and (isinstance(executor, type) or not hasattr(executor, "submit")):
        name = executor.__name__ if isinstance(executor, type) else type(executor).__name__
        raise ConfigError(f"executor must be an executor, such as ProcessPoolExecutor(4), not {name}")
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigError(f"concurrency must be an integer of at least 1, not {concurrency!r}")
    if not (out is None or isinstance(out, (str, bytes, os.PathLike))):
        raise ConfigError(f"out must be the path of a file, not {type(out).__name__}")
    for name in ("prompt", "messages"):
        if name in fields:
            raise ConfigError(f"map_prompts does not accept {name}=…: pass the prompts as its second argument")


atexit.register(_close_open_runs)
