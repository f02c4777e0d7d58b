"""Reasoning between tags becomes reasoning, however the tags are cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import pytest

from chatstream import ChatStreamError, Provider, ReasoningDelta, StreamTruncated
from chatstream._decode.aggregate import Collector
from chatstream._decode.chunk import ChoiceDelta, Chunk
from chatstream._decode.machine import Machine
from chatstream._decode.think_tags import ThinkTags
from chatstream.testing import text_answer
from chatstream.types.turn import Turn

ANSWER = "Well.<think>Let me see</think>It is 4."


def told(pieces: list[str], tags: tuple[str, ...] = ("think",), finish: str | None = "stop") -> Turn:
    """The turn that a text in these pieces makes."""
    chunks = [Chunk((ChoiceDelta(0, piece),)) for piece in pieces]
    last = [Chunk((ChoiceDelta(0, finish_reason=finish),))] if finish else []
    return collected([*chunks, *last, Chunk(done=True)], tags)


def collected(chunks: list[Chunk], tags: tuple[str, ...]) -> Turn:
    collector = Collector()
    read_into(collector, chunks, tags)
    return collector.turn()


def read_into(collector: Collector, chunks: Iterable[Chunk], tags: tuple[str, ...] = ("think",)) -> None:
    """Read chunks as the parser does: what is held back is released at the end, and before an error."""
    machine, splitter = Machine(), ThinkTags(tags)
    try:
        for event in machine.read(splitter.split(chunks)):
            collector.add(event)
        for event in chain(machine.read(splitter.flush()), machine.close()):
            collector.add(event)
    except ChatStreamError:
        for event in chain(machine.read(splitter.flush()), machine.abort()):
            collector.add(event)
        raise


@pytest.mark.parametrize("size", range(1, len(ANSWER) + 1))
def test_tags_may_be_cut_anywhere(size):
    turn = told([ANSWER[i : i + size] for i in range(0, len(ANSWER), size)])
    assert (turn.text, turn.reasoning) == ("Well.It is 4.", "Let me see")


def test_several_tags_and_several_thoughts():
    turn = told(["<think>a</think>b<thought>c</thou", "ght>d"], ("think", "thought"))
    assert (turn.text, turn.reasoning) == ("bd", "ac")


def test_inside_only_the_end_tag_counts():
    turn = told(["<think>a<think>b<thought></think>c"], ("think", "thought"))
    assert (turn.text, turn.reasoning) == ("c", "a<think>b<thought>")


def test_an_end_tag_without_its_start_stays_in_the_text():
    turn = told(["so</thi", "nk>4"])
    assert (turn.text, turn.reasoning) == ("so</think>4", "")


@pytest.mark.parametrize("finish", ["stop", None])
def test_what_looked_like_a_tag_is_not_lost_at_the_end(finish):
    assert told(["1 <", " 2 <thi"], finish=finish).text == "1 < 2 <thi"
    assert told(["<think>1 </th"], finish=finish).reasoning == "1 </th"


def test_a_tag_begun_in_the_text_of_the_finish_chunk_is_not_lost():
    assert collected([Chunk((ChoiceDelta(0, "a <th", finish_reason="stop"),))], ("think",)).text == "a <th"


def test_what_was_held_back_is_given_out_before_an_error():
    collector = Collector()
    with pytest.raises(StreamTruncated):
        read_into(collector, [Chunk((ChoiceDelta(0, "a <th"),))])
    assert collector.turn().text == "a <th"


def test_an_error_in_the_stream_loses_nothing_either():
    def chunks():
        yield Chunk((ChoiceDelta(0, "a <th"),))
        raise StreamTruncated("gone")

    collector = Collector()
    with pytest.raises(StreamTruncated, match="gone"):
        read_into(collector, chunks())
    assert collector.turn().text == "a <th"


def test_each_choice_thinks_for_itself():
    pieces = [(0, "<think>a"), (1, "b</think>"), (0, "</think>c"), (1, "d")]
    chunks = [Chunk((ChoiceDelta(index, text),)) for index, text in pieces]
    turn = collected([*chunks, Chunk(done=True)], ("think",))
    assert [(choice.text, choice.reasoning) for choice in turn.choices] == [("c", "a"), ("b</think>d", "")]


def test_reasoning_of_the_servers_own_comes_first():
    delta = ChoiceDelta(0, "<think>b</think>", reasoning="a")
    assert collected([Chunk((delta,)), Chunk(done=True)], ("think",)).reasoning == "ab"


def test_a_provider_with_think_tags_splits_a_live_stream(serve, connect):
    server = serve(text_answer("<think>hm", "m</think>", "four"))
    events = list(connect(server, think_tags=("think",)).stream("2+2"))
    assert [event.delta for event in events if isinstance(event, ReasoningDelta)] == ["hm", "m"]
    assert Provider("x", "http://127.0.0.1").think_tags == ()  # opt-in
