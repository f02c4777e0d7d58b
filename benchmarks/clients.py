"""The clients that are measured, each written as its users would write it.

    base URL, shape ──▶ a client ──called, once per answer──▶ the words of the stream, event by event

Rules:
- A client imports its library when it is made: each is measured in an environment that has no other.
- Settings are the defaults; a key is given, and a model's name.
- A client is a generator that hands over what came with each event: text, arguments or reasoning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

Ask = Callable[[], Iterator[str]]
Make = Callable[[str, str], Ask]

KEY = "sk-bench"
MODEL = "gpt-4.1-mini"
QUESTION = "Why is the sky blue?"
MESSAGES = [{"role": "user", "content": QUESTION}]
PARAMETERS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
    "required": ["path", "text"],
    "additionalProperties": False,
}
FUNCTION = {"name": "write_file", "description": "Write a file.", "parameters": PARAMETERS, "strict": True}
TOOLS = [{"type": "function", "function": FUNCTION}]


def fields(shape: str) -> dict[str, Any]:
    """What a request says besides model, messages and ``stream``."""
    return {"tools": TOOLS} if shape == "tools" else {}


def body(shape: str) -> dict[str, Any]:
    """The request's body, for those who write it themselves."""
    return {"model": MODEL, "messages": MESSAGES, "stream": True, **fields(shape)}


def words_of(chunk: dict[str, Any]) -> str:
    """What a chunk says, for those who walk it themselves."""
    for choice in chunk["choices"]:
        delta = choice["delta"]
        if content := delta.get("content"):
            return content
        if calls := delta.get("tool_calls"):
            return calls[0]["function"]["arguments"]
        if reasoning := delta.get("reasoning_content"):
            return reasoning
    return ""


# ── the bare ones ───────────────────────────────────────────────────────────────────────────────────────────────


def floor(url: str, shape: str) -> Ask:
    """The least that there is to do: read, split, decode. It would break on the first odd stream."""
    import urllib3

    pool = urllib3.PoolManager()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

    def ask() -> Iterator[str]:
        request = json.dumps(body(shape))
        response = pool.request("POST", f"{url}/chat/completions", body=request, headers=headers, preload_content=False)
        rest = b""
        while piece := response.read1(65536, decode_content=True):
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    yield words_of(json.loads(event[6:]))
        response.release_conn()

    return ask


def loop(url: str, shape: str) -> Ask:
    """The script writer's loop: requests, sseclient-py, json.loads."""
    import requests
    import sseclient

    session = requests.Session()
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "text/event-stream"}

    def ask() -> Iterator[str]:
        with session.post(f"{url}/chat/completions", json=body(shape), headers=headers, stream=True) as response:
            response.raise_for_status()
            for event in sseclient.SSEClient(response).events():
                if event.data != "[DONE]":
                    yield words_of(json.loads(event.data))

    return ask


def httpx_sse(url: str, shape: str) -> Ask:
    """httpx with httpx-sse."""
    import httpx
    from httpx_sse import connect_sse

    client = httpx.Client()
    headers = {"Authorization": f"Bearer {KEY}"}

    def ask() -> Iterator[str]:
        where = f"{url}/chat/completions"
        with connect_sse(client, "POST", where, json=body(shape), headers=headers) as source:
            for event in source.iter_sse():
                if event.data != "[DONE]":
                    yield words_of(json.loads(event.data))

    return ask


# ── chatstream ──────────────────────────────────────────────────────────────────────────────────────────────────


def _client(url: str) -> Any:
    from chatstream import Client, Provider

    return Client(Provider("bench", url, api_key=KEY), model=MODEL)


def stream(url: str, shape: str) -> Ask:
    """Typed events."""
    from chatstream import FunctionCallDelta, OutputTextDelta, ReasoningDelta

    client = _client(url)

    def ask() -> Iterator[str]:
        for event in client.stream(QUESTION, **fields(shape)):
            if isinstance(event, (OutputTextDelta, FunctionCallDelta, ReasoningDelta)):
                yield event.delta

    return ask


speed = stream  # in an environment that has orjson


