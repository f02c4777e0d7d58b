"""Token usage: that of one answer, and the running total of a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from .._dataclass import frozen
from .._runtime.imports import imports
from .tagged import as_dict, from_tagged, to_tagged


@frozen
class TokenUsage:
    """Token counts as the server reported them, each None if it did not. Nothing is computed or estimated.

    ``cached_input_tokens`` is the part of ``input_tokens`` that a prompt cache served. ``reasoning_output_tokens`` is
    the part of ``output_tokens`` spent on reasoning; some servers do not include it in ``output_tokens``. ``raw`` is
    the server's own object, with all that has no name here; comparisons ignore it. ``cost`` is the cost that the server
    reported, in US dollars or its own credits; few servers report it.

    Usages can be added, with ``+`` and `sum`. If one of them lacks a count, the other's is used. A sum has no ``raw``.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    total_tokens: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    cost: float | None = None

    def __add__(self, other: TokenUsage) -> TokenUsage:
        if not isinstance(other, TokenUsage):
            return NotImplemented
        names = [each.name for each in fields(TokenUsage) if each.name != "raw"]
        return TokenUsage(**{name: _sum(getattr(self, name), getattr(other, name)) for name in names})

    def __radd__(self, other: int) -> TokenUsage:
        """The usage itself, where `sum` begins with 0."""
        return self if other == 0 else NotImplemented

    def _repr_html_(self) -> str:
        with imports():
            from .._display.html import table

        return table("Tokens", self._counts())

    def _counts(self) -> list[tuple[str, str]]:
        """Name and value of what the server reported."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "raw"}
        known = {name: value for name, value in values.items() if value is not None}
        return [(name.removesuffix("_tokens").replace("_", " "), f"{value:,}") for name, value in known.items()]

    def to_dict(self) -> dict[str, Any]:
        """The counts as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenUsage:
        """The counts from their dict. Raises `ConfigError` for another type or a wrong value."""
        return from_tagged(cls, data, raw=as_dict)


def _sum(one: float | None, other: float | None) -> Any:
    return other if one is None else one if other is None else one + other


@frozen
class ClientUsage:
    """The usage of a client so far, across all threads.

    ``calls`` is the number of calls, each counted when its first request ends; ``retries`` that of further requests.
    ``tokens`` is the sum of what servers reported; a call adds to it when its stream ends.
    """

    calls: int = 0
    retries: int = 0
    tokens: TokenUsage = field(default_factory=TokenUsage)

    @property
    def cost(self) -> float | None:
        """The sum of the costs that servers reported; None if none did."""
        return self.tokens.cost

    def _repr_html_(self) -> str:
        with imports():
            from .._display.html import table

        tokens = [(f"{name} tokens" if name != "cost" else name, value) for name, value in self.tokens._counts()]
        return table("Usage", [("calls", f"{self.calls:,}"), ("retries", f"{self.retries:,}"), *tokens])

    def to_dict(self) -> dict[str, Any]:
        """The total as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClientUsage:
        """The total from its dict. Raises `ConfigError` for another type or a wrong value."""
        return from_tagged(cls, data, tokens=TokenUsage.from_dict)
