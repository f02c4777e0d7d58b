"""`ResponseStream.show`: one live output in a shell of IPython, and printed text elsewhere."""

from __future__ import annotations

import builtins
import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from support import REST, THREE, wait_for

from chatstream import ResponseStream, StreamTruncated, Turn, _show
from chatstream.testing import Step, cut, delta, done, end, event, finish, head, pause

USAGE = {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}
Open = Callable[..., ResponseStream]


@pytest.fixture(params=[False, True], ids=["http", "https"])
def open_stream(request: pytest.FixtureRequest, serve: Any, connect: Any) -> Iterator[Open]:
    """A function that opens a stream to a server with this script, over plain HTTP and over TLS."""
    options = {}
    if request.param:
        request.getfixturevalue("trusted")
        options["tls"] = request.getfixturevalue("tls")
    streams: list[ResponseStream] = []

    def opened(*script: Any, **settings: Any) -> ResponseStream:
        fields = {name: settings.pop(name) for name in ("n",) if name in settings}
        client = connect(serve([head(), *script], **options), stream_max_retries=0, **settings)
        streams.append(client.stream("Hi", **fields))
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


# ── a shell of IPython ──────────────────────────────────────────────────────────────────────────────────────────


class Shell:
    """A shell as a kernel has it; ``outputs`` are what it would send to the notebook, with their times."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False
        self.shell: Any = InteractiveShell.instance(config=config, user_module=ModuleType("cells"))
        self.outputs: list[dict[str, Any]] = []
        self.shell.display_pub.publish = self._publish

    def _publish(self, data: dict[str, str], metadata: Any = None, *, transient: Any, update: bool = False) -> None:
        self.outputs.append({"at": time.monotonic(), "data": data, "update": update, "id": transient.get("display_id")})

    def run(self, code: str, **names: Any) -> Any:
        """Run a cell; returns its value, or raises what it raises."""
        self.shell.user_ns.update(names)
        done = self.shell.run_cell(code, store_history=True)
        done.raise_error()
        return done.result

    def wait_until_shown(self, text: str) -> Step:
        """A step of a server that waits until the notebook shows this text, or for ten seconds."""

        def step(wire: Any) -> None:
            until = time.monotonic() + 10
            while self.markdown[-1:] != [text] and time.monotonic() < until:
                wire.wait(0.005)

        return step

    @property
    def markdown(self) -> list[str]:
        return [output["data"]["text/markdown"] for output in self.outputs]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    pytest.importorskip("IPython")
    monkeypatch.delattr(builtins, "_", raising=False)  # left by a session of plain Python in another test
    from IPython.core.interactiveshell import InteractiveShell

    yield Shell()
    InteractiveShell.clear_instance()


def test_an_answer_is_one_output_that_is_updated_and_ends_with_tokens_and_times(shell, open_stream, capsys):
    texts = ["one ", "one two ", "one two three "]
    steps = [step for each, text in zip(THREE, texts, strict=True) for step in (each, shell.wait_until_shown(text))]
    stream = open_stream(*steps, finish(usage=USAGE), done(), end())
    turn = shell.run("turn = stream.show(); turn", stream=stream)
    assert isinstance(turn, Turn)
    assert turn.text == "one two three "
    assert turn == stream.turn
    assert [output["update"] for output in shell.outputs] == [False, *[True] * (len(shell.outputs) - 1)]
    assert len({output["id"] for output in shell.outputs}) == 1
    assert shell.markdown[:-1] == ["…", *texts]
    assert re.fullmatch(r"one two three \n\n<small>m1 .*completed .*9 tokens in.*total.*</small>", shell.markdown[-1])
    assert shell.outputs[-1]["data"]["text/plain"] == "one two three "


def test_there_are_at_most_ten_updates_a_second_however_fast_the_answer_is(shell, open_stream):
    words = [step for _ in range(300) for step in (delta("word "), pause(0.002))]
    stream = open_stream(*words, *REST)
    started = time.monotonic()
    shell.run("stream.show();", stream=stream)
    took = time.monotonic() - started
    moments = [output["at"] for output in shell.outputs[:-1]]  # the last one is at the end
    assert took > 0.55
    assert all(later - before >= _show.INTERVAL for before, later in pairwise(moments))
    assert len(moments) >= 2
    assert shell.outputs[-1]["data"]["text/plain"] == "word " * 300


def test_a_long_answer_is_updated_less_often(shell, open_stream, monkeypatch):
    monkeypatch.setattr(_show, "CHARACTERS", 500)
    stream = open_stream(*(step for _ in range(50) for step in (delta("word " * 10), pause(0.01))), *REST)
    shell.run("stream.show();", stream=stream)
    sizes = [(output["at"], len(output["data"]["text/markdown"])) for output in shell.outputs[:-1]]
    assert all(later[0] - before[0] >= before[1] / 500 for before, later in pairwise(sizes))
    assert len(sizes) >= 2


def test_the_last_piece_before_a_wait_is_shown_during_the_wait(shell, open_stream):
    stream = open_stream(*THREE, shell.wait_until_shown("one two three "), *REST)
    shell.run("stream.show();", stream=stream)
    assert shell.markdown[-2] == "one two three "


def test_without_anything_new_nothing_is_sent(shell, open_stream):
    stream = open_stream(*THREE[:1], pause(0.7), *REST)
    shell.run("stream.show();", stream=stream)
    assert len(shell.outputs) <= 4


def test_reasoning_is_folded_and_calls_and_refusals_are_shown(shell, open_stream):
    entry = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    call = event({"choices": [{"index": 0, "delta": {"tool_calls": [entry]}}]})
    script = [delta("", reasoning_content="hm\n\n- <b>"), delta("Yes."), delta("", refusal="No."), call]
    shell.run("stream.show();", stream=open_stream(*script, finish("tool_calls"), done(), end()))
    folded = (
        '<details><summary>Reasoning</summary><div style="white-space:pre-wrap">hm&#10;&#10;&#45; &#60;b&#62;</div>'
    )
    assert shell.markdown[-1].startswith(f"{folded}</details>\n\nYes.\n\nNo.\n\n<code>f&#40;&#123;")


def test_several_choices_are_shown_below_each_other(shell, open_stream):
    script = [delta("One."), delta("Two.", choice=1), finish(), finish(choice=1), done(), end()]
    shell.run("stream.show();", stream=open_stream(*script, n=2))
    assert shell.markdown[-1].startswith("**Choice 1**\n\nOne.\n\n**Choice 2**\n\nTwo.\n\n<small>")


def test_html_of_the_model_is_not_passed_on(shell, open_stream):
    stream = open_stream(delta("<script>alert(1)</script>"), *REST)
    shell.run("stream.show();", stream=stream)
    assert not any("<script" in each for each in shell.markdown)
    assert stream.turn.text == "<script>alert(1)</script>"


def test_an_interrupt_keeps_the_partial_answer_and_returns_the_turn(shell, open_stream, interrupt):
    stream = open_stream(*THREE, pause(0.3), interrupt, wait_for(threading.Event()))
    turn = shell.run("stream.show()", stream=stream)
    assert turn.text == "one two three "
    assert turn.status == "incomplete"
    assert turn.timing.total > 0.25
    assert re.fullmatch(r"one two three \n\n<small>.*incomplete.*total.*</small>", shell.markdown[-1])


def test_an_interrupt_before_the_first_event_returns_an_empty_turn(shell, open_stream, interrupt):
    turn = shell.run("stream.show()", stream=open_stream(pause(0.2), interrupt, wait_for(threading.Event())))
    assert turn.items == ()
    assert shell.markdown[-1].startswith("…\n\n<small>incomplete")


def test_what_was_received_before_an_error_stays_shown_and_the_error_is_raised(shell, open_stream, capsys):
    stream = open_stream(*THREE, cut())
    with pytest.raises(StreamTruncated) as caught:
        shell.run("stream.show()", stream=stream)
    assert caught.value.partial.text == "one two three "
    assert shell.markdown[-1].startswith("one two three \n\n<small>")


def test_the_value_of_a_cell_that_ends_with_show_is_displayed_once_and_later_as_usual(shell, open_stream, capsys):
    first, second = open_stream(*THREE, *REST), open_stream(*THREE, *REST)
    turn = shell.run("stream.show()", stream=first)
    assert turn is shell.shell.user_ns["_"]
    assert "Turn(" not in capsys.readouterr().out
    shell.run("turn", turn=turn)
    assert "Turn(" in capsys.readouterr().out
    shell.run("stream.show(); stream.turn.choices[0].timing and turn", stream=second)
    assert "Turn(" in capsys.readouterr().out


def test_a_stream_that_has_been_read_is_shown_as_a_whole(shell, open_stream):
    stream = open_stream(*THREE, *REST)
    stream.collect()
    assert shell.run("stream.show()", stream=stream).text == "one two three "
    assert shell.markdown[-1].startswith("one two three \n\n<small>")


def test_a_shell_of_ipython_in_a_terminal_gets_text(shell, open_stream, capsys):
    shell.shell.display_formatter.active_types = ["text/plain"]
    shell.run("stream.show()", stream=open_stream(*THREE, *REST))
    assert capsys.readouterr().out.strip() == "one two three \nOut[1]:"
    assert shell.outputs == []


# ── without IPython ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["not installed", "not loaded", "loaded without a shell"])
def no_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a shell of IPython."""
    if request.param == "not loaded":
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
    else:
        package = ModuleType("IPython")
        package.get_ipython = lambda: None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", package if request.param.startswith("loaded") else None)
    monkeypatch.delattr(sys, "ps1", raising=False)


