"""`run_tools`: turn after turn from a scripted server, and the calls between them."""

from __future__ import annotations

import enum
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from support import THREE, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Client,
    Completed,
    ConfigError,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Heartbeat,
    InputImage,
    InputText,
    MaxTurnsExceeded,
    Message,
    OutputItemDone,
    OutputTextDelta,
    Prompt,
    StreamClosed,
    StreamTruncated,
    Tool,
    Turn,
    UnexpectedStatus,
    replay,
    run_tools,
)
from chatstream.testing import (
    Script,
    Step,
    cut,
    delta,
    done,
    end,
    event,
    finish,
    head,
    pause,
    stall,
    status,
    text_answer,
)

PARIS, OSLO = ("a", "get_weather", '{"city": "Paris"}'), ("b", "get_weather", '{"city": "Oslo"}')


class City(enum.Enum):
    PARIS = "Paris"
    OSLO = "Oslo"


def get_weather(city: City) -> str:
    """Get the weather in a city."""
    return f"{city.name}: 18"


def calls(*given: tuple[str, str, str], text: str = "", reason: str = "tool_calls") -> Script:
    """An answer with a text and these calls, each an id, a name, and arguments."""
    made = [
        {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
        for index, (id, name, arguments) in enumerate(given)
    ]
    pieces = [delta(text)] if text else []
    return [head(), *pieces, *(_fragment(each) for each in made), finish(reason), done(), end()]


def _fragment(call: dict[str, Any]) -> Step:
    return event({"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


def outputs_of(items: list[Any]) -> dict[str, Any]:
    """The outputs in a conversation by the id of their call."""
    return {each.call_id: each.output for each in items if isinstance(each, (FunctionCallOutput, CustomToolCallOutput))}


def check_sendable(serve, connect, prompt: Prompt) -> None:
    """The conversation can be sent as it stands."""
    with Client(f"{serve(text_answer('Fine.')).url}", model="m1", api_key="sk-Zq7-the-key") as client:
        assert client.stream(prompt).collect().text == "Fine."


# ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_events_of_all_turns_arrive_and_after_each_the_outputs_of_its_calls(serve, connect):
    server = serve(calls(PARIS, OSLO, text="Let me look."), text_answer("Both ", "warm."))
    loop = run_tools(connect(server), "Warmer in Paris or in Oslo?", [get_weather])
    events = [each for each in loop if isinstance(each, (OutputTextDelta, OutputItemDone, Completed))]
    first, second = FunctionCall("get_weather", PARIS[2], "a"), FunctionCall("get_weather", OSLO[2], "b")
    outputs = [FunctionCallOutput("a", "PARIS: 18"), FunctionCallOutput("b", "OSLO: 18")]
    assert events[:3] == [OutputTextDelta("Let me look."), OutputItemDone(first), OutputItemDone(second)]
    assert isinstance(events[3], Completed)
    assert events[4:6] == [OutputItemDone(output) for output in outputs]
    assert events[6:8] == [OutputTextDelta("Both "), OutputTextDelta("warm.")]
    assert isinstance(events[8], Completed)
    assert loop.prompt.input == [
        Message("user", "Warmer in Paris or in Oslo?"),
        Message("assistant", "Let me look."),
        first,
        second,
        *outputs,
        Message("assistant", "Both warm."),
    ]
    assert [turn.text for turn in loop.turns] == ["Let me look.", "Both warm."]
    assert loop.turn.text == "Both warm."
    assert list(loop) == []
    assert repr(loop) == "<ToolLoop finished; turns=2>"


def test_a_function_runs_only_after_its_turn_is_whole_and_the_next_turn_is_sent_only_when_it_is_asked_for(
    serve, connect
):
    server = serve(calls(PARIS), text_answer("Warm."))
    ran: list[str] = []

    def get_weather(city: str) -> str:
        ran.append(city)
        return "18"

    loop = run_tools(connect(server), "Paris?", [get_weather])
    assert server.requests == []
    assert repr(loop) == "<ToolLoop open; turns=0>"
    assert loop.turn == Turn()
    for each in loop:
        if isinstance(each, Completed):
            break
    assert (ran, len(server.requests)) == ([], 1)


def test_a_prompt_and_a_list_grow_in_place_and_a_text_becomes_a_prompt_that_can_be_used_again(serve, connect):
    client = connect(serve(calls(PARIS), text_answer("Warm."), calls(PARIS), text_answer("Warm."), text_answer("Yes.")))
    prompt = Prompt("Be brief.", "Paris?", [get_weather])
    loop = run_tools(client, prompt)
    assert loop.collect().text == "Warm."
    assert loop.prompt is prompt
    assert prompt.tools == [get_weather]
    messages: list[Any] = [{"role": "user", "content": "Paris?"}]
    loop = run_tools(client, messages, [get_weather])
    assert loop.collect().text == "Warm."
    assert loop.prompt.input is messages
    assert [type(each).__name__ for each in messages] == ["dict", "FunctionCall", "FunctionCallOutput", "Message"]
    loop.prompt.input.append(Message("user", "Really?"))
    assert run_tools(client, loop.prompt, [get_weather]).collect().text == "Yes."


def test_text_yields_the_text_of_every_turn(serve, connect):
    server = serve(calls(PARIS, text="Let me look. "), text_answer("It is ", "warm."))
    loop = run_tools(connect(server), "Paris?", [get_weather])
    assert list(loop.text()) == ["Let me look. ", "It is ", "warm."]


def test_aggregate_yields_whole_items_and_restarts_a_turn_that_breaks(serve, connect):
    broken = [head(), delta("It i"), cut()]
    server = serve(calls(PARIS), broken, text_answer("It is ", "warm."))
    first, _, output, message, completed = run_tools(connect(server), "Paris?", [get_weather]).aggregate()
    assert first == OutputItemDone(FunctionCall("get_weather", PARIS[2], "a"))
    assert output == OutputItemDone(FunctionCallOutput("a", "PARIS: 18"))
    assert message == OutputItemDone(Message("assistant", "It is warm."))
    assert isinstance(completed, Completed)


def test_fields_and_heartbeats_reach_every_turn(serve, connect):
    slow = [head(), pause(0.15), *calls(PARIS)[1:]]
    server = serve(slow, text_answer("Warm."))
    loop = run_tools(connect(server), "Paris?", [get_weather], model="m2", temperature=0, heartbeat=0.03)
    assert Heartbeat() in list(loop)
    assert [(each.json["model"], each.json["temperature"]) for each in server.requests] == [("m2", 0)] * 2


@pytest.mark.parametrize(
    ("choice", "later"),
    [
        ("required", "auto"),
        ("any", "auto"),
        ({"type": "function", "function": {"name": "get_weather"}}, "auto"),
        ("none", "none"),
        ({"type": "allowed_tools"}, {"type": "allowed_tools"}),
    ],
    ids=str,
)
def test_a_tool_choice_that_forces_a_call_holds_for_the_first_turn(serve, connect, choice, later):
    server = serve(calls(PARIS), text_answer("Warm."))
    run_tools(connect(server), "Paris?", [get_weather], tool_choice=choice).collect()
    assert [each.json["tool_choice"] for each in server.requests] == [choice, later]


def test_a_tool_replaces_the_one_of_its_name_that_a_saved_prompt_has(serve, connect):
    saved = Prompt.from_dict(Prompt(None, "Paris?", [Tool.from_function(get_weather)]).to_dict())
    flat = {"type": "function", "name": "get_time", "parameters": {}}
    nested = {"type": "function", "function": {"name": "get_date", "parameters": {}}}
    saved.tools += [flat, nested]

    def get_time() -> str:
        return "12:00"

    def get_date() -> str:
        return "May"

    server = serve(calls(PARIS, ("b", "get_time", "{}"), ("c", "get_date", "")), text_answer("Warm."))
    loop = run_tools(connect(server), saved, [get_weather, get_time, get_date])
    assert loop.collect().text == "Warm."
    assert outputs_of(saved.input) == {"a": "PARIS: 18", "b": "12:00", "c": "May"}


# ── calls that go wrong ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_goes_wrong_in_a_call_is_told_to_the_model_and_the_others_run(serve, connect, caplog):
    def look_up(name: str) -> str:
        raise LookupError(f"no {name}")

    def fetch(name: str) -> set[int]:
        return {1}

    server = serve(
        calls(
            PARIS,
            ("b", "look_up", '{"name": "Ada"}'),
            ("c", "get_wether", "{}"),
            ("d", "get_weather", '{"city": "Rome", "day": 1}'),
            ("e", "fetch", '{"name": "Ada"}'),
        ),
        text_answer("Warm."),
    )
    described = Tool("fetch", None, {"type": "object", "properties": {}}, function=fetch)
    with caplog.at_level(logging.WARNING, "chatstream"):
        loop = run_tools(connect(server), "Paris?", [get_weather, look_up, described])
        assert loop.collect().text == "Warm."
    found = outputs_of(loop.prompt.input)
    assert found["a"] == "PARIS: 18"
    assert found["b"] == "look_up failed: LookupError: no Ada"
    assert found["c"] == "there is no tool named get_wether; the tools are get_weather, look_up, fetch"
    assert found["d"].startswith("the arguments of get_weather are wrong: day is not a parameter; city: 'Rome' is")
    assert "which JSON does not support" in found["e"]
    assert [record.getMessage() for record in caplog.records] == ["the tool look_up failed", "the tool fetch failed"]
    assert caplog.records[0].exc_info[0] is LookupError
    contents = [each["content"] for each in server.requests[1].json["messages"] if each["role"] == "tool"]
    assert contents == list(found.values())


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(), "f failed: ValueError"),
        (Unprintable(), "f failed: Unprintable"),
        (StopIteration("3"), "f failed: StopIteration: 3"),
        (KeyError("Oslo"), "f failed: KeyError: 'Oslo'"),
        (OSError("x" * 600), f"f failed: OSError: {'x' * 500}…"),
        (OSError("half \ud83d of it"), "f failed: OSError: half \ufffd of it"),
        (
            OSError("GET https://h/v1?q=1&api_key=hidden1&n=2"),
            "f failed: OSError: GET https://h/v1?q=1&api_key=***&n=2",
        ),
        (OSError("at postgres://ada:hidden1@h/db"), "f failed: OSError: at postgres://***@h/db"),
        (OSError("Bearer hidden1 is refused"), "f failed: OSError: *** is refused"),
        (OSError("the key sk-hidden1hidden1 and task-manager"), "f failed: OSError: the key *** and task-manager"),
    ],
    ids=["empty", "unprintable", "StopIteration", "KeyError", "long", "surrogate", "query", "user", "bearer", "key"],
)
def test_an_exception_is_told_in_one_short_text_without_frames_and_secrets(serve, connect, caplog, error, told):
    caplog.set_level(logging.CRITICAL, "chatstream")  # a process of pytest can't pass on a log with half a character

    def f() -> str:
        raise error

    loop = run_tools(connect(serve(calls(("a", "f", "{}")), text_answer("Well."))), "Do it.", [f])
    loop.collect()
    assert outputs_of(loop.prompt.input) == {"a": told}


