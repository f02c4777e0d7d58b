"""Command-line arguments → a command that is run, and its exit status.

    chatstream "question" --provider local
    git diff | chatstream "Review this:" -m gpt-4.1-mini
    chatstream chat
    chatstream doctor localhost:8080

Rules:
- The first argument is the name of a command; if it is not, the arguments are those of ``ask``.
- Exit status: 0 if the command succeeded or the reader of stdout has gone, 1 after an error, 2 after wrong usage,
  130 after Ctrl-C.
- An error is one line on stderr. The part of an answer that arrived before it stays on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol, TextIO, cast

from .._runtime.imports import imports
from ..errors import ChatStreamError
from .arguments import WrongUsage
from .terminal import discard_stdout, prepare_stdout, print_to_stderr

COMMANDS = {  # the modules of `commands`, and what each does
    "ask": "ask one question; the word may be left out",
    "chat": "hold a conversation that is kept in a file",
    "map": "send every prompt in a file, and write the answers to another file",
    "replay": "play back a recorded answer",
    "serve": "answer requests over HTTP with recorded answers",
    "models": "list the models of a server",
    "providers": "list the providers, your own and the built-in ones",
    "doctor": "check how a server streams",
    "completion": "print the code that lets a shell complete the arguments",
}
OTHER_WORDS = {"help": "--help", "version": "--version", "list": "models"}  # commands of other programs


class Command(Protocol):
    """A module of `commands`."""

    parser: Callable[[], argparse.ArgumentParser]
    run: Callable[[argparse.Namespace, TextIO], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` describes (default: ``sys.argv[1:]``) and return its exit status.

    Wrong usage, ``--help`` and ``--version`` raise `SystemExit`, as `argparse` does.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    is_named = bool(arguments) and arguments[0] in COMMANDS
    try:
        command = load(arguments.pop(0) if is_named else "ask")
        options = command.parser().parse_intermixed_args(arguments)
        if not is_named:
            _reject_lookalike(options.question)
        with _warnings_as_lines():
            command.run(options, prepare_stdout())
    except KeyboardInterrupt:
        return 130
    except WrongUsage as error:
        return _fail(error, 2)
    except ChatStreamError as error:  # caught before OSError because IdleTimeout and DeadlineExceeded are both
        return _fail(error)
    except OSError as error:
        discard_stdout()
        return 0 if isinstance(error, BrokenPipeError) else _fail(error)
    return 0


def load(name: str) -> Command:
    """The module of a command."""
    with imports():
        return cast("Command", import_module(f"{__package__}.commands.{name}"))


def _reject_lookalike(words: list[str]) -> None:
    """Raise `WrongUsage` for one word that is nearly a command, alone or before what only a command takes: it would be
    sent to a server as a question."""
    if words and all("://" in each or os.path.isfile(each) for each in words[1:]):
        with imports():
            from difflib import get_close_matches
        close = get_close_matches(words[0].lower(), [*COMMANDS, *OTHER_WORDS], n=1, cutoff=0.75)
        if close:
            meant = OTHER_WORDS.get(close[0], close[0])
            raise WrongUsage(
                f"{words[0]!r} is not a command: did you mean 'chatstream {meant} …'? To send a one-word question, "
                f"use 'chatstream ask {words[0]}'"
            )


def _fail(error: Exception, status: int = 1) -> int:
    print_to_stderr(f"chatstream: {error}")
    return status


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print a warning as one line, without the place in the code that it comes from."""

    def show(message: Warning | str, *place: object, **more: object) -> None:
        print_to_stderr(f"chatstream: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
