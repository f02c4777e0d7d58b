"""Recorded answers of real servers are decoded into the expected result, whatever the size of their pieces.

Where a folder ``shared`` lies beside the checkout, its corpus, its SSE cases and all of its recordings are decoded too.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from decoding import sse_events

from chatstream import collect, read_events
from chatstream._decode.error_body import error_of_body
from chatstream.errors import ChatStreamError, ProtocolViolation, ProviderError, StreamTruncated
from chatstream.types.events import TokenUsage
from chatstream.types.turn import Turn

pytestmark = pytest.mark.thorough

HERE = Path(__file__).resolve().parent / "recordings"
SHARED = Path(__file__).resolve().parents[2] / "shared"
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text("utf-8"))
USAGE = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no folder `shared` beside this checkout")


# ── reading a recording ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Recording:
    """An HTTP response; ``body`` without chunk framing and compression."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Outcome:
    """How a stream ended, the turn received, and the error that ended it, if any."""

    name: str
    turn: Turn | None
    error: ChatStreamError | None = None


def read_recording(path: Path) -> Recording:
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked" and re.match(rb"[0-9A-Fa-f]+\r\n", body):
        body = join_chunks(body)
    if headers.get("content-encoding") == "gzip":
        body = zlib.decompressobj(31).decompress(body)
    return Recording(int(first.split()[1]), headers, body)


def join_chunks(body: bytes) -> bytes:
    """The data of the HTTP chunks, up to the last one or to where the connection was cut."""
    joined = b""
    while size := re.match(rb"([0-9A-Fa-f]+)\r\n", body):
        end = size.end() + int(size[1], 16)
        joined += body[size.end() : end]
        body = body[end + 2 :]
    return joined


