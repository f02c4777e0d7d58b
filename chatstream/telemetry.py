"""OpenTelemetry: the calls of a client → one span each, and the metrics of generative AI clients.

    instrument(client) ─▶ RequestInfo, CallInfo ─CallTracer▶ spans, histograms

Names, units and boundaries are those of the OpenTelemetry semantic conventions for generative AI (clients, inference
spans and client metrics), https://github.com/open-telemetry/semantic-conventions-genai.

Rules:
- A span begins with the first request, as a child of the span that is current then, and ends with the call: its
  attempts, its restarts and the time that the caller takes between two events are inside.
- Text of a question or an answer is in no attribute.
- The package opentelemetry-api (extra `otel`) is imported by `instrument`, not with this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from typing import Any
from urllib.parse import urlsplit

from ._calls.hooks import CallInfo, RequestInfo
from ._runtime.imports import imports
from ._secrets import masked_if_key
from ._version import __version__
from .client import Client
from .errors import ConfigError, UnexpectedStatus

OPERATION = "chat"
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [float(4**exponent) for exponent in range(14)]  # 1 to 67,108,864

# The conventions' names of providers that are built in here under another name.
PROVIDERS = {"azure": "azure.ai.openai", "gemini": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}
# The fields of a call that have an attribute: its name, and the type of its value.
FIELDS: dict[str, tuple[str, type]] = {
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "n": ("gen_ai.request.choice.count", int),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "seed": ("gen_ai.request.seed", int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_k": ("gen_ai.request.top_k", float),
    "top_p": ("gen_ai.request.top_p", float),
}


def instrument(client: Client, *, tracer_provider: Any = None, meter_provider: Any = None) -> Client:
    """Create a span and record metrics for each later call of ``client``, and return the client.

    ``tracer_provider`` and ``meter_provider`` are those of OpenTelemetry's SDK; the default is the global one.
    Instrumenting a client again replaces them. Raises `ConfigError` if opentelemetry-api is not installed.
    """
    try:
        with imports():
            from opentelemetry import metrics, trace  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ConfigError(f"OpenTelemetry can't be imported ({error}): pip install 'chatstream-py[otel]'") from None
    tracer = trace.get_tracer("chatstream", __version__, tracer_provider)
    meter = metrics.get_meter("chatstream", __version__, meter_provider)
    client._hooks.observer = CallTracer(trace, tracer, meter)
    return client


class CallTracer:
    """Receives the requests and the end of each call of a client, in any thread."""

    def __init__(self, trace: Any, tracer: Any, meter: Any) -> None:
        self._trace = trace  # the module of the API
        self._tracer = tracer
        self._open: dict[int, tuple[Any, dict[str, Any]]] = {}  # of running calls: the span, its first attributes
        self._duration = _histogram(meter, "operation.duration", "s", "GenAI operation duration.", SECONDS)
        self._first_chunk = _histogram(
            meter, "operation.time_to_first_chunk", "s", "Time to receive the first chunk of a response.", SECONDS
        )
        self._tokens = _histogram(meter, "token.usage", "{token}", "Number of input and output tokens used.", TOKENS)

    def on_request(self, info: RequestInfo) -> None:
        """Begin the span of a call with its first request."""
        if info.call not in self._open:
            named = _named(info) | _server(info.url)
            self._open[info.call] = self._begin(named, _requested(info.fields), info.elapsed), named

    def on_turn(self, info: CallInfo) -> None:
        """End the span of a call, and record its metrics."""
        named = _named(info)
        if info.call in self._open:
            span, named = self._open.pop(info.call)
        else:  # nothing was sent
            span = self._begin(named, {}, info.timing.total or 0.0)
        failed = {} if info.error is None else {"error.type": error_type(info.error)}
        span.set_attributes(_received(info) | failed)
        if info.error is not None:
            span.set_status(self._trace.StatusCode.ERROR, str(info.error))
        span.end()
        self._record(info, named, failed, self._trace.set_span_in_context(span))

    def _begin(self, named: Mapping[str, Any], more: Mapping[str, Any], elapsed: float) -> Any:
        name = f"{OPERATION} {named.get('gen_ai.request.model', '')}".strip()
        attributes = {**named, "gen_ai.request.stream": True, **more}
        began = time_ns() - int(elapsed * 1e9)
        return self._tracer.start_span(name, kind=self._trace.SpanKind.CLIENT, attributes=attributes, start_time=began)

    def _record(self, info: CallInfo, named: Mapping[str, Any], failed: Mapping[str, Any], context: Any) -> None:
        common = {**named, "gen_ai.response.model": info.turn.model} if info.turn.model else named
        timing, usage = info.timing, info.turn.token_usage
        self._duration.record(timing.total or 0.0, {**common, **failed}, context)
        if timing.first_event is not None:
            self._first_chunk.record(timing.first_event, common, context)
        counts = {"input": usage.input_tokens, "output": usage.output_tokens} if usage else {}
        for kind, count in counts.items():
            if count is not None:
                self._tokens.record(count, {**common, "gen_ai.token.type": kind}, context)


def error_type(error: BaseException) -> str:
    """The value of ``error.type``: the HTTP status of an error response, else the name of the exception's class."""
    return str(error.status) if isinstance(error, UnexpectedStatus) else type(error).__qualname__


def _histogram(meter: Any, name: str, unit: str, description: str, boundaries: list[float]) -> Any:
    return meter.create_histogram(
        f"gen_ai.client.{name}", unit, description, explicit_bucket_boundaries_advisory=boundaries
    )


def _named(info: RequestInfo | CallInfo) -> dict[str, Any]:
    """What a call is: attributes of its span and of all its metrics."""
    model = {"gen_ai.request.model": masked_if_key(str(info.model))} if info.model else {}
    provider = PROVIDERS.get(info.provider, info.provider)
    return {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": provider, **model}


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"server.address": parts.hostname, "server.port": parts.port or (443 if parts.scheme == "https" else 80)}


def _requested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a call's fields. A value of another type than the server wants is left out."""
    found = {}
    for field, (name, kind) in FIELDS.items():
        value = fields.get(field)
        if isinstance(value, (int, kind)) and not isinstance(value, bool) and (field, value) != ("n", 1):
            found[name] = kind(value)
    return found


def _received(info: CallInfo) -> dict[str, Any]:
    """The attributes of what was received; those that are not known are left out."""
    turn, usage = info.turn, info.turn.token_usage
    reasons = [each.finish_reason for each in turn.choices if each.finish_reason is not None]
    values = {
        "gen_ai.response.id": turn.response_id,
        "gen_ai.response.model": turn.model,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.response.time_to_first_chunk": info.timing.first_event,
        "gen_ai.usage.input_tokens": usage and usage.input_tokens,
        "gen_ai.usage.output_tokens": usage and usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_input_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage and usage.reasoning_output_tokens,
    }
    return {name: value for name, value in values.items() if value is not None}
