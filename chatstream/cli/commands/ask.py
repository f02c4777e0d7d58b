"""``chatstream QUESTION``: a question → its answer on stdout, written as it arrives.

Rules:
- stdout receives the text of the first choice and nothing else. Refusals and statistics go to stderr.
"""

from __future__ import annotations

import argparse
from typing import TextIO

from ..._runtime.imports import imports
from ...types.prompt import Prompt
from ..answer import Answers
from ..arguments import add_output, add_programs, add_request, add_server, add_version, new_parser
from ..output import write_events
from ..question import NO_QUESTION, user_message
from ..report import print_report
from ..settings import client_of
from ..spinner import Spinner
from ..terminal import stdin_is_piped

EXAMPLES = """\
  chatstream "Why is the sky blue?" -m gpt-4.1-mini
  chatstream "Why is the sky blue?" -p local               # a real model on this machine
  chatstream "Why?" --base-url localhost:8080/v1 -m any    # any server with the Chat Completions API
  git diff | chatstream "Write a commit message"           # piped text follows the question
  chatstream "What differs?" -f old.py -f new.py           # text files
  chatstream "What is on it?" -i photo.jpg                 # an image
  chatstream "Three colours" -o seed=1 -o stop='["4."]'    # any field of the request
  chatstream "The planets" --schema planets:Planet         # JSON of a type, or of a schema in a file
  chatstream "Weather in Oslo?" --tool weather:get_weather # a function that the model may call
  chatstream "Why?" --json | jq -r .type                   # one event per line
  chatstream "Why?" --record why.sse --timing              # to play it back: chatstream replay why.sse
"""


def parser() -> argparse.ArgumentParser:
    """The parser of ``chatstream`` without a command. Options may split the question."""
    with imports():
        from ..main import COMMANDS
    listed = "".join(f"  chatstream {name:<12} {does}\n" for name, does in COMMANDS.items())
    more = "\nEach command has its own help: chatstream chat --help\n"
    parser = new_parser(
        "", "[ask] [options] QUESTION", "Ask a model, and stream its answer.", f"{EXAMPLES}\ncommands:\n{listed}{more}"
    )
    parser.add_argument("question", nargs="*", help="the question; - stands for the text read from stdin")
    add_server(parser)
    add_request(parser)
    add_output(parser)
    add_programs(parser).add_argument(
        "--schema",
        metavar="FILE|MODULE:TYPE",
        help="request JSON of this schema or type; check that the answer is JSON, and that it matches the type",
    )
    add_version(parser)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Send the question and write the answer to ``out``. Raises `ConfigError`, and the errors of `Client.stream`."""
    if not (options.question or options.file or options.image or stdin_is_piped()):
        parser().error(NO_QUESTION)
    prompt = Prompt(options.system, [user_message(options)])
    spinner = Spinner(wanted=not options.plain)
    answers = Answers(options, spinner)
    try:
        spinner.start()
        with (
            client_of(options, on_wait=spinner.tick, on_retry=spinner.retry) as client,
            answers.open(client, prompt) as answer,
        ):
            events = answer.aggregate() if options.aggregate else answer
            write_events(answers.shown(events), options, out, spinner)
    finally:
        spinner.stop()
    print_report(answer.turn, options)
