"""Hooks of a client: when they are called, what they are given, and what becomes of their exceptions."""

from __future__ import annotations

import copy
import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest
from support import KEY, REST, THREE, WORDS, alarm, cancelled, wait_for

from chatstream import (
    CallInfo,
    Cancelled,
    Client,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    IdleTimeout,
    MissingEnvVar,
    RequestInfo,
    RetryLimit,
    StreamTruncated,
    UnexpectedStatus,
)
from chatstream.testing import cut, event, head, redirect, stall, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
OK = text_answer("fi", "ne", usage=USAGE)
BROKEN = [head(), *THREE, cut()]


class HookError(Exception):
    """Raised by a hook."""


def fail(_: object) -> None:
    raise HookError


@pytest.fixture(params=["http", "https"])
def connect_to(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Any:
    """A function that makes a client of a new server with the given scripts, over HTTP and over TLS."""
    tls = request.getfixturevalue("tls") if request.param == "https" else None
    if tls:
        request.getfixturevalue("trusted")

    def connected(*scripts: Any, **options: Any) -> Client:
        connected.server = serve(*scripts, tls=tls)  # type: ignore[attr-defined]
        client: Client = connect(connected.server, **options)  # type: ignore[attr-defined]
        return client

    return connected


# ── on_request ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_request_gets_method_url_headers_and_body_before_the_request_is_sent(serve, connect):
    server = serve(OK)
    seen: list[tuple[RequestInfo, int]] = []
    client = connect(server, on_request=lambda info: seen.append((info, len(server.requests))))
    client.stream("Hi", temperature=0.5).collect()
    ((info, sent),) = seen
    assert sent == 0
    assert (info.attempt, info.provider, info.model, info.method) == (1, "test", "m1", "POST")
    assert info.url == f"{server.url}/chat/completions"
    assert info.fields == {"temperature": 0.5}
    assert info.body == server.requests[0].body
    assert (info.headers["Accept"], info.headers["Authorization"]) == ("text/event-stream", "***")
    assert 0 <= info.elapsed < 60


def test_no_secret_of_the_headers_and_the_query_is_shown_to_on_request(serve, connect, monkeypatch):
    monkeypatch.setenv("GATEWAY", "plain-words")
    seen: list[RequestInfo] = []
    connect(
        serve(OK),
        on_request=seen.append,
        key_header="X-Key",
        http_headers={"X-Title": "My App", "Cookie": "a=b", "X-Id": "a8Jd72Kz91mQ"},
        env_http_headers={"X-Gateway": "GATEWAY"},
        query_params={"sig": "q7Wm2 xR9v", "api-version": "2024-10-21", "flag": ""},
    ).stream("Hi").collect()
    shown = seen[0].headers
    assert {name: shown[name] for name in ("X-Title", "Cookie", "X-Id", "X-Gateway", "X-Key")} == {
        "X-Title": "My App",
        "Cookie": "***",
        "X-Id": "***",
        "X-Gateway": "***",
        "X-Key": "***",
    }
    assert seen[0].url.endswith("/chat/completions?sig=***&api-version=2024-10-21&flag=")
    assert KEY not in repr(seen[0])
    assert "Hi" not in repr(seen[0])


def test_a_key_that_is_the_whole_query_is_not_shown_to_on_request(serve, connect):
    seen: list[RequestInfo] = []
    connect(f"{serve(OK).url}?sk-Zq7-the-key-of-a-gateway", on_request=seen.append).stream("Hi").collect()
    assert seen[0].url.endswith("/chat/completions?***")


def test_on_request_is_called_for_each_attempt_and_not_for_a_redirect(serve, connect):
    seen: list[RequestInfo] = []
    server = serve(status(503), redirect("/v1/elsewhere"), [head(), cut()], OK)
    client = connect(server, on_request=seen.append)
    client.stream("Hi").collect()
    client.stream("Hi").collect()
    assert [(info.attempt, info.call - seen[0].call) for info in seen] == [(1, 0), (2, 0), (3, 0), (1, 1)]
    assert len(server.requests) == 5


@pytest.mark.parametrize("kind", [HookError, ValueError, ConnectionFailed, IdleTimeout, KeyboardInterrupt])
def test_an_exception_of_on_request_ends_the_call_before_anything_is_sent_and_is_not_retried(serve, connect, kind):
    def stop(_: RequestInfo) -> None:
        called.append(1)
        raise kind("no")

    called: list[int] = []
    ended: list[CallInfo] = []
    server = serve(OK)
    with pytest.raises(kind) as caught:
        connect(server, on_request=stop, on_turn=ended.append).stream("Hi")
    assert (len(called), server.connections) == (1, 0)
    assert [info.error for info in ended] == [caught.value]


@pytest.mark.parametrize("kind", [HookError, ConnectionFailed, StreamTruncated])
def test_an_exception_of_on_request_before_a_restart_ends_the_call(connect_to, kind):
    def stop(info: RequestInfo) -> None:
        if info.attempt > 1:
            raise kind("no")

    ended: list[CallInfo] = []
    client = connect_to(BROKEN, OK, on_request=stop, on_turn=ended.append, stream_max_retries=5)
    with pytest.raises(kind) as caught:
        client.stream("Hi").collect()
    assert [info.error for info in ended] == [caught.value]
    assert len(connect_to.server.requests) == 1
    assert connect_to.server.client_closed()


HOOKS = ["on_request", "on_retry", "on_turn", "on_wait"]


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_is_no_function_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be a function with one parameter, not str"):
        Client("openai", **{name: "print"})


@pytest.mark.parametrize("name", HOOKS)
def test_an_async_hook_is_refused_because_nobody_would_await_it(name):
    async def hook(info: object, more: object = None) -> None: ...

    for given in (hook, functools.partial(hook, more=1)):
        with pytest.raises(ConfigError, match=f"^{name} is async, but hooks are called synchronously"):
            Client("openai", **{name: given})


# ── on_turn ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ended() -> list[CallInfo]:
    """The calls that `on_turn` has been called for."""
    return []


def test_on_turn_gets_the_whole_turn_before_collect_returns_it(connect_to, ended):
    client = connect_to(OK, on_turn=ended.append)
    turn = client.stream("Hi").collect()
    (info,) = ended
    assert (info.turn, info.error, info.provider, info.model) == (turn, None, "test", "m1")
    assert (info.turn.text, info.turn.status, info.turn.token_usage.input_tokens) == ("fine", "completed", 3)
    assert [attempt.status for attempt in info.attempts] == [200]
    assert 0 < info.timing.headers <= info.timing.first_event <= info.timing.total
    assert "fine" in repr(info)


@pytest.mark.parametrize("read", [list, lambda stream: list(stream.text()), lambda stream: list(stream.aggregate())])
def test_on_turn_is_called_once_however_an_answer_is_read_to_its_end(serve, connect, ended, read):
    with connect(serve(OK), on_turn=ended.append).stream("Hi") as stream:
        read(stream)
        stream.close()
    assert [info.turn.text for info in ended] == ["fine"]


def test_the_requests_and_the_end_of_a_call_have_its_number(serve, connect, ended):
    seen: list[RequestInfo] = []
    client = connect(serve(status(503), OK), on_request=seen.append, on_turn=ended.append)
    client.stream("Hi").collect()
    client.stream("Hi").collect()
    assert [info.call for info in seen] == [ended[0].call, ended[0].call, ended[1].call]
    assert ended[0].call < ended[1].call


@pytest.mark.parametrize("before", [0, 3])
def test_on_turn_gets_the_error_of_a_stream_that_is_cut_and_what_was_received(connect_to, ended, before):
    client = connect_to([head(), *THREE[:before], cut()], on_turn=ended.append, stream_max_retries=0)
    with pytest.raises(StreamTruncated) as caught:
        list(client.stream("Hi"))
    (info,) = ended
    assert info.error is caught.value
    assert info.turn.text == "".join(WORDS[:before])
    assert info.turn.items == caught.value.partial.items
    assert (info.timing.first_event is not None) == bool(before)
    assert info.attempts == caught.value.attempts


@pytest.mark.parametrize(
    ("script", "kind"), [(status(400), UnexpectedStatus), (status(503), RetryLimit), ([cut()], ConnectionFailed)]
)
def test_on_turn_gets_the_error_of_a_call_that_has_no_answer(connect_to, ended, script, kind):
    with pytest.raises(kind) as caught:
        connect_to(script, on_turn=ended.append).stream("Hi")
    (info,) = ended
    assert (info.error, info.attempts) == (caught.value, caught.value.attempts)
    assert (info.turn.items, info.turn.status) == ((), "incomplete")
    assert info.timing.total > 0


def test_on_turn_is_called_for_a_call_that_could_not_be_sent(serve, connect, ended):
    with pytest.raises(MissingEnvVar) as caught:
        connect(serve(OK), api_key=None, env_key="TEST_KEY", on_turn=ended.append).stream("Hi")
    assert [(info.error, info.attempts) for info in ended] == [(caught.value, ())]


def test_on_turn_is_called_without_an_error_when_the_loop_is_left(connect_to, ended):
    client = connect_to([head(), *THREE, stall()], on_turn=ended.append)
    for _ in client.stream("Hi").text():
        break
    (info,) = ended
    assert (info.error, info.turn.text, info.turn.status) == (None, "one ", "incomplete")
    assert connect_to.server.client_closed()


def test_on_turn_is_called_without_an_error_when_a_stream_is_closed_unread(connect_to, ended):
    connect_to([head(), stall()], on_turn=ended.append).stream("Hi").close()
    assert [(info.error, info.turn.items) for info in ended] == [(None, ())]


def test_on_turn_gets_the_cancellation_in_the_thread_that_reads(connect_to, ended):
    threads: list[threading.Thread] = []

    def note(info: CallInfo) -> None:
        threads.append(threading.current_thread())
        ended.append(info)

    error = cancelled(connect_to([head(), *THREE, stall()], on_turn=note).stream("Hi"), 0.1)
    assert [(info.error, info.turn.text) for info in ended] == [(error, "".join(WORDS))]
    assert threads == [threading.current_thread()]


def test_on_turn_gets_the_cancellation_of_a_call_that_waits_for_its_headers(connect_to, ended):
    client = connect_to([stall()], on_turn=ended.append)
    timer = threading.Timer(0.1, client.cancel)
    timer.start()
    with pytest.raises(Cancelled) as caught:
        client.stream("Hi")
    timer.join()
    assert [info.error for info in ended] == [caught.value]


def test_on_turn_gets_the_deadline_that_ends_a_stream(connect_to, ended):
    client = connect_to([head(), *THREE, stall()], on_turn=ended.append)
    with pytest.raises(DeadlineExceeded) as caught:
        list(client.stream("Hi", deadline=0.4))
    assert [(info.error, info.turn.text) for info in ended] == [(caught.value, "".join(WORDS))]


def test_on_turn_is_called_once_when_another_thread_closes_a_stream_that_is_read(serve, connect, ended):
    release = threading.Event()
    stream = connect(serve([head(), *THREE, wait_for(release), *REST]), on_turn=ended.append).stream("Hi")
    texts = []
    for text in stream.text():
        texts.append(text)
        if len(texts) == 3:
            closing = threading.Thread(target=stream.close)
            closing.start()
            closing.join()
    release.set()
    assert [(info.error, info.turn.text) for info in ended] == [(None, "".join(texts))]


def test_on_turn_is_called_once_for_a_call_that_was_repeated_and_restarted(serve, connect, ended):
    client = connect(serve(status(503), BROKEN, OK), on_turn=ended.append)
    assert client.stream("Hi").collect().text == "fine"
    assert [[attempt.status for attempt in info.attempts] for info in ended] == [[503, 200, 200]]


@pytest.mark.parametrize(("events", "received"), [(0, ""), (2, "one ")])
def test_on_turn_is_called_when_a_stream_that_was_forgotten_is_freed(serve, connect, ended, events, received):
    server = serve([head(), *THREE, stall()])
    stream = connect(server, on_turn=ended.append).stream("Hi")
    for _ in range(events):
        next(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del stream
        gc.collect()
    assert [(info.error, info.turn.text) for info in ended] == [(None, received)]
    assert server.client_closed()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends a signal")
def test_on_turn_gets_an_exception_that_a_signal_handler_raises_while_the_stream_waits(connect_to, ended):
    class Interruption(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    stream = connect_to([head(), *THREE, stall()], on_turn=ended.append).stream("Hi")
    with alarm(interrupt, 0.2), pytest.raises(Interruption) as caught:
        list(stream)
    assert [(info.error, info.turn.text) for info in ended] == [(caught.value, "".join(WORDS))]


def test_a_loop_that_finds_the_stream_taken_is_no_end_of_the_call(serve, connect, ended):
    def read() -> None:
        with pytest.raises(ConfigError):
            list(stream)
        refused.append(len(ended))

    refused: list[int] = []
    stream = connect(serve([head(), *THREE, *REST]), on_turn=ended.append).stream("Hi")
    for _ in stream:
        if not refused:
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
    assert refused == [0]
    assert [(info.error, info.turn.status) for info in ended] == [(None, "completed")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_on_turn_is_not_called_in_a_child_process_that_inherits_the_stream(serve, connect, ended):
    stream = connect(serve([head(), *THREE, *REST]), on_turn=ended.append).stream("Hi")
    child = os.fork()
    if child == 0:
        stream.close()
        os._exit(len(ended))
    assert os.waitpid(child, 0)[1] == 0
    stream.collect()
    assert len(ended) == 1


# ── exceptions of on_turn ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda stream: list(stream.text()),
        lambda stream: stream.collect(),
        lambda stream: stream.close(),
        lambda stream: stream.__exit__(None, None, None),
    ],
    ids=["loop", "text", "collect", "close", "with"],
)
def test_an_exception_of_on_turn_reaches_whoever_ends_the_call(connect_to, read):
    stream = connect_to(OK, on_turn=fail).stream("Hi")
    with pytest.raises(HookError):
        read(stream)
    stream.close()
    assert stream.turn.timing.total is not None


def test_an_exception_of_on_turn_comes_after_the_connection_is_closed_and_keeps_the_error_as_its_context(connect_to):
    stream = connect_to([head(), *THREE, event({"error": {"message": "Broke."}})], on_turn=fail).stream("Hi")
    with pytest.raises(HookError) as caught:
        list(stream)
    assert "Broke." in str(caught.value.__context__)
    assert connect_to.server.client_closed()


def test_an_exception_of_on_turn_keeps_the_refusal_as_its_context(connect_to):
    with pytest.raises(HookError) as caught:
        connect_to(status(400), on_turn=fail).stream("Hi")
    assert isinstance(caught.value.__context__, UnexpectedStatus)


def test_an_exception_of_on_turn_for_a_stream_that_is_dropped_is_reported_by_the_interpreter(
    serve, connect, monkeypatch
):
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))
    server = serve([head(), *THREE, stall()])
    for _ in connect(server, on_turn=fail).stream("Hi").text():
        break
    gc.collect()
    assert reported == [HookError]
    assert server.client_closed()


