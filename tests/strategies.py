"""Hypothesis strategies: complete streams in the formats of many servers, with the result that a client must report.

    the content of each choice (`ExpectedChoice`) ─encoded in the format of some server─▶ bytes

Nothing here uses the library: the expected result is known before the bytes are generated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Draw = Any
UNKNOWN_REASON = "unknown"
REASONS = ("stop", "eos", "eos_token", "tool_calls", "function_call", UNKNOWN_REASON)
CUT_REASONS = ("length", "content_filter")
MAY_HAVE_NO_ARGUMENTS = ("openai", "repeated", "same index", "alternating", "index only", "one chunk")  # call styles


@dataclass
class ExpectedCall:
    """A call that the client must report; ``call_id`` is None where the server sends none."""

    name: str
    arguments: str
    call_id: str | None
    complete: bool = True


@dataclass
class ExpectedChoice:
    """The content of one choice that the client must report."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[ExpectedCall] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def status(self) -> str:
        if self.finish_reason in CUT_REASONS or not all(call.complete for call in self.calls):
            return "incomplete"
        return "completed" if self.finish_reason not in (None, UNKNOWN_REASON) else "unconfirmed"


@dataclass
class Stream:
    """The bytes and the expected result. A stream of fewer than ``complete_at`` bytes is incomplete."""

    data: bytes
    choices: list[ExpectedChoice]
    usage: dict[str, int] | None
    response_id: str | None
    model: str | None
    complete_at: int


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "\n\n",
        "data: x",
        ": c",
        "[DONE]",
        "<think>",
        "</s>",
        "{",
        '"',
        "\\",
        "🦊",
        "日本",
        "\u2028",
        "\ufeff",
        "\r",
    ]
)
NAMES = st.sampled_from(["get_weather", "f", "sömething", "a.b-c"])
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | TEXTS
OBJECTS = st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=2), max_size=3)


