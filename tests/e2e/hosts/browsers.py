"""The browser that the tests with pages use: which one is installed, and how it is started and killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    "--remote-debugging-port=0",
]


def browser() -> str:
    """The browser that is installed; skips the test without one, unless CHATSTREAM_REQUIRE_E2E is set."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        assert not os.environ.get("CHATSTREAM_REQUIRE_E2E"), "no browser is installed: chromium-headless-shell"
        pytest.skip("no browser is installed: chromium-headless-shell")
    return found


def start(program: str, profile: Path, url: str, *options: str) -> Callable[[], None]:
    """Open a page; returns a function that kills all processes of the browser, of which the first may be a script."""
    command = [program, *OPTIONS, *options, f"--user-data-dir={profile}", url]
    with open(os.devnull, "r+b") as nothing:
        process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    return kill
