"""Exceptions that are not the network's: of signal handlers, of a session's hooks and ``auth``, and programming errors.

They reach the caller unchanged and at once, the connection is closed, and nothing is sent again.
"""

from __future__ import annotations

import errno
import gc
import gzip
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPDigestAuth
from support import REST, THREE, SchedulingDelay, alarm, body, within
from urllib3.util import Retry

from chatstream import ChatStreamError, Client, ConnectionFailed, DeadlineExceeded, StreamTruncated
from chatstream._http.callers import raised_by
from chatstream._http.response import ScopedFile
from chatstream._retries import retry
from chatstream.testing import FaultServer, chunk, cut, forever, head, pause, send, stall, status, text_answer, unread

OK = text_answer("fine")


class SoftTimeLimit(Exception):
    """What a task queue raises in a task that takes too long."""


RAISED = {
    "an-exception": SoftTimeLimit,
    "a-timeout-error": TimeoutError,
    "an-os-error": OSError,
    "a-value-error": ValueError,
    "a-connection-error-of-requests": requests.ConnectionError,
}


@pytest.fixture(params=RAISED.values(), ids=RAISED)
def error(request: pytest.FixtureRequest) -> Exception:
    """What the signal handler raises."""
    return request.param("too long")


def forget(error: Exception) -> None:
    """Delete what the frames of the error hold. Python warns of sockets that are deleted open, although shut down."""
    error.__traceback__ = None
    gc.collect()


may_warn_of_sockets = pytest.mark.filterwarnings("ignore:Exception ignored in. <s(sl|ocket)[.]")


