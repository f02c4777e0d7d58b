"""The fault server sends what its script says, as sockets and http.client see it, without the library."""

from __future__ import annotations

import doctest
import http.client
import json
import socket
import ssl
import threading
import time
from typing import Any

import pytest
import trustme
from support import within

from chatstream import testing
from chatstream.testing import (
    FaultServer,
    Wire,
    chunk,
    cut,
    delta,
    done,
    drip,
    end,
    event,
    finish,
    forever,
    head,
    pause,
    redirect,
    reset,
    send,
    stall,
    status,
    text_answer,
    unread,
)
from chatstream.testing import fault_server as module


class Connection(http.client.HTTPConnection):
    """A connection to the server, with no code of the library."""

    def __init__(self, server: FaultServer) -> None:
        super().__init__("127.0.0.1", server.port, timeout=5)

    def post(self, body: Any = "{}") -> http.client.HTTPResponse:
        self.request("POST", "/v1/chat/completions", body, {"X-Test": "hello"})
        return self.getresponse()


@pytest.fixture
def connect_to(serve: Any) -> Any:
    """Starts a server that plays the given scripts; returns it and a connection to it."""
    made: list[Connection] = []

    def connected(*scripts: Any, **options: Any) -> tuple[FaultServer, Connection]:
        server = serve(*scripts, **options)
        made.append(Connection(server))
        return server, made[-1]

    yield connected
    for connection in made:
        connection.close()


def test_the_example_in_the_docstring_works():
    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=4)


def test_every_public_name_of_the_package_exists():
    assert all(hasattr(testing, name) for name in testing.__all__)


# ── requests and connections ────────────────────────────────────────────────────────────────────────────────────


def test_each_script_answers_one_request_and_the_last_one_all_further_requests(connect_to):
    server, connection = connect_to(status(503, "busy"), status(200, {"fine": True}))
    answers = [(answer.status, answer.read()) for answer in (connection.post() for _ in range(3))]
    assert answers == [(503, b"busy"), (200, b'{"fine": true}'), (200, b'{"fine": true}')]
    assert server.connections == 1


def test_without_repeat_a_request_beyond_the_last_script_gets_status_400(connect_to):
    _, connection = connect_to(status(200), repeat=False)
    connection.post().read()
    answer = connection.post()
    assert (answer.status, answer.read()) == (400, b"no script is left for this request")


def test_a_server_without_scripts_answers_with_status_400(connect_to):
    assert connect_to()[1].post().status == 400


def test_received_requests_are_kept_with_the_number_of_their_connection(connect_to):
    server, connection = connect_to(text_answer("a"))
    connection.post('{"n": 1}').read()
    connection.post('{"n": 2}').read()
    other = Connection(server)
    other.post().read()
    other.close()
    first = server.requests[0]
    assert (first.method, first.path, first.headers["x-test"], first.json) == (
        "POST",
        "/v1/chat/completions",
        "hello",
        {"n": 1},
    )
    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert server.connections == 2


def test_the_server_notices_that_the_client_has_closed(connect_to):
    server, connection = connect_to([head(), delta("a"), stall()])
    connection.post().read1(10)
    assert not server.client_closed(within=0.01)
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert server.client_closed()


