"""`map_prompts`: many prompts → their results, in threads."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from echo import USAGE, Echo, lines_of, texts
from support import wait_for, within

import chatstream
from chatstream import (
    Cancelled,
    Client,
    ConfigError,
    Message,
    Prompt,
    Provider,
    Result,
    StreamTruncated,
    UnexpectedStatus,
    map_prompts,
)
from chatstream.many import run
from chatstream.testing import cut, delta, head, status, text_answer

# ── prompts and their results ───────────────────────────────────────────────────────────────────────────────────


def test_every_prompt_has_one_result_with_its_turn_attempts_and_times(client):
    before = time.time()
    results = list(map_prompts(client, [f"p{number}" for number in range(20)], temperature=0))
    assert sorted(texts(results)) == sorted(f"p{number}" for number in range(20))
    assert sorted(result.index for result in results) == list(range(20))
    assert len({result.key for result in results}) == 20
    for result in results:
        assert result.turn.text == f"p{result.index}"
        assert [each.status for each in result.attempts] == [200]
        assert before - 1 < result.started < time.time() + 1
        assert 0 < result.seconds < 60
        assert not result.resumed


def test_a_run_of_the_embedded_server_asks_for_the_model_that_it_names_when_it_runs(serve, monkeypatch):
    server = serve([Echo()])
    running = Provider("local", server.url, model="embedded")
    monkeypatch.setattr(chatstream.client, "_local_provider", lambda sleep: running)
    with Client("local") as client:
        assert client.provider.model is None
        results = list(map_prompts(client, ["a", {"prompt": "b", "model": "m2"}], ordered=True))
        assert texts(results) == ["a", "b"]
    assert sorted(request.json["model"] for request in server.requests) == ["embedded", "m2"]


def test_whatever_a_stream_takes_as_a_prompt_is_a_prompt_of_many(client):
    prompts = ["a", Prompt("Be brief.", "b"), [{"role": "user", "content": "c"}], Message("user", "d")]
    prompts += [{"role": "user", "content": "e"}, {"prompt": "f"}, {"messages": [{"role": "user", "content": "g"}]}]
    assert texts(map_prompts(client, prompts, ordered=True)) == list("abcdefg")


def test_results_come_as_they_finish_or_in_the_order_of_the_prompts(serve, connect):
    def script(wire: Any) -> None:
        text = wire.request.json["messages"][-1]["content"]
        wire.wait(0.3 if text == "slow" else 0)
        for step in text_answer(text):
            step(wire)

    client = connect(serve([script]))
    prompts = ["slow", "b", "c"]
    assert texts(map_prompts(client, prompts))[-1] == "slow"
    assert texts(map_prompts(client, prompts, ordered=True)) == prompts


def test_a_prompt_that_fails_is_a_result_with_its_error_and_the_others_are_answered(serve, connect):
    def script(wire: Any) -> None:
        text = wire.request.json["messages"][-1]["content"]
        refusal, broken = status(400, {"error": {"message": "No."}}), [head(), delta("half"), cut()]
        for step in {"refused": refusal, "broken": broken}.get(text, text_answer(text)):
            step(wire)

    client = connect(serve([script]), stream_max_retries=0)
    prompts = ["a", "refused", "broken", object(), {"prompt": "x", "n": 0}, "", "b"]
    results = list(map_prompts(client, prompts, ordered=True))
    assert [type(result.error) for result in results] == [
        *(type(None), UnexpectedStatus, StreamTruncated),
        *(ConfigError, ConfigError, ConfigError, type(None)),
    ]
    assert [each.turn is None for each in results] == [each.error is not None for each in results]
    assert results[1].attempts[0].status == 400
    assert results[2].error.partial.text == "half"
    assert results[2].error.__traceback__ is None
    assert results[3].key == "#3"


def test_what_a_hook_raises_is_the_error_of_its_prompt(serve, connect):
    def refuse(info: Any) -> None:
        raise KeyError("the hook")

    (result,) = map_prompts(connect(serve([Echo()]), on_request=refuse), ["a"])
    assert isinstance(result.error, KeyError)


def test_no_more_prompts_than_concurrency_are_in_flight_and_prompts_are_taken_lazily(serve, connect):
    lock, now, most, taken = threading.Lock(), [0], [0], [0]

    def script(wire: Any) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        wire.wait(0.005)
        with lock:
            now[0] -= 1
        for step in text_answer("x"):
            step(wire)

    def prompts() -> Any:
        for number in range(30):
            taken[0] += 1
            yield f"p{number}"

    results = map_prompts(connect(serve([script])), prompts(), concurrency=3)
    assert taken == [0]
    next(results)
    assert taken[0] <= 6
    assert len(list(results)) == 29
    assert most[0] <= 3


@pytest.mark.parametrize("ordered", [False, True])
def test_in_order_a_slow_prompt_lets_a_bounded_number_of_others_go_first(serve, connect, ordered):
    release, taken = threading.Event(), [0]

    def script(wire: Any) -> None:
        text = wire.request.json["messages"][-1]["content"]
        if text == "p0":
            wait_for(release)(wire)
        for step in text_answer(text):
            step(wire)

    def prompts() -> Any:
        for number in range(100):
            taken[0] += 1
            if number == (2 * run.LOOKAHEAD - 1 if ordered else 99):
                release.set()
            yield f"p{number}"

    results = list(map_prompts(connect(serve([script])), prompts(), concurrency=2, ordered=ordered))
    assert len(results) == 100
    assert [result.index for result in results] == list(range(100)) or not ordered


def test_fields_are_for_all_prompts_those_of_a_line_come_first_and_model_replaces_that_of_a_line(serve, connect):
    server = serve([Echo()])
    lines = [
        {"prompt": "a", "temperature": 1, "top_p": None},
        {"prompt": "b", "model": "of the line", "extra_body": {"guided": 1}},
        {"prompt": "c", "id": 7},
    ]
    fields = {"temperature": 0, "extra_body": {"all": True}}
    assert [each.key for each in map_prompts(connect(server), lines, ordered=True, **fields)][2] == "7"
    sent = {each.json["messages"][0]["content"]: each.json for each in server.requests}
    assert [sent[text]["temperature"] for text in "abc"] == [1, 0, 0]
    assert [sent[text]["model"] for text in "abc"] == ["m1", "of the line", "m1"]
    assert [sent[text].get("guided") for text in "abc"] == [None, 1, None]
    assert all(sent[text]["all"] for text in "abc")
    assert "top_p" not in sent["a"]
    list(map_prompts(connect(server), lines, model="another"))
    assert {each.json["model"] for each in server.requests[3:]} == {"another"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"prompt": "a", "category": "x"}, "category is not a known request field: remove it"),
        ({"question": "a"}, 'a line must have either "prompt", "messages" or'),
        ({"prompt": "a", "messages": []}, 'a line must have either "prompt", "messages" or'),
        ({"prompt": None}, 'a line must have either "prompt", "messages" or'),
        ({"prompt": "a", "timeout": 3}, "timeout"),
        ({"prompt": "a", "temperature": object()}, "temperature can't be written as JSON"),
        ({"prompt": "a", "seed": float("inf")}, "seed can't be written as JSON"),
    ],
)
def test_a_line_that_can_not_be_sent_has_an_error_that_says_why(client, line, words):
    (result,) = map_prompts(client, [line])
    assert isinstance(result.error, ConfigError)
    assert words in str(result.error)


def test_the_key_of_a_prompt_is_its_id_or_a_hash_of_its_request(client, serve, connect):
    def keys(*prompts: Any, **fields: Any) -> list[str]:
        return [result.key for result in map_prompts(client, prompts, ordered=True, **fields)]

    a, again, other = keys("a", [{"content": "a", "role": "user"}], "b")
    assert a == again != other
    assert keys("a", temperature=0) != [a]
    assert keys("a", model="m2") != [a]
    assert keys("a", deadline=60, extra_headers={"X-Run": "2"}) == [a]
    assert keys({"prompt": "a", "id": "mine"}, {"prompt": "a", "custom_id": 3}) == ["mine", "3"]
    assert keys({"prompt": "a", "extra_body": {1: 1, "b": 2}}) != keys({"prompt": "a", "extra_body": {1: 2, "b": 2}})


def test_an_empty_cell_of_a_table_is_a_field_or_an_id_that_was_not_given(client, tmp_path):
    nan = float("nan")
    rows = [{"id": "a", "prompt": "a", "seed": 1.0}, *({"id": nan, "prompt": each, "seed": nan} for each in "bc")]
    results = list(map_prompts(client, rows, out=tmp_path / "out.jsonl", ordered=True))
    assert [result.error for result in results] == [None, None, None]
    assert results[1].key == next(map_prompts(client, [{"prompt": "b", "id": None, "seed": None}])).key


def test_the_path_of_a_file_stands_for_its_lines(client, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"prompt": "b", "id": "second"}\nnot json\n[1]\n')
    results = list(map_prompts(client, path, ordered=True))
    assert texts(results[:2]) == ["a", "b"]
    assert results[1].key == "second"
    assert "line 4 of" in str(results[2].error)
    assert "it is not JSON" in str(results[2].error)
    assert "is a JSON list" in str(results[3].error)


class Table:
    """As a DataFrame of pandas, whose loop is over the names of its columns."""

    columns = ("id", "prompt")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompts": "a prompt"}, "not str"),
        ({"prompts": {"prompt": "a"}}, "not dict"),
        ({"prompts": 5}, "not int"),
        ({"concurrency": 0}, "concurrency must be an integer of at least 1"),
        ({"concurrency": True}, "concurrency must be an integer of at least 1"),
        ({"concurrency": 2.5}, "concurrency must be an integer of at least 1"),
        ({"prompt": "a"}, "map_prompts does not accept prompt=…: pass the prompts as its second"),
        ({"messages": []}, "map_prompts does not accept messages=…: pass the prompts as its second"),
        ({"timeout": 5}, "timeout"),
        ({"max_workers": 4}, r"max_workers=4 is not a request field: .*map_prompts\(client, prompts, concurrency=…"),
        ({"concurency": 4}, "did you mean concurrency"),
        ({"prompts": Table()}, "prompts must be rows, not a table"),
        ({"executor": "threads"}, "executor must be an executor, such as .*, not str"),
        ({"executor": ThreadPoolExecutor}, "executor must be an executor, such as .*, not ThreadPoolExecutor"),
        ({"out": True}, "out must be the path of a file, not bool"),
        ({"progress": "yes"}, "progress must be a bool, None or a function of a Progress"),
    ],
)
def test_arguments_that_can_not_work_are_refused_before_the_first_result_is_asked_for(client, arguments, words):
    with pytest.raises(ConfigError, match=words):
        map_prompts(client, **{"prompts": ["a"], **arguments})


@pytest.mark.parametrize(
    ("name", "words"),
    [("text", r"result\.turn\.text"), ("usage", r"result\.turn"), ("id", r"result\.key"), ("prompt", r"result\.index")],
)
def test_what_a_result_has_in_other_libraries_is_named_as_it_is_called_here(client, name, words):
    (result,) = map_prompts(client, ["a"])
    with pytest.raises(AttributeError, match=f"'Result' object has no attribute '{name}': .*{words}"):
        getattr(result, name)
    assert pickle.loads(pickle.dumps(result)) == result


def test_what_is_no_client_is_refused():
    with pytest.raises(ConfigError, match="must be a Client, not str"):
        map_prompts("gpt-4.1-mini", ["a"])  # type: ignore[arg-type]


def test_an_executor_of_threads_takes_the_client_as_it_is(client):
    with ThreadPoolExecutor(2) as pool:
        assert sorted(texts(map_prompts(client, ["a", "b"], executor=pool))) == ["a", "b"]
        assert pool.submit(int).result() == 0


def test_the_usage_of_the_client_counts_the_calls_of_a_run(client):
    list(map_prompts(client, ["a", "b"]))
    assert client.usage.calls == 2
    assert client.usage.tokens.total_tokens == 2 * USAGE["total_tokens"]


def test_cancel_of_the_client_ends_the_calls_that_are_in_flight(serve, connect):
    server = serve([head(), wait_for(threading.Event())])
    client = connect(server)
    timer = threading.Timer(0.3, client.cancel)
    timer.start()
    with within(5.0):
        results = list(map_prompts(client, ["a", "b"]))
    assert [type(result.error) for result in results] == [Cancelled, Cancelled]
    timer.join()


# ── the end of a run ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_loop_that_is_left_cancels_what_is_in_flight(serve, connect):
    first = threading.Event()

    def script(wire: Any) -> None:
        steps = [head(), wait_for(threading.Event())] if first.is_set() else text_answer("x")
        first.set()
        for step in steps:
            step(wire)

    with within(5.0):
        for result in map_prompts(connect(serve([script])), iter(str, "never"), concurrency=4):
            assert isinstance(result, Result)
            break


def test_a_loop_that_is_left_waits_for_what_is_written_to_a_file(serve, connect, tmp_path):
    out, slow = tmp_path / "out.jsonl", threading.Event()

    def script(wire: Any) -> None:
        if wire.request.json["messages"][-1]["content"] == "slow":
            slow.set()
            wire.wait(0.3)
        for step in text_answer("x"):
            step(wire)

    results = map_prompts(connect(serve([script])), ["slow", "b", "c", "d"], out=out, concurrency=2)
    next(results)
    slow.wait()
    results.close()
    assert 2 <= len(lines_of(out)) <= 3
    assert "slow" not in out.read_text() or lines_of(out)


def test_what_the_iterable_of_prompts_raises_ends_the_run(client, tmp_path):
    def prompts() -> Any:
        yield "a"
        raise LookupError("no more")

    results = map_prompts(client, prompts(), out=tmp_path / "out.jsonl")
    with pytest.raises(LookupError, match="no more"):
        list(results)
    assert len(lines_of(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize("ordered", [False, True])
def test_results_of_prompts_in_flight_are_handed_over_before_what_the_iterable_of_prompts_raises(client, ordered):
    class Prompts:
        """An iterator that may be asked again after an error."""

        def __init__(self) -> None:
            self.given = iter(["a", "b", LookupError("no more"), "c"])

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> str:
            value = next(self.given)
            if isinstance(value, Exception):
                raise value
            return value

    got: list[str] = []

    def consume() -> None:
        for result in map_prompts(client, Prompts(), ordered=ordered):
            got.append(result.turn.text)

    with pytest.raises(LookupError, match="no more"):
        consume()
    assert sorted(got) == ["a", "b"]


def test_a_missing_folder_of_the_file_is_an_error_of_the_first_result(client):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        next(map_prompts(client, ["a"], out=Path("nowhere") / "out.jsonl"))