def fragments_of(draw: Draw, text: str) -> list[str]:
    """``text`` cut into fragments, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def expected_choices(draw: Draw, style: str, may_be_cut: bool = True) -> ExpectedChoice:
    one = ExpectedChoice(draw(TEXTS) + draw(TEXTS))
    if draw(st.booleans()):
        one.reasoning = draw(TEXTS)
    if draw(st.integers(0, 4)) == 0:
        one.refusal = draw(TEXTS)
    if style:
        number = 1 if style == "legacy" else draw(st.integers(1, 3))
        for i in range(number):
            may_have_none = style in MAY_HAVE_NO_ARGUMENTS or (style == "bare" and number == 1)
            has_none = may_have_none and draw(st.integers(0, 2)) == 0
            arguments = (
                "" if has_none else json.dumps(draw(OBJECTS), ensure_ascii=style != "objects" and draw(st.booleans()))
            )
            call_id = None if style in ("legacy", "bare", "index only") else f"call-{i}-{draw(st.integers(0, 99))}"
            one.calls.append(ExpectedCall(draw(NAMES), arguments, call_id))
    one.finish_reason = draw(st.sampled_from(REASONS + CUT_REASONS))
    if may_be_cut and one.finish_reason in CUT_REASONS and one.calls and style in ("openai", "repeated", "same index"):
        last = one.calls[-1]
        last.arguments = last.arguments[: draw(st.integers(0, max(len(last.arguments) - 1, 0)))]
        last.complete = False
    if one.finish_reason in CUT_REASONS:
        for call in one.calls:
            call.complete = call.complete and call.arguments != ""
    return one


# ── encoding as deltas ──────────────────────────────────────────────────────────────────────────────────────────


def encode_text(draw: Draw, text: str) -> list[dict[str, Any]]:
    style = draw(st.sampled_from(["text", "text", "parts", "mixed"]))
    formats = {
        "text": lambda part: part,
        "parts": lambda part: [{"type": "text", "text": part}],
        "mixed": lambda part: [part, {"type": "reference", "ids": [1]}] if len(part) % 2 else part,
    }
    return [{"content": formats[style](part)} for part in fragments_of(draw, text)]


REASONING = {
    "DeepSeek": lambda part: {"reasoning_content": part, "content": None},
    "vLLM": lambda part: {"reasoning": part, "content": ""},
    "Copilot": lambda part: {"reasoning_text": part},
    "an object": lambda part: {"reasoning": {"text": part}},
    "details": lambda part: {"reasoning_details": [{"type": "reasoning.text", "text": part}]},
    "MiniMax": lambda part: {"reasoning_content": part, "reasoning": part, "content": ""},
    "OpenRouter": lambda part: {"content": "", "reasoning": part, "reasoning_details": [{"text": part}]},
    "Mistral": lambda part: {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": part}]}]},
}


def encode_reasoning(draw: Draw, reasoning: str) -> list[dict[str, Any]]:
    encode = REASONING[draw(st.sampled_from(sorted(REASONING)))]
    return [encode(part) for part in fragments_of(draw, reasoning)]


CALL_STYLES = [
    "openai",
    "repeated",
    "same index",
    "alternating",
    "whole",
    "one chunk",
    "bare",
    "index only",
    "late id",
    "objects",
    "legacy",
]


def encode_calls(draw: Draw, calls: list[ExpectedCall], style: str) -> list[dict[str, Any]]:
    start = draw(st.sampled_from([0, 0, 1, 5]))
    empty_id = draw(st.sampled_from([{}, {"id": ""}, {"id": None}]))
    kind = draw(st.sampled_from([{}, {"type": "function"}, {"type": ""}]))

    def first(i: int, call: ExpectedCall, arguments: Any, **more: Any) -> dict[str, Any]:
        index = {} if style in ("whole", "bare", "one chunk") else {"index": 0 if style == "same index" else i + start}
        own = empty_id if call.call_id is None else {"id": call.call_id}
        return {**index, **own, **kind, "function": {"name": call.name, "arguments": arguments}, **more}

    def rest(i: int, arguments: str) -> dict[str, Any]:
        index = 0 if style == "same index" else i + start
        name = draw(st.sampled_from([{}, {"name": None}, {"name": ""}]))
        return {"index": index, **empty_id, "function": {**name, "arguments": arguments}}

    if style == "legacy":
        (call,) = calls
        fragments = [{"arguments": part} for part in fragments_of(draw, call.arguments)]
        return [{"function_call": fragment} for fragment in ({"name": call.name, "arguments": ""}, *fragments)]
    if style == "one chunk":
        return [{"tool_calls": [first(i, call, call.arguments) for i, call in enumerate(calls)]}]
    if style in ("whole", "bare"):
        return [{"tool_calls": [first(i, call, call.arguments)]} for i, call in enumerate(calls)]
    if style == "objects":
        return [{"tool_calls": [first(i, call, json.loads(call.arguments))]} for i, call in enumerate(calls)]
    each = []
    for i, call in enumerate(calls):
        parts = fragments_of(draw, call.arguments)
        if style == "repeated":
            each.append([first(i, call, part) for part in parts])
        elif style == "late id":
            nameless = {key: value for key, value in first(i, call, "").items() if key != "id"}
            late = {"index": i + start, "id": call.call_id, "function": {"arguments": parts[0]}}
            each.append([nameless, late, *(rest(i, part) for part in parts[1:])])
        else:
            opening = draw(st.sampled_from(["", None]))
            each.append([first(i, call, opening), *(rest(i, part) for part in parts)])
    if style == "alternating":
        longest = max(map(len, each))
        fragments = [one[k] for k in range(longest) for one in each if k < len(one)]
    else:
        fragments = [fragment for one in each for fragment in one]
    return [{"tool_calls": [fragment]} for fragment in fragments]


# ── encoding as chunks ──────────────────────────────────────────────────────────────────────────────────────────


def encode_choice(draw: Draw, index: int, one: ExpectedChoice, style: str, bare_index: bool) -> list[dict[str, Any]]:
    """The entries of ``choices`` into which this choice is divided."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": draw(st.sampled_from(["", None]))}]
    if one.reasoning:
        deltas += encode_reasoning(draw, one.reasoning)
    deltas += encode_text(draw, one.text)
    if one.refusal:
        deltas += [{"refusal": part} for part in fragments_of(draw, one.refusal)]
    if one.calls:
        deltas += encode_calls(draw, one.calls, style)
    own = {} if bare_index else {"index": index}
    unfinished = draw(st.sampled_from([{}, {"finish_reason": None}, {"finish_reason": ""}]))
    entries = [{**own, "delta": delta, **unfinished} for delta in deltas]
    if draw(st.integers(0, 4)) == 0:
        entries.insert(1, {**own, "delta": None, **unfinished})
    if one.finish_reason:
        place = draw(st.sampled_from(["own chunk", "last chunk", "twice", "every tool chunk"]))
        if place in ("own chunk", "twice"):
            entries += [{**own, "delta": {}, "finish_reason": one.finish_reason}] * (1 + (place == "twice"))
        else:
            entries[-1]["finish_reason"] = one.finish_reason
        if place == "every tool chunk":
            for entry in entries:
                if entry["delta"] and "tool_calls" in entry["delta"]:
                    entry["finish_reason"] = one.finish_reason
    return entries


