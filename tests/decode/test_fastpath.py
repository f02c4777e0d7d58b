"""Chunks read by the frame of earlier ones: the result equals that of the decoder, which is called only if needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import TEXTS

from chatstream._decode import chunks
from chatstream._decode.chunk import Chunk, PlainPayload
from chatstream._decode.chunks import ChunkReader
from chatstream._decode.machine import Machine
from chatstream.errors import ProtocolViolation

pytestmark = pytest.mark.thorough

KEYS = ("content", "reasoning_content", "arguments")
property_test = settings(deadline=None, derandomize=True, max_examples=500, database=None)


def text_chunk(text: str, **fields: Any) -> str:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return json.dumps({"id": "1", "model": "m", "choices": [choice], **fields})


def payloads_of(texts: list[str]) -> list[PlainPayload]:
    return [PlainPayload("message", text) for text in texts]


def read(texts: list[str]) -> tuple[list[Chunk], int]:
    """The chunks of ``texts``, and how many texts were skipped."""
    reader = ChunkReader(skip_undecodable=True)
    return list(reader.read(payloads_of(texts))), reader.skipped


def read_separately(texts: list[str]) -> tuple[list[Chunk], int]:
    """The same, but each text is read by a new reader."""
    found = [read([text]) for text in texts]
    return [chunk for chunks, _ in found for chunk in chunks], sum(skipped for _, skipped in found)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts whose JSON is decoded, in order."""
    texts: list[str] = []
    load = chunks.load

    def recording_load(text: str) -> Any:
        texts.append(text)
        return load(text)

    monkeypatch.setattr(chunks, "load", recording_load)
    return texts


# ── comparison with the decoder ─────────────────────────────────────────────────────────────────────────────────


@st.composite
def similar_chunks(draw: st.DrawFn) -> list[str]:
    """Chunks in the format of one server that mostly differ in their text; in some, another field differs or the JSON
    is broken."""
    key, other = draw(st.sampled_from(KEYS)), draw(st.sampled_from(KEYS))
    padding = draw(st.sampled_from([None, "obfuscation", "p", "created", "note"]))
    order = draw(st.permutations(["id", "model", "choices", None]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    ascii_only = draw(st.booleans())
    texts = []
    for _ in range(draw(st.integers(4, 9))):
        text_key = key if draw(st.integers(0, 9)) else other
        fields = {
            "id": draw(st.sampled_from(["1", "1", "1", "1", "2"])),
            "model": draw(st.sampled_from(["m", "m", "m", "m", '"content":"'])),
            "choices": [_choice(text_key, draw(TEXTS), draw(st.integers(0, 9)))],
        }
        if padding is not None:
            fields[padding] = draw(TEXTS)
        body = {name or padding: fields[name or padding] for name in order if name or padding}
        text = json.dumps(body, ensure_ascii=ascii_only, separators=separators)
        texts.append(text if draw(st.integers(0, 9)) else _broken(draw, text))
    return texts


def _choice(key: str, text: str, variant: int) -> dict[str, Any]:
    delta: dict[str, Any] = {key: text}
    if key == "arguments":
        call = {"index": 0, "function": {key: text}}
        delta = {"tool_calls": [{"id": "c", **call} if variant == 1 else call] * (2 if variant == 2 else 1)}
    if variant == 3:
        delta = {"content": text, "reasoning_content": text}
    return {"index": 1 if variant == 4 else 0, "delta": delta, "finish_reason": "stop" if variant == 5 else None}


def _broken(draw: st.DrawFn, text: str) -> str:
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 3, len(text))))
    return text[:start] + draw(st.text('"\\{}[],:nu0d8\n ', max_size=3)) + text[end:]


@property_test
@given(similar_chunks())
@example(['{"content":"a"}'] * 4)
@example(
    [text_chunk("a"), text_chunk("a"), text_chunk("b"), text_chunk("c")[:-1], text_chunk("d") + "}", text_chunk("e")]
)
@example([text_chunk("a"), text_chunk("a"), text_chunk("b"), text_chunk('c"}').replace("\\", ""), text_chunk("d")])
@example([text_chunk("a", note={"content": "b"}) for _ in range(5)])
@example(['{"error":{"content":"a"}}'] * 5)
def test_a_chunk_is_parsed_the_same_after_other_chunks_as_alone(texts):
    assert read(texts) == read_separately(texts)


# ── single cases ────────────────────────────────────────────────────────────────────────────────────────────────


def texts_of(texts: list[str]) -> list[str]:
    return [chunk.choices[0].text for chunk in read(texts)[0]]


