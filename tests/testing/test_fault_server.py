"""The fault server does what its script says; seen with sockets and http.client, not with the library."""

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


class Visitor(http.client.HTTPConnection):
    """A client that knows nothing of chats."""

    def __init__(self, server: FaultServer) -> None:
        super().__init__("127.0.0.1", server.port, timeout=5)

    def post(self, body: Any = "{}") -> http.client.HTTPResponse:
        self.request("POST", "/v1/chat/completions", body, {"X-Word": "hello"})
        return self.getresponse()


@pytest.fixture
def visit(serve: Any) -> Any:
    made: list[Visitor] = []

    def visited(*scripts: Any, **options: Any) -> tuple[FaultServer, Visitor]:
        server = serve(*scripts, **options)
        made.append(Visitor(server))
        return server, made[-1]

    yield visited
    for visitor in made:
        visitor.close()


def test_the_example_in_its_documentation_is_true():
    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=4)


def test_all_names_of_the_room_are_there():
    assert all(hasattr(testing, name) for name in testing.__all__)


# ── requests and connections ────────────────────────────────────────────────────────────────────────────────────


def test_scripts_answer_one_request_after_another_and_the_last_one_all_others(visit):
    server, visitor = visit(status(503, "busy"), status(200, {"fine": True}))
    answers = [(answer.status, answer.read()) for answer in (visitor.post() for _ in range(3))]
    assert answers == [(503, b"busy"), (200, b'{"fine": true}'), (200, b'{"fine": true}')]
    assert server.connections == 1


def test_without_repeat_a_request_too_many_is_told_so(visit):
    _, visitor = visit(status(200), repeat=False)
    visitor.post().read()
    answer = visitor.post()
    assert (answer.status, answer.read()) == (400, b"no script is left for this request")


def test_a_server_without_a_script_says_so(visit):
    assert visit()[1].post().status == 400


def test_requests_are_kept_with_the_connection_they_came_on(visit):
    server, visitor = visit(text_answer("a"))
    visitor.post('{"n": 1}').read()
    visitor.post('{"n": 2}').read()
    other = Visitor(server)
    other.post().read()
    other.close()
    first = server.requests[0]
    assert (first.method, first.path, first.headers["x-word"], first.json) == (
        "POST",
        "/v1/chat/completions",
        "hello",
        {"n": 1},
    )
    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert server.connections == 2


def test_the_server_sees_that_the_client_has_gone(visit):
    server, visitor = visit([head(), delta("a"), stall()])
    visitor.post().read1(10)
    assert not server.client_closed(within=0.01)
    visitor.sock.shutdown(socket.SHUT_RDWR)
    assert server.client_closed()


@pytest.mark.parametrize("words", [b"", b"POST /half", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", b"\x16\n"])
def test_a_client_that_goes_before_its_request_is_whole_has_gone(serve, words):
    server = serve(text_answer("a"))
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(words)
    assert server.client_closed()
    assert server.requests == []


def test_closing_twice_is_fine_and_leaves_no_thread():
    before = threading.active_count()
    server = FaultServer(text_answer("a"))
    server.close()
    server.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("step", [stall(), pause(9), forever(pause(0.01)), drip(b"abc", 9), cut()])
def test_every_wait_ends_when_the_server_closes(step):
    with FaultServer([head(), step]) as server:
        visitor = Visitor(server)
        visitor.post()
        with within(0.2):
            server.close()
    visitor.close()


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("framing", ["chunked", "close", 24])
def test_a_body_comes_in_every_framing(visit, framing):
    server, visitor = visit([head(framing=framing), event("one two"), event({}), end()])
    assert visitor.post().read() == b"data: one two\n\ndata: {}\n\n"[:24] + b"\n" * (framing != 24)
    visitor.close()
    assert server.client_closed()


def test_an_event_has_a_name_if_it_is_given_one(visit):
    _, visitor = visit([head(), event({"a": "é"}, name="ping"), end()])
    assert visitor.post().read().decode() == 'event: ping\ndata: {"a": "é"}\n\n'


def test_a_whole_answer_says_its_text_its_finish_reason_its_usage_and_done(visit):
    _, visitor = visit(text_answer("Hel", "lo", reason="length", usage={"prompt_tokens": 1}))
    *chunks, last, empty = visitor.post().read().decode().split("\n\n")
    hel, lo, ending = (json.loads(each.removeprefix("data: ")) for each in chunks)
    assert [each["choices"][0]["delta"] for each in (hel, lo, ending)] == [{"content": "Hel"}, {"content": "lo"}, {}]
    assert (ending["choices"][0]["finish_reason"], ending["usage"]) == ("length", {"prompt_tokens": 1})
    assert (last, empty) == ("data: [DONE]", "")


def test_a_redirect_names_its_target(visit):
    answer = visit(redirect("http://elsewhere/", 308))[1].post()
    assert (answer.status, answer.getheader("Location")) == (308, "http://elsewhere/")


def test_a_status_nobody_has_heard_of_is_sent_too(visit):
    assert visit([head(599, framing=0)])[1].post().reason == "Unheard Of"


def test_bytes_drip_as_slowly_as_asked(visit):
    _, visitor = visit([head(framing="close"), drip(b"abc", 0.02), end()])
    with within(0.5, least=0.06):
        assert visitor.post().read() == b"abc"


def test_steps_are_repeated_until_the_client_goes(visit):
    server, visitor = visit([head(), forever(chunk(b"ab"), pause(0.001))])
    with visitor.post() as answer:
        assert answer.read(7) == b"abababa"
    visitor.close()
    assert server.client_closed()


def test_a_step_of_ones_own_is_a_function_of_the_wire(visit):
    def shout(wire: Wire) -> None:
        wire.send_body(b"%b, connection %d!" % (wire.request.body, wire.number))

    assert visit([head(), shout, end()])[1].post("hello").read() == b"hello, connection 1!"


# ── how it ends ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cut_is_a_fin(visit):
    answer = visit([head(), send(b"5\r\nab"), cut()])[1].post()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_a_reset_is_a_rst(visit):
    answer = visit([head(framing="close"), chunk(b"ab"), pause(0.02), reset()])[1].post()
    with pytest.raises(ConnectionResetError):
        answer.read()


def test_a_script_without_an_end_leaves_the_client_waiting(visit):
    _, visitor = visit([head(), finish(), done()])
    answer = visitor.post()
    assert answer.read1(9)
    visitor.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        answer.read()


def test_an_unread_script_is_played_before_the_request(serve):
    server = serve([unread(), send(b"hello"), stall()])
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        assert sock.recv(5) == b"hello"
        sock.sendall(b"nobody reads this")
        time.sleep(0.03)
    assert server.requests == []


def test_an_unread_script_may_only_delay_the_request(visit):
    server, visitor = visit([unread(), pause(0.02)], text_answer("a"))
    with within(0.5, least=0.02):
        assert visitor.post().status == 200
    assert len(server.requests) == 1


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", [end(), cut()])
def test_over_tls_an_end_says_goodbye_and_a_cut_does_not(
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
