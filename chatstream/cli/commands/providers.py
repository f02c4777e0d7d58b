"""``chatstream providers``: the user's file and the built-in providers → a table on stdout."""

from __future__ import annotations

import argparse
import os
from typing import TextIO

from ..._secrets import without_query
from ...providers.presets import PRESETS
from ..arguments import add_config, new_parser
from ..settings import own_providers
from ..terminal import escape_controls

EXAMPLES = """\
  chatstream providers
  chatstream providers | grep '(set)'     # those whose key is set
  chatstream "Why?" -p groq -m llama-3.3-70b-versatile

A provider of your own is a table in ~/.config/chatstream/providers.toml, or in the file given by -c:

  model_provider = "gateway"          # used if no -p is given

  [model_providers.gateway]
  base_url = "https://llm.example.com/v1"
  env_key = "GATEWAY_KEY"
  model = "our-model"
"""


def parser() -> argparse.ArgumentParser:
    description = "List the providers for -p: id, URL, and the environment variable of the key."
    parser = new_parser("providers", "[options]", description, EXAMPLES)
    add_config(parser)
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Write a line for each provider to ``out``, your own first. Raises `ConfigError` if the file can't be used."""
    rows = [
        (id, without_query(each.base_url), each.env_key or "") for id, each in own_providers(options.config).items()
    ]
    own = {id for id, *_ in rows}
    rows += [(id, preset["base_url"], preset.get("env_key", "")) for id, preset in PRESETS.items() if id not in own]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for id, url, variable in rows:
        key = f"{variable} ({'set' if os.environ.get(variable, '').strip() else 'unset'})" if variable else "no key"
        out.write(escape_controls(f"{id:<{widths[0]}}  {url:<{widths[1]}}  {key}\n"))
    out.flush()
