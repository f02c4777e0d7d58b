"""Settings of a server → the URL, the headers and the key of a request to it.

Rules:
- A `Provider` is checked when it is created: a setting that can't work raises `ConfigError`.
- The environment is read at each request, so that a renewed key takes effect.
- A key passed as ``api_key`` is only sent in requests: no repr, pickle, error message or stack frame contains it. The
  same holds for headers and parameters that `is_secret` finds, and for the values of environment variables.
- Nothing is sent from here. The sender puts `url`, `headers` and `auth_header` together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, Literal, overload
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from .._dataclass import frozen
from .._runtime.frames import warn
from .._runtime.imports import imports
from .._runtime.loopback import is_loopback
from .._secrets import Hidden, HiddenQuery, Sealed, is_secret, without_frames, without_query
from ..errors import ConfigError, MissingEnvVar
from . import checks, presets
from .shown import shown_fields

CHAT = "/chat/completions"
_warned_hosts: set[str] = set()


@frozen
class Provider:
    """A server with the Chat Completions API, and its settings. Raises `ConfigError` for settings that can't work.

    Address and key:

    - ``name``: the name in logs and error messages. ``base_url``: the URL before ``path``; its query is kept.
    - ``path``: appended to ``base_url``; may contain ``{model}``. ``query_params``: added to the query.
    - ``env_key``: the environment variable that holds the key; ``env_key_instructions`` says how to obtain one.
      ``api_key``: the key itself, or a function without parameters that is called before each request and returns it;
      an exception raised by it propagates. Pickling drops ``api_key``, so use ``env_key`` across processes.
    - ``key_header``: the header with the key: ``Bearer <key>`` in ``Authorization``, only the key in any other header.
    - ``http_headers``: a dict of header names and values. ``env_http_headers``: a dict of header names and names of the
      environment variables with the values. Both replace default headers of the same name.
    - ``model``: the model of calls that do not name one.

    Times, in seconds:

    - ``connect_timeout``: the limit for connecting. ``first_event_timeout``: the limit for the first event after the
      request (None: the same as ``stream_idle_timeout``). ``stream_idle_timeout``: the limit between two events.
    - ``finish_grace``: the time to wait for usage and ``[DONE]`` after the last finish reason.
    - ``max_retry_after``: the longest ``Retry-After`` to wait for; if the server asks for more, its error is raised.
    - ``rate_limit_timeout``: the total time that a call waits for rate limits whose duration the server states.

    Retries:

    - ``request_max_retries``: how often a failed request is retried. ``stream_max_retries``: how often a stream that
      broke off is restarted, while the caller has received nothing of it. 0 means never, even after a rate limit.
    - ``retry_budget``: the number of retries that all calls of a client share; each new call adds a quarter of a retry,
      up to this number. None: unlimited.

    Differences between servers:

    - ``stream_usage``: send ``stream_options`` to ask for token usage. ``developer_role``: False sends messages of the
      role ``developer`` as ``system``. ``other_tools``: allow tools that are not functions.
    - ``echo_reasoning``: the field of assistant messages in which reasoning is sent back to the server, or None.
      ``echo_reasoning_always`` adds the field to every assistant message, empty if there was no reasoning.
      ``echo_reasoning_scope``: ``turn`` sends back only the reasoning that follows the last user message.
    - ``check_history``: raise `ConfigError` for a conversation that servers would reject; False: send it unchecked.
    - ``keepalive_resets_idle``: SSE comments restart the idle timeout. ``skip_undecodable``: skip and count events that
      are not JSON. ``eof_completes``: the end of the response completes an answer.
    - ``think_tags``: names of tags around reasoning inside the text; ``("think",)`` means ``<think>…</think>``.
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
    api_key: str | Callable[[], str] | Sealed | None = None
    key_header: str = "Authorization"
    path: str = "/chat/completions"
    model: str | None = None
    echo_reasoning: Literal["reasoning_content", "reasoning", "reasoning_details"] | None = None
    echo_reasoning_always: bool = False
    echo_reasoning_scope: Literal["all", "turn"] = "all"
    check_history: bool = True
    stream_usage: bool = True
    developer_role: bool = True
    other_tools: bool = False
    keepalive_resets_idle: bool = False
    skip_undecodable: bool = False
    eof_completes: bool = False
    max_retry_after: float = 60.0
    rate_limit_timeout: float = 600.0
    retry_budget: int | None = 20
    finish_grace: float = 2.0
    think_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            checks.check_fields({each.name: getattr(self, each.name) for each in fields(self)})
            if self.api_key is not None and not isinstance(self.api_key, Sealed):
                key = self.api_key if callable(self.api_key) else checks.checked_key(self.api_key, "api_key")
                object.__setattr__(self, "api_key", Sealed(key))
        except ConfigError as error:
            for each in fields(self):  # the frame shows what is left of this provider
                object.__setattr__(self, each.name, each.default)
            raise without_frames(error) from None
        for name in checks.TABLES:
            # A copy, because the caller may change its own; a dict, because read-only views can't be pickled.
            object.__setattr__(self, name, {each: _marked(each, value) for each, value in getattr(self, name).items()})
        if "?" in self.base_url:
            object.__setattr__(self, "base_url", HiddenQuery(self.base_url))
        object.__setattr__(self, "think_tags", tuple(self.think_tags))

    def __setstate__(self, state: list[Any]) -> None:
        """A pickle has None in the place of a secret; a header or parameter without its value is left out."""
        for each, kept in zip(fields(self), state, strict=True):
            value = {k: v for k, v in kept.items() if v is not None} if each.name in checks.TABLES else kept
            object.__setattr__(self, each.name, value)

    def __repr__(self) -> str:
        """The fields that differ from their defaults, without what may be secret in them."""
        return f"Provider({', '.join(f'{name}={value}' for name, value in shown_fields(self))})"

    def _repr_html_(self) -> str:
        with imports():
            from .._display.html import table

        return table("Provider", shown_fields(self))

    @staticmethod
    def named(id: str, environ: Mapping[str, str] | None = None) -> Provider:
        """The built-in provider ``id``, such as ``openai`` or ``ollama``.

        ``environ`` (default: `os.environ`) may change its URL, and is read now. Raises `ConfigError` for an unknown id,
        and `MissingEnvVar` for ``azure`` if ``AZURE_OPENAI_ENDPOINT`` is unset or blank.
        """
        id = Hidden(id)  # it may be a key, passed by mistake
        try:
            return Provider(**presets.ready_made(id, os.environ if environ is None else environ))
        except ConfigError as error:
            if str(error).startswith("base_url"):
                error = ConfigError(f"the environment variable {presets.URL_VARIABLES[id]} can't be used: {error}")
            raise without_frames(error) from None

    @overload
    @staticmethod
    def from_toml(path: str | os.PathLike[str], id: None = None) -> dict[str, Provider]: ...

    @overload
    @staticmethod
    def from_toml(path: str | os.PathLike[str], id: str) -> Provider: ...

    @staticmethod
    def from_toml(path: str | os.PathLike[str], id: str | None = None) -> Provider | dict[str, Provider]:
        """Read the provider ``id`` from the TOML file at ``path``; without ``id``, a dict of all its providers.

        Each table ``[model_providers.<id>]`` is a provider, and its keys are the fields of `Provider`; ``name``
        defaults to the id. Raises `ConfigError` that names file, table and key, or `OSError` if it can't read the file.
        """
        id = None if id is None else Hidden(id)
        try:
            return _from_file(path, id)
        except ConfigError as error:
            raise without_frames(error) from None

    def key(self, environ: Mapping[str, str] | None = None) -> str | None:
        """The key for a request: ``api_key``, else the value of the variable ``env_key``, else None; its repr hides it.

        ``environ`` (default: `os.environ`) is read now. Raises `MissingEnvVar` if the variable is unset or blank,
        `ConfigError` if a header can't carry its value, and any exception of a function passed as ``api_key``.
        """
        if isinstance(self.api_key, Sealed):
            key: Any = self.api_key.open  # not called here, because the frame may show what it returns
            return checks.returned_key(key()) if self.api_key.is_function else key()
        if self.env_key is None:
            return None
        value = _variable(self.env_key, environ)
        if not value:
            raise MissingEnvVar(self.env_key, self.env_key_instructions)
        checks.checked_key(value, f"environment variable {self.env_key}")
        return value

    def headers(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """The headers of ``http_headers`` and ``env_http_headers``, without the key (see `auth_header`).

        Names are compared without regard to case, and a header from the environment replaces a literal one. It is left
        out if its variable is unset or blank. The repr of a secret value hides it. Raises `ConfigError` if a variable
        holds no valid header value.
        """
        merged = {name.lower(): (name, value) for name, value in self.http_headers.items()}
        for name, variable in self.env_http_headers.items():
            value = _variable(variable, environ)
            checks.checked_header(value, f"environment variable {variable}")
            if value:
                merged[name.lower()] = (name, value)
        return dict(merged.values())

    def auth_header(self, environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
        """Name and value of the header with the key; None if there is no key or `headers` has this header already."""
        if self.key_header.lower() in map(str.lower, self.headers(environ)):
            return None
        key = self.key(environ)
        if key is None:
            return None
        if self.key_header.lower() == "authorization":
            return "Authorization", Hidden(f"Bearer {key}")
        return self.key_header, key

    def url(self, model: str) -> str:
        """The URL that a request for ``model`` is posted to.

        ``path`` is not appended to a ``base_url`` that ends in ``/chat/completions``, and ``query_params`` do not
        repeat a parameter of its query. Raises `ConfigError` if the path contains ``{model}`` and ``model`` is blank,
        consists of dots or has control characters.
        """
        path = urlsplit(self.base_url).path.rstrip("/")
        if not path.endswith(CHAT):
            path = f"{path}/{_render_path(self.path, model)}".rstrip("/")
        return self._url(path)

    def endpoint(self, path: str) -> str:
        """The URL of another endpoint of the same API: ``path`` is, for example, ``/models``."""
        base = urlsplit(self.base_url).path.rstrip("/")
        beside = "" if base.endswith(CHAT) else self.path.partition("/deployments/")[0].removesuffix(CHAT).rstrip("/")
        return self._url(f"{base.removesuffix(CHAT)}{beside}{path}")

    def _url(self, path: str) -> str:
        parts = urlsplit(self.base_url)  # after what may fail, because a frame would show its query
        present = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        added = {name: value for name, value in self.query_params.items() if name not in present}
        query = "&".join(filter(None, (parts.query, urlencode(added, quote_via=quote))))
        return HiddenQuery(urlunsplit((parts.scheme, parts.netloc, path, query, "")))

    def warn_if_plain(self, environ: Mapping[str, str] | None = None) -> None:
        """Emit a `UserWarning`, once per host and process, if a key would cross the network without encryption."""
        parts = urlsplit(without_query(self.base_url))
        host = parts.hostname or ""
        if parts.scheme == "https" or is_loopback(host) or host in _warned_hosts or not self._sends_key(environ):
            return
        _warned_hosts.add(host)
        warn(f"the key is sent to {host} without encryption: use an https:// base_url")

    def _sends_key(self, environ: Mapping[str, str] | None) -> bool:
        own = {name.lower() for name in self.headers(environ)}
        return bool(own & {"authorization", self.key_header.lower()}) or bool(self.api_key or self.env_key)


def _from_file(path: str | os.PathLike[str], id: str | None) -> Provider | dict[str, Provider]:
    tables = presets.read_toml(path)
    if id is not None:
        return _from_table(path, str(id), presets.lookup(tables, id, f"provider in {os.fspath(path)}"))
    return {each: _from_table(path, each, table) for each, table in tables.items()}


def _from_table(path: str | os.PathLike[str], id: str, table: object) -> Provider:
    try:
        return Provider(**presets.table_fields(id, table, [each.name for each in fields(Provider)]))
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: [model_providers.{id}]: {error}") from None


def _variable(name: str, environ: Mapping[str, str] | None) -> Hidden:
    return Hidden((os.environ if environ is None else environ).get(name, "").strip())


def _marked(name: str, value: str) -> str:
    return Hidden(value) if is_secret(name, value) else value


def _render_path(path: str, model: str) -> str:
    if "{model}" not in path:
        return path.strip("/")
    if not (model.isprintable() and model.strip(" .")):  # "." and ".." would change the path itself
        raise ConfigError("this provider puts the model into its URL: pass a model that is printable and not blank")
    return path.strip("/").replace("{model}", quote(model, safe=""))
