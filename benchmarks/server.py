"""The server process: answers every request with the stream that its URL describes.

    /<shape>/<events>/<framing>/<seconds between two events>/v1/chat/completions ──▶ the stream

Rules:
- Only the standard library, one thread, 127.0.0.1, HTTP/1.1 with keep-alive; TLS if a certificate is given.
- Without a pause the whole stream is sent at once from one buffer, so that only the work of the client is measured.
- With a pause each event contains the time at which it was sent; `IDLE` sends one event and then nothing.
- One SSE event per HTTP chunk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import monotonic_ns
from typing import NamedTuple

from .shapes import last_events, sse_events, stamped_event

FRAMINGS = ("chunked", "close", "http10", "length", "gzip")
IDLE = 3600.0  # seconds; a pause that keeps the stream open without events
ROOT = Path(__file__).parents[1]


class StreamSpec(NamedTuple):
    """The stream that a URL describes, and whether the request body includes usage."""

    shape: str
    events: int
    framing: str
    pause: float
    usage: bool


def path(shape: str = "text", events: int = 5000, framing: str = "chunked", pause: float = 0.0) -> str:
    """The path of a base URL."""
    return f"/{shape}/{events}/{framing}/{pause}/v1"


class _Server:
    """``connections`` counts the connections on which a stream was requested."""

    def __init__(self) -> None:
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            counted = False
            while (request := await _request(reader)) is not None:
                target, body = request
                if target == "/connections":
                    writer.write(_text_response(str(self.connections).encode()))
                else:
                    self.connections += not counted
                    counted = True
                    spec = _spec_of(target, body)
                    await _answer(writer, spec)
                    if spec.framing in ("close", "http10"):
                        break
                await writer.drain()
        writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes] | None:
    """The target and the body of the next request; None when the client has disconnected."""
    with suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        return head.split(" ", 2)[1], await reader.readexactly(int(headers.get("content-length", 0)))
    return None


def _spec_of(target: str, body: bytes) -> StreamSpec:
    shape, events, framing, pause = target.split("/")[1:5]
    usage = bool((json.loads(body).get("stream_options") or {}).get("include_usage"))
    return StreamSpec(shape, int(events), framing, float(pause), usage)


async def _answer(writer: asyncio.StreamWriter, spec: StreamSpec) -> None:
    if not spec.pause:
        writer.write(_whole_response(spec))
        return
    framed, last = _framing(spec.framing)
    writer.write(_head(spec))
    async for event in _paced_events(spec):
        if writer.is_closing():  # the client has disconnected
            return
        writer.write(framed(event()))
    writer.write(last())


async def _paced_events(spec: StreamSpec) -> AsyncIterator[Callable[[], bytes]]:
    """Functions that return the next event, each when it is due; they read the clock when they are called."""
    for _ in range(spec.events):
        yield lambda: stamped_event(monotonic_ns())
        await asyncio.sleep(spec.pause)
    for event in last_events(spec.shape, spec.usage):
        yield lambda event=event: event


@cache
def _whole_response(spec: StreamSpec) -> bytes:
    framed, last = _framing(spec.framing)
    events = sse_events(spec.shape, spec.events, spec.usage)
    return b"".join([_head(spec), *map(framed, events), last()])


def _head(spec: StreamSpec) -> bytes:
    version = "1.0" if spec.framing == "http10" else "1.1"
    lines = [f"HTTP/{version} 200 OK", "Content-Type: text/event-stream; charset=utf-8", "x-request-id: req_bench"]
    if spec.framing in ("chunked", "gzip"):
        lines.append("Transfer-Encoding: chunked")
    if spec.framing == "gzip":
        lines.append("Content-Encoding: gzip")
    if spec.framing == "close":
        lines.append("Connection: close")
    if spec.framing == "length":
        lines.append(f"Content-Length: {_length(spec)}")
    return "\r\n".join([*lines, "\r\n"]).encode()


def _length(spec: StreamSpec) -> int:
    if not spec.pause:
        return sum(map(len, sse_events(spec.shape, spec.events, spec.usage)))
    return spec.events * len(stamped_event(0)) + sum(map(len, last_events(spec.shape, spec.usage)))


def _framing(name: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """The function that frames an event, and the function that returns the end of the body."""
    if name == "chunked":
        return _chunk, lambda: b"0\r\n\r\n"
    if name != "gzip":
        return bytes, bytes
    compressor = zlib.compressobj(wbits=31)
    return (
        lambda event: _chunk(compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)),
        lambda: _chunk(compressor.flush()) + b"0\r\n\r\n",
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _text_response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def _serve(certificate: str | None) -> None:
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = await asyncio.start_server(_Server().handle, "127.0.0.1", 0, backlog=1000, ssl=tls)
    scheme = "https" if tls else "http"
    print(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the parent process exits


@contextmanager
def running(certificate: str | None = None) -> Iterator[str]:
    """Starts a server process; yields its URL without a path."""
    command = [sys.executable, "-m", "benchmarks.server", *(["--certificate", certificate] if certificate else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--certificate", help="a PEM file with a key and a certificate, for TLS")
    asyncio.run(_serve(parser.parse_args().certificate))
