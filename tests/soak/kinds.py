"""What a server of the soak may do with a request, by name, and what a caller may get of it.

    Order (a request asks for it by name) ─▶ script, for one attempt
    Kind.outcomes ─▶ what the caller may get; everything else is a surprise

Rules:
- Every answer says the marker of the request that it answers, in every piece: a mixed answer shows itself.
- The request names its fault, so client and server agree on what is to come without a word between them.
- A fault lasts ``faulty`` attempts; the attempts after them are answered in full.
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
FOREVER = 99  # attempts
LONGEST = 10.0  # seconds; no script goes on for longer, whatever the client does


@dataclass(frozen=True)
class Order:
    """What a request asks its server for: an answer with ``marker`` in ``pieces`` pieces, ``choices`` times."""

    kind: str
    marker: str
    pieces: int = 5
    faulty: int = FOREVER
    choices: int = 1
    seed: int = 0

    @property
    def said(self) -> str:
        """What each choice of the whole answer says."""
        return "".join(self.words)

    @property
    def words(self) -> list[str]:
        return [f"{self.marker}{number} " for number in range(self.pieces)]


@dataclass(frozen=True)
class Kind:
    """One kind of answer. ``outcomes`` are names of errors, or ``whole``."""

    script: Callable[[Order, random.Random], Iterable[Step]]
    outcomes: frozenset[str]
    weight: int = 1


def script_for(order: Order, attempt: int) -> Script:
    """The steps that answer one attempt, counted from 1."""
    draw = random.Random(f"{order.seed}-{order.marker}-{attempt}")
    kind = KINDS["whole" if attempt > order.faulty else order.kind]
    return list(kind.script(order, draw))


# ── the words of an answer ──────────────────────────────────────────────────────────────────────────────────────


def spelled(data: Mapping[str, Any] | str, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def body(order: Order, choices: list[dict[str, Any]], **more: Any) -> bytes:
    return spelled({"id": order.marker, "model": "m1", "choices": choices, **more})


def words(order: Order) -> list[bytes]:
    every = range(order.choices)
    return [
        body(order, [{"index": index, "delta": {"content": word}, "finish_reason": None}])
        for word in order.words
        for index in every
    ]


def finishes(order: Order, reason: str = "stop") -> list[bytes]:
    return [body(order, [{"index": i, "delta": {}, "finish_reason": reason}]) for i in range(order.choices)]


DONE = spelled("[DONE]")


def answer(order: Order) -> list[bytes]:
    """All events of a whole answer."""
    return [*words(order), *finishes(order), DONE]


def opening(order: Order, **headers: str) -> Step:
    return head(headers={"x-request-id": order.marker, **headers})


def begun(order: Order, draw: random.Random) -> list[Step]:
    """The head, and with luck a few words: half of all faults come before the first event."""
    count = draw.choice([0, 0, 1, 3]) if order.pieces > 3 else 0
    return [opening(order), *map(chunk, words(order)[: count * order.choices])]


# ── answers that are whole ──────────────────────────────────────────────────────────────────────────────────────


def whole(order: Order, draw: random.Random) -> Iterator[Step]:
    yield opening(order)
    yield from map(chunk, answer(order))
    yield end()


def in_one_piece(order: Order, draw: random.Random) -> Iterator[Step]:
    yield opening(order)
    yield chunk(b"".join(answer(order)))
    yield end()


def slow(order: Order, draw: random.Random) -> Iterator[Step]:
    yield pause(draw.uniform(0, 0.2))
    yield opening(order)
    for each in answer(order):
        yield pause(draw.uniform(0, 0.06))
        yield chunk(each)
    yield end()


def cut_anywhere(order: Order, draw: random.Random) -> Iterator[Step]:
    data = b"".join(answer(order))
    places = sorted(draw.sample(range(1, len(data)), min(30, len(data) - 1)))
    yield opening(order)
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        yield chunk(data[start:stop])
    yield end()


def until_the_end(order: Order, draw: random.Random) -> Iterator[Step]:
    yield head(framing="close", headers={"x-request-id": order.marker})
    yield from map(chunk, answer(order))
    yield end()


def with_a_length(order: Order, draw: random.Random) -> Iterator[Step]:
    data = b"".join(answer(order))
    yield head(framing=len(data), headers={"x-request-id": order.marker})
    yield send(data)


def packed(order: Order, draw: random.Random) -> Iterator[Step]:
    name, bits = draw.choice([("gzip", 31), ("deflate", 15)])
    packer = zlib.compressobj(wbits=bits)
    yield opening(order, **{"Content-Encoding": name})
    for each in answer(order):
        yield chunk(packer.compress(each) + packer.flush(zlib.Z_SYNC_FLUSH))
    yield chunk(packer.flush())
    yield end()


def plain_json(order: Order, draw: random.Random) -> Iterator[Step]:
    message = {"role": "assistant", "content": order.said}
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(order.choices)]
    yield from status(200, {"id": order.marker, "model": "m1", "choices": choices}, {"x-request-id": order.marker})


def call(order: Order, draw: random.Random) -> Iterator[Step]:
    """The words as the arguments of a call."""
    yield opening(order)
    for index in range(order.choices):
        for number, word in enumerate(['"', *order.words, '"']):
            named = {"id": f"{order.marker}{index}", "function": {"name": "f", "arguments": word}}
            fragment = {"index": 0, **(named if not number else {"function": {"arguments": word}})}
            yield chunk(body(order, [{"index": index, "delta": {"tool_calls": [fragment]}}]))
    yield from map(chunk, finishes(order, "tool_calls"))
    yield chunk(DONE)
    yield end()


def chatter(order: Order, draw: random.Random) -> Iterator[Step]:
    """Comments, pings, unknown names and broken UTF-8 in between."""
    noise = [b": keep-alive\n\n", spelled("{}", "ping"), spelled("x", "unknown"), b": \xff\xfe\n\n", b"id: 7\n\n"]
    yield opening(order)
    for each in answer(order):
        yield chunk(draw.choice(noise))
        yield chunk(each)
    yield end()


def late_end(order: Order, draw: random.Random) -> Iterator[Step]:
    yield opening(order)
    yield from map(chunk, answer(order))
    yield pause(draw.choice([0.02, 0.2]))
    yield end()


def left_open(order: Order, draw: random.Random) -> Iterator[Step]:
    """After the last event, or already after the finish reason, nothing more comes."""
    yield opening(order)
    yield from map(chunk, answer(order)[: draw.choice([-1, None])])
    yield stall()


def without_done(order: Order, draw: random.Random) -> Iterator[Step]:
    yield opening(order)
    yield from map(chunk, [*words(order), *finishes(order)])
    yield draw.choice([end(), cut()])


def forgotten_blank_line(order: Order, draw: random.Random) -> Iterator[Step]:
    yield head(framing="close", headers={"x-request-id": order.marker})
    yield chunk(b"".join(answer(order)).rstrip(b"\n"))
    yield end()


def long(order: Order, draw: random.Random) -> Iterator[Step]:
    """A hundred kilobytes around the words."""
    filler = body(order, [{"index": 0, "delta": {"role": "assistant", "padding": "x" * 400}}])
    yield opening(order)
    yield from map(chunk, [filler * 200, *answer(order)])
    yield end()


# ── answers that break ──────────────────────────────────────────────────────────────────────────────────────────


def closed_at_once(order: Order, draw: random.Random) -> Iterator[Step]:
    yield draw.choice([cut(), reset()])


def cut_in_the_head(order: Order, draw: random.Random) -> Iterator[Step]:
    yield send(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev")
    yield cut()


def truncated(order: Order, draw: random.Random) -> Iterator[Step]:
    """Ended in an event, between two, in a chunk, in the packed bytes, or short of the length promised."""
    yield from draw.choice(
        [
            lambda: [*begun(order, draw), end()],
            lambda: [*begun(order, draw), cut()],
            lambda: [*begun(order, draw), chunk(words(order)[-1][:-9]), draw.choice([cut(), end()])],
            lambda: [*begun(order, draw), send(b"ff\r\ndata: {"), cut()],
            lambda: [head(framing=9999), *map(chunk, words(order)), cut()],
            lambda: [head(framing="close"), *map(chunk, words(order)), end()],
            lambda: [
                opening(order, **{"Content-Encoding": "gzip"}),
                chunk(zlib.compress(b"".join(words(order)), wbits=31)[:-12]),
                end(),
            ],
        ]
    )()


def reset_inside(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from begun(order, draw)
    yield pause(draw.choice([0, 0.02]))
    yield reset()


def silent(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from draw.choice([list, lambda: begun(order, draw)])()
    yield stall()


def for_long(every: float, *steps: Step) -> Step:
    """The steps again and again, until the client goes; at most for `LONGEST`."""

    def step(wire: Wire) -> None:
        ends = time.monotonic() + LONGEST
        while time.monotonic() < ends:
            for each in steps:
                each(wire)
            wire.wait(every)
        cut()(wire)

    return step


def comments_only(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from begun(order, draw)
    yield for_long(0.03, chunk(b": still here\n\n"))


def dripping(order: Order, draw: random.Random) -> Iterator[Step]:
    """Byte by byte: the status line's, a chunk size's, or an event's."""
    drop = [
        lambda: [send(b"HTTP/1.1 200 OK\r\nx: "), for_long(0.05, send(b"y"))],
        lambda: [*begun(order, draw), for_long(0.05, send(b"0"))],
        lambda: [*begun(order, draw), chunk(b"data: "), for_long(0.05, chunk(b"x"))],
    ]
    yield from draw.choice(drop)()


