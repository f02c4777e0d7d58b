"""Errors that a server reports inside an answer with status 200: every form, at every place, and what is no error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from answers import DONE, STOP, chunk, read, sse, text, turn_of

from chatstream import ProtocolViolation, ProviderError, StreamTruncated
from chatstream._decode.error_body import error_of_body

SENTENCE = "The queue is full."


def event(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def bare(body: Any, indent: int | None = None) -> bytes:
    """A JSON object as lines without ``data:``."""
    return json.dumps(body, indent=indent).encode() + b"\n\n"


# Each form: its bytes, and the code of the error.
FORMS: dict[str, tuple[bytes, Any]] = {
    "an error object": (event({"error": {"message": SENTENCE, "code": "busy", "type": "t"}}), "busy"),
    "an error object with a numeric code": (event({"error": {"message": SENTENCE, "code": 503}}), 503),
    "an error object with a code of digits": (event({"error": {"message": SENTENCE, "code": "503"}}), "503"),
    "an error object without a code": (event({"error": {"message": SENTENCE}}), None),
    "an error object with its sentence under msg": (event({"error": {"msg": SENTENCE, "code": 1}}), 1),
    "an error that is text": (event({"error": SENTENCE}), None),
    "an error beside empty choices": (event({"choices": [], "error": {"message": SENTENCE}}), None),
    "an error beside a choice": (event({**chunk(), "error": {"message": SENTENCE, "code": 1}}), 1),
    "an error in a list of one": (event([{"error": {"message": SENTENCE, "code": 503, "status": "BUSY"}}]), 503),
    "an error inside a choice": (
        event({"choices": [{"index": 0, "delta": {}, "error": {"message": SENTENCE, "code": 7}}]}),
        7,
    ),
    "an error inside a choice that finished": (
        event({"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": SENTENCE}}]}),
        None,
    ),
    "an error inside the second choice": (
        event({"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}, "error": {"message": SENTENCE}}]}),
        None,
    ),
    "an object of the kind error": (event({"object": "error", "message": SENTENCE, "code": 40}), 40),
    "an object of the type error": (event({"type": "server_error", "message": SENTENCE}), None),
    "a detail": (event({"detail": SENTENCE}), None),
    "a list of details": (event({"detail": [{"msg": SENTENCE, "loc": []}]}), None),
    "a named event with an object": (event({"message": SENTENCE, "code": 9}, "error"), 9),
    "a named event with an error object": (event({"error": {"message": SENTENCE, "code": 9}}, "error"), 9),
    "a named event with text": (event(SENTENCE, "error"), None),
    "an error field with an object": (
        b"error: " + json.dumps({"message": SENTENCE, "code": 500}).encode() + b"\n\n",
        500,
    ),
    "an error field with an error object": (
        b"error:" + json.dumps({"error": {"message": SENTENCE, "code": 500}}).encode() + b"\n\n",
        500,
    ),
    "an error field with text": (b"error: " + SENTENCE.encode() + b"\n\n", None),
    "an error field between other fields": (b"id: 4\nerror: " + SENTENCE.encode() + b"\nretry: 10\n\n", None),
    "an error field with CRLF": (b"error: " + SENTENCE.encode() + b"\r\n\r\n", None),
    "a bare JSON line": (bare({"error": {"message": SENTENCE, "code": 11}}), 11),
    "a bare JSON line and one line end": (bare({"error": SENTENCE})[:-1], None),
    "a bare JSON line with CRLF": (bare({"error": SENTENCE})[:-2] + b"\r\n\r\n", None),
    "a bare JSON object over several lines": (bare({"error": {"message": SENTENCE, "code": 11}}, indent=2), 11),
    "a bare JSON object with a sign of failure": (bare({"message": SENTENCE, "status": 500}), 500),
    "a bare JSON line after a comment line": (b": wait\n" + bare({"error": {"message": SENTENCE}}), None),
}
SIGNS: dict[str, tuple[dict[str, Any], Any]] = {
    "a code": ({"message": SENTENCE, "code": 1301}, 1301),
    "a code that is a word": ({"message": SENTENCE, "code": "Throttled"}, "Throttled"),
    "a status": ({"message": SENTENCE, "status": 429}, 429),
    "a status that is a word": ({"message": SENTENCE, "status": "failed"}, "failed"),
    "success false": ({"message": SENTENCE, "success": False}, None),
    "a list of errors beside it": ({"message": SENTENCE, "errors": [{"code": "e1"}]}, "e1"),
    "msg and a code": ({"msg": SENTENCE, "code": "1301"}, "1301"),
    "errorMessage and a status": ({"errorMessage": SENTENCE, "status": 500}, 500),
    "Message and a code": ({"Message": SENTENCE, "code": -1}, -1),
    "error_msg and a code": ({"error_msg": SENTENCE, "code": 18}, 18),
    "errors with a message": ({"errors": [{"message": SENTENCE}]}, None),
    "errors with text": ({"errors": [SENTENCE]}, None),
    "errors with a detail": ({"errors": [{"detail": SENTENCE, "code": 3}]}, 3),
    "choices that are empty": ({"choices": [], "message": SENTENCE, "code": 4}, 4),
    "choices that are null": ({"choices": None, "message": SENTENCE, "success": False}, None),
    "a good and a bad sign": ({"message": SENTENCE, "code": 0, "status": "failed"}, 0),
    "a base_resp": ({"choices": None, "base_resp": {"status_code": 1004, "status_msg": SENTENCE}}, 1004),
}
FORMS |= {f"a sentence with {name}": (event(body), code) for name, (body, code) in SIGNS.items()}

PLACES: dict[str, tuple[bytes, bytes, str]] = {
    "first": (b"", sse(text("a"), STOP), ""),
    "after comments": (b": hold on\n\n:\n\n", DONE, ""),
    "in the middle": (sse(text("a"), text("b"), done=False), sse(text("c"), STOP), "ab"),
    "before the end marker": (sse(text("ab"), STOP, done=False), DONE, "ab"),
    "last": (sse(text("a"), done=False), b"", "a"),
    "alone": (b"", b"", ""),
}


@pytest.mark.parametrize(("before", "after", "received"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(("form", "code"), FORMS.values(), ids=FORMS)
def test_an_error_raises_provider_error_with_its_sentence_and_code(form, code, before, after, received):
    answer = read(before + form + after, None)
    assert type(answer.error) is ProviderError, answer.error
    assert SENTENCE in answer.error.message
    assert (answer.error.code, answer.turn.text) == (code, received)


@pytest.mark.parametrize(
    "tail",
    [
        event({"error": {"message": SENTENCE}})[:-2],
        event({"message": SENTENCE}, "error")[:-2],
        bare({"error": {"message": SENTENCE}})[:-2],
        bare({"error": {"message": SENTENCE}}, indent=1)[:-2],
        b"error: " + json.dumps({"message": SENTENCE}).encode(),
        b"error: " + SENTENCE.encode() + b"\n",
    ],
    ids=[
        "data",
        "a named event",
        "a bare line",
        "several bare lines",
        "an error field",
        "an error field with a line end",
    ],
)
@pytest.mark.parametrize(
    "before",
    [b"", sse(text("a"), done=False), sse(text("a"), STOP, done=False)],
    ids=["alone", "after text", "after the finish"],
)
def test_an_error_at_the_end_of_the_bytes_counts_without_its_blank_line(before, tail):
    answer = read(before + tail)
    assert type(answer.error) is ProviderError, answer.error
    assert answer.error.message == SENTENCE


def test_text_beside_an_error_is_delivered_before_it():
    for error in ({"error": {"message": SENTENCE}}, {"error": SENTENCE}):
        answer = read(sse({**text("a"), **error}))
        assert (type(answer.error), answer.turn.text) == (ProviderError, "a")


# ── what is no error ────────────────────────────────────────────────────────────────────────────────────────────

HARMLESS: dict[str, dict[str, Any]] = {
    "a lone sentence": {"message": "Warming up."},
    "a sentence and a code of 0": {"message": "Fine.", "code": 0},
    "a sentence and a code of 200": {"msg": "Fine.", "code": 200},
    "a sentence and a code of digits": {"msg": "Fine.", "code": "200"},
    "a sentence and a null code": {"msg": "Fine.", "code": None},
    "a sentence and the status ok": {"message": "Fine.", "status": "OK"},
    "a sentence and the status success": {"message": "Fine.", "status": "Success"},
    "a sentence and the status processing": {"message": "Wait.", "status": "processing"},
    "a sentence and the status queued": {"message": "Wait.", "status": "queued"},
    "a sentence and success true": {"message": "Fine.", "success": True},
    "a sentence and no errors": {"message": "Fine.", "errors": []},
    "a code without a sentence": {"code": 500},
    "a failure without a sentence": {"success": False},
    "a null error": {"error": None},
    "a null error beside empty choices": {"error": None, "choices": []},
    "a null detail": {"detail": None},
    "an empty detail": {"detail": ""},
    "a base_resp of success": {"base_resp": {"status_code": 0, "status_msg": "success"}},
    "unknown fields": {"progress": {"done": 3}, "note": "x"},
}
BESIDE_CHOICES: dict[str, dict[str, Any]] = {
    "a detail": {"detail": "Nothing."},
    "a sentence and a code": {"message": "Nothing.", "code": 500},
    "a sentence and success false": {"message": "Nothing.", "success": False},
    "a null error and a detail": {"error": None, "detail": "Nothing."},
    "a null error, a sentence and a status": {"error": None, "message": "Nothing.", "status": "running"},
    "errors": {"errors": [{"message": "Nothing."}]},
}


@pytest.mark.parametrize("body", HARMLESS.values(), ids=HARMLESS)
def test_an_answer_goes_on_after(body):
    assert turn_of(body, text("a"), body, text("b"), body, STOP, body).text == "ab"


@pytest.mark.parametrize("fields", BESIDE_CHOICES.values(), ids=BESIDE_CHOICES)
def test_an_answer_goes_on_after_a_chunk_with_choices_and(fields):
    assert turn_of({**text("a"), **fields}, {**text("b"), **fields}, {**STOP, **fields}).text == "ab"


@pytest.mark.parametrize("name", ["ping", "warning", "Error", "errors", "status"])
@pytest.mark.parametrize(
    "data", ['{"error": {"message": "no"}}', '{"message": "no", "code": 500}', "no", "[DONE]", "{"]
)
def test_an_event_of_another_name_is_no_error(name, data):
    data_ = event(data, name) + sse(text("a"), done=False) + event(data, name) + sse(STOP)
    assert read(data_).turn.text == "a"


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Warming up."},
        {"msg": "Warming up.", "code": 0},
        {"errorMessage": "Warming up."},
        {"Message": "Warming up."},
        {"error_msg": "Warming up."},
    ],
    ids=repr,
)
@pytest.mark.parametrize("done", [True, False])
def test_a_lone_sentence_is_quoted_if_the_answer_ends_without_any_choice(body, done):
    for data in (
        sse(body, done=done),
        sse({"id": "r"}, body, {"message": "Second."}, done=done),
        bare(body) + (DONE if done else b""),
    ):
        answer = read(data)
        assert type(answer.error) is StreamTruncated
        assert "Warming up." in str(answer.error)
        assert "Second." not in str(answer.error)


@pytest.mark.parametrize(
    "body",
    [
        {"text": "Hi"},  # of an application's own stream
        {"type": "start"},
        {"object": "list", "data": [{"id": "gpt-4o"}]},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"choices": [], "usage": {"total_tokens": 3}},
        {},
    ],
    ids=repr,
)
@pytest.mark.parametrize("done", [True, False])
def test_the_newest_json_of_an_answer_without_any_choice_is_quoted(body, done):
    for data in (sse({"type": "ping"}, body, done=done), bare(body) + (DONE if done else b"")):
        answer = read(data)
        assert type(answer.error) is StreamTruncated
        assert str(answer.error).endswith(f"before any content arrived; the server said: {json.dumps(body)}")


def test_an_empty_body_is_a_truncated_answer_with_a_hint_at_the_base_url():
    answer = read(b"")
    assert type(answer.error) is StreamTruncated
    assert str(answer.error).endswith(
        "ended before any content arrived: its body is empty; does base_url end with the root of the API, often /v1?"
    )


def test_a_lone_sentence_is_not_quoted_once_there_is_a_choice():
    answer = read(sse({"message": "Warming up."}, text("a"), done=False))
    assert type(answer.error) is StreamTruncated
    assert "Warming" not in str(answer.error)


def test_at_most_2_kb_of_a_lone_sentence_are_quoted():
    error = read(sse({"message": "ä" * 9000})).error
    assert type(error) is StreamTruncated
    assert 1000 < len(str(error).encode()) < 2300


# ── bare JSON ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("indent", [None, 1, 4], ids=["one line", "indented by one", "indented by four"])
@pytest.mark.parametrize(
    "after", [b"", b": bye\n\n", DONE, b"event: end\ndata: {}\n\n", sse(text("a"), STOP), b"\n\n\n"], ids=repr
)
def test_bare_json_first_in_the_body_is_an_error_whatever_follows(indent, after):
    for before in (b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf"):
        answer = read(before + bare({"error": {"message": SENTENCE, "code": 5}}, indent) + after)
        assert type(answer.error) is ProviderError, answer.error
        assert (answer.error.message, answer.error.code) == (SENTENCE, 5)


def test_bare_json_between_the_lines_of_an_event_does_not_break_it():
    line = bare({"progress": 1})[:-2]
    event_ = b'data: {"choices": [{"delta": {"content": "a"}}]}'
    for data in (line + b"\n" + event_, event_ + b"\n" + line):
        assert read(sse(text("x"), done=False) + data + b"\n\n" + sse(STOP)).turn.text == "xa"


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{x",
        b'{"a": 1',
        b"{} {}",
        b'{"a": 1}}',
        b"error",
        b"error:",
        b"error: ",
        b"errors: x",
        b" error: x",
        b' {"error": "x"}',
        b'["error"]',
        b"xerror: x",
    ],
    ids=repr,
)
def test_a_line_that_is_neither_a_field_nor_a_json_object_is_ignored(line):
    for data in (line + b"\n\n", line + b"\n", b"id: 1\n" + line + b"\n\n"):
        assert read(sse(text("a"), done=False) + data + sse(STOP)).turn.text == "a"


def test_bare_json_that_is_a_chunk_is_read_as_one():
    data = sse(text("a"), done=False) + bare(text("b")) + bare(text("c"), indent=2) + bare(STOP)
    assert read(data).turn.text == "abc"
    answer = read(bare(text("a")) + bare(text("b")) + bare(STOP))
    assert (answer.error, answer.turn.text) == (None, "ab")


@pytest.mark.parametrize("body", [b'{"error": {"message": "no"', b'{"a": 1} x', b"{}}"], ids=repr)
def test_a_body_that_begins_like_json_but_is_none_raises_protocol_violation(body):
    answer = read(body)
    assert type(answer.error) is ProtocolViolation


# ── the wait ────────────────────────────────────────────────────────────────────────────────────────────────────

WAITS: dict[str, tuple[Any, float | None]] = {
    "retryDelay in seconds": ({"error": {"message": "x", "details": [{"retryDelay": "39s"}]}}, 39.0),
    "retryDelay with a fraction": (
        {"error": {"message": "x", "details": [{"@type": "t"}, {"retryDelay": "1.25s"}]}},
        1.25,
    ),
    "retryDelay in a list of one": ([{"error": {"code": 429, "message": "x", "details": [{"retryDelay": "7s"}]}}], 7.0),
    "retryDelay of minutes and seconds": ({"error": {"message": "x", "details": [{"retryDelay": "1m30s"}]}}, 90.0),
    "a nonsense retryDelay": (
        {"error": {"message": "x", "details": [{"retryDelay": "soon"}, {"retryDelay": 5}]}},
        None,
    ),
    "details of another type": ({"error": {"message": "x", "details": {"retryDelay": "7s"}}}, None),
    "retryDelay before the sentence": (
        {"error": {"message": "try again in 2s", "details": [{"retryDelay": "7s"}]}},
        7.0,
    ),
    "a sentence with seconds": ({"error": {"message": "Slow down. Please try again in 1.2s."}}, 1.2),
    "a sentence with milliseconds": ({"error": {"message": "Please try again in 240ms, or pay."}}, 0.24),
    "a sentence with minutes and seconds": ({"error": {"message": "Please try again in 6m0s."}}, 360.0),
    "a sentence with minutes and a fraction": ({"error": {"message": "Please try again in 7m12.5s"}}, 432.5),
    "a sentence with hours": ({"error": {"message": "please TRY AGAIN IN 1h2m3s"}}, 3723.0),
    "a sentence with words": ({"error": {"message": "Retry after 20 seconds"}}, 20.0),
    "a sentence with minutes in words": ({"error": {"message": "Wait 2 minutes"}}, 120.0),
    "a sentence with a colon": ({"detail": "Rate limited; retry after: 3 sec"}, 3.0),
    "an error that is text": ({"error": "Busy, try again in 5s"}, 5.0),
    "a plain text": ("Too many requests. Try again in 9s.", 9.0),
    "no unit": ({"error": {"message": "try again in 5"}}, None),
    "another unit": ({"error": {"message": "try again in 5 days"}}, None),
    "a unit that only begins like one": ({"error": {"message": "try again in 5 stops"}}, None),
    "a duration without an advice": ({"error": {"message": "The call took 5s"}}, None),
    "no duration": ({"error": {"message": "try again later"}}, None),
}


@pytest.mark.parametrize(("body", "seconds"), WAITS.values(), ids=WAITS)
def test_the_wait_of_a_refusal_is_read_from(body, seconds):
    assert error_of_body(body if isinstance(body, str) else json.dumps(body)).retry_after == seconds


def test_the_wait_in_a_long_text_is_searched_for_in_linear_time():
    for text_ in ("again in " * 20_000, "again in 1" + "1" * 100_000, "again in " + "1s " * 50_000):
        assert error_of_body(text_).message
