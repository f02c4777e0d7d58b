"""A server → how it streams: a few tiny requests, a readable report, and the provider settings it advises.

    doctor("http://127.0.0.1:8080/v1") ─▶ Report ─print▶ what it does, what to set

Rules:
- Every finding is seen on the wire, never guessed from a name; what was not seen is said to be unknown.
- The requests are small (48 tokens at most) and few (5 at most), and go through the library's own transport.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ._decode.chunk import DONE_WORDS, Chunk, Payload
from ._decode.chunks import ChunkReader
from ._decode.error_body import error_of_body
from ._decode.lenient import dict_or_empty
from ._decode.sse import BodyDecoder
from ._http.cancel_scope import CancelScope
from ._http.transport import Reply, Request, Transport
from .errors import ChatStreamError, IdleTimeout
from .providers.provider import Provider
from .types.limits import Limits

SECONDS = 60.0  # for each request
TOKENS = 48
TOO_FAST = 0.03  # seconds; in an answer as fast as this, live and buffered look the same
SAME_MOMENT = 0.002  # seconds; pieces closer than this came together
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
    """One answer as it came: ``chunks`` with their time in seconds after the request, the JSON of their ``choices``,
    and what the wire showed."""

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


@dataclass
class Report:
    """What a server does: ``findings`` by name, and the ``settings`` of a `Provider` that suit it."""

    base_url: str
    findings: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, self.findings))
        lines = [f"{name:<{width}}  {finding}" for name, finding in self.findings.items()]
        advice = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return "\n".join([self.base_url, *lines, f"{'advised':<{width}}  {advice or 'nothing: the defaults suit it'}"])


def doctor(base_url: str, *, model: str | None = None, api_key: str | None = None) -> Report:
    """Ask the server at ``base_url`` a few small things, and report how it streams.

    Raises `ConfigError` for a URL that can't be right, and what the first request raises when no answer comes.
    """
    provider = Provider("doctor", base_url, api_key=api_key, model=model)
    with _Patient(provider) as patient:
        report = Report(base_url)
        first = patient.ask(stream_options={"include_usage": True})
        if first.status in (400, 422):
            report.settings["stream_usage"] = False
            first = patient.ask()
        _read_framing(report, first)
        _read_stream(report, first)
        _read_reuse(report, patient.ask(max_tokens=1))
        _read_tools(report, patient.ask(tools=[TOOL], content="What is the weather in Paris?"))
        _read_roles(report, patient.ask(role="developer", max_tokens=1), first)
        _read_refusal(report, patient.ask(messages="not a list"))
        return report


class _Patient:
    """The server under examination."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._transport = Transport()

    def __enter__(self) -> _Patient:
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close()

    def ask(self, content: str = "Count from one to twenty in words.", role: str = "user", **fields: Any) -> Answer:
        """One request and its whole answer, however it ends."""
        model = self._provider.model or "default"
        body = {"model": model, "messages": [{"role": role, "content": content}], "max_tokens": TOKENS}
        data = json.dumps({**body, "stream": True, "temperature": 0, **fields}).encode()
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        request = Request(self._provider.url(model), headers, data, self._provider.auth_header())
        scope = CancelScope()
        scope.set_timeout(SECONDS, IdleTimeout)
        reply = self._transport.post(request, scope)
        answer = Answer(reply.status, reply.version, _framing(reply), reply.reused)
        if reply.status != 200:
            answer.body = reply.read_body(Limits().error_body_bytes, 1.0).decode("utf-8", "replace")
        else:
            _listen(reply, scope, answer)
        return answer


def _framing(reply: Reply) -> str:
    if "Transfer-Encoding" in reply.headers:
        return "chunked"
    return "Content-Length" if "Content-Length" in reply.headers else "until the connection closes"


def _listen(reply: Reply, scope: CancelScope, answer: Answer) -> None:
    body = BodyDecoder()
    reader = ChunkReader()
    try:
        while piece := reply.read():
            answer.arrivals.append(scope.elapsed)
            _note(answer, reader, list(body.feed(piece)), scope.elapsed)
        _note(answer, reader, list(body.close()), scope.elapsed)
    except ChatStreamError as error:
        answer.error = str(error)
    answer.comments = body.sse.comments
    reply.close()


def _note(answer: Answer, reader: ChunkReader, payloads: list[Payload], after: float) -> None:
    answer.done = answer.done or any(payload.data.strip() in DONE_WORDS for payload in payloads)
    for chunk in reader.read(payloads):
        answer.chunks.append((after, chunk))
        answer.choices += _choices_of(reader.raw)
        if chunk.error:
            answer.error = chunk.error.message


def _choices_of(body: dict[str, Any] | None) -> list[dict[str, Any]]:
    choices = dict_or_empty(body).get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