def error_event(order: Order, draw: random.Random) -> Iterator[Step]:
    error = {"message": f"no luck {order.marker}", "code": draw.choice([500, 429, "overloaded", "bad_word", None])}
    yield from begun(order, draw)
    yield chunk(draw.choice([spelled({"error": error}), spelled({"error": error}, "error"), spelled({"detail": "no"})]))
    yield end()


def refused_for_good(order: Order, draw: random.Random) -> Iterator[Step]:
    code = draw.choice([400, 401, 403, 404, 413, 422, 301, 302])
    yield from status(code, {"error": {"message": f"not you {order.marker}"}}, {"x-request-id": order.marker})


def refused_for_now(order: Order, draw: random.Random) -> Iterator[Step]:
    code = draw.choice([408, 409, 429, 500, 502, 503, 504, 529])
    wait = draw.choice([{}, {}, {"Retry-After": "0.1"}, {"retry-after-ms": "50"}, {"Retry-After": "abc"}])
    yield from status(code, {"error": f"not now {order.marker}"}, {"x-request-id": order.marker, **wait})


def refused_for_an_hour(order: Order, draw: random.Random) -> Iterator[Step]:
    wait = draw.choice(["3600", "inf", "Fri, 31 Dec 2099 23:59:59 GMT"])
    yield from status(429, f"later {order.marker}", {"Retry-After": wait, "x-request-id": order.marker})


