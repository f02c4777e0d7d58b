"""Options, the user's own file of providers and the environment → a `Client`.

    ~/.config/chatstream/providers.toml ─┐
    -p, -c, --base-url, --key-env, -m ───┴▶ Client

Rules:
- A table of the file comes before the built-in provider of the same id.
- ``model_provider`` and ``model`` at the top of the file are used if no option says otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._runtime.loopback import is_loopback
from .._secrets import Hidden, masked_if_key
from ..client import Client
from ..errors import ConfigError, MissingEnvVar
from ..providers.presets import PRESETS, load_toml, lookup
from ..providers.provider import Provider
from ..providers.resolve import DEFAULT_PROVIDER

_HOST = re.compile(r"[\w.-]+(:\d+)?(/\S*)?|\[[\da-fA-F:.]+](:\d+)?(/\S*)?")


def client_of(options: argparse.Namespace, **hooks: Any) -> Client:
    """The client that the options describe. Raises `ConfigError`."""
    path, settings = _config(options.config)
    own = settings.get("model_providers", {})
    url, is_chosen = options.base_url, options.provider is not None or options.base_url is not None
    id = options.provider if options.provider is not None else DEFAULT_PROVIDER
    if not is_chosen:
        id = settings.get("model_provider", DEFAULT_PROVIDER)
    provider: Provider | str = id
    if url is not None and id == DEFAULT_PROVIDER:
        url = with_scheme(url)  # `Client` makes a provider of it
    elif id in own:
        provider = Provider.from_toml(path, id)
    elif own and "://" not in id:
        lookup({**own, **PRESETS}, id, f"provider, neither built in nor in {path}")
    return Client(
        provider,
        base_url=url,
        api_key=key_of(options.key_env),
        model=options.model or (None if is_chosen else settings.get("model")),
        deadline=options.deadline,
        **hooks,
    )


def own_providers(config: str | None) -> dict[str, Provider]:
    """The providers of the user's file, by id. Raises `ConfigError`."""
    path, settings = _config(config)
    return Provider.from_toml(path) if settings.get("model_providers") else {}


def key_of(variable: str | None) -> str | None:
    """The key in an environment variable, hidden. Raises `MissingEnvVar` if that is unset or blank."""
    if variable is None:
        return None
    key = Hidden(os.environ.get(variable, "").strip())
    if not key:
        raise MissingEnvVar(masked_if_key(variable))
    return key


def with_scheme(url: str) -> str:
    """The URL of a server that may be written as a host, such as ``localhost:8080`` or ``api.example.com/v1``.

    ``http`` for IP addresses, for hosts of the local network and for ports other than 443, otherwise ``https``.
    Raises `ConfigError` if it is not a host.
    """
    if "://" in url:
        return url
    if not _HOST.fullmatch(url):
        raise ConfigError("this is not a server: use a URL, or a host such as localhost:8080 or api.example.com/v1")
    try:
        parts = urlsplit(f"//{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"the address of the server is invalid: {error}") from None
    local = "." not in host or host.endswith(".local") or host.replace(".", "").isdigit() or is_loopback(host)
    return f"{'http' if local or port not in (None, 443) else 'https'}://{url}"


def config_home() -> Path:
    """The directory of the user's settings (XDG Base Directory Specification)."""
    return _xdg("XDG_CONFIG_HOME", "~/.config")


def data_home() -> Path:
    """The directory of the user's data (XDG Base Directory Specification)."""
    return _xdg("XDG_DATA_HOME", "~/.local/share")


def _xdg(variable: str, default: str) -> Path:
    path = os.environ.get(variable, "")
    base = path if os.path.isabs(path) else os.path.expanduser(default)  # the specification ignores relative ones
    return Path(base, "chatstream")


def _config(option: str | None) -> tuple[Path, dict[str, Any]]:
    """The path and the content of the file that ``option`` names, or of the default one, which may not exist."""
    path = Path(option) if option else config_home() / "providers.toml"
    if not option and not path.exists():
        return path, {}
    try:
        settings = load_toml(path)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    for name, kind in (("model_providers", dict), ("model_provider", str), ("model", str)):
        if not isinstance(settings.get(name, kind()), kind):
            raise ConfigError(f"{path}: {name} must be a {'table' if kind is dict else 'string'}")
    return path, settings
