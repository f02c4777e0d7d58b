"""``chatstream QUESTION``: a question → its answer on stdout, written as it arrives.

Rules:
- stdout receives the text of the first choice and nothing else. Refusals and statistics go to stderr.
- A text that does not end its line gets a line end, even when it breaks off, so that later output starts a new line.
"""

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


def ask(options: argparse.Namespace, out: TextIO) -> None:
    """Send the question and write the answer to ``out``. Raises `ConfigError`, and what `Client.stream` raises."""
    prompt = Prompt(options.system, _question(options.question))
    provider = Provider.from_toml(options.config, options.provider) if options.config else options.provider
    fields = {"max_tokens": options.max_tokens, "temperature": options.temperature}
    given = {name: value for name, value in fields.items() if value is not None}
    with Client(provider, model=options.model, deadline=options.deadline) as client:
        with client.stream(prompt, **given) as stream:
            _write_text(stream, out)
        if stream.turn.refusal:
            print_to_stderr(f"chatstream: the model refused: {stream.turn.refusal}")
        if options.stats:
            print_to_stderr(_stats(stream))


def _question(arguments: list[str]) -> str:
    piped = read_stdin() if "-" in arguments else ""
    question = " ".join(piped if argument == "-" else argument for argument in arguments).strip()
    if not question:
        raise ConfigError("there is no question: give one as an argument, or give - and pipe a text into stdin")
    return question


def _write_text(stream: ResponseStream, out: TextIO) -> None:
    written = ""
    end = ""  # of the text so far
    try:
        for event in stream:
            if isinstance(event, OutputTextDelta) and event.choice == 0:
                written = escape_controls(event.delta, end) if out.isatty() else event.delta
                end = (end + event.delta)[-2:]
                out.write(written)
                out.flush()
    finally:
        if written and not written.endswith("\n"):
            out.write("\n")
            out.flush()


def _stats(stream: ResponseStream) -> str:
    turn, timing = stream.turn, stream.timing
    usage = turn.token_usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage else "no usage reported"
    times = f"first after {timing.first_event:.2f} s, {timing.total:.2f} s"
    return f"[{turn.model}: {turn.finish_reason or turn.status}; {tokens}; {times}]"
