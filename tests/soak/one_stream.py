"""One stream of the soak: plan(seed, number) ─▶ Plan ─▶ run_stream ─▶ its outcome and violations, in a Tally."""

from __future__ import annotations

import random
import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from scenarios import ALL_ATTEMPTS, SCENARIOS, AnswerSpec
from tally import Tally

from chatstream import Client, ResponseStream, Turn
from chatstream.errors import Cancelled, ChatStreamError, DeadlineExceeded, IdleTimeout, StreamClosed
from chatstream.types.events import FunctionCallDelta, OutputTextDelta

OWN_END = {"cancel": Cancelled.__name__, "close": StreamClosed.__name__}  # the error of what the caller does
ALWAYS_ALLOWED = {DeadlineExceeded.__name__, IdleTimeout.__name__}  # a busy server is slow in every scenario
USES = {  # what the caller does with the stream, and how often
    "iterate": 6,
    "collect": 6,
    "aggregate": 3,
    "text": 2,
    "heartbeat": 2,
    "break": 2,
    "forget": 1,
    "cancel": 2,
    "close": 1,
}


@dataclass(frozen=True)
class Plan:
    """What one stream does. It is cancelled or closed after ``seconds``, or left after ``events`` events."""

    spec: AnswerSpec
    use: str
    client: int
    deadline: float
    seconds: float
    events: int

    def __str__(self) -> str:
        faulty = "" if self.spec.faulty_attempts == ALL_ATTEMPTS else f" ×{self.spec.faulty_attempts}"
        return f"{self.spec.marker} {self.spec.scenario}{faulty}, {self.use}, deadline {self.deadline:.2f} s"


def make_plan(seed: int, number: int, clients: int) -> Plan:
    """The same plan for the same seed and number."""
    draw = random.Random(f"{seed}-{number}")
    scenario = draw.choices(list(SCENARIOS), [each.weight for each in SCENARIOS.values()])[0]
    return Plan(
        AnswerSpec(
            scenario,
            f"<{number}>",
            draw.choice([3, 5, 8, 60]),
            draw.choice([1, 1, ALL_ATTEMPTS]),
            2 if draw.random() < 0.1 else 1,
            seed,
        ),
        draw.choices(list(USES), list(USES.values()))[0],
        draw.choices(range(clients), [8 if index % 3 != 2 else 3 for index in range(clients)])[0],
        draw.uniform(0.2, 3.0),
        draw.choice([0.0, 0.02, draw.uniform(0, 0.5)]),
        draw.randrange(4),
    )


def run_stream(client: Client, plan: Plan, tally: Tally) -> None:
    """Open a stream, use it as planned until it ends, and check its result."""
    due = monotonic() + plan.deadline
    try:
        outcome = open_and_use(client, plan, tally)
    except ChatStreamError as error:
        ended = monotonic()
        outcome = type(error).__name__
        check_error(plan, error, tally)
    except BaseException as error:
        ended = monotonic()
        outcome = f"!{type(error).__name__}"
        tally.add_violation("no untyped exception", f"{plan}\n{''.join(traceback.format_exception(error))}")
    else:
        ended = monotonic()
    if ended > due:
        tally.ends.record(due, ended)
    tally.count(plan.spec.scenario, outcome)


def open_and_use(client: Client, plan: Plan, tally: Tally) -> str:
    """The outcome of the stream; raises its error."""
    spec = plan.spec
    fields: dict[str, Any] = {"n": spec.choices} if spec.choices > 1 else {}
    heartbeat = 0.03 if plan.use == "heartbeat" else None
    stream = client.stream(spec.marker, deadline=plan.deadline, heartbeat=heartbeat, soak=asdict(spec), **fields)
    if plan.use == "forget":
        return read_and_forget(stream, plan)
    if stream.request_id not in (None, spec.marker):
        tally.add_violation("no mixed answers", f"{plan}: request id {stream.request_id}")
    with interrupting(stream, plan, tally):
        outcome = use(stream, plan, tally)
    check_turn(plan, stream.turn, outcome, tally)
    return outcome


