"""OpenTelemetry: the spans and metrics of calls, by the semantic conventions, in the exporters of its SDK."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import KEY, THREE, cancelled

from chatstream import (
    Client,
    ConfigError,
    ConnectionFailed,
    MissingEnvVar,
    Provider,
    StreamTruncated,
    UnexpectedStatus,
    telemetry,
)
from chatstream.providers.presets import PRESETS
from chatstream.telemetry import instrument
from chatstream.testing import cut, delta, event, finish, head, pause, stall, status, text_answer

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

pytestmark = pytest.mark.usefixtures("short_waits")
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
OK = text_answer("fi", "ne", usage=USAGE)  # type: ignore[arg-type]
DURATION = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
TOKENS = "gen_ai.client.token.usage"


class Recorder:
    """A tracer provider and a meter provider that keep what they get."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])

    def instrument(self, client: Client) -> Client:
        return instrument(client, tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def metrics(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {metric.name: metric for metric in found}

    def points(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """The sum and the attributes of each series of a metric."""
        metric = self.metrics.get(name)
        return [(point.sum, dict(point.attributes)) for point in metric.data.data_points] if metric else []


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def traced(serve: Any, connect: Any, recorder: Recorder) -> Callable[..., Client]:
    """A function that makes an instrumented client of a new server with the given scripts."""

    def connected(*scripts: Any, **options: Any) -> Client:
        connected.server = serve(*scripts)  # type: ignore[attr-defined]
        return recorder.instrument(connect(connected.server, **options))  # type: ignore[attr-defined]

    return connected


# ── spans ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_a_client_span_with_the_attributes_of_the_conventions(traced, recorder):
    traced(OK).stream("Hi").collect()
    (span,) = recorder.spans
    assert (span.name, span.kind, span.status.status_code) == ("chat m1", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.instrumentation_scope.name == "chatstream"
    found = dict(span.attributes)
    assert 0 < found.pop("gen_ai.response.time_to_first_chunk") < 60
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "test",
        "gen_ai.request.model": "m1",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "c1",
        "gen_ai.response.model": "m1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "server.address": "127.0.0.1",
        "server.port": traced.server.port,
    }


def test_the_fields_of_a_call_that_have_an_attribute_are_in_the_span_in_the_type_of_the_conventions(traced, recorder):
    fields = {
        "temperature": 0,
        "top_p": 0.5,
        "max_tokens": 9,
        "seed": 3,
        "n": 1,
        "top_k": True,
        "presence_penalty": "a",
    }
    traced(OK).stream("Hi", **fields).collect()
    found = recorder.spans[0].attributes
    asked = {name: value for name, value in found.items() if name.startswith("gen_ai.request.")}
    assert asked == {
        "gen_ai.request.model": "m1",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
    }
    assert type(found["gen_ai.request.temperature"]) is float


def test_the_span_of_an_answer_with_several_choices_has_each_finish_reason(traced, recorder):
    choices = [{"index": n, "delta": {"content": "a"}, "finish_reason": r} for n, r in enumerate(["stop", "length"])]
    traced([head(), event({"choices": choices}), *text_answer()[2:]]).stream("Hi", n=2).collect()
    found = recorder.spans[0].attributes
    assert found["gen_ai.response.finish_reasons"] == ("stop", "length")
    assert found["gen_ai.request.choice.count"] == 2


def test_no_text_of_a_question_or_an_answer_and_no_key_is_in_a_span(traced, recorder):
    traced(text_answer("an answer of its own")).stream("a question of my own").collect()
    exported = recorder.spans[0].to_json()
    for hidden in (KEY, "of its own", "of my own"):
        assert hidden not in exported


def test_a_key_given_as_the_model_is_in_no_span_and_no_metric(traced, recorder):
    traced(OK, model="q8Zt3Lm5Xw9Kp2Rv7Ns4").stream("Hi").collect()
    assert recorder.spans[0].name == "chat ***"
    assert recorder.points(DURATION)[0][1]["gen_ai.request.model"] == "***"


def test_retries_and_restarts_are_inside_one_span(traced, recorder):
    traced(status(503), [head(), delta("fi"), cut()], OK).stream("Hi").collect()
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.UNSET
    assert len(recorder.points(DURATION)) == 1


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_that_is_cut_is_an_error_span_with_its_first_chunk_time(traced, recorder):
    with pytest.raises(StreamTruncated):
        list(traced([head(), *THREE, pause(0.05), cut()]).stream("Hi"))
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description.startswith("stream disconnected before completion")
    assert span.attributes["error.type"] == "StreamTruncated"
    assert span.attributes["gen_ai.response.id"] == "c1"
    ((first, attributes),) = recorder.points(FIRST_CHUNK)
    assert first == span.attributes["gen_ai.response.time_to_first_chunk"]
    assert "error.type" not in attributes
    ((total, attributes),) = recorder.points(DURATION)
    assert total >= first + 0.04
    assert attributes["error.type"] == "StreamTruncated"
    assert recorder.points(TOKENS) == []


@pytest.mark.parametrize(
    ("script", "kind", "name"),
    [
        (status(400), UnexpectedStatus, "400"),
        (status(503), UnexpectedStatus, "503"),
        ([cut()], ConnectionFailed, "ConnectionFailed"),
    ],
)
def test_a_call_without_an_answer_is_an_error_span_without_a_first_chunk_time(traced, recorder, script, kind, name):
    with pytest.raises(kind):
        traced(script).stream("Hi")
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == name
    assert "gen_ai.response.time_to_first_chunk" not in span.attributes
    assert recorder.points(DURATION)[0][1]["error.type"] == name
    assert recorder.points(FIRST_CHUNK) == []


def test_a_call_that_could_not_be_sent_is_an_error_span_without_a_server(traced, recorder):
    with pytest.raises(MissingEnvVar):
        traced(OK, api_key=None, env_key="TEST_KEY").stream("Hi")
    (span,) = recorder.spans
    assert span.attributes["error.type"] == "MissingEnvVar"
    assert "server.address" not in span.attributes
    assert span.start_time <= span.end_time


def test_a_cancelled_stream_is_an_error_span(traced, recorder):
    cancelled(traced([head(), *THREE, stall()]).stream("Hi"), 0.1)
    assert recorder.spans[0].attributes["error.type"] == "Cancelled"


def test_a_stream_that_the_caller_leaves_is_a_span_without_an_error(traced, recorder):
    for _ in traced([head(), *THREE, stall()]).stream("Hi").text():
        break
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes
    assert "gen_ai.response.finish_reasons" not in span.attributes


@pytest.mark.parametrize("hook", ["on_request", "on_turn"])
def test_an_exception_of_a_hook_leaves_no_span_open(traced, recorder, hook):
    def fail(_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        traced(OK, **{hook: fail}).stream("Hi").collect()
    assert len(recorder.spans) == 1


# ── metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_metrics_have_the_units_and_boundaries_of_the_conventions(traced, recorder):
    traced(OK).stream("Hi").collect()
    found = recorder.metrics
    assert {name: metric.unit for name, metric in found.items()} == {
        DURATION: "s",
        FIRST_CHUNK: "s",
        TOKENS: "{token}",
    }
    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    for name, boundaries in ((DURATION, seconds), (FIRST_CHUNK, seconds), (TOKENS, tokens)):
        assert found[name].data.data_points[0].explicit_bounds == boundaries


def test_the_metrics_have_the_attributes_of_the_conventions(traced, recorder):
    traced(OK).stream("Hi").collect()
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "test",
        "gen_ai.request.model": "m1",
        "gen_ai.response.model": "m1",
        "server.address": "127.0.0.1",
        "server.port": traced.server.port,
    }
    ((total, attributes),) = recorder.points(DURATION)
    ((first, first_attributes),) = recorder.points(FIRST_CHUNK)
    assert attributes == first_attributes == common
    assert 0 < first <= total
    assert recorder.points(TOKENS) == [
        (7, common | {"gen_ai.token.type": "input"}),
        (5, common | {"gen_ai.token.type": "output"}),
    ]


def test_a_count_of_tokens_that_the_server_does_not_report_is_not_recorded(traced, recorder):
    client = traced(text_answer("a"), [head(), delta("a"), finish(usage={"completion_tokens": 0}), *OK[-2:]])
    client.stream("Hi").collect()
    assert recorder.points(TOKENS) == []
    client.stream("Hi").collect()
    assert [attributes["gen_ai.token.type"] for _, attributes in recorder.points(TOKENS)] == ["output"]


# ── contexts and threads ────────────────────────────────────────────────────────────────────────────────────────


def test_the_span_is_a_child_of_the_span_that_is_current_where_the_call_is_made(traced, recorder):
    client = traced([head(), *THREE, pause(0.01), *OK[1:]])
    tracer = recorder.tracers.get_tracer("test")
    with tracer.start_as_current_span("work"):
        stream = client.stream("Hi")
    with tracer.start_as_current_span("other"):
        stream.collect()
    spans = {span.name: span for span in recorder.spans}
    assert spans["chat m1"].parent == spans["work"].context
    assert spans["chat m1"].end_time > spans["work"].end_time


def test_two_calls_at_once_have_two_spans_each_in_the_context_of_its_thread(traced, recorder):
    both = threading.Barrier(2)
    client = traced(OK)
    tracer = recorder.tracers.get_tracer("test")

    def call(name: str) -> None:
        with tracer.start_as_current_span(name):
            stream = client.stream("Hi")
            both.wait(10)
            stream.collect()

    threads = [threading.Thread(target=call, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = recorder.spans
    parents = {span.name: span.context.span_id for span in spans if span.name in ("one", "two")}
    assert {span.parent.span_id for span in spans if span.name == "chat m1"} == set(parents.values())
    assert len(spans) == 4


def test_a_stream_that_another_thread_reads_ends_its_own_span(traced, recorder):
    stream = traced(OK).stream("Hi")
    thread = threading.Thread(target=stream.collect)
    thread.start()
    thread.join()
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in recorder.spans] == [5]


# ── instrument ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_client_that_is_instrumented_twice_makes_one_span_for_a_call(traced, recorder):
    recorder.instrument(traced(OK)).stream("Hi").collect()
    assert len(recorder.spans) == 1


def test_a_client_that_has_made_calls_can_be_instrumented(serve, connect, recorder):
    client = connect(serve(OK))
    client.stream("Hi").collect()
    recorder.instrument(client).stream("Hi").collect()
    assert len(recorder.spans) == 1


def test_a_call_that_was_running_when_its_client_was_instrumented_is_recorded_at_its_end(serve, connect, recorder):
    client = connect(serve(OK))
    stream = client.stream("Hi")
    recorder.instrument(client)
    stream.collect()
    (span,) = recorder.spans
    assert "server.address" not in span.attributes


def test_the_hooks_of_an_instrumented_client_are_called_too(traced, recorder):
    called: list[Any] = []
    traced(OK, on_request=called.append, on_turn=called.append).stream("Hi").collect()
    assert len(called) == 2


def test_without_providers_the_global_ones_are_used(serve, connect):
    assert instrument(connect(serve(OK))).stream("Hi").collect().text == "fine"  # they record nothing here


def test_the_port_of_a_url_without_one_is_that_of_its_scheme():
    assert telemetry._server("https://api.example.com/v1") == {"server.address": "api.example.com", "server.port": 443}
    assert telemetry._server("http://[::1]/v1?a=b") == {"server.address": "::1", "server.port": 80}


@pytest.mark.parametrize(("model", "name"), [(None, "chat"), (" ", "chat"), (5, "chat 5")])
def test_a_call_without_a_valid_model_has_a_span_too(serve, recorder, model, name):
    with Client(Provider("test", serve(OK).url), model=model) as client, pytest.raises(ConfigError):
        recorder.instrument(client).stream("Hi")
    assert [span.name for span in recorder.spans] == [name]


def test_each_provider_with_a_name_of_the_conventions_is_ready_made():
    assert telemetry.PROVIDERS.keys() <= PRESETS.keys()


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"pip install 'chatstream-py\[otel\]'"):
        instrument(Client("openai"))


def test_the_module_loads_neither_opentelemetry_nor_requests():
    code = "import sys, chatstream.telemetry; print(*{'opentelemetry', 'requests', 'logging'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["logging"])
