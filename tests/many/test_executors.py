"""Many prompts in other processes: what travels, what does not, and what a worker does."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
import requests
from echo import Echo, lines_of, texts_of
from support import KEY, within

import chatstream
from chatstream import (
    Attempt,
    ChatStreamError,
    Client,
    ConfigError,
    IdleTimeout,
    MissingEnvVar,
    OutputText,
    Prompt,
    Provider,
    ProviderError,
    StreamTruncated,
    Turn,
    UnexpectedStatus,
    map_prompts,
)
from chatstream._runtime import process
from chatstream.many import asking
from chatstream.many.futures import Futures
from chatstream.many.ready import Ready
from chatstream.many.result import Result
from chatstream.many.run import Run
from chatstream.many.tasks import Task
from chatstream.testing import status

ENV_KEY = "CHATSTREAM_TEST_KEY"
forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # which has threads, says Python 3.12


class Elsewhere(Executor):
    """Runs everything at once, on copies, as a worker would."""

    def __init__(self) -> None:
        self.submitted = 0

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.submitted += 1
        if function is asking.where:
            future.set_result((0, 0))
        else:
            future.set_result(pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(arguments))))))
        return future


class Relayed(ThreadPoolExecutor):
    """Gives out futures that can be cancelled while their functions run, as the executor of Dask does."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        relayed: Future[Any] = Future()

        def relay(future: Future[Any]) -> None:
            if relayed.set_running_or_notify_cancel():
                relayed.set_result(future.result())

        super().submit(function, *arguments, **options).add_done_callback(relay)
        return relayed


