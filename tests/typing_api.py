"""How the public names are used, for type checkers: mypy and pyright check this file, nothing runs it.

`assert_type` and `assert_never` make a change of a public type an error here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

import chatstream
from chatstream import (
    SVG,
    Attempt,
    CallInfo,
    ChatStreamError,
    Client,
    ClientUsage,
    Completed,
    ContentPartDone,
    Created,
    CustomToolCall,
    Fallback,
    FunctionCall,
    FunctionCallDelta,
    FunctionCallOutput,
    Heartbeat,
    InputAudio,
    InputFile,
    InputImage,
    InvalidArguments,
    Limiter,
    Message,
    OutputImage,
    OutputItemDone,
    OutputTextDelta,
    Progress,
    Prompt,
    PromptLike,
    Provider,
    ReasoningDelta,
    Recorder,
    RefusalDelta,
    RequestInfo,
    ResponseEvent,
    ResponseItem,
    ResponseStream,
    Result,
    RetryInfo,
    StreamClosed,
    StreamError,
    Timing,
    TokenUsage,
    Tool,
    ToolLoop,
    Turn,
    UnexpectedStatus,
    aggregate,
    array_items,
    collect,
    event_from_dict,
    fallback,
    item_from_dict,
    map_prompts,
    partial_json,
    read_events,
    replay,
    run_tools,
)
from chatstream.telemetry import instrument
from chatstream.testing import ChatServer, ReceivedRequest, RecordingServer, ReplayServer

if TYPE_CHECKING:
    from typing_extensions import assert_never, assert_type


def every_kind_of_event(event: ResponseEvent) -> str:
    match event:
        case OutputTextDelta() | ReasoningDelta() | RefusalDelta():
            assert_type(event.choice, int)
            return event.delta
        case FunctionCallDelta():
            return event.call_id + event.name + event.delta
        case ContentPartDone():
            return event.part.image_url if isinstance(event.part, OutputImage) else ""
        case OutputItemDone():
            return event.item.text if isinstance(event.item, Message) else ""
        case Created() | Completed():
            return event.response_id or ""
        case Heartbeat():
            return ""
        case _:
            assert_never(event)


def a_prompt_in_every_form(client: Client, prompt: PromptLike) -> None:
    conversation = Prompt("Be brief.", [Message("user", "Hi"), {"role": "user", "content": "Hi"}], [Tool("f")])
    for each in ("Hi", [{"role": "user", "content": "Hi"}], [Message("user", "Hi")], conversation, prompt):
        client.stream(each, temperature=0)


class UserMessage(TypedDict):
    role: str
    content: str


class ForeignMessage:
    """As a message of openai-python: more parameters, all of them optional."""

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        return {"role": "user", "content": None if exclude_none else "Hi"}


def a_prompt_of_another_library(client: Client, typed: list[UserMessage], foreign: ForeignMessage, turn: Turn) -> None:
    client.stream(typed)
    client.stream(messages=typed)
    client.stream(foreign)
    client.stream([*typed, turn, foreign, Message("user", "Hi")])
    client.stream({"role": "user", "content": "Hi"})
    client.stream(Message("user", "Hi"))
    client.stream(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Prompt("Be brief.", [foreign]).input += [turn]


def the_options_of_a_call(client: Client) -> None:
    headers, body = {"X-Run": "7"}, {"top_k": 40, "metadata": {"a": 1}}
    stream = client.stream(
        "Hi", stream_idle_timeout=60, first_event_timeout=120.0, extra_headers=headers, extra_body=body
    )
    assert_type(stream, ResponseStream)
    chatstream.stream(messages=[{"role": "user", "content": "Hi"}], model="any", extra_headers=headers, extra_body=body)
    client.stream("Hi", heartbeat="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def the_ways_to_read(stream: ResponseStream) -> None:
    assert_type(next(stream), ResponseEvent)
    assert_type(iter(stream), Iterator[ResponseEvent])
    assert_type(stream.text(), Generator[str, None, None])
    assert_type(stream.text(heartbeat=0.5), Generator[str, None, None])
    assert_type(stream.aggregate(), Generator[ResponseEvent, None, None])
    assert_type(stream.collect(), Turn)
    assert_type(stream.show(), Turn)
    assert_type(stream.turn, Turn)
    assert_type(stream.timing, Timing)
    assert_type(stream.attempts, tuple[Attempt, ...])
    with stream as same:
        assert_type(same, ResponseStream)


def what_a_turn_holds(prompt: Prompt, turn: Turn) -> None:
    prompt.input += turn.items
    assert_type(turn.text, str)
    assert_type(turn.function_calls, tuple[FunctionCall, ...])
    assert_type(turn.token_usage, TokenUsage | None)
    assert_type(turn.choices, tuple[Turn, ...])
    assert_type(turn.custom_calls, tuple[CustomToolCall, ...])
    prompt.input += turn.complete_items
    prompt.input += [call.output("18 °C") for call in turn.function_calls]
    assert_type(turn.function_calls[0].output("18 °C"), FunctionCallOutput)
    assert_type(turn.function_calls[0].output([{"degrees": 18}]), FunctionCallOutput)


def get_weather(city: str) -> int:
    return len(city)


def tools_and_parts(client: Client, turn: Turn, path: Path) -> None:
    prompt = Prompt(input=[Message("user", [InputImage.from_file(path, detail="low")])], tools=[get_weather, Tool("f")])
    client.stream(prompt)
    client.stream("Hi", tools=[get_weather], response_format=list[int])
    assert_type(InputImage.from_bytes(b"GIF89a"), InputImage)
    assert_type(InputAudio.from_file("a.wav"), InputAudio)
    assert_type(InputFile.from_file("a.pdf", filename="b.pdf"), InputFile)
    for call in turn.function_calls:
        try:
            assert_type(Tool.from_function(get_weather).call(call), Any)
        except InvalidArguments as error:
            call.output(str(error))


def approve(call: FunctionCall) -> bool | str:
    return call.name == "get_weather" or "no other function"


def several_clients(first: Client, second: Client) -> Turn:
    both = fallback([first, second], when=lambda error: isinstance(error, StreamError))
    assert_type(both, Fallback)
    stream = both.stream("Hi", deadline=5, temperature=0)
    assert_type(stream, ResponseStream)
    assert_type(stream.provider, str)
    assert_type(stream.turn.provider, "str | None")
    return run_tools(both, "Hi", [get_weather]).collect()


def a_loop_over_tools(client: Client, prompt: Prompt) -> Turn:
    loop = run_tools(client, prompt, [get_weather, Tool.from_function(get_weather)], approve=approve, temperature=0)
    for event in loop:
        every_kind_of_event(event)
    assert_type(run_tools(client, "Hi", max_turns=3, threads=4), ToolLoop)
    assert_type(loop.prompt, Prompt)
    assert_type(loop.turns, tuple[Turn, ...])
    assert_type(next(loop), ResponseEvent)
    assert_type([*loop.text()], list[str])
    return loop.collect()


class City:
    name: str


def instances_of_a_type(turn: Turn, stream: ResponseStream) -> None:
    assert_type(turn.parsed(City), City)
    assert_type(turn.parsed(list[City]), list[City])
    assert_type(turn.parsed(dict[str, int]), dict[str, int])
    assert_type(turn.parsed(int), int)
    assert_type(turn.parsed(), Any)
    either: Any = turn.parsed(City | None)
    assert_type(array_items(stream.text(), City), Iterator[City])
    assert_type(array_items(stream.text(), list[int], name="rows"), Iterator[list[int]])
    assert_type(array_items(stream.text()), Iterator[Any])
    assert_type(partial_json(stream.text()), Iterator[Any])
    print(either)


def what_an_error_carries(stream: ResponseStream) -> Turn | None:
    try:
        return stream.collect()
    except UnexpectedStatus as error:
        assert_type(error.status, int)
        assert_type(error.retry_after, float | None)
        return None
    except StreamError as error:
        assert_type(error.partial, Turn | None)
        assert_type(error.attempts, tuple[Attempt, ...])
        return error.partial
    except StreamClosed as error:
        assert_type(error.partial, Turn | None)
        return error.partial
    except ChatStreamError as error:
        assert_type(error.retryable, bool)
        raise


def on_retry(info: RetryInfo) -> None:
    assert_type(info.delay, float)


def on_request(info: RequestInfo) -> None:
    assert_type(info.body, bytes)


def on_turn(info: CallInfo) -> None:
    assert_type(info.turn, Turn)
    assert_type(info.error, BaseException | None)


def read_key() -> str:
    return "key"


def on_wait(seconds: float) -> None:
    assert_type(seconds, float)


def the_ways_to_make_a_client() -> ResponseStream:
    Client("openai", model="any", deadline=60.0, on_request=on_request, on_retry=on_retry, on_turn=on_turn)
    Client("openai", on_wait=on_wait)
    assert_type(instrument(Client("openai")), Client)
    Client(Provider("own", "http://127.0.0.1:8000/v1", api_key="key", stream_idle_timeout=60))
    Client(Provider("own", "http://127.0.0.1:8000/v1", api_key=read_key))
    Client("http://127.0.0.1:8000/v1", defaults={"temperature": 0})
    Client(base_url="http://127.0.0.1:8000/v1", api_key=read_key)
    Client(timeout=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(Provider.from_toml("providers.toml"), dict[str, Provider])
    assert_type(Provider.from_toml("providers.toml", "own"), Provider)
    return chatstream.stream("Hi", model="any", provider="groq", heartbeat=0.5, temperature=0)


def what_answers_take(client: Client, turns: list[Turn], timing: Timing) -> None:
    usages = [turn.token_usage or TokenUsage() for turn in turns]
    assert_type(usages[0] + usages[1], TokenUsage)
    assert_type(sum(usages, TokenUsage()), TokenUsage)
    assert_type(usages[0].cost, float | None)
    assert_type(client.usage, ClientUsage)
    assert_type(client.usage.tokens, TokenUsage)
    assert_type(client.usage.cost, float | None)
    assert_type(timing.first_text, float | None)
    assert_type(timing.reused, bool)
    assert_type(timing.arrivals, tuple[tuple[float, int], ...])
    assert_type(timing.sparkline(60), str)
    assert_type(timing.svg(), SVG)
    assert_type(timing.plot(), Any)


def values_as_json(event: ResponseEvent, item: ResponseItem, turn: Turn, prompt: Prompt) -> None:
    assert_type(event.to_dict(), dict[str, Any])
    assert_type(event_from_dict(event.to_dict()), ResponseEvent)
    assert_type(item_from_dict(item.to_dict()), ResponseItem)
    assert_type(OutputTextDelta.from_dict({}), OutputTextDelta)
    assert_type(Turn.from_dict(turn.to_dict()), Turn)
    assert_type(Prompt.from_dict(prompt.to_dict()), Prompt)


def recordings(client: Client, path: Path) -> None:
    client.stream("Hi", record="run.sse")
    client.stream("Hi", record=path)
    recorder = Recorder(path, append=True)
    assert_type(chatstream.stream("Hi", model="any", record=recorder), ResponseStream)
    assert_type(replay(path, speed=1, call=0), ResponseStream)
    with ReplayServer(path, "run.sse", speed=2.5) as server:
        assert_type(server.url, str)
    with ChatServer() as chat_server:
        chat_server.says("Hello", reasoning="hm")
        chat_server.calls(get_weather={"city": "Oslo"})
        assert_type(chat_server.requests[-1], ReceivedRequest)
    with RecordingServer("openai", path, mode="none") as recording:
        assert_type(recording.differences, list[str])


def bytes_of_ones_own(recorded: list[bytes], file: BinaryIO) -> Any:
    read_events(b"")
    read_events(file)
    events = read_events(recorded)
    assert_type(events, Iterator[ResponseEvent])
    assert_type(aggregate(events), Iterator[ResponseEvent])
    return collect(events)


def many_prompts(client: Client, executor: Executor) -> None:
    def report(progress: Progress) -> None:
        assert_type(progress.done, int)
        assert_type(progress.tokens_per_second, float | None)

    limiter = Limiter(600, tokens_per_minute=90_000)
    assert_type(limiter.requests_per_second, float | None)
    assert_type(Client(limiter=limiter).limiter, Limiter | None)
    results = map_prompts(client, ("a", Prompt("b"), {"prompt": "c"}), out="out.jsonl", progress=report, temperature=0)
    assert_type(results, Generator[Result, None, None])
    for result in map_prompts(client, Path("in.jsonl"), executor=executor, concurrency=32, limiter=limiter):
        assert_type(result.turn, Turn | None)
        assert_type(result.error, Exception | None)
        assert_type(result.attempts, tuple[Attempt, ...])
