"""The clients that are measured, each written as its users would write it.

    base URL, shape ──▶ a client ──called once per answer──▶ the text of each event

Rules:
- A client imports its library when it is created, because each environment has only one of the libraries.
- Settings are the defaults, with a key and the name of a model.
- A client is a generator function that yields the text, the arguments or the reasoning of each event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

ReadAnswer = Callable[[], Iterator[str]]

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
    """The fields of a request besides model, messages and ``stream``."""
    return {"tools": TOOLS} if shape == "tools" else {}


def body(shape: str) -> dict[str, Any]:
    """The whole request body, for clients that build it themselves."""
    return {"model": MODEL, "messages": MESSAGES, "stream": True, **fields(shape)}


def text_of_chunk(chunk: dict[str, Any]) -> str:
    """The text, arguments or reasoning of a chunk, for clients that parse it themselves."""
    for choice in chunk["choices"]:
        delta = choice["delta"]
        if content := delta.get("content"):
            return content
        if calls := delta.get("tool_calls"):
            return calls[0]["function"]["arguments"]
        if reasoning := delta.get("reasoning_content"):
            return reasoning
    return ""


# ── hand-written loops ──────────────────────────────────────────────────────────────────────────────────────────


def floor(url: str, shape: str) -> ReadAnswer:
    """The minimum of work: read, split, decode. It fails on any stream with another format."""
    import urllib3

    pool = urllib3.PoolManager()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

    def read_answer() -> Iterator[str]:
        request = json.dumps(body(shape))
        response = pool.request("POST", f"{url}/chat/completions", body=request, headers=headers, preload_content=False)
        rest = b""
        while piece := response.read1(65536, decode_content=True):
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    yield text_of_chunk(json.loads(event[6:]))
        response.release_conn()

    return read_answer


def loop(url: str, shape: str) -> ReadAnswer:
    """The hand-written loop: requests, sseclient-py, json.loads."""
    import requests
    import sseclient

    session = requests.Session()
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "text/event-stream"}

    def read_answer() -> Iterator[str]:
        with session.post(f"{url}/chat/completions", json=body(shape), headers=headers, stream=True) as response:
            response.raise_for_status()
            for event in sseclient.SSEClient(response).events():
                if event.data != "[DONE]":
                    yield text_of_chunk(json.loads(event.data))

    return read_answer


def httpx_sse(url: str, shape: str) -> ReadAnswer:
    """httpx with httpx-sse."""
    import httpx
    from httpx_sse import connect_sse

    client = httpx.Client()
    headers = {"Authorization": f"Bearer {KEY}"}

    def read_answer() -> Iterator[str]:
        endpoint = f"{url}/chat/completions"
        with connect_sse(client, "POST", endpoint, json=body(shape), headers=headers) as source:
            for event in source.iter_sse():
                if event.data != "[DONE]":
                    yield text_of_chunk(json.loads(event.data))

    return read_answer


# ── chatstream ──────────────────────────────────────────────────────────────────────────────────────────────────


def _client(url: str) -> Any:
    from chatstream import Client, Provider

    return Client(Provider("bench", url, api_key=KEY), model=MODEL)


def stream(url: str, shape: str) -> ReadAnswer:
    """The typed events."""
    from chatstream import FunctionCallDelta, OutputTextDelta, ReasoningDelta

    client = _client(url)

    def read_answer() -> Iterator[str]:
        for event in client.stream(QUESTION, **fields(shape)):
            if isinstance(event, (OutputTextDelta, FunctionCallDelta, ReasoningDelta)):
                yield event.delta

    return read_answer


speed = stream  # measured in an environment with orjson


def text(url: str, shape: str) -> ReadAnswer:
    """``.text()``."""
    client = _client(url)
    return lambda: client.stream(QUESTION, **fields(shape)).text()


def aggregate(url: str, shape: str) -> ReadAnswer:
    """``.aggregate()``: whole items at the end."""
    from chatstream import OutputItemDone

    client = _client(url)

    def read_answer() -> Iterator[str]:
        for event in client.stream(QUESTION, **fields(shape)).aggregate():
            if isinstance(event, OutputItemDone):
                yield _text_of_item(event.item)

    return read_answer


def collect(url: str, shape: str) -> ReadAnswer:
    """``.collect()``: the whole turn."""
    client = _client(url)

    def read_answer() -> Iterator[str]:
        turn = client.stream(QUESTION, **fields(shape)).collect()
        yield from map(_text_of_item, turn.items)

    return read_answer


def _text_of_item(item: Any) -> str:
    if hasattr(item, "arguments"):
        return item.arguments
    return item.text if hasattr(item, "text") else "".join(part.text for part in item.content)


# ── other libraries ─────────────────────────────────────────────────────────────────────────────────────────────


def openai_create(url: str, shape: str) -> ReadAnswer:
    """openai-python: ``create(stream=True)``."""
    from openai import OpenAI

    client = OpenAI(api_key=KEY, base_url=url)

    def read_answer() -> Iterator[str]:
        for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **fields(shape)):
            for choice in chunk.choices:
                delta = choice.delta
                if delta.tool_calls:
                    yield delta.tool_calls[0].function.arguments
                else:
                    yield delta.content or getattr(delta, "reasoning_content", None) or ""

    return read_answer


def openai_stream(url: str, shape: str) -> ReadAnswer:
    """openai-python: the events of ``.stream()``."""
    from openai import OpenAI

    client = OpenAI(api_key=KEY, base_url=url)

    def read_answer() -> Iterator[str]:
        with client.chat.completions.stream(model=MODEL, messages=MESSAGES, **fields(shape)) as events:
            for event in events:
                if event.type == "content.delta":
                    yield event.delta
                elif event.type == "tool_calls.function.arguments.delta":
                    yield event.arguments_delta

    return read_answer


def langchain(url: str, shape: str) -> ReadAnswer:
    """langchain-openai: ``ChatOpenAI.stream``."""
    from langchain_openai import ChatOpenAI

    chat: Any = ChatOpenAI(model=MODEL, api_key=KEY, base_url=url)
    if shape == "tools":
        chat = chat.bind_tools(TOOLS)

    def read_answer() -> Iterator[str]:
        for chunk in chat.stream(QUESTION):
            if chunk.tool_call_chunks:
                yield chunk.tool_call_chunks[0]["args"] or ""
            else:
                yield chunk.content

    return read_answer


def llm(url: str, shape: str) -> ReadAnswer:
    """simonw/llm, with the model described as in its documentation."""
    from llm.default_plugins.openai_models import Chat

    model = Chat("bench", model_name=MODEL, api_base=url)

    def read_answer() -> Iterator[str]:
        yield from model.prompt(QUESTION, key=KEY)

    return read_answer


def litellm(url: str, shape: str) -> ReadAnswer:
    """litellm: ``completion(stream=True)``."""
    from litellm import completion

    def read_answer() -> Iterator[str]:
        answer = completion(
            model=f"openai/{MODEL}", messages=MESSAGES, stream=True, api_key=KEY, base_url=url, **fields(shape)
        )
        for chunk in answer:
            delta = chunk.choices[0].delta
            if delta.tool_calls:
                yield delta.tool_calls[0].function.arguments
            else:
                yield delta.content or getattr(delta, "reasoning_content", None) or ""

    return read_answer


def drained(texts: Iterator[str]) -> int:
    """Reads an answer to its end; returns the number of characters."""
    size = 0
    with closing(texts):  # type: ignore[type-var]
        for text in texts:
            size += len(text)
    return size


def measure_alternately(
    clients: dict[str, ReadAnswer], measure: Callable[[ReadAnswer], float], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """The result of ``measure`` for each client in each round, without the warm-up, which loads everything."""
    times: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(warm_up + rounds):
        for name, read_answer in clients.items():
            times[name].append(measure(read_answer))
    return {name: each[warm_up:] for name, each in times.items()}
