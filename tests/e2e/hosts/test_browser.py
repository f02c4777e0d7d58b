"""`ResponseStream.sse` in a real browser: what the script of docs/web.md shows, and what happens when it leaves."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from browsers import browser, start
from support import REST, THREE, wait_for

from chatstream import Client, Provider
from chatstream.testing import delta, end, event, head, stall

HEARTBEAT = 0.2  # seconds
START_SECONDS = 30.0  # until a browser has started and loaded its page
PAGE = """<!doctype html><title>Answer</title><pre></pre><script>
const question = "Open?", output = document.querySelector("pre");
%s
function report() {
  const request = new XMLHttpRequest();
  request.open("POST", "/report", false);
  request.send(JSON.stringify({text: output.textContent, open: source.readyState !== EventSource.CLOSED}));
  if (location.hash === "#leave") location = "about:blank";
  if (location.hash === "#close") source.close();
}
source.addEventListener("message", report);
source.addEventListener("error", report);
</script>"""


def documented_script() -> str:
    """The script that the docs show for the browser."""
    page = (Path(__file__).parents[3] / "docs" / "web.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```text\n(const source = .*?)^```$", page, re.DOTALL | re.MULTILINE)
    return str(script)


class Handler(WSGIRequestHandler):
    """Prints nothing."""

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, because an answer occupies one while it is sent."""

    daemon_threads = True


class Site:
    """A web application with a page, the answers of a model on ``/answer``, and the reports of the page."""

    def __init__(self, model: str) -> None:
        self.asked: int = 0
        self._client = Client(Provider("model", model, stream_max_retries=0), model="any")
        self._reports: Queue[dict[str, Any]] = Queue()
        self._server = make_server("127.0.0.1", 0, self._respond, server_class=Server, handler_class=Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Any:
        if environ["PATH_INFO"] == "/answer":
            self.asked += 1
            stream = self._client.stream(environ["QUERY_STRING"])
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return stream.sse(heartbeat=HEARTBEAT)
        if environ["PATH_INFO"] == "/report":
            self._reports.put(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        start_response("200 OK", [("Content-Type", "text/html")])
        return [(PAGE % documented_script()).encode()]

    def report(self, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The next report of the page: the text that it shows, and whether its EventSource is open."""
        return self._reports.get(timeout=seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()


@pytest.fixture(scope="module")
def program() -> str:
    """The browser that is installed."""
    return browser()


@pytest.fixture
def visit(program: str, serve: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that opens the page of a site whose model plays a script; returns the site, its model and a function
    that kills the browser."""
    sites: list[Site] = []
    kills: list[Callable[[], None]] = []

    def visited(script: Any, fragment: str = "") -> tuple[Site, Any, Callable[[], None]]:
        model = serve(script)
        site = Site(model.url)
        sites.append(site)
        kills.append(start(program, tmp_path, site.url + fragment))
        return site, model, kills[-1]

    yield visited
    for kill in kills:
        kill()
    for site in sites:
        site.close()


def test_a_page_shows_each_piece_of_text_before_the_model_sends_the_next_one(visit):
    first, second = threading.Event(), threading.Event()
    steps = [head(), delta("one "), wait_for(first), delta("two\n"), wait_for(second), *REST]
    site, _, _ = visit(steps)
    assert site.report() == {"text": "one ", "open": True}
    first.set()
    assert site.report() == {"text": "one two\n", "open": True}
    second.set()
    assert site.report() == {"text": "one two\n", "open": False}
    assert site.asked == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (event({"error": {"message": "Overloaded <b>today</b>."}}), "Overloaded <b>today</b>."),
        (end(), "the answer ended without a finish reason"),
    ],
    ids=["error of the model", "end in the middle"],
)
def test_a_page_shows_the_message_of_an_error_after_the_headers_and_does_not_ask_again(visit, fault, message):
    hold = threading.Event()
    site, _, _ = visit([head(), *THREE, wait_for(hold), fault])
    assert [site.report()["text"] for _ in THREE] == ["one ", "one two ", "one two three "]
    hold.set()
    report = site.report()
    assert report["text"].startswith("one two three \nstream disconnected before completion: ")
    assert message in report["text"]
    assert not report["open"]
    assert site.asked == 1


@pytest.mark.parametrize("fragment", ["#leave", "#close"])
def test_the_request_is_cancelled_within_a_second_after_a_page_is_left_or_closes_its_source(visit, fragment):
    site, model, _ = visit([head(), delta("one "), stall()], fragment)
    assert site.report()["text"] == "one "
    assert model.client_closed(within=1.0)
    assert site.asked == 1


def test_the_request_is_cancelled_within_a_second_after_the_browser_is_killed(visit):
    site, model, kill = visit([head(), *THREE, stall()])
    for _ in THREE:
        site.report()
    kill()
    assert model.client_closed(within=1.0)
