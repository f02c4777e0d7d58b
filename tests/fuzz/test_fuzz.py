"""Any bytes, and real streams with mutations: `read_events` yields events or raises a `ChatStreamError`.

Inputs that `make fuzz` has found are tests of their own below.
"""

from __future__ import annotations

import json
import tracemalloc
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from decoding import body_payloads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from properties import check_read_events, check_sse
from strategies import NOISY_BYTES, ODD_CHUNKS, TOKENS

from chatstream.errors import ChatStreamError
from chatstream.types.limits import Limits

pytestmark = pytest.mark.thorough

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
EXCERPT = 900  # bytes

reproducible = settings(  # the same examples in every run
    deadline=None, derandomize=True, max_examples=150, database=None, suppress_health_check=list(HealthCheck)
)
PLACES = st.lists(st.integers(0, EXCERPT), max_size=12)


def bodies() -> list[bytes]:
    """The beginnings and ends of all recorded bodies."""
    found = [path.read_bytes().partition(b"\r\n\r\n")[2] for path in sorted(RECORDINGS.rglob("*.http"))]
    return sorted({part for body in found for part in (body[:EXCERPT], body[-EXCERPT:])})


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recorded body with a few parts removed, repeated or replaced."""
    data = bytearray(draw(st.sampled_from(bodies())))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        stop = min(start + draw(st.sampled_from([0, 1, 2, 20, 300])), len(data))
        data[start:stop] = draw(
            st.sampled_from([b"", bytes(data[start:stop] * 2)]) | TOKENS | st.binary(max_size=4) | odd_event()
        )
    return bytes(data)


def odd_event() -> st.SearchStrategy[bytes]:
    return ODD_CHUNKS.map(lambda body: b"data: " + json.dumps(body).encode() + b"\n\n")


# ── properties ────────────────────────────────────────────────────────────────────────────────────────────────────


@reproducible
@given(mutated(), PLACES, st.integers(1, 2))
def test_a_mutated_recording_gives_the_same_result_whatever_the_size_of_its_pieces(data, places, choices):
    check_read_events(data, places, choices)
    check_sse(data, places)


@reproducible
@given(NOISY_BYTES | st.binary(max_size=400), PLACES)
def test_any_bytes_give_the_same_result_whatever_the_size_of_their_pieces(data, places):
    check_read_events(data, places)
    check_sse(data, places)


@settings(reproducible, max_examples=25)
@given(mutated() | st.binary(max_size=300), st.sampled_from([b"", b"data: ", b"\n", b": "]))
def test_an_endless_stream_raises_an_error_in_bounded_memory(data, start):
    """Repeated data ends in an error at the stream limit at the latest, in memory proportional to the event limit."""
    limits = Limits(event_bytes=2**14, event_lines=100, stream_bytes=2**18)

    def endless() -> Iterator[bytes]:
        yield start
        while True:
            yield (data or b"x") * (1 + 2000 // max(len(data), 1))

    tracemalloc.start()
    try:
        with pytest.raises(ChatStreamError):
            deque(body_payloads(endless(), limits), maxlen=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * limits.event_bytes


# ── inputs found by fuzzing ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("letter", ["x", "é", "日"])
def test_the_excerpt_of_a_long_text_is_the_same_whatever_the_size_of_its_pieces(letter):
    """The excerpt had between 2048 and 4096 bytes, or ended inside a character of several bytes."""
    data = (letter * 5000).encode()
    for size in (2000, 1500, 1):
        check_read_events(data, range(0, len(data), size))
