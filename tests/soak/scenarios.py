"""The scenarios of the soak: what the server sends, and how the stream may end for the caller.

    AnswerSpec (a field of the request) ─▶ script, for one attempt
    Scenario.outcomes ─▶ the outcomes that are right; every other one is a violation

Rules:
- Every piece of an answer contains the marker of its request, so that an answer to another request is noticed.
- The request names its scenario, so client and server agree on it without further communication.
- A scenario lasts ``faulty_attempts`` attempts; later attempts get the whole answer.
"""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chatstream.testing import Script, Step, Wire, chunk, cut, end, head, pause, reset, send, stall, status

EVENT_LIMIT = 2**18  # bytes; the clients' limit of one event
ALL_ATTEMPTS = 99
MAX_SECONDS = 10.0  # no script runs for longer, whatever the client does


@dataclass(frozen=True)
class AnswerSpec:
    """The answer that a request wants: its scenario, and in each choice ``pieces`` pieces that contain ``marker``."""

    scenario: str
    marker: str
    pieces: int = 5
    faulty_attempts: int = ALL_ATTEMPTS
    choices: int = 1
    seed: int = 0

    @property
    def text(self) -> str:
        """The text of each choice of the whole answer."""
        return "".join(self.deltas)

    @property
    def deltas(self) -> list[str]:
        return [f"{self.marker}{number} " for number in range(self.pieces)]


@dataclass(frozen=True)
class Scenario:
    """What the server sends. ``outcomes`` are names of errors, or ``whole``; ``weight`` is its share of the streams."""

    script: Callable[[AnswerSpec, random.Random], Iterable[Step]]
    outcomes: frozenset[str]
    weight: int = 1


def script_for(spec: AnswerSpec, attempt: int) -> Script:
    """The steps that answer one attempt, counted from 1."""
    draw = random.Random(f"{spec.seed}-{spec.marker}-{attempt}")
    name = "whole" if attempt > spec.faulty_attempts else spec.scenario
    return list(SCENARIOS[name].script(spec, draw))


# ── the events of an answer ─────────────────────────────────────────────────────────────────────────────────────


