"""A program that opens the store of a run and claims keys: ``store_memory.py OUT FEW MANY``.

It prints by how many MiB its peak memory grows when it opens the file, and from ``FEW`` claims to ``MANY``. Every
hundredth key is one that the file may have an answer to.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chatstream.many.store import Store
from chatstream.many.tasks import Task


def peak() -> float:
    """The peak memory so far, in MiB. ``ru_maxrss`` would have that of the process which has started this one."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def main(out: str, few: int, many: int) -> None:
    before = peak()
    with Store(out) as store:
        opened = few_claimed = peak()
        for number in range(many):
            key = f"another {number}" if number % 100 else f"{number:032x}"
            store.claim(Task(number, key, key, ""))
            if number == few:
                few_claimed = peak()
        print(opened - before, peak() - few_claimed)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
