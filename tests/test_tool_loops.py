"""Tool loops with the built-in providers, against servers that refuse what the real ones refuse.

Each server below speaks as its model does, and checks the whole history of every request. A conversation has two
questions; each is answered with tool calls first, and with a text once their outputs have arrived.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from support import KEY

from chatstream import (
    Client,
    FunctionCall,
    Message,
    OutputItemDone,
    Prompt,
    Provider,
    Reasoning,
    Tool,
    Turn,
    UnexpectedStatus,
    run_tools,
)
from chatstream.testing import FaultServer, Script, Step, Wire, chunk, done, end, event, head, status

Json = dict[str, Any]
Answer = Callable[[Json], Script]
Loop = Callable[[Client, Prompt], Turn]

OUTPUTS = {"Paris": "Paris has 18 °C", "Oslo": "Oslo has 4 °C"}
TEXT = "It is warmer in Paris."


def get_weather(city: str) -> str:
    """Get the current temperature in a city."""
    return OUTPUTS[city]


# ── the loops of a caller ───────────────────────────────────────────────────────────────────────────────────────


def collect_loop(client: Client, prompt: Prompt, keep: Callable[[Any], Any] = lambda item: item) -> Turn:
    """The loop of the README; ``keep`` may change the items that are added to the history."""
    while True:
        turn = client.stream(prompt).collect()
        prompt.input += map(keep, turn.items)
        if not turn.function_calls:
            return turn
        for call in turn.function_calls:
            prompt.input.append(call.output(get_weather(**call.parsed())))


def event_loop(client: Client, prompt: Prompt) -> Turn:
    """The same loop over events, which runs each call as soon as it arrives."""
    while True:
        outputs = []
        with client.stream(prompt) as stream:
            for each in stream:
                match each:
                    case OutputItemDone(FunctionCall() as call):
                        outputs.append(call.output(get_weather(**call.parsed())))
        prompt.input += [*stream.turn.items, *outputs]
        if not outputs:
            return stream.turn


def library_loop(client: Client, prompt: Prompt) -> Turn:
    """The loop of the library."""
    loop = run_tools(client, prompt)
    for _ in loop:
        pass
    return loop.turn


@pytest.fixture(params=[collect_loop, event_loop, library_loop], ids=["collect", "events", "run_tools"])
def loop(request: pytest.FixtureRequest) -> Loop:
    return request.param


@dataclass
class Conversation:
    """The texts of the two answers, the history, and the messages of each request."""

    texts: list[str]
    items: list[Any]
    requests: list[list[Json]]

    def outputs(self) -> list[str]:
        """The outputs in the last request, in order."""
        return [message["content"] for message in of_role("tool", self.requests[-1])]


def converse(id: str, answer: Answer, loop: Loop, *before: Message, **settings: Any) -> Conversation:
    """Two questions to a server, with the built-in provider ``id`` changed by ``settings``."""

    def step(wire: Wire) -> None:
        try:
            script = answer(wire.request.json)
        except Refused as refused:
            script = refused.script
        for each in script:
            each(wire)

    with FaultServer([step]) as server:
        address = {"base_url": server.url, "api_key": KEY, "env_key": None}
        provider = replace(Provider.named(id), **(address | settings))
        prompt = Prompt("Be brief.", [*before, Message("user", "Warmer in Paris or in Oslo?")])
        prompt.tools.append(Tool.from_function(get_weather))
        with Client(provider, model="m1") as client:
            turns = [loop(client, prompt)]
            prompt.input.append(Message("user", "And tomorrow?"))
            turns.append(loop(client, prompt))
        assert [turn.status for turn in turns] == ["completed", "completed"]
        assert len(server.requests) == 4  # none was refused and repeated
        return Conversation(
            [turn.text for turn in turns], prompt.input, [each.json["messages"] for each in server.requests]
        )


# ── parts of servers ────────────────────────────────────────────────────────────────────────────────────────────


class Refused(Exception):
    """The server refuses the request with this status and body."""

    def __init__(self, code: int, body: Any) -> None:
        self.script = status(code, json.dumps(body))


def delta(finish_reason: str | None = None, index: int = 0, **fields: Any) -> Step:
    """A chunk with one choice, whose delta has these ``fields``."""
    choice = {"index": index, "delta": fields, "finish_reason": finish_reason}
    return event({"id": "c1", "model": "m1", "choices": [choice]})


def answer_of(*steps: Step) -> Script:
    return [head(), *steps, done(), end()]


def arguments(city: str) -> str:
    return json.dumps({"city": city})


def of_role(role: str, messages: list[Json]) -> list[Json]:
    return [message for message in messages if message["role"] == role]


def refuse_unmatched_outputs(messages: list[Json]) -> None:
    """All servers: the outputs have the ids of the calls before them, each a different one."""
    calls = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    outputs = [message["tool_call_id"] for message in of_role("tool", messages)]
    if calls != outputs or len(set(calls)) < len(calls) or not all(calls):
        raise Refused(400, {"error": {"message": f"calls {calls} and outputs {outputs} do not match"}})


# ── Gemini 3 ────────────────────────────────────────────────────────────────────────────────────────────────────

GEMINI_FIELDS = {"model", "messages", "stream", "stream_options", "tools"}


class Gemini:
    """Two calls without index, and a signature on the first; the newest step must bring it back unchanged."""

    def __init__(self, ids: bool = True) -> None:
        self.signatures: list[str] = []
        self._ids = ids

    def __call__(self, request: Json) -> Script:
        if unknown := request.keys() - GEMINI_FIELDS:
            raise self._refusal(f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find field.')
        messages = request["messages"]
        refuse_unmatched_outputs(messages)
        if messages[-1]["role"] == "tool":
            call = [message for message in messages if message.get("tool_calls")][-1]["tool_calls"][0]
            signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
            if signature != self.signatures[-1]:
                raise self._refusal("Function call is missing a thought_signature in functionCall parts.")
            return answer_of(delta(content=TEXT), delta("stop"))
        self.signatures.append(f"CiQB/{len(self.signatures)}+A==")
        extra = {"extra_content": {"google": {"thought_signature": self.signatures[-1]}}}
        first, second = self._call("Paris", **extra), self._call("Oslo")
        return answer_of(delta(role="assistant", tool_calls=[first]), delta("stop", tool_calls=[second]))

    def _call(self, city: str, **extra: Any) -> Json:
        id = f"function-call-{city}-{len(self.signatures)}" if self._ids else ""
        return {**extra, "function": {"arguments": arguments(city), "name": "get_weather"}, "id": id}

    @staticmethod
    def _refusal(message: str) -> Refused:
        return Refused(400, [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}])


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without ids"])
def test_gemini_gets_the_signature_of_its_first_call_back(loop: Loop, ids: bool):
    found = converse("gemini", Gemini(ids), loop)
    assert found.texts == [TEXT, TEXT]
    assert found.outputs() == [OUTPUTS["Paris"], OUTPUTS["Oslo"]] * 2


def test_gemini_refuses_a_call_without_its_signature_and_the_message_is_that_of_the_server():
    def forget_extra(item: Any) -> Any:
        return replace(item, extra={}) if isinstance(item, FunctionCall) else item

    with pytest.raises(UnexpectedStatus, match="400: Function call is missing a thought_signature"):
        converse("gemini", Gemini(), partial(collect_loop, keep=forget_extra))


# ── DeepSeek V4 ─────────────────────────────────────────────────────────────────────────────────────────────────


class DeepSeek:
    """Thinks before each answer but the last; every assistant message must have its reasoning, perhaps empty."""

    def __init__(self, before: int) -> None:
        self.reasoning = [""] * before  # of the assistant messages of the history, in order

    def __call__(self, request: Json) -> Script:
        messages = request["messages"]
        refuse_unmatched_outputs(messages)
        if of_role("developer", messages):
            raise self._refusal("unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`")
        if [message.get("reasoning_content") for message in of_role("assistant", messages)] != self.reasoning:
            raise self._refusal("The `reasoning_content` in the thinking mode must be passed back to the API.")
        number = len(self.reasoning)
        thoughts = [] if number > 3 else [f"Step {number}:\n\n", " one city", " after the other. "]
        self.reasoning.append("".join(thoughts))
        thinking = [delta(content=None, reasoning_content=thought) for thought in thoughts]
        if messages[-1]["role"] == "tool":
            return answer_of(*thinking, delta(content=TEXT, reasoning_content=None), delta("stop", content=""))
        function = {"name": "get_weather", "arguments": ""}
        return answer_of(
            chunk(b": keep-alive\n\n"),
            delta(role="assistant", content=None, reasoning_content=""),
            *thinking,
            delta(tool_calls=[{"index": 0, "id": f"call_00_{number}", "type": "function", "function": function}]),
            *(delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in arguments("Oslo")),
            delta("tool_calls", content=""),
        )

    @staticmethod
    def _refusal(message: str) -> Refused:
        return Refused(400, {"error": {"message": message, "type": "invalid_request_error", "param": None}})


BEFORE = (Message("developer", "Use °C."), Message("user", "Hi"), Message("assistant", "Hello."))


def test_deepseek_gets_the_reasoning_of_every_assistant_message_back(loop: Loop):
    server = DeepSeek(before=1)
    found = converse("deepseek", server, loop, *BEFORE)
    assert found.texts == [TEXT, TEXT]
    assert server.reasoning == [
        "",
        "Step 1:\n\n one city after the other. ",
        "Step 2:\n\n one city after the other. ",
        "Step 3:\n\n one city after the other. ",
        "",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"echo_reasoning": None}, "must be passed back"),
        ({"echo_reasoning_always": False}, "must be passed back"),
        ({"echo_reasoning_scope": "turn"}, "must be passed back"),
        ({"developer_role": True}, "unknown variant `developer`"),
    ],
    ids=str,
)
def test_deepseek_refuses_a_history_that_was_sent_with_other_settings(settings: Json, message: str):
    with pytest.raises(UnexpectedStatus, match=f"400: .*{message}"):
        converse("deepseek", DeepSeek(before=1), collect_loop, *BEFORE, **settings)


# ── Claude behind OpenRouter ────────────────────────────────────────────────────────────────────────────────────

SIGNATURE = "EqQB/signature+for=="
CLAUDE = {"format": "anthropic-claude-v1", "index": 0, "type": "reasoning.text"}
REDACTED = {"type": "reasoning.encrypted", "data": "EmwK/redacted==", "format": "anthropic-claude-v1", "index": 1}


class OpenRouter:
    """Streams a thinking block in pieces, its signature last, and a redacted block; both must come back whole."""

    def __init__(self) -> None:
        self.blocks: list[list[Json]] = []

    def __call__(self, request: Json) -> Script:
        messages = request["messages"]
        refuse_unmatched_outputs(messages)
        calling = [message for message in messages if message.get("tool_calls")]
        if [message.get("reasoning_details") for message in calling] != self.blocks:
            raw = "messages.1.content.0: Invalid `signature` in `thinking` block"
            metadata = {"raw": raw, "provider_name": "Anthropic"}
            raise Refused(400, {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}})
        if messages[-1]["role"] == "tool":
            return answer_of(delta(content=TEXT, role="assistant"), delta("stop", content="", role="assistant"))
        pieces = [f"{len(self.blocks)}: I need", " the weather\n", "of Oslo. "]
        self.blocks.append([{**CLAUDE, "text": "".join(pieces), "signature": SIGNATURE}, REDACTED])
        function = {"name": "get_weather", "arguments": arguments("Oslo")}
        call = {"index": 0, "id": f"toolu_{len(self.blocks)}", "type": "function", "function": function}
        return answer_of(
            chunk(b": OPENROUTER PROCESSING\n\n"),
            *(self._thinking({**CLAUDE, "text": piece}, reasoning=piece) for piece in pieces),
            self._thinking({**CLAUDE, "signature": SIGNATURE}, reasoning=None),
            self._thinking(REDACTED, reasoning=None),
            delta(role="assistant", content=None, tool_calls=[call]),
            delta("tool_calls", role="assistant", content=""),
        )

    @staticmethod
    def _thinking(entry: Json, reasoning: str | None) -> Step:
        return delta(role="assistant", content="", reasoning=reasoning, reasoning_details=[entry])


def test_openrouter_gets_each_block_of_reasoning_back_whole(loop: Loop):
    server = OpenRouter()
    found = converse("openrouter", server, loop)
    assert found.texts == [TEXT, TEXT]
    assert [[block.get("text") for block in blocks] for blocks in server.blocks] == [
        ["0: I need the weather\nof Oslo. ", None],
        ["1: I need the weather\nof Oslo. ", None],
    ]


def test_openrouter_refuses_a_history_without_details_and_the_message_is_that_of_anthropic():
    with pytest.raises(UnexpectedStatus, match="Invalid `signature` in `thinking` block"):
        converse("openrouter", OpenRouter(), collect_loop, echo_reasoning=None)


# ── Mistral ─────────────────────────────────────────────────────────────────────────────────────────────────────

MISTRAL_KEYS = {
    "body": {"model", "messages", "stream", "tools"},
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
    "tool_calls": {"id", "type", "function", "index"},
    "function": {"name", "arguments"},
}


class Mistral:
    """Content in parts, all calls in one chunk without index; any key that it does not know is refused."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, request: Json) -> Script:
        messages = request["messages"]
        self._check("body", request)
        for message in messages:
            self._check(message["role"], message)
            for call in message.get("tool_calls") or ():
                self._check("tool_calls", call)
                self._check("function", call["function"])
                if not re.fullmatch("[a-zA-Z0-9]{9}", call["id"]):
                    raise Refused(400, {"object": "error", "message": f"Tool call id was {call['id']}", "code": "3280"})
        refuse_unmatched_outputs(messages)
        self.answers += 1
        if messages[-1]["role"] == "tool":
            parts = [{"type": "text", "text": "It is "}, {"type": "text", "text": "warmer "}]
            return answer_of(delta(role="assistant", content=parts), delta("stop", content="in Paris."))
        thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Two cities."}]}]
        calls = [self._call("Paris"), self._call("Oslo")]
        return answer_of(
            delta(role="assistant", content=thinking),
            delta(content=[{"type": "text", "text": "Let me look."}]),
            delta("tool_calls", content="", tool_calls=calls),
        )

    def _call(self, city: str) -> Json:
        function = {"name": "get_weather", "arguments": arguments(city)}
        return {"id": f"D681Pev{self.answers}{city[0]}", "function": function}

    @staticmethod
    def _check(kind: str, given: Json) -> None:
        if unknown := given.keys() - MISTRAL_KEYS[kind]:
            detail = {"type": "extra_forbidden", "loc": ["body", kind, min(unknown)]}
            raise Refused(422, {"detail": [{**detail, "msg": "Extra inputs are not permitted", "input": None}]})