def test_a_call_that_was_cut_off_is_not_made_and_the_model_reads_why(serve, connect):
    ran: list[str] = []

    def get_weather(city: str) -> str:
        ran.append(city)
        return "18"

    asked: list[FunctionCall] = []
    server = serve(calls(PARIS, ("b", "get_weather", '{"city": "Os'), reason="length"), text_answer("Well."))
    loop = run_tools(connect(server), "Do it.", [get_weather], approve=lambda call: bool(asked.append(call)) or True)
    loop.collect()
    assert ran == ["Paris"]
    assert [call.call_id for call in asked] == ["a"]
    assert outputs_of(loop.prompt.input)["b"].startswith("get_weather was not called: its arguments are not complete")
    (sent,) = [each for each in server.requests[1].json["messages"] if each.get("tool_calls")]
    assert "malformed_arguments" in sent["tool_calls"][1]["function"]["arguments"]


def test_a_call_without_a_name_is_left_out_of_the_conversation(serve, connect):
    loop = run_tools(connect(serve(calls(("a", "", "{}"), text="Hm."))), "Do it.", [get_weather])
    assert loop.collect().text == "Hm."
    assert loop.prompt.input == [Message("user", "Do it."), Message("assistant", "Hm.")]


def test_the_call_of_a_custom_tool_is_refused_and_a_tool_that_the_server_runs_is_sent(serve, connect):
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    server = serve([head(), _fragment(custom), finish("tool_calls"), done(), end()], text_answer("Well."))
    tools = [{"type": "custom", "custom": {"name": "sql"}}, {"type": "web_search"}]
    loop = run_tools(connect(server, other_tools=True), "Do it.", tools)
    assert loop.collect().text == "Well."
    assert outputs_of(loop.prompt.input) == {"a": "sql was not called: custom tools can't be called here"}
    assert server.requests[0].json["tools"] == tools


