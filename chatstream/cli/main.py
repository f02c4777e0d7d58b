"""The command line: a question in, the answer streamed to stdout.

    chatstream "question" --provider local
    git diff | chatstream "Review this:" - -m gpt-4.1-mini
    chatstream doctor http://127.0.0.1:8080/v1

Rules:
- stdout has the answer's text and nothing else, in UTF-8 wherever it is not a terminal; all the rest goes to stderr.
- What a terminal would obey (escape sequences, control and bidi characters) reaches none: it is shown, not sent.
- Exit status: 0 done, or nobody reads on; 1 an error in one line; 2 wrong usage; 130 on Ctrl-C. What has come of an
  answer stays on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .._version import __version__
from ..errors import ChatStreamError
from .ask import answer
from .doctor import examine
from .terminal import prepare_stdout, print_to_stderr


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on ``argv``, and return its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    is_doctor = words[:1] == ["doctor"] and any(word.startswith(("http://", "https://")) for word in words)
    options = doctor_parser().parse_args(words[1:]) if is_doctor else parser().parse_intermixed_args(words)
    try:
        return examine(options, prepare_stdout()) if is_doctor else answer(options, prepare_stdout())
    except KeyboardInterrupt:
        return 130
    except ChatStreamError as error:  # before OSError, which timeouts are too
        return _failed(error)
    except OSError as error:
        # Python flushes stdout once more at exit: give what it could not write somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if isinstance(error, BrokenPipeError) else _failed(error)


def _failed(error: Exception) -> int:
    print_to_stderr(f"chatstream: {error}")
    return 1


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatstream", description="Ask a model, and stream its answer.")
    parser.add_argument("question", nargs="+", help="what to ask; - stands for what comes in on stdin")
    parser.add_argument("-m", "--model", help="the model's name, as its server knows it")
    parser.add_argument("-s", "--system", help="instructions that the model gets first")
    parser.add_argument("-p", "--provider", default="openai", help="a ready-made provider's id (default: openai)")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="a TOML file that has the provider as [model_providers.ID]"
    )
    parser.add_argument("--max-tokens", type=int, help="the most that the answer may have")
    parser.add_argument("--temperature", type=float, help="how freely the model chooses its words")
    parser.add_argument("--deadline", type=float, help="seconds that the whole call may take")
    parser.add_argument("--stats", action="store_true", help="usage, finish reason and time on stderr at the end")
    parser.add_argument("--version", action="version", version=f"chatstream {__version__}")
    return parser


def doctor_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatstream doctor", description="Ask a server how it streams.")
    parser.add_argument("base_url", help="where its API begins, like http://127.0.0.1:8080/v1")
    parser.add_argument("-m", "--model", help="the model's name, as the server knows it")
    parser.add_argument("--key-env", metavar="NAME", help="the environment variable that holds its key")
    return parser
