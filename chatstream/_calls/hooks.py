"""Hooks: functions of the caller that a client calls before each request, before each retry and after each call.

    Client(on_request=…, on_retry=…, on_turn=…) ─▶ Hooks ─RequestInfo, RetryInfo, CallInfo▶ the caller's functions

Rules:
- A hook runs in the thread that sends or reads. An exception that it raises ends the call and is passed on.
- ``on_turn`` is called once for each call, however it ends, after its connection was given back or closed.
- An observer, such as `chatstream.telemetry`, is called before these functions, so that it also receives calls
  that they end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeVar

from .._dataclass import frozen
from .._retries.retry import RetryInfo
from ..errors import Attempt, ConfigError
from ..types.turn import Timing, Turn

H = TypeVar("H")


@frozen
class RequestInfo:
    """A request that is about to be sent, passed to ``on_request``.

    - ``call``: the number of the call in this process, the same for all its requests and in its `CallInfo`.
    - ``attempt``: 1 for the first request of the call. ``elapsed``: seconds since the call began.
    - ``provider``: its name. ``model``: the model requested. ``fields``: the fields of the call, as passed.
    - ``method``, ``url``, ``headers``: of the request, with ``***`` in place of the key and of other secrets. What a
      session of the caller adds is not listed.
    - ``body``: the JSON that is sent, as bytes.
    """

    call: int
    attempt: int
    elapsed: float
    provider: str
    model: str
    method: str
    url: str
    fields: Mapping[str, Any] = field(repr=False, hash=False)
    headers: Mapping[str, str] = field(hash=False)
    body: bytes = field(repr=False)


@frozen
class CallInfo:
    """A call that has ended, passed to ``on_turn``.

    - ``call``: the number of the call, as in its `RequestInfo`. ``provider``, ``model``: as there.
    - ``turn``: what was received; without items if no answer had begun.
    - ``error``: what ended the call. None if the answer is complete, and if the caller stopped reading.
    - ``attempts``: every request made for the call. ``timing``: times in seconds.
    """

    call: int
    provider: str
    model: str
    turn: Turn
    error: BaseException | None
    attempts: tuple[Attempt, ...]
    timing: Timing


class Observer(Protocol):
    """Receives the requests and the end of each call of a client."""

    def on_request(self, info: RequestInfo) -> object: ...

    def on_turn(self, info: CallInfo) -> object: ...


def checked_hook(name: str, hook: H) -> H:
    """``hook``, which may be None. Raises `ConfigError` if it can't be called, or would have to be awaited."""
    if hook is not None and not callable(hook):
        raise ConfigError(f"{name} must be a function with one parameter, not {type(hook).__name__}")
    if iscoroutinefunction(hook):
        raise ConfigError(f"{name} is async, but hooks are called synchronously: pass a function that is not async")
    return hook


class Hooks:
    """The hooks of one client. ``observer`` may be set, and replaced, at any time."""

    def __init__(
        self,
        on_request: Callable[[RequestInfo], object] | None = None,
        on_retry: Callable[[RetryInfo], object] | None = None,
        on_turn: Callable[[CallInfo], object] | None = None,
    ) -> None:
        for name, hook in (("on_request", on_request), ("on_retry", on_retry), ("on_turn", on_turn)):
            checked_hook(name, hook)
        self.on_request = on_request
        self.on_retry = on_retry
        self.on_turn = on_turn
        self.observer: Observer | None = None

    def before_request(self) -> list[Callable[[RequestInfo], object]]:
        """What to call before a request is sent."""
        observed = self.observer.on_request if self.observer else None
        return [each for each in (observed, self.on_request) if each]

    def after_call(self) -> list[Callable[[CallInfo], object]]:
        """What to call after a call has ended."""
        observed = self.observer.on_turn if self.observer else None
        return [each for each in (observed, self.on_turn) if each]
