"""``chatstream serve FILE…``: recordings → a server that answers with them, until Ctrl-C."""

from __future__ import annotations

import argparse
import threading
from typing import TextIO

from ..._runtime.imports import imports
from ..arguments import add_speed, new_parser

EXAMPLES = """\
  chatstream serve why.sse weather.sse     # prints its base URL; Ctrl-C ends it
  chatstream "Why is the sky blue?" --base-url http://127.0.0.1:PORT/v1 -m any
"""


def parser() -> argparse.ArgumentParser:
    description = "Start a local server that answers requests with recorded answers, for tests and demonstrations."
    parser = new_parser("serve", "[options] FILE…", description, EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file written by --record")
    add_speed(parser)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Print the base URL, and answer until Ctrl-C. Raises `ConfigError` for a file that is not a recording."""
    with imports():
        from ...testing.replay_server import ReplayServer
    with ReplayServer(*options.files, speed=options.speed) as server:
        print(server.url, file=out, flush=True)
        threading.Event().wait()
