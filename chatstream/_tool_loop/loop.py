"""run_tools: a prompt and functions → a conversation in which the model calls them, as one iterator of events."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from inspect import iscoroutinefunction
from typing import Any

from .._missing import explain_missing
from ..errors import ConfigError, StreamClosed
from ..types.events import OutputTextDelta, ResponseEvent
from ..types.prompt import Prompt, PromptLike, as_list
from ..types.tools import AnyTool
from ..types.turn import Turn
from .calls import Approve, ToolCalls, callable_tools
from .turns import Streams, ToolTurns

LEFT = "the loop ended before the final answer: run_tools(client, loop.prompt, tools) continues the conversation"


def run_tools(
    client: Streams,
    prompt: PromptLike,
    tools: Sequence[AnyTool] = (),
    *,
    max_turns: int = 10,
    approve: Approve | None = None,
    threads: int = 1,
    **fields: Any,
) -> ToolLoop:
    """Let the model call functions until it answers without a call; iterate over the result to receive the events.

    Each turn is streamed: its events arrive as from `Client.stream`. After its ``Completed``, the output of each call
    follows as ``OutputItemDone(FunctionCallOutput(…))``, in the order of the calls. Nothing is sent before the loop
    begins.

    - ``client``: a `Client`, or an object with its method ``stream``. ``fields`` go to each call of that method, such
      as ``model``, ``temperature`` or ``deadline``, which limits one turn. A ``tool_choice`` that forces a call applies
      to the first turn only.
    - ``prompt``: if it is a `Prompt` or a list, turns and outputs are appended to it; ``loop.prompt`` has them always.
    - ``tools``: functions and `Tool` objects, in addition to those of the `Prompt`; of two with the same name, the one
      passed here is used.
    - ``approve``: called before each call of a known tool. It returns True to allow the call, False or None to reject
      it, or a str to reject it with this reason, which is sent to the model.
    - ``threads``: how many calls of one turn run at the same time; 1 runs them one by one in the thread of the loop.

    A function that raises, an unknown name, wrong arguments and a call that was cut off are reported to the model.
    `KeyboardInterrupt` and `SystemExit` propagate. Raises `ConfigError` for wrong arguments at once; in the loop
    `MaxTurnsExceeded` if the model still calls functions after ``max_turns`` answers, and the errors of
    `Client.stream` and its loop.
    """
    _check(client, approve, max_turns=max_turns, threads=threads)
    every = callable_tools(prompt.tools if isinstance(prompt, Prompt) else (), as_list(tools, "tools"))
    if not isinstance(prompt, Prompt):
        prompt = Prompt(input=Prompt.of(prompt).input, tools=every)
    calls = ToolCalls(every, approve)
    return ToolLoop(ToolTurns(client, prompt, every, calls, fields, max_turns=max_turns, threads=threads))


def _check(client: Streams, approve: Approve | None, **numbers: int) -> None:
    if not callable(getattr(client, "stream", None)):
        raise ConfigError(
            f"the first argument of run_tools must be a Client, not {type(client).__name__}, which has no stream()"
        )
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ConfigError(f"{name} must be an integer of at least 1, not {number!r}")
    if approve is not None and not callable(approve):
        raise ConfigError(f"approve must be a function of one call, not {type(approve).__name__}")
    if iscoroutinefunction(approve):
        raise ConfigError("approve must not be async: its result is needed at once")


class ToolLoop:
    """A conversation in which the model calls functions: an iterator of events, returned by `run_tools`.

    Leaving a loop over it, or closing it, closes the stream that is being read. However it ends, ``prompt`` is a
    conversation that can be sent: turns that were received completely, with an output for each call.
    """

    def __init__(self, turns: ToolTurns) -> None:
        self._turns = turns
        self._events = turns.run()  # whose frame does not hold this object, so that a forgotten loop is freed at once

    def __iter__(self) -> Generator[ResponseEvent, None, None]:
        """The events of all turns, and the outputs of the calls. Raises `StreamClosed` if the loop was closed before
        the final answer."""
        self._check_open()
        yield from self._events

    def __next__(self) -> ResponseEvent:
        self._check_open()
        return next(self._events)

    def text(self) -> Generator[str, None, None]:
        """The text of every turn, piece by piece, and nothing else."""
        for event in self:
            if event.__class__ is OutputTextDelta and not event.choice:
                yield event.delta

    def aggregate(self) -> Generator[ResponseEvent, None, None]:
        """Complete items: of each turn what `ResponseStream.aggregate` yields, and the outputs of its calls.

        A stream that breaks off is restarted.
        """
        self._turns.whole_items = True
        yield from self

    def collect(self) -> Turn:
        """Run the loop to its end, and return the last turn. A stream that breaks off is restarted."""
        for _ in self.aggregate():
            pass
        return self.turn

    @property
    def prompt(self) -> Prompt:
        """The conversation: the `Prompt` that was passed, or one whose ``input`` is the list that was passed."""
        return self._turns.prompt

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Each turn that has ended; one that broke off comes last, with the part received, and is not in ``prompt``."""
        return tuple(self._turns.turns)

    @property
    def turn(self) -> Turn:
        """The turn that is being received, or else the last one."""
        stream = self._turns.stream
        return stream.turn if stream is not None else (self.turns or (Turn(),))[-1]

    def cancel(self) -> None:
        """End the loop from any thread. The reader raises `Cancelled`, at once or when a running function returns.

        This does not end the wait for response headers; `Client.cancel` does.
        """
        self._turns.cancel()

    def close(self) -> None:
        """Close the loop and its stream; call it in the thread of the loop. May be called more than once."""
        self._events.close()

    def __enter__(self) -> ToolLoop:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "finished" if self._turns.finished else "ended" if self._ended else "open"
        return f"<ToolLoop {state}; turns={len(self._turns.turns)}>"

    @property
    def _ended(self) -> bool:
        return getattr(self._events, "gi_frame", None) is None

    def _check_open(self) -> None:
        if self._ended and not self._turns.finished:
            raise StreamClosed(LEFT)


_ANSWER = "loop over loop.text(), or use loop.collect().text"
explain_missing(
    ToolLoop, {"content": _ANSWER, "output_text": _ANSWER, "usage": "use token_usage of each turn in loop.turns"}
)
