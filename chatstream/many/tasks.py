"""What a caller gives as a prompt of many → a task: its key, its request, and what to send.

    "Why?" · Prompt(…) · [{"role": …}] · {"prompt": …, "id": …} · {"custom_id": …, "body": {…}} ─▶ Task

Rules:
- The key of a task is the caller's ``id`` or ``custom_id``, or else the hash of its request.
- Two requests have the same hash if their bodies are the same JSON, whatever the order of its keys.
- A field of a line takes precedence over the same argument of `map_prompts`, except for the model, where the argument
  wins.
- Of a line, only fields that servers know are sent: a table has other columns, too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from .._dataclass import frozen
from .._encode.body import encode_json, request_body
from .._field_names import KNOWN
from .._fields import checked_body
from ..client import PLACES, Client
from ..errors import ConfigError
from ..types.prompt import PromptLike, is_item
from .result import load

HASH_LENGTH = 32  # hexadecimal digits
NOT_SENT = ("stream", "stream_options")  # of the body of a batch line: an answer is always streamed here
OPTIONS = PLACES.call_options  # of a call: no fields of its request, or fields that are not known by their names there
METHOD, PATH = "POST", "/chat/completions"  # that a batch line may name
_canonical_json = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


@frozen
class Task:
    """One prompt of many. ``request`` is the hash of its request, ``batch`` says that it is a line of a batch file."""

    index: int
    key: str
    request: str
    prompt: PromptLike
    fields: Mapping[str, Any] = field(default_factory=dict)
    batch: bool = False


def read_lines(prompts: Iterable[Any] | os.PathLike[str]) -> Iterator[Any]:
    """The prompts themselves, or the lines of a file of JSON objects, one after the other."""
    if not isinstance(prompts, os.PathLike):
        yield from prompts
        return
    with open(prompts, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                value: Any
                try:
                    value = load(line)
                except ConfigError as error:
                    value = ConfigError(f"line {number} of {os.fspath(prompts)}: {error}")
                yield value


def make_task(client: Client, index: int, given: Any, fields: Mapping[str, Any]) -> Task:
    """The task for what was given at ``index``; ``fields`` are those of all tasks. Raises `ConfigError`."""
    if isinstance(given, ConfigError):
        raise given
    key, prompt, own, batch = _parts(given)
    merged = {**fields, **own}
    if fields.get("model"):
        merged["model"] = fields["model"]
    if body := {**_body(fields), **_body(own)}:
        merged["extra_body"] = body
    request = request_hash(client, prompt, merged)
    return Task(index, request if key is None else key, request, prompt, merged, batch)


def _body(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    given = fields.get("extra_body")
    return {} if given is None else given if isinstance(given, Mapping) else checked_body(type(given))


def unmade_task(index: int, given: Any) -> Task:
    """A task for what none can be made of, so that its result has a key."""
    return Task(index, key_of(given) or f"#{index}", "", "", batch=isinstance(given, Mapping) and "body" in given)


def key_of(given: Any) -> str | None:
    """The caller's own id of a prompt, if it has one."""
    if not isinstance(given, Mapping) or is_item(given):
        return None
    key = given.get("custom_id", given.get("id"))
    return None if _is_missing(key) else str(key)


def _is_missing(value: Any) -> bool:
    """Whether a value stands for none: pandas puts NaN into the empty cells of a table, and JSON has no NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def request_hash(client: Client, prompt: PromptLike, fields: Mapping[str, Any]) -> str:
    """The hash of the body of a request. Raises `ConfigError` for a request that can't be sent."""
    own = {name: value for name, value in fields.items() if name not in OPTIONS}
    body = request_body(
        prompt,
        model=fields.get("model") or client.model or client.provider.model or "",
        fields={**client.defaults, **own},
        extra_body=fields.get("extra_body") or {},
        check_history=client.provider.check_history,
        other_tools=client.provider.other_tools,
        stream_usage=False,
    )
    try:
        data = _canonical_json(body).encode()
    except (TypeError, ValueError, RecursionError):
        data = encode_json(body)  # which raises an error that names the field
    return hashlib.sha256(data).hexdigest()[:HASH_LENGTH]


def _parts(given: Any) -> tuple[str | None, PromptLike, dict[str, Any], bool]:
    """The key, the prompt and the fields of what was given, and whether it is a line of a batch file."""
    if not isinstance(given, Mapping) or is_item(given):
        return None, given, {}, False
    if "body" in given:
        return _batch_parts(given)
    named = [name for name in ("prompt", "messages") if given.get(name) is not None]
    if len(named) != 1:
        raise ConfigError('a line must have either "prompt", "messages" or, in a batch file, "body"')
    own = {name: value for name, value in given.items() if name not in ("prompt", "messages", "id", "custom_id")}
    for name in own:
        if name not in KNOWN and name != "extra_body":
            raise ConfigError(f'{name} is not a known request field: remove it, or put it into "extra_body"')
    return key_of(given), given[named[0]], {name: value for name, value in own.items() if not _is_missing(value)}, False


def _batch_parts(given: Mapping[str, Any]) -> tuple[str | None, PromptLike, dict[str, Any], bool]:
    body = given["body"]
    if not isinstance(body, Mapping) or "messages" not in body:
        raise ConfigError('the "body" of a batch line must be a request: an object with "model" and "messages"')
    if given.get("method", METHOD) != METHOD or not str(given.get("url", PATH)).endswith(PATH):
        raise ConfigError(f"a batch line must be for {METHOD} …{PATH}, not {given.get('method')} {given.get('url')}")
    if key_of(given) is None:
        raise ConfigError('a batch line must have a "custom_id"')
    fields = {name: value for name, value in body.items() if name not in (*NOT_SENT, "messages", "model")}
    model = {"model": body["model"]} if body.get("model") else {}
    return key_of(given), body["messages"], {**model, "extra_body": fields}, True