@contextmanager
def raised_by_alarm(
    error: Exception, server: FaultServer | None = None, seconds: float = 0.2, handler: Any = None
) -> Iterator[None]:
    """Raise the error from a signal handler ``seconds`` after the server has got a request, if there is one, and expect
    it, the very same, from the block."""

    def raising(number: int, frame: Any) -> None:
        raise error

    def ring() -> None:
        begun.wait()
        while server is not None and not server.requests and not ended.wait(0.005):
            pass
        armed.append(time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    armed: list[float] = []
    begun, ended = threading.Event(), threading.Event()
    ringing = threading.Thread(target=ring, daemon=True)
    with alarm(handler or raising):
        try:
            ringing.start()
            with SchedulingDelay() as delay:
                begun.set()
                with pytest.raises(type(error)) as caught:
                    yield
                took = time.monotonic() - armed[0]
        finally:
            ended.set()
            ringing.join()
    assert seconds * 0.8 <= took <= seconds + 0.2 + delay.seconds
    assert caught.value is error


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture(params=["http", "https"])
def start(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Callable[..., tuple[FaultServer, Client]]:
    """A function that starts a server with some scripts, over http and over https, and makes its client."""
    options = {}
    if request.param == "https":
        request.getfixturevalue("trusted")
        options["tls"] = request.getfixturevalue("tls")

    def started(*scripts: Any, **settings: Any) -> tuple[FaultServer, Client]:
        server = serve(*scripts, **options)
        return server, connect(server, **settings)

    return started


# ── signal handlers ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exception_of_a_signal_handler_passes_while_the_headers_are_awaited(start, error):
    server, client = start([stall()])
    with raised_by_alarm(error, server):
        client.stream("Hi")
    assert server.client_closed()
    assert len(server.requests) == 1


@pytest.mark.parametrize("before", [[], THREE], ids=["first-event", "after-three-events"])
def test_an_exception_of_a_signal_handler_passes_while_events_are_awaited(start, error, before):
    server, client = start([head(), *before, stall()])
    stream = client.stream("Hi")
    with raised_by_alarm(error, server):
        for _ in stream:
            pass
    assert stream.turn.text == "one two three " * bool(before)
    assert server.client_closed()
    assert len(server.requests) == 1


def test_an_exception_of_a_signal_handler_passes_while_comments_arrive(start, error):
    server, client = start([head(), *THREE, forever(chunk(b": ping\n\n"), pause(0.01))])
    stream = client.stream("Hi")
    with raised_by_alarm(error, server):
        stream.collect()
    assert stream.turn.text == "one two three "
    assert server.client_closed()


def test_an_exception_of_a_signal_handler_passes_while_a_heartbeat_is_awaited(start, error):
    server, client = start([head(), *THREE, stall()])
    with raised_by_alarm(error, server):
        for _ in client.stream("Hi", heartbeat=0.05):
            pass
    assert server.client_closed()


def test_an_exception_of_a_signal_handler_passes_while_the_body_of_a_refusal_is_read(start, error):
    server, client = start([head(400), chunk(b"{"), stall()])
    with raised_by_alarm(error, server):
        client.stream("Hi")
    assert server.client_closed()
    assert len(server.requests) == 1


def test_an_exception_of_a_signal_handler_passes_while_the_rest_of_an_answer_is_drained(start, error):
    server, client = start([head(), *THREE, *REST[:-1], stall()])
    stream = client.stream("Hi")
    with raised_by_alarm(error, server):
        for _ in stream:
            pass
    assert stream.turn.text == "one two three "
    assert server.client_closed()


def test_an_exception_of_a_signal_handler_passes_during_the_delay_before_a_retry(start, error, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_DELAY", 30.0)
    monkeypatch.setattr(retry, "MAX_DELAY", 30.0)
    server, client = start(status(503))
    with raised_by_alarm(error, server):
        client.stream("Hi")
    assert len(server.requests) == 1


def test_an_exception_of_a_signal_handler_passes_while_connecting(connect, unanswered_port, error):
    with raised_by_alarm(error):
        connect(f"http://127.0.0.1:{unanswered_port}/v1").stream("Hi")


@may_warn_of_sockets
def test_an_exception_of_a_signal_handler_passes_during_a_tls_handshake(connect, error):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with raised_by_alarm(error):
            connect(f"https://127.0.0.1:{silent.getsockname()[1]}/v1").stream("Hi")
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(1)
            while connection.recv(4096):  # until the client closes
                pass
    forget(error)


def test_an_exception_of_a_signal_handler_passes_during_a_lookup(connect, monkeypatch, error):
    def look_up(*args: Any) -> list[Any]:
        if socket.AI_NUMERICHOST in args:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        time.sleep(1)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with raised_by_alarm(error):
        connect("http://model.invalid/v1", api_key=None).stream("Hi")


def test_an_exception_of_a_signal_handler_passes_during_an_upload(connect, serve, error):
    with raised_by_alarm(error, seconds=0.5):
        connect(serve([unread(), stall()])).stream("x" * 15_000_000)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_an_exception_of_a_signal_handler_passes_while_the_size_of_a_chunk_is_awaited(start, error, encoding):
    begun = [chunk(gzip.compress(body("one"))), stall()] if encoding == "gzip" else [*THREE, send(b"1"), stall()]
    server, client = start([head(headers={"Content-Encoding": encoding}), *begun])
    stream = client.stream("Hi")
    with raised_by_alarm(error, server):
        for _ in stream:
            pass
    assert stream.turn.text.startswith("one")
    assert server.client_closed()


def test_an_exception_of_a_signal_handler_passes_while_a_401_is_read_that_digest_will_answer(start, session, error):
    session.auth = HTTPDigestAuth("me", "secret")
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'}
    server, client = start([head(401, challenge), chunk(b"no"), stall()], OK, session=session, api_key=None)
    with raised_by_alarm(error, server):
        client.stream("Hi")
    assert server.client_closed()
    assert len(server.requests) == 1


def test_the_retries_of_an_adapter_do_not_repeat_a_request_that_a_signal_handler_has_ended(start, session, error):
    for prefix in ("http://", "https://"):
        session.mount(prefix, HTTPAdapter(max_retries=Retry(3, allowed_methods=None)))
    server, client = start([stall()], session=session)
    with raised_by_alarm(error, server):
        client.stream("Hi")
    assert server.client_closed()
    assert len(server.requests) == 1


def test_the_retries_of_an_adapter_do_not_repeat_a_connect_that_a_signal_handler_has_ended(
    connect, session, unanswered_port, error
):
    session.mount("http://", HTTPAdapter(max_retries=3))
    with raised_by_alarm(error):
        connect(f"http://127.0.0.1:{unanswered_port}/v1", session=session).stream("Hi")


def test_an_exception_of_a_signal_handler_passes_while_a_place_in_a_pool_is_awaited(serve, connect, session, error):
    session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
    client = connect(serve([head(), stall()], OK), session=session)
    first = client.stream("Hi")
    with raised_by_alarm(error):
        client.stream("Hi")
    first.close()
    assert [client.stream("Hi").collect().text for _ in range(2)] == ["fine", "fine"]
    with client.stream("Hi"), pytest.raises(DeadlineExceeded):  # the pool has no more places than before
        client.stream("Hi", deadline=0.2)


@pytest.mark.parametrize("script", [[stall()], [head(), *THREE, stall()]], ids=["headers", "events"])
def test_an_exception_of_a_signal_handler_passes_that_has_set_another_one_first(start, error, script):
    def handler(*given: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        raise error

    server, client = start(script)
    with raised_by_alarm(error, server, handler=handler):
        client.stream("Hi").collect()
    assert server.client_closed()
    assert len(server.requests) == 1


@pytest.fixture(params=[0, 1], ids=["headers", "events"])
def interrupt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[OSError], None]:
    """A function that lets a read of this thread raise an error: that of the headers, or the next one."""
    receive, reader, received = socket.socket.recv_into, threading.current_thread(), list[int]()

    def raise_once(error: OSError) -> None:
        def interrupted(sock: socket.socket, *args: Any) -> int:
            if threading.current_thread() is not reader:
                return receive(sock, *args)
            received.append(0)
            if len(received) == request.param + 1:
                raise error
            return 0 if len(received) > request.param else receive(sock, *args)

        monkeypatch.setattr(socket.socket, "recv_into", interrupted, raising=False)

    return raise_once


def test_a_timeout_long_before_that_of_the_socket_passes_at_once(serve, connect, interrupt):
    """As `gevent.Timeout` raises it, with an exception of the caller's choice."""
    error, server = TimeoutError("too long"), serve([head(), stall()])
    client = connect(server)
    interrupt(error)
    with within(0.5), pytest.raises(TimeoutError) as caught:
        client.stream("Hi").collect()
    assert caught.value is error
    assert server.client_closed()
    assert len(server.requests) == 1


def test_a_connection_that_the_system_gives_up_is_an_error_of_the_network(serve, connect, interrupt):
    """As keep-alive probes without an answer end it: the system's error is a `TimeoutError`, too."""
    client = connect(serve([head(), stall()]), request_max_retries=0, stream_max_retries=0)
    interrupt(OSError(errno.ETIMEDOUT, "Connection timed out"))
    with within(0.5), pytest.raises(ChatStreamError) as caught:
        client.stream("Hi").collect()
    assert isinstance(caught.value, (StreamTruncated, ConnectionFailed))


@may_warn_of_sockets
@pytest.mark.parametrize("made", [urllib3.response.BaseHTTPResponse, ScopedFile], ids=["urllib3", "the-file"])
def test_an_exception_of_a_signal_handler_passes_while_an_answer_is_half_made(start, monkeypatch, error, made):
    def handler(number: int, frame: Any) -> None:
        raise error

    def make(*fields: Any, **options: Any) -> None:
        real_init(*fields, **options)
        signal.raise_signal(signal.SIGALRM)

    server, client = start([head(), stall()])
    real_init = made.__init__
    monkeypatch.setattr(made, "__init__", make)
    with alarm(handler), pytest.raises(type(error)) as caught:
        client.stream("Hi")
    assert caught.value is error
    assert server.client_closed()
    assert len(server.requests) == 1
    del caught
    forget(error)


class Alarming(dict):
    """A signal arrives while it is encoded for the first time."""

    def items(self):
        if self.pop("alarm", False):
            signal.raise_signal(signal.SIGALRM)
        return super().items()


def test_a_value_error_of_a_signal_handler_passes_while_the_request_is_encoded(connect):
    def handler(number: int, frame: Any) -> None:
        raise error

    error = ValueError("too long")
    with alarm(handler), pytest.raises(ValueError, match="too long") as caught:
        connect("http://127.0.0.1:1/v1").stream("Hi", metadata=Alarming(alarm=True))
    assert caught.value is error


def test_a_signal_handler_that_returns_disturbs_nothing(start):
    handled: list[int] = []
    with alarm(lambda number, frame: handled.append(number), 0.02, 0.02):
        server, client = start([head(), *THREE, pause(0.3), *REST])
        assert client.stream("Hi").collect().text == "one two three "
    assert len(handled) > 5
    assert len(server.requests) == 1


# ── what a session of the caller calls ──────────────────────────────────────────────────────────────────────────


class FailingAuth(AuthBase):
    """An ``auth`` that fails, as one does that can't get its token."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        raise self.error


def failing_hook(error: Exception, response: requests.Response, **options: Any) -> None:
    raise error


def test_an_exception_of_a_response_hook_passes_and_the_connection_is_closed(start, session, error):
    session.hooks["response"] = [partial(failing_hook, error)]
    server, client = start([head(), stall()], session=session)
    with pytest.raises(type(error)) as caught:
        client.stream("Hi")
    assert caught.value is error
    assert server.client_closed()
    assert len(server.requests) == 1


def test_raise_for_status_in_a_response_hook_passes_its_own_exception(start, session):
    def check(response: requests.Response, **options: Any) -> None:
        response.raise_for_status()

    session.hooks["response"] = check
    server, client = start(status(503), session=session)
    with pytest.raises(requests.HTTPError, match="503"):
        client.stream("Hi")
    assert len(server.requests) == 1


def test_a_failed_request_of_a_response_hook_passes_its_own_exception(start, session, refused_port):
    def ask_another_server(response: requests.Response, **options: Any) -> None:
        requests.get(f"http://127.0.0.1:{refused_port}/", timeout=5)

    session.hooks["response"].append(ask_another_server)
    server, client = start(OK, session=session)
    with pytest.raises(requests.ConnectionError, match="refused"):
        client.stream("Hi")
    assert len(server.requests) == 1


def test_an_answer_that_breaks_off_while_a_hook_reads_it_is_an_error_of_the_network(start, session):
    session.hooks["response"].append(lambda response, **options: response.text)
    _, client = start([head(), *THREE, cut()], session=session, request_max_retries=0)
    with pytest.raises(ConnectionFailed):
        client.stream("Hi").collect()


def test_an_exception_of_the_auth_of_a_session_passes(start, session, error):
    session.auth = FailingAuth(error)
    server, client = start(OK, session=session, api_key=None)
    with pytest.raises(type(error)) as caught:
        client.stream("Hi")
    assert caught.value is error
    assert server.requests == []


class CheckingAuth(AuthBase):
    """An ``auth`` that looks at each answer."""

    def __init__(self, check: Callable[[requests.Response], object]) -> None:
        self.check = check

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.register_hook("response", self.look_at)
        return request

    def look_at(self, response: requests.Response, **options: Any) -> None:
        self.check(response)


@pytest.mark.parametrize(
    ("check", "kind"),
    [(requests.Response.raise_for_status, requests.HTTPError), (requests.Response.json, requests.JSONDecodeError)],
    ids=["raise-for-status", "json"],
)
def test_what_an_auth_finds_wrong_with_an_answer_passes(start, session, check, kind):
    session.auth = CheckingAuth(check)
    server, client = start(status(403, "no"), session=session, api_key=None)
    with pytest.raises(kind):
        client.stream("Hi")
    assert len(server.requests) == 1


@pytest.mark.parametrize("error", [SoftTimeLimit("adapter"), ValueError("adapter"), ZeroDivisionError("adapter")])
def test_an_exception_of_a_mounted_adapter_that_is_not_the_networks_passes(serve, connect, session, error):
    class FailingAdapter(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> requests.Response:
            raise error

    session.mount("http://", FailingAdapter())
    server = serve(OK)
    client = connect(server, session=session)
    with pytest.raises(type(error)) as caught:
        client.stream("Hi")
    assert caught.value is error
    assert server.requests == []


def test_a_network_error_of_a_mounted_adapter_is_converted_and_retried(serve, connect, session):
    class FlakyAdapter(requests.adapters.HTTPAdapter):
        failed = False

        def send(self, *args: Any, **options: Any) -> requests.Response:
            if not self.failed:
                self.failed = True
                raise requests.ConnectionError("unplugged")
            return super().send(*args, **options)

    session.mount("http://", FlakyAdapter())
    stream = connect(serve(OK), session=session).stream("Hi")
    assert stream.collect().text == "fine"
    assert "unplugged" in str(stream.attempts[0].error)


def test_a_programming_error_while_reading_passes_and_the_connection_is_closed(start):
    def broken(size: int) -> bytes:
        raise ZeroDivisionError("a bug")

    server, client = start([head(), *THREE, stall()])
    stream = client.stream("Hi")
    for _ in range(4):
        next(stream)
    stream._reader.attempt.reply._read1 = broken
    with pytest.raises(ZeroDivisionError, match="a bug"):
        for _ in stream:
            pass
    assert stream.turn.text == "one two three "
    assert server.client_closed()
    assert len(server.requests) == 1


# ── whose exception it is ───────────────────────────────────────────────────────────────────────────────────────


def fails() -> None:
    raise TimeoutError


class CallableObject:
    def __call__(self) -> None:
        raise TimeoutError

    def method(self) -> None:
        raise TimeoutError


@pytest.mark.parametrize(
    "function",
    [fails, partial(partial(fails)), CallableObject(), CallableObject().method],
    ids=["function", "partial", "callable-object", "method"],
)
def test_an_exception_is_recognised_by_the_function_that_raised_it(function):
    with pytest.raises(TimeoutError) as caught:
        function()
    assert raised_by(caught.value, [None, signal.SIG_IGN, print, function])
    assert not raised_by(caught.value, [None, signal.SIG_IGN, print, lambda: None])


def test_a_refused_connection_is_still_the_networks_while_a_signal_handler_is_installed(connect, refused_port):
    with alarm(lambda number, frame: fails()), pytest.raises(ConnectionFailed):
        connect(f"http://127.0.0.1:{refused_port}/v1").stream("Hi")
