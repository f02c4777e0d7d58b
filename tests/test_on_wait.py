"""``on_wait``: called in the thread that waits, wherever a call waits and no loop gets heartbeats."""

from __future__ import annotations

import copy
import itertools
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from support import REST, THREE, WORDS, alarm, wait_for, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    StreamClosed,
    client,
)
from chatstream._http import connecting
from chatstream.testing import cut, end, head, pause, status

TEXT = "".join(WORDS)
WHOLE = [head(), *THREE, *REST]


@pytest.fixture(params=[False, True], ids=["http", "https"])
def serve_both(request: pytest.FixtureRequest, serve: Any) -> Any:
    """`serve` over plain HTTP, and over TLS with a certificate that programs trust."""
    if not request.param:
        return serve
    request.getfixturevalue("trusted")
    return partial(serve, tls=request.getfixturevalue("tls"))


class Waits(list[float]):
    """Records the calls, and the threads that made them."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
        self.threads.add(threading.get_ident())


@pytest.fixture
def waits() -> Waits:
    return Waits()


def assert_pace(waits: Waits, interval: float, least: int) -> None:
    """The calls came from this thread, with rising times that are an interval apart."""
    assert len(waits) >= least
    assert waits.threads == {threading.get_ident()}
    assert all(later - earlier >= interval * 0.9 for earlier, later in itertools.pairwise([0.0, *waits]))


# ── where a call waits ──────────────────────────────────────────────────────────────────────────────────────────


def test_on_wait_is_called_while_the_headers_are_awaited(serve_both, connect, waits):
    script = [pause(0.3), *WHOLE]
    assert connect(serve_both(script), on_wait=waits).stream("Hi", heartbeat=0.05).collect().text == TEXT
    assert_pace(waits, 0.05, least=4)
    assert waits[-1] < 0.4


def test_on_wait_is_called_while_the_system_connects(unanswered_port, connect, waits):
    unreachable = connect(f"http://127.0.0.1:{unanswered_port}/v1", on_wait=waits, connect_timeout=0.4)
    with within(1.2, least=0.7), pytest.raises(ConnectionFailed, match="connect_timeout"):
        unreachable.stream("Hi", heartbeat=0.05)
    assert_pace(waits, 0.05, least=8)


@contextmanager
def busy_listener() -> Iterator[socket.socket]:
    """A listener whose queue is full, so that the system repeats the first packet of a connection after a second."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener


def test_a_connection_that_is_made_after_several_announcements_is_used(connect, waits):
    with busy_listener() as listener, ExitStack() as stack:

        def answer() -> None:
            time.sleep(0.2)
            while True:
                connection = stack.enter_context(listener.accept()[0])
                connection.settimeout(0.1)
                with suppress(OSError):
                    if connection.recv(65536):
                        break
            body = b'data: {"choices": [{"delta": {"content": "late"}, "finish_reason": "stop"}]}\n\n'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        assert connect(url, on_wait=waits).stream("Hi", heartbeat=0.05).collect().text == "late"
        thread.join()
    assert_pace(waits, 0.05, least=8)


def test_a_connection_that_is_refused_after_several_announcements_has_failed(connect, waits):
    with busy_listener() as listener:
        threading.Timer(0.2, listener.close).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        client = connect(url, on_wait=waits, request_max_retries=0, connect_timeout=9.0)
        with within(4), pytest.raises(ConnectionFailed, match="refused"):
            client.stream("Hi", heartbeat=0.05)
    assert_pace(waits, 0.05, least=8)


def test_a_timeout_error_of_a_signal_handler_passes_while_waits_are_announced(unanswered_port, connect, waits):
    def handler(*_: object) -> None:
        raise error

    error = TimeoutError("mine")
    with alarm(handler, 0.1), pytest.raises(TimeoutError) as caught:
        connect(f"http://127.0.0.1:{unanswered_port}/v1", on_wait=waits).stream("Hi", heartbeat=0.5)
    assert caught.value is error
    assert waits == []


