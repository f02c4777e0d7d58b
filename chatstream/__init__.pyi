"""The public names, for type checkers and editors; ``__init__.py`` loads each on its first use."""

from typing import Any

from ._version import __version__ as __version__
from .client import Client as Client
from .diagnosis import Report as Report
from .diagnosis import doctor as doctor
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
from .events import ChoiceEnd as ChoiceEnd
from .events import Completed as Completed
from .events import Created as Created
from .events import FunctionCallDelta as FunctionCallDelta
from .events import Heartbeat as Heartbeat
from .events import OutputItemDone as OutputItemDone
from .events import OutputTextDelta as OutputTextDelta
from .events import ReasoningDelta as ReasoningDelta
from .events import RefusalDelta as RefusalDelta
from .events import ResponseEvent as ResponseEvent
from .events import TokenUsage as TokenUsage
from .items import FunctionCall as FunctionCall
from .items import FunctionCallOutput as FunctionCallOutput
from .items import LocalShellCall as LocalShellCall
from .items import Message as Message
from .items import Reasoning as Reasoning
from .items import ResponseItem as ResponseItem
from .limits import Limits as Limits
from .parts import InputAudio as InputAudio
from .parts import InputFile as InputFile
from .parts import InputImage as InputImage
from .parts import InputText as InputText
from .parts import Other as Other
from .parts import OutputText as OutputText
from .parts import Refusal as Refusal
from .prompt import Prompt as Prompt
from .prompt import PromptLike as PromptLike
from .provider import Provider as Provider
from .response import ResponseStream as ResponseStream
from .response import read_events as read_events
from .retry import Attempt as Attempt
from .retry import RetryInfo as RetryInfo
from .schema import partial_json as partial_json
from .schema import response_format as response_format
from .tools import Tool as Tool
from .turn import Timing as Timing
from .turn import Turn as Turn
from .turn import aggregate as aggregate
from .turn import collect as collect

def stream(
    prompt: PromptLike,
    *,
    model: str | None = None,
    provider: str | Provider = "openai",
    deadline: float | None = None,
    heartbeat: float | None = None,
    **fields: Any,
) -> ResponseStream: ...
