"""One line for each answer → a Chat Completions server on loopback, for tests of any program and any client.

>>> from chatstream import Client
>>> from chatstream.testing import ChatServer
>>> with ChatServer() as server:
...     server.calls(get_weather={"city": "Oslo"})
...     server.says("It rains in Oslo.")
...     client = Client(server.url, model="any")
...     print(client.stream("How is the weather in Oslo?").collect().function_calls[0].arguments)
...     print(client.stream("And now?").collect().text)
...     server.assert_asked("And now?", model="any")
...     client.close()
{"city": "Oslo"}
It rains in Oslo.

Rules:
- Each request receives the next answer. If none is left, it receives status 400, and `assert_all_answered` fails.
- An answer is streamed if the request asks for a stream, and one JSON text otherwise.
- ``GET /v1/models`` lists ``models``, and uses no answer.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .._recording.load import load
from .._recording.recorder import json_of
from .answers import Answer, answer_of_calls, pieces_of
from .differences import check_fields, text_of
from .fault_server import FaultServer
from .replay_server import script_of
from .scripts import NO_RETRY, Script, Step, cut, event, head, reset, stall, status
from .wire import ReceivedRequest, Wire

MakeScript = Callable[[Mapping[str, Any]], Script]  # the JSON of a request → the steps that answer it


class ChatServer:
    """A server with the answers of a test; a context manager that closes it.

    Attributes: ``url`` is the base URL for a client (any key is accepted). ``models`` are the names of the models that
    the server lists. ``requests`` are the requests received, without those for the list of models.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.models: list[str] = ["test"]
        self.requests: list[ReceivedRequest] = []
        self._answers: list[MakeScript] = []
        self._lock = threading.Lock()
        self._server = FaultServer([self._answer], tls=tls)
        self.url: str = self._server.url
        self.port: int = self._server.port

    # ── answers ──

    def says(
        self,
        *text: str,
        reasoning: str = "",
        refusal: str = "",
        finish_reason: str = "stop",
        usage: Mapping[str, Any] | None = None,
        every: float = 0.0,
    ) -> None:
        """Answer with text: several pieces as they are, a single one word by word. ``every``: seconds between two."""
        self._add(Answer(pieces_of(text), reasoning, refusal, (), finish_reason, usage or {}, every).script)

    def calls(self, *calls: tuple[str, Any], every: float = 0.0, **functions: Any) -> None:
        """Answer with tool calls, as in ``calls(get_weather={"city": "Oslo"}, get_time={})``.

        A list of arguments calls a function several times. Arguments that are a str are sent unchanged, even if they
        are not JSON. For a name that can't be a keyword, pass a pair ``(name, arguments)``.
        """
        self._add(answer_of_calls(calls, functions, every).script)

    def fails(
        self,
        code: int = 500,
        message: str = "error scripted by the test",
        *,
        error_code: str | int | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with this HTTP status, and an error body as OpenAI sends it."""
        body = {"error": {"message": message, "type": "test_error", "param": None, "code": error_code}}
        wait = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        self.plays(*status(code, body, {**wait, **(headers or {})}))

    def errs_after(
        self, *text: str, message: str = "error scripted by the test", code: str | int | None = None
    ) -> None:
        """Report an error inside the stream, after the text."""
        self._begin(text, event({"error": {"message": message, "code": code}}), cut())

    def cuts_after(self, *text: str) -> None:
        """Close the connection after the text, before the answer is complete."""
        self._begin(text, cut())

    def resets_after(self, *text: str) -> None:
        """Reset the connection after the text; without text, before the response begins."""
        if text:
            self._begin(text, reset())
        else:
            self.plays(reset())

    def stalls_after(self, *text: str) -> None:
        """Send nothing after the text until the client leaves; without text, no response begins."""
        if text:
            self._begin(text, stall())
        else:
            self.plays(stall())

    def plays(self, *steps: Step) -> None:
        """Answer with the steps of a script; see `chatstream.testing.scripts`."""
        self._add(lambda _: steps)

    def replays(self, path: str | os.PathLike[str], *, speed: float = 0) -> None:
        """Answer with the answers of a recording, one after the other; see `chatstream.replay`."""
        for exchange in load(path):
            self.plays(*script_of(exchange, speed))

    # ── requests ──

    def assert_asked(self, text: str | None = None, **fields: Any) -> None:
        """Raise `AssertionError` unless the latest request ends with this text and has these ``fields``."""
        if not self.requests:
            raise AssertionError("the server has received no request")
        check_fields(json_of(self.requests[-1].body) or {}, text, fields)

    def assert_all_answered(self) -> None:
        """Raise `AssertionError` unless each request had an answer, and each answer a request."""
        asked = [text_of(json_of(request.body) or {}) for request in self.requests]
        if len(asked) != len(self._answers):
            raise AssertionError(f"{len(self._answers)} answers for {len(asked)} requests: {asked}")

    # ── the server ──

    def close(self) -> None:
        """End all connections and threads. A second call does nothing."""
        self._server.close()

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _add(self, answer: MakeScript) -> None:
        with self._lock:
            self._answers.append(answer)

    def _begin(self, text: tuple[str, ...], *last: Step) -> None:
        answer = Answer(pieces_of(text))
        self._add(lambda request: [head(), *answer.events(request), *last])

    def _answer(self, wire: Wire) -> None:
        """The step of every script: it answers the request of the wire."""
        for step in self._script(wire.received):
            step(wire)

    def _script(self, request: ReceivedRequest) -> Script:
        if request.method == "GET" and request.path.partition("?")[0].endswith("/models"):
            return status(200, {"object": "list", "data": [{"id": each, "object": "model"} for each in self.models]})
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            answer = self._answers[number - 1] if number <= len(self._answers) else None
        asked = json_of(request.body)
        if not isinstance(asked, Mapping):
            return _rejection(f"the body of the request is not a JSON object: {request.body[:80]!r}")
        if answer is None:
            known = json.dumps(text_of(asked), ensure_ascii=False)
            return _rejection(f"the test has no answer left for request {number}: {known}")
        return answer(asked)


def _rejection(message: str) -> Script:
    return status(400, {"error": {"message": message, "type": "invalid_request_error"}}, NO_RETRY)