def test_on_wait_is_called_while_a_name_is_looked_up(serve, connect, waits, monkeypatch):
    server, look_up = serve(WHOLE), connecting._lookup

    def slow(host: str, port: int, flags: int = 0) -> Any:
        if flags:
            raise socket.gaierror("not a number")
        time.sleep(0.3)
        return look_up("127.0.0.1", port)

    monkeypatch.setattr(connecting, "_lookup", slow)
    url = server.url.replace("127.0.0.1", "localhost")
    assert connect(url, on_wait=waits).stream("Hi", heartbeat=0.05).collect().text == TEXT
    assert_pace(waits, 0.05, least=4)


def test_on_wait_is_called_while_the_request_goes_out_slowly(connect, waits):
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def accept() -> None:
            connection = stack.enter_context(listener.accept()[0])
            gate.wait(5)
            connection.shutdown(socket.SHUT_RDWR)

        gate = threading.Event()
        thread = threading.Thread(target=accept)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        unread = connect(url, on_wait=waits, connect_timeout=0.4, request_max_retries=0)
        with pytest.raises(ConnectionFailed):
            unread.stream("x" * 20_000_000, heartbeat=0.05)
        gate.set()
        thread.join()
    assert_pace(waits, 0.05, least=4)


def test_on_wait_is_called_in_the_pause_before_a_retry(serve_both, connect, waits):
    script = status(503, headers={"Retry-After": "0.3"})
    stream = connect(serve_both(script, WHOLE), on_wait=waits).stream("Hi", heartbeat=0.05)
    assert_pace(waits, 0.05, least=4)
    count = len(waits)
    assert stream.collect().text == TEXT
    assert len(waits) == count


def test_on_wait_is_called_while_a_rate_limit_lasts(serve_both, connect, waits):
    script = status(429, headers={"Retry-After": "0.3"})
    assert connect(serve_both(script, WHOLE), on_wait=waits).stream("Hi", heartbeat=0.05).collect().text == TEXT
    assert_pace(waits, 0.05, least=4)


def test_on_wait_is_called_while_a_broken_stream_is_restarted(serve_both, connect, waits):
    again = [pause(0.3), *WHOLE]
    stream = connect(serve_both([head(), *THREE, cut()], again), on_wait=waits).stream("Hi", heartbeat=0.05)
    before = len(waits)
    assert stream.collect().text == TEXT
    assert len(waits) - before >= 4


def test_on_wait_is_not_called_while_a_loop_reads(serve_both, connect, waits):
    script = [head(), pause(0.2), *THREE, pause(0.2), *REST]
    stream = connect(serve_both(script), on_wait=waits).stream("Hi", heartbeat=0.05)
    before = len(waits)
    assert stream.collect().text == TEXT
    assert len(waits) == before


def test_on_wait_is_called_while_a_connection_of_a_full_pool_is_awaited(serve, connect, waits):
    import requests
    from requests.adapters import HTTPAdapter

    gate = threading.Event()
    server = serve([head(), *THREE, wait_for(gate), *REST], WHOLE)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True))
        first = connect(server, session=session, on_wait=waits)
        with first.stream("Hi") as stream:
            threading.Timer(0.3, gate.set).start()
            reading = threading.Thread(target=stream.collect)
            reading.start()
            assert first.stream("Hi", heartbeat=0.05).collect().text == TEXT
            reading.join()
    assert_pace(waits, 0.05, least=3)


# ── pace and limits ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_heartbeat_on_wait_is_called_once_a_second(serve, connect, waits, monkeypatch):
    assert client.WAIT_INTERVAL == 1.0
    monkeypatch.setattr(client, "WAIT_INTERVAL", 0.1)
    assert connect(serve([pause(0.35), *WHOLE]), on_wait=waits).stream("Hi").collect().text == TEXT
    assert_pace(waits, 0.1, least=2)


def test_an_answer_that_comes_at_once_is_not_announced(serve, connect, waits):
    assert connect(serve(WHOLE), on_wait=waits).stream("Hi").collect().text == TEXT
    assert waits == []


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"deadline": 0.3}, DeadlineExceeded), ({"first_event_timeout": 0.3, "request_max_retries": 0}, IdleTimeout)],
    ids=["deadline", "first event"],
)
def test_limits_hold_while_waits_are_announced(serve_both, connect, waits, options, kind):
    with within(0.5, least=0.3), pytest.raises(kind):
        connect(serve_both([pause(5), *WHOLE]), on_wait=waits, **options).stream("Hi", heartbeat=0.05)
    assert_pace(waits, 0.05, least=4)


