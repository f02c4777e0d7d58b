"""What the soak reads of its own process when nothing is in use: file descriptors, threads and memory."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessState:
    """The resources of this process; memory is resident, in KiB."""

    descriptors: int
    threads: int
    memory: int


def idle_state(opened: list[Any]) -> ProcessState:
    """The state after everything opened is closed, and all memory that can be freed is."""
    for each in opened:
        each.close()
    for _ in range(3):
        gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
    return ProcessState(len(os.listdir("/proc/self/fd")), threading.active_count(), resident_memory())


def resident_memory() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
