"""One task → its result, in a thread of this process or in a worker elsewhere.

    Client, Task ─ask▶ Result            pickled client, pickled task ─ask_elsewhere▶ Result

Rules:
- A failed call is a result with its error. Only what ends a program (`SystemExit`, Ctrl-C) is raised.
- A worker makes one client of each pickle that it gets, so that its tasks share connections, budget and limiter.
- A key does not travel: a worker reads it from its own environment.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from time import time
from typing import Any

from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from ..client import Client
from ..errors import ChatStreamError, ConfigError
from .result import Result
from .tasks import Task

MOST_CLIENTS = 4  # of a worker; the one that came first is closed
_clients: dict[bytes, Client] = {}
_lock = ForkSafeLock()


def ask(client: Client, task: Task) -> Result:
    """Ask for one task."""
    started, began = time(), monotonic()
    try:
        stream = client.stream(task.prompt, **task.fields)
        turn = stream.collect()
    except Exception as error:
        attempts = error.attempts if isinstance(error, ChatStreamError) else ()
        clean = error.with_traceback(None)  # whose frames hold the prompt and what was received
        return Result(task.key, task.index, None, clean, attempts, started, monotonic() - began)
    return Result(task.key, task.index, turn, None, stream.attempts, started, monotonic() - began)


def ask_elsewhere(client: bytes, task: bytes) -> Result:
    """Ask for one task in a worker."""
    with _lock.current:
        if client not in _clients:
            _clients[client] = pickle.loads(client)
            if len(_clients) > MOST_CLIENTS:
                _clients.pop(next(iter(_clients))).close()
        own = _clients[client]
    result = ask(own, pickle.loads(task))
    if result.error is not None and not isinstance(result.error, ChatStreamError):
        # An exception of a hook or another library may lose its arguments on the way, and the worker with it.
        error = ChatStreamError(f"{type(result.error).__name__}: {result.error}")
        return Result(result.key, result.index, None, error, (), result.started, result.seconds)
    return result


def pickled_client(client: Client) -> bytes:
    """The client for workers. Raises `ConfigError` if it would not be the same there."""
    data = pickle.dumps(client)
    copy: Client = pickle.loads(data)
    if copy.provider.api_key != client.provider.api_key:
        raise ConfigError(
            "a key passed as api_key is not sent to other processes: create the client with "
            'Provider(…, env_key="NAME"), and set that environment variable for the workers'
        )
    if copy.provider != client.provider or copy.defaults != client.defaults:
        raise ConfigError(
            "a secret header, parameter or field is not sent to other processes: pass the header to "
            "Provider(…, env_http_headers={…}), and set its environment variable for the workers"
        )
    if client._session is not None:
        raise ConfigError("a client with session=… can't be used in other processes: leave out executor=…")
    return data


def pickled_task(task: Task) -> bytes:
    """The task for a worker. Raises `ConfigError` if it can't be pickled."""
    try:
        return pickle.dumps(task)
    except Exception as error:
        raise ConfigError(f"the prompt can't be sent to another process: {error}") from None


def where(marker: list[None]) -> tuple[int, int]:
    """The process that runs this, and the identity of what was passed to it, which a copy has not."""
    return os.getpid(), id(marker)


def runs_here(executor: Executor) -> bool:
    """Whether an executor calls its functions in this process and with the arguments themselves; it is asked to."""
    marker: list[None] = []
    return isinstance(executor, ThreadPoolExecutor) or executor.submit(where, marker).result() == where(marker)


def asker(client: Client, executor: Executor | None) -> tuple[Callable[[Task], tuple[Any, ...]], bool]:
    """A function that makes of a task the arguments for ``executor.submit``, and whether the executor's functions run
    in this process. Raises as `pickled_client` does."""
    if executor is None or runs_here(executor):
        return lambda task: (ask, client, task), True
    data = pickled_client(client)
    return lambda task: (ask_elsewhere, data, pickled_task(task)), False
