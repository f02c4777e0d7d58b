"""chatstream: Chat Completions, streamed into a plain ``for`` loop.

    import chatstream

    for text in chatstream.stream("Why is the sky blue?", model="gpt-4.1-mini").text():
        print(text, end="", flush=True)

All public names are here. Each is imported when it is first used, so that importing the package costs nothing: type
checkers read the imports, Python reads the table under them.
"""

from __future__ import annotations

from ._runtime.imports import imports as _importing
from ._version import __version__ as __version__

TYPE_CHECKING = False  # typing's constant, without importing typing, which takes longer than all the rest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Any

    from ._calls.hooks import CallInfo as CallInfo
    from ._calls.hooks import RequestInfo as RequestInfo
    from ._decode.aggregate import aggregate as aggregate
    from ._decode.aggregate import collect as collect
    from ._decode.parser import read_events as read_events
    from ._display.svg import SVG as SVG
    from ._doctor import Report as Report
    from ._doctor import doctor as doctor
    from ._fallback import Fallback as Fallback
    from ._fallback import fallback as fallback
    from ._recording.recorder import Recorder as Recorder
    from ._recording.replay import replay as replay
    from ._retries.limiter import Limiter as Limiter
    from ._retries.retry import RetryInfo as RetryInfo
    from ._stream import ResponseStream as ResponseStream
    from ._tool_loop.loop import ToolLoop as ToolLoop
    from ._tool_loop.loop import run_tools as run_tools
    from .client import Client as Client
    from .errors import Attempt as Attempt
    from .errors import Cancelled as Cancelled
    from .errors import ChatStreamError as ChatStreamError
    from .errors import ConfigError as ConfigError
    from .errors import ConnectionFailed as ConnectionFailed
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import IdleTimeout as IdleTimeout
    from .errors import InvalidArguments as InvalidArguments
    from .errors import MaxTurnsExceeded as MaxTurnsExceeded
    from .errors import MissingEnvVar as MissingEnvVar
    from .errors import ProtocolViolation as ProtocolViolation
    from .errors import ProviderError as ProviderError
    from .errors import QuotaExceeded as QuotaExceeded
    from .errors import RetryLimit as RetryLimit
    from .errors import StreamClosed as StreamClosed
    from .errors import StreamError as StreamError
    from .errors import StreamTooLarge as StreamTooLarge
    from .errors import StreamTruncated as StreamTruncated
    from .errors import UnexpectedStatus as UnexpectedStatus
    from .many.mapping import map_prompts as map_prompts
    from .many.progress import Progress as Progress
    from .many.result import Result as Result
    from .providers.provider import Provider as Provider
    from .types.events import ChoiceEnd as ChoiceEnd
    from .types.events import Completed as Completed
    from .types.events import ContentPartDone as ContentPartDone
    from .types.events import Created as Created
    from .types.events import FunctionCallDelta as FunctionCallDelta
    from .types.events import Heartbeat as Heartbeat
    from .types.events import OutputItemDone as OutputItemDone
    from .types.events import OutputTextDelta as OutputTextDelta
    from .types.events import ReasoningDelta as ReasoningDelta
    from .types.events import RefusalDelta as RefusalDelta
    from .types.events import ResponseEvent as ResponseEvent
    from .types.events import event_from_dict as event_from_dict
    from .types.items import CustomToolCall as CustomToolCall
    from .types.items import CustomToolCallOutput as CustomToolCallOutput
    from .types.items import FunctionCall as FunctionCall
    from .types.items import FunctionCallOutput as FunctionCallOutput
    from .types.items import LocalShellCall as LocalShellCall
    from .types.items import Message as Message
    from .types.items import Reasoning as Reasoning
    from .types.items import ResponseItem as ResponseItem
    from .types.items import item_from_dict as item_from_dict
    from .types.limits import Limits as Limits
    from .types.media import InputAudio as InputAudio
    from .types.media import InputFile as InputFile
    from .types.media import InputImage as InputImage
    from .types.partial import array_items as array_items
    from .types.partial import partial_json as partial_json
    from .types.parts import InputText as InputText
    from .types.parts import Other as Other
    from .types.parts import OutputImage as OutputImage
    from .types.parts import OutputText as OutputText
    from .types.parts import Refusal as Refusal
    from .types.prompt import Prompt as Prompt
    from .types.prompt import PromptLike as PromptLike
    from .types.structured import response_format as response_format
    from .types.tools import Tool as Tool
    from .types.turn import Timing as Timing
    from .types.turn import Turn as Turn
    from .types.usage import ClientUsage as ClientUsage
    from .types.usage import TokenUsage as TokenUsage