@pytest.mark.parametrize(
    "made",
    ["half \ud83d", [InputText("half \ud83d"), InputImage("https://h/a.png")], {"a": "\ud83d"}],
    ids=["text", "parts", "JSON"],
)
def test_half_characters_of_a_result_do_not_make_the_conversation_unusable(serve, connect, made):
    def f() -> Any:
        return made

    tool = Tool("f", None, {"type": "object", "properties": {}}, function=f)
    server = serve(calls(("a", "f", "{}")), text_answer("Well."))
    assert run_tools(connect(server), "Do it.", [tool]).collect().text == "Well."
    assert "\ufffd" in str(server.requests[1].json["messages"][-1]["content"])


# ── approval ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threads", [1, 4])
def test_a_call_is_made_only_if_approve_allows_it_and_the_model_reads_the_reason(serve, connect, threads):
    said: dict[str, Any] = {"Paris": True, "Oslo": False, "Rome": "it is Sunday", "Lima": "", "Bonn": None}
    ran: list[str] = []

    def get_weather(city: str) -> str:
        ran.append(city)
        return "18"

    made = [(city, "get_weather", f'{{"city": "{city}"}}') for city in said]
    loop = run_tools(
        connect(serve(calls(*made), text_answer("Well."))),
        "Where is it warm?",
        [get_weather],
        approve=lambda call: said[call.parsed()["city"]],
        threads=threads,
    )
    loop.collect()
    assert ran == ["Paris"]
    refused = "get_weather was not called: the user did not allow it"
    sunday = "get_weather was not called: it is Sunday"
    assert list(outputs_of(loop.prompt.input).values()) == ["18", refused, sunday, refused, refused]


