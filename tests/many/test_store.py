"""The file of a run: each result once, through kills, torn lines, other runs and full disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest
from echo import Echo, lines_of, texts_of
from support import computing_at_most

from chatstream import Client, ConfigError, Message, Provider, Result, Turn, map_prompts
from chatstream.many import line_file
from chatstream.many.batch import ID
from chatstream.many.store import Store
from chatstream.many.tasks import Task, request_hash
from chatstream.testing import FaultServer, status, text_answer

DRIVER = Path(__file__).with_name("driver.py")
PROMPTS = [f"p{number}" for number in range(10)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def ask(client: Any, prompts: Any, out: Path, **options: Any) -> list[Result]:
    return list(map_prompts(client, prompts, out=out, **options))


# ── resuming ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_goes_on_with_the_file_of_an_earlier_one_and_asks_only_for_the_rest(serve, connect, out):
    echo = Echo()
    client = connect(serve([echo]))
    before = ask(client, PROMPTS[:4], out)
    results = ask(client, PROMPTS, out, ordered=True)
    assert [result.turn.text for result in results] == PROMPTS
    assert [result.resumed for result in results] == [True] * 4 + [False] * 6
    assert {result.key: result.turn for result in results[:4]} == {result.key: result.turn for result in before}
    assert set(echo.asked.values()) == {1}
    assert sorted(texts_of(out)) == sorted(PROMPTS)
    assert len({line["key"] for line in lines_of(out)}) == 10


def test_a_torn_last_line_is_cut_off_and_its_prompt_is_asked_again(serve, connect, out):
    echo = Echo()
    client = connect(serve([echo]))
    ask(client, PROMPTS, out)
    whole = out.read_bytes()
    for length in (1, 9, 40, len(whole.splitlines()[-1]) - 1):
        out.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1 + length])
        results = ask(client, PROMPTS, out)
        assert sum(not result.resumed for result in results) == 1
        assert sorted(texts_of(out)) == sorted(PROMPTS)


def test_failed_prompts_are_asked_again_on_resuming_and_have_one_line_in_the_end(serve, connect, out):
    server = serve(text_answer("a"), status(400, "No."), status(400, "No."), text_answer("later"))
    client = connect(server)
    first = ask(client, ["a", "b", "c"], out, concurrency=1)
    assert [line.get("error", {}).get("type") for line in lines_of(out)] == [
        None,
        "UnexpectedStatus",
        "UnexpectedStatus",
    ]
    second = ask(client, ["a", "b", "c"], out, concurrency=1)
    assert [result.resumed for result in second] == [True, False, False]
    assert [result.key for result in first] == [result.key for result in second] == [x["key"] for x in lines_of(out)]
    assert texts_of(out) == ["a", "later", "later"]
    assert len(server.requests) == 5
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_line_of_an_error_has_its_type_its_message_and_what_was_received(serve, connect, out):
    ask(connect(serve([Echo(fault=0)]), stream_max_retries=0), ["p10"], out)
    (line,) = lines_of(out)
    assert line["error"]["type"] == "StreamTruncated"
    assert line["error"]["message"].startswith("stream disconnected")
    assert line["error"]["partial"]["items"][0]["content"][0]["text"] == "half"


def test_the_same_request_without_an_id_is_made_as_often_as_it_is_given(serve, connect, out):
    echo = Echo()
    client = connect(serve([echo]))
    for asked in (2, 3):
        keys = [result.key for result in ask(client, ["a"] * asked, out, ordered=True)]
        assert keys == [keys[0], f"{keys[0]}-2", f"{keys[0]}-3"][:asked]
        assert echo.asked == {"a": asked}


def test_a_copy_of_a_request_passes_by_an_id_of_the_caller_that_looks_like_its_own(serve, connect, out):
    client = connect(serve([Echo()]))
    (key,) = [result.key for result in map_prompts(client, ["a"])]
    lines = [{"id": f"{key}-2", "prompt": "b"}, "a", "a"]
    for is_resumed in (False, True):
        results = ask(client, lines, out, ordered=True)
        assert [result.key for result in results] == [f"{key}-2", key, f"{key}-3"]
        assert [result.turn.text for result in results] == ["b", "a", "a"]
        assert {result.resumed for result in results} == {is_resumed}


def test_the_time_for_a_request_that_is_given_again_does_not_grow_with_the_number_of_its_copies(out):
    with Store(out) as store, computing_at_most(2.0):
        keys = [store.claim(Task(0, "a", "a", ""))[0].key for _ in range(10_000)]
    assert keys[:3] == ["a", "a-2", "a-3"]
    assert len(set(keys)) == 10_000


def test_an_id_that_is_given_twice_is_asked_for_once(serve, connect, out):
    echo = Echo()
    lines = [{"id": "1", "prompt": "a"}, {"id": "1", "prompt": "a"}, {"id": "1", "prompt": object()}]
    results = ask(connect(serve([echo])), lines, out, ordered=True)
    assert [result.turn is not None for result in results] == [True, False, False]
    assert all("is used twice: each prompt of a run needs its own id" in str(result.error) for result in results[1:])
    assert len(lines_of(out)) == echo.asked["a"] == 1


def test_another_request_under_the_same_id_is_refused(serve, connect, out):
    echo = Echo()
    client = connect(serve([echo]))
    ask(client, [{"id": "1", "prompt": "a"}], out)
    for prompt, fields in (("b", {}), ("a", {"temperature": 0})):
        (result,) = ask(client, [{"id": "1", "prompt": prompt}], out, **fields)
        assert isinstance(result.error, ConfigError)
        assert "another request under the id '1'" in str(result.error)
    assert texts_of(out) == ["a"]
    assert echo.asked == {"a": 1}


def test_without_resume_a_file_that_has_results_is_refused_and_kept(serve, connect, out):
    client = connect(serve([Echo()]))
    ask(client, ["a"], out, resume=False)
    with pytest.raises(ConfigError, match="already has results"):
        ask(client, ["a"], out, resume=False)
    assert texts_of(out) == ["a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"my notes", "its last line is incomplete"),
        (b"my notes\n", "line 1: it is not JSON"),
        (b'{"prompt": "a"}\n', "line 1: it has no key"),
        (b'{"prompt": "a"}', "line 1: it has no key"),
        (b'{"prompt": "a"', "its last line is incomplete"),
        (b'{"custom_id": "a", "id": 5, "response": {}}\n{"custom_id": 3}\n', "line 2: it has no key"),
        (b'{"custom_id": "a", "method": "POST", "body": {}}\n', "line 1: it has neither an answer nor an error"),
        (b'{"custom_id": "a", "method": "POST", "body": {}}', "line 1: it has neither an answer nor an error"),
        (b'{"key": "a", "request": "GET /", "seconds": 1}\n', "line 1: it has neither an answer nor an error"),
        (b'{"key": "a", "value": 3}', "line 1: it has no key"),
        (b'{"key": "a", "request": 5, "turn": {}}\n', "line 1: it has no key"),
        (b"[1]\n", "line 1: it is a JSON list"),
        (b"\n", "line 1: it is not JSON"),
        (b'{"key": "a", "request": "b", "turn": {}}\n{"key": "c", {"key": "d"}\n', "line 2: it is not JSON"),
        (b'{"key": "a", "request": "b", "turn": {}}\n\0\0\0\n', "line 2: it is not JSON"),
        (b'{"key": "a", "request": "b", "turn": {}}\n\0\0{"key": "d"}', "its last line is incomplete"),
        (b'{"key": "\xe9", "request": "b", "turn": {}}\n', "line 1: it is not JSON"),
        (b"\xff\xfem\0y\0 \0n\0o\0t\0e\0s\0", "its last line is incomplete"),
        ("my notes\n".encode("utf-16"), "line 1: it is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1: it is not JSON"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(serve, connect, out, content, words):
    out.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        ask(connect(serve([Echo()])), ["a"], out)
    assert out.read_bytes() == content


def test_a_torn_file_that_is_refused_without_resume_is_left_as_it_is(serve, connect, out):
    out.write_bytes(content := answered(out) + b'{"key": "p')
    with pytest.raises(ConfigError, match="already has results"):
        ask(connect(serve([Echo()])), ["a"], out, resume=False)
    assert out.read_bytes() == content


def test_the_error_in_a_last_line_without_its_end_is_replaced_by_the_answer(serve, connect, out):
    client = connect(serve([Echo()]))
    ask(client, [*PROMPTS[:2], {"id": "c", "prompt": 5}], out, concurrency=1)
    out.write_bytes(out.read_bytes()[:-1])
    results = ask(client, [*PROMPTS[:2], {"id": "c", "prompt": "c"}], out, ordered=True)
    assert [result.resumed for result in results] == [True, True, False]
    assert texts_of(out) == [*PROMPTS[:2], "c"]


def test_a_line_of_a_result_has_no_character_that_ends_a_line_elsewhere(serve, connect, out):
    text = "one\u2028two\x85three\r\nfour é \U0001f600"
    client = connect(serve([Echo()]))
    ask(client, [text], out)
    assert len(out.read_bytes().decode().splitlines()) == 1
    (result,) = ask(client, [text], out)
    assert result.turn.text == text
    assert result.resumed


def answered(out: Path, count: int = 3) -> bytes:
    """The content of the file of a run that has answers to p0, p1, …"""
    with Store(out) as made:
        for number in range(count):
            request = request_hash(Client(Provider("test", "http://localhost"), model="m1"), f"p{number}", {})
            turn = Turn((Message("assistant", f"p{number}"),))
            made.write(Result(request, number, turn), Task(number, request, request, ""))
    return out.read_bytes()


@pytest.mark.parametrize(
    ("change", "resumed"),
    [
        (lambda whole: whole.replace(b"\n", b"\r\n"), 3),
        (lambda whole: BOM_UTF8 + whole, 3),
        (lambda whole: BOM_UTF8 + whole[: whole.index(b"\n")], 1),
        (lambda whole: BOM_UTF8 + whole[: whole.index(b"}")], 0),
        (lambda whole: BOM_UTF8, 0),
        (lambda whole: whole + bytes(5000), 3),
        (lambda whole: whole[:-9] + bytes(9), 2),
        (lambda whole: whole[:-1], 3),
        (lambda whole: whole[:-2], 2),
        (lambda whole: json.dumps(json.loads(whole[: whole.index(b"\n")]), sort_keys=True).encode(), 1),
        (lambda whole: bytes(len(whole)), 0),
        (lambda whole: whole + b'{"key": "caf\xc3', 3),
        (lambda whole: whole + b'{"custom_id": "\xf0\x9f\x98', 3),
    ],
    ids=[
        *("line ends of Windows", "byte order mark", "byte order mark and no end of the line"),
        *("byte order mark and a torn line", "byte order mark alone", "zeros after the last line"),
        *("zeros for the end of the last line", "no end of the last line", "a torn last line"),
        "sorted keys and no end of the line",
        *("zeros for everything", "half of a character", "half of a character in the id of a batch"),
    ],
)
def test_a_file_that_an_editor_or_a_crash_has_changed_is_continued_and_holds_each_answer_once(
    serve, connect, out, change, resumed
):
    """A crash of the machine may leave zeros in the place of what was not on the disk yet."""
    out.write_bytes(change(answered(out)))
    results = ask(connect(serve([Echo()])), PROMPTS, out)
    assert sum(result.resumed for result in results) == resumed
    texts = [json.loads(line.removeprefix(BOM_UTF8))["turn"] for line in out.read_bytes().splitlines()]
    assert sorted(Turn.from_dict(turn).text for turn in texts) == sorted(PROMPTS)


@pytest.mark.parametrize(
    "line",
    [
        {"key": "a", "turn": {"items": 5}, "started": 0, "seconds": 0},
        {"key": "a", "turn": {"type": "turn"}},
        {"key": "a", "turn": 5, "started": 0, "seconds": 0},
        {"custom_id": "a", "response": {"status_code": 200}},
        {"custom_id": "a", "response": {"status_code": 200, "body": {"error": {"message": "No."}}}},
    ],
)
def test_a_line_whose_answer_can_not_be_read_is_an_error_of_its_prompt_alone(serve, connect, out, line):
    request = request_hash(connect(serve([Echo()])), "a", {})
    out.write_bytes(content := json.dumps({**line, "request": request, "id": ID + request}).encode() + b"\n")
    echo = Echo()
    results = ask(connect(serve([echo])), [{"id": "a", "prompt": "a"}, "b"], out, ordered=True)
    assert isinstance(results[0].error, ConfigError)
    assert "an answer under 'a' that can't be read" in str(results[0].error)
    assert results[1].turn.text == "b"
    assert echo.asked == {"b": 1}
    assert out.read_bytes().startswith(content)


def test_bad_lines_of_a_file_of_prompts_are_results_with_errors_and_the_others_are_answered(
    serve, connect, out, tmp_path
):
    source = tmp_path / "in.jsonl"
    bad = [b"not json", b"[1]", b'{"prompt": "a"', b'{"prompt": "\xff"}', bytes(9), b'{"prompt": NaN}', b"[" * 99_999]
    bad += [b"9" * 9999, b'{"prompt": ["a", 5]}', b'{"prompt": "\\ud800"}', b'{"id": "\\ud800"}', b'{"body": {}}']
    source.write_bytes(BOM_UTF8 + b'{"prompt": "a"}\r\n \n' + b"\n".join(bad) + b'\n{"prompt": "b"}')
    echo = Echo()
    for is_resumed in (False, True):
        results = ask(connect(serve([echo])), source, out, ordered=True)
        assert [result.turn and result.turn.text for result in results] == ["a", *[None] * len(bad), "b"]
        assert [results[0].resumed, results[-1].resumed] == [is_resumed, is_resumed]
        assert all(isinstance(result.error, ConfigError) for result in results[1:-1])
        keys = [line.get("key") or line["custom_id"] for line in lines_of(out)]
        assert sorted(keys) == sorted(result.key for result in results)
    assert echo.asked == {"a": 1, "b": 1}


# ── other runs ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_on_one_file_refuse_each_other(serve, connect, out):
    client = connect(serve([Echo()]))
    first = map_prompts(client, PROMPTS, out=out)
    next(first)
    with pytest.raises(ConfigError, match="in use by another run"):
        ask(client, PROMPTS, out)
    program = f"from chatstream.many.store import Store; Store({os.fspath(out)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "in use by another run" in done.stderr
    assert len(list(first)) == 9
    assert sum(result.resumed for result in ask(client, PROMPTS, out)) == 10


def test_a_file_that_was_replaced_while_it_was_opened_belongs_to_another_run(out, monkeypatch):
    def replace(*_: Any) -> None:
        out.rename(out.with_suffix(".old"))
        out.write_bytes(b"")

    monkeypatch.setattr(line_file.fcntl, "flock", replace)
    with pytest.raises(ConfigError, match="in use by another run"):
        Store(out)


def test_a_child_process_does_not_hold_the_lock_of_a_run(out):
    first = Store(out)
    line_file._close_in_child()  # as `os.fork` calls it
    with Store(out):
        pass
    with first:
        pass


# ── disks and signals ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_ends_the_run_with_an_error_that_says_so_and_loses_no_line(serve, connect, out, monkeypatch):
    written, real = [0], os.write

    def write(descriptor: int, data: bytes) -> int:
        if b'"turn"' not in data and b"half" not in data and not data.endswith(b"\n"):
            return real(descriptor, data)
        written[0] += 1
        if written[0] == 4:
            return real(descriptor, data[:20])
        if written[0] > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    client = connect(serve([Echo()]))
    monkeypatch.setattr(line_file.os, "write", write)
    with pytest.raises(OSError, match="can't write a result: No space left on device") as caught:
        ask(client, PROMPTS, out, concurrency=1)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == os.fspath(out)
    assert texts_of(out) == ["p0", "p1", "p2"]
    monkeypatch.undo()
    assert sum(result.resumed for result in ask(client, PROMPTS, out)) == 3
    assert sorted(texts_of(out)) == PROMPTS


def test_what_is_written_is_synced_once_a_second_and_at_the_end(serve, connect, out, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(line_file, "SYNC_INTERVAL", 0.0)
    monkeypatch.setattr(line_file.os, "fsync", lambda file: synced.append(out.stat().st_size))
    ask(connect(serve([Echo()])), PROMPTS, out, concurrency=1)
    assert len(synced) == 11
    assert synced[-1] == out.stat().st_size


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_run_that_is_killed_three_times_asks_for_each_prompt_until_it_is_written_once(tmp_path, count):
    """One request in ten fails at first."""
    out, echo = tmp_path / "out.jsonl", Echo(fault=7)
    asked: dict[str, int] = {}
    with FaultServer([echo]) as server:
        command = [sys.executable, str(DRIVER), server.url, str(out), str(count)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for kill in (1, 2, 3):
            process = subprocess.Popen(command, env=environment)
            while not out.exists() or out.read_bytes().count(b"\n") < count * kill // 4:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            asked |= {text: echo.asked[text] for text in texts_of_whole_lines(out) if text not in asked}
            with out.open("ab") as file:  # as if the kill had come in the middle of a line
                file.write(b'{"key": "12345')
        subprocess.run(command, env=environment, check=True)
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(count))
    assert len(lines_of(out)) == len({line["key"] for line in lines_of(out)}) == count
    assert {text: echo.asked[text] for text in asked} == asked


def texts_of_whole_lines(out: Path) -> list[str]:
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(line for line in lines if line.endswith(b"\n")))
    return [json.loads(line)["turn"]["items"][0]["content"][0]["text"] for line in out.read_bytes().splitlines()]