@pytest.mark.usefixtures("no_shell")
def test_without_a_shell_the_text_is_printed_as_it_arrives(open_stream, monkeypatch):
    def is_printed(wire: Any) -> None:
        until = time.monotonic() + 5
        while not (printed := screen.getvalue() == "one ") and time.monotonic() < until:
            wire.wait(0.002)
        seen.append(printed)

    seen: list[bool] = []
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    turn = open_stream(*THREE[:1], is_printed, *THREE[1:], *REST).show()
    assert seen == [True]
    assert turn.text == "one two three "
    assert screen.getvalue() == "one two three \n"


@pytest.mark.usefixtures("no_shell")
@pytest.mark.parametrize(
    ("steps", "printed"),
    [
        ([delta("a\n")], "a\n"),
        ([delta("", refusal="No.")], "No.\n"),
        ([delta("", reasoning_content="hm")], ""),
        ([delta("a"), delta("")], "a\n"),
    ],
)
def test_what_is_printed_ends_with_one_line_end(open_stream, capsys, steps, printed):
    open_stream(*steps, *REST).show()
    assert capsys.readouterr().out == printed


@pytest.mark.usefixtures("no_shell")
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_does_not_obey_the_model_and_a_file_gets_what_it_wrote(open_stream, monkeypatch, is_terminal):
    screen = io.StringIO()
    screen.isatty = lambda: is_terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", screen)
    open_stream(delta("a\x1b[2J\rb\u202e\tc\n"), *REST).show()
    assert screen.getvalue() == ("a\ufffd[2J\ufffdb\ufffd\tc\n" if is_terminal else "a\x1b[2J\rb\u202e\tc\n")


@pytest.mark.usefixtures("no_shell")
def test_without_stdout_nothing_is_printed_and_the_turn_is_returned(open_stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert open_stream(*THREE, *REST).show().text == "one two three "


@pytest.mark.usefixtures("no_shell")
def test_what_was_printed_before_an_error_stays_and_the_error_is_raised(open_stream, capsys):
    with pytest.raises(StreamTruncated):
        open_stream(*THREE, cut()).show()
    assert capsys.readouterr().out == "one two three \n"


@pytest.mark.usefixtures("no_shell")
@pytest.mark.parametrize("is_prompt", [True, False], ids=["at a prompt", "in a script"])
def test_an_interrupt_returns_the_turn_at_a_prompt_and_is_raised_in_a_script(
    open_stream, capsys, monkeypatch, interrupt, is_prompt
):
    stream = open_stream(*THREE, pause(0.3), interrupt, wait_for(threading.Event()))
    if is_prompt:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
        assert stream.show().text == "one two three "
    else:
        with pytest.raises(KeyboardInterrupt):
            stream.show()
    assert capsys.readouterr().out == "one two three \n"
    assert stream.turn.status == "incomplete"
    assert stream.turn.timing.total is not None
