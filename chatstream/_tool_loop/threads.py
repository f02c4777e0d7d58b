"""Functions → their results, from threads, in the order of the functions.

Rules:
- The threads are daemons: a function that never returns does not keep the program from ending.
- Each thread has a copy of the caller's context variables.
- When the caller gives up, no further function begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextvars import copy_context
from threading import Thread
from typing import Any, TypeVar

from .._runtime.imports import imports

T = TypeVar("T")


def results_of(functions: Sequence[Callable[[], T]], threads: int) -> Generator[T, None, None]:
    """The result of each function, as soon as it and all before it have returned; raises what a function raises.

    Up to ``threads`` of them run at the same time.
    """
    with imports():
        from concurrent.futures import Future

    futures: list[Future[T]] = [Future() for _ in functions]
    waiting = deque(zip(functions, futures, strict=True))
    for _ in range(min(threads, len(functions))):
        Thread(target=copy_context().run, args=(_work, waiting), daemon=True).start()
    try:
        for future in futures:
            yield future.result()
    finally:
        waiting.clear()


def _work(waiting: deque[tuple[Callable[[], Any], Any]]) -> None:
    while True:
        try:
            function, future = waiting.popleft()
        except IndexError:  # `clear` may have come first
            return
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
