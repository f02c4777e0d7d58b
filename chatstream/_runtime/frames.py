"""The frame that called this library: warnings and messages name its line, and not one in here."""

from __future__ import annotations

import sys
import warnings
from types import FrameType


def warn(message: str) -> None:
    """Emit a `UserWarning` at the line that called this library."""
    _, distance = _calling_frame()
    warnings.warn(message, UserWarning, stacklevel=distance)


def calling_line() -> str:
    """The line that called this library, as ``file:line``."""
    frame, _ = _calling_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _calling_frame() -> tuple[FrameType, int]:
    """The innermost frame outside of this library, or else the outermost one, and its ``stacklevel`` for the caller."""
    distance, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "chatstream":
        distance, frame = distance + 1, frame.f_back
    return frame, distance
