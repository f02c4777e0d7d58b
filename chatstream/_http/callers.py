"""An exception → whether a function of the caller raised it: a signal handler, a hook, ``auth``.

Such a function runs in the middle of a request and may raise anything, also what the network raises: ``TimeoutError``
is what most handlers of ``SIGALRM`` raise. The frames of the traceback tell whose exception it is.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType
from typing import Any


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether the exception comes from a handler that is installed."""
    return raised_by(error, (signal.getsignal(number) for number in signal.valid_signals()))


def raised_by(error: BaseException, functions: Iterable[object]) -> bool:
    """Whether the exception passed through one of the functions, which may be any callables."""
    codes = {code for code in map(_code, functions) if code is not None}
    return any(code in codes for code in _codes(error))


def _codes(error: BaseException) -> Iterator[CodeType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame.f_code
        traceback = traceback.tb_next


def _code(function: Any) -> CodeType | None:
    """The code of a function, of a method, of what a partial calls, or of an object's ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__code__"):
        function = getattr(function, "__call__", None)  # noqa: B004  # the method is wanted
    return getattr(function, "__code__", None)
