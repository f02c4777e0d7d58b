"""Draws the terminal session of the command line page: ``python docs/terminal.py`` writes ``docs/terminal.svg``.

    a scripted server ─▶ `chatstream` on a pseudo-terminal ─▶ what the terminal received ─rich▶ docs/terminal.svg

It needs the extra `cli`, and a system with pseudo-terminals.
"""

from __future__ import annotations

import copy
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.color import ColorTriplet
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from chatstream.testing import FaultServer, Script, delta, done, end, event, finish, head, pause

HERE = Path(__file__).resolve().parent
COLUMNS = 76
COMMAND = ["Why is the sky blue?", "-m", "gpt-4.1-mini", "--timing"]
THOUGHTS = ["The user ", "wants ", "a short ", "explanation."]
ANSWER = """Sunlight has all colours. Air **scatters** them unequally:

- *blue*, whose waves are short, strongly
- *red*, whose waves are long, hardly

So blue light reaches you from every direction.
"""


def script() -> Script:
    """An answer with reasoning, whose pieces come one after the other."""
    thoughts = [
        event(
            {
                "id": "c1",
                "model": "gpt-4.1-mini",
                "choices": [{"index": 0, "delta": {"reasoning_content": each}}],
            }
        )
        for each in THOUGHTS
    ]
    steps = [pause(0.2), head(), *thoughts]
    for piece in re.findall(r"\s*\S+", ANSWER):
        steps += [delta(piece), pause(0.06)]
    return [*steps, finish(), done(), end()]


def session() -> str:
    """What a terminal receives of one call."""
    with FaultServer(script()) as server:
        environ = {
            **os.environ,
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "sk-example",
            "TERM": "xterm-256color",
        }
        environ |= {"COLUMNS": str(COLUMNS), "LINES": "40"}
        environ.pop("NO_COLOR", None)
        reader, terminal = pty.openpty()
        command = [sys.executable, "-m", "chatstream", *COMMAND]
        with subprocess.Popen(
            command, env=environ, stdin=terminal, stdout=terminal, stderr=terminal
        ) as process:
            os.close(terminal)
            received = b""
            try:
                while data := os.read(reader, 65536):
                    received += data
            except OSError:  # Linux reports the end so
                pass
            process.wait()
        os.close(reader)
    return received.decode()


def screen(received: str) -> list[str]:
    """The lines that stand on the screen in the end, with their styles."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[\d*A|\r|\x1b\[2?K|\n)", re.sub(r"\x1b\[\?\d+[lh]", "", received)):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row -= int(part[2:-1] or 1)
        elif part in ("\x1b[2K", "\x1b[K"):
            lines[row] = ""
        elif part != "\r":
            lines[row] += part
    return lines


def main() -> None:
    """Write the picture."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(
            record=True,
            width=COLUMNS + 4,
            file=nowhere,
            force_terminal=True,
            color_system="standard",
        )
        console.print(
            '$ chatstream "Why is the sky blue?" -m gpt-4.1-mini --timing',
            highlight=False,
            markup=False,
        )
        console.print(Text.from_ansi("\n".join(screen(session())).rstrip()))
        theme = copy.copy(SVG_EXPORT_THEME)
        # rich's own colours are too close to each other for letters that are faint
        theme.background_color, theme.foreground_color = (
            ColorTriplet(13, 17, 23),
            ColorTriplet(230, 237, 243),
        )
        svg = console.export_svg(title="chatstream", unique_id="terminal", theme=theme)
    svg = re.sub(
        r"@font-face \{.*?\}", "", svg, flags=re.DOTALL
    )  # which would be loaded from elsewhere
    text = "\n".join(line.rstrip() for line in svg.splitlines() if line.strip())
    (HERE / "terminal.svg").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