@pytest.mark.parametrize("data", [b"", b"POST /half", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", b"\x16\n"])
def test_the_server_notices_that_the_client_has_closed_before_the_end_of_a_request(serve, data):
    server = serve(text_answer("a"))
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(data)
    assert server.client_closed()
    assert server.requests == []


def test_closing_a_server_twice_works_and_leaves_no_thread():
    before = threading.active_count()
    server = FaultServer(text_answer("a"))
    server.close()
    server.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("step", [stall(), pause(9), forever(pause(0.01)), drip(b"abc", 9), cut()])
def test_every_wait_ends_when_the_server_closes(step):
    with FaultServer([head(), step]) as server:
        connection = Connection(server)
        connection.post()
        with within(0.2):
            server.close()
    connection.close()


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("framing", ["chunked", "close", 24])
def test_a_body_can_be_sent_in_every_framing(connect_to, framing):
    server, connection = connect_to([head(framing=framing), event("one two"), event({}), end()])
    assert connection.post().read() == b"data: one two\n\ndata: {}\n\n"[:24] + b"\n" * (framing != 24)
    connection.close()
    assert server.client_closed()


def test_an_event_with_a_name_has_an_event_line(connect_to):
    _, connection = connect_to([head(), event({"a": "é"}, name="ping"), end()])
    assert connection.post().read().decode() == 'event: ping\ndata: {"a": "é"}\n\n'


def test_a_text_answer_has_its_text_finish_reason_usage_and_done(connect_to):
    _, connection = connect_to(text_answer("Hel", "lo", reason="length", usage={"prompt_tokens": 1}))
    *chunks, last, empty = connection.post().read().decode().split("\n\n")
    hel, lo, ending = (json.loads(each.removeprefix("data: ")) for each in chunks)
    assert [each["choices"][0]["delta"] for each in (hel, lo, ending)] == [{"content": "Hel"}, {"content": "lo"}, {}]
    assert (ending["choices"][0]["finish_reason"], ending["usage"]) == ("length", {"prompt_tokens": 1})
    assert (last, empty) == ("data: [DONE]", "")


def test_a_redirect_has_its_target_in_location(connect_to):
    answer = connect_to(redirect("http://elsewhere/", 308))[1].post()
    assert (answer.status, answer.getheader("Location")) == (308, "http://elsewhere/")


def test_an_unknown_status_can_be_sent(connect_to):
    assert connect_to([head(599, framing=0)])[1].post().reason == "Unknown"


def test_drip_sends_one_byte_in_each_interval(connect_to):
    _, connection = connect_to([head(framing="close"), drip(b"abc", 0.02), end()])
    with within(0.5, least=0.06):
        assert connection.post().read() == b"abc"


def test_forever_repeats_its_steps_until_the_client_closes(connect_to):
    server, connection = connect_to([head(), forever(chunk(b"ab"), pause(0.001))])
    with connection.post() as answer:
        assert answer.read(7) == b"abababa"
    connection.close()
    assert server.client_closed()


def test_a_function_that_takes_the_wire_is_a_step(connect_to):
    def shout(wire: Wire) -> None:
        wire.send_body(b"%b, connection %d!" % (wire.request.body, wire.number))

    assert connect_to([head(), shout, end()])[1].post("hello").read() == b"hello, connection 1!"


# ── how it ends ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_cut_ends_the_connection_with_fin(connect_to):
    answer = connect_to([head(), send(b"5\r\nab"), cut()])[1].post()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_reset_ends_the_connection_with_rst(connect_to):
    answer = connect_to([head(framing="close"), chunk(b"ab"), pause(0.02), reset()])[1].post()
    with pytest.raises(ConnectionResetError):
        answer.read()


def test_a_script_without_an_end_leaves_the_response_open(connect_to):
    _, connection = connect_to([head(), finish(), done()])
    answer = connection.post()
    assert answer.read1(9)
    connection.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        answer.read()


def test_a_script_with_unread_starts_before_the_request_is_read(serve):
    server = serve([unread(), send(b"hello"), stall()])
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        assert sock.recv(5) == b"hello"
        sock.sendall(b"nobody reads this")
        time.sleep(0.03)
    assert server.requests == []


def test_a_script_with_unread_may_end_before_the_request_is_read(connect_to):
    server, connection = connect_to([unread(), pause(0.02)], text_answer("a"))
    with within(0.5, least=0.02):
        assert connection.post().status == 200
    assert len(server.requests) == 1


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_closes_at_once_while_it_is_about_to_do_a_handshake(tls, monkeypatch):
    """The handshake began after the connection was to be shut down, and waited for the client."""
    wrap, wrapped = ssl.SSLContext.wrap_socket, threading.Event()

    def wrap_slowly(*args: Any, **options: Any) -> ssl.SSLSocket:
        sock = wrap(*args, **options)
        wrapped.set()
        time.sleep(0.1)
        return sock

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_slowly)
    server = FaultServer(text_answer("one"), tls=tls)
    with socket.create_connection(("127.0.0.1", server.port)):
        assert wrapped.wait(5)
        closing = threading.Thread(target=server.close, daemon=True)
        closing.start()
        closing.join(5)
        assert not closing.is_alive()


@pytest.mark.parametrize("ending", [end(), cut()])
def test_over_tls_end_sends_close_notify_and_cut_does_not(
    serve, tls: ssl.SSLContext, authority: trustme.CA, ending: testing.Step
):
    server = serve([head(framing="close"), chunk(b"ab"), ending], tls=tls)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert server.url.startswith("https://127.0.0.1:")
    with (
        socket.create_connection(("127.0.0.1", server.port)) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as sock,
    ):
        sock.sendall(b"POST / HTTP/1.1\r\n\r\n")
        received = b""
        while not received.endswith(b"ab"):
            received += sock.recv(4096)
        if ending is cut():
            with pytest.raises(ssl.SSLEOFError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
    assert server.client_closed()
