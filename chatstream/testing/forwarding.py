"""A request that a server for tests has received → the answer of the real server, recorded as it is read.

The key is that of the real server's provider, else the one that the request has. Neither is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event

from .._calls.hooks import RequestInfo
from .._http.reply import Reply
from .._http.transport import Request
from .._recording.recorder import CallRecording, json_of
from .._redaction import secrets_of
from .._secrets import Hidden, is_secret, visible_headers, visible_url
from ..client import Client
from ..errors import ChatStreamError, MissingEnvVar
from ..providers.provider import CHAT, Provider
from .wire import ReceivedRequest

NOT_FORWARDED = ("host", "content-length", "connection", "accept-encoding", "transfer-encoding", "authorization")
SECONDS = 300.0  # that the real server may take
BASE = "/v1"


def forward(request: ReceivedRequest, client: Client, recording: CallRecording, is_closed: Event) -> Reply:
    """Send the request to the server of the client, and record both. Raises as `Client.stream`, without retries."""
    sender = client._open()  # starts the embedded server, if that is the real one
    provider, path, asked = sender.provider, request.path.removeprefix(BASE), json_of(request.body)
    model = str(asked.get("model") or "") if isinstance(asked, Mapping) else ""
    key = _key_of(provider, request)
    headers = _forwarded({**dict(request.headers), **provider.headers()}, key)
    sent = Request(
        provider.url(model) if path == CHAT else provider.endpoint(path),
        headers,
        request.body,
        key,
        provider.connect_timeout,
        request.method,
    )
    secrets = secrets_of(sent.url, headers, key)
    recording.request(_info(sent, provider, model), provider, secrets)
    scope = client._scope_of(SECONDS)  # which `Client.cancel` ends
    if is_closed.is_set():  # it was cancelled before
        scope.cancel()
    try:
        reply = sender.transport.send(sent, scope)
    except ChatStreamError as error:
        error.redact(secrets.redact)
        raise
    recording.response(reply, secrets)
    return reply


def _key_of(provider: Provider, request: ReceivedRequest) -> tuple[str, str] | None:
    """The key of the provider, else the one that the client has sent. Raises `ConfigError` if there is none."""
    value = request.headers.get("Authorization")
    of_client = ("Authorization", Hidden(value)) if value else None
    try:
        return provider.auth_header() or of_client
    except MissingEnvVar:
        if of_client is None:
            raise
        return of_client


def _forwarded(headers: Mapping[str, str], key: tuple[str, str] | None) -> dict[str, str]:
    """The headers that are passed on, without the key and those of the connection."""
    left_out = {*NOT_FORWARDED, key[0].lower() if key else ""}
    return {
        name: Hidden(value) if is_secret(name, value) else value
        for name, value in headers.items()
        if name.lower() not in left_out
    }


def _info(sent: Request, provider: Provider, model: str) -> RequestInfo:
    return RequestInfo(
        call=1,
        attempt=1,
        elapsed=0.0,
        provider=provider.name,
        model=model,
        method=sent.method,
        url=visible_url(sent.url),
        fields={},
        headers=visible_headers(sent.headers, sent.key),
        body=sent.body,
    )
