"""The file of a run on its disk: full disks, files that vanish or can't be written, pipes, and several runs at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from echo import Echo, lines_of, texts_of
from support import within

from chatstream import ConfigError, Message, Result, Turn, map_prompts
from chatstream.many import asking, line_file, mapping
from chatstream.many.result import dump, encode_result
from chatstream.many.store import Store
from chatstream.many.tasks import Task
from chatstream.testing import FaultServer

DRIVER = Path(__file__).with_name("driver.py")
COUNT = 300  # prompts, whose lines take more than a small disk has
NOBODY = 65534


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def task(key: str) -> Task:
    return Task(0, key, key, "")


def answer(key: str) -> Result:
    return Result(key, turn=Turn((Message("assistant", key),)))


def line(key: str, error: Exception | None = None) -> bytes:
    return dump(encode_result(answer(key) if error is None else Result(key, error=error), key))


def write(path: Path, *keys: str) -> None:
    """A run that writes the answers of these keys to a file."""
    with Store(path) as store:
        for key in keys:
            store.write(answer(key), task(key))


# ── full disks ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("mounting is not allowed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_on_a_full_disk_ends_with_an_error_and_goes_on_where_it_was_once_there_is_room(
    small_disk, serve, connect
):
    echo = Echo()
    client, out = connect(serve([echo])), small_disk / "out.jsonl"
    prompts = [f"p{number} {'x' * 200}" for number in range(COUNT)]
    with pytest.raises(OSError, match="can't write a result: No space left") as caught:
        list(map_prompts(client, prompts, out=out))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, os.fspath(out))
    written = texts_of(out)
    assert 20 < len(written) == len(lines_of(out)) < COUNT
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    results = list(map_prompts(client, prompts, out=out))
    assert sum(result.resumed for result in results) == len(written)
    assert sorted(texts_of(out)) == sorted(prompts)
    assert {echo.asked[text] for text in written} == {1}


def test_a_disk_without_room_for_a_copy_leaves_the_file_of_an_earlier_run_as_it_is(small_disk):
    out = small_disk / "out.jsonl"
    whole = b"".join([line("failed", ValueError("No.")), *(line(f"{number}" * 50) for number in range(100))])[:60_000]
    whole = whole[: whole.rindex(b"\n") + 1]
    out.write_bytes(whole)
    with pytest.raises(OSError, match="No space left"):
        Store(out)
    assert out.read_bytes() == whole
    assert list(small_disk.iterdir()) == [out]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_copy_that_can_not_take_the_place_of_the_file_is_removed_and_the_file_stays_as_it_is(out, monkeypatch, step):
    def fail(*_: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    out.write_bytes(whole := line("a") + line("b", ValueError("No.")))
    monkeypatch.setattr(line_file.os, step, fail)
    with pytest.raises(OSError, match="Device or resource busy"):
        Store(out)
    assert out.read_bytes() == whole
    assert list(out.parent.iterdir()) == [out]
    monkeypatch.undo()
    write(out, "b")
    assert texts_of(out) == ["a", "b"]


def test_a_run_ends_with_an_error_at_the_largest_size_that_a_file_may_have_and_goes_on_below_a_higher_one(out):
    """In a process of its own, because the limit is for all its files."""
    echo = Echo()
    with FaultServer([echo]) as server:
        command = [sys.executable, str(DRIVER), server.url, str(out), "40"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        limited = ["sh", "-c", 'ulimit -f 32; exec "$@"', "sh", *command]
        done = subprocess.run(limited, env=environment, capture_output=True, text=True, check=False)
        assert "can't write a result: File too large" in done.stderr
        written = texts_of(out)
        assert 5 < len(written) == len(lines_of(out)) < 40
        subprocess.run(command, env=environment, check=True)
    assert sorted(texts_of(out)) == sorted(f"p{number}" for number in range(40))
    assert {echo.asked[text] for text in written} == {1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_that_is_always_full_is_an_error_and_is_never_read(serve, connect):
    with within(5.0), pytest.raises(OSError, match="can't write a result: No space left on device"):
        list(map_prompts(connect(serve([Echo()])), ["a", "b"], out="/dev/full"))


def test_a_part_of_a_line_that_could_not_be_cut_off_at_once_is_cut_off_before_the_next_line(out, monkeypatch):
    def write(descriptor: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data[:-20])

    def truncate(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real_write, real_truncate = os.write, os.truncate
    with Store(out) as store:
        store.write(answer("a"), task("a"))
        monkeypatch.setattr(line_file.os, "write", write)
        monkeypatch.setattr(line_file.os, "truncate", truncate)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left on device"):
                store.write(answer("b"), task("b"))
        assert out.read_bytes().startswith(line("a") + line("b")[:-40])
        monkeypatch.setattr(line_file.os, "write", real_write)
        monkeypatch.setattr(line_file.os, "truncate", real_truncate)
        store.write(answer("c"), task("c"))
    assert texts_of(out) == ["a", "c"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_does_not_take_what_was_written_is_an_error_of_the_run(serve, connect, out, monkeypatch, code):
    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(line_file.os, "fsync", fsync)
    seen: list[Result] = []
    with pytest.raises(OSError, match="can't write the results") as caught:
        seen.extend(map_prompts(connect(serve([Echo()])), ["a", "b"], out=out))
    assert (caught.value.errno, caught.value.filename) == (code, os.fspath(out))
    assert len(seen) == 2


# ── places that can't be written ────────────────────────────────────────────────────────────────────────────────


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user who is not root, for whom modes of files count."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that others may read, with a file ``out.jsonl`` in it that they may write."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # others may not enter pytest's own
        folder = Path(name)
        (folder / "out.jsonl").touch()
        (folder / "out.jsonl").chmod(0o666)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_file_that_can_not_be_made_is_an_error_of_the_first_result(client, tmp_path):
    (tmp_path / "file").touch()
    for path, kind in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "nowhere" / "out.jsonl", FileNotFoundError),
        (tmp_path / "file" / "out.jsonl", NotADirectoryError),
    ):
        results = map_prompts(client, ["a"], out=path)
        with pytest.raises(kind) as caught:
            next(results)
        assert caught.value.filename == os.fspath(path)


def test_a_folder_that_can_not_be_written_is_an_error_unless_its_file_can_be_continued(read_only_folder):
    out = read_only_folder / "out.jsonl"
    with unprivileged():
        with pytest.raises(PermissionError):
            Store(read_only_folder / "new.jsonl")
        write(out, "a", "b")
    assert texts_of(out) == ["a", "b"]
    out.write_bytes(whole := line("a") + line("b", ValueError("No.")))
    with unprivileged(), pytest.raises(PermissionError):
        Store(out)
    assert out.read_bytes() == whole


# ── what becomes of the file meanwhile ──────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_removed_during_a_run_is_an_error_of_the_run_within_a_second_or_at_its_end(
    client, out, monkeypatch
):
    for interval in (3600.0, 0.0):
        monkeypatch.setattr(line_file, "SYNC_INTERVAL", interval)
        seen: list[Result] = []
        results = map_prompts(client, [f"p{number}" for number in range(20)], out=out, concurrency=1)
        seen.append(next(results))
        out.unlink()
        with pytest.raises(FileNotFoundError, match="was removed before the run ended") as caught:
            seen.extend(results)
        assert caught.value.filename == os.fspath(out)
        assert len(seen) == 20 if interval else len(seen) < 4


def test_a_removed_file_does_not_hide_the_error_that_ends_the_run(client, out):
    def prompts() -> Iterator[str]:
        yield "a"
        out.unlink()
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(map_prompts(client, prompts(), out=out, concurrency=1))


def test_a_file_that_is_moved_during_a_run_gets_all_its_lines(client, out):
    results = map_prompts(client, ["a", "b", "c"], out=out, concurrency=1)
    next(results)
    moved = out.rename(out.with_suffix(".moved"))
    assert len(list(results)) == 2
    assert texts_of(moved) == ["a", "b", "c"]


def test_a_file_whose_errors_are_taken_out_keeps_its_mode_and_the_links_to_it(tmp_path):
    out, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    out.write_bytes(line("a") + line("b", ValueError("No.")))
    out.chmod(0o600)
    link.symlink_to(out.name)
    write(link, "b")
    assert link.is_symlink()
    assert texts_of(out) == ["a", "b"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.jsonl", "real.jsonl"]


@pytest.mark.parametrize("content", [b"", line("a"), line("a") + line("b", ValueError("No."))])
def test_of_several_runs_that_open_one_file_at_the_same_time_one_gets_it(out, content):
    out.write_bytes(content)
    barrier, opened, refused = threading.Barrier(8), list[Store](), list[ConfigError]()

    def begin() -> None:
        barrier.wait()
        try:
            opened.append(Store(out))
        except ConfigError as error:
            refused.append(error)

    for _ in range(10):
        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(opened), len(refused)) == (1, 7)
        assert all("in use by another run" in str(error) for error in refused)
        with opened.pop():
            refused.clear()
    assert out.read_bytes() == content[: len(line("a"))]


# ── pipes and devices ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_run_goes_on_without_a_lock_on_a_file_system_that_has_none(client, out, monkeypatch, code):
    def flock(*arguments: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(line_file.fcntl, "flock", flock)
    for prompts in ([5, "a"], ["a", "b"]):  # the second run takes out the line of an error
        results = list(map_prompts(client, prompts, out=out, ordered=True))
    assert [result.resumed for result in results] == [True, False]
    assert texts_of(out) == ["a", "b"]


def test_a_file_that_can_not_be_locked_is_an_error_of_the_run(client, out, monkeypatch):
    def flock(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(line_file.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        next(map_prompts(client, ["a"], out=out))


def test_a_named_pipe_gets_the_lines_as_they_come(client, tmp_path):
    pipe, lines = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: lines.extend(pipe.read_bytes().splitlines()))
    reader.start()
    with within(5.0):
        assert len(list(map_prompts(client, ["a", "b", "c"], out=pipe))) == 3
        reader.join()
    assert len(lines) == 3


def test_a_pipe_whose_reader_has_gone_ends_the_run_with_an_error(client, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read_a_line() -> None:
        with open(pipe, "rb") as file:
            file.readline()

    def prompts() -> Iterator[str]:
        yield "a"
        reader.join()
        yield from (f"p{number}" for number in range(20))

    reader = threading.Thread(target=read_a_line)
    reader.start()
    with within(5.0), pytest.raises(BrokenPipeError, match=f"can't write a result: {os.strerror(errno.EPIPE)}"):
        list(map_prompts(client, prompts(), out=pipe, concurrency=1))


def test_a_run_whose_file_is_the_null_device_keeps_nothing(client):
    for _ in range(2):
        results = list(map_prompts(client, ["a", "b"], out=os.devnull))
        assert [result.resumed for result in results] == [False, False]


def test_a_child_that_was_forked_while_the_file_was_opened_does_not_keep_it_from_the_next_run(out):
    """Its copy of the file has the lock of the run, too. Here a second descriptor stands for it."""
    with Store(out) as store:
        inherited = os.dup(store._file._file.fileno())
    try:
        write(out, "a")
    finally:
        os.close(inherited)
    assert len(lines_of(out)) == 1


def test_a_result_that_can_not_be_written_after_the_loop_was_left_is_an_error_of_closing(client, out, monkeypatch):
    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    both_asked = threading.Barrier(2, timeout=5)
    asked_first = asking.ask

    def ask(*arguments: Any) -> Result:
        both_asked.wait()
        result = asked_first(*arguments)
        if result.key == "b":
            assert may_write.wait(5)
        return result

    may_write = threading.Event()
    monkeypatch.setattr(mapping, "ask", ask)
    results = map_prompts(client, [{"prompt": key, "id": key} for key in "ab"], out=out, concurrency=2)
    assert next(results).key == "a"
    monkeypatch.setattr(os, "write", fail)
    may_write.set()
    with pytest.raises(OSError, match="can't write a result: No space left on device"):
        results.close()
    assert len(lines_of(out)) == 1


def test_a_file_is_not_closed_in_the_middle_of_a_line_and_not_written_to_afterwards(out, monkeypatch):
    """The number of a closed file may be that of another one, into which the line would go."""
    writing, may_go_on = threading.Event(), threading.Event()
    write_to_descriptor = os.write

    def write_slowly(descriptor: int, data: bytes) -> int:
        writing.set()
        assert may_go_on.wait(5)
        return write_to_descriptor(descriptor, data)

    monkeypatch.setattr(os, "write", write_slowly)
    store = Store(out)
    writer = threading.Thread(target=store.write, args=[answer("a"), task("a")])
    writer.start()
    assert writing.wait(5)
    closer = threading.Thread(target=store._file.close)
    closer.start()
    closer.join(0.1)
    is_open = not store._file.closed
    may_go_on.set()
    for thread in (writer, closer):
        thread.join()
    assert is_open
    assert store._file.closed
    with store, pytest.raises(OSError, match="can't write a result: the run has ended"):
        store.write(answer("b"), task("b"))
    assert len(lines_of(out)) == 1
