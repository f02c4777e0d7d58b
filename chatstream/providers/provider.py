"""Where to ask, and as whom: a server's URL, headers and key, and what it wants done differently.

Rules:
- A `Provider` that exists is right: what can't work raises `ConfigError` when it is made, and says what to do.
- The environment is read at each request, so that a renewed key is seen.
- A key given directly stays in this process: it is in no repr, no pickle, no message (P6).
- Nothing is sent from here; the transport asks for `url`, `headers` and `auth_header`, and joins them.
"""

from __future__ import annotations

import ipaddress
import os
import warnings
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Literal, overload
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from .._dataclass import frozen
from ..errors import ConfigError, MissingEnvVar
from . import checks, presets

_warned: set[str] = set()  # hosts that were warned about


class _Secret:
    """A key that shows itself to nobody but `Provider.key`; copies keep it, pickles hold None in its place."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> _Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Secret:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


@frozen
class Provider:
    """One server that speaks Chat Completions. All times are seconds. Raises `ConfigError` for what can't work.

    - ``base_url``: everything before ``path``; a query in it is kept, ``query_params`` are added to it.
    - ``env_key``: the variable that holds the key, ``env_key_instructions`` what to tell who has not set it.
      ``api_key`` is the key itself; a pickled provider comes back without it, so use ``env_key`` across processes.
    - ``http_headers`` are sent as given, ``env_http_headers`` name a variable each; both win over the library's own.
    - ``key_header``: ``Authorization`` carries ``Bearer <key>``, any other header the bare key.
    - ``path``: may hold ``{model}``. ``model`` is used when a call names none.
    - ``request_max_retries``: sends after the first; ``stream_max_retries``: restarts of a broken stream.
    - ``connect_timeout`` bounds the connection, ``first_event_timeout`` the wait for the first event (None: like the
      others), ``stream_idle_timeout`` the wait between events, ``max_retry_after`` the wait a server may ask for,
      ``finish_grace`` the wait for usage and ``[DONE]`` after the last finish reason.
    - ``echo_reasoning``: the key under which reasoning is sent back; strict servers reject it, so None.
    - ``stream_usage``: ask for ``stream_options``. ``developer_role``: False sends such messages as ``system``.
      ``other_tools``: let tools through that are not functions.
    - ``keepalive_resets_idle``: comments count as life. ``skip_undecodable``: drop and count events that are not
      JSON. ``eof_completes``: for a server that sends neither finish reason nor ``[DONE]``.
    - ``think_tags``: names of tags inside which a model writes its reasoning into the text, like ``("think",)``.
    """

    name: str
    base_url: str
    env_key: str | None = None
    env_key_instructions: str | None = None
    query_params: Mapping[str, str] = field(default_factory=dict, hash=False)
    http_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    env_http_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    request_max_retries: int = 4
    stream_max_retries: int = 5
    stream_idle_timeout: float = 300.0
    first_event_timeout: float | None = None
    connect_timeout: float = 10.0
    api_key: str | _Secret | None = None
    key_header: str = "Authorization"
    path: str = "/chat/completions"
    model: str | None = None
    echo_reasoning: Literal["reasoning_content", "reasoning"] | None = None
    stream_usage: bool = True
    developer_role: bool = True
    other_tools: bool = False
    keepalive_resets_idle: bool = False
    skip_undecodable: bool = False
    eof_completes: bool = False
    max_retry_after: float = 60.0
    finish_grace: float = 2.0
    think_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields({each.name: getattr(self, each.name) for each in fields(self)})
        for name in checks.TABLES:
            # A copy, because the caller may change its own; a dict, because read-only views can't be pickled.
            object.__setattr__(self, name, dict(getattr(self, name)))
        object.__setattr__(self, "think_tags", tuple(self.think_tags))
        if self.api_key is not None and not isinstance(self.api_key, _Secret):
            object.__setattr__(self, "api_key", _Secret(checks.checked_key(self.api_key, "api_key")))

    def __repr__(self) -> str:
        values = [(each, getattr(self, each.name)) for each in fields(self)]
        shown = [f"{each.name}={_shown(each.name, value)}" for each, value in values if value not in (each.default, {})]
        return f"Provider({', '.join(shown)})"

    @staticmethod
    def named(id: str, environ: Mapping[str, str] | None = None) -> Provider:
        """A ready-made provider, like ``openai`` or ``ollama``; for its URL ``environ`` is read now.

        Raises `ConfigError` with the known ids for an unknown one, `MissingEnvVar` for `azure` without endpoint.
        """
        return Provider(**presets.ready_made(id, os.environ if environ is None else environ))

    @overload
    @staticmethod
    def from_toml(path: str | os.PathLike[str], id: None = None) -> dict[str, Provider]: ...

    @overload
    @staticmethod
    def from_toml(path: str | os.PathLike[str], id: str) -> Provider: ...

    @staticmethod
    def from_toml(path: str | os.PathLike[str], id: str | None = None) -> Provider | dict[str, Provider]:
        """Own providers by id, or the one named ``id``, from the tables ``[model_providers.<id>]`` of a TOML file.

        The keys are the fields of `Provider`; ``name`` is the id if missing. Raises `ConfigError` naming file, table
        and key, or `OSError` when the file can't be read.
        """
        tables = presets.read_toml(path)
        if id is not None:
            return _from_table(path, id, presets.lookup(tables, id, f"provider in {os.fspath(path)} named"))
        return {each: _from_table(path, each, table) for each, table in tables.items()}

    def key(self, environ: Mapping[str, str] | None = None) -> str | None:
        """The key for one request: ``api_key``, else what ``env_key`` names now, else None.

        Raises `MissingEnvVar` when the variable is unset or blank, `ConfigError` when no header can carry its value.
        """
        if isinstance(self.api_key, _Secret):
            return self.api_key._value
        if self.env_key is None:
            return None
        value = _variable(self.env_key, environ)
        if not value:
            raise MissingEnvVar(self.env_key, self.env_key_instructions)
        return checks.checked_key(value, f"environment variable {self.env_key}")

    def headers(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """The provider's own headers, no name twice in any case; an env header replaces a literal one (P3).

        The key is not among them (see `auth_header`). Raises `ConfigError` when a variable holds no header value.
        """
        merged = {name.lower(): (name, value) for name, value in self.http_headers.items()}
        for name, variable in self.env_http_headers.items():
            value = checks.checked_header(_variable(variable, environ), f"environment variable {variable}")
            if value:
                merged[name.lower()] = (name, value)
        return dict(merged.values())

    def auth_header(self, environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
        """The header that carries the key; None without a key, or when `headers` has one of that name already."""
        if self.key_header.lower() in map(str.lower, self.headers(environ)):
            return None
        key = self.key(environ)
        if key is None:
            return None
        if self.key_header.lower() == "authorization":
            return "Authorization", f"Bearer {key}"
        return self.key_header, key

    def url(self, model: str) -> str:
        """Where to POST for ``model``. A base URL that is already the whole address is taken as it is.

        A parameter that the base URL's query has already is not sent twice. Raises `ConfigError` when the path needs
        a model and ``model`` can't be part of one.
        """
        parts = urlsplit(self.base_url)
        path = parts.path.rstrip("/")
        if not path.endswith("/chat/completions"):
            path = f"{path}/{_filled(self.path, model)}".rstrip("/")
        present = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        added = {name: value for name, value in self.query_params.items() if name not in present}
        query = "&".join(filter(None, (parts.query, urlencode(added, quote_via=quote))))
        return urlunsplit((parts.scheme, parts.netloc, path, query, ""))

    def warn_if_plain(self, environ: Mapping[str, str] | None = None) -> None:
        """Warn (`UserWarning`, once per host and process) when a key would cross the network unencrypted (P4)."""
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        if parts.scheme == "https" or _is_loopback(host) or host in _warned or not self._sends_key(environ):
            return
        _warned.add(host)
        warnings.warn(f"a key is sent to {host} unencrypted: give it an https:// base_url", UserWarning, stacklevel=2)

    def _sends_key(self, environ: Mapping[str, str] | None) -> bool:
        own = {name.lower() for name in self.headers(environ)}
        return bool(own & {"authorization", self.key_header.lower()}) or self.key(environ) is not None


def _from_table(path: str | os.PathLike[str], id: str, table: object) -> Provider:
    try:
        return Provider(**presets.table_fields(id, table, [each.name for each in fields(Provider)]))
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: [model_providers.{id}]: {error}") from None


def _variable(name: str, environ: Mapping[str, str] | None) -> str:
    return (os.environ if environ is None else environ).get(name, "").strip()


def _filled(path: str, model: str) -> str:
    if "{model}" not in path:
        return path.strip("/")
    if not (model.isprintable() and model.strip(" .")):  # dots alone would climb out of the path
        raise ConfigError("the model's name is part of this provider's URL: give one")
    return path.strip("/").replace("{model}", quote(model, safe=""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3


def _shown(name: str, value: Any) -> str:
    if name in ("http_headers", "query_params"):  # people keep keys in both
        return repr(dict.fromkeys(value, "***"))
    if name == "base_url" and "?" in value:
        return repr(value.partition("?")[0] + "?***")
    return repr(value)
