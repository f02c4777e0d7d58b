"""What the soak reads of its own process when nothing is in use: file descriptors, threads and memory.

Two kinds of memory:
- *allocated*: what the program has asked the C allocator for and not given back, to the byte (``mallinfo2`` of glibc
  2.33 or newer). With `ALLOCATOR`, Python's objects are in it, too. A leak is seen here, however small.
- *resident*: what the process occupies. The C allocator can give back only whole pages, and after some thousand streams
  in 200 threads many pages hold one small object each. So this depends on the load more than on what is kept.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALLOCATOR = {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class ProcessState:
    """The resources of this process; memory is in KiB."""

    descriptors: int
    threads: int
    allocated: int
    resident: int


class _MallInfo2(ctypes.Structure):
    """The ``struct mallinfo2`` of ``malloc.h``."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def idle_state(opened: list[Any]) -> ProcessState:
    """The state after everything opened is closed, and all memory that can be freed is."""
    for each in opened:
        each.close()
    for _ in range(3):
        gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    descriptors = len(os.listdir("/proc/self/fd"))
    return ProcessState(descriptors, threading.active_count(), _allocated_memory(), _resident_memory())


def _allocated_memory() -> int:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo2
    info = mallinfo2()
    return (info.uordblks + info.hblkhd) // 1024  # blocks in the heap, and large ones that are mapped


def _resident_memory() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
