"""Greenlets: gevent and eventlet replace modules of the standard library, before or after this package is imported."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support import REST, THREE, within

import chatstream
from chatstream import Heartbeat
from chatstream._http.cancel_scope import CancelScope
from chatstream.testing import head, pause, send, stall, status, text_answer

OK = text_answer("fine")


def test_a_wait_before_a_retry_uses_the_locks_that_threading_has_then(monkeypatch):
    made: list[Any] = []
    lock = threading.Lock
    monkeypatch.setattr(threading, "Lock", lambda: made.append(lock()) or made[-1])
    scope = CancelScope()
    assert scope._waking in made
    with within(0.2, least=0.05):
        scope.sleep(0.05)


def test_connections_are_watched_although_poll_was_taken_away_after_a_first_call(serve, connect, monkeypatch):
    late = [*OK, pause(0.02), send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")]
    server = serve(OK, OK, late, [head(), pause(0.3), *THREE, *REST])
    client = connect(server)
    assert client.stream("Hi").collect().text == "fine"
    monkeypatch.delattr(select, "poll")
    assert [client.stream("Hi").collect().text for _ in range(2)] == ["fine", "fine"]
    assert server.connections == 1
    pause_of_the_caller = threading.Event()
    pause_of_the_caller.wait(0.1)
    assert any(isinstance(event, Heartbeat) for event in client.stream("Hi", heartbeat=0.05))
    assert server.connections == 2


PROGRAM = """
import signal, sys, time
signal.alarm(30)
import gevent, gevent.monkey
when, retried, silent = sys.argv[1:]
if when == "before":
    gevent.monkey.patch_all()
from chatstream import Cancelled, Client, DeadlineExceeded, IdleTimeout, Provider, RetryLimit
if when == "after":
    gevent.monkey.patch_all()

def error(url, **options):
    fields = {name: options.pop(name) for name in list(options) if name != "deadline"}
    client = Client(Provider("test", url, stream_max_retries=0, **fields), model="m")
    try:
        client.stream("Hi", **options).collect()
    except Exception as error:
        return type(error)

def cancelled():
    client = Client(Provider("test", silent), model="m")
    gevent.spawn_later(0.3, client.cancel)
    try:
        client.stream("Hi").collect()
    except Exception as error:
        return type(error)

def ended_by_gevent(exception):
    try:
        with gevent.Timeout(0.3, exception):
            Client(Provider("test", silent), model="m").stream("Hi").collect()
    except (gevent.Timeout, TimeoutError) as error:
        return error is exception or isinstance(error, gevent.Timeout) and exception is None

began = time.monotonic()
greenlets = [(RetryLimit, gevent.spawn(error, retried, request_max_retries=2)) for _ in range(10)]
greenlets += [(IdleTimeout, gevent.spawn(error, silent, stream_idle_timeout=0.5)) for _ in range(10)]
greenlets += [(DeadlineExceeded, gevent.spawn(error, silent, deadline=0.5)) for _ in range(10)]
greenlets += [(Cancelled, gevent.spawn(cancelled)) for _ in range(10)]
greenlets += [(True, gevent.spawn(ended_by_gevent, exception)) for exception in (None, TimeoutError("mine"))]
for wanted, greenlet in greenlets:
    assert greenlet.get() == wanted, (wanted, greenlet.get())
assert time.monotonic() - began < 3, time.monotonic() - began
"""


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("when", ["before", "after"])
def test_limits_cancel_and_retries_of_greenlets_do_not_wait_for_each_other(serve, when):
    retried, silent = serve(status(503)), serve([head(), stall()])
    command = [sys.executable, "-c", PROGRAM, when, retried.url, silent.url]
    root = Path(chatstream.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (0, "")
