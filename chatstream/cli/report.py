"""What stderr receives after an answer: a refusal, statistics, and whether the answer fits ``--schema``."""

from __future__ import annotations

import argparse

from .._runtime.imports import imports
from ..types.turn import Turn
from .terminal import print_to_stderr


def print_report(turn: Turn, options: argparse.Namespace) -> None:
    """Print what the options ask for. Raises `ChatStreamError` if the answer fails the check of ``--schema``.

    With a schema in a file, the answer only has to be JSON. With ``module:Type`` it has to match the type, too.
    """
    if turn.refusal:
        print_to_stderr(f"chatstream: the model refused: {turn.refusal}")
    if options.stats:
        print_to_stderr(_stats(turn))
    if options.timing and turn.timing is not None:
        print_to_stderr(f"[{turn.timing.sparkline()}] {turn.timing}")
    if options.schema and not turn.refusal:
        with imports():
            from .schema import check_answer
        check_answer(turn, options.schema)


def _stats(turn: Turn) -> str:
    usage, timing = turn.token_usage, turn.timing
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage else "no usage reported"
    times = "no times"
    if timing is not None:
        times = f"first event after {_seconds(timing.first_event)}, end after {_seconds(timing.total)}"
    return f"[{turn.model}: {turn.finish_reason or turn.status}; {tokens}; {times}]"


def _seconds(value: float | None) -> str:
    return "…" if value is None else f"{value:.2f} s"