def test_mistral_gets_no_key_that_it_does_not_know(loop: Loop):
    found = converse("mistral", Mistral(), loop)
    assert found.texts == [TEXT, TEXT]
    assert found.outputs() == [OUTPUTS["Paris"], OUTPUTS["Oslo"]] * 2
    assert [item.text for item in found.items if isinstance(item, Reasoning)] == ["Two cities."] * 2
    assert of_role("assistant", found.requests[1])[0]["content"] == "Let me look."


def test_mistral_refuses_reasoning_and_the_message_is_that_of_the_server():
    with pytest.raises(UnexpectedStatus, match=r"422: .*Extra inputs are not permitted"):
        converse("mistral", Mistral(), collect_loop, echo_reasoning="reasoning_content")


# ── an old TGI behind Hugging Face ──────────────────────────────────────────────────────────────────────────────


class OldTGI:
    """Numbers its chunks in the index of the choice, repeats the name, and has no ids; keys it does not know are
    ignored."""

    def __call__(self, request: Json) -> Script:
        messages = request["messages"]
        refuse_unmatched_outputs(messages)
        if messages[-1]["role"] == "tool":
            pieces = re.findall(r"\s*\S+", TEXT)
            deltas: list[Json] = [{"role": "assistant", "content": piece} for piece in pieces]
        else:
            deltas = [self._fragment(piece) for piece in re.findall(r".{1,6}", arguments("Oslo"))]
        steps = [delta(index=index, **fields) for index, fields in enumerate(deltas)]
        return answer_of(*steps, delta("eos_token", len(deltas), role="assistant", content=""))

    @staticmethod
    def _fragment(piece: str) -> Json:
        function = {"name": "get_weather", "arguments": piece}
        return {"role": "assistant", "tool_calls": [{"index": 0, "id": "", "type": "function", "function": function}]}


def test_an_old_tgi_that_numbers_its_chunks_gets_made_up_ids_that_match(loop: Loop):
    found = converse("huggingface", OldTGI(), loop)
    assert found.texts == [TEXT, TEXT]
    assert found.outputs() == [OUTPUTS["Oslo"]] * 2
    ids = [call["id"] for message in found.requests[-1] for call in message.get("tool_calls", ())]
    assert len(set(ids)) == 2
    assert all(re.fullmatch("call_[0-9a-f]{24}", id) for id in ids)
