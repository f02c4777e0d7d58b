"""Text between think tags becomes reasoning, however the tags are split."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import pytest

from chatstream import (
    ChatStreamError,
    Message,
    OutputImage,
    OutputText,
    OutputTextDelta,
    Provider,
    Reasoning,
    ReasoningDelta,
    ResponseEvent,
    StreamTruncated,
    collect,
)
from chatstream._decode.aggregate import Collector
from chatstream._decode.chunk import ChoiceDelta, Chunk
from chatstream._decode.machine import Machine
from chatstream._decode.parser import EventParser
from chatstream._decode.think_tags import ThinkTags
from chatstream.testing import text_answer
from chatstream.types.turn import Turn

ANSWER = "Well.<think>Let me see</think>It is 4."


def turn_of(pieces: list[str], tags: tuple[str, ...] = ("think",), finish: str | None = "stop") -> Turn:
    """The turn of an answer whose text arrives in ``pieces``."""
    chunks = [Chunk((ChoiceDelta(0, piece),)) for piece in pieces]
    last = [Chunk((ChoiceDelta(0, finish_reason=finish),))] if finish else []
    return turn_of_chunks([*chunks, *last, Chunk(done=True)], tags)


def turn_of_chunks(chunks: list[Chunk], tags: tuple[str, ...], choices: int = 1) -> Turn:
    collector = Collector()
    read_into(collector, chunks, tags, choices)
    return collector.turn()


def read_into(
    collector: Collector, chunks: Iterable[Chunk], tags: tuple[str, ...] = ("think",), choices: int = 1
) -> None:
    """Read chunks as the parser does: text that was held back is released at the end and before an error."""
    machine, splitter = Machine(choices), ThinkTags(tags)
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
def test_think_tags_are_recognized_however_the_text_is_split(size):
    turn = turn_of([ANSWER[i : i + size] for i in range(0, len(ANSWER), size)])
    assert (turn.text, turn.reasoning) == ("Well.It is 4.", "Let me see")


def test_several_tags_and_several_reasoning_sections_are_recognized():
    turn = turn_of(["<think>a</think>b<thought>c</thou", "ght>d"], ("think", "thought"))
    assert (turn.text, turn.reasoning) == ("bd", "ac")


def test_inside_reasoning_only_the_matching_end_tag_is_recognized():
    turn = turn_of(["<think>a<think>b<thought></think>c"], ("think", "thought"))
    assert (turn.text, turn.reasoning) == ("c", "a<think>b<thought>")


def test_an_end_tag_without_a_start_tag_stays_in_the_text():
    turn = turn_of(["so</thi", "nk>4"])
    assert (turn.text, turn.reasoning) == ("so</think>4", "")


@pytest.mark.parametrize("finish", ["stop", None])
def test_an_incomplete_tag_at_the_end_of_the_stream_is_not_lost(finish):
    assert turn_of(["1 <", " 2 <thi"], finish=finish).text == "1 < 2 <thi"
    assert turn_of(["<think>1 </th"], finish=finish).reasoning == "1 </th"


def test_an_incomplete_tag_in_the_chunk_with_the_finish_reason_is_not_lost():
    assert turn_of_chunks([Chunk((ChoiceDelta(0, "a <th", finish_reason="stop"),))], ("think",)).text == "a <th"


def test_an_incomplete_tag_is_not_lost_when_the_stream_is_truncated():
    collector = Collector()
    with pytest.raises(StreamTruncated):
        read_into(collector, [Chunk((ChoiceDelta(0, "a <th"),))])
    assert collector.turn().text == "a <th"


def test_an_incomplete_tag_is_not_lost_when_reading_the_chunks_fails():
    def chunks():
        yield Chunk((ChoiceDelta(0, "a <th"),))
        raise StreamTruncated("gone")

    collector = Collector()
    with pytest.raises(StreamTruncated, match="gone"):
        read_into(collector, chunks())
    assert collector.turn().text == "a <th"


def test_think_tags_are_recognized_in_each_choice_separately():
    pieces = [(0, "<think>a"), (1, "b</think>"), (0, "</think>c"), (1, "d")]
    chunks = [Chunk((ChoiceDelta(index, text),)) for index, text in pieces]
    turn = turn_of_chunks([*chunks, Chunk(done=True)], ("think",), choices=2)
    assert [(choice.text, choice.reasoning) for choice in turn.choices] == [("c", "a"), ("b</think>d", "")]


def test_think_tags_are_recognized_whatever_the_index_is_if_one_choice_was_requested():
    body = b"".join(
        b'data: {"choices": [{"index": %d, "delta": {"content": "%b"}}]}\n\n' % (index, text)
        for index, text in enumerate([b"<thi", b"nk>be", b"cause</thi", b"nk>so", b" 4 <"])
    )
    parser = EventParser(1, think_tags=("think",))
    turn = collect([*parser.feed(body + b"data: [DONE]\n\n"), *parser.close()])
    assert (turn.text, turn.reasoning) == ("so 4 <", "because")


def test_the_parser_delivers_an_incomplete_tag_before_the_error_of_a_truncated_stream():
    data = b'data: {"choices": [{"delta": {"content": "a <th"}}]}\n\n'
    parser = EventParser(1, think_tags=("think",))
    events: list[ResponseEvent] = [*parser.feed(data)]
    with pytest.raises(StreamTruncated):
        events.extend(parser.close())
    assert [event.delta for event in events if isinstance(event, OutputTextDelta)] == ["a ", "<th"]
    parser = EventParser(1, think_tags=("think",))
    events = [*parser.feed(data), *parser.abort()]
    assert [event.delta for event in events if isinstance(event, OutputTextDelta)] == ["a ", "<th"]


def test_think_tags_are_recognized_in_text_parts_between_other_parts():
    picture = OutputImage("data:image/png;base64,AA")
    parts = ("a<think>", picture, "b</think>c", picture, "<th")
    turn = turn_of_chunks([Chunk((ChoiceDelta(0, parts=parts),)), Chunk(done=True)], ("think",))
    assert turn.items == (
        Reasoning("b"),
        Message("assistant", [OutputText("a"), picture, OutputText("c"), picture, OutputText("<th")]),
    )


def test_reasoning_in_its_own_field_precedes_reasoning_between_tags():
    delta = ChoiceDelta(0, "<think>b</think>", reasoning="a")
    assert turn_of_chunks([Chunk((delta,)), Chunk(done=True)], ("think",)).reasoning == "ab"


def test_a_provider_with_think_tags_separates_reasoning_from_text(serve, connect):
    server = serve(text_answer("<think>hm", "m</think>", "four"))
    events = list(connect(server, think_tags=("think",)).stream("2+2"))
    assert [event.delta for event in events if isinstance(event, ReasoningDelta)] == ["hm", "m"]
    assert Provider("x", "http://127.0.0.1").think_tags == ()  # opt-in
