"""`ResponseStream.sse` in real web servers: what the browser gets, and what happens to the model when it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import REST, THREE, WORDS
from web_hosts import COMMANDS, FLASK, HEARTBEAT, WebHost

from chatstream.testing import chunk, cut, delta, event, forever, head, pause, stall

TEXTS = [("message", {"text": word}) for word in WORDS]
KEEP_ALIVE = [forever(chunk(b": keep-alive\n\n"), pause(0.05))]
SLACK = 0.5  # seconds, for a busy machine


@pytest.fixture(params=COMMANDS)
def host(request: pytest.FixtureRequest, web_host: Callable[[str], WebHost]) -> Iterator[WebHost]:
    """Every web server, one after the other."""
    host = web_host(request.param)
    yield host
    assert "ResourceWarning" not in host.log


def test_a_browser_gets_the_text_of_an_answer_as_events_and_done(host, serve):
    server = serve([head(), *THREE, *REST])
    browser = host.request(server.port)
    assert browser.events() == [*TEXTS, ("message", "[DONE]")]
    assert browser.response.status == 200
    assert (browser.response.getheader("Content-Type") or "").startswith("text/event-stream")


def test_a_browser_gets_each_piece_of_text_before_the_model_sends_the_next_one(host, serve):
    server = serve([head(), delta("Well"), stall()])
    browser = host.request(server.port)
    assert browser.next_event() == ("message", {"text": "Well"})
    browser.leave()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ([cut()], "StreamTruncated"),
        ([event({"error": {"message": "Overloaded"}})], "ProviderError"),
        ([event("{")], "ProtocolViolation"),
    ],
    ids=["cut", "error of the model", "broken JSON"],
)
@pytest.mark.parametrize("before", [[], THREE], ids=["first", "after three events"])
def test_a_browser_gets_an_error_after_the_headers_as_an_event(host, serve, before, fault, kind):
    *texts, (name, error) = host.request(serve([head(), *before, *fault]).port).events()
    assert texts == TEXTS[: len(before)]
    assert (name, error["type"]) == ("error", kind)


@pytest.mark.parametrize(
    ("before", "silence", "reset"),
    [([], [stall()], False), (THREE, [stall()], True), (THREE, KEEP_ALIVE, False)],
    ids=[
        "silent model, first",
        "silent model and reset, after three events",
        "keep-alive comments, after three events",
    ],
)
def test_the_request_ends_within_two_heartbeats_after_the_browser_disconnects(host, serve, before, silence, reset):
    server = serve([head(), *before, *silence])
    browser = host.request(server.port)
    assert browser.response.status == 200
    for text in TEXTS[: len(before)]:
        assert browser.next_event() == text
    browser.leave(reset)
    assert server.client_closed(within=2 * HEARTBEAT + SLACK), host.log[-2000:]


def test_a_server_serves_the_next_browser_after_one_that_left(host, serve):
    server = serve([head(), *THREE, stall()], [head(), *THREE, *REST])
    browser = host.request(server.port)
    assert browser.next_event() == TEXTS[0]
    browser.leave()
    assert host.request(server.port).events() == [*TEXTS, ("message", "[DONE]")]


@pytest.mark.parametrize("name", FLASK)
def test_a_request_for_the_headers_alone_leaves_the_model_within_two_heartbeats(name, web_host, serve):
    server = serve([head(), *THREE, stall()])
    response = web_host(name).request(server.port, "HEAD").response
    assert (response.status, response.read()) == (200, b"")
    assert server.client_closed(within=2 * HEARTBEAT + SLACK)


def test_sixteen_browsers_at_once_get_their_answers_one_by_one(host: Any, serve: Any) -> None:
    server = serve([head(), *THREE, *REST])
    browsers = [host.request(server.port) for _ in range(16)]
    assert [browser.events() for browser in browsers] == [[*TEXTS, ("message", "[DONE]")]] * 16
