"""Where the messages of a conversation come from: an editor on a terminal, or the lines of a pipe.

Rules:
- A terminal is edited by prompt-toolkit if it is installed, and by readline otherwise.
- Ctrl-C drops the line, Ctrl-D at its beginning ends the conversation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from .._runtime.imports import imports
from .terminal import print_to_stderr, read_lines

PROMPT = "> "


def typed_messages(history: list[str]) -> Iterator[str]:
    """The messages that somebody types; ``history`` are earlier ones, which the arrow keys bring back."""
    read_line = _editor(history)
    while True:
        try:
            line = read_line()
        except KeyboardInterrupt:
            print_to_stderr("(Ctrl-D ends the conversation)")
            continue
        except EOFError:
            print(file=sys.stdout, flush=True)
            return
        if line.strip():
            yield line


def piped_messages() -> Iterator[str]:
    """Each line of stdin that is not blank."""
    for line in read_lines():
        if line.strip():
            yield line.rstrip("\n")


def _editor(history: list[str]) -> Callable[[], str]:
    with imports():
        try:
            from prompt_toolkit import PromptSession
            from prompt_toolkit.history import InMemoryHistory
            from prompt_toolkit.key_binding import KeyBindings
        except ImportError:
            return _readline(history)
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _insert_line_end(event: object) -> None:
        event.current_buffer.insert_text("\n")  # type: ignore[attr-defined]

    session: PromptSession[str] = PromptSession(PROMPT, history=InMemoryHistory(history), key_bindings=keys)
    return session.prompt


def _readline(history: list[str]) -> Callable[[], str]:
    with imports(), suppress(ImportError):  # which Windows does not have
        import readline

        readline.clear_history()
        for line in history:
            readline.add_history(line.replace("\n", " "))
    return lambda: input(PROMPT)
