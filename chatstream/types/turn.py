"""The result of a stream: `Turn`, with its items, its text and its calls, and `Timing`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._dataclass import frozen
from .._missing import explain_missing
from .._runtime.imports import imports
from ..errors import ConfigError
from .events import FinishKind, Status
from .items import CustomToolCall, FunctionCall, Message, Reasoning, ResponseItem, item_from_dict
from .parts import OutputText, Refusal
from .tagged import as_dict, from_tagged, to_tagged, tuple_of
from .usage import TokenUsage

if TYPE_CHECKING:
    from .._display.svg import SVG

T = TypeVar("T")
_IN_ONE_LINE = ("total", "longest gap", "speed", "read")


@frozen
class Timing:
    """The timing of a call. Times are in seconds, or None if that point was not reached. All values but ``total`` and
    ``retries`` describe the last attempt, whose answer is in the turn.

    - ``headers``, ``first_event``, ``first_text``, ``total``: when the response headers arrived, the first event, the
      first piece of text, and when the stream ended; counted from the call.
    - ``tokens_per_second``: output tokens over the time from the first to the last event; None without token usage.
    - ``longest_gap``: the longest wait for bytes between two events.
    - ``bytes``: how much of the body was read, after decompression. ``reused``: whether the connection had served
      another request.
    - ``retries``: how many requests were made after the first one.
    - ``arrivals``: for each read of the body the seconds since the call, and the bytes read by then. For a long
      answer, at most 200 are kept, and each time may be up to 2 % of the duration too late.

    ``str(timing)`` is a summary in one line.
    """

    headers: float | None = None
    first_event: float | None = None
    total: float | None = None
    first_text: float | None = None
    tokens_per_second: float | None = None
    longest_gap: float | None = None
    bytes: int = 0
    retries: int = 0
    reused: bool = False
    arrivals: tuple[tuple[float, int], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        first = "first event" if self.first_text is None else "first text"
        return ", ".join(f"{name} {value}" for name, value in self._facts() if name in (first, *_IN_ONE_LINE))

    def sparkline(self, width: int = 40) -> str:
        """The bytes received over time, from the call to the end, as a line of ``width`` bars for a terminal. Each bar
        stands for an equal interval; the lowest means that nothing arrived. Empty without arrivals."""
        if width < 1:
            raise ConfigError(f"width must be at least 1, not {width!r:.80}")
        with imports():
            from .._display.text import sparkline

        return sparkline(self.arrivals, self._until, width)

    def svg(self) -> SVG:
        """A picture of the arrivals: the bytes read over time, the longest wait shaded and the first text marked."""
        with imports():
            from .._display.svg import arrivals_svg

        return arrivals_svg(self.arrivals, self._until, self.first_text)

    def plot(self, ax: Any = None) -> Any:
        """Draw the picture of `svg` on the matplotlib axes ``ax`` (default: new ones of pyplot), and return them. If
        matplotlib (extra ``plot``) is not installed, return ``svg()``."""
        with imports():
            from .._display.plot import arrivals_axes

        try:
            return arrivals_axes(self.arrivals, self._until, self.first_text, ax)
        except ImportError:
            return self.svg()

    def _repr_html_(self) -> str:
        with imports():
            from .._display.html import table

        return table("Timing", self._facts()) + (self.svg()._repr_html_() if self.arrivals else "")

    @property
    def _until(self) -> float:
        """The end of the time that a picture shows, in seconds since the call; one second if nothing took any time."""
        return max(self.total or 0.0, self.arrivals[-1][0] if self.arrivals else 0.0) or 1.0

    def _facts(self) -> list[tuple[str, str]]:
        """Name and value of what is known."""
        with imports():
            from .._display.text import seconds, size

        names = ("headers", "first_event", "first_text", "total", "longest_gap")
        times = {name.replace("_", " "): getattr(self, name) for name in names}
        facts = [(name, seconds(value)) for name, value in times.items() if value is not None]
        if self.tokens_per_second is not None:
            facts.append(("speed", f"{self.tokens_per_second:.1f} tokens/s"))
        facts += [("read", size(self.bytes)), ("retries", f"{self.retries}")]
        return [*facts, ("connection", "used before" if self.reused else "new")]

    def to_dict(self) -> dict[str, Any]:
        """The times as a dict with a ``type`` key, ready for JSON."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timing:
        """The times from their dict. Raises `ConfigError` for another type or a wrong value."""
        return from_tagged(cls, data, arrivals=tuple_of(_arrival))


