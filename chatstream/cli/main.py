"""Command-line arguments → a command that is run, and its exit status.

    chatstream "question" --provider local
    git diff | chatstream "Review this:" - -m gpt-4.1-mini
    chatstream doctor http://127.0.0.1:8080/v1

Rules:
- Exit status: 0 if the command succeeded or the reader of stdout has gone, 1 after an error, 2 after wrong usage,
  130 after Ctrl-C.
- An error is one line on stderr. The part of an answer that arrived before it stays on stdout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from .._version import __version__
from ..errors import ChatStreamError
from .ask import ask
from .doctor import examine
from .terminal import discard_stdout, prepare_stdout, print_to_stderr

Command = Callable[[argparse.Namespace, TextIO], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` describes (default: ``sys.argv[1:]``) and return its exit status.

    Wrong usage, ``--help`` and ``--version`` raise `SystemExit`, as `argparse` does.
    """
    command, options = _parse(sys.argv[1:] if argv is None else list(argv))
    try:
        command(options, prepare_stdout())
    except KeyboardInterrupt:
        return 130
    except ChatStreamError as error:  # caught before OSError because IdleTimeout and DeadlineExceeded are both
        return _fail(error)
    except OSError as error:
        discard_stdout()
        return 0 if isinstance(error, BrokenPipeError) else _fail(error)
    return 0


def _parse(arguments: list[str]) -> tuple[Command, argparse.Namespace]:
    # Without a URL, `chatstream doctor …` is a question that happens to begin with this word.
    has_url = any(argument.startswith(("http://", "https://")) for argument in arguments)
    if arguments[:1] == ["doctor"] and has_url:
        return examine, doctor_parser().parse_args(arguments[1:])
    return ask, parser().parse_intermixed_args(arguments)


def _fail(error: Exception) -> int:
    print_to_stderr(f"chatstream: {error}")
    return 1


def parser() -> argparse.ArgumentParser:
    """The parser of ``chatstream QUESTION``. Use ``parse_intermixed_args``: options may split the question."""
    parser = argparse.ArgumentParser(prog="chatstream", description="Ask a model a question and stream its answer.")
    parser.add_argument("question", nargs="+", help="the question; - stands for the text read from stdin")
    parser.add_argument("-m", "--model", help="name of the model, as its server knows it")
    parser.add_argument("-s", "--system", help="instructions, sent as the system message")
    parser.add_argument(
        "-p", "--provider", default="openai", help="id of the provider, or a base URL (default: openai)"
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="TOML file that defines the provider in a table [model_providers.ID]"
    )
    parser.add_argument("--max-tokens", type=int, help="maximum length of the answer, in tokens")
    parser.add_argument("--temperature", type=float, help="sampling temperature")
    parser.add_argument("--deadline", type=float, help="time limit for the whole call, in seconds")
    parser.add_argument("--stats", action="store_true", help="print usage, finish reason and timing to stderr")
    parser.add_argument("--version", action="version", version=f"chatstream {__version__}")
    return parser


def doctor_parser() -> argparse.ArgumentParser:
    """The parser of the arguments that follow ``chatstream doctor``."""
    parser = argparse.ArgumentParser(prog="chatstream doctor", description="Report how a server streams.")
    parser.add_argument("base_url", help="base URL of its API, such as http://127.0.0.1:8080/v1")
    parser.add_argument("-m", "--model", help="name of the model, as the server knows it")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable that holds the API key")
    return parser