@pytest.fixture
def worker_client(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a client whose key is in the environment."""
    monkeypatch.setenv(ENV_KEY, KEY)
    monkeypatch.setattr(asking, "_clients", {})

    def make_client(*scripts: Any, **settings: Any) -> Client:
        client_settings = {name: settings.pop(name) for name in ("defaults", "session") if name in settings}
        provider = Provider("test", serve(*scripts).url, env_key=ENV_KEY, request_max_retries=1, **settings)
        return Client(provider, model="m1", **client_settings)

    yield make_client
    for client in asking._clients.values():
        client.close()


# ── real processes ──────────────────────────────────────────────────────────────────────────────────────────────


@forks
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_four_processes_answer_each_prompt_once_with_the_key_of_their_environment(worker_client, tmp_path, method):
    echo = Echo(fault=3)
    keys: set[str] = set()
    client = worker_client([lambda wire: keys.add(wire.request.headers["Authorization"]), echo])
    prompts = [f"p{number}" for number in range(40)]
    out = tmp_path / "out.jsonl"
    with ProcessPoolExecutor(4, multiprocessing.get_context(method)) as pool:
        results = list(map_prompts(client, iter(prompts), executor=pool, out=out))
    assert sorted(result.turn.text for result in results) == sorted(prompts)
    assert sorted(texts_of(out)) == sorted(prompts)
    assert {text for text, asked in echo.asked.items() if asked > 1} == {"p3", "p13", "p23", "p33"}
    assert keys == {f"Bearer {KEY}"}


@forks
def test_an_error_comes_from_another_process_with_its_type_its_attempts_and_its_partial_turn(worker_client, tmp_path):
    client = worker_client(status(400, {"error": {"message": "No."}}), [Echo(fault=0)], stream_max_retries=0)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        refused, broken, wrong = map_prompts(
            client, ["refused", "p10", {"prompt": "x", "n": 0}], executor=pool, ordered=True, concurrency=1
        )
    assert isinstance(refused.error, UnexpectedStatus)
    assert refused.error.message == "No."
    assert [each.status for each in refused.error.attempts] == [each.status for each in refused.attempts] == [400]
    assert isinstance(broken.error, StreamTruncated)
    assert broken.error.partial.text == "half"
    assert isinstance(wrong.error, ConfigError)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@forks
def test_a_pool_that_breaks_ends_the_run_and_what_was_written_stays(worker_client, tmp_path):
    client, out = worker_client([Echo()]), tmp_path / "out.jsonl"
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        results = map_prompts(client, ["a", "b", "c"], executor=pool, out=out, concurrency=1)
        next(results)
        with pytest.raises(BrokenProcessPool):
            pool.submit(die).result()
        with pytest.raises(BrokenProcessPool):
            list(results)
    assert len(lines_of(out)) >= 1


class Losing(Elsewhere):
    """Loses tasks so many times each, as an executor does whose workers die."""

    def __init__(self, times: int, error: BaseException) -> None:
        super().__init__()
        self._times, self._error = times, error
        self.tasks: Counter[bytes] = Counter()

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        if function is not asking.where:
            self.tasks[arguments[-1]] += 1
            if self.tasks[arguments[-1]] <= self._times:
                future: Future[Any] = Future()
                future.set_exception(self._error)
                return future
        return super().submit(function, *arguments)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_task_that_the_executor_has_lost_is_submitted_once_more(worker_client, tmp_path, ordered):
    pool = Losing(1, TypeError("cannot unpack non-iterable Result object"))
    out = tmp_path / "out.jsonl"
    results = map_prompts(worker_client([Echo()]), ["a", "b", "c"], executor=pool, out=out, ordered=ordered)
    assert sorted(result.turn.text for result in results) == sorted(texts_of(out)) == ["a", "b", "c"]
    assert list(pool.tasks.values()) == [2, 2, 2]


@pytest.mark.parametrize(
    ("times", "error", "submitted"), [(2, TypeError("lost"), 2), (1, BrokenProcessPool(), 1), (1, CancelledError(), 1)]
)
def test_a_task_that_is_lost_again_or_with_its_executor_ends_the_run_with_the_error(
    worker_client, times, error, submitted
):
    pool = Losing(times, error)
    with pytest.raises(type(error)) as caught:
        list(map_prompts(worker_client([Echo()]), ["a"], executor=pool))
    assert caught.value is error
    assert list(pool.tasks.values()) == [submitted]


# ── what travels ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_executor_that_runs_functions_at_once_takes_the_client_as_it_is(connect, serve):
    class Here(Executor):
        def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(function(*arguments))
            return future

    client = connect(serve([Echo()]))  # whose key was given directly
    assert [result.turn.text for result in map_prompts(client, ["a", "b"], executor=Here())] == ["a", "b"]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_result_is_handed_over_before_more_prompts_are_taken(worker_client, ordered):
    """They may come slowly, one by one, and the results with them."""
    taken: list[str] = []

    def prompts() -> Iterator[str]:
        for prompt in "abcd":
            taken.append(prompt)
            yield prompt

    results = map_prompts(worker_client([Echo()]), prompts(), executor=Elsewhere(), ordered=ordered)
    assert [(result.turn.text, len(taken)) for result in results] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]


def test_a_worker_uses_one_client_for_all_its_prompts_and_keeps_few_clients(worker_client):
    pool = Elsewhere()
    for _ in range(asking.MOST_CLIENTS + 2):
        client = worker_client([Echo()])
        assert len(list(map_prompts(client, ["a", "b", "c"], executor=pool))) == 3
    assert len(asking._clients) == asking.MOST_CLIENTS
    assert list(asking._clients.values())[-1].usage.calls == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api_key": KEY, "env_key": None}, 'env_key="NAME"'),
        ({"api_key": lambda: KEY, "env_key": None}, 'env_key="NAME"'),
        ({"query_params": {"token": "a-secret-9Qz81"}}, "is not sent to other processes"),
        ({"model": KEY}, "is not sent to other processes"),
        ({"http_headers": {"X-Token": "a-secret-9Qz81"}}, "env_http_headers"),
        ({"defaults": {"metadata": {}, "user": "sk-abcdefgh12345678"}}, "is not sent to other processes"),
        ({"session": requests.Session()}, "a client with session=… can't be used in other processes"),
    ],
)
def test_a_secret_or_a_session_that_would_be_lost_on_the_way_is_refused_before_anything_is_sent(
    worker_client, serve, settings, words
):
    pool, server = Elsewhere(), serve([Echo()])
    given = {"name": "test", "base_url": server.url, "env_key": ENV_KEY}
    client_settings = {name: settings[name] for name in ("defaults", "session", "model") if name in settings}
    provider = Provider(**given | {name: settings[name] for name in settings if name not in client_settings})
    with pytest.raises(ConfigError, match=words) as caught:
        map_prompts(Client(provider, **{"model": "m1"} | client_settings), ["a"], executor=pool)
    assert KEY not in str(caught.value)
    assert pool.submitted == 1
    assert server.requests == []


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"extra_headers": {"X-Token": "a-secret-9Qz81"}}, "X-Token"),
        ({"extra_headers": {"X-Account": "Basic YWRhOmxvdmVsYWNlLTE4MTU="}}, "X-Account"),
        ({"extra_body": {"api_key": "a-secret-9Qz81"}}, "api_key"),
        ({"user": KEY}, "user"),
    ],
)
def test_a_secret_among_the_arguments_of_a_run_is_refused_before_anything_is_sent(worker_client, fields, name):
    pool = Elsewhere()
    with pytest.raises(ConfigError, match=f"{name} .*is not sent to other processes.*env_http_headers") as caught:
        map_prompts(worker_client([Echo()]), ["a"], executor=pool, **fields)
    assert "9Qz81" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert pool.submitted == 1


def test_a_prompt_with_a_secret_is_a_result_with_its_error_and_is_not_sent_to_a_worker(worker_client):
    body = {"messages": [{"role": "user", "content": "b"}], "password": "a-secret-9Qz81"}
    prompts = [{"prompt": "a", "user": KEY}, {"custom_id": "b", "body": body}, "c"]
    first, second, answered = map_prompts(
        worker_client([Echo()]), prompts, executor=(pool := Elsewhere()), ordered=True
    )
    assert "the field user is not sent to other processes" in str(first.error)
    assert "the field password is not sent to other processes" in str(second.error)
    assert answered.turn.text == "c"
    assert pool.submitted == 2  # the question where it runs, and the last prompt


def test_ordinary_headers_and_fields_reach_a_worker_whatever_their_values(worker_client):
    sent: list[Any] = []
    client = worker_client([lambda wire: sent.append((wire.request.headers["X-Title"], wire.request.json)), Echo()])
    user, cached = "9f8a7b6c5d4e3f2a1b0c", "8a7b6c5d4e3f2a1b0c9f"
    prompt = {"prompt": "a", "user": user, "extra_body": {"prompt_cache_key": cached, "top_k": 3}}
    (result,) = map_prompts(client, [prompt], executor=Elsewhere(), extra_headers={"X-Title": "My App"})
    assert result.error is None
    ((title, body),) = sent
    assert (title, body["user"], body["prompt_cache_key"], body["top_k"]) == ("My App", user, cached, 3)


def test_a_loop_that_is_left_waits_for_its_file_where_running_functions_can_be_cancelled(serve, connect, tmp_path):
    def script(wire: Any) -> None:
        if wire.request.json["messages"][-1]["content"] == "slow":
            wire.wait(0.3)
        Echo()(wire)

    with Relayed(2) as pool:
        client, out = connect(serve([script])), tmp_path / "out.jsonl"
        results = map_prompts(client, ["slow", "a", "b"], executor=pool, concurrency=2, out=out)
        assert next(results).turn.text == "a"
        results.close()
    assert texts_of(out) == ["a", "slow"]


@pytest.mark.parametrize("field", ["extra_headers", "extra_body"])
def test_headers_and_a_body_of_a_wrong_type_are_the_same_error_in_workers_and_in_threads(worker_client, field):
    client = worker_client([Echo()])
    in_threads, elsewhere = (
        next(map_prompts(client, ["a"], executor=executor, **{field: 5})).error for executor in (None, Elsewhere())
    )
    assert isinstance(elsewhere, ConfigError)
    assert str(elsewhere) == str(in_threads)


@pytest.mark.parametrize(
    "model", ["ft:gpt-4.1-mini:acme::9xYz12AbCdEf34Gh56", "accounts/f/models/llama4maverick17b128e"]
)
def test_a_worker_asks_for_the_model_of_the_client_although_its_name_looks_like_a_key(worker_client, model):
    asked: list[str] = []
    client = worker_client([lambda wire: asked.append(wire.request.json["model"]), Echo()])
    client = Client(client.provider, model=model)
    (result,) = map_prompts(client, ["a"], executor=Elsewhere())
    assert result.error is None
    assert asked == [model]


def test_a_worker_without_the_key_in_its_environment_has_an_error_that_names_the_variable_and_the_worker(
    worker_client, monkeypatch
):
    client = worker_client([Echo()], env_key_instructions="Get one from Ada.")
    monkeypatch.delenv(ENV_KEY)
    (result,) = map_prompts(client, ["a"], executor=Elsewhere())
    assert isinstance(result.error, MissingEnvVar)
    assert result.error.variable == ENV_KEY
    assert str(result.error) == (
        f"Missing environment variable: `{ENV_KEY}`. Set it for the workers: process {os.getpid()} on "
        f"{socket.gethostname()} does not have it. Get one from Ada."
    )


def test_a_prompt_that_can_not_be_pickled_is_a_result_with_its_error(worker_client, tmp_path):
    def tool(city: str) -> str:
        return city

    prompts = [Prompt(input="a", tools=[tool]), "b"]
    out = tmp_path / "out.jsonl"
    lost, answered = map_prompts(worker_client([Echo()]), prompts, executor=Elsewhere(), out=out, ordered=True)
    assert isinstance(lost.error, ConfigError)
    assert "can't be sent to another process" in str(lost.error)
    assert answered.turn.text == "b"
    assert len(lines_of(out)) == 2


def test_an_error_of_another_library_is_told_by_its_name_and_its_words(worker_client, monkeypatch):
    class Custom(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("custom words")

    def fail(*_: Any, **__: Any) -> None:
        raise Custom(1, 2)

    client = worker_client([Echo()])
    monkeypatch.setattr(Client, "stream", fail)
    (result,) = map_prompts(client, ["a"], executor=Elsewhere())
    assert type(result.error) is ChatStreamError
    assert str(result.error) == "Custom: custom words"


def test_results_and_tasks_are_the_same_after_pickling():
    turn = Turn(items=(), finish_reason="stop")
    for value in (Result("k", 1, turn, None, (Attempt(1, 200),), 2.0, 3.0), Task(1, "k", "r", "prompt", {"n": 1})):
        assert pickle.loads(pickle.dumps(value)) == value


ERRORS: dict[str, tuple[Any, ...]] = {
    "MissingEnvVar": ("NAME", "Set it."),
    "UnexpectedStatus": (429, "body", "words", "code", 1.5),
    "RetryLimit": (503, "body", "words", 5, None),
    "QuotaExceeded": (429, "body"),
    "ProviderError": ("words", "code", "type", True, 2.0),
    "IdleTimeout": (),
    "MaxTurnsExceeded": (3,),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in chatstream.__all__
        if isinstance(getattr(chatstream, name), type) and issubclass(getattr(chatstream, name), ChatStreamError)
    ],
)
def test_every_error_keeps_its_words_its_attempts_and_its_partial_turn_when_it_is_pickled(name):
    error = getattr(chatstream, name)(*ERRORS.get(name, ("words",)))
    error.partial = Turn(items=(chatstream.Message("assistant", (OutputText("half"),)),))
    error.attempts, error.request_id, error.retryable = (Attempt(1, 503, "no"),), "req_1", True
    error.hint = "Do this."
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
    assert copy.partial.text == "half"


def test_an_error_with_a_note_is_pickled_with_it():
    error = pickle.loads(pickle.dumps(chatstream.errors.idle_timeout(3, "stream_idle_timeout")))
    assert isinstance(error, IdleTimeout)
    assert "nothing arrived for 3 s" in error.__notes__[0]
    assert pickle.loads(pickle.dumps(ProviderError("words", retryable=True))).retryable


LEAVING_IN_A_CHILD = """
import os, sys
from chatstream import Client, Provider, map_prompts
from chatstream.testing import FaultServer, pause, text_answer
with FaultServer([pause(0.3), *text_answer("ok")]) as server:
    options = {"out": sys.argv[2]} if len(sys.argv) > 2 else {}
    results = map_prompts(Client(Provider("t", server.url), model="m"), list("abcdefgh"), concurrency=4, **options)
    next(results)
    child = os.fork()
    if not child:
        if sys.argv[1] == "close":
            results.close()
        else:
            del results
        os._exit(3)
    print(len(list(results)), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("leave", ["close", "del"])
@pytest.mark.parametrize("out", [(), ("run.jsonl",)], ids=["no file", "file"])
def test_a_child_that_leaves_an_inherited_run_ends_at_once_and_the_parent_gets_all_results(tmp_path, leave, out):
    """It waited for tasks whose threads only the parent has."""
    program = [sys.executable, "-W", "ignore", "-c", LEAVING_IN_A_CHILD, leave, *out]
    ended = subprocess.run(program, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert (ended.stdout, ended.stderr) == ("7 3\n", "")


def test_a_run_inherited_by_a_fork_raises_config_error_and_can_be_closed(monkeypatch):
    class Endless(Executor):
        def submit(self, *_: Any) -> Any:
            return Future()

    run = Run(
        Futures(None, Endless(), Result),
        Ready(ordered=False, announce=print),
        lambda index, given: Task(index, given, given, given),
        lambda: None,
        concurrency=1,
        store=None,
    )
    run._begin(0, "a")
    monkeypatch.setattr(process, "pid", -1)
    with within(1.0), pytest.raises(ConfigError, match="can't go on in a forked process: call map_prompts there"):
        next(run.results([]))
    with within(1.0):
        run.end()
