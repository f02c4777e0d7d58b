"""The programs on the pages of docs/howto, with servers that are slow, broken or limit their calls.

The programs themselves are taken from the pages, up to the block that runs them.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import REST, THREE, WORDS, within

from chatstream import Client, MissingEnvVar, Provider, StreamTruncated, UnexpectedStatus, collect
from chatstream.testing import (
    FaultServer,
    Script,
    Wire,
    chunk,
    cut,
    delta,
    done,
    end,
    event,
    finish,
    forever,
    head,
    pause,
    stall,
    status,
    text_answer,
)

PAGES = Path(__file__).parents[1] / "docs" / "howto"
KEEP_ALIVE = forever(chunk(b": keep-alive\n\n"), pause(0.02))
SILENCES = {
    "before the first event": [head(), stall()],
    "after three events": [head(), *THREE, stall()],
    "during keep-alive comments": [head(), *THREE, KEEP_ALIVE],
}


@pytest.fixture(params=[False, True], ids=["http", "https"])
def model(request: pytest.FixtureRequest, serve: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FaultServer]:
    """A function that puts a server with the given scripts behind the provider ``openai``."""
    options = {}
    if request.param:
        request.getfixturevalue("trusted")
        options["tls"] = request.getfixturevalue("tls")

    def start(*scripts: Script) -> FaultServer:
        server: FaultServer = serve(*scripts, **options)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-program")
        return server

    return start


@pytest.fixture
def load() -> Any:
    """A function that runs the first blocks of a page, one by default; returns what they define."""
    namespaces = []

    def run(page: str, count: int = 1) -> dict[str, Any]:
        text = (PAGES / page).read_text("utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[:count]
        namespace: dict[str, Any] = {"__name__": "page"}
        namespaces.append(namespace)
        exec(compile("\n".join(blocks), page, "exec", dont_inherit=True), namespace)
        return namespace

    yield run
    for namespace in namespaces:
        for value in namespace.values():
            if isinstance(value, Client):
                value.close()


def echo(wire: Wire) -> None:
    """A step that answers with the question."""
    assert wire.request is not None
    delta(wire.request.json["messages"][-1]["content"])(wire)


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rest", [[stall()], [KEEP_ALIVE], [forever(delta("more "), pause(0.01))]])
def test_the_program_that_stops_after_n_words_closes_the_connection_to_the_server(model, load, rest):
    server = model([head(), *THREE, delta("four five"), *rest])
    with within(1):
        assert load("stop-after-n-words.md")["first_words"]("Count!", 4) == "one two three four"
    assert server.client_closed()


def test_the_program_that_stops_after_n_words_counts_words_that_arrive_in_pieces_once(model, load):
    model(text_answer("Ai", "r scat", "ters bl", "ue light"))
    first_words = load("stop-after-n-words.md")["first_words"]
    assert first_words("Why?", 3) == "Air scatters blue"
    assert first_words("Why?", 9) == "Air scatters blue light"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ([stall()], None),
        (SILENCES["before the first event"], ""),
        (SILENCES["after three events"], "".join(WORDS)),
        (SILENCES["during keep-alive comments"], "".join(WORDS)),
        ([head(), *THREE, forever(delta("x"), pause(0.01))], None),
        (status(503, headers={"Retry-After": "5"}), None),
    ],
    ids=["headers", *SILENCES, "while text arrives", "pause before a retry"],
)
def test_the_program_with_a_time_limit_ends_in_time_wherever_it_waits(model, load, script, text):
    server = model(script)
    ask = load("limit-the-time.md")["ask"]
    with Client("openai", model="m1") as client, within(0.9):
        said = ask(client, "Hi", deadline=0.4)
    assert said.startswith("DeadlineExceeded: ")
    assert text is None or said.endswith(repr(text))
    assert len(server.requests) == 1


@pytest.mark.parametrize("limit", ["stream_idle_timeout", "first_event_timeout"])
def test_the_program_with_a_limit_of_silence_names_it(serve, load, limit):
    server = serve([head(), stall()])
    provider = Provider("test", server.url, stream_max_retries=0)
    with Client(provider, model="m1") as client, within(0.9):
        assert load("limit-the-time.md")["ask"](client, "Hi", **{limit: 0.3}) == "IdleTimeout: ''"


# ── many calls ──────────────────────────────────────────────────────────────────────────────────────────────────


class RateLimit:
    """A step of a server that answers so many calls in each second, and others with 429. It counts both."""

    def __init__(self, calls: int, answer: Script) -> None:
        self.served, self.refused = 0, 0
        self._calls, self._answer = calls, answer
        self._lock = threading.Lock()
        self._second = -1.0
        self._left = 0

    def __call__(self, wire: Wire) -> None:
        with self._lock:
            if time.monotonic() >= self._second + 1:
                self._second, self._left = time.monotonic(), self._calls
            accepted = self._left > 0
            self._left -= accepted
            self.served += accepted
            self.refused += not accepted
        for step in self._answer if accepted else status(429, headers={"Retry-After": "1"}):
            step(wire)


def test_the_program_with_a_thread_pool_gets_all_answers_in_order_from_a_server_that_serves_ten_calls_a_second(
    model, load
):
    limit = RateLimit(10, [head(), echo, *REST])
    model([limit])
    questions = [f"question {number}" for number in range(20)]
    assert load("ask-in-a-thread-pool.md")["ask_all"](questions) == questions
    assert limit.served == 20
    assert 0 < limit.refused < 20


def test_the_program_that_writes_a_file_asks_only_what_a_broken_run_has_left(model, load, tmp_path):
    server = model([head(), echo, *REST], [head(), echo, *REST], status(400), [head(), echo, *REST])
    ask_all, path = load("write-answers-to-a-file.md")["ask_all"], tmp_path / "answers.jsonl"
    with pytest.raises(UnexpectedStatus):
        ask_all(["a", "b", "c", "d"], path)
    ask_all(["a", "b", "c", "d"], path)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(each["question"], each["answer"], each["status"]) for each in records] == [
        (name, name, "completed") for name in "abcd"
    ]
    assert [request.json["messages"][-1]["content"] for request in server.requests] == ["a", "b", "c", "c", "d"]


@pytest.mark.parametrize("kept", range(3, 60, 7))
def test_the_program_that_writes_a_file_asks_again_where_a_line_is_cut(serve, monkeypatch, load, tmp_path, kept):
    server = serve([head(), echo, *REST])
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-program")
    ask_all, path = load("write-answers-to-a-file.md")["ask_all"], tmp_path / "answers.jsonl"
    ask_all(["a", "b\u2028é\r"], path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + kept])
    ask_all(["a", "b\u2028é\r"], path)
    assert path.read_bytes() == whole
    assert len(server.requests) == 3


def test_a_program_that_keeps_events_can_tell_a_recording_that_was_cut(model, load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model(text_answer(*WORDS))
    page = load("keep-and-replay.md")
    assert page["turn"].text == "".join(WORDS)
    lines = Path("events.jsonl").read_text("utf-8").splitlines()
    with pytest.raises(StreamTruncated) as caught:
        collect(page["event_from_dict"](json.loads(line)) for line in lines[:-1])
    assert caught.value.partial.text == "".join(WORDS)


def test_the_program_that_measures_tokens_per_second_reports_what_is_known(model, load, capsys):
    usage = {"completion_tokens": 30}
    model(
        [head(), pause(0.3), THREE[0], pause(0.6), THREE[1], finish(usage=usage), done(), end()],
        text_answer(*WORDS, usage=usage),
        text_answer(*WORDS),
        [head(), finish(usage=usage), done(), end()],
    )
    report = load("measure-tokens-per-second.md")["report"]
    printed = []
    with Client("openai", model="m1") as client:
        for _ in range(4):
            stream = client.stream("Hi")
            stream.collect()
            report(stream)
            printed.append(capsys.readouterr().out.splitlines())
    assert re.fullmatch(r"30 tokens in [01]\.\d s, the first text after 0\.\d s", printed[0][0])
    assert 10 < int(printed[0][1].removesuffix(" tokens per second")) < 300  # 50, on a machine that is not busy
    assert printed[1][0].startswith("30 tokens in 0.")
    assert printed[2:] == [[], []]


# ── conversations ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_program_that_keeps_the_history_sends_it_with_the_next_question(model, load, capsys):
    server = model(text_answer("Yes."), text_answer("No."))
    load("keep-the-history.md")
    assert [message["role"] for message in server.requests[1].json["messages"]] == [
        *("system", "user", "assistant", "user")
    ]
    assert server.requests[1].json["messages"][2]["content"] == "Yes."
    assert capsys.readouterr().out == "Yes.\nNo.\n"


def calls(*given: tuple[str, str]) -> Script:
    """An answer that calls functions, given as names and arguments."""
    deltas = [
        {"index": index, "id": f"call_{index}", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(given)
    ]
    chunks = [event({"choices": [{"index": 0, "delta": {"tool_calls": [each]}}]}) for each in deltas]
    return [head(), *chunks, finish("tool_calls"), done(), end()]


def test_the_tool_loop_answers_every_call_also_of_tools_that_raise_or_do_not_exist(model, load, capsys):
    server = model(
        calls(
            ("get_weather", '{"city": "Oslo"}'),
            ("get_temperature", '{"city": "Oslo"}'),
            ("get_time", "{}"),
            ("get_weather", '{"town": "Oslo"}'),
            ("get_weather", '{"city": "Os'),
        ),
        text_answer("Cold."),
    )
    load("write-the-tool-loop.md")["answer"]("Is it cold?")
    results = [each["content"] for each in server.requests[1].json["messages"] if each["role"] == "tool"]
    assert results[:3] == [
        "4 °C in Oslo",
        "LookupError: there is no thermometer in Oslo",
        "KeyError: 'get_time'",
    ]
    assert [each.split(":")[0] for each in results[3:]] == ["InvalidArguments"] * 2
    assert capsys.readouterr().out == "Cold."


def test_the_tool_loop_ends_although_the_model_calls_on_and_on(model, load):
    server = model(calls(("get_weather", '{"city": "Oslo"}')))
    load("write-the-tool-loop.md")["answer"]("Is it cold?", most=3)
    assert len(server.requests) == 3


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "scripts",
    [
        [[pause(0.5), head(), *THREE, *REST]],
        [[head(), pause(0.5), *THREE, *REST]],
        [[head(), *THREE[:1], pause(0.5), *THREE[1:], *REST]],
        [status(503, headers={"retry-after-ms": "500"}), [head(), *THREE, *REST]],
        [[head(), cut()], [pause(0.5), head(), *THREE, *REST]],
    ],
    ids=["headers", "first event", "after the first text", "pause before a retry", "restart"],
)
def test_the_spinner_turns_wherever_the_program_waits(model, load, capsys, scripts):
    model(*scripts)
    load("show-a-spinner.md")
    printed = capsys.readouterr()
    assert printed.out == "".join(WORDS) + " \n"
    frames = printed.err.split("\b")[:-1]
    assert len(frames) >= 4
    assert frames[:4] == ["|", "/", "-", "\\"]


def test_the_spinner_stands_before_the_client_does_anything(load, capsys):
    with pytest.raises(MissingEnvVar):
        load("show-a-spinner.md")
    assert capsys.readouterr().err == "|\b"


# ── asyncio ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["before the headers", *SILENCES])
def test_cancelling_the_task_that_reads_an_answer_closes_the_connection(model, load, place):
    server = model(SILENCES.get(place, [stall()]))
    texts = load("use-from-asyncio.md")["texts"]
    received: list[str] = []

    async def read() -> None:
        async for text in texts("Hi"):
            received.append(text)

    async def main() -> None:
        task = asyncio.create_task(read())
        while len(received) < ("before" not in place) * 3 or not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # until the thread waits for the next event
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(partial(server.client_closed, within=1.0))

    with within(3):
        asyncio.run(main())


def test_cancelling_the_task_during_a_pause_before_a_retry_sends_no_other_request(model, load):
    server = model(status(503, headers={"Retry-After": "1"}))
    texts = load("use-from-asyncio.md")["texts"]

    async def main() -> None:
        task = asyncio.ensure_future(anext(texts("Hi")))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1.2)

    with within(3):
        asyncio.run(main())
    assert len(server.requests) == 1


def test_leaving_an_asynchronous_loop_closes_the_connection(model, load):
    server = model([head(), *THREE, stall()])
    texts = load("use-from-asyncio.md")["texts"]

    async def main() -> list[str]:
        received = []
        async with aclosing(texts("Hi")) as pieces:
            async for text in pieces:
                received.append(text)
                if len(received) == 2:
                    break
        return received

    assert asyncio.run(main()) == WORDS[:2]
    assert server.client_closed()


def test_a_broken_answer_raises_its_error_in_an_asynchronous_loop(model, load):
    model([head(), *THREE, cut()])
    page = load("use-from-asyncio.md")

    async def read() -> None:
        async for _ in page["texts"]("Hi"):
            pass

    with pytest.raises(StreamTruncated) as caught:
        asyncio.run(read())
    assert caught.value.partial.text == "".join(WORDS)


def test_two_answers_arrive_in_one_event_loop_at_the_same_time(model, load):
    started = threading.Barrier(2, timeout=5)  # neither answer goes on before the other one has begun
    model([head(), echo, lambda wire: started.wait(), *REST])  # type: ignore[arg-type,return-value,list-item]
    texts = load("use-from-asyncio.md")["texts"]

    async def whole(question: str) -> str:
        return "".join([text async for text in texts(question)])

    async def main() -> list[str]:
        return await asyncio.gather(whole("a"), whole("b"))

    assert asyncio.run(main()) == ["a", "b"]
