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


def causes_of(error: BaseException) -> list[BaseException]:
    """The error and its causes: urllib3 and requests wrap them in ``reason``, in ``args``, and by ``raise from``."""
    found = [error]
    while True:
        last = found[-1]
        # PySocks has it in socket_err; a context may be the caller's
        inner_names = [getattr(last, name, None) for name in ("reason", "socket_err")]
        wrapped = [*inner_names, *reversed(last.args), last.__cause__]
        inner = next((each for each in wrapped if isinstance(each, BaseException) and each not in found), None)
        if inner is None:
            return found
        found.append(inner)


def caused_by_signal_handler(error: BaseException) -> bool:
    """Whether the exception, or one of its causes, comes from a signal handler."""
    return any(map(raised_by_signal_handler, causes_of(error)))


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether the exception comes from a handler that is installed, or was until it ran: many set another one first."""
    frames = list(_frames(error))
    handlers = map(signal.getsignal, signal.valid_signals())
    return any(map(_has_frame_of, frames[1:], frames)) or raised_by(error, handlers)


def raised_by(error: BaseException, functions: Iterable[object]) -> bool:
    """Whether the exception passed through one of the functions, which may be any callables."""
    codes = {code for code in map(_code, functions) if code is not None}
    return any(frame.f_code in codes for frame in _frames(error))


def raised_while_reading(error: BaseException, response: HTTPResponse | None) -> bool:
    """Whether the exception passed through a method of ``response``, or of urllib3's response around it."""
    owners = [frame.f_locals.get("self") for frame in _frames(error)]
    return response is not None and any(
        each is response or (isinstance(each, urllib3.HTTPResponse) and getattr(each, "_fp", None) is response)
        for each in owners
    )


def _has_frame_of(frame: FrameType, caller: FrameType) -> bool:
    """Whether a function received the frame of its caller as an argument, as signal handlers do."""
    values = frame.f_locals.values()
    return any(each is caller for value in values for each in (value if type(value) is tuple else (value,)))


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
