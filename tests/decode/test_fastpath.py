"""Chunks read by the frame of those before them: the decoder is the oracle, and is asked no more than needed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import WORDS

from chatstream._decode import chunks
from chatstream._decode.chunk import BodyPayload, Chunk
from chatstream._decode.chunks import ChunkReader
from chatstream.errors import ProtocolViolation

KEYS = ("content", "reasoning_content", "arguments")
law = settings(deadline=None, derandomize=True, max_examples=500, database=None)


def text_chunk(words: str, **fields: Any) -> str:
    choice = {"index": 0, "delta": {"content": words}, "logprobs": None, "finish_reason": None}
    return json.dumps({"id": "1", "model": "m", "choices": [choice], **fields})


def payloads_of(texts: list[str]) -> list[BodyPayload]:
    return [BodyPayload("message", text) for text in texts]


def read(texts: list[str]) -> tuple[list[Chunk], int]:
    """The chunks up to the first that can't be read, and how many texts were skipped."""
    reader = ChunkReader(skip_undecodable=True)
    return list(reader.read(payloads_of(texts))), reader.skipped


def read_apart(texts: list[str]) -> tuple[list[Chunk], int]:
    """The same, each by a reader of its own, which has seen no other."""
    found = [read([text]) for text in texts]
    return [chunk for chunks, _ in found for chunk in chunks], sum(skipped for _, skipped in found)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are decoded."""
    texts: list[str] = []
    load = chunks.load

    def noted(text: str) -> Any:
        texts.append(text)
        return load(text)

    monkeypatch.setattr(chunks, "load", noted)
    return texts


# ── the oracle ──────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def spelled(draw: st.DrawFn) -> list[str]:
    """Chunks that are mostly alike: one server's way of writing, other words; here and there something else differs,
    or a letter is broken."""
    key, other = draw(st.sampled_from(KEYS)), draw(st.sampled_from(KEYS))
    padding = draw(st.sampled_from([None, "obfuscation", "p", "created", "note"]))
    order = draw(st.permutations(["id", "model", "choices", None]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    ascii_only = draw(st.booleans())
    texts = []
    for _ in range(draw(st.integers(4, 9))):
        said = key if draw(st.integers(0, 9)) else other
        fields = {
            "id": draw(st.sampled_from(["1", "1", "1", "1", "2"])),
            "model": draw(st.sampled_from(["m", "m", "m", "m", '"content":"'])),
            "choices": [_choice(said, draw(WORDS), draw(st.integers(0, 9)))],
        }
        if padding is not None:
            fields[padding] = draw(WORDS)
        body = {name or padding: fields[name or padding] for name in order if name or padding}
        text = json.dumps(body, ensure_ascii=ascii_only, separators=separators)
        texts.append(text if draw(st.integers(0, 9)) else _broken(draw, text))
    return texts


def _choice(key: str, words: str, odd: int) -> dict[str, Any]:
    delta: dict[str, Any] = {key: words}
    if key == "arguments":
        call = {"index": 0, "function": {key: words}}
        delta = {"tool_calls": [{"id": "c", **call} if odd == 1 else call] * (2 if odd == 2 else 1)}
    if odd == 3:
        delta = {"content": words, "reasoning_content": words}
    return {"index": 1 if odd == 4 else 0, "delta": delta, "finish_reason": "stop" if odd == 5 else None}


def _broken(draw: st.DrawFn, text: str) -> str:
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 3, len(text))))
    return text[:start] + draw(st.text('"\\{}[],:nu0d8\n ', max_size=3)) + text[end:]


@law
@given(spelled())
@example(['{"content":"a"}'] * 4)
@example(
    [text_chunk("a"), text_chunk("a"), text_chunk("b"), text_chunk("c")[:-1], text_chunk("d") + "}", text_chunk("e")]
)
@example([text_chunk("a"), text_chunk("a"), text_chunk("b"), text_chunk('c"}').replace("\\", ""), text_chunk("d")])
@example([text_chunk("a", note={"content": "b"}) for _ in range(5)])
@example(['{"error":{"content":"a"}}'] * 5)
def test_chunks_are_read_the_same_beside_others_as_alone(texts):
    assert read(texts) == read_apart(texts)


# ── one by one ──────────────────────────────────────────────────────────────────────────────────────────────────


def words_of(texts: list[str]) -> list[str]:
    return [chunk.choices[0].text for chunk in read(texts)[0]]


@pytest.mark.parametrize("fields", [{}, {"obfuscation": "x7"}, {"p": "abc", "created": 1}])
def test_after_three_alike_the_fourth_is_not_decoded(decoded, fields):
    said = ["a", "b", "c", 'd"\\\n\u2028🦊', "e"]
    texts = [text_chunk(words, **fields) for words in said]
    assert words_of(texts) == said
    assert decoded[:3] == texts[:3]
    assert len(decoded) == 4  # the last one is the probe
    assert not {*texts[3:]} & {*decoded}


def test_other_padding_is_no_difference(decoded):
    texts = [text_chunk("word", obfuscation="x" * number) for number in range(1, 9)]
    assert words_of(texts) == ["word"] * 8
    assert len(decoded) == 4


@pytest.mark.parametrize(
    "delta",
    [
        lambda words: {"reasoning_content": words},
        lambda words: {"content": None, "reasoning_content": words},
        lambda words: {"content": "", "reasoning_content": words},
        lambda words: {"tool_calls": [{"index": 2, "function": {"arguments": words}}]},
        lambda words: {"tool_calls": [{"index": 2, "id": "c", "function": {"name": "f", "arguments": words}}]},
    ],
)
def test_reasoning_and_fragments_of_calls_have_frames_too(decoded, delta):
    texts = [json.dumps({"choices": [{"index": 3, "delta": delta(words), "finish_reason": None}]}) for words in "abcde"]
    assert read(texts) == read_apart(texts)
    assert decoded.count(texts[0]) == 2  # once by each of the two
    assert decoded.count(texts[4]) == 1


def test_what_differs_between_the_words_and_their_padding_is_decoded(decoded):
    texts = [text_chunk("a", obfuscation="x") for _ in range(5)]
    texts.append(texts[0].replace('"finish_reason": null', '"finish_reason": "stop"'))
    assert read(texts)[0][-1].choices[0].finish_reason == "stop"
    assert decoded[-1] == texts[-1]


def test_a_frame_that_changes_is_learned_anew(decoded):
    texts = [text_chunk("a", created=number // 6) for number in range(18)]
    assert words_of(texts) == ["a"] * 18
    assert len(decoded) == 4 + 3 + 3  # the head is the same


def test_chunks_that_are_never_alike_are_decoded_once_each(decoded):
    texts = [text_chunk("a", created=number) for number in range(12)]
    assert words_of(texts) == ["a"] * 12
    assert decoded == texts


def test_no_words_are_left_to_the_decoder(decoded):
    texts = [text_chunk(words) for words in ("a", "b", "c", "", "d")]
    assert words_of(texts) == ["a", "b", "c", "", "d"]
    assert texts[3] in decoded


@pytest.mark.parametrize(
    "odd",
    [
        text_chunk("d").replace('"d"', '"d\n"'),  # no JSON: a line break inside a string
        text_chunk("d").replace('"d"', '"d'),
        text_chunk("d") + "]",
    ],
)
def test_what_is_no_json_is_refused_inside_a_frame_too(odd):
    texts = [text_chunk("a"), text_chunk("b"), text_chunk("c"), text_chunk("d"), odd]
    with pytest.raises(ProtocolViolation, match="not a chunk"):
        list(ChunkReader().read(payloads_of(texts)))


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
def test_words_that_only_look_like_the_answer_mislead_nobody(misleading):
    texts = [misleading % words for words in ("x", "x", "x", "x", "y", "z")]
    assert read(texts) == read_apart(texts)


def test_the_raw_json_is_there_for_every_chunk():
    texts = [text_chunk(words, obfuscation="x") for words in "abcd"]
    reader = ChunkReader()
    assert [reader.raw for _ in reader.read(payloads_of(texts))] == [json.loads(text) for text in texts]