def test_a_connection_is_reused_after_an_exception_of_on_turn_at_the_end_of_a_complete_answer(serve, connect):
    server = serve(OK)
    client = connect(server, on_turn=fail)
    for _ in range(2):
        with pytest.raises(HookError):
            client.stream("Hi").collect()
    assert server.connections == 1


# ── on_retry ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exception_of_on_retry_is_the_error_of_on_turn_and_closes_the_connection(connect_to, ended):
    client = connect_to(BROKEN, OK, on_retry=fail, on_turn=ended.append)
    with pytest.raises(HookError) as caught:
        client.stream("Hi").collect()
    assert [info.error for info in ended] == [caught.value]
    assert connect_to.server.client_closed()


# ── clients ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_calls_at_once_have_numbers_of_their_own(serve, connect, ended):
    both = threading.Barrier(2)
    seen: list[RequestInfo] = []

    def wait(info: RequestInfo) -> None:
        seen.append(info)
        both.wait(10)

    client = connect(serve(OK), on_request=wait, on_turn=ended.append)
    threads = [threading.Thread(target=lambda: client.stream("Hi").collect()) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({info.call for info in seen}) == 2
    assert {info.call for info in seen} == {info.call for info in ended}


def test_a_hook_may_use_the_client_itself(serve, connect):
    def again(info: CallInfo) -> None:
        texts.append(info.turn.text)
        if len(texts) == 1:
            client.stream("And?").collect()

    texts: list[str] = []
    client = connect(serve(text_answer("one"), text_answer("two")), on_turn=again)
    assert client.stream("Hi").collect().text == "one"
    assert texts == ["one", "two"]


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
def test_a_copied_client_has_the_same_hooks(serve, connect, ended, make_copy):
    seen: list[RequestInfo] = []
    client = connect(serve(OK), on_request=seen.append, on_turn=ended.append)
    with make_copy(client) as copied:
        copied.stream("Hi").collect()
    assert (len(seen), len(ended)) == (1, 1)


def test_a_pickled_client_has_no_hooks(serve, connect):
    client = connect(serve(OK), on_request=fail, on_turn=lambda info: None)
    with pickle.loads(pickle.dumps(client)) as copied:
        assert copied.stream("Hi").collect().text == "fine"


def test_a_call_without_hooks_and_without_a_log_makes_no_values_for_them(serve, connect, monkeypatch):
    made: list[Any] = []
    for kind in ("RequestInfo", "CallInfo"):
        monkeypatch.setattr(f"chatstream._calls.call.{kind}", lambda *args, **named: made.append(args))
    connect(serve(OK)).stream("Hi").collect()
    assert made == []


def test_the_values_of_hooks_can_be_imported_without_requests():
    code = "import sys; from chatstream import CallInfo, RequestInfo; print('requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_restart_that_is_ended_while_its_request_is_made_is_not_announced(serve, connect):
    """`on_request` was called after `on_turn`."""
    announced, ended = [], []

    def key() -> str:
        if announced:
            stream.close()
        return "k"

    server = serve([head(), cut()], text_answer("one"))
    client = connect(server, api_key=key, on_request=announced.append, on_turn=lambda *_: ended.append(len(announced)))
    stream = client.stream("?")
    assert list(stream) == []
    assert (len(announced), ended) == (1, [1])
