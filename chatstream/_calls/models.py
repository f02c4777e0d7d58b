"""The names of the models that a server lists: ``GET {base_url}/models``.

    Sender.send ─▶ Reply ─body, read to its end▶ JSON ─ids_of▶ ["gpt-4o", …]

Rules:
- The request has the key, the limits, the retries and the errors of any other call.
- A list that breaks off is fetched again, as a stream is that breaks before its first event.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .._decode.error_body import error_detail
from .._decode.lenient import check_containers, load
from .._http.reply import Reply
from ..errors import (
    ChatStreamError,
    ProtocolViolation,
    ProviderError,
    StreamError,
    StreamTooLarge,
    excerpt,
    idle_timeout,
)
from ..types.limits import Limits
from ..types.text import without_surrogates
from .call import Call
from .sender import Sender

PATH = "/models"
LISTS = ("data", "models", "result")  # OpenAI and most; Cohere, Ollama; Cloudflare
NAMES = ("id", "name", "model")


def listed_models(sender: Sender, call: Call, limits: Limits) -> list[str]:
    """The ids of the models, in the order of the server. Raises the errors of `Client.stream`."""
    restarts = 0
    try:
        while True:
            reply = sender.send(call)
            try:
                return _ids(_text(reply, sender, call, limits), limits)
            except StreamError as error:
                call.redact(error)
                limit = sender.provider.stream_max_retries
                restarts = sender.backoff.wait_to_retry(call, error, restarts, limit)
            finally:
                reply.close()
    except ChatStreamError as error:
        call.annotate(error)
        raise


def _text(reply: Reply, sender: Sender, call: Call, limits: Limits) -> str:
    """The whole body."""
    body, seconds = bytearray(), sender.provider.stream_idle_timeout
    while True:
        call.scope.set_timeout(seconds, partial(idle_timeout, seconds, "stream_idle_timeout"))
        piece = reply.read()
        if not piece:
            return body.decode("utf-8", "replace")
        body += piece
        if len(body) > limits.event_bytes:
            raise StreamTooLarge(f"the list is longer than {limits.event_bytes} bytes (Limits.event_bytes)")


def _ids(text: str, limits: Limits) -> list[str]:
    check_containers(text, limits.json_containers)
    try:
        body = load(text.strip())
    except (ValueError, RecursionError):
        body = None
    found = body if isinstance(body, list) else None  # Together
    if isinstance(body, dict):
        found = next((body[key] for key in LISTS if isinstance(body.get(key), list)), None)
        if found is None and (detail := error_detail(body)):
            raise ProviderError(*detail[:4], detail.retry_after)
    if found is None:
        raise ProtocolViolation(f"the response is not a list of models; it begins with: {excerpt(text)!r}")
    return [name for each in found if (name := _name(each))]


def _name(model: Any) -> str:
    """The id of an entry; empty if it has none."""
    if isinstance(model, dict):
        model = next((model[key] for key in NAMES if isinstance(model.get(key), str)), "")
    return without_surrogates(model) if isinstance(model, str) else ""