def test_an_answer_of_approve_that_is_neither_yes_nor_no_calls_nothing(serve, connect):
    loop = run_tools(connect(serve(calls(PARIS))), "Paris?", [get_weather], approve=lambda call: object())
    with pytest.raises(ConfigError, match="approve must return True, False, None or a str"):
        loop.collect()
    assert "was not called" in outputs_of(loop.prompt.input)["a"]


def test_what_approve_raises_is_raised_and_the_conversation_can_be_sent(serve, connect):
    def approve(call: FunctionCall) -> bool:
        if call.call_id == "b":
            raise EOFError
        return True

    prompt = Prompt(None, "Paris?")
    with pytest.raises(EOFError):
        run_tools(connect(serve(calls(PARIS, OSLO))), prompt, [get_weather], approve=approve).collect()
    assert outputs_of(prompt.input) == {
        "a": "PARIS: 18",
        "b": "get_weather was not called, because the conversation was interrupted first",
    }
    check_sendable(serve, connect, prompt)


# ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_run_side_by_side_in_threads_and_their_outputs_come_in_the_order_of_the_calls(serve, connect):
    together, request = threading.Barrier(2, timeout=5), ContextVar("request", default="none")
    request.set("r1")
    second_is_done = threading.Event()

    def get_weather(city: str) -> str:
        together.wait()
        if city == "Paris":
            assert second_is_done.wait(5)
        else:
            second_is_done.set()
        return f"{city} {request.get()} {threading.current_thread() is threading.main_thread()}"

    loop = run_tools(connect(serve(calls(PARIS, OSLO), text_answer("Warm."))), "Paris?", [get_weather], threads=2)
    loop.collect()
    assert list(outputs_of(loop.prompt.input).items()) == [("a", "Paris r1 False"), ("b", "Oslo r1 False")]