def text(url: str, shape: str) -> Ask:
    """The text alone."""
    client = _client(url)
    return lambda: client.stream(QUESTION, **fields(shape)).text()


def aggregate(url: str, shape: str) -> Ask:
    """Whole items, at the end."""
    from chatstream import OutputItemDone

    client = _client(url)

    def ask() -> Iterator[str]:
        for event in client.stream(QUESTION, **fields(shape)).aggregate():
            if isinstance(event, OutputItemDone):
                yield _words_of_item(event.item)

    return ask


def collect(url: str, shape: str) -> Ask:
    """The whole turn."""
    client = _client(url)

    def ask() -> Iterator[str]:
        turn = client.stream(QUESTION, **fields(shape)).collect()
        yield from map(_words_of_item, turn.items)

    return ask


def _words_of_item(item: Any) -> str:
    if hasattr(item, "arguments"):
        return item.arguments
    return item.text if hasattr(item, "text") else "".join(part.text for part in item.content)


# ── the peers ───────────────────────────────────────────────────────────────────────────────────────────────────


def openai_create(url: str, shape: str) -> Ask:
    """openai-python: ``create(stream=True)``."""
    from openai import OpenAI

    client = OpenAI(api_key=KEY, base_url=url)

    def ask() -> Iterator[str]:
        for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **fields(shape)):
            for choice in chunk.choices:
                delta = choice.delta
                if delta.tool_calls:
                    yield delta.tool_calls[0].function.arguments
                else:
                    yield delta.content or getattr(delta, "reasoning_content", None) or ""

    return ask


def openai_stream(url: str, shape: str) -> Ask:
    """openai-python: the events of ``.stream()``."""
    from openai import OpenAI

    client = OpenAI(api_key=KEY, base_url=url)

    def ask() -> Iterator[str]:
        with client.chat.completions.stream(model=MODEL, messages=MESSAGES, **fields(shape)) as events:
            for event in events:
                if event.type == "content.delta":
                    yield event.delta
                elif event.type == "tool_calls.function.arguments.delta":
                    yield event.arguments_delta

    return ask


def langchain(url: str, shape: str) -> Ask:
    """langchain-openai: ``ChatOpenAI.stream``."""
    from langchain_openai import ChatOpenAI

    chat: Any = ChatOpenAI(model=MODEL, api_key=KEY, base_url=url)
    if shape == "tools":
        chat = chat.bind_tools(TOOLS)

    def ask() -> Iterator[str]:
        for chunk in chat.stream(QUESTION):
            if chunk.tool_call_chunks:
                yield chunk.tool_call_chunks[0]["args"] or ""
            else:
                yield chunk.content

    return ask


def llm(url: str, shape: str) -> Ask:
    """simonw/llm, with the model described as in its documentation."""
    from llm.default_plugins.openai_models import Chat

    model = Chat("bench", model_name=MODEL, api_base=url)

    def ask() -> Iterator[str]:
        yield from model.prompt(QUESTION, key=KEY)

    return ask


def litellm(url: str, shape: str) -> Ask:
    """litellm: ``completion(stream=True)``."""
    from litellm import completion

    def ask() -> Iterator[str]:
        answer = completion(
            model=f"openai/{MODEL}", messages=MESSAGES, stream=True, api_key=KEY, base_url=url, **fields(shape)
        )
        for chunk in answer:
            delta = chunk.choices[0].delta
            if delta.tool_calls:
                yield delta.tool_calls[0].function.arguments
            else:
                yield delta.content or getattr(delta, "reasoning_content", None) or ""

    return ask


def drained(words: Iterator[str]) -> int:
    """Reads an answer to its end; how many characters it said."""
    size = 0
    with closing(words):  # type: ignore[type-var]
        for word in words:
            size += len(word)
    return size


def in_turns(
    asks: dict[str, Ask], took: Callable[[Ask], float], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """What each client ``took`` in each round; the warm-up, in which everything is loaded, does not count."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(warm_up + rounds):
        for name, ask in asks.items():
            times[name].append(took(ask))
    return {name: each[warm_up:] for name, each in times.items()}
