"""chatstream: Chat Completions, streamed into a plain ``for`` loop.

    import chatstream

    for text in chatstream.stream("Why is the sky blue?", model="gpt-4.1-mini").text():
        print(text, end="", flush=True)

All public names are here; each is loaded from its room when it is first used, so that the import costs nothing. Their
types are in ``__init__.pyi``: to name them here would load `typing`, which takes ten times as long.
"""

from __future__ import annotations

from importlib import import_module

from ._version import __version__

_ROOMS = {
    "types.turn": ("Timing", "Turn"),
    "_decode.aggregate": ("aggregate", "collect"),
    "client": ("Client",),
    "_doctor": ("Report", "doctor"),
    "errors": (
        "Attempt",
        "Cancelled",
        "ChatStreamError",
        "ConfigError",
        "ConnectionFailed",
        "DeadlineExceeded",
        "IdleTimeout",
        "MissingEnvVar",
        "ProtocolViolation",
        "ProviderError",
        "QuotaExceeded",
        "RetryLimit",
        "StreamError",
        "StreamTooLarge",
        "StreamTruncated",
        "UnexpectedStatus",
    ),
    "types.events": (
        "ChoiceEnd",
        "Completed",
        "Created",
        "FunctionCallDelta",
        "Heartbeat",
        "OutputItemDone",
        "OutputTextDelta",
        "ReasoningDelta",
        "RefusalDelta",
        "ResponseEvent",
        "TokenUsage",
    ),
    "types.items": (
        "FunctionCall",
        "FunctionCallOutput",
        "LocalShellCall",
        "Message",
        "Reasoning",
        "ResponseItem",
    ),
    "types.limits": ("Limits",),
    "types.parts": ("InputAudio", "InputFile", "InputImage", "InputText", "Other", "OutputText", "Refusal"),
    "types.prompt": ("Prompt",),
    "providers.provider": ("Provider",),
    "_retry": ("RetryInfo",),
    "types.schema": ("partial_json", "response_format"),
    "_stream": ("ResponseStream", "read_events"),
    "types.tools": ("Tool",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["__version__", "stream", *_ROOM_OF]  # noqa: PLE0604  # all are strings


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'chatstream' has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def stream(
    prompt: object,
    *,
    model: str | None = None,
    provider: object = "openai",
    deadline: float | None = None,
    heartbeat: float | None = None,
    **fields: object,
) -> object:
    """Ask once, and return the answer as a `ResponseStream`; see `Client.stream`. One client is kept per provider."""
    from .client import shared_client

    client = shared_client(provider)
    return client.stream(prompt, model=model, deadline=deadline, heartbeat=heartbeat, **fields)