def test_no_more_calls_run_at_once_than_there_are_threads(serve, connect):
    running, most = [0], [0]
    lock = threading.Lock()

    def f(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return number

    made = [(f"c{number}", "f", f'{{"number": {number}}}') for number in range(8)]
    loop = run_tools(connect(serve(calls(*made), text_answer("Well."))), "Do it.", [f], threads=3)
    loop.collect()
    assert list(outputs_of(loop.prompt.input).values()) == [str(number) for number in range(8)]
    assert most == [3]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Cancelled])
def test_what_is_no_failure_of_a_function_is_raised_and_the_conversation_can_be_sent(serve, connect, threads, error):
    def stop() -> str:
        raise error

    prompt = Prompt(None, "Do it.")
    made = [("a", "stop", "{}"), ("b", "get_weather", '{"city": "Oslo"}')]
    with pytest.raises(error):
        run_tools(connect(serve(calls(*made))), prompt, [stop, get_weather], threads=threads).collect()
    found = outputs_of(prompt.input)
    assert found["a"] == "stop was interrupted: it may have taken effect, but its result is not known"
    assert ("may have taken effect" in found["b"]) == (threads == 2)
    check_sendable(serve, connect, prompt)


STUCK = """
import signal, sys, threading, time
from chatstream import Client, Provider, run_tools

def wait() -> str:
    print("waiting", flush=True)
    threading.Event().wait()

with Client(Provider("test", sys.argv[1], api_key="k"), model="m1") as client:
    loop = run_tools(client, "Do it.", [wait], threads=int(sys.argv[2]))
    try:
        loop.collect()
    except KeyboardInterrupt:
        print(loop.prompt.input[-1].output, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_function_that_never_returns_ends_with_ctrl_c_and_does_not_keep_the_program_alive(serve, threads):
    server = serve(calls(("a", "wait", "{}")))
    command = [sys.executable, "-c", STUCK, server.url, str(threads)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline().startswith("wait was interrupted")
            assert process.wait(10) == 0
        finally:
            process.kill()


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_loop_that_reaches_max_turns_says_so_and_its_conversation_goes_on(serve, connect):
    server = serve(calls(PARIS), calls(OSLO), text_answer("Warm."))
    client, prompt = connect(server), Prompt(None, "Paris?")
    loop = run_tools(client, prompt, [get_weather], max_turns=2)
    with pytest.raises(
        MaxTurnsExceeded, match="after 2 turns: raise max_turns, or continue the conversation"
    ) as caught:
        loop.collect()
    assert caught.value.max_turns == 2
    assert caught.value.partial is loop.turn
    assert len(server.requests) == 2
    assert outputs_of(prompt.input) == {"a": "PARIS: 18", "b": "OSLO: 18"}
    assert run_tools(client, prompt, [get_weather]).collect().text == "Warm."
    assert str(MaxTurnsExceeded(1)).startswith("the model was still calling functions after 1 turn: ")


@pytest.mark.parametrize("read", [list, lambda loop: list(loop.aggregate())], ids=["events", "aggregate"])
def test_a_stream_that_fails_in_a_later_turn_leaves_the_conversation_before_that_turn(serve, connect, read):
    broken = [head(), delta("It i"), _fragment({"index": 0, "id": "z", "function": {"name": "f"}}), cut()]
    server = serve(calls(PARIS), broken, broken, text_answer("Warm."))
    client, prompt = connect(server, stream_max_retries=0), Prompt(None, "Paris?")
    loop = run_tools(client, prompt, [get_weather])
    with pytest.raises(StreamTruncated) as caught:
        read(loop)
    assert caught.value.partial.text == loop.turn.text == "It i"
    assert [type(each).__name__ for each in prompt.input] == ["Message", "FunctionCall", "FunctionCallOutput"]
    with pytest.raises(StreamClosed, match=r"continues the conversation$"):
        next(loop)
    assert repr(loop) == "<ToolLoop ended; turns=2>"
    with pytest.raises(StreamTruncated):
        run_tools(client, prompt, [get_weather]).collect()
    assert run_tools(client, prompt, [get_weather]).collect().text == "Warm."


def test_a_request_that_is_refused_in_a_later_turn_keeps_the_outputs(serve, connect):
    prompt = Prompt(None, "Paris?")
    with pytest.raises(UnexpectedStatus, match="400"):
        run_tools(connect(serve(calls(PARIS), status(400, "no"))), prompt, [get_weather]).collect()
    assert outputs_of(prompt.input) == {"a": "PARIS: 18"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["delta", "call", "Completed", "output"])
def test_a_loop_that_is_left_closes_its_stream_and_leaves_a_conversation_that_can_be_sent(
    serve, connect, kind, threads
):
    first = calls(PARIS, OSLO, text="Let me look.")
    held = [*first[:-3], stall()] if kind in ("delta", "call") else first
    server = serve(held, text_answer("Warm."))
    prompt, ran = Prompt(None, "Paris?"), []

    def get_weather(city: str) -> str:
        ran.append(city)
        return "18"

    loop = run_tools(connect(server), prompt, [get_weather], threads=threads)
    for each in loop:
        item = each.item if isinstance(each, OutputItemDone) else None
        found = "call" if isinstance(item, FunctionCall) else "output" if item else type(each).__name__
        if found.endswith(kind) or (kind == "delta" and isinstance(each, OutputTextDelta)):
            break
    if kind in ("delta", "call"):
        assert server.client_closed(1)
        assert prompt.input == [Message("user", "Paris?")]
        assert loop.turn.text == "Let me look."
    else:
        assert outputs_of(prompt.input).keys() == {"a", "b"}
        assert loop.turns[0].status == "completed"
    assert len(server.requests) == 1
    check_sendable(serve, connect, prompt)
    with pytest.raises(StreamClosed):
        list(loop)


def test_a_loop_that_is_left_at_the_end_of_the_last_turn_is_finished(serve, connect):
    loop = run_tools(connect(serve(text_answer("Hello."))), "Hi", [get_weather])
    for each in loop:
        if isinstance(each, Completed):
            break
    assert loop.prompt.input[-1] == Message("assistant", "Hello.")
    assert list(loop) == []


def test_a_loop_is_an_iterator_that_can_be_closed(serve, connect):
    server = serve([head(), *THREE, stall()])
    with run_tools(connect(server), "Hi", [get_weather]) as loop:
        next(loop)
        assert next(loop) == OutputTextDelta("one ")
        assert next(iter(loop)) == OutputTextDelta("two ")  # and dropped, which leaves the loop
        assert server.client_closed(1)
    loop.close()


def test_a_forgotten_loop_closes_its_stream_at_once(serve, connect):
    server = serve([head(), *THREE, stall()])
    loop = run_tools(connect(server), "Hi", [get_weather])
    next(loop)
    del loop
    assert server.client_closed(1)


def test_cancel_ends_a_loop_that_waits_for_the_model(serve, connect):
    server = serve([head(), *THREE, stall()])
    loop = run_tools(connect(server), "Hi", [get_weather])
    threading.Timer(0.1, loop.cancel).start()
    with within(1.0), pytest.raises(Cancelled):
        loop.collect()


def test_cancel_while_a_function_runs_keeps_its_output_and_asks_for_no_other_turn(serve, connect):
    def f() -> str:
        loop.cancel()
        return "done"

    server = serve(calls(("a", "f", "{}"), ("b", "f", "{}")))
    loop = run_tools(connect(server), "Do it.", [f])
    with pytest.raises(Cancelled):
        loop.collect()
    assert outputs_of(loop.prompt.input) == {
        "a": "done",
        "b": "f was not called, because the conversation was interrupted first",
    }
    assert len(server.requests) == 1


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("moment", ["approve", "completed"])
def test_after_cancel_no_function_begins_and_no_other_call_is_asked_for(serve, connect, threads, moment):
    asked, made = [], []

    def f() -> None:
        made.append("f")

    def cancel_and_approve(call: FunctionCall) -> bool:
        asked.append(call.call_id)
        loop.cancel()
        return True

    server = serve(calls(("a", "f", "{}"), ("b", "f", "{}")))
    loop = run_tools(connect(server), "Do it.", [f], threads=threads, approve=cancel_and_approve)
    cancelling = (isinstance(event, Completed) and moment == "completed" and loop.cancel() for event in loop)
    with pytest.raises(Cancelled):
        list(cancelling)
    assert (asked, made) == (["a"] if moment == "approve" else [], [])
    assert len(outputs_of(loop.prompt.input)) == 2


def test_a_loop_that_is_cancelled_while_it_connects_closes_the_stream_that_it_gets(serve, connect):
    server = serve(text_answer("Hello."))
    loop = run_tools(connect(server, on_request=lambda info: loop.cancel()), "Hi", [get_weather])
    with pytest.raises(Cancelled):
        loop.collect()
    assert loop.turns[0].items == ()


# ── misuse ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def get_time() -> str:
    """An async function."""
    return ""


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("Hi", [get_weather]), {}, "the first argument of run_tools must be a Client, not str"),
        ((None, "Hi", get_weather), {}, "tools must be a list"),
        ((None, "Hi", [get_time]), {}, "get_time is async"),
        ((None, "Hi", [Tool("f")]), {}, "the tool f has no function: pass the function itself"),
        (
            (None, "Hi", [{"type": "function", "function": {"name": "f"}}]),
            {},
            "the tool f has no function: pass the function itself",
        ),
        ((None, "Hi", [{"name": "f"}]), {}, "the tool f has no function: pass the function itself"),
        ((None, 5), {}, "a prompt must be a str"),
        ((None, "Hi"), {"max_turns": 0}, "max_turns must be an integer of at least 1, not 0"),
        ((None, "Hi"), {"threads": True}, "threads must be an integer of at least 1, not True"),
        ((None, "Hi"), {"threads": 2.5}, "threads must be an integer of at least 1, not 2.5"),
        ((None, "Hi"), {"approve": True}, "approve must be a function of one call, not bool"),
        ((None, "Hi"), {"approve": get_time}, "approve must not be async"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_misuse_of_run_tools_is_a_config_error_before_anything_is_sent(serve, connect, arguments, options, message):
    client = connect(serve())
    with pytest.raises(ConfigError, match=message):
        run_tools(*(client if each is None else each for each in arguments), **options)


def test_an_attribute_of_another_library_is_explained(serve, connect):
    loop = run_tools(connect(serve()), "Hi")
    with pytest.raises(AttributeError, match=r"loop\.collect\(\)\.text"):
        _ = loop.output_text
    assert issubclass(MaxTurnsExceeded, ChatStreamError)


def test_a_recording_of_a_loop_keeps_all_of_its_turns(serve, connect, tmp_path):
    path = tmp_path / "run.sse"
    server = serve(calls(("a", "f", "{}")), text_answer("Well."))

    def f() -> str:
        return "fine"

    run_tools(connect(server), "Do it.", [f], record=path).collect()
    assert [each.name for each in replay(path, call=0).collect().function_calls] == ["f"]
    assert replay(path, call=1).collect().text == "Well."


def test_a_recording_that_a_loop_can_not_write_is_refused_before_it_begins(serve, connect):
    with pytest.raises(ConfigError, match="record must be the path of a file"):
        run_tools(connect(serve()), "Do it.", [], record=7)
