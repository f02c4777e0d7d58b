"""The id of this process, cached: each read of a stream compares it, and asking the system takes longer."""

from __future__ import annotations

import os

pid: int = os.getpid()


def _renew() -> None:
    global pid  # noqa: PLW0603  # a child has its own
    pid = os.getpid()


if hasattr(os, "register_at_fork"):  # pragma: no branch  (not on Windows)
    os.register_at_fork(after_in_child=_renew)
