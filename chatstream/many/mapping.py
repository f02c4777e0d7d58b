"""`map_prompts`: a client and many prompts → their results, as they finish.

    prompts ─▶ Run ─Result▶ the caller's loop
                └─▶ a file from which a killed run continues

Rules:
- An error in the call as a whole is a `ConfigError` of the call. An error in one prompt is its result.
- The calls of a run share the connections, the retry budget and the usage of the client, and are cancelled separately.
- A run that is still open when the program ends is ended as by a loop that is left.
"""

from __future__ import annotations

import _thread
import atexit
import os
from collections.abc import Generator, Iterable, Mapping, Sized
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from .._retries.limiter import Limiter
from ..client import Client
from ..errors import ConfigError
from .asking import ask, worker_arguments
from .futures import Futures
from .progress import Report, Tally
from .result import Result
from .run import Run
from .store import Store
from .tasks import OPTIONS, make_task, read_lines
from .threads import Threads

_open_runs: WeakSet[Generator[Result, None, None]] = WeakSet()


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
    - ``executor``: where the calls run; without it, in ``concurrency`` threads. At most ``concurrency`` prompts are in
      flight in any executor. Workers in other processes read the key from their own environment.
    - ``out``: a file to which each result is appended, as a line of JSON. With ``resume``, prompts that already have
      an answer in the file are skipped, and those that failed are sent again.
    - ``ordered``: yield in the order of the prompts.
    - ``limiter``: replaces that of the client. Without either, a new `Limiter` adapts to the server.
    - ``progress``: True for a bar on stderr, or a function that is called with a `Progress` after each result.
    - ``fields``: arguments of `Client.stream` for all prompts. The fields of a dict take precedence, but ``model``
      replaces the models that dicts name.

    A failed call is a `Result` with its error, and does not end the run. What ``prompts`` raises is raised after the
    results of the prompts in flight. Raises `ConfigError` for arguments that can't
    work, for a file of another run or one that another run is writing to, and OSError if a result can't be written.
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
                lambda index, given: make_task(client, index, given, fields),
                client.cancel if arguments is None else None,
                concurrency=concurrency,
                ordered=ordered,
                store=store,
            )
            stack.callback(flight.end)
            stack.callback(run.end)
            try:
                yield from run.results(read_lines(prompts), tally.add)
            finally:
                if flight.is_asking_here:  # a hook has closed this, or the garbage collector
                    _thread.start_new_thread(stack.pop_all().close, ())

    _open_runs.add(run := results())
    return run


def _end_open_runs() -> None:
    for run in list(_open_runs):
        with suppress(ValueError):  # another thread is using it, which ends with the program
            run.close()


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


atexit.register(_end_open_runs)
