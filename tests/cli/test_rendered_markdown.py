"""Markdown on a terminal, drawn by rich."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from consoles import HOSTILE, Screen, is_obeyed, letters, open_terminal

from chatstream.testing import cut, delta, head, text_answer

pytest.importorskip("rich")
from chatstream.cli.markdown import Markdown

STYLE = re.compile(r"\x1b\[[\d;]*m")
# What a line is drawn and drawn again with: the cursor up, to the left, the line erased, the cursor hidden and shown.
MOVES = re.compile(r"\x1b\[\d*A|\r|\x1b\[2K|\x1b\[\?25[lh]")
PAGE = """# Title

Some *text* with `code` and a [link](https://example.com/a).

- one
- two

1. first

   still first
2. second

| a | b |
|---|---|
| 1 | 2 |

```python
x = 1

y = 2
```

The end.
"""


class FakeTerminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "LINES": "12"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown(data: str) -> str:
    """What stands on the screen in the end, without styles."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[\d*A|\r|\x1b\[2K|\n)", STYLE.sub("", re.sub(r"\x1b\[\?25[lh]", "", data))):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r":
            lines[row] += part
    return "\n".join(line.rstrip() for line in lines[: row + 1])


def drawn(text: str, step: int) -> str:
    """The output for a text that arrives in pieces, drawn after each of them."""
    out = FakeTerminal()
    writer = Markdown(out)
    for start in range(0, len(text), step):
        writer.write(text[start : start + step])
        writer._due_at = 0.0
    writer.close()
    return out.getvalue()


def test_a_terminal_shows_markdown(openai_server: Any, terminal: Screen) -> None:
    openai_server(letters(PAGE))
    assert terminal.run() == 0
    seen = terminal.seen(b"The end.\n").decode()
    assert "\x1b[3mtext\x1b[0m" in seen
    screen = shown(seen)
    assert " • one\n • two\n" in screen
    assert "link (https://example.com/a)" in screen
    assert "**" not in screen and "```" not in screen  # noqa: PT018


@pytest.mark.parametrize("step", [1, 3, 7, 50])
def test_the_screen_in_the_end_does_not_depend_on_how_the_text_arrives(step: int) -> None:
    assert shown(drawn(PAGE, step)) == shown(drawn(PAGE, len(PAGE)))


def test_blocks_are_set_apart_by_one_blank_line_and_the_last_line_ends() -> None:
    screen = shown(drawn("One.\n\n\n\nTwo.", 2))
    assert screen == "One.\n\nTwo.\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_separates_blocks(line_end: str) -> None:
    assert shown(drawn(f"One.{line_end}{line_end}Two.{line_end}{line_end}Three.\n", 1)) == "One.\n\nTwo.\n\nThree.\n"


def test_a_block_longer_than_the_screen_is_shown_whole_in_the_end() -> None:
    code = "".join(f"line {number}\n" for number in range(40))
    screen = shown(drawn(f"```\n{code}```\n", 30))
    assert [line.strip() for line in screen.split("\n") if line] == code.splitlines()


def test_the_cost_of_a_text_does_not_grow_with_its_square() -> None:
    out = FakeTerminal()
    writer = Markdown(out)
    for _ in range(200):
        writer.write("A paragraph of a few words.\n\n")
        writer._due_at = 0.0
    assert len(writer._text) < 60
    writer.close()


def test_pieces_that_arrive_at_once_are_drawn_once() -> None:
    out = FakeTerminal()
    writer = Markdown(out)
    writer.write("one ")
    first = out.getvalue()
    writer.write("two")
    assert out.getvalue() == first
    writer.close()
    assert shown(out.getvalue()) == "one two\n"


def test_blank_text_shows_nothing() -> None:
    assert shown(drawn(" \n\n ", 1)).strip() == ""


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "form", ["{}", "`{}`", "# {}", "- {}", "[{}](http://a/{})", "```\n{}\n```", "![{}](x)", "<b>{}"]
)
def test_markdown_can_not_control_the_terminal(text: str, form: str) -> None:
    written = drawn(form.replace("{}", text), 5)
    assert not any(map(is_obeyed, MOVES.sub("", STYLE.sub("", written))))


def test_entities_can_not_control_the_terminal() -> None:
    written = drawn("&#27;[2J &#x202e; &#155;31m `&#27;` [a](&#27;c)", 100)
    assert not any(map(is_obeyed, MOVES.sub("", STYLE.sub("", written))))
    assert "\x1b[2J" not in written


def test_what_arrived_of_a_broken_answer_stays_on_the_screen(openai_server: Any, terminal: Screen) -> None:
    openai_server([head(), delta("Some *text"), cut()])
    assert terminal.run() == 1
    assert shown(terminal.seen(b"*text\n").decode()) == "Some *text\n"


def test_reasoning_is_shown_before_markdown(openai_server: Any, terminal: Screen) -> None:
    from test_printed_output import THINKING

    openai_server(THINKING)
    assert terminal.run() == 0
    seen = terminal.seen(b"Yes.\n").decode()
    assert seen.startswith("\x1b[2mLet me think.\x1b[22m\n\n")
    assert shown(seen.replace("\x1b[2m", "")) == "Let me think.\n\nYes.\n"


def test_a_terminal_that_can_not_draw_lines_receives_the_text_as_it_is(openai_server: Any) -> None:
    openai_server(text_answer("*a*"))
    screen = open_terminal("ascii")
    assert screen.run() == 0
    assert screen.seen(b"\n") == b"*a*\n"
    screen.close()