def distribute(draw: Draw, choices: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The entries of all choices in chunks: each choice keeps its order, and the choices are interleaved at random."""
    left = [list(entries) for entries in choices]
    chunks: list[list[dict[str, Any]]] = []
    while any(left):
        turn = draw(st.integers(0, len(left) - 1)) if len(left) > 1 else 0
        turn = turn if left[turn] else next(i for i, entries in enumerate(left) if entries)
        entry = left[turn].pop(0)
        if (
            chunks
            and all("index" in other and other["index"] != entry.get("index") for other in chunks[-1])
            and draw(st.booleans())
        ):
            chunks[-1].append(entry)
        else:
            chunks.append([entry])
    return chunks


def encode_usage(usage: dict[str, int]) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    if "cached_input_tokens" in usage:
        encoded["prompt_tokens_details"] = {"cached_tokens": usage["cached_input_tokens"]}
    return encoded


def add_usage(draw: Draw, bodies: list[dict[str, Any]], usage: dict[str, int]) -> None:
    encoded = encode_usage(usage)
    place = draw(st.sampled_from(["extra chunk", "last chunk", "every chunk", "x_groq", "three times", "null before"]))
    if place in ("every chunk", "null before"):
        for i, body in enumerate(bodies[:-1]):
            body["usage"] = None if place == "null before" else {**encoded, "completion_tokens": i}
    if place in ("last chunk", "every chunk", "null before"):
        bodies[-1]["usage"] = encoded
    if place in ("x_groq", "three times"):
        bodies[-1]["x_groq"] = {"usage": encoded}
    if place == "three times":
        bodies[-1]["usage"] = encoded
    if place in ("extra chunk", "three times"):
        bodies.append({"choices": [], "usage": encoded})


# ── encoding as bytes ───────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def streams(draw: Draw) -> Stream:
    """A complete stream of one to three choices."""
    number = draw(st.sampled_from([1, 1, 1, 2, 3]))
    styles = [draw(st.sampled_from(["", *CALL_STYLES])) for _ in range(number)]
    choices = [draw(expected_choices(style)) for style in styles]
    ending = draw(st.sampled_from(["[DONE]", "[DONE]", "DONE", ""]))
    if ending and draw(st.integers(0, 5)) == 0:
        for one in choices:
            one.finish_reason = None
            for call in one.calls:
                call.complete = call.complete or call.arguments == ""
    bare_index = number == 1 and draw(st.booleans())
    entries = [encode_choice(draw, i, one, styles[i], bare_index) for i, one in enumerate(choices)]
    bodies: list[dict[str, Any]] = [{"choices": chunk} for chunk in distribute(draw, entries)]
    usage = draw(usages())
    if usage:
        add_usage(draw, bodies, usage)
    response_id, model = draw(st.sampled_from([(None, None), ("r-1", "m-1"), ("", "m-1")]))
    if response_id is not None:
        late = draw(st.integers(0, 2))
        for i, body in enumerate(bodies):
            body.update({"id": response_id if i >= late else "", "object": "", "model": model if i >= late else ""})
        if len(bodies) <= late:
            bodies[-1].update({"id": response_id, "model": model})
    if draw(st.integers(0, 3)) == 0:
        bodies.insert(0, {"id": "", "choices": draw(st.sampled_from([[], None])), "prompt_filter_results": [{}]})
    data, complete_at = frame(draw, bodies, ending, [one.finish_reason for one in choices])
    return Stream(data, choices, usage, response_id or None, model or None, complete_at)


def usages() -> st.SearchStrategy[dict[str, int] | None]:
    counts = st.integers(0, 999)
    required = {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts}
    return st.none() | st.fixed_dictionaries(required, optional={"cached_input_tokens": counts})


NOISE = [
    "",
    ": keep-alive",
    ": OPENROUTER PROCESSING",
    ":",
    "event: ping\ndata: {}",
    "id: 7",
    "retry: 10",
    "event: x\ndata: [DONE]",
]


def frame(draw: Draw, bodies: list[dict[str, Any]], ending: str, reasons: list[str | None]) -> tuple[bytes, int]:
    """The bytes of the events, and after how many of them the answer is complete."""
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    field_name = draw(st.sampled_from(["data: ", "data:"]))
    ascii_only = draw(st.booleans())
    indent = draw(st.sampled_from([None, None, None, 1]))
    noisy = draw(st.booleans())
    omits_last_blank_line = draw(st.integers(0, 3)) == 0
    out = "\ufeff" if draw(st.integers(0, 5)) == 0 else ""
    waiting = set(range(len(reasons)))
    complete_at = 0

    def event(text: str) -> str:
        return "".join(f"{field_name}{line}{end}" for line in text.split("\n"))

    for body in bodies:
        if noisy and draw(st.booleans()):
            out += draw(st.sampled_from(NOISE)).replace("\n", end) + end + end
        written = event(json.dumps(body, ensure_ascii=ascii_only, indent=indent))
        if waiting:
            waiting -= {entry.get("index", 0) for entry in body["choices"] or () if entry.get("finish_reason")}
            if not waiting:
                complete_at = len((out + written[: -len(end)]).encode())
        out += written + end
    if ending:
        out += event(ending) + end
        if waiting:
            complete_at = len((out[: -2 * len(end)]).encode())
    if omits_last_blank_line:
        out = out[: -draw(st.sampled_from([1, 2])) * len(end)]
    elif noisy:
        out += ": bye" + end + end
    return out.encode(), complete_at


# ── loose identity ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Habits:
    """How one server identifies the fragments of its calls; `habits` draws what goes together."""

    numbers: str  # the index: "own" of each call, "shared" by all, "none", "rising" with each fragment
    ids: (
        str  # on the "first" fragment, on "each", "fresh" for each, "late" on the second, "shared" by all calls, "none"
    )
    names: str  # on the "first" fragment, on "each", in "pieces", "growing", "late" behind arguments
    alternating: bool  # the fragments of several calls alternate
    start: int = 0
    step: int = 1

    @property
    def tells_same_names_apart(self) -> bool:
        if self.numbers in ("own", "rising"):
            return True
        return not self.alternating and self.ids not in ("shared", "none")


LOOSE_NAMES = st.sampled_from(["get", "get_weather", "get_weather_now", "weather", "f", "ff"])
LOOSE_OBJECTS = st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=2) | st.just({}), max_size=3)
IDS = ("first", "each", "fresh", "late", "shared", "none")


@st.composite
def habits(draw: Draw, number: int) -> Habits:
    """Habits by which the fragments of ``number`` calls can be told apart."""
    alternating = number > 1 and draw(st.booleans())
    if alternating:
        by_id = [(numbers, "each") for numbers in ("shared", "none", "rising")]
        numbers, ids = draw(st.sampled_from([*(("own", ids) for ids in IDS), *by_id]))
    else:
        numbers, ids = draw(st.sampled_from(["own", "shared", "none", "rising"])), draw(st.sampled_from(IDS))
        if numbers == "rising" and ids in ("fresh", "late"):
            ids = "each"  # an index and an id that are both new begin a call
    names = ["first"]
    if numbers != "rising" and not (numbers == "none" and ids in ("fresh", "late")):
        names.append("each")
    if (numbers in ("own", "shared") and ids not in ("fresh", "late")) or (numbers, ids) == ("none", "each"):
        names += ["pieces", "growing"]
    if numbers == "own" and ids in ("first", "each"):
        names.append("late")
    start, step = draw(st.integers(-1, 3)), draw(st.sampled_from([1, 1, 3, -1]))
    return Habits(numbers, ids, draw(st.sampled_from(names)), alternating, start, step)


@st.composite
def loose_calls(draw: Draw, number: int, how: Habits) -> tuple[list[ExpectedCall], list[dict[str, Any]]]:
    """Calls in the order in which they begin, and the entries of ``tool_calls`` that these habits make of them."""
    calls = []
    for i in range(number):
        name = draw(LOOSE_NAMES) if how.tells_same_names_apart else f"tool{i}"
        has_none = how.numbers == "own" and draw(st.integers(0, 4)) == 0
        arguments = "" if has_none else json.dumps(draw(LOOSE_OBJECTS), ensure_ascii=False)
        calls.append(ExpectedCall(name, arguments, f"id-{i}"))
    left = [(call, entries_of_call(draw, i, call, how)) for i, call in enumerate(calls)]
    begun: list[ExpectedCall] = []
    in_order: list[dict[str, Any]] = []
    while left:
        call, entries = draw(st.sampled_from(left)) if how.alternating else left[0]
        if call not in begun:
            begun.append(call)
        in_order.append(entries.pop(0))
        left = [each for each in left if each[1]]
    if how.numbers == "rising":
        for i, entry in enumerate(in_order):
            entry["index"] = how.start + i
    for i, call in enumerate(begun):
        if how.ids in ("none", "late") or (how.ids == "shared" and i):
            call.call_id = None  # of a late id it is not known whether it comes in time
        elif how.ids == "shared":
            call.call_id = "id-shared"
    return begun, in_order


def entries_of_call(draw: Draw, number: int, call: ExpectedCall, how: Habits) -> list[dict[str, Any]]:
    opening, pieces = names_and_arguments(draw, call, how)
    functions = [*({"name": name} for name in opening), *({"arguments": piece} for piece in pieces)]
    if how.names == "late":
        functions[:2] = [*functions[1:2], functions[0]] if pieces else [{"arguments": ""}, functions[0]]
    elif len(opening) == 1 and pieces and (brings_arguments(how) or draw(st.booleans())):
        functions[:2] = [{**functions[0], **functions[1]}]
    entries = []
    for place, function in enumerate(functions):
        entry: dict[str, Any] = {"function": {**draw(st.sampled_from([{}, {"name": None}, {"name": ""}])), **function}}
        if how.names == "each":
            entry["function"]["name"] = call.name
        if how.numbers in ("own", "shared"):
            entry["index"] = how.start + (number * how.step if how.numbers == "own" else 0)
        entry.update(draw(st.sampled_from([{}, {"type": "function"}, {"type": ""}])))
        entry.update(id_of_fragment(draw, number, place, how))
        entries.append(entry)
    return entries


def brings_arguments(how: Habits) -> bool:
    """Whether the first fragment needs arguments, for want of anything else that makes it another call, or because the
    fragments after it have new ids and names."""
    if how.numbers == "shared" and how.ids in ("late", "none", "shared"):
        return True
    return how.ids == "fresh" and how.names == "each"


def id_of_fragment(draw: Draw, number: int, place: int, how: Habits) -> dict[str, Any]:
    match how.ids, place:
        case ("first", 0) | ("each", _) | ("fresh", 0) | ("late", 1):
            return {"id": f"id-{number}"}
        case "fresh", _:
            return {"id": f"id-{number}-{place}"}
        case "shared", 0:
            return {"id": "id-shared"}
        case "shared", _ if how.numbers in ("own", "shared") and draw(st.booleans()):
            return {"id": "id-shared"}
    return draw(st.sampled_from([{}, {"id": ""}, {"id": None}]))


def names_and_arguments(draw: Draw, call: ExpectedCall, how: Habits) -> tuple[list[str], list[str]]:
    """The pieces of the name, and those of the arguments."""
    name, opening = call.name, [call.name]
    cut = draw(st.integers(1, len(name)))
    if how.names == "pieces" and cut < len(name) and not name[cut:].startswith(name[:cut]):
        opening = [name[:cut], name[cut:]]
    elif how.names == "growing":
        opening = [name[:cut], *[name] * draw(st.integers(1, 2))]
    pieces = fragments_of(draw, call.arguments) if call.arguments else []
    if how.names == "each" or brings_arguments(how):
        pieces = [piece for piece in pieces if piece]  # a name without arguments behind a whole call may begin another
    if call.arguments and (how.names != "each" or how.ids == "each"):
        if draw(st.integers(0, 3)) == 0:
            pieces.insert(0, "{}")  # a placeholder
        if draw(st.integers(0, 3)) == 0:
            pieces.append(call.arguments)  # the whole again
    return opening, pieces


@st.composite
def loose_streams(draw: Draw) -> Stream:
    """A complete stream whose calls and choices are numbered, named and cut as loosely as some server does it."""
    number = draw(st.sampled_from([1, 1, 2, 3]))
    choices, deltas = [], []
    for _ in range(number):
        one = ExpectedChoice(draw(TEXTS), draw(TEXTS))
        one.finish_reason = draw(st.sampled_from(["stop", "tool_calls", "TOOL_CALLS", "end_turn"]))
        of_calls = draw(st.integers(0, 3))
        one.calls, entries = draw(loose_calls(of_calls, draw(habits(of_calls)))) if of_calls else ([], [])
        per_chunk = draw(st.integers(1, 3))
        own = encode_reasoning(draw, one.reasoning) + encode_text(draw, one.text)
        own += [{"tool_calls": entries[i : i + per_chunk]} for i in range(0, len(entries), per_chunk)]
        choices.append(one)
        deltas.append(own)
    indexes: list[list[int]] = [[i] * (len(own) + 1) for i, own in enumerate(deltas)]
    if number == 1:  # then the index has no meaning
        indexes = [draw(st.lists(st.integers(-1, 9), min_size=len(deltas[0]) + 1, max_size=len(deltas[0]) + 1))]
    entries_of = []
    for one, own, numbers in zip(choices, deltas, indexes, strict=True):
        early = draw(st.booleans())
        of_choice = [{"index": i, "delta": delta} for i, delta in zip(numbers, own, strict=False)]
        for entry in of_choice:
            if early and "tool_calls" in entry["delta"]:
                entry["finish_reason"] = one.finish_reason
        entries_of.append([*of_choice, {"index": numbers[-1], "delta": {}, "finish_reason": one.finish_reason}])
    bodies = [{"choices": chunk} for chunk in distribute(draw, entries_of)]
    data = b"".join(b"data: %b\n\n" % json.dumps(body).encode() for body in bodies)
    return Stream(data + draw(st.sampled_from([b"", b"data: [DONE]\n\n"])), choices, None, None, None, len(data))


# ── round trip ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Answer:
    """The bytes of an answer, and what the next request has to give back of it."""

    data: bytes
    tool_calls: list[dict[str, Any]]
    reasoning_details: list[dict[str, Any]]


UNKNOWN_KEYS = st.sampled_from(
    ["extra_content", "thought_signature", "seal", "sömething", "a.b", "role", "status", "strict", ""]
)
UNKNOWN_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(UNKNOWN_KEYS | TEXTS, inner, max_size=3),
    max_leaves=6,
)
UNKNOWN = st.dictionaries(UNKNOWN_KEYS, UNKNOWN_VALUES, max_size=3)
DETAILS = st.fixed_dictionaries(
    {"type": st.sampled_from(["reasoning.text", "reasoning.encrypted", "reasoning.summary"])},
    optional={
        "text": TEXTS,
        "summary": TEXTS,
        "data": TEXTS,
        "id": st.none() | TEXTS,
        "index": st.integers(0, 2),
        "x": UNKNOWN_VALUES,
    },
)


def divide(draw: Draw, keys: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """An object in ``number`` pieces that make the same object when they are merged; some divide what is inside too."""
    pieces: list[dict[str, Any]] = [{} for _ in range(number)]
    for key, value in keys.items():
        if isinstance(value, dict) and value and draw(st.booleans()):
            for piece, inner in zip(pieces, divide(draw, value, number), strict=True):
                if inner:
                    piece[key] = inner
        else:
            draw(st.sampled_from(pieces))[key] = value
    return pieces


@st.composite
def answers_with_unknown_keys(draw: Draw) -> Answer:
    """An answer with calls of functions and custom tools that have unknown keys, and with ``reasoning_details``."""
    details = draw(st.lists(DETAILS, max_size=3))
    deltas: list[dict[str, Any]] = [{"reasoning_details": [entry]} for entry in details]
    tool_calls = []
    for i in range(draw(st.integers(1, 3))):
        custom = draw(st.booleans())
        kind, content = ("custom", "input") if custom else ("function", "arguments")
        text = draw(TEXTS) if custom else json.dumps(draw(OBJECTS), ensure_ascii=draw(st.booleans()))
        outer, inner = draw(UNKNOWN), draw(UNKNOWN)
        call_id, name = f"call-{i}", draw(NAMES)
        tool_calls.append({**outer, "id": call_id, "type": kind, kind: {**inner, "name": name, content: text}})
        fragments = fragments_of(draw, text)
        parts = zip(fragments, divide(draw, outer, len(fragments)), divide(draw, inner, len(fragments)), strict=True)
        for k, (fragment, of_entry, of_function) in enumerate(parts):
            own = {"id": call_id, "type": kind} if k == 0 else {"type": kind} if custom else {}
            named = {"name": name} if k == 0 else {}
            deltas.append(
                {"tool_calls": [{**of_entry, "index": i, **own, kind: {**of_function, **named, content: fragment}}]}
            )
    if draw(st.booleans()):
        deltas.insert(draw(st.integers(0, len(deltas))), {"content": draw(TEXTS)})
    bodies: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    bodies.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    ascii_only = draw(st.booleans())
    data = "".join(f"data: {json.dumps(body, ensure_ascii=ascii_only)}\n\n" for body in bodies)
    return Answer(data.encode() + b"data: [DONE]\n\n", tool_calls, details)


# ── splitting ───────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def pieces(draw: Draw, data: bytes) -> list[bytes]:
    """``data`` in pieces: single bytes, equal sizes, or split anywhere."""
    how = draw(st.sampled_from(["bytes", "equal", "anywhere", "anywhere"]))
    if how == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    if how == "equal":
        size = draw(st.integers(2, 40))
        return [data[i : i + size] for i in range(0, len(data), size)]
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=20)))
    cut = [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in cut if piece]


TOKENS = st.sampled_from(
    [
        *(b"\n", b"\n\n", b"\r", b"\r\n", b"data", b"data:", b"data: ", b"event: ", b"event: error\n", b":", b" "),
        *(b"id: 1\n", b"\xef\xbb\xbf", b"x", b"[DONE]", b"DONE", b"{", b"}", b"[", b"<html>", b'{"choices": []}'),
        *(b'{"error": "no"}', b"\xff", b"\xf0\x9f", "日".encode(), b'{"choices": [{"delta": {"content": "a"}}]}'),
        b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}',
    ]
)
NOISY_BYTES = st.lists(TOKENS, max_size=30).map(b"".join) | st.binary(max_size=60)

KEYS = """choices delta message content tool_calls function arguments name id index finish_reason usage error code
type detail reasoning reasoning_details text thinking refusal function_call base_resp status_code x_groq prompt_tokens
metadata raw loc msg logprobs citations model"""
LEAVES = st.none() | st.booleans() | st.integers(-3, 600) | st.floats(allow_nan=False)
JSON_VALUES = st.recursive(
    LEAVES | st.sampled_from(["", "a", "stop", "error", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEYS.split())), inner, max_size=4)
    ),
    max_leaves=12,
)


def partial_objects(**fields: st.SearchStrategy[Any] | None) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields, in some cases with a value of another type."""
    values = {name: JSON_VALUES if value is None else JSON_VALUES | value | value for name, value in fields.items()}
    return st.fixed_dictionaries({}, optional=values)


ODD_CALLS = partial_objects(
    index=None, id=None, type=None, function=partial_objects(name=None, arguments=None), custom=None
)
ODD_DELTAS = partial_objects(
    content=st.lists(partial_objects(text=None, thinking=None), max_size=2),
    reasoning=partial_objects(text=None, content=None),
    reasoning_details=st.lists(partial_objects(text=None, summary=None), max_size=2),
    refusal=None,
    tool_calls=st.lists(ODD_CALLS | JSON_VALUES, max_size=3),
    function_call=partial_objects(name=None, arguments=None),
    annotations=None,
)
ODD_CHOICES = partial_objects(
    index=None, delta=ODD_DELTAS, message=None, finish_reason=None, error=None, usage=None, logprobs=None
)
ODD_ERRORS = partial_objects(message=None, code=None, type=None, metadata=partial_objects(raw=None))
ODD_CHUNKS = partial_objects(
    id=None,
    model=None,
    choices=st.lists(ODD_CHOICES | JSON_VALUES, max_size=3),
    usage=partial_objects(prompt_tokens=None, prompt_tokens_details=None, total_tokens=None),
    x_groq=partial_objects(usage=None),
    citations=None,
)
ODD_BODIES = ODD_CHUNKS | partial_objects(
    error=ODD_ERRORS,
    error_type=None,
    message=None,
    code=None,
    detail=st.lists(partial_objects(msg=None, loc=None), max_size=2),
    base_resp=partial_objects(status_code=None, status_msg=None),
)
