"""The arguments that several commands share, and the help, which ends with examples.

Rules:
- An option has the same name and meaning in every command.
- The usage is one line, so that a usage error is two lines.
"""

from __future__ import annotations

import argparse

from .._version import __version__
from ..errors import ConfigError


class WrongUsage(ConfigError):
    """The arguments can't be what the user meant: exit status 2."""


def new_parser(command: str, usage: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of a command, whose help ends with ``examples``; ``command`` is empty for a question alone."""
    prog = f"chatstream {command}".strip()
    return argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} {usage}",
        description=description,
        epilog=f"examples:\n{examples.rstrip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_server(parser: argparse.ArgumentParser, *, with_model: bool = True) -> None:
    """Which server and key and, ``with_model``, which model."""
    group = parser.add_argument_group("server")
    if with_model:
        group.add_argument(
            "-m", "--model", help="name of the model, as its server knows it; needed unless the provider has a default"
        )
    else:
        parser.set_defaults(model=None)
    group.add_argument("-p", "--provider", metavar="ID", help="id of a provider, or a base URL (default: openai)")
    group.add_argument("--base-url", metavar="URL", help="use the server at this URL instead of a provider")
    group.add_argument("--key-env", metavar="NAME", help="environment variable that holds the API key")
    add_config(group)
    group.add_argument("--deadline", metavar="SECONDS", type=float, help="time limit for a call with its retries")


def add_config(group: argparse._ActionsContainer) -> None:
    """Which file has the user's own providers."""
    default = "~/.config/chatstream/providers.toml"
    group.add_argument("-c", "--config", metavar="FILE", help=f"TOML file with your own providers (default: {default})")


def add_request(parser: argparse.ArgumentParser) -> None:
    """What is sent beside the question."""
    group = parser.add_argument_group("request")
    group.add_argument("-s", "--system", metavar="TEXT", help="instructions, sent as the system message")
    group.add_argument("-f", "--file", metavar="FILE", action="append", default=[], help="attach a text file")
    group.add_argument(
        "-i", "--image", metavar="IMAGE", action="append", default=[], help="attach an image file or URL"
    )
    group.add_argument(
        "-o",
        "--option",
        metavar="KEY=JSON",
        action="append",
        default=[],
        help="set a field of the request, such as -o seed=1 or -o reasoning_effort=low",
    )
    group.add_argument(
        "--tool",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a Python function that the model may call; it runs without confirmation",
    )
    group.add_argument("--max-tokens", metavar="N", type=int, help="maximum length of the answer, in tokens")
    group.add_argument("--temperature", metavar="T", type=float, help="sampling temperature")


def add_output(parser: argparse.ArgumentParser, *, recorded: bool = False) -> None:
    """What is printed, and how; ``recorded`` for an answer that is already in a file."""
    group = parser.add_argument_group("output")
    if not recorded:
        group.add_argument(
            "--record", metavar="FILE", help="write what is sent and received to a file, without the API key"
        )
    group.add_argument("--plain", action="store_true", help="on a terminal: no Markdown, no reasoning, no spinner")
    group.add_argument("--stats", action="store_true", help="print usage, finish reason and times to stderr")
    group.add_argument("--timing", action="store_true", help="print a chart of the bytes received over time to stderr")


def add_programs(parser: argparse.ArgumentParser, *, recorded: bool = False) -> argparse._ArgumentGroup:
    """What other programs read; ``recorded`` for an answer that is already in a file."""
    group = parser.add_argument_group("output for programs")
    group.add_argument("--json", action="store_true", help="print each event as a line of JSON")
    restarted = "" if recorded else "; repeat the request if the stream breaks off"
    group.add_argument("--aggregate", action="store_true", help=f"print the answer only when it is complete{restarted}")
    return group


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"chatstream {__version__}")


def add_speed(parser: argparse.ArgumentParser) -> None:
    """How fast a recording is played."""
    parser.add_argument(
        "--speed",
        metavar="FACTOR",
        type=float,
        default=0,
        help="playback speed: 1 is the original speed, 2 is twice as fast; 0 (default) does not wait",
    )
