"""The public names, for type checkers and editors; ``__init__.py`` loads each on its first use."""

from typing import Any

from ._decode.aggregate import aggregate as aggregate
from ._decode.aggregate import collect as collect
from ._doctor import Report as Report
from ._doctor import doctor as doctor
from ._retry import RetryInfo as RetryInfo
from ._stream import ResponseStream as ResponseStream
from ._stream import read_events as read_events
from ._version import __version__ as __version__
from .client import Client as Client
from .errors import Attempt as Attempt
from .errors import Cancelled as Cancelled
from .errors import ChatStreamError as ChatStreamError
from .errors import ConfigError as ConfigError
from .errors import ConnectionFailed as ConnectionFailed
from .errors import DeadlineExceeded as DeadlineExceeded
from .errors import IdleTimeout as IdleTimeout
from .errors import MissingEnvVar as MissingEnvVar
from .errors import ProtocolViolation as ProtocolViolation
from .errors import ProviderError as ProviderError
from .errors import QuotaExceeded as QuotaExceeded
from .errors import RetryLimit as RetryLimit
from .errors import StreamError as StreamError
from .errors import StreamTooLarge as StreamTooLarge
from .errors import StreamTruncated as StreamTruncated
from .errors import UnexpectedStatus as UnexpectedStatus
from .providers.provider import Provider as Provider
from .types.events import ChoiceEnd as ChoiceEnd
from .types.events import Completed as Completed
from .types.events import Created as Created
from .types.events import FunctionCallDelta as FunctionCallDelta
from .types.events import Heartbeat as Heartbeat
from .types.events import OutputItemDone as OutputItemDone
from .types.events import OutputTextDelta as OutputTextDelta
from .types.events import ReasoningDelta as ReasoningDelta
from .types.events import RefusalDelta as RefusalDelta
from .types.events import ResponseEvent as ResponseEvent
from .types.events import TokenUsage as TokenUsage
from .types.items import FunctionCall as FunctionCall
from .types.items import FunctionCallOutput as FunctionCallOutput
from .types.items import LocalShellCall as LocalShellCall
from .types.items import Message as Message
from .types.items import Reasoning as Reasoning
from .types.items import ResponseItem as ResponseItem
from .types.limits import Limits as Limits
from .types.parts import InputAudio as InputAudio
from .types.parts import InputFile as InputFile
from .types.parts import InputImage as InputImage
from .types.parts import InputText as InputText
from .types.parts import Other as Other
from .types.parts import OutputText as OutputText
from .types.parts import Refusal as Refusal
from .types.prompt import Prompt as Prompt
from .types.prompt import PromptLike as PromptLike
from .types.schema import partial_json as partial_json
from .types.schema import response_format as response_format
from .types.tools import Tool as Tool
from .types.turn import Timing as Timing
from .types.turn import Turn as Turn

def stream(
    prompt: PromptLike,
    *,
    model: str | None = None,
    provider: str | Provider = "openai",
    deadline: float | None = None,
    heartbeat: float | None = None,
    **fields: Any,
) -> ResponseStream: ...
