"""``chatstream replay FILE``: a recording → what `ask` printed of its answer."""

from __future__ import annotations

import argparse
from typing import TextIO

from ..._runtime.imports import imports
from ..arguments import add_output, add_programs, add_speed, new_parser
from ..output import write_events
from ..report import print_report
from ..spinner import Spinner

EXAMPLES = """\
  chatstream "Why is the sky blue?" --record why.sse
  chatstream replay why.sse                # at once
  chatstream replay why.sse --speed 1      # at the original speed
  chatstream replay why.sse --json
"""


def parser() -> argparse.ArgumentParser:
    description = "Play back a recorded answer as if it were received live. No request is sent."
    parser = new_parser("replay", "[options] FILE", description, EXAMPLES)
    parser.add_argument("files", metavar="FILE", help="a file written by --record, or a saved response body")
    add_speed(parser)
    parser.add_argument(
        "--call", metavar="N", type=int, default=-1, help="number of a call, from 0 (default: the last)"
    )
    add_output(parser, recorded=True)
    add_programs(parser, recorded=True)
    parser.set_defaults(schema=None)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Write the answer to ``out``. Raises `ConfigError` for another kind of file, and what the call raised."""
    with imports():
        from ..._recording.replay import replay
    spinner = Spinner(wanted=not options.plain)
    with replay(options.files, speed=options.speed, call=options.call) as answer:
        events = answer.aggregate() if options.aggregate else answer
        write_events(events, options, out, spinner)
    print_report(answer.turn, options)
