"""Checks the keyword arguments of a call; a `ConfigError` says what is wrong and where it belongs.

Rules:
- An option is never sent to the server, however it is spelled: its error names the place where it belongs.
- Any other field is sent. If its name is one typo away from a known field, a `UserWarning` says so.
- A message shows a value if it is short and can't be secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from ._field_names import ALWAYS_STREAMED, KNOWN, PLACE_OF, letters_of, option_by_ending, typo_of
from ._runtime.frames import warn
from ._secrets import MASK, Hidden, has_key_prefix, is_secret, looks_like_key, masked_if_key
from .errors import ConfigError
from .providers import checks
from .providers.provider import Provider

MOST_SHOWN = 60  # characters of a value
IN_DEFAULTS = {  # what may be an option of a call, but has another place if it is for all of them
    "model": "pass it to the client, Client(model=…)",
    "deadline": "pass it to the client, Client(deadline=…)",
    "stream_idle_timeout": "it is a setting of the provider",
    "first_event_timeout": "it is a setting of the provider",
    "extra_headers": "the headers of all calls are Provider(…, http_headers={…})",
    "extra_body": "put its fields into defaults",
}


class Places:
    """Where each option belongs, by its name: those of `Client`, of its method ``stream`` and of `Provider`, and those
    that only other libraries have."""

    def __init__(self, client_options: Iterable[str], call_options: Iterable[str]) -> None:
        self.client_options: tuple[str, ...] = tuple(client_options)
        self.call_options: tuple[str, ...] = tuple(call_options)
        settings = [each.name for each in fields_of(Provider) if each.name not in KNOWN]
        found: dict[str, list[str]] = {}
        for names, form in (
            (self.call_options, "client.stream(…, {}=…)"),
            (self.client_options, "Client(…, {}=…)"),
            (settings, "Client(Provider(…, {}=…))"),
        ):
            for name in names:
                found.setdefault(name, []).append(form.format(name))
        self.place_of: dict[str, str] = {name: f"it belongs to {' or '.join(forms)}" for name, forms in found.items()}
        self.place_of |= PLACE_OF
        self.names: frozenset[str] = frozenset(self.place_of)

    def check_fields(self, fields: Mapping[str, Any]) -> None:
        """Raise `ConfigError` for an option, in any spelling, and for what this library can't do."""
        for name, value in fields.items():
            is_option = name == "provider" and isinstance(value, (str, Provider))  # OpenRouter's field is a dict
            if name in KNOWN and not is_option:
                continue
            meant = name if name in self.place_of else self._meant(name, value)
            if meant is None:
                continue
            if letters_of(meant) == letters_of(name):
                raise ConfigError(f"{name}={shown(meant, value)} is not a request field: {self.place_of[meant]}")
            raise ConfigError(
                f"{masked_if_key(name)}={shown(meant, value)} is not a known request field: did you mean {meant}? "
                f"If so, {self.place_of[meant]}; if not, send it with extra_body={{…}}"
            )
        _check_values(fields)

    def _meant(self, name: str, value: Any) -> str | None:
        """The option that an unknown name may stand for; None if it is that of a field."""
        if meant := typo_of(name, self.names, 6):
            return None if typo_of(name, KNOWN) else meant
        if isinstance(value, str) and has_key_prefix(value):
            return "api_key"
        return option_by_ending(name)

    def checked_defaults(self, defaults: Any) -> dict[str, Any]:
        """A copy of the fields of all calls. Raises `ConfigError` as `check_fields`, and for an option of a call."""
        checked_body(defaults, "defaults")
        for name in self.call_options:
            if name in defaults:
                raise ConfigError(f"defaults can't have {name}: {IN_DEFAULTS.get(name, 'pass it to each call')}")
        made = {name: _copy(value) for name, value in defaults.items()}
        self.check_fields(made)
        warn_of_typos(made)
        return made

    def reject_unknown(self, arguments: Mapping[str, Any]) -> None:
        """Raise `ConfigError` for arguments that `Client` does not have."""
        for name, value in arguments.items():
            meant = typo_of(name, frozenset(self.client_options)) or name
            if meant != name:
                place = f"did you mean {meant}?"
            elif name in KNOWN:
                place = f"it is a field of a call, Client(…, defaults={{{name!r}: …}}) or client.stream(…, {name}=…)"
            else:
                place = self.place_of.get(name, f"its options are {', '.join(self.client_options)}")
            raise ConfigError(f"{masked_if_key(name)}={shown(meant, value)} is not an option of Client: {place}")


