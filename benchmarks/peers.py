"""The clients that are measured: by name, with their label in the tables and the environment in which they run."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """``environment`` names a file ``requirements-*.txt``. ``imports`` loads everything that a first request needs: the
    imports that users write, and the modules that these load lazily."""

    label: str
    environment: str
    library: str
    imports: str
    shapes: tuple[str, ...] = ("text", "unlike", "tools", "reasoning")


_OPENAI = ("openai", "openai", "from openai import OpenAI")
_CHATSTREAM = (
    "loop",
    "chatstream",
    "from chatstream import Client; import chatstream._calls.attempt, chatstream._http.adapter, chatstream._stream",
)

PEERS = {
    "floor": Peer("floor: urllib3, split, `json.loads`", "loop", "urllib3", "import urllib3, json"),
    "loop": Peer(
        "the loop: requests, sseclient-py, `json.loads`", "loop", "requests", "import requests, sseclient, json"
    ),
    "stream": Peer("**chatstream** events", *_CHATSTREAM),
    "text": Peer("**chatstream** `.text()`", *_CHATSTREAM, ("text", "unlike")),
    "aggregate": Peer("**chatstream** `.aggregate()`", *_CHATSTREAM),
    "collect": Peer("**chatstream** `.collect()`", *_CHATSTREAM),
    "speed": Peer("**chatstream** events, extra `speed`", "speed", *_CHATSTREAM[1:]),
    "httpx_sse": Peer("httpx, httpx-sse", "httpx-sse", "httpx-sse", "import httpx, httpx_sse, json"),
    "openai_create": Peer("openai-python `create(stream=True)`", *_OPENAI),
    "openai_stream": Peer("openai-python `.stream()`", *_OPENAI, ("text", "unlike", "tools")),
    "langchain": Peer(
        "langchain-openai `.stream()`",
        "langchain-openai",
        "langchain-openai",
        "from langchain_openai import ChatOpenAI",
        ("text", "unlike", "tools"),
    ),
    "llm": Peer("simonw/llm", "llm", "llm", "from llm.default_plugins.openai_models import Chat", ("text", "unlike")),
    "litellm": Peer("litellm", "litellm", "litellm", "from litellm import completion"),
}
OWN = tuple(name for name, peer in PEERS.items() if peer.environment == "loop")  # what `--quick` measures
ONE_EACH = tuple(name for name in PEERS if name not in ("text", "aggregate", "collect", "speed"))