@pytest.mark.parametrize("fields", [{}, {"obfuscation": "x7"}, {"p": "abc", "created": 1}], ids=repr)
def test_after_three_chunks_in_one_frame_the_fourth_is_read_without_decoding_its_json(decoded, fields):
    expected = ["a", "b", "c", 'd"\\\n\u2028🦊', "e"]
    texts = [text_chunk(text, **fields) for text in expected]
    assert texts_of(texts) == expected
    assert decoded[:3] == texts[:3]
    assert len(decoded) == 4  # the three texts and the probe
    assert not {*texts[3:]} & {*decoded}


def test_padding_of_another_length_does_not_change_the_frame(decoded):
    texts = [text_chunk("word", obfuscation="x" * number) for number in range(1, 9)]
    assert texts_of(texts) == ["word"] * 8
    assert len(decoded) == 4


@pytest.mark.parametrize(
    "delta",
    [
        lambda text: {"reasoning_content": text},
        lambda text: {"content": None, "reasoning_content": text},
        lambda text: {"content": "", "reasoning_content": text},
        lambda text: {"tool_calls": [{"index": 2, "function": {"arguments": text}}]},
        lambda text: {"tool_calls": [{"index": 2, "id": "c", "function": {"name": "f", "arguments": text}}]},
    ],
    ids=["reasoning", "null content", "empty content", "arguments", "a call with id and name"],
)
def test_chunks_of_reasoning_and_of_calls_are_read_by_their_frame(decoded, delta):
    texts = [json.dumps({"choices": [{"index": 3, "delta": delta(text), "finish_reason": None}]}) for text in "abcde"]
    assert read(texts) == read_separately(texts)
    assert decoded.count(texts[0]) == 2  # once in each of the two readings
    assert decoded.count(texts[4]) == 1


def test_a_chunk_that_differs_between_its_text_and_its_padding_is_decoded(decoded):
    texts = [text_chunk("a", obfuscation="x") for _ in range(5)]
    texts.append(texts[0].replace('"finish_reason": null', '"finish_reason": "stop"'))
    assert read(texts)[0][-1].choices[0].finish_reason == "stop"
    assert decoded[-1] == texts[-1]


def test_a_new_frame_is_learned_after_the_chunks_change(decoded):
    texts = [text_chunk("a", created=number // 6) for number in range(18)]
    assert texts_of(texts) == ["a"] * 18
    assert len(decoded) == 4 + 3 + 3  # only the tail changes


def test_chunks_without_a_common_frame_are_decoded_once_each(decoded):
    texts = [text_chunk("a", created=number) for number in range(12)]
    assert texts_of(texts) == ["a"] * 12
    assert decoded == texts


def test_a_chunk_with_empty_text_is_decoded(decoded):
    texts = [text_chunk(text) for text in ("a", "b", "c", "", "d")]
    assert texts_of(texts) == ["a", "b", "c", "", "d"]
    assert texts[3] in decoded


@pytest.mark.parametrize(
    "invalid",
    [
        text_chunk("d").replace('"d"', '"d\n"'),
        text_chunk("d").replace('"d"', '"d'),
        text_chunk("d") + "]",
    ],
    ids=["a line break in a string", "a string without an end", "a bracket at the end"],
)
def test_invalid_json_in_a_known_frame_raises_protocol_violation(invalid):
    texts = [text_chunk("a"), text_chunk("b"), text_chunk("c"), text_chunk("d"), invalid]
    events: list[Any] = []
    with pytest.raises(ProtocolViolation, match="not a chunk"):
        events.extend(Machine().read(ChunkReader().read(payloads_of(texts))))
    delivered = [getattr(event, "delta", "") for event in events]
    assert delivered == ["", "a", "b", "c", "d"]


@pytest.mark.parametrize(
    "misleading",
    [
        '{"model":"\\"content\\":\\"x","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}',
        '{"provider":{"content":"x"},"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}',
        '{"choices":[{"index":0,"delta":{"content":"x","content":"%s"},"finish_reason":null}]}',
        '{"choices":[{"index":0,"delta":{"content":"%s","content":"x"},"finish_reason":null}]}',
        '{"choices":[{"index":0,"delta":{"content":"%s","reasoning_content":"x"},"finish_reason":null}]}',
    ],
)
def test_a_string_elsewhere_in_the_chunk_is_not_taken_for_its_text(misleading):
    texts = [misleading % text for text in ("x", "x", "x", "x", "y", "z")]
    assert read(texts) == read_separately(texts)


def test_raw_is_the_decoded_json_of_chunks_that_are_read_by_their_frame():
    texts = [text_chunk(text, obfuscation="x") for text in "abcd"]
    reader = ChunkReader()
    assert [reader.raw for _ in reader.read(payloads_of(texts))] == [json.loads(text) for text in texts]
