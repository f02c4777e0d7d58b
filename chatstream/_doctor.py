"""A base URL → a `Report` on how its server streams, with the `Provider` settings that suit it.

    doctor("http://127.0.0.1:8080/v1") ─▶ Report ─print▶ findings and advised settings

Rules:
- A finding is what a response shows, never a guess from the name of a server. What no response shows is "unknown".
- At most six requests are sent, each for at most 48 tokens, through the transport of all other requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ._decode.chunk import DONE_WORDS, Chunk, Payload
from ._decode.chunks import ChunkReader
from ._decode.error_body import error_of_body
from ._decode.sse import BodyDecoder
from ._display.html import table
from ._http.cancel_scope import CancelScope
from ._http.reply import Reply
from ._http.transport import Request, Transport
from ._redaction import Secrets, secrets_of
from ._secrets import HiddenQuery, hidden, hidden_if_key, without_query
from .errors import ChatStreamError, IdleTimeout
from .providers.provider import Provider
from .types.limits import Limits
from .types.text import printable

TIMEOUT = 60.0  # seconds for each request
MAX_TOKENS = 48
MIN_EVENTS = 8  # fewer events do not show whether they were buffered
BUFFERED_EVENTS = 8  # an answer is buffered if on average at least this many events arrive together
MIN_DURATION = 0.03  # seconds; live and buffered answers look the same if they are shorter
SAME_MOMENT = 0.002  # seconds; pieces that arrive within this time arrived together
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass
class Answer:
    """A response to one request. Times are seconds since the request.

    - ``status``, ``version`` (of HTTP), ``framing`` (how the end of the body is marked), ``reused`` (the connection).
    - ``body``: the text of a response whose status is not 200. ``error``: the message of an error inside the stream.
    - ``arrivals``: the time of each piece of the body. ``chunks``: each chunk with its time. ``choices``: the JSON of
      the choices of all chunks. ``comments``: the number of SSE comments. ``done``: whether ``[DONE]`` was sent.
    """

    status: int = 0
    version: str = ""
    framing: str = ""
    reused: bool = False
    body: str = ""
    error: str = ""
    done: bool = False
    comments: int = 0
    arrivals: list[float] = field(default_factory=list)
    chunks: list[tuple[float, Chunk]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        """The JSON of the deltas of all choices."""
        return [delta for choice in self.choices if isinstance(delta := choice.get("delta"), dict)]


@dataclass
class Report:
    """What a server does: ``findings`` by name, and the ``settings`` of a `Provider` that suit it, by field."""

    base_url: str
    findings: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for the URL, one for each finding, and one for the advised settings."""
        width = max(map(len, [*self.findings, "advised"]))
        return "\n".join([self.base_url, *(f"{name:<{width}}  {finding}" for name, finding in self._rows())])

    def _repr_html_(self) -> str:
        return table(self.base_url, self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        advice = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return [*self.findings.items(), ("advised", advice or "no settings")]


def doctor(base_url: str, *, model: str | None = None, api_key: str | None = None) -> Report:
    """Send a few small requests to the server at ``base_url``, and report how it streams.

    ``model`` defaults to the name ``default``, which servers with a single model accept. Raises `ConfigError` for an
    invalid URL or key, and `ConnectionFailed` or another `ChatStreamError` if a request gets no response.
    """
    base_url, api_key, model = HiddenQuery(base_url), hidden(api_key), hidden_if_key(model)
    provider = Provider("doctor", base_url, api_key=api_key, model=model)
    with _Probe(provider) as probe:
        report = Report(without_query(base_url))
        first = probe.ask(stream_options={"include_usage": True})
        if first.status in (400, 422):
            report.settings["stream_usage"] = False
            first = probe.ask()
        _find_protocol(report, first)
        _find_streaming(report, first)
        _find_reasoning(report, first)
        _find_connection_reuse(report, probe.ask(max_tokens=1))
        _find_tool_calls(report, probe.ask(tools=[TOOL], content="What is the weather in Paris?"))
        _find_developer_role(report, probe.ask(role="developer", max_tokens=1), first)
        _find_error_format(report, probe.ask(messages="not a list"))
        report.findings = {name: probe.shown(finding) for name, finding in report.findings.items()}
        return report


class _Probe:
    """Sends requests to one server over a transport of its own."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._transport = Transport()
        self._secrets = Secrets()

    def __enter__(self) -> _Probe:
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close()

    def ask(self, content: str = "Count from one to twenty in words.", role: str = "user", **fields: Any) -> Answer:
        """Send one request and read its response to the end, also if it is an error."""
        model = self._provider.model or "default"
        body = {"model": model, "messages": [{"role": role, "content": content}], "max_tokens": MAX_TOKENS}
        data = json.dumps({**body, "stream": True, "temperature": 0, **fields}).encode()
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        request = Request(self._provider.url(model), headers, data, self._provider.auth_header())
        self._secrets = secrets_of(request.url, headers, request.key)
        scope = CancelScope()
        scope.set_timeout(TIMEOUT, IdleTimeout)
        try:
            reply = self._transport.send(request, scope)
        except ChatStreamError as error:
            error.redact(self._secrets.redact)
            raise error  # a bare raise restores the dropped frames in Python 3.10
        answer = Answer(reply.status, reply.version, _framing(reply), reply.reused)
        if reply.status != 200:
            text = reply.read_body(Limits().error_body_bytes, 1.0).decode("utf-8", "replace")
            answer.body = self._secrets.redact(text)
        else:
            _read_answer(reply, scope, answer)
        return answer

    def shown(self, finding: str) -> str:
        """A finding as one line, without the secrets that a server repeats."""
        return printable(self._secrets.redact(finding))


def _framing(reply: Reply) -> str:
    if "Transfer-Encoding" in reply.headers:
        return "chunked"
    return "Content-Length" if "Content-Length" in reply.headers else "until the connection closes"


def _read_answer(reply: Reply, scope: CancelScope, answer: Answer) -> None:
    """Read the stream to its end, and record its pieces, chunks, comments and error in ``answer``."""
    body = BodyDecoder()
    reader = ChunkReader()
    try:
        while piece := reply.read():
            answer.arrivals.append(scope.elapsed)
            _record_chunks(answer, reader, body.feed(piece), scope)
        _record_chunks(answer, reader, body.close(), scope)
    except ChatStreamError as error:
        answer.error = str(error)
    answer.comments = body.sse.comments
    reply.close()


def _record_chunks(answer: Answer, reader: ChunkReader, payloads: Iterable[Payload], scope: CancelScope) -> None:
    def seen() -> Iterator[Payload]:
        for payload in payloads:
            answer.done = answer.done or payload.data.strip() in DONE_WORDS
            yield payload

    for chunk in reader.read(seen()):
        answer.chunks.append((scope.elapsed, chunk))
        answer.choices += _choices_of(reader.raw)
        if chunk.error or chunk.undecodable:
            answer.error = chunk.error.message if chunk.error else chunk.undecodable


def _choices_of(body: dict[str, Any] | None) -> list[dict[str, Any]]:
    choices = (body or {}).get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


# ── findings ────────────────────────────────────────────────────────────────────────────────────────────────────


def _find_protocol(report: Report, answer: Answer) -> None:
    report.findings["protocol"] = f"HTTP/{answer.version}, {answer.framing}"
    if answer.status != 200:
        report.findings["status"] = f"{answer.status}: {error_of_body(answer.body).message}"
    if answer.error:
        report.findings["error"] = answer.error


def _find_streaming(report: Report, answer: Answer) -> None:
    deltas = [delta for _, chunk in answer.chunks for delta in chunk.choices]
    reasons = sorted({delta.finish_reason for delta in deltas if delta.finish_reason})
    report.findings["live"] = _liveness(answer)
    report.findings["[DONE]"] = "sent" if answer.done else "never sent"
    report.findings["finish reason"] = ", ".join(reasons) or "never sent"
    if not reasons and not answer.done and answer.chunks:
        report.settings["eof_completes"] = True
    report.findings["usage"] = _usage_place(answer)
    if "stream_usage" in report.settings:
        report.findings["usage"] += "; stream_options is rejected"
    report.findings["comments"] = _comments(answer)


def _liveness(answer: Answer) -> str:
    """Whether events arrive one by one or together, after an intermediary has buffered them."""
    events = sum(bool(chunk.choices) for _, chunk in answer.chunks)
    if events < MIN_EVENTS:
        return f"unknown: only {events} events arrived"
    first, last = answer.arrivals[0], answer.arrivals[-1]
    if last < MIN_DURATION:
        return f"unknown: all {events} events arrived within {last * 1000:.0f} ms"
    moments = 1 + sum(later - earlier > SAME_MOMENT for earlier, later in pairwise(answer.arrivals))
    if moments <= events / BUFFERED_EVENTS:
        return f"BUFFERED: {events} events in {moments} moment(s), after {first:.2f} s of silence"
    return f"yes: {events} events at {moments} moments, the first after {first:.2f} s, the last after {last:.2f} s"


def _usage_place(answer: Answer) -> str:
    places = set()
    for _, chunk in answer.chunks:
        if chunk.usage is not None:
            has_finish = any(delta.finish_reason for delta in chunk.choices)
            has_content = any(delta.text or delta.reasoning or delta.calls for delta in chunk.choices)
            alone = "in every chunk" if has_content else "in a chunk of its own"
            places.add("in the finish chunk" if has_finish else alone)
    return " and ".join(sorted(places)) or "never sent"


def _comments(answer: Answer) -> str:
    if not answer.comments:
        return "none"
    duration = answer.arrivals[-1] if answer.arrivals else 0.0
    return f"{answer.comments} in {duration:.1f} s"


def _find_reasoning(report: Report, answer: Answer) -> None:
    keys = sorted({key for delta in answer.deltas for key in delta if "reasoning" in key and delta[key]})
    text = "".join(delta.text for _, chunk in answer.chunks for delta in chunk.choices)
    report.findings["reasoning"] = ", ".join(keys) or ("<think> inside the text" if "<think>" in text else "none seen")
    if not keys and "<think>" in text:
        report.settings["think_tags"] = ("think",)


def _find_connection_reuse(report: Report, answer: Answer) -> None:
    report.findings["connection"] = "reused" if answer.reused else "not reused: each request opened a new one"


def _find_tool_calls(report: Report, answer: Answer) -> None:
    calls = [call for delta in answer.deltas for call in delta.get("tool_calls") or ()]
    if answer.status != 200:
        report.findings["tools"] = f"rejected with {answer.status}: {error_of_body(answer.body).message}"
    elif not calls:
        report.findings["tools"] = "accepted, but the model made no call"
    else:
        index = f"index from {calls[0]['index']}" if "index" in calls[0] else "no index"
        identity = "id" if calls[0].get("id") else "no id"
        report.findings["tools"] = f"{identity}, {index}, {len(calls)} fragment(s)"


def _find_developer_role(report: Report, answer: Answer, first: Answer) -> None:
    refused = answer.status != 200 and first.status == 200
    report.findings["developer role"] = f"rejected with {answer.status}" if refused else "accepted"
    if refused:
        report.settings["developer_role"] = False


def _find_error_format(report: Report, answer: Answer) -> None:
    if answer.status == 200:
        error = f": {answer.error}" if answer.error else ""
        report.findings["errors"] = f"an invalid request was answered with status 200{error}"
        return
    detail = error_of_body(answer.body)
    format = "JSON" if answer.body.lstrip().startswith(("{", "[")) else "text" if answer.body.strip() else "no body"
    code = f", code {detail.code!r}" if detail.code is not None else ""
    report.findings["errors"] = f"{answer.status}, {format}{code}: {detail.message[:100]!r}"
