"""The clients behind `chatstream.stream`: one for each provider, so that its connections are used again."""

from __future__ import annotations

from ._runtime.locks import ForkSafeLock
from ._secrets import hidden
from .client import Client
from .providers.provider import Provider
from .providers.resolve import resolve

MOST_SHARED = 16  # clients; each keeps connections for reuse
_shared: dict[Provider, Client] = {}  # the one used last comes last
_sharing = ForkSafeLock()


def shared_client(provider: str | Provider) -> Client:
    """The client of this provider.

    Only the clients used last are kept. The connections of another one are closed; its open streams go on.
    """
    provider = hidden(provider)
    resolved = resolve(provider)
    with _sharing.current:
        client = _shared[resolved] = _shared.pop(resolved) if resolved in _shared else Client(resolved)
        dropped = _shared.pop(next(iter(_shared))) if len(_shared) > MOST_SHARED else None
    if dropped is not None:
        dropped.close()
    return client
