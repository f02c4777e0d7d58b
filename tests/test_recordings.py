"""Real servers, recorded: every answer is reported right, however its bytes are cut.

Where a `shared` folder lies beside the checkout, its corpus, its parsing cases and all of its recordings are run too.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable
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

HERE = Path(__file__).resolve().parent / "recordings"
SHARED = Path(__file__).resolve().parents[2] / "shared"
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text("utf-8"))
USAGE = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")

beside = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared material beside this checkout")


# ── reading a recording ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Recording:
    """A whole HTTP answer, its framing and its encoding taken off."""

    status: int
    headers: dict[str, str]
    body: bytes


def read(path: Path) -> Recording:
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked" and re.match(rb"[0-9A-Fa-f]+\r\n", body):
        body = joined_chunks(body)
    if headers.get("content-encoding") == "gzip":
        body = zlib.decompressobj(31).decompress(body)
    return Recording(int(first.split()[1]), headers, body)


def joined_chunks(body: bytes) -> bytes:
    """What the chunks hold, up to the last one or to where the connection was cut."""
    joined = b""
    while size := re.match(rb"([0-9A-Fa-f]+)\r\n", body):
        end = size.end() + int(size[1], 16)
        joined += body[size.end() : end]
        body = body[end + 2 :]
    return joined


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def report(source: Iterable[bytes], choices: int) -> tuple[str, Turn | None, ChatStreamError | None]:
    """How a stream ended, what was received of it, and its error."""
    try:
        turn = collect(read_events(source, choices=choices))
    except ProviderError as error:
        return "error", error.partial, error
    except StreamTruncated as error:
        return "truncated", error.partial, error
    except ProtocolViolation as error:
        return "protocol violation", error.partial, error
    unconfirmed = all(view.finish_reason is None for view in turn.choices)
    return "unconfirmed" if unconfirmed else "completed", turn, None


def counts(usage: TokenUsage | None) -> dict[str, int] | None:
    return usage and {name: getattr(usage, name) for name in USAGE if getattr(usage, name) is not None}


def words(text: str, expected: str | dict[str, Any]) -> str | dict[str, Any]:
    """``text`` in the form in which it is expected: whole, or by its length and both ends."""
    if isinstance(expected, str):
        return text
    begins, ends = len(expected["begins"]), len(expected["ends"])
    return {"length": len(text), "begins": text[:begins], "ends": text[-ends:]}


# ── our own ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_recording_is_expected_and_none_is_too_large():
    files = {str(path.relative_to(HERE).with_suffix("")): path.stat().st_size for path in HERE.glob("*/*.http")}
    assert set(files) == set(EXPECTED)
    assert max(files.values()) < 70_000
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < 700_000


def test_every_recording_has_its_line_in_the_readme():
    lines = (HERE / "README.md").read_text("utf-8").splitlines()
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == list(EXPECTED)


STREAMS = [name for name, expected in EXPECTED.items() if expected["outcome"] != "refused"]
WHOLE = [name for name in STREAMS if EXPECTED[name]["outcome"] == "completed"]
REFUSALS = [name for name, expected in EXPECTED.items() if expected["outcome"] == "refused"]


@pytest.mark.parametrize("size", [10**9, 7, 1], ids=["whole", "in pieces of 7", "byte by byte"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_is_reported_right_however_it_is_cut(name, size):
    expected = EXPECTED[name]
    recording = read(HERE / f"{name}.http")
    assert recording.status == expected["status"] == 200
    outcome, turn, error = report(cut(recording.body, size), expected["asked"])
    assert outcome == expected["outcome"]
    assert turn is not None
    views = {view.index: view for view in seen(turn, expected)}
    for choice in expected["choices"]:
        view = views[choice["index"]]
        assert words(view.turn.text, choice["text"]) == choice["text"]
        assert (view.turn.reasoning, view.turn.refusal) == (choice["reasoning"], "")
        assert [[call.call_id, call.name, call.arguments] for call in view.turn.function_calls] == choice["calls"]
        assert view.turn.finish_reason == choice["finish_reason"]
    assert (turn.response_id, turn.model) == (expected["response_id"], expected["model"])
    assert counts(turn.token_usage) == expected["usage"]
    if "error" in expected:
        assert isinstance(error, ProviderError)
        assert {"message": error.message, "code": error.code} == expected["error"]


@dataclass
class View:
    index: int
    turn: Turn


def seen(turn: Turn, expected: dict[str, Any]) -> list[View]:
    """The choices of a turn, which must be those that are expected; a stream without any has an empty one."""
    indexes = [choice["index"] for choice in expected["choices"]] or [0]
    return [View(index, view) for index, view in zip(indexes, turn.choices, strict=True)]


@pytest.mark.parametrize("name", WHOLE)
def test_the_status_tells_what_was_cut(name):
    _, turn, _ = report([read(HERE / f"{name}.http").body], EXPECTED[name]["asked"])
    assert turn is not None
    for view, choice in zip(turn.choices, EXPECTED[name]["choices"], strict=True):
        reason = choice["finish_reason"]
        assert view.status == {"length": "incomplete", None: "unconfirmed"}.get(reason, "completed")
        for call in view.function_calls:
            assert call.status == ("incomplete" if reason == "length" else "completed")


@pytest.mark.parametrize("name", REFUSALS)
def test_a_recorded_refusal_says_its_sentence(name):
    expected = EXPECTED[name]
    recording = read(HERE / f"{name}.http")
    assert recording.status == expected["status"] != 200
    detail = error_of_body(recording.body.decode())
    if expected["error"]["message"] is None:
        assert '"type": "internal_server_error"' in detail.message
    else:
        assert detail.message == expected["error"]["message"]
    assert detail.code == expected["error"]["code"]


@pytest.mark.parametrize("name", [name for name in WHOLE if "/plain_" not in name])
def test_a_recorded_stream_cut_before_its_first_finish_reason_is_never_whole(name):
    body = read(HERE / f"{name}.http").body
    finish = re.search(rb'"finish_reason": ?"', body)
    assert finish is not None
    for end in range(0, finish.start(), max(finish.start() // 40, 1)):
        with pytest.raises(StreamTruncated):
            collect(read_events([body[:end]], choices=EXPECTED[name]["asked"]))


# ── beside the checkout ─────────────────────────────────────────────────────────────────────────────────────────

# llama.cpp sends one usage per choice, and the answer's usage is their sum; the manifest has the last one.
DISAGREED = {"llamacpp/rig-two-candidates-streaming-qwen3-1-7b-q4-k-m-gguf.sse"}


@beside
def test_the_corpus_is_reported_as_its_manifest_says():
    manifest = json.loads((SHARED / "corpus" / "manifest.json").read_text("utf-8"))
    streams = [entry for entry in manifest if entry["kind"] == "stream"]
    wrong = {entry["file"] for entry in streams if corpus_report(entry) != corpus_expected(entry)}
    assert len(streams) > 200
    assert wrong <= DISAGREED
    assert len(wrong) <= 0.05 * len(streams)


def corpus_report(entry: dict[str, Any]) -> tuple[Any, ...]:
    body = (SHARED / "corpus" / entry["file"]).read_bytes()
    outcome, turn, error = report([body], entry["request_options"].get("n") or 1)
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
    if any(not call["call_id"] for choice in entry["expected"]["choices"] for call in choice["function_calls"]):
        choices = [(*fields, without_ids(calls), reason) for *fields, calls, reason in choices]
    told = (error.message, error.code) if isinstance(error, ProviderError) else None
    usage = turn.token_usage
    all_counts = usage and {name: getattr(usage, name) for name in USAGE}
    outcome = "completed" if outcome == "unconfirmed" else outcome
    return outcome, turn.response_id, turn.model, choices, all_counts, told


def corpus_expected(entry: dict[str, Any]) -> tuple[Any, ...]:
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
    if any(not call["call_id"] for choice in expected["choices"] for call in choice["function_calls"]):
        choices = [(*fields, without_ids(calls), reason) for *fields, calls, reason in choices]
    error = expected.get("error")
    told = (error["message"], error.get("code")) if error else None
    return expected["outcome"], expected["response_id"], expected["model"], choices, expected["usage"], told


def without_ids(calls: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Where the server gave no id, the library made one up."""
    return [(name, arguments) for _, name, arguments in calls]


