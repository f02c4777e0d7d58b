"""Every small input from the field is read, and every history sent, as expected: whole, byte by byte and in sevens.

The inputs lie beside the checkout and are not part of it; without them these tests are skipped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatstream import (
    ChatStreamError,
    ConfigError,
    FunctionCallDelta,
    OutputImage,
    OutputText,
    OutputTextDelta,
    Prompt,
    ProtocolViolation,
    Provider,
    ProviderError,
    Reasoning,
    Refusal,
    StreamTruncated,
    Turn,
    collect,
    read_events,
)
from chatstream._calls.sender import body_settings
from chatstream._encode.body import encode_json, request_body
from chatstream.types.items import item_from_dict

FIELD = Path(__file__).resolve().parents[2] / "shared" / "field"
OUTCOMES = {"truncated": StreamTruncated, "error": ProviderError, "violation": ProtocolViolation}


def load(file: str) -> list[dict[str, Any]]:
    path = FIELD / file
    return json.loads(path.read_text("utf-8")) if path.exists() else []


def named(case: dict[str, Any]) -> str:
    return case["name"]


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)] if size else [body]


def test_the_inputs_from_the_field_are_there_or_this_is_said():
    if not FIELD.exists():
        pytest.skip("no inputs from the field beside this checkout")
    assert len(load("cases.json")) > 100


@pytest.mark.parametrize("size", [0, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize("case", load("cases.json"), ids=named)
def test_an_answer_from_the_field_is_read_as_expected(case, size):
    body = case["body"].encode("utf-8", "surrogatepass") if "body" in case else base64.b64decode(case["body_b64"])
    kwargs = {} if case["choices"] is None else {"choices": case["choices"]}
    events: list[Any] = []
    error = None
    try:
        for event in read_events(cut(body, size), **kwargs):
            events.append(event)
        turn = collect(events)
    except ChatStreamError as raised:
        error, turn = raised, raised.partial or Turn()
    expected = case["expected"]
    outcome = next((name for name, kind in OUTCOMES.items() if type(error) is kind), "completed" if not error else "?")
    assert outcome == expected["outcome"], error
    assert wrong(turn, events, error, expected) == {}


def wrong(turn: Turn, events: list[Any], error: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """What was read in another way than expected, by key: what came and what was wanted."""
    seen = dict(seen_of(turn, events, error))
    found = {}
    for key, want in expected.items():
        if key in ("outcome", "text_iter", "delta_names", "no_surrogates", "distinct_ids"):
            continue
        got = seen[key]
        same = got == want
        if key == "status" and isinstance(want, list):
            same = got in want
        elif key == "usage" and want is not None:
            same = got is not None and all(getattr(turn.token_usage, name) == count for name, count in want.items())
        elif key == "usage_raw":
            same = all(turn.token_usage.raw.get(name) == value for name, value in want.items())  # type: ignore[union-attr]
        elif key == "error_contains":
            same = want in got
        elif key == "calls":
            same = len(got) == len(want) and all(map(same_call, got, want))
        elif key == "call_ids":
            same = len(got) == len(want) and all(b is None or a == b for a, b in zip(got, want, strict=True))
        elif key == "call_extra":
            same = len(got) == len(want) and all(
                a == b if b == {} else b.items() <= a.items() for a, b in zip(got, want, strict=True)
            )
        if not same:
            found[key] = (got, want)
    found.update(broken_promises(turn, events, error, expected))
    return found


def same_call(got: list[Any], want: list[Any]) -> bool:
    name, arguments, status = want
    same_arguments = json.loads(got[1]) == arguments if isinstance(arguments, dict) else got[1] == arguments
    return got[0] == name and same_arguments and status in (None, got[2])


def seen_of(turn: Turn, events: list[Any], error: Any) -> Iterator[tuple[str, Any]]:
    content = [part for item in turn.items for part in getattr(item, "content", ())]
    others = [part for part in content if not isinstance(part, (OutputText, Refusal))]
    yield "text", turn.text
    yield "reasoning", turn.reasoning
    yield "refusal", turn.refusal
    yield "choice_texts", [choice.text for choice in turn.choices]
    yield "parts", [part.image_url if isinstance(part, OutputImage) else part.raw["type"] for part in others]
    yield "details", [each for item in turn.items if isinstance(item, Reasoning) for each in item.details]
    yield "calls", [[call.name, call.arguments, call.status] for call in turn.function_calls]
    yield "custom", [[call.name, call.input] for call in turn.custom_calls]
    yield "call_ids", [call.call_id for call in turn.function_calls]
    yield "call_extra", [call.extra for call in turn.function_calls]
    yield "finish_reason", turn.finish_reason
    yield "finish", turn.finish_kind
    yield "status", turn.status
    yield "usage", turn.token_usage
    yield "usage_raw", None
    yield "error_contains", str(error)
    yield "error_code", getattr(error, "code", None)


def broken_promises(turn: Turn, events: list[Any], error: Any, expected: dict[str, Any]) -> dict[str, Any]:
    found = {}
    if expected.get("text_iter"):
        joined = "".join(event.delta for event in events if isinstance(event, OutputTextDelta) and not event.choice)
        if joined != turn.text:
            found["text_iter"] = (joined, turn.text)
    calls = [*turn.function_calls, *turn.custom_calls]
    if expected.get("distinct_ids") and len({call.call_id for call in calls}) != len(calls):
        found["distinct_ids"] = [call.call_id for call in calls]
    if expected.get("delta_names"):
        names = {call.call_id: call.name for call in calls}
        odd = [each for each in events if isinstance(each, FunctionCallDelta) and names.get(each.call_id) != each.name]
        if odd:
            found["delta_names"] = odd
    if expected.get("no_surrogates"):
        text = repr((turn, events)) + str(error) + repr(vars(error) if error else "")
        if any("\\ud" in each for each in (text,)) or any("\ud800" <= c <= "\udfff" for c in text):
            found["no_surrogates"] = text
    return found


# ── histories ───────────────────────────────────────────────────────────────────────────────────────────────────


def prompt_of(case: dict[str, Any]) -> Prompt:
    given = case["prompt"]
    fields = given if isinstance(given, dict) else {"input": given}
    items: list[Any] = []
    for each in fields["input"]:
        if each.get("type") == "answer":
            items += collect(read_events([case["answer"].encode()])).items
        elif "role" in each and each.get("type") != "message":
            items.append(each)
        else:
            items.append(item_from_dict(each))
    return Prompt(fields.get("instructions"), items, fields.get("tools") or ())


@pytest.mark.parametrize("case", load("requests.json"), ids=named)
def test_a_history_from_the_field_is_sent_as_expected(case):
    provider = Provider("field", "http://127.0.0.1", **(case["provider"] or {}))
    expected = case["expected"]

    def body() -> Any:
        settings = body_settings(provider)
        return json.loads(
            encode_json(request_body(prompt_of(case), model=case["model"], fields=case["fields"], **settings))
        )

    if "error_contains" in expected:
        wanted = expected["error_contains"]
        with pytest.raises(ConfigError) as caught:
            body()
        assert any(each in str(caught.value) for each in ([wanted] if isinstance(wanted, str) else wanted))
        return
    assert normal(body()["messages"]) == normal(expected["messages"])


def normal(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with blanks inside the JSON of arguments left aside."""
    copied = json.loads(json.dumps(messages))
    for message in copied:
        for call in message.get("tool_calls") or ():
            try:
                call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]))
            except (KeyError, ValueError):
                continue
    return copied
