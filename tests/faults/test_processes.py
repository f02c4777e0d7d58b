"""Forks: what a child process may do with the streams, locks and connections that it inherits.

Each test runs a program in a process of its own, which forks; the server stays here. The end of the file imitates a
child inside this process, where the coverage of its branches is measured.
"""

from __future__ import annotations

import gc
import gzip
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from proxy_server import ProxyServer, http_connect
from requests.adapters import HTTPAdapter
from support import REST, text_of, within

import chatstream
from chatstream import ConfigError, StreamClosed
from chatstream._runtime import imports, locks, process
from chatstream._runtime.locks import ForkSafeLock
from chatstream.testing import (
    Script,
    Step,
    Wire,
    chunk,
    cut,
    delta,
    end,
    event,
    finish,
    head,
    redirect,
    stall,
    status,
    text_answer,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

OPENING = """
import gc, multiprocessing, os, signal, sys, threading, time
from contextlib import ExitStack
import chatstream
from chatstream import Client, ConfigError, Provider

signal.alarm(20)
client = Client(Provider("test", sys.argv[1]), model="m1")

def finished(child):
    return os.waitpid(child, 0)[1] == 0

"""


def echo(wire: Wire) -> None:
    """Answers with the text of the request's last message."""
    assert wire.request is not None
    delta(wire.request.json["messages"][-1]["content"])(wire)


ECHO: Script = [head(), echo, *REST]


class Gate:
    """A server's script that sends the rest of its first answer when the program has made another request."""

    def __init__(self, serve: Any) -> None:
        first = [head(), delta("one "), delta("two "), self._wait(), delta("three "), *REST]
        self.server = serve(first, ECHO)

    def _wait(self) -> Step:
        def step(wire: Wire) -> None:
            while len(self.server.requests) < 2:
                wire.wait(0.002)

        return step


def run(program: str, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; its warnings are errors, except that of Python for a fork beside threads."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(chatstream.__file__).parents[1]), *sys.path])}
    fork_warning = "ignore:This process:DeprecationWarning"
    command = [sys.executable, "-W", "error", "-W", fork_warning, *options, "-c", program, url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def assert_succeeds(program: str, url: str, *options: str) -> None:
    done = run(OPENING + textwrap.dedent(program), url, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(params=[pytest.param(False, id="plain"), pytest.param(True, id="TLS")])
def serve_both(request: pytest.FixtureRequest, serve: Any) -> Any:
    """`serve` over plain HTTP, and over TLS with a certificate that programs trust."""
    if not request.param:
        return serve
    request.getfixturevalue("trusted")
    return partial(serve, tls=request.getfixturevalue("tls"))


@pytest.fixture
def gate(serve_both: Any) -> Gate:
    return Gate(serve_both)


# ── an inherited stream ─────────────────────────────────────────────────────────────────────────────────────────

ENDINGS = [
    "stream.close()",
    "stream.cancel()",
    "stream.cancel(); stream.close()",
    "client.cancel()",
    "client.close()",
    "del stream; gc.collect()",
    "texts = stream.text(); del texts",
    "items = stream.aggregate(); items.close()",
    "stream.__exit__(None, None, None)",
    "sys.exit(0)",
    "os._exit(0)",
    "repr(stream), stream.turn, stream.timing, stream.headers, stream.attempts",
    "assert client.stream('child').collect().text == 'child'; stream.close()",
]
READINGS = ["list(stream)", "next(stream)", "stream.collect()", "list(stream.text())", "list(stream.aggregate())"]
IN_CHILDREN = """
def end_children(endings):
    for ending in endings:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            exec(ending, globals())
            sys.exit(0)  # leaves the block of the stream, if it is in one
        assert finished(child), ending
"""


def program_of(*lines: str, **values: object) -> str:
    names = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return names + IN_CHILDREN + "\n".join(map(textwrap.dedent, lines))


@pytest.mark.parametrize("count", [0, 3], ids=["before its first event", "after two deltas"])
def test_the_parents_stream_goes_on_however_children_end_their_copies_of_it(gate, count):
    program = program_of(
        """
        with client.stream("Hi") as stream:
            read = [next(stream) for _ in range(count)]
            end_children(endings)
            assert client.stream("go on").collect().text == "go on"
            assert stream.collect().text == "one two three "
        assert client.stream("again").collect().text == "again"
        client.close()
        """,
        count=count,
        endings=ENDINGS[:-1],
    )
    assert_succeeds(program, gate.server.url)
    assert gate.server.connections == 2  # the first one was neither shut down nor left in a wrong state


def test_the_parents_stream_goes_on_when_children_end_their_copies_while_another_thread_reads_it(gate):
    program = program_of(
        """
        with client.stream("Hi") as stream:
            texts = []
            reader = threading.Thread(target=lambda: texts.extend(stream.text()))
            reader.start()
            while stream.turn.text != "one two ":
                time.sleep(0.002)
            time.sleep(0.02)  # the thread waits in recv, and holds the locks of its buffers
            end_children(endings)
            assert client.stream("go on").collect().text == "go on"
            reader.join()
            assert "".join(texts) == "one two three "
        client.close()
        """,
        endings=ENDINGS[:-1],
    )
    assert_succeeds(program, gate.server.url)


@pytest.mark.parametrize("count", [0, 3], ids=["before its first event", "after two deltas"])
def test_a_child_that_reads_an_inherited_stream_gets_a_config_error_and_takes_nothing_from_the_parent(gate, count):
    program = program_of(
        """
        def refused(reading):
            try:
                eval(reading)
            except ConfigError as error:
                return "process" in str(error)

        stream = client.stream("Hi")
        read = [next(stream) for _ in range(count)]
        end_children([f"assert refused({reading!r})" for reading in readings])
        assert client.stream("go on").collect().text == "go on"
        assert stream.collect().text == "one two three "
        client.close()
        """,
        count=count,
        readings=READINGS,
    )
    assert_succeeds(program, gate.server.url)


def test_a_child_that_goes_on_with_the_parents_loop_gets_a_config_error(gate):
    program = """
    stream = client.stream("Hi")
    child, text = None, ""
    try:
        for piece in stream.text():
            text += piece
            if piece == "two ":
                child = os.fork()
                if child:
                    assert finished(child)
                    assert client.stream("go on").collect().text == "go on"
        assert text == "one two three "
    except ConfigError as error:
        sys.exit(0 if child == 0 and "process" in str(error) else 1)
    assert child
    client.close()
    """
    assert_succeeds(program, gate.server.url)


def test_the_parents_stream_goes_on_beside_children_of_multiprocessing(gate):
    program = """
    def work(ending):
        if ending:
            exec(ending, globals())

    stream = client.stream("Hi")
    read = [next(stream) for _ in range(3)]
    for ending in ("", "sys.exit(0)", "os._exit(0)", "stream.close()", "del stream; gc.collect()"):
        child = multiprocessing.get_context("fork").Process(target=work, args=(ending,))
        child.start()
        child.join()
        assert child.exitcode == 0, ending
    assert client.stream("go on").collect().text == "go on"
    assert stream.collect().text == "one two three "
    client.close()
    """
    assert_succeeds(program, gate.server.url)


def test_a_child_leaves_the_idle_connections_of_its_parent_alone(gate):
    program = """
    assert client.stream("Hi").aggregate().close() is None  # given up: the first answer waits for another request
    assert client.stream("one").collect().text == "one"
    for action in (client.close, gc.collect, lambda: os._exit(0)):
        child = os.fork()
        if child == 0:
            assert client.stream("child").collect().text == "child"
            action()
            sys.exit(0)
        assert finished(child)
        assert client.stream("parent").collect().text == "parent"
    client.close()
    """
    assert_succeeds(program, gate.server.url)
    assert gate.server.connections == 2 + 3  # one for each child, and none anew for the parent


# ── locks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_calls_and_closes_although_another_thread_held_every_lock_at_the_fork(gate):
    program = """
    from chatstream import _shared
    from chatstream.providers import local

    stream = client.stream("Hi")
    provider = client.provider
    locks = [
        client._lock,
        client._transport._lock,
        client._transport._adapters._lock,
        client._sender.backoff._budget._lock,
        client._sender.backoff._rate_limit._lock,
        stream._reader.call.scope._lock,
        stream._reader.call.scope.socket._lock,
        _shared._sharing,
        local._Shared.lock,
    ]
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock.current)
            stream._reader._closing.acquire()
            held.set()
            go_on.wait()
            stream._reader._closing.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        assert client.stream("child").collect().text == "child"
        assert chatstream.stream("child", provider=provider, model="m1").collect().text == "child"
        client.cancel()
        stream.close()
        client.close()
        with local._Shared.lock.current:
            sys.exit(0)
    assert finished(child)
    go_on.set()
    holder.join()
    assert stream.collect().text == "one two three "
    client.close()
    """
    assert_succeeds(program, gate.server.url)


def test_children_call_while_threads_of_the_parent_make_calls_all_the_time(serve):
    server = serve(ECHO)
    program = """
    stop = threading.Event()

    def call():
        while not stop.is_set():
            assert client.stream("parent").collect().text == "parent"

    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(40):
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            assert client.stream("child").collect().text == "child"
            client.close()
            os._exit(0)
        assert finished(child), number
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    """
    assert_succeeds(program, server.url)


def test_a_lock_is_reentrant_and_is_free_in_another_process(monkeypatch):
    lock = ForkSafeLock()
    with lock.current, lock.current:
        monkeypatch.setattr(locks.os, "getpid", lambda: -1)  # as if a signal handler had forked here
    with lock.current:
        pass
    assert [each.acquire(blocking=False) for each in lock._locks.values()] == [True, True]


def test_the_number_of_the_process_is_that_of_the_child_after_a_fork(monkeypatch):
    monkeypatch.setattr(process, "pid", -1)
    process._renew()  # as the hook of a fork does
    assert process.pid == os.getpid()


# ── imports of a first call ─────────────────────────────────────────────────────────────────────────────────────

SLOW_IMPORT = """
import os, signal, sys, threading, time
import chatstream

signal.alarm(20)
URL = sys.argv[1]
importing = threading.Event()

class SlowFinder:
    def find_spec(name, path=None, target=None):
        if name == {slow!r} and not importing.is_set():
            importing.set()
            time.sleep(0.2)

sys.meta_path.insert(0, SlowFinder)

def call():
    client = chatstream.Client(chatstream.Provider("test", URL), model="m1")
    assert client.stream("Hi", tools=[{{"type": "function", "function": {{"name": "f"}}}}]).collect().text == "Hi"
    client.close()

def suppress(kind, function, *given):
    try:
        function(*given)
    except kind:
        pass

def first_use():
    {use}

thread = threading.Thread(target=first_use)
thread.start()
assert importing.wait(5), "nothing imports {slow}"
child = os.fork()
if child == 0:
    signal.alarm(5)
    call()
    {use}
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
call()
"""
SLOW = {
    "the client": ("chatstream.client", "call()"),
    "logging": ("logging", "call()"),
    "the sender": ("chatstream._calls.sender", "call()"),
    "requests": ("requests", "call()"),
    "a module that makes a logger": ("urllib3.connectionpool", "call()"),
    "the last module of requests": ("requests.adapters", "call()"),
    "sseclient": ("sseclient", "call()"),
    "the encoder of tools": ("chatstream._encode.tools", "call()"),
    "a public name": ("chatstream.types.items", "chatstream.Message('user', 'Hi')"),
    "a public name that imports requests": ("urllib3.connectionpool", "chatstream.ResponseStream"),
    "doctor": ("requests.adapters", "chatstream.doctor"),
    "chatstream.stream": (
        "requests",
        "chatstream.stream('Hi', provider=chatstream.Provider('t', URL), model='m1').collect()",
    ),
    "InputFile.from_bytes": ("chatstream.types.media_type", "chatstream.InputFile.from_bytes(b'text')"),
    "FunctionCall.output": ("chatstream.types.output", "chatstream.FunctionCall('f', '{}', 'c').output([1])"),
    "Turn.parsed": ("chatstream.types.structured", "suppress(ValueError, chatstream.Turn().parsed)"),
    "a provider": ("encodings.idna", "chatstream.Provider('test', URL)"),
    "an unknown provider": ("difflib", "suppress(ValueError, chatstream.Provider.named, 'nobody')"),
}


@pytest.mark.parametrize(("slow", "use"), SLOW.values(), ids=SLOW.keys())
def test_a_child_calls_although_another_thread_was_importing_at_the_fork(serve, slow, use):
    done = run(SLOW_IMPORT.format(slow=slow, use=use), serve(ECHO).url)
    assert done.returncode == 0, done.stderr
    assert not done.stderr or slow == "logging"  # its own hook complains if it is registered while a fork waits


OUTSIDE = """
import sys
from chatstream._runtime import imports

class Recorder:
    def find_spec(name, path=None, target=None):
        if not imports._importing._is_owned() and not imports._preparing._is_owned():
            print(name, file=sys.stderr)

import chatstream
sys.meta_path.insert(0, Recorder)
provider = chatstream.Provider("test", sys.argv[1], stream_max_retries=0, http_headers={"X-More": "1"})
client = chatstream.Client(provider, model="m1")
try:
    tools = [chatstream.Tool("f", "does it", {"type": "object"})]
    content = [chatstream.InputText("Hi"), chatstream.InputImage.from_bytes(b"GIF89a")]
    chatstream.FunctionCall("f", "{}", "c").output([1])
    stream = client.stream([chatstream.Message("user", content)], tools=tools, deadline=9)
    turn = stream.collect()
    repr(turn)
    turn.parsed()
except (ValueError, chatstream.ChatStreamError) as error:
    str(error)
client.close()
sys.meta_path.remove(Recorder)
"""


@pytest.mark.parametrize(
    "scripts",
    [
        [text_answer('{"a": 1}')],
        [status(503, {}, {"retry-after-ms": "1"}), text_answer("text")],
        [status(429, {}, {"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"}), text_answer("text")],
        [status(400, "<html><title>No &amp; no</title></html>")],
        [status(401, {"error": {"message": "No"}})],
        [redirect("/v1/elsewhere"), text_answer("text")],
        [[head(), delta("one"), cut()]],
        [[head(headers={"Content-Encoding": "gzip"}), chunk(gzip.compress(b'data: {"choices": []}\n\n')), end()]],
        [[head(), event({"error": {"message": "Overloaded"}}), end()]],
        [[head(), chunk(b"data: \xff\xfe\n\n"), end()]],
    ],
    ids=["answer", "retry", "date", "page", "refusal", "redirect", "cut", "gzip", "error event", "no UTF-8"],
)
def test_all_imports_of_a_first_call_hold_back_forks(serve_both, scripts):
    done = run(OUTSIDE, serve_both(*scripts).url)
    assert (done.returncode, done.stderr) == (0, "")


def test_forks_take_the_lock_of_imports_and_only_those_that_took_it_release_it(monkeypatch):
    hooks: dict[str, Any] = {}
    lock = imports.RLock()
    monkeypatch.setattr(os, "register_at_fork", lambda **given: hooks.update(given))
    monkeypatch.setattr(imports, "_hooked", [])
    monkeypatch.setattr(imports, "_importing", lock)
    monkeypatch.setattr(imports, "_forks", forks := [])
    monkeypatch.setattr(imports, "_ready", [])
    assert imports.imports() is lock
    assert imports.imports() is lock
    for release in (hooks["after_in_parent"], hooks["after_in_child"]):
        hooks["before"]()
        assert is_held(lock)
        forks.append((-1, lock))  # of a thread that the child does not have
        release()
        assert not is_held(lock)
        release()  # its hook was registered while the fork was under way
    assert forks == []


def test_imports_begin_after_a_fork_that_was_under_way(monkeypatch):
    monkeypatch.setattr(imports, "_hooked", [imports._importing])
    monkeypatch.setattr(imports, "_ready", [])
    monkeypatch.setattr(imports, "_forks", forks := [(-1, imports._preparing)])
    threading.Timer(0.05, forks.clear).start()
    with within(0.2, least=0.05):
        imports.imports()


def is_held(lock: Any) -> bool:
    """Whether this thread holds the lock, which then is free for it alone."""
    with ThreadPoolExecutor(1) as other:
        if other.submit(lock.acquire, blocking=False).result():
            other.submit(lock.release).result()
            return False
    return True


# ── a child, imitated in this process ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def become_a_child(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function after which this process looks like a child of the one that opened its streams."""
    return lambda: monkeypatch.setattr(process, "pid", -1)


@pytest.mark.parametrize("read", [0, 2])
def test_an_inherited_stream_can_not_be_read(serve, connect, become_a_child, read):
    stream = connect(serve([head(), delta("one"), stall()])).stream("Hi")
    events = [next(stream) for _ in range(read)]
    become_a_child()
    for _ in range(2):
        with pytest.raises(ConfigError, match="belongs to the process that opened it"):
            next(stream) if not read else list(stream)
    assert text_of(events) == ("one" if read else "")
    stream.close()
    with pytest.raises(StreamClosed):
        list(stream)


def test_a_loop_over_an_inherited_stream_ends_with_a_config_error(serve, connect, become_a_child):
    stream = connect(serve([head(), delta("one"), stall()])).stream("Hi")
    texts = stream.text()
    assert next(texts) == "one"
    become_a_child()
    with pytest.raises(ConfigError, match="belongs to the process that opened it"):
        next(texts)


@pytest.mark.parametrize("end_it", [lambda stream: stream.close(), lambda stream: None], ids=["closed", "forgotten"])
def test_a_child_closes_its_descriptor_and_issues_no_resource_warning(serve, connect, become_a_child, end_it):
    client = connect(serve([head(), delta("one"), stall()]))
    stream = client.stream("Hi")
    sock = stream._reader.call.scope.socket._socket
    become_a_child()
    stream.cancel()
    client.cancel()
    assert sock.fileno() > 0
    end_it(stream)
    end_it(stream)
    del stream
    gc.collect()
    assert sock.fileno() == -1


def test_a_child_forgets_the_connections_of_its_parent_without_closing_their_pool(serve, connect, monkeypatch):
    server = serve(text_answer("fine"))
    client = connect(server)
    client.stream("Hi").collect()
    session = client._transport._session
    monkeypatch.setattr(client._transport, "_process", -1)
    client.close()
    assert client._transport._session is None
    assert session.adapters
    assert client.stream("Hi").collect().text == "fine"
    assert server.connections == 2


def test_an_answer_that_was_complete_can_be_asked_for_in_a_child(serve, connect, become_a_child):
    stream = connect(serve([head(), delta("one"), finish(), end()])).stream("Hi")
    assert stream.collect().text == "one"
    become_a_child()
    assert stream.turn.text == "one"
    assert list(stream) == []
    stream.close()


@pytest.mark.parametrize("read", [False, True], ids=["open", "read-to-the-end"])
def test_a_child_closes_its_descriptor_of_a_stream_from_a_mounted_adapter(serve, connect, become_a_child, read):
    class Adapter(HTTPAdapter):
        """Any subclass of the caller's."""

    with requests.Session() as session:
        session.mount("http://", Adapter())
        stream = connect(serve([head(), delta("one"), stall()]), session=session).stream("Hi")
        assert next(stream)
        if read:
            stream._reader.attempt.reply._response.raw.release_conn()  # as urllib3 does at the end of the body
        become_a_child()
        stream.close()
        with pytest.raises(StreamClosed):
            list(stream)


@pytest.mark.usefixtures("trusted")
def test_a_child_closes_its_descriptor_of_a_stream_through_an_https_proxy(
    serve, connect, tls, become_a_child, monkeypatch
):
    with ProxyServer(http_connect, tls) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        stream = connect(serve([head(), delta("one"), stall()], tls=tls)).stream("Hi")
        sock = stream._reader.call.scope.socket._socket.socket
        become_a_child()
        stream.close()
        assert sock.fileno() == -1