# ── what the answers say ────────────────────────────────────────────────────────────────────────────────────────


def _read_framing(report: Report, answer: Answer) -> None:
    report.findings["protocol"] = f"HTTP/{answer.version}, {answer.framing}"
    if answer.status != 200:
        report.findings["status"] = f"{answer.status}: {error_of_body(answer.body).message}"
    if answer.error:
        report.findings["error"] = answer.error


def _read_stream(report: Report, answer: Answer) -> None:
    report.findings["live"] = _liveness(answer)
    report.findings["[DONE]"] = "sent" if answer.done else "never sent"
    reasons = sorted(
        {delta.finish_reason for _, chunk in answer.chunks for delta in chunk.choices if delta.finish_reason}
    )
    report.findings["finish reason"] = ", ".join(reasons) or "never sent"
    if not reasons and not answer.done and answer.chunks:
        report.settings["eof_completes"] = True
    report.findings["usage"] = _usage_place(answer, asked="stream_usage" not in report.settings)
    report.findings["comments"] = _comments(answer)
    _read_reasoning(report, answer)


def _liveness(answer: Answer) -> str:
    events = sum(bool(chunk.choices) for _, chunk in answer.chunks)
    if events < 8:
        return f"unknown: only {events} events came"
    gaps = sum(
        later - earlier > SAME_MOMENT for earlier, later in zip(answer.arrivals, answer.arrivals[1:], strict=False)
    )
    wait, end = answer.arrivals[0], answer.arrivals[-1]
    if end < TOO_FAST:
        return f"unknown: all {events} events came within {end * 1000:.0f} ms"
    if gaps + 1 <= events / 8:
        return f"BUFFERED: {events} events in {gaps + 1} moment(s), after {wait:.2f} s of silence"
    return f"yes: {events} events at {gaps + 1} moments, the first after {wait:.2f} s, the last after {end:.2f} s"


def _usage_place(answer: Answer, asked: bool) -> str:
    places = set()
    for _, chunk in answer.chunks:
        if chunk.usage is not None:
            finish = any(delta.finish_reason for delta in chunk.choices)
            empty = not any(delta.text or delta.reasoning or delta.calls for delta in chunk.choices)
            places.add("in the finish chunk" if finish else "in a chunk of its own" if empty else "in every chunk")
    where = " and ".join(sorted(places)) or "never sent"
    return where if asked else f"{where}; stream_options is refused"


def _comments(answer: Answer) -> str:
    if not answer.comments:
        return "none"
    span = answer.arrivals[-1] if answer.arrivals else 0.0
    return f"{answer.comments} in {span:.1f} s"


def _read_reasoning(report: Report, answer: Answer) -> None:
    deltas = [choice.get("delta") or {} for choice in answer.choices]
    keys = sorted({key for delta in deltas for key in delta if "reasoning" in key and delta[key]})
    text = "".join(delta.text for _, chunk in answer.chunks for delta in chunk.choices)
    report.findings["reasoning"] = ", ".join(keys) or ("<think> inside the text" if "<think>" in text else "none seen")
    if not keys and "<think>" in text:
        report.settings["think_tags"] = ("think",)


def _read_reuse(report: Report, answer: Answer) -> None:
    report.findings["connection"] = "serves several requests" if answer.reused else "a new one for every request"


def _read_tools(report: Report, answer: Answer) -> None:
    calls = [call for choice in answer.choices for call in (choice.get("delta") or {}).get("tool_calls") or ()]
    if answer.status != 200:
        report.findings["tools"] = f"refused with {answer.status}: {error_of_body(answer.body).message}"
    elif not calls:
        report.findings["tools"] = "accepted, but the model made no call"
    else:
        index = f"index from {calls[0]['index']}" if "index" in calls[0] else "no index"
        identity = "id" if calls[0].get("id") else "no id"
        report.findings["tools"] = f"{identity}, {index}, {len(calls)} fragment(s)"


def _read_roles(report: Report, answer: Answer, first: Answer) -> None:
    refused = answer.status != 200 and first.status == 200
    report.findings["developer role"] = f"refused with {answer.status}" if refused else "accepted"
    if refused:
        report.settings["developer_role"] = False


def _read_refusal(report: Report, answer: Answer) -> None:
    if answer.status == 200:
        report.findings["errors"] = f"nonsense is answered with 200{': ' + answer.error if answer.error else ''}"
        return
    detail = error_of_body(answer.body)
    shape = "JSON" if answer.body.lstrip().startswith(("{", "[")) else "text" if answer.body.strip() else "no body"
    code = f", code {detail.code!r}" if detail.code is not None else ""
    report.findings["errors"] = f"{answer.status}, {shape}{code}: {detail.message[:100]!r}"