def split(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def decode(source: Iterable[bytes], choices: int) -> Outcome:
    try:
        turn = collect(read_events(source, choices=choices))
    except ProviderError as error:
        return Outcome("error", error.partial, error)
    except StreamTruncated as error:
        return Outcome("truncated", error.partial, error)
    except ProtocolViolation as error:
        return Outcome("protocol violation", error.partial, error)
    unconfirmed = all(view.finish_reason is None for view in turn.choices)
    return Outcome("unconfirmed" if unconfirmed else "completed", turn)


def counts(usage: TokenUsage | None) -> dict[str, int] | None:
    return usage and {name: getattr(usage, name) for name in USAGE if getattr(usage, name) is not None}


def abridge(text: str, expected: str | dict[str, Any]) -> str | dict[str, Any]:
    """``text`` in the form of the expected one: whole, or its length and both ends."""
    if isinstance(expected, str):
        return text
    begins, ends = len(expected["begins"]), len(expected["ends"])
    return {"length": len(text), "begins": text[:begins], "ends": text[-ends:]}


# ── the recordings of this repository ───────────────────────────────────────────────────────────────────────────


def test_every_recording_has_an_expected_result_and_a_small_size():
    files = {str(path.relative_to(HERE).with_suffix("")): path.stat().st_size for path in HERE.glob("*/*.http")}
    assert set(files) == set(EXPECTED)
    assert max(files.values()) < 70_000
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < 700_000


def test_every_recording_has_its_line_in_the_readme():
    lines = (HERE / "README.md").read_text("utf-8").splitlines()
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == list(EXPECTED)


STREAMS = [name for name, expected in EXPECTED.items() if expected["outcome"] != "refused"]
COMPLETED = [name for name in STREAMS if EXPECTED[name]["outcome"] == "completed"]
REFUSALS = [name for name, expected in EXPECTED.items() if expected["outcome"] == "refused"]


@pytest.mark.parametrize("size", [10**9, 7, 1], ids=["in one piece", "in pieces of 7 bytes", "byte by byte"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_gives_the_expected_result_whatever_the_size_of_its_pieces(name, size):
    expected = EXPECTED[name]
    recording = read_recording(HERE / f"{name}.http")
    assert recording.status == expected["status"] == 200
    outcome = decode(split(recording.body, size), expected["asked"])
    turn = outcome.turn
    assert outcome.name == expected["outcome"]
    assert turn is not None
    assert_choices(turn, expected["choices"])
    assert (turn.response_id, turn.model) == (expected["response_id"], expected["model"])
    assert counts(turn.token_usage) == expected["usage"]
    if "error" in expected:
        assert isinstance(outcome.error, ProviderError)
        assert {"message": outcome.error.message, "code": outcome.error.code} == expected["error"]


def assert_choices(turn: Turn, expected: list[dict[str, Any]]) -> None:
    """The turn has the expected choices; a stream without any has an empty one."""
    indexes = [choice["index"] for choice in expected] or [0]
    views = dict(zip(indexes, turn.choices, strict=True))
    for choice in expected:
        view = views[choice["index"]]
        assert abridge(view.text, choice["text"]) == choice["text"]
        assert (view.reasoning, view.refusal) == (choice["reasoning"], "")
        assert [[call.call_id, call.name, call.arguments] for call in view.function_calls] == choice["calls"]
        assert view.finish_reason == choice["finish_reason"]


@pytest.mark.parametrize("name", COMPLETED)
def test_the_statuses_of_a_turn_and_of_its_calls_follow_from_the_finish_reason(name):
    turn = decode([read_recording(HERE / f"{name}.http").body], EXPECTED[name]["asked"]).turn
    assert turn is not None
    for view, choice in zip(turn.choices, EXPECTED[name]["choices"], strict=True):
        reason = choice["finish_reason"]
        assert view.status == {"length": "incomplete", None: "unconfirmed"}.get(reason, "completed")
        for call in view.function_calls:
            assert call.status == ("incomplete" if reason == "length" else "completed")


@pytest.mark.parametrize("name", REFUSALS)
def test_a_recorded_refusal_gives_the_message_and_code_of_the_server(name):
    expected = EXPECTED[name]
    recording = read_recording(HERE / f"{name}.http")
    assert recording.status == expected["status"] != 200
    detail = error_of_body(recording.body.decode())
    if expected["error"]["message"] is None:
        assert '"type": "internal_server_error"' in detail.message
    else:
        assert detail.message == expected["error"]["message"]
    assert detail.code == expected["error"]["code"]


@pytest.mark.parametrize("name", [name for name in COMPLETED if "/plain_" not in name])
def test_a_recorded_stream_cut_before_its_first_finish_reason_raises_stream_truncated(name):
    body = read_recording(HERE / f"{name}.http").body
    finish = re.search(rb'"finish_reason": ?"', body)
    assert finish is not None
    for end in range(0, finish.start(), max(finish.start() // 40, 1)):
        with pytest.raises(StreamTruncated):
            collect(read_events([body[:end]], choices=EXPECTED[name]["asked"]))


# ── the corpus beside the checkout ──────────────────────────────────────────────────────────────────────────────

# The manifest leaves these counts out where the server spells them flat, beside the totals.
FLAT_COUNTS = {
    "cached_input_tokens": ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"),
    "reasoning_output_tokens": ("reasoning_tokens",),
}


def corpus(kind: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The entries of the manifest of one kind (``stream`` or ``error``), each with its body."""
    for entry in json.loads((SHARED / "corpus" / "manifest.json").read_text("utf-8")):
        if entry["kind"] == kind:
            yield entry, (SHARED / "corpus" / entry["file"]).read_bytes()


def choices_of_entry(entry: dict[str, Any]) -> int | None:
    return entry["request_options"].get("n")


@needs_shared
def test_the_streams_of_the_corpus_give_the_results_of_its_manifest():
    streams = list(corpus("stream"))
    wrong = {entry["file"] for entry, body in streams if corpus_result(entry, body) != corpus_expected(entry, body)}
    assert len(streams) > 200
    assert wrong == set()


def corpus_result(entry: dict[str, Any], body: bytes) -> tuple[Any, ...]:
    outcome = decode([body], choices_of_entry(entry))
    turn, error = outcome.turn, outcome.error
    assert turn is not None
    choices = [
        (
            view.text,
            view.reasoning,
            view.refusal,
            [(call.call_id, call.name, call.arguments) for call in view.function_calls],
            view.finish_reason,
        )
        for view in turn.choices
    ]
    reported = (error.message, error.code) if isinstance(error, ProviderError) else None
    usage = turn.token_usage
    all_counts = usage and {name: getattr(usage, name) for name in USAGE}
    name = "completed" if outcome.name == "unconfirmed" else outcome.name
    return name, turn.response_id, turn.model, comparable(choices, entry), all_counts, reported


def corpus_expected(entry: dict[str, Any], body: bytes) -> tuple[Any, ...]:
    expected = entry["expected"]
    choices = [
        (
            choice["text"],
            choice["reasoning"],
            choice["refusal"],
            [(call["call_id"], call["name"], call["arguments"]) for call in choice["function_calls"]],
            choice["finish_reason"],
        )
        for choice in expected["choices"]
    ] or [("", "", "", [], None)]
    error = expected.get("error")
    reported = (error["message"], error.get("code")) if error else None
    return (
        expected["outcome"],
        expected["response_id"],
        expected["model"],
        comparable(choices, entry),
        with_flat_counts(expected["usage"], body),
        reported,
    )


def with_flat_counts(usage: dict[str, Any] | None, body: bytes) -> dict[str, Any] | None:
    """The usage of the manifest, with the counts that only the flat spelling has."""
    if usage is None:
        return None
    filled = dict(usage)
    for name, keys in FLAT_COUNTS.items():
        for key in keys:
            found = re.findall(rb'"%s": ?(\d+)' % key.encode(), body)
            if filled[name] is None and found:
                filled[name] = int(found[-1])
    return filled


def comparable(choices: list[Any], entry: dict[str, Any]) -> list[Any]:
    """The choices without call ids where the server sent none, because the library generates them."""
    calls = [call for choice in entry["expected"]["choices"] for call in choice["function_calls"]]
    if all(call["call_id"] for call in calls):
        return choices
    return [(*fields, without_ids(calls), reason) for *fields, calls, reason in choices]


def without_ids(calls: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(name, arguments) for _, name, arguments in calls]


@needs_shared
def test_the_errors_of_the_corpus_give_a_message_in_prose():
    for entry, body in corpus("error"):
        message = error_of_body(body.decode("utf-8")).message
        assert message
        assert not message.startswith(("{", "<")), entry["file"]


@needs_shared
def test_the_streams_of_the_corpus_give_the_same_result_byte_by_byte():
    for entry, body in corpus("stream"):
        choices = choices_of_entry(entry)
        one_piece, bytewise = ([body[:20_000]], split(body[:20_000], 1))
        assert summary(decode(bytewise, choices)) == summary(decode(one_piece, choices)), entry["file"]


def summary(outcome: Outcome) -> tuple[Any, ...]:
    """Everything about an outcome but generated call ids."""
    assert outcome.turn is not None
    views = [
        (
            view.text,
            view.reasoning,
            view.finish_reason,
            without_ids([(call.call_id, call.name, call.arguments) for call in view.function_calls]),
        )
        for view in outcome.turn.choices
    ]
    return outcome.name, views, outcome.turn.token_usage, str(outcome.error)


@needs_shared
def test_every_sse_case_gives_its_events():
    cases = json.loads((SHARED / "sse" / "sse_cases.json").read_text("utf-8"))
    wrong = []
    for case in cases:
        chunks = [base64.b64decode(chunk) for chunk in case["chunks"]]
        found = [(event.event, event.data) for event in sse_events(chunks)]
        if case["expect"] is not None and found != [(event["event"], event["data"]) for event in case["expect"]]:
            wrong.append(case["name"])
    assert len(cases) > 4000
    assert wrong == []


@needs_shared
def test_every_recording_beside_the_checkout_ends_with_the_right_outcome():
    paths = sorted((SHARED / "real").glob("*/*.http"))
    assert len(paths) > 200
    wrong = [(path.stem, problem) for path in paths if (problem := problem_of(path))]
    assert wrong == []


def problem_of(path: Path) -> str | None:
    """What is wrong with the outcome of a recording, judged by searching its bytes; None if nothing is."""
    recording = read_recording(path)
    if recording.status != 200:
        detail = error_of_body(recording.body.decode())
        empty = not recording.body.strip()
        return None if (detail.message or empty) and not detail.message.startswith("<") else "no message"
    if path.stem == "models":
        return None
    choices = choices_of_request(path.with_suffix(".req.json"))
    outcome = decode([recording.body], choices)
    if outcome.turn is None:
        return "nothing received"
    right = right_outcomes(recording.body, enough_choices=len(outcome.turn.choices) >= choices)
    return None if outcome.name in right else f"{outcome.name}, not {right}"


def right_outcomes(body: bytes, *, enough_choices: bool) -> tuple[str, ...]:
    """The outcomes that are right for a body."""
    finished = re.search(rb'"finish_reason": ?"', body)
    done = b"data: [DONE]" in body
    streamed = not body.lstrip().startswith(b"{")
    if re.search(rb'^data: \{"error"', body, re.MULTILINE):
        return "error", "protocol violation"
    if not streamed or (done and finished):
        return ("completed",)
    if done:
        return ("unconfirmed",)
    return ("completed",) if finished and enough_choices else ("truncated",)


def choices_of_request(request: Path) -> int:
    try:
        return int(json.loads(request.read_text("utf-8")).get("n", 1))
    except (FileNotFoundError, ValueError):
        return 1