def sse_event(data: Mapping[str, Any] | str, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def chunk_event(spec: AnswerSpec, choices: list[dict[str, Any]], **more: Any) -> bytes:
    return sse_event({"id": spec.marker, "model": "m1", "choices": choices, **more})


def text_events(spec: AnswerSpec) -> list[bytes]:
    return [
        chunk_event(spec, [{"index": index, "delta": {"content": word}, "finish_reason": None}])
        for word in spec.deltas
        for index in range(spec.choices)
    ]


def finish_events(spec: AnswerSpec, reason: str = "stop") -> list[bytes]:
    return [chunk_event(spec, [{"index": i, "delta": {}, "finish_reason": reason}]) for i in range(spec.choices)]


DONE = sse_event("[DONE]")


def answer(spec: AnswerSpec) -> list[bytes]:
    """All events of the whole answer."""
    return [*text_events(spec), *finish_events(spec), DONE]


def begin(spec: AnswerSpec, **headers: str) -> Step:
    return head(headers={"x-request-id": spec.marker, **headers})


def begin_answer(spec: AnswerSpec, draw: random.Random) -> list[Step]:
    """The head and up to three events for each choice; half of all faults come before the first event."""
    count = draw.choice([0, 0, 1, 3]) if spec.pieces > 3 else 0
    return [begin(spec), *map(chunk, text_events(spec)[: count * spec.choices])]


# ── whole answers ───────────────────────────────────────────────────────────────────────────────────────────────


def whole(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield begin(spec)
    yield from map(chunk, answer(spec))
    yield end()


def in_one_piece(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield begin(spec)
    yield chunk(b"".join(answer(spec)))
    yield end()


def slow(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield pause(draw.uniform(0, 0.2))
    yield begin(spec)
    for each in answer(spec):
        yield pause(draw.uniform(0, 0.06))
        yield chunk(each)
    yield end()


def cut_anywhere(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    data = b"".join(answer(spec))
    places = sorted(draw.sample(range(1, len(data)), min(30, len(data) - 1)))
    yield begin(spec)
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        yield chunk(data[start:stop])
    yield end()


def ended_by_close(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield head(framing="close", headers={"x-request-id": spec.marker})
    yield from map(chunk, answer(spec))
    yield end()


def with_content_length(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    data = b"".join(answer(spec))
    yield head(framing=len(data), headers={"x-request-id": spec.marker})
    yield send(data)


def compressed(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    name, bits = draw.choice([("gzip", 31), ("deflate", 15)])
    compressor = zlib.compressobj(wbits=bits)
    yield begin(spec, **{"Content-Encoding": name})
    for each in answer(spec):
        yield chunk(compressor.compress(each) + compressor.flush(zlib.Z_SYNC_FLUSH))
    yield chunk(compressor.flush())
    yield end()


def not_streamed(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    message = {"role": "assistant", "content": spec.text}
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(spec.choices)]
    yield from status(200, {"id": spec.marker, "model": "m1", "choices": choices}, {"x-request-id": spec.marker})


def function_call(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    """The text as the arguments of a function call, between quotes."""
    yield begin(spec)
    for index in range(spec.choices):
        for number, word in enumerate(['"', *spec.deltas, '"']):
            first = {"id": f"{spec.marker}{index}", "function": {"name": "f", "arguments": word}}
            fragment = {"index": 0, **(first if number == 0 else {"function": {"arguments": word}})}
            yield chunk(chunk_event(spec, [{"index": index, "delta": {"tool_calls": [fragment]}}]))
    yield from map(chunk, finish_events(spec, "tool_calls"))
    yield chunk(DONE)
    yield end()


def noise_between_events(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    """Comments, pings, events with unknown names and invalid UTF-8 between the events of the answer."""
    noise = [b": keep-alive\n\n", sse_event("{}", "ping"), sse_event("x", "unknown"), b": \xff\xfe\n\n", b"id: 7\n\n"]
    yield begin(spec)
    for each in answer(spec):
        yield chunk(draw.choice(noise))
        yield chunk(each)
    yield end()


def ends_late(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield begin(spec)
    yield from map(chunk, answer(spec))
    yield pause(draw.choice([0.02, 0.2]))
    yield end()


def never_ends(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    """Silence after ``[DONE]``, or already after the finish reason."""
    yield begin(spec)
    yield from map(chunk, answer(spec)[: draw.choice([-1, None])])
    yield stall()


def without_done(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield begin(spec)
    yield from map(chunk, [*text_events(spec), *finish_events(spec)])
    yield draw.choice([end(), cut()])


def without_last_blank_line(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield head(framing="close", headers={"x-request-id": spec.marker})
    yield chunk(b"".join(answer(spec)).rstrip(b"\n"))
    yield end()


def padded(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    """A hundred kilobytes of events without text before the answer."""
    filler = chunk_event(spec, [{"index": 0, "delta": {"role": "assistant", "padding": "x" * 400}}])
    yield begin(spec)
    yield from map(chunk, [filler * 200, *answer(spec)])
    yield end()


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────


def closed_before_the_head(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield draw.choice([cut(), reset()])


def cut_inside_the_head(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield send(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev")
    yield cut()


def truncated(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    """Ends inside an event, between events, inside a chunk, inside the compressed data or before the Content-Length."""
    yield from draw.choice(
        [
            lambda: [*begin_answer(spec, draw), end()],
            lambda: [*begin_answer(spec, draw), cut()],
            lambda: [*begin_answer(spec, draw), chunk(text_events(spec)[-1][:-9]), draw.choice([cut(), end()])],
            lambda: [*begin_answer(spec, draw), send(b"ff\r\ndata: {"), cut()],
            lambda: [head(framing=9999), *map(chunk, text_events(spec)), cut()],
            lambda: [head(framing="close"), *map(chunk, text_events(spec)), end()],
            lambda: [
                begin(spec, **{"Content-Encoding": "gzip"}),
                chunk(zlib.compress(b"".join(text_events(spec)), wbits=31)[:-12]),
                end(),
            ],
        ]
    )()


def reset_connection(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from begin_answer(spec, draw)
    yield pause(draw.choice([0, 0.02]))
    yield reset()


def silent(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from draw.choice([list, lambda: begin_answer(spec, draw)])()
    yield stall()


def repeat(every: float, *steps: Step) -> Step:
    """The steps every ``every`` seconds, until the client disconnects or `MAX_SECONDS` have passed."""

    def step(wire: Wire) -> None:
        ends = time.monotonic() + MAX_SECONDS
        while time.monotonic() < ends:
            for each in steps:
                each(wire)
            wire.wait(every)
        cut()(wire)

    return step


def comments_only(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from begin_answer(spec, draw)
    yield repeat(0.03, chunk(b": still here\n\n"))


def byte_by_byte(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    """A header, a chunk size or an event that grows by one byte at a time."""
    variants = [
        lambda: [send(b"HTTP/1.1 200 OK\r\nx: "), repeat(0.05, send(b"y"))],
        lambda: [*begin_answer(spec, draw), repeat(0.05, send(b"0"))],
        lambda: [*begin_answer(spec, draw), chunk(b"data: "), repeat(0.05, chunk(b"x"))],
    ]
    yield from draw.choice(variants)()


def error_event(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    error = {"message": f"no luck {spec.marker}", "code": draw.choice([500, "500", "overloaded", "bad_word", None])}
    yield from begin_answer(spec, draw)
    events = [sse_event({"error": error}), sse_event({"error": error}, "error"), sse_event({"detail": "no"})]
    yield chunk(draw.choice(events))
    yield end()


def permanent_refusal(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    code = draw.choice([400, 401, 403, 404, 413, 422, 301, 302])
    yield from status(code, {"error": {"message": f"not you {spec.marker}"}}, {"x-request-id": spec.marker})


def temporary_refusal(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    code = draw.choice([408, 409, 500, 502, 503, 504, 529])
    wait = draw.choice([{}, {}, {"Retry-After": "0.1"}, {"retry-after-ms": "50"}, {"Retry-After": "abc"}])
    yield from status(code, {"error": f"not now {spec.marker}"}, {"x-request-id": spec.marker, **wait})


def refusal_for_an_hour(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    wait = draw.choice(["3600", "inf", "Fri, 31 Dec 2099 23:59:59 GMT"])
    yield from status(429, f"later {spec.marker}", {"Retry-After": wait, "x-request-id": spec.marker})


def quota_exceeded(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from status(429, {"error": {"message": spec.marker, "code": "insufficient_quota"}})


def endless_refusal(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield head(500, {"Content-Type": "text/plain"})
    yield repeat(0.02, chunk(b"no " * 2000))


def oversized_line(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from begin_answer(spec, draw)
    yield chunk(b"data: ")
    for _ in range(EVENT_LIMIT // 2**14 + 2):
        yield chunk(b"x" * 2**14)
    yield stall()


def decompression_bomb(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield begin(spec, **{"Content-Encoding": "gzip"})
    yield chunk(BOMB)
    yield stall()


BOMB = zlib.compress(b"data: " + b"x" * 2**24, wbits=31)


def invalid_chunked_encoding(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from begin_answer(spec, draw)
    yield send(draw.choice([b"zz\r\n", b"-5\r\n", b"%x\r\n" % 2**71, b"5\r\nabcdefgh\r\n"]))
    yield cut()


def not_http(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield send(draw.choice([b"220 mail ready\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 2\r\n\r\n"]))
    yield cut()


def not_a_stream(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    text = draw.choice(["<html><title>Hello</title></html>", "It works!"])
    yield from status(200, f"{text} {spec.marker}")


def empty_body(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from status(200)


def invalid_json(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield from begin_answer(spec, draw)
    yield chunk(sse_event(draw.choice(['{"choices": [', "no json", "[1, 2]", '{"a": 1} {"b": 2}'])))
    yield end()


def not_compressed(spec: AnswerSpec, draw: random.Random) -> Iterator[Step]:
    yield begin(spec, **{"Content-Encoding": "gzip"})
    yield from map(chunk, answer(spec))
    yield end()


def scenario(script: Callable[[AnswerSpec, random.Random], Iterable[Step]], outcomes: str, weight: int = 1) -> Scenario:
    return Scenario(script, frozenset(outcomes.split()), weight)


SCENARIOS = {
    "whole": scenario(whole, "whole", 10),
    "in_one_piece": scenario(in_one_piece, "whole", 2),
    "slow": scenario(slow, "whole", 6),
    "cut_anywhere": scenario(cut_anywhere, "whole", 2),
    "ended_by_close": scenario(ended_by_close, "whole", 2),
    "with_content_length": scenario(with_content_length, "whole"),
    "compressed": scenario(compressed, "whole", 3),
    "not_streamed": scenario(not_streamed, "whole"),
    "function_call": scenario(function_call, "whole", 2),
    "noise_between_events": scenario(noise_between_events, "whole", 2),
    "ends_late": scenario(ends_late, "whole", 2),
    "never_ends": scenario(never_ends, "whole", 2),
    "without_done": scenario(without_done, "whole"),
    "without_last_blank_line": scenario(without_last_blank_line, "whole"),
    "padded": scenario(padded, "whole"),
    "closed_before_the_head": scenario(closed_before_the_head, "ConnectionFailed", 2),
    "cut_inside_the_head": scenario(cut_inside_the_head, "StreamTruncated ConnectionFailed"),
    "truncated": scenario(truncated, "StreamTruncated", 4),
    "reset_connection": scenario(reset_connection, "StreamTruncated ConnectionFailed", 3),
    "silent": scenario(silent, "IdleTimeout", 3),
    "comments_only": scenario(comments_only, "IdleTimeout", 2),
    "byte_by_byte": scenario(byte_by_byte, "IdleTimeout ProtocolViolation", 2),
    "error_event": scenario(error_event, "ProviderError", 3),
    "permanent_refusal": scenario(permanent_refusal, "UnexpectedStatus", 2),
    "temporary_refusal": scenario(temporary_refusal, "RetryLimit", 4),
    "refusal_for_an_hour": scenario(refusal_for_an_hour, "UnexpectedStatus"),
    "quota_exceeded": scenario(quota_exceeded, "QuotaExceeded"),
    "endless_refusal": scenario(endless_refusal, "RetryLimit"),
    "oversized_line": scenario(oversized_line, "StreamTooLarge"),
    "decompression_bomb": scenario(decompression_bomb, "StreamTooLarge"),
    "invalid_chunked_encoding": scenario(invalid_chunked_encoding, "ProtocolViolation", 2),
    "not_http": scenario(not_http, "ProtocolViolation"),
    "not_a_stream": scenario(not_a_stream, "ProtocolViolation"),
    "empty_body": scenario(empty_body, "StreamTruncated"),
    "invalid_json": scenario(invalid_json, "ProtocolViolation", 2),
    "not_compressed": scenario(not_compressed, "ProtocolViolation"),
}
