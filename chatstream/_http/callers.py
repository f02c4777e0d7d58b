"""An exception → whether a function of the caller raised it: a signal handler, a hook, ``auth``.

Such a function runs in the middle of a request and may raise anything, also what the network raises: ``TimeoutError``
is what most handlers of ``SIGALRM`` raise. The frames of the traceback tell whose exception it is.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from functools import partial
from http.client import HTTPResponse
from types import CodeType, FrameType
from typing import Any

import urllib3


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether the exception comes from a handler that is installed."""
    return raised_by(error, (signal.getsignal(number) for number in signal.valid_signals()))


def raised_by(error: BaseException, functions: Iterable[object]) -> bool:
    """Whether the exception passed through one of the functions, which may be any callables."""
    codes = {code for code in map(_code, functions) if code is not None}
    return any(frame.f_code in codes for frame in _frames(error))


def raised_while_reading(error: BaseException, response: HTTPResponse | None) -> bool:
    """Whether the exception passed through a method of ``response``, or of urllib3's response around it."""
    owners = [frame.f_locals.get("self") for frame in _frames(error)]
    return response is not None and any(
        each is response or (isinstance(each, urllib3.HTTPResponse) and each._fp is response) for each in owners
    )


def _frames(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _code(function: Any) -> CodeType | None:
    """The code of a function, of a method, of what a partial calls, or of an object's ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__code__"):
        function = getattr(function, "__call__", None)  # noqa: B004  # the method is wanted
    return getattr(function, "__code__", None)
