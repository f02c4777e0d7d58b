"""The frame that called this library: warnings and messages name its line, and not one in here."""

from __future__ import annotations

import sys
from types import FrameType


def calling_frame() -> tuple[FrameType, int]:
    """The innermost frame outside of this library, or else the outermost one, and its distance.

    The distance is counted so that it is the ``stacklevel`` of a warning that the caller of this function emits.
    """
    distance, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "chatstream":
        distance, frame = distance + 1, frame.f_back
    return frame, distance


def calling_line() -> str:
    """The line that called this library, as ``file:line``."""
    frame, _ = calling_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