def warn_of_typos(names: Iterable[str]) -> None:
    """Emit a `UserWarning` for each name that is nearly that of a known field, at the line that called the library."""
    for name in names:
        if meant := typo_of(name, KNOWN):
            warn(f"the unknown field {masked_if_key(name)} is sent unchanged: did you mean {meant}?")


def choices_of(fields: Mapping[str, Any]) -> int:
    """The number of choices that a request asks for with its field ``n``."""
    choices = fields.get("n")
    if choices is not None and not (isinstance(choices, int) and choices > 0 and choices is not True):
        raise ConfigError(f"n must be an integer of at least 1, not {shown('n', choices)}")
    return choices or 1


def provider_of_call(provider: Provider, headers: Mapping[str, str], timeouts: Mapping[str, Any]) -> Provider:
    """The provider with the headers and timeouts of one call, which replace its own."""
    if not headers and not timeouts:
        return provider
    own = {name.lower() for name in headers}
    literal, variables = (
        {name: value for name, value in table.items() if name.lower() not in own}
        for table in (provider.http_headers, provider.env_http_headers)
    )
    return replace(provider, http_headers={**literal, **headers}, env_http_headers=variables, **timeouts)


def checked_timeouts(**timeouts: float | None) -> dict[str, float]:
    """The timeouts that are not None. Raises `ConfigError` for one that is not a number of seconds."""
    given = {name: value for name, value in timeouts.items() if value is not None}
    for name, value in given.items():
        checks.check_seconds(name, value)
    return given


def checked_body(table: Any, source: str = "extra_body") -> Mapping[str, Any]:
    """The fields that `hidden_table` has made of ``source``. Raises `ConfigError` if it was not a dict."""
    if isinstance(table, type):
        raise ConfigError(f"{source} must be a dict of request fields, not {table.__name__}")
    for name in table:
        if not isinstance(name, str):
            raise ConfigError(f"{source} has the key {name!r}, but keys must be strings")
    return table  # type: ignore[no-any-return]


def without_secrets(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a pickle may hold, with their reprs no longer hidden."""
    return {
        name: str(value) if isinstance(value, Hidden) else value
        for name, value in fields.items()
        if not isinstance(value, Hidden) or (name in KNOWN and not looks_like_key(value))
    }


def shown(name: str, value: object) -> str:
    """A value for a message: ``***`` if it may be secret, and its type if it is not a str or a number."""
    if value is None:
        return "None"
    if not isinstance(value, (str, int, float)):
        return f"<{type(value).__name__}>"
    text = str(value)
    if (name not in KNOWN and is_secret(name, text)) or looks_like_key(text) or any(each in text for each in "@?"):
        return MASK
    return repr(text[:MOST_SHOWN]) if isinstance(value, str) else text


def _check_values(fields: Mapping[str, Any]) -> None:
    functions = fields.get("functions")
    if isinstance(functions, (list, tuple)) and any(map(callable, functions)):
        raise ConfigError("functions accepts only dicts: use tools=[Tool.from_function(f)]")
    if fields.get("stream", True) is not True:
        raise ConfigError(ALWAYS_STREAMED)
    choices_of(fields)


def _copy(value: Any) -> Any:
    """The value, with the lists and dicts in it copied; tools and classes stay the same."""
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value
