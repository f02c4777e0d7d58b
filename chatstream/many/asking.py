"""One task → its result, in a thread of this process or in a worker elsewhere.

    Client, Task ─ask▶ Result            pickled client, pickled task ─ask_elsewhere▶ Result

Rules:
- A failed call is a result with its error. Only what ends a program (`SystemExit`, Ctrl-C) is raised.
- A worker makes one client of each pickle that it gets, so that its tasks share connections, budget and limiter.
- A key does not travel: a worker reads it from its own environment. A secret in headers or fields is an error.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from time import time
from typing import Any

from .._field_names import KNOWN
from .._http.callers import caused_by_signal_handler
from .._runtime.clock import monotonic
from .._runtime.locks import ForkSafeLock
from .._secrets import has_key_prefix, is_named_secret, is_secret, masked_if_key
from ..client import Client
from ..errors import ChatStreamError, ConfigError, MissingEnvVar
from .result import Result
from .tasks import Task

HEADER_HINT = (
    "is not sent to other processes: pass a header to Provider(…, env_http_headers={…}), "
    "and set its environment variable for the workers"
)
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
        if caused_by_signal_handler(error):  # in an executor that runs functions in the thread of the caller
            raise
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
    error = result.error
    if isinstance(error, MissingEnvVar):
        error = _located(error)
    elif error is not None and not isinstance(error, ChatStreamError):
        # An exception of a hook or another library may lose its arguments on the way, and the worker with it.
        error = ChatStreamError(f"{type(error).__name__}: {error}")
    return result if error is result.error else replace(result, error=error)


def _located(error: MissingEnvVar) -> MissingEnvVar:
    """The error with the place where the variable is missing: where the run was started, it may well be set."""
    where = f"Set it for the workers: process {os.getpid()} on {socket.gethostname()} does not have it."
    return MissingEnvVar(error.variable, " ".join(filter(None, (where, error.instructions))))


def pickled_client(client: Client) -> bytes:
    """The client for workers. Raises `ConfigError` if it would not be the same there."""
    data = pickle.dumps(client)
    copy: Client = pickle.loads(data)
    if copy.provider.api_key != client.provider.api_key:
        raise ConfigError(
            "a key passed as api_key is not sent to other processes: create the client with "
            'Provider(…, env_key="NAME"), and set that environment variable for the workers'
        )
    if (copy.provider, copy.defaults, copy.model) != (client.provider, client.defaults, client.model):
        raise ConfigError(f"a secret header, parameter or field {HEADER_HINT}")
    if client._session is not None:
        raise ConfigError("a client with session=… can't be used in other processes: leave out executor=…")
    return data


def check_no_secrets(fields: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if the arguments of a call have a secret, which the pickle of a task would show.

    The value of a field that servers know is part of a request, as its prompt is, unless it is a vendor's key.
    """
    headers, body = (fields.get(name) for name in ("extra_headers", "extra_body"))
    for name, value in (headers if isinstance(headers, Mapping) else {}).items():
        if is_secret(str(name), str(value)):
            raise ConfigError(f"the header {masked_if_key(str(name))} of extra_headers {HEADER_HINT}")
    for name, value in {**fields, **(body if isinstance(body, Mapping) else {})}.items():
        if isinstance(value, str) and (has_key_prefix(value) or (name not in KNOWN and is_named_secret(str(name)))):
            raise ConfigError(f"the field {masked_if_key(str(name))} {HEADER_HINT}")


def pickled_task(task: Task) -> bytes:
    """The task for a worker. Raises `ConfigError` if it can't be pickled, or as `check_no_secrets` does."""
    check_no_secrets(task.fields)
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


def worker_arguments(
    client: Client, executor: Executor, fields: Mapping[str, Any]
) -> Callable[[Task], tuple[Any, ...]] | None:
    """A function that makes of a task the arguments for ``executor.submit``; None if the executor's functions run in
    this process. ``fields`` are those of all tasks. Raises as `pickled_client` and `check_no_secrets` do."""
    if runs_here(executor):
        return None
    check_no_secrets(fields)
    data = pickled_client(client)
    return lambda task: (ask_elsewhere, data, pickled_task(task))
