"""A failure to connect → what its user may look at: the port, the scheme of the URL."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from .._runtime.loopback import is_loopback
from .descriptions import lacks_tls

SERVERS = {  # by their usual port
    11434: "Ollama (ollama serve)",
    1234: "LM Studio (lms server start)",
    8080: "llama.cpp (llama-server)",
    8000: "vLLM (vllm serve)",
}
STANDARD_PORTS = {"http": 80, "https": 443}
WRITE_HTTP = "; if the port speaks plain HTTP, write http:// in base_url"
WRITE_HTTPS = "; if the port speaks TLS, write https:// in base_url"
CLOSED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def advice(url: str, causes: Sequence[BaseException], connecting: bool) -> str:
    """What to do about a failure of these ``causes``, as the end of a sentence; empty if nothing is known.

    ``connecting`` says that it came before the request, and so in the TLS handshake if not earlier.
    """
    last = causes[-1]
    if isinstance(last, ConnectionRefusedError):
        return _refused(url)
    if lacks_tls(last):
        return WRITE_HTTP
    scheme, port = urlsplit(url).scheme, urlsplit(url).port
    if not isinstance(last, CLOSED) or port in (None, STANDARD_PORTS[scheme]):
        return ""
    return WRITE_HTTPS if scheme == "http" else WRITE_HTTP if connecting else ""


def _refused(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or STANDARD_PORTS[parts.scheme]
    if not is_loopback(parts.hostname or ""):
        return f"; is {port} its port?"
    if port in SERVERS:
        return f"; is the server running? {port} is the usual port of {SERVERS[port]}"
    usual = ", ".join(f"{each} {server.partition(' (')[0]}" for each, server in SERVERS.items())
    return f"; is the server running, and is {port} its port? Usual ports: {usual}"
