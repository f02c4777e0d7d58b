"""Exceptions that another thread raises here, as task queues and web frameworks end a thread.

Each test runs a program in a process of its own: while such an exception waits for its thread, CPython 3.11 lets no
other thread of the process enter a function if it is traced, as it is where coverage is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from support import THREE

import chatstream
from chatstream.testing import chunk, forever, head, pause

OPENING = """
import ctypes, queue, signal, sys, threading, time
from contextlib import suppress
from chatstream import Client, Provider
from chatstream._http.connection import ScopedPool
from chatstream._runtime.locks import ForkSafeLock

class Stop(Exception):
    pass

def stop(thread):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))

signal.alarm(20)
"""
CALL = """
stream = Client(Provider("test", sys.argv[1]), model="m1").stream("Hi")
timer = threading.Timer(0.2, stop, [threading.current_thread()])
timer.start()
try:
    stream.collect()
except Stop:
    print("stopped after", stream.turn.text, flush=True)
sys.stdin.read()
"""
LOCKS = """
lock = ForkSafeLock()
pool = ScopedPool("127.0.0.1").pool
sys.setswitchinterval(0.0001)
threading.excepthook = lambda stopped: None

def use():
    with lock.current:
        pass
    with suppress(queue.Empty):
        pool.get(block=False)
    with suppress(queue.Full):
        pool.put(None, block=False)

def work():
    while True:
        use()

for moment in range(30):
    for target in (work, use):
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        if target is work:
            time.sleep(0.001)
            stop(thread)
        thread.join(2)
        if thread.is_alive():
            sys.exit(f"a lock stays taken at moment {moment}")
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until its input is closed, at the end of the block, or until its own end; it succeeds."""
    path = os.pathsep.join([os.path.dirname(os.path.dirname(chatstream.__file__)), *sys.path])
    command = [sys.executable, "-W", "error", "-c", OPENING + program, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, text=True, **pipes) as process:
        yield process
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


@pytest.fixture(params=[pytest.param(False, id="plain"), pytest.param(True, id="TLS")])
def serve_both(request: pytest.FixtureRequest, serve: Any) -> Any:
    """`serve` over plain HTTP, and over TLS with a certificate that programs trust."""
    if not request.param:
        return serve
    request.getfixturevalue("trusted")
    return partial(serve, tls=request.getfixturevalue("tls"))


@pytest.mark.parametrize("count", [0, 3])
def test_an_exception_that_another_thread_raises_ends_a_call_and_passes(serve_both, count):
    server = serve_both([head(), *THREE[:count], forever(chunk(b": ping\n\n"), pause(0.01))])
    with running(CALL, server.url) as program:
        assert program.stdout is not None
        assert program.stdout.readline().strip() == " ".join(["stopped after", *["one two three"] * bool(count)])
        assert server.client_closed()
    assert len(server.requests) == 1


def test_an_exception_that_another_thread_raises_leaves_no_lock_taken():
    with running(LOCKS):
        pass
