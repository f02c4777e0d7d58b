"""``chatstream doctor URL``: a base URL → the report of `chatstream.doctor` on stdout."""

from __future__ import annotations

import argparse
from typing import TextIO

from ..._requirements import check_installed
from ..._runtime.imports import imports
from ..arguments import new_parser
from ..settings import key_of, with_scheme
from ..terminal import escape_controls

EXAMPLES = """\
  chatstream doctor localhost:8080/v1
  chatstream doctor https://llm.example.com/v1 -m our-model --key-env GATEWAY_KEY
"""


def parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "doctor", "[options] URL", "Send a few small requests, and report how a server streams.", EXAMPLES
    )
    parser.add_argument("base_url", metavar="URL", help="base URL of the API, such as localhost:8080/v1")
    parser.add_argument("-m", "--model", help="name of the model, as the server knows it")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable that holds the API key")
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Examine the server and write the report to ``out``.

    Raises `MissingEnvVar` if the variable that ``--key-env`` names is unset or blank, and the errors of
    `chatstream.doctor`.
    """
    with imports():
        check_installed()
        from ..._doctor import doctor  # imports the transport, which a question may not need

    report = doctor(with_scheme(options.base_url), model=options.model, api_key=key_of(options.key_env))
    out.write("".join(f"{escape_controls(line)}\n" for line in str(report).splitlines()))
    out.flush()
