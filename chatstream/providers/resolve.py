"""The ``provider`` of a caller (an id, the URL of a server or a `Provider`) → a `Provider`.

Rules:
- A URL alone creates a provider without a key, so that the key of another server is never sent to it.
- The value may be a key, passed by mistake, so no message shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from .._secrets import has_key_prefix, looks_like_key, without_frames
from ..errors import ConfigError
from .presets import PRESETS
from .provider import Provider

DEFAULT_PROVIDER = "openai"
HINT = 'For another server, pass its URL (http://… or https://…); a model as model="…"; a key as api_key="…".'


def resolve(provider: object, base_url: str | None = None, api_key: str | Callable[[], str] | None = None) -> Provider:
    """The provider of an id or a URL, or ``provider`` itself; that of ``base_url`` in the place of the default one.

    ``api_key`` is the key for it. Raises `ConfigError` for an unknown id, a URL that can't work, or two servers.
    """
    if base_url is not None and provider != DEFAULT_PROVIDER:
        raise ConfigError(
            "provider and base_url were both given: pass only one of them; for a built-in provider at another URL, use "
            "dataclasses.replace(Provider.named(…), base_url=…)"
        )
    made = _of_argument(provider) if base_url is None else _at(base_url)
    if api_key is None:
        return made
    if made == Provider.named("local"):
        raise ConfigError("the local server has its own key: leave api_key out")
    try:
        return replace(made, api_key=api_key)
    except ConfigError as error:
        raise without_frames(error) from None


def _of_argument(provider: object) -> Provider:
    if isinstance(provider, Provider):
        return provider
    if not isinstance(provider, str):
        raise ConfigError(f"provider must be an id, the URL of a server or a Provider, not {type(provider).__name__}")
    if has_key_prefix(provider):
        raise ConfigError('the name of the provider looks like a key: pass a key as api_key="…"')
    if "://" in provider:
        return _at(provider)
    try:
        return Provider.named(provider)
    except ConfigError as error:
        if provider in PRESETS:  # what is wrong is in the environment
            raise
        raise ConfigError(f"{error}. {HINT}") from None


def _at(url: str) -> Provider:
    """A provider with default settings; its name is the host of its URL, unless that looks like a key."""
    if not isinstance(url, str):
        raise ConfigError(f"base_url must be a str, not {type(url).__name__}")
    host = re.match(r"\w+://([\w.:%\[\]-]+)", url)
    name = host[1] if host and not looks_like_key(host[1]) else "server"
    try:
        return Provider(name, str(url))  # not the text whose repr hides it
    except ConfigError as error:
        raise without_frames(error) from None
