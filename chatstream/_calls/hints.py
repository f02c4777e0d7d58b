"""An error response, and the request that it answers → a hint: what the user may change.

    UnexpectedStatus + Request + Provider ─hint_of▶ "The request URL was http://127.0.0.1:8000/chat/completions: …"

Rules:
- A hint is added to the server's own sentence, never put in its place.
- It names variables, settings and addresses, and no value that may be secret.
- A page, or the text of a known proxy, did not come from the API: the hint says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .._http.transport import Request
from .._secrets import is_secret, masked_if_key
from ..errors import UnexpectedStatus
from ..providers.provider import Provider

ENDPOINTS = ("responses", "messages", "completions", "chat", "generate", "models", "embeddings")  # of other interfaces
PROXY = re.compile(
    r"\b(nginx|openresty|cloudflare|cloudfront|haproxy|envoy|varnish|squid|traefik|caddy|awselb|apache|microsoft-iis)\b",
    re.I,
)
# What proxies say as text: Envoy; HAProxy; Traefik and Go
PROXY_TEXT = re.compile(r"upstream connect error|no healthy upstream|no server is available|bad gateway\s*$", re.I)
# nginx and Cloudflare; Go; Apache
TLS_PORT = re.compile(r"plain HTTP|HTTP request (was sent )?to an? (HTTPS|SSL|TLS)", re.I)
UNKNOWN_MODEL = re.compile(
    r"\bmodel\b.*\b(not found|not exist|unknown|not available|no access)|"
    r"\b(unknown|invalid|no such|not a valid)\b.*\bmodel\b|\bdeployment\b.*\bnot exist",
    re.I | re.S,
)
GATEWAY = (502, 503, 504)
END_OF_BASE = "does base_url end with the root of the API, often /v1?"
Headers = Mapping[str, str]


def hint_of(
    error: UnexpectedStatus, request: Request, provider: Provider, *, model: str, headers: Headers, session: Any
) -> str:
    """What to do about an error response; empty if nothing is known.

    ``headers`` are those of the answer, ``session`` is the caller's own, which may send a key, too.
    """
    status = error.status
    if status == 400 and TLS_PORT.search(f"{error.message} {error.body[:2000]}"):
        return "The port speaks TLS: write https:// in base_url."
    if status in (400, 404) and model and _names_unknown_model(error, model):
        return f"The server may not have the model {masked_if_key(model)!r}; client.models() lists its models."
    return " ".join(filter(None, (_intermediary_hint(error, headers), _status_hint(error, request, provider, session))))


def _status_hint(error: UnexpectedStatus, request: Request, provider: Provider, session: Any) -> str:
    address = request.url.partition("?")[0]  # the query may hold a key
    if error.status in (401, 403):
        return _key_hint(request, provider, session)
    if error.status == 404:
        return f"The request URL was {address}: {_base_url_hint(provider)}"
    if error.status == 405:
        return f"{address} does not accept {request.method} requests: {END_OF_BASE}"
    if error.status == 413:
        return f"The request has {len(request.body)} bytes: shorten the conversation, or its images and files."
    if error.status == 415:
        return f"The request was sent as {request.headers.get('Content-Type')} to {address}."
    if error.status == 429 and not error.body and error.retry_after is None:
        return "The server does not say how long to wait."
    return ""


def _intermediary_hint(error: UnexpectedStatus, headers: Headers) -> str:
    """Who has answered, if it was not the API."""
    is_page = error.body.lstrip()[:1] == "<"
    name = PROXY.search(f"{headers.get('Server', '')} {error.body[-300:]}")
    is_proxys = is_page or not error.body or PROXY_TEXT.search(error.body[:2000])
    if not (name and is_page) and not (error.status in GATEWAY and is_proxys and (name or error.body)):
        return ""
    who = f"{name[1].lower()}, a proxy or web server" if name else "a proxy"
    return f"The answer came from {who} in front of the API, and not from the API itself."


def _names_unknown_model(error: UnexpectedStatus, model: str) -> bool:
    code = str(error.code).lower()
    if "model_not_found" in code or code == "deploymentnotfound":  # OpenAI, Groq; Azure
        return True
    named = re.search(rf"(?<!\w){re.escape(model)}(?!\w)", error.message) is not None
    unknown = UNKNOWN_MODEL.search(error.message) is not None
    return (named or unknown) if error.status == 404 else (named and unknown)


def _base_url_hint(provider: Provider) -> str:
    """What may be wrong with a base URL at which nothing was found."""
    base = urlsplit(provider.base_url.partition("?")[0])
    path = base.path.rstrip("/")
    last = path.rpartition("/")[2]
    if path.endswith("/chat/completions"):
        return "base_url ends in /chat/completions and is used unchanged; is /v1 missing before that?"
    if last in ENDPOINTS:
        return f"base_url should not end in /{last}, which belongs to another API: remove it."
    if len(re.findall(r"/v\d", path)) > 1:
        return "does base_url contain the version, such as /v1, twice?"
    if not re.search(r"/v\d", path):
        return f"is /v1 missing in base_url, as in {base.scheme}://{base.netloc}{path}/v1?"
    return END_OF_BASE


def _key_hint(request: Request, provider: Provider, session: Any) -> str:
    """Which key was sent, by the name of the setting that it came from."""
    names = ("authorization", provider.key_header.lower())
    for name, variable in provider.env_http_headers.items():
        if name.lower() in names and name in request.headers:
            return f"The key came from the environment variable {masked_if_key(variable)}, in the header {name}."
    if any(name.lower() in names for name in provider.http_headers):
        return "The key came from http_headers."
    if request.key is not None:
        if provider.api_key is None and provider.env_key is not None:
            return f"The key came from the environment variable {masked_if_key(provider.env_key)}."
        return "The key was passed as api_key."
    if any(is_secret(*each) for each in parse_qsl(urlsplit(request.url).query)):
        return "The key came from the query of the URL."
    if getattr(session, "auth", None) or "authorization" in map(str.lower, getattr(session, "headers", None) or ()):
        return "The key came from the session."
    return "No key was sent: pass it as api_key, or name its environment variable in env_key."
