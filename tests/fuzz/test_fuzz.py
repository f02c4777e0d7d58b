"""Any bytes at all, and real streams with a few bytes wrong: `read_events` ends in events or in an error of the house.

What `make fuzz` found is pinned below as plain tests.
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
from reading import check_answer, check_events
from strategies import NOISY_BYTES, ODD_CHUNKS, TOKENS

from chatstream.errors import ChatStreamError
from chatstream.types.limits import Limits

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
SHORT = 900  # bytes

# The same examples in every run, as for the laws.
law = settings(
    deadline=None, derandomize=True, max_examples=150, database=None, suppress_health_check=list(HealthCheck)
)
PLACES = st.lists(st.integers(0, SHORT), max_size=12)


def bodies() -> list[bytes]:
    """Beginnings and ends of all recorded bodies."""
    found = [path.read_bytes().partition(b"\r\n\r\n")[2] for path in sorted(RECORDINGS.rglob("*.http"))]
    return sorted({part for body in found for part in (body[:SHORT], body[-SHORT:])})


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recorded body in which a few places were cut out, said twice, or replaced."""
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


# ── the laws ────────────────────────────────────────────────────────────────────────────────────────────────────


@law
@given(mutated(), PLACES, st.integers(1, 2))
def test_a_real_stream_with_some_bytes_wrong_ends_in_the_same_way_however_it_is_cut(data, places, choices):
    check_answer(data, places, choices)
    check_events(data, places)


@law
@given(NOISY_BYTES | st.binary(max_size=400), PLACES)
def test_any_bytes_end_in_the_same_way_however_they_are_cut(data, places):
    check_answer(data, places)
    check_events(data, places)


@settings(law, max_examples=25)
@given(mutated() | st.binary(max_size=300), st.sampled_from([b"", b"data: ", b"\n", b": "]))
def test_what_is_held_of_an_endless_stream_has_a_bound(data, start):
    """Whatever repeats for ever: it is read in the memory of the limits, and ends at the last of them."""
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


# ── counterexamples found ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("letter", ["x", "é", "日"])
def test_the_excerpt_of_a_long_text_is_the_same_however_it_is_cut(letter):
    """Up to twice 2048 bytes were kept, or just these, with half of a wide letter at their end."""
    data = (letter * 5000).encode()
    for size in (2000, 1500, 1):
        check_answer(data, range(0, len(data), size))
