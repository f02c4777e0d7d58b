"""``chatstream map IN OUT``: a file of prompts → a file of results, through `map_prompts`.

Rules:
- A line of OUT is written as soon as its prompt is answered. The same command continues where a killed one stopped.
- stderr gets the progress and a last line. The exit status is 1 if a prompt has failed.
- The key is read from the environment at each request, so that workers on other machines have one of their own.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from ..._retries.limiter import Limiter
from ..._runtime.imports import imports
from ...client import Client
from ...errors import ChatStreamError, ConfigError
from ..arguments import add_server, new_parser
from ..question import request_fields
from ..settings import client_of, key_of
from ..terminal import print_to_stderr

STDIN, STDOUT = "/dev/stdin", "/dev/stdout"  # for ``-``
EXAMPLES = """\
  chatstream map prompts.jsonl answers.jsonl -m gpt-4.1-mini --concurrency 32
  chatstream map batch_input.jsonl batch_output.jsonl --base-url localhost:8080/v1 -m qwen
  chatstream map prompts.jsonl answers.jsonl -m gpt-4.1-mini --dask tcp://scheduler:8786
"""


def parser() -> argparse.ArgumentParser:
    description = (
        'Send the prompts in a file to a model. Each line is a JSON object with a "prompt", or a request of an OpenAI\n'
        "batch file."
    )
    parser = new_parser("map", "[options] IN OUT", description, EXAMPLES)
    parser.add_argument("source", metavar="IN", help="file of prompts, one JSON object per line; - for stdin")
    parser.add_argument("out", metavar="OUT", help="file of results; an existing one is continued; - for stdout")
    add_server(parser)
    group = parser.add_argument_group("run")
    group.add_argument("--concurrency", metavar="N", type=int, default=8, help="prompts in flight (default: 8)")
    group.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster with the scheduler at this address")
    group.add_argument("--requests-per-minute", metavar="N", type=float, help="upper bound; adapts to a lower limit")
    group.add_argument("--tokens-per-minute", metavar="N", type=float, help="upper bound; adapts to a lower limit")
    group = parser.add_argument_group("request")
    group.add_argument(
        "-o", "--option", metavar="KEY=JSON", action="append", default=[], help="set a field of all requests"
    )
    group.add_argument("--max-tokens", metavar="N", type=int, help="maximum length of each answer, in tokens")
    group.add_argument("--temperature", metavar="T", type=float, help="sampling temperature")
    parser.set_defaults(schema=None)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Answer the prompts. Raises the errors of `map_prompts`, and `ChatStreamError` if a prompt has failed."""
    with imports():
        from ...many.mapping import map_prompts

    fields: dict[str, Any] = request_fields(options)
    if options.model:
        fields["model"] = options.model
    failed = number = 0
    try:
        with ExitStack() as stack:
            client = stack.enter_context(_client(options))
            results = map_prompts(
                client,
                Path(STDIN if options.source == "-" else options.source),
                executor=_cluster(options.dask, stack) if options.dask else None,
                concurrency=options.concurrency,
                out=STDOUT if options.out == "-" else options.out,
                progress=True if sys.stderr is not None and sys.stderr.isatty() else None,
                **fields,
            )
            for result in results:
                number += 1
                if result.error is not None:
                    failed += 1
                    print_to_stderr(f"chatstream: {result.key}: {result.error}")
    except OSError as error:  # which `main` would take for an error of stdout
        raise ChatStreamError(f"{error.filename}: {error.strerror}") from error
    if failed:
        raise ChatStreamError(f"{failed} of {number} prompts failed: run the same command again to retry them")
    print_to_stderr(f"chatstream: all {number} prompts are answered in {options.out}")


def _client(options: argparse.Namespace) -> Client:
    """The client that the options describe, with the name of the variable of its key instead of the key."""
    variable, options.key_env = options.key_env, None
    key_of(variable)  # missing here as it would be in a worker
    limiter = Limiter(options.requests_per_minute, options.tokens_per_minute)
    client = client_of(options, limiter=limiter)
    if variable is None:
        return client
    provider = replace(client.provider, env_key=variable, api_key=None)
    return Client(provider, model=client.model, deadline=client.deadline, limiter=limiter)


def _cluster(address: str, stack: ExitStack) -> Executor:
    """The executor of a Dask cluster. Raises `ConfigError` without Dask, or if the cluster can't be reached."""
    with imports():
        try:
            distributed: Any = import_module("distributed")
        except ImportError:
            raise ConfigError("--dask needs distributed: pip install 'chatstream-py[dask]'") from None
    try:
        distributed.comm.resolve_address(address)  # because a client of a malformed one takes a minute to end
        cluster = stack.enter_context(distributed.Client(address, set_as_default=False))
    except (OSError, ValueError) as error:
        raise ConfigError(f"there is no Dask scheduler at {address}: {error}") from None
    executor: Executor = cluster.get_executor()
    return executor
