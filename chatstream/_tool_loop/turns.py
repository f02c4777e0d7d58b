"""A prompt and tools → the events of turn after turn, and the outputs of the calls between them.

    prompt ─stream▶ events of a turn ─▶ its calls ─ToolCalls▶ outputs ─▶ prompt ─stream▶ …

Rules:
- However the loop ends, the prompt can be sent: a turn is added when it is whole, and each of its calls gets an output.
- A turn that breaks off leaves the prompt as it was before that turn.
- After a call whose output is missing because the loop ended, the model reads whether the function may have run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from .._recording.option import with_one_recorder
from ..errors import Cancelled, MaxTurnsExceeded
from ..types.events import Completed, OutputItemDone, ResponseEvent
from ..types.items import CustomToolCall, FunctionCall
from ..types.prompt import Prompt
from ..types.tools import AnyTool
from ..types.turn import Turn
from .calls import Call, Output, ToolCalls
from .threads import results_of

if TYPE_CHECKING:
    from .._stream import ResponseStream

NOT_MADE = "{} was not called, because the conversation was interrupted first"
INTERRUPTED = "{} was interrupted: it may have taken effect, but its result is not known"
CALLS = (FunctionCall, CustomToolCall)
FORCING = ("required", "any")  # values of tool_choice with which the model never ends a loop


class Streams(Protocol):
    """A `Client`, or another object with its method ``stream``."""

    def stream(self, *prompt: Any, **fields: Any) -> ResponseStream: ...  # any parameters, for mypy too


class ToolTurns:
    """The turns of one loop; `ToolLoop` is what the caller holds of it."""

    def __init__(
        self,
        client: Streams,
        prompt: Prompt,
        tools: Sequence[AnyTool],
        calls: ToolCalls,
        fields: Mapping[str, Any],
        *,
        max_turns: int,
        threads: int,
    ) -> None:
        self.prompt = prompt
        self.turns: list[Turn] = []
        self.finished: bool = False  # by a whole turn without calls
        self.whole_items: bool = False  # whether the events are those of `aggregate`
        self.stream: ResponseStream | None = None  # that is being read
        self._client = client
        self._tools = tools
        self._calls = calls
        self._fields: Mapping[str, Any] = with_one_recorder(fields)
        self._max_turns = max_turns
        self._threads = threads
        self._cancelled = False
        self._unanswered: list[Call] = []  # the calls of the latest turn that have no output yet, in order

    def run(self) -> Generator[ResponseEvent, None, None]:
        """All events. Raises `MaxTurnsExceeded`, and the errors of a stream."""
        while not self.finished:
            self._check_cancelled()
            if len(self.turns) >= self._max_turns:
                error = MaxTurnsExceeded(self._max_turns)
                error.partial = self.turns[-1]
                raise error
            try:
                yield from self._answer()
                yield from self._outputs()
            finally:
                self._answer_the_rest()

    def cancel(self) -> None:
        self._cancelled = True
        if (stream := self.stream) is not None:
            stream.cancel()

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled("the loop was cancelled")

    def _answer(self) -> Generator[ResponseEvent, None, None]:
        prompt = Prompt(self.prompt.instructions, self.prompt.input, self._tools)
        stream = self.stream = self._client.stream(prompt, **self._fields_of_turn())
        try:
            self._check_cancelled()
            for event in stream.aggregate() if self.whole_items else stream:
                if isinstance(event, Completed):  # before the caller gets it, who may leave then
                    self._keep(stream.turn)
                yield event
        finally:
            stream.close()
            self.turns.append(stream.turn)
            self.stream = None

    def _fields_of_turn(self) -> Mapping[str, Any]:
        choice = self._fields.get("tool_choice")
        forced = choice in FORCING or (isinstance(choice, Mapping) and choice.get("type") in ("function", "custom"))
        return {**self._fields, "tool_choice": "auto"} if forced and self.turns else self._fields

    def _keep(self, turn: Turn) -> None:
        """Add a whole turn to the conversation, without calls that have no name, which servers reject."""
        kept = [each for each in turn.items if not isinstance(each, CALLS) or each.name.strip()]
        self._unanswered = [each for each in kept if isinstance(each, CALLS)]
        self._calls.begun.clear()
        self.finished = not self._unanswered
        self.prompt.input += kept

    def _outputs(self) -> Generator[ResponseEvent, None, None]:
        calls = tuple(self._unanswered)
        if self._threads > 1:
            prepared = [self._prepare(call) for call in calls]
            self._calls.begun.update(call.call_id for call in calls)  # a thread may be about to begin any of them
            outputs = results_of(prepared, self._threads)
        else:
            outputs = (self._prepare(call)() for call in calls)
        with closing(outputs):
            for output in outputs:
                self._add(output)
                yield OutputItemDone(output)
                self._check_cancelled()

    def _prepare(self, call: Call) -> Callable[[], Output]:
        """As `ToolCalls.prepare`, but after `cancel` nothing is asked or called."""
        self._check_cancelled()
        make_call = self._calls.prepare(call)

        def make_call_unless_cancelled() -> Output:
            self._check_cancelled()
            return make_call()

        return make_call_unless_cancelled

    def _add(self, output: Output) -> None:
        del self._unanswered[0]
        self.prompt.input.append(output)

    def _answer_the_rest(self) -> None:
        for call in tuple(self._unanswered):
            text = INTERRUPTED if call.call_id in self._calls.begun else NOT_MADE
            self._add(call.output(text.format(call.name)))
