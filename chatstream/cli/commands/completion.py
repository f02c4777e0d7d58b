"""``chatstream completion SHELL``: the commands and their options → code for a shell, made by shtab."""

from __future__ import annotations

import argparse
from typing import TextIO

from ..._runtime.imports import imports
from ...errors import ConfigError
from ...providers.presets import PRESETS
from ..arguments import new_parser
from ..settings import own_providers

EXAMPLES = """\
  chatstream completion bash > ~/.local/share/bash-completion/completions/chatstream
  chatstream completion zsh > ~/.zfunc/_chatstream
  chatstream completion fish > ~/.config/fish/completions/chatstream.fish
"""
FILES = {"file", "image", "config", "schema", "record", "files", "conversation"}  # arguments that are files


def parser() -> argparse.ArgumentParser:
    description = "Print code that lets a shell complete commands, options, files and the ids of providers."
    parser = new_parser("completion", "SHELL", description, EXAMPLES)
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="your shell")
    return parser


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Write the code to ``out``. Raises `ConfigError` if shtab is not installed."""
    with imports():
        try:
            import shtab  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise ConfigError("completion needs shtab: pip install 'chatstream-py[cli]'") from None
    out.write(f"{shtab.complete(_all_commands(shtab.FILE), options.shell)}\n")
    out.flush()


def _all_commands(file: object) -> argparse.ArgumentParser:
    """One parser with all commands; ``file`` marks an argument that is the name of a file."""
    with imports():
        from ..main import COMMANDS, load
    root = load("ask").parser()
    root._actions = [each for each in root._actions if each.dest != "question"]  # in whose place a command stands
    commands = root.add_subparsers(title="commands")
    for name, does in COMMANDS.items():
        made = load(name).parser()
        commands.add_parser(name, parents=[made], add_help=False, help=does, description=made.description)
    for each in (root, *commands.choices.values()):
        for action in each._actions:
            if action.dest in FILES:
                action.complete = file  # type: ignore[attr-defined]
            elif action.dest == "provider":
                action.choices = [*own_providers(None), *PRESETS]
    return root