def test_the_time_that_on_wait_takes_does_not_count_as_idle_time(serve, connect):
    calls = []

    def slow(seconds: float) -> None:
        calls.append(seconds)
        time.sleep(0.4)

    script = [pause(0.15), *WHOLE]
    client = connect(serve(script), on_wait=slow, first_event_timeout=0.3, request_max_retries=0)
    assert client.stream("Hi", heartbeat=0.1).collect().text == TEXT
    assert len(calls) == 1


def test_a_copy_of_a_client_announces_waits_and_a_pickled_one_does_not(serve, connect, waits):
    own = connect(serve([pause(0.2), *WHOLE]), on_wait=waits)
    assert copy.copy(own).stream("Hi", heartbeat=0.05).collect().text == TEXT
    assert len(waits) >= 2
    assert isinstance(pickle.loads(pickle.dumps(own)), Client)


# ── exceptions ──────────────────────────────────────────────────────────────────────────────────────────────────


class OwnError(ChatStreamError):
    retryable = True


EXCEPTIONS = [ValueError, TimeoutError, ConnectionResetError, KeyboardInterrupt, partial(OSError, 111)]
EXCEPTIONS += [StopIteration, OwnError, ConnectionFailed]  # type: ignore[list-item]


@pytest.fixture(params=EXCEPTIONS, ids=lambda kind: getattr(kind, "__name__", "OSError"))
def error(request: pytest.FixtureRequest) -> BaseException:
    """What ``on_wait`` raises; a new one for each test, because the frames of a raised one keep objects open."""
    return request.param("mine")


@pytest.fixture
def where(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Callable[..., Client]:
    """A function that makes a client whose first call waits in this place, with two more attempts to make."""

    def make(place: str, on_wait: Any) -> Client:
        options = {"on_wait": on_wait, "request_max_retries": 2, "connect_timeout": 2.0}
        if place == "connecting":
            port = request.getfixturevalue("unanswered_port")
            return connect(f"http://127.0.0.1:{port}/v1", **options)
        scripts = {
            "headers": [pause(1), *WHOLE],
            "pause": status(503, headers={"Retry-After": "1"}),
            "refusal": [head(503, headers={"Retry-After": "1"}), pause(0.7), end()],
        }
        make.server = serve(scripts[place], WHOLE)  # type: ignore[attr-defined]
        return connect(make.server, **options)  # type: ignore[attr-defined]

    return make


@pytest.mark.parametrize("place", ["connecting", "headers", "pause", "refusal"])
def test_what_on_wait_raises_passes_unchanged_and_ends_the_call(where, place, error):
    calls = []

    def raise_it(seconds: float) -> None:
        calls.append(seconds)
        raise error

    client = where(place, raise_it)
    with within(0.5), pytest.raises(type(error)) as caught:
        client.stream("Hi", heartbeat=0.05)
    assert caught.value is error
    assert len(calls) == 1
    if place != "connecting":
        assert len(where.server.requests) == 1


def test_what_on_wait_raises_during_a_restart_ends_the_stream(serve, connect):
    def refuse(seconds: float) -> None:
        if is_open:
            raise ValueError("mine")

    is_open = False
    stream = connect(serve([head(), cut()], [pause(1), *WHOLE]), on_wait=refuse).stream("Hi", heartbeat=0.05)
    is_open = True
    with within(0.6), pytest.raises(ValueError, match="mine"):
        stream.collect()
    with pytest.raises(StreamClosed):
        stream.collect()


def test_on_wait_may_cancel_the_call_that_waits(serve_both, connect):
    client = connect(serve_both([pause(5), *WHOLE]), on_wait=lambda seconds: client.cancel())
    with within(0.4), pytest.raises(Cancelled):
        client.stream("Hi", heartbeat=0.05)