def read_and_forget(stream: ResponseStream, plan: Plan) -> str:
    for _ in range(plan.events):
        next(stream, None)
    return "forgotten"


@contextmanager
def interrupting(stream: ResponseStream, plan: Plan, tally: Tally) -> Iterator[None]:
    """Another thread cancels or closes the stream during the block, if that is planned."""
    if plan.use not in ("cancel", "close"):
        yield
        return
    called: list[float] = []

    def interrupt() -> None:
        called.append(monotonic())
        try:
            stream.cancel() if plan.use == "cancel" else stream.close()
        except BaseException as error:
            tally.add_violation("no untyped exception", f"{plan}, interrupted: {error!r}")

    timer = threading.Timer(plan.seconds, interrupt)
    timer.start()
    try:
        yield
    except Cancelled:
        if called and (ended := monotonic()):
            tally.wakes.record(called[0], ended)
        raise
    finally:
        timer.cancel()
        timer.join()


def use(stream: ResponseStream, plan: Plan, tally: Tally) -> str:
    match plan.use:
        case "collect":
            stream.collect()
        case "aggregate":
            for _ in stream.aggregate():
                pass
        case "text":
            text = "".join(stream.text())
            if text != stream.turn.text:
                tally.add_violation("the turn is what was yielded", f"{plan}: {text!r}")
        case "break":
            with stream:
                for number, _ in enumerate(stream):
                    if number == plan.events:
                        return "broken off"
        case _:
            iterate(stream, plan, tally)
    return "whole" if stream.turn.status != "incomplete" or plan.use != "close" else "closed"


def iterate(stream: ResponseStream, plan: Plan, tally: Tally) -> None:
    texts = ["", ""]
    for event in stream:
        if isinstance(event, (OutputTextDelta, FunctionCallDelta)):
            texts[event.choice] += event.delta
    if [*map(text_and_arguments, stream.turn.choices)] != texts[: len(stream.turn.choices)]:
        tally.add_violation("the turn is what was yielded", f"{plan}: {texts!r}")


# ── checks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def text_and_arguments(turn: Turn) -> str:
    return turn.text + "".join(call.arguments for call in turn.function_calls)


def check_error(plan: Plan, error: ChatStreamError, tally: Tally) -> None:
    """The scenario allows the error, and nothing in it belongs to another request."""
    name = type(error).__name__
    allowed = SCENARIOS[plan.spec.scenario].outcomes | ALWAYS_ALLOWED
    if name not in allowed and name != OWN_END.get(plan.use):
        tally.add_violation("every fault ends in its own error", f"{plan}: {name}: {error}")
    foreign_markers = set(re.findall(r"<\d+>", str(error))) - {plan.spec.marker}
    if foreign_markers or error.request_id not in (None, plan.spec.marker):
        tally.add_violation("no mixed answers", f"{plan}: {error} (request id {error.request_id})")
    if error.partial is not None:
        check_turn(plan, error.partial, name, tally)


def check_turn(plan: Plan, turn: Turn, outcome: str, tally: Tally) -> None:
    """The turn is the beginning of the request's own answer, and all of it where the stream completed."""
    spec = plan.spec
    expected = f'"{spec.text}"' if spec.scenario == "function_call" else spec.text
    may_be_whole = "whole" in SCENARIOS[spec.scenario].outcomes or spec.faulty_attempts != ALL_ATTEMPTS
    texts = [text_and_arguments(view) for view in turn.choices]
    if not all(any(each.startswith(text) for each in (expected, spec.text)) for text in texts):
        tally.add_violation("no mixed answers", f"{plan}, {outcome}: {texts}")
    elif outcome == "whole" and not (may_be_whole and texts == [expected] * spec.choices):
        tally.add_violation("no quiet success", f"{plan}: {texts}, {turn.status}")