else:
    from importlib import import_module

    _NAMES = {  # by module
        "_calls.hooks": "CallInfo RequestInfo",
        "_decode.aggregate": "aggregate collect",
        "_decode.parser": "read_events",
        "_display.svg": "SVG",
        "_doctor": "Report doctor",
        "_fallback": "Fallback fallback",
        "_recording.recorder": "Recorder",
        "_recording.replay": "replay",
        "_retries.limiter": "Limiter",
        "_retries.retry": "RetryInfo",
        "_stream": "ResponseStream",
        "_tool_loop.loop": "ToolLoop run_tools",
        "client": "Client",
        "errors": (
            "Attempt Cancelled ChatStreamError ConfigError ConnectionFailed DeadlineExceeded IdleTimeout "
            "InvalidArguments MaxTurnsExceeded MissingEnvVar ProtocolViolation ProviderError QuotaExceeded "
            "RetryLimit StreamClosed StreamError StreamTooLarge StreamTruncated UnexpectedStatus"
        ),
        "many.mapping": "map_prompts",
        "many.progress": "Progress",
        "many.result": "Result",
        "providers.provider": "Provider",
        "types.events": (
            "ChoiceEnd Completed ContentPartDone Created FunctionCallDelta Heartbeat OutputItemDone "
            "OutputTextDelta ReasoningDelta RefusalDelta ResponseEvent event_from_dict"
        ),
        "types.items": (
            "CustomToolCall CustomToolCallOutput FunctionCall FunctionCallOutput LocalShellCall Message Reasoning "
            "ResponseItem item_from_dict"
        ),
        "types.limits": "Limits",
        "types.media": "InputAudio InputFile InputImage",
        "types.partial": "array_items partial_json",
        "types.parts": "InputText Other OutputImage OutputText Refusal",
        "types.prompt": "Prompt PromptLike",
        "types.structured": "response_format",
        "types.tools": "Tool",
        "types.turn": "Timing Turn",
        "types.usage": "ClientUsage TokenUsage",
    }
    # Modules that import other packages as soon as they are loaded, and which; () stands for all that a call needs.
    _NEEDS = {
        "_decode.parser": ("sseclient",),
        "_doctor": (),
        "_recording.replay": (),
        "_recording.recorder": (),
        "_stream": (),
    }
    _MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

    __all__ = ["__version__", "stream", *_MODULE_OF]  # noqa: PLE0604  # all are strings

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'chatstream' has no attribute {name!r}")
        module = _MODULE_OF[name]
        with _importing():
            if module in _NEEDS:
                import_module("._requirements", __name__).check_installed(*_NEEDS[module])
            value = getattr(import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


def stream(
    prompt: PromptLike | None = None,
    *,
    messages: PromptLike | None = None,
    model: str | None = None,
    provider: str | Provider = "openai",
    deadline: float | None = None,
    stream_idle_timeout: float | None = None,
    first_event_timeout: float | None = None,
    heartbeat: float | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    record: str | PathLike[str] | Recorder | None = None,
    **fields: Any,
) -> ResponseStream:
    """Send one prompt, and return the answer as a `ResponseStream`; see `Client.stream`.

    ``provider`` is the id of a built-in provider, the base URL of a server, or a `Provider`; one client is kept for
    each, so that connections are reused. Times are in seconds.
    """
    with _importing():
        from ._secrets import hidden, hidden_if_key, hidden_secrets, hidden_table
        from ._shared import shared_client
        from .client import PLACES

    # Each of them may be a key, passed by mistake, or hold one.
    provider, model, fields = hidden(provider), hidden_if_key(model), hidden_secrets(fields)
    extra_headers, extra_body = hidden_table(extra_headers), hidden_table(extra_body)
    PLACES.check_fields(fields)  # before the provider, which may miss what is an option in ``fields``
    return shared_client(provider).stream(
        prompt,
        messages=messages,
        model=model,
        deadline=deadline,
        stream_idle_timeout=stream_idle_timeout,
        first_event_timeout=first_event_timeout,
        heartbeat=heartbeat,
        extra_headers=extra_headers,
        extra_body=extra_body,
        record=record,
        **fields,
    )
