"""The parts of the decoder, each driven alone over a whole source; for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chatstream import ChatStreamError, Limits, ResponseEvent
from chatstream._decode.chunk import Chunk, Payload
from chatstream._decode.machine import Machine
from chatstream._decode.sse import BodyDecoder, SSEDecoder


def sse_events(
    source: Iterable[bytes], limits: Limits | None = None, decoder: SSEDecoder | None = None
) -> Iterator[Payload]:
    """The SSE events of a source, as the specification dispatches them."""
    decoder = decoder or SSEDecoder(limits)
    for piece in source:
        yield from decoder.feed(piece)


def body_payloads(
    source: Iterable[bytes], limits: Limits | None = None, decoder: BodyDecoder | None = None
) -> Iterator[Payload]:
    """The payloads of a whole body, as the chunk reader gets them."""
    decoder = decoder or BodyDecoder(limits)
    for piece in source:
        yield from decoder.feed(piece)
    yield from decoder.close()


def run_machine(machine: Machine, chunks: Iterable[Chunk]) -> Iterator[ResponseEvent]:
    """The events of all chunks; on an error, what was held back comes before it is raised."""
    try:
        yield from machine.read(chunks)
        yield from machine.close()
    except ChatStreamError:
        yield from machine.abort()
        raise