@beside
def test_the_refusals_of_the_corpus_say_a_sentence():
    manifest = json.loads((SHARED / "corpus" / "manifest.json").read_text("utf-8"))
    for entry in manifest:
        if entry["kind"] == "error":
            message = error_of_body((SHARED / "corpus" / entry["file"]).read_text("utf-8")).message
            assert message
            assert not message.startswith(("{", "<")), entry["file"]


@beside
def test_the_streams_of_the_corpus_say_the_same_byte_by_byte():
    manifest = json.loads((SHARED / "corpus" / "manifest.json").read_text("utf-8"))
    small = [entry for entry in manifest if entry["kind"] == "stream"]
    for entry in small:
        body = (SHARED / "corpus" / entry["file"]).read_bytes()[:20_000]
        asked = entry["request_options"].get("n") or 1
        assert told(report(cut(body, 1), asked)) == told(report([body], asked)), entry["file"]


def told(what: tuple[str, Turn | None, ChatStreamError | None]) -> tuple[Any, ...]:
    outcome, turn, error = what
    assert turn is not None
    views = [
        (
            view.text,
            view.reasoning,
            view.finish_reason,
            without_ids([(c.call_id, c.name, c.arguments) for c in view.function_calls]),
        )
        for view in turn.choices
    ]
    return outcome, views, turn.token_usage, str(error)


