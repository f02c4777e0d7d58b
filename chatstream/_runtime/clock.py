"""The clock behind every limit: `monotonic`, in seconds.

Tests of applications freeze time with freezegun or time-machine. freezegun replaces `time.monotonic` in each module
that has it, under any name, and also for modules that are imported later. A limit that asked a frozen clock would never
be reached, so this clock is one that these tools do not replace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any


def real_clock(module: Any = time) -> Callable[[], float]:
    """The monotonic clock of ``module``: `clock_gettime` if the system has it, else `monotonic`, in a `partial`."""
    if hasattr(module, "clock_gettime"):
        return partial(module.clock_gettime, module.CLOCK_MONOTONIC)
    return partial(module.monotonic)  # on Windows


monotonic: Callable[[], float] = real_clock()