def quota_spent(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from status(429, {"error": {"message": order.marker, "code": "insufficient_quota"}})


def endless_refusal(order: Order, draw: random.Random) -> Iterator[Step]:
    yield head(500, {"Content-Type": "text/plain"})
    yield for_long(0.02, chunk(b"no " * 2000))


def huge_line(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from begun(order, draw)
    yield chunk(b"data: ")
    for _ in range(EVENT_LIMIT // 2**14 + 2):
        yield chunk(b"x" * 2**14)
    yield stall()


def bomb(order: Order, draw: random.Random) -> Iterator[Step]:
    yield opening(order, **{"Content-Encoding": "gzip"})
    yield chunk(BOMB)
    yield stall()


BOMB = zlib.compress(b"data: " + b"x" * 2**24, wbits=31)


def broken_framing(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from begun(order, draw)
    yield send(draw.choice([b"zz\r\n", b"-5\r\n", b"%x\r\n" % 2**71, b"5\r\nabcdefgh\r\n"]))
    yield cut()


def not_http(order: Order, draw: random.Random) -> Iterator[Step]:
    yield send(draw.choice([b"220 mail ready\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 2\r\n\r\n"]))
    yield cut()


def not_a_stream(order: Order, draw: random.Random) -> Iterator[Step]:
    text = draw.choice(["<html><title>Hello</title></html>", "It works!"])
    yield from status(200, f"{text} {order.marker}")


def nothing(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from status(200)


def broken_json(order: Order, draw: random.Random) -> Iterator[Step]:
    yield from begun(order, draw)
    yield chunk(spelled(draw.choice(['{"choices": [', "no json", "[1, 2]", '{"a": 1} {"b": 2}'])))
    yield end()


def not_packed(order: Order, draw: random.Random) -> Iterator[Step]:
    yield opening(order, **{"Content-Encoding": "gzip"})
    yield from map(chunk, answer(order))
    yield end()


def kind(script: Callable[[Order, random.Random], Iterable[Step]], outcomes: str, weight: int = 1) -> Kind:
    return Kind(script, frozenset(outcomes.split()), weight)


KINDS = {
    "whole": kind(whole, "whole", 10),
    "in_one_piece": kind(in_one_piece, "whole", 2),
    "slow": kind(slow, "whole", 6),
    "cut_anywhere": kind(cut_anywhere, "whole", 2),
    "until_the_end": kind(until_the_end, "whole", 2),
    "with_a_length": kind(with_a_length, "whole"),
    "packed": kind(packed, "whole", 3),
    "plain_json": kind(plain_json, "whole"),
    "call": kind(call, "whole", 2),
    "chatter": kind(chatter, "whole", 2),
    "late_end": kind(late_end, "whole", 2),
    "left_open": kind(left_open, "whole", 2),
    "without_done": kind(without_done, "whole"),
    "forgotten_blank_line": kind(forgotten_blank_line, "whole"),
    "long": kind(long, "whole"),
    "closed_at_once": kind(closed_at_once, "ConnectionFailed", 2),
    "cut_in_the_head": kind(cut_in_the_head, "StreamTruncated ConnectionFailed"),
    "truncated": kind(truncated, "StreamTruncated", 4),
    "reset_inside": kind(reset_inside, "StreamTruncated ConnectionFailed", 3),
    "silent": kind(silent, "IdleTimeout", 3),
    "comments_only": kind(comments_only, "IdleTimeout", 2),
    "dripping": kind(dripping, "IdleTimeout ProtocolViolation", 2),
    "error_event": kind(error_event, "ProviderError", 3),
    "refused_for_good": kind(refused_for_good, "UnexpectedStatus", 2),
    "refused_for_now": kind(refused_for_now, "RetryLimit", 4),
    "refused_for_an_hour": kind(refused_for_an_hour, "UnexpectedStatus"),
    "quota_spent": kind(quota_spent, "QuotaExceeded"),
    "endless_refusal": kind(endless_refusal, "RetryLimit"),
    "huge_line": kind(huge_line, "StreamTooLarge"),
    "bomb": kind(bomb, "StreamTooLarge"),
    "broken_framing": kind(broken_framing, "ProtocolViolation", 2),
    "not_http": kind(not_http, "ProtocolViolation"),
    "not_a_stream": kind(not_a_stream, "ProtocolViolation"),
    "nothing": kind(nothing, "StreamTruncated"),
    "broken_json": kind(broken_json, "ProtocolViolation", 2),
    "not_packed": kind(not_packed, "ProtocolViolation"),
}