@beside
def test_every_parsing_case_gives_its_events():
    cases = json.loads((SHARED / "sse" / "sse_cases.json").read_text("utf-8"))
    wrong = []
    for case in cases:
        chunks = [base64.b64decode(chunk) for chunk in case["chunks"]]
        found = [(event.event, event.data) for event in sse_events(chunks)]
        if case["expect"] is not None and found != [(event["event"], event["data"]) for event in case["expect"]]:
            wrong.append(case["name"])
    assert len(cases) > 4000
    assert wrong == []


@beside
def test_every_recording_there_ends_in_a_right_and_typed_way():
    paths = sorted((SHARED / "real").glob("*/*.http"))
    assert len(paths) > 200
    wrong = [(path.stem, problem) for path in paths if (problem := wrongly_ended(path))]
    assert wrong == []


def wrongly_ended(path: Path) -> str | None:
    """What is wrong with how a recording ends, judged by the plainest reading of it."""
    recording = read(path)
    if recording.status != 200:
        detail = error_of_body(recording.body.decode())
        empty = not recording.body.strip()
        return None if (detail.message or empty) and not detail.message.startswith("<") else "no sentence"
    if path.stem == "models":
        return None
    asked = number_asked(path.with_suffix(".req.json"))
    outcome, turn, _ = report([recording.body], asked)
    if turn is None:
        return "nothing received"
    finished = re.search(rb'"finish_reason": ?"', recording.body)
    done = b"data: [DONE]" in recording.body
    streamed = not recording.body.lstrip().startswith(b"{")
    failed = re.search(rb'^data: \{"error"', recording.body, re.MULTILINE)
    if failed:
        right = ("error", "protocol violation")
    elif not streamed or (done and finished):
        right = ("completed",)
    elif done:
        right = ("unconfirmed",)
    elif finished and len(turn.choices) >= asked:
        right = ("completed",)
    else:
        right = ("truncated",)
    return None if outcome in right else f"{outcome}, not {right}"


def number_asked(request: Path) -> int:
    try:
        return int(json.loads(request.read_text("utf-8")).get("n", 1))
    except (FileNotFoundError, ValueError):
        return 1