@frozen
class Turn:
    """One answer of the model; if it has several choices, this is the first of them (see `choices`).

    - ``items``: reasoning, message and function calls, in this order, to be appended to `Prompt.input` as they are.
    - ``status``: ``completed``; ``incomplete`` if it was cut off (``length``, ``content_filter``, ``error``), ends
      inside a call, or has not ended; ``unconfirmed`` if the server sent no finish reason, or an unknown one.
    - ``finish_reason``: as the server spelled it. ``finish_kind``: its meaning, one of OpenAI's finish reasons,
      ``error`` or ``other``.
    - ``provider``: the name of the provider that answered; None for a turn of `read_events` or ``collect(events)``.
    - ``timing``: times in seconds. ``extra``: other fields of the answer, unchanged: ``logprobs``, ``annotations``,
      ``audio``, ``citations``, ``search_results``, ``timings``, …
    """

    items: tuple[ResponseItem, ...] = ()
    finish_reason: str | None = None
    token_usage: TokenUsage | None = None
    response_id: str | None = None
    model: str | None = None
    status: Status = "incomplete"
    timing: Timing | None = None
    finish_kind: FinishKind | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    provider: str | None = None
    _choices: tuple[Turn, ...] = field(default=(), repr=False)

    @property
    def choices(self) -> tuple[Turn, ...]:
        """One turn per choice, in order of index; for an answer with one choice, only this turn."""
        return self._choices or (self,)

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(part.text for part in self._parts() if isinstance(part, OutputText))

    @property
    def refusal(self) -> str:
        """The text of the model's refusal; empty if it did not refuse."""
        return "".join(part.refusal for part in self._parts() if isinstance(part, Refusal))

    @property
    def reasoning(self) -> str:
        """The model's reasoning; empty if the server does not send it."""
        return "".join(item.text for item in self.items if isinstance(item, Reasoning))

    @property
    def function_calls(self) -> tuple[FunctionCall, ...]:
        """The function calls; the status of a call that was cut off is ``incomplete``."""
        return tuple(item for item in self.items if isinstance(item, FunctionCall))

    @property
    def custom_calls(self) -> tuple[CustomToolCall, ...]:
        """The calls of custom tools."""
        return tuple(item for item in self.items if isinstance(item, CustomToolCall))

    @property
    def complete_items(self) -> tuple[ResponseItem, ...]:
        """The items, except tool calls that were cut off or have no name. Every server accepts these."""
        return tuple(item for item in self.items if not _is_broken_call(item))

    @overload
    def parsed(self, model: None = None) -> Any: ...
    @overload
    def parsed(self, model: type[T]) -> T: ...
    @overload
    def parsed(self, model: Any) -> Any: ...

    def parsed(self, model: Any = None) -> Any:
        """Parse the text as JSON; return its value, as an instance of ``model`` if given (see `response_format`).

        A code fence around the JSON is removed. Raises ValueError if the text is not one complete JSON value
        or does not match ``model``, which also happens if the model refused to answer, or the answer was cut off.
        """
        with imports():
            from .structured import parsed

        if self.refusal and not self.text:
            raise ValueError(f"the model refused to answer: {self.refusal[:200]!r}")
        try:
            return parsed(self.text, model)
        except ValueError as error:
            if self.finish_kind != "length":
                raise
            cut = f"the answer was cut off at the token limit (finish reason {self.finish_reason}): raise max_tokens"
            raise ValueError(f"{cut}; {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The turn as a dict with a ``type`` key, ready for JSON; with ``choices`` if there is more than one."""
        return to_tagged(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Turn:
        """The turn from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return from_tagged(
            cls,
            data,
            items=tuple_of(item_from_dict),
            token_usage=TokenUsage.from_dict,
            timing=Timing.from_dict,
            extra=as_dict,
            choices=tuple_of(Turn.from_dict),
        )

    def _repr_html_(self) -> str:
        with imports():
            from .._display import html

        shown = []
        for number, turn in enumerate(self.choices, 1):
            if len(self.choices) > 1:
                shown.append(html.heading(f"Choice {number}"))
            shown += [html.folded("Reasoning", turn.reasoning)] if turn.reasoning else []
            shown += [html.text(text) for text in (turn.text, turn.refusal) if text]
            shown += map(html.code, turn._calls())
        return "".join([*shown, html.note(self._summary())])

    def _calls(self) -> list[str]:
        """Each call as one would write it, with a remark if it was cut off."""
        written = []
        for item in self.items:
            if isinstance(item, (FunctionCall, CustomToolCall)):
                given = item.arguments if isinstance(item, FunctionCall) else repr(item.input)
                written.append(f"{item.name}({given}){'  # cut off' if _is_broken_call(item) else ''}")
        return written

    def _summary(self) -> str:
        """Model, end, tokens and times in one line."""
        end = f"{self.status} ({self.finish_reason})" if self.finish_reason else self.status
        used = self.token_usage
        counts = (("in", used.input_tokens), ("out", used.output_tokens)) if used else ()
        tokens = ", ".join(f"{number:,} tokens {where}" for where, number in counts if number is not None)
        return " · ".join(filter(None, (self.model, end, tokens, str(self.timing or ""))))

    def _parts(self) -> Iterator[object]:
        for item in self.items:
            if isinstance(item, Message):
                yield from item.content


def _arrival(value: Any) -> tuple[float, int]:
    """A pair of ``arrivals`` from a list. Raises `ConfigError` for another value."""
    match value:
        case [int() | float() as moment, int() as read]:
            return moment, read
    raise ConfigError(f"arrivals must be pairs of seconds and bytes, not {value!r:.80}")


def _is_broken_call(item: ResponseItem) -> bool:
    return isinstance(item, (FunctionCall, CustomToolCall)) and not (item.name and item.status == "completed")


explain_missing(
    Turn,
    {
        **dict.fromkeys(("message", "content", "output_text"), "use turn.text"),
        "tool_calls": "use turn.function_calls",
        "output_parsed": "use turn.parsed(type)",
        "usage": "use turn.token_usage",
    },
)
