"""``chatstream QUESTION``: a question is sent, and the answer printed as it arrives."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TextIO

from ..client import Client
from ..errors import ConfigError
from ..providers.provider import Provider
from ..types.events import OutputTextDelta
from ..types.prompt import Prompt
from .terminal import escape_controls, print_to_stderr, read_stdin

if TYPE_CHECKING:
    from .._stream import ResponseStream


def answer(options: argparse.Namespace, out: TextIO) -> int:
    piped = read_stdin() if "-" in options.question else ""
    question = " ".join(piped if word == "-" else word for word in options.question).strip()
    if not question:
        raise ConfigError("there is no question: give one as an argument, or - and a text on stdin")
    fields = {"max_tokens": options.max_tokens, "temperature": options.temperature}
    given = {name: value for name, value in fields.items() if value is not None}
    provider = Provider.from_toml(options.config, options.provider) if options.config else options.provider
    with Client(provider, model=options.model, deadline=options.deadline) as client:
        with client.stream(Prompt(options.system, question), **given) as stream:
            _print_answer(stream, out)
        if stream.turn.refusal:
            print_to_stderr(f"chatstream: the model refused: {stream.turn.refusal}")
        if options.stats:
            print_to_stderr(_stats(stream))
    return 0


def _print_answer(stream: ResponseStream, out: TextIO) -> None:
    """The text as it comes; a line end behind it, also when it breaks off, so that what follows begins a line."""
    last = ""
    try:
        for event in stream:
            if isinstance(event, OutputTextDelta) and event.choice == 0:
                last = escape_controls(event.delta) if out.isatty() else event.delta
                out.write(last)
                out.flush()
    finally:
        if last and not last.endswith("\n"):
            out.write("\n")
            out.flush()


def _stats(stream: ResponseStream) -> str:
    turn, timing = stream.turn, stream.timing
    usage = turn.token_usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage else "no usage reported"
    times = f"first after {timing.first_event:.2f} s, {timing.total:.2f} s"
    return f"[{turn.model}: {turn.finish_reason or turn.status}; {tokens}; {times}]"
