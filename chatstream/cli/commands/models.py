"""``chatstream models``: a server → the names of its models on stdout, one per line."""

from __future__ import annotations

import argparse
from typing import TextIO

from ..arguments import add_server, new_parser
from ..settings import client_of
from ..terminal import escape_controls

EXAMPLES = """\
  chatstream models                        # those of OpenAI
  chatstream models -p groq | grep llama
  chatstream models --base-url localhost:8080/v1
"""


def parser() -> argparse.ArgumentParser:
    parser = new_parser("models", "[options]", "List the models of a server, in the order of the server.", EXAMPLES)
    add_server(parser, with_model=False)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Write the names to ``out``. Raises `ConfigError`, and the errors of `Client.models`."""
    with client_of(options) as client:
        names = client.models()
    out.write("".join(f"{escape_controls(name)}\n" for name in names))
    out.flush()
