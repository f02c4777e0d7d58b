"""What `read_events` takes: bytes, files opened in binary mode, iterables of bytes; and what it refuses."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import tempfile
import threading
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support import WORDS, body, id_of, text_of

from chatstream import ConfigError, OutputTextDelta, ProtocolViolation, StreamTruncated, read_events
from chatstream.testing import text_answer

TEXT = "".join(WORDS)
RECORDED = b"".join(map(body, WORDS)) + b"data: [DONE]\n\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file with a recorded body."""
    recorded = tmp_path / "answer.sse"
    recorded.write_bytes(RECORDED)
    return recorded


class Own:
    """A file of the caller's own: all that it has is ``read``."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def read(self, size: int, /) -> Any:
        piece, self._data = self._data[:7], self._data[7:]
        assert len(piece) <= size
        return piece


SOURCES = {
    "bytes": lambda: RECORDED,
    "bytearray": lambda: bytearray(RECORDED),
    "memoryview": lambda: memoryview(RECORDED),
    "list": lambda: [RECORDED[:50], RECORDED[50:]],
    "generator": lambda: (RECORDED[place : place + 1] for place in range(len(RECORDED))),
    "list of bytearrays": lambda: [bytearray(RECORDED[:50]), memoryview(RECORDED[50:])],
    "iterator of lines": lambda: iter(RECORDED.splitlines(keepends=True)),
    "BytesIO": lambda: io.BytesIO(RECORDED),
    "own file": lambda: Own(RECORDED),
    "gzip": lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(RECORDED))),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_recorded_bytes_are_read_from_every_kind_of_source(make):
    assert text_of(list(read_events(make()))) == TEXT


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_file_opened_in_binary_mode_is_read_and_left_open(path, buffering):
    with path.open("rb", buffering=buffering) as file:
        assert text_of(list(read_events(file))) == TEXT
        assert not file.closed
        assert file.read() == b""


def test_temporary_files_and_archives_are_read(path, tmp_path):
    with tempfile.NamedTemporaryFile() as named, tempfile.SpooledTemporaryFile() as spooled:
        for file in (named, spooled):
            file.write(RECORDED)
            file.seek(0)
            assert text_of(list(read_events(file))) == TEXT
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "answer.sse")
        with archive.open("answer.sse") as member:
            assert text_of(list(read_events(member))) == TEXT


def test_the_answer_that_urllib_has_received_is_read(serve):
    url = serve(text_answer(*WORDS)).url
    request = urllib.request.Request(url + "/chat/completions", b"{}", method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as response:
        assert text_of(list(read_events(response))) == TEXT


def test_an_event_in_a_pipe_is_read_before_more_is_written():
    source, sink = os.pipe()
    with open(source, "rb") as reading, open(sink, "wb", buffering=0) as writing:
        writing.write(body(WORDS[0]))
        events = read_events(reading)
        timer = threading.Timer(5, writing.close)  # so that a failure is no hang
        timer.start()
        next(events)
        assert next(events) == OutputTextDelta(WORDS[0])
        timer.cancel()
        writing.write(b"data: [DONE]\n\n")
        assert len(list(events)) == 1


def test_nothing_is_read_before_it_is_asked_for_and_nothing_after_the_end():
    file = io.BytesIO(RECORDED + b"x" * 200_000)
    events = read_events(file)
    assert file.tell() == 0
    list(events)
    assert file.tell() == 65536


REFUSED: dict[str, tuple[Any, str]] = {
    "str": (RECORDED.decode(), r"not a str: use text.encode\(\), or open\(path, 'rb'\)"),
    "a name": ("answer.sse", "not a str"),
    "path": (Path("answer.sse"), r"not a path: use open\(path, 'rb'\)"),
    "StringIO": (io.StringIO(RECORDED.decode()), "not a text file"),
    "a file of str": (Own(RECORDED.decode()), "one of its pieces is of the type str"),
    "None": (None, "not None"),
    "number": (7, "not of the type int"),
    "dict": ({b"data": 1}, "not of the type dict"),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_another_source_raises_a_config_error_that_says_what_to_give(source, reason):
    with pytest.raises(ConfigError, match="^read_events needs the bytes of a body, a file opened in .*" + reason):
        list(read_events(source))


@pytest.mark.parametrize("source", [RECORDED.decode(), Path("a"), io.StringIO(), None, 7, {}], ids=id_of)
def test_a_wrong_source_is_refused_by_the_call_itself_not_by_the_loop(source):
    with pytest.raises(ConfigError):
        read_events(source)


def test_a_file_opened_in_text_mode_is_refused(path):
    with path.open(encoding="utf-8") as file, pytest.raises(ConfigError, match="not a text file"):
        read_events(file)  # type: ignore[arg-type]


def test_a_file_opened_by_codecs_is_refused(path):
    with codecs.open(str(path), encoding="utf-8") as file, pytest.raises(ConfigError, match="not a text file"):
        read_events(file)


@pytest.mark.parametrize("pieces", [["data: x"], [7], [None], [[b"data"]]], ids=repr)
def test_a_piece_that_is_no_bytes_raises_a_config_error_with_what_was_read_before(pieces):
    events = read_events([body(WORDS[0]), *pieces])
    with pytest.raises(ConfigError, match="one of its pieces is") as caught:
        list(events)
    assert caught.value.partial is not None
    assert caught.value.partial.text == WORDS[0]


@pytest.mark.parametrize("data", [RECORDED, RECORDED.replace(b"data: ", b"data:")], ids=["blank", "no blank"])
def test_lines_without_their_line_ends_are_refused_with_the_way_out(data):
    with pytest.raises(ProtocolViolation, match=r"no line ends .*iter_content\(None\), and not iter_lines\(\)"):
        list(read_events(data.splitlines()))


@pytest.mark.parametrize("choices", [0, -1, "1", 1.0, True, [1]], ids=repr)
def test_choices_that_are_no_positive_integer_are_refused_before_anything_is_read(choices):
    with pytest.raises(ConfigError, match="choices must be an integer of at least 1, not "):
        read_events(RECORDED, choices=choices)


def test_a_file_that_ends_early_is_a_truncated_answer(path):
    path.write_bytes(RECORDED[:150])
    with path.open("rb") as file, pytest.raises(StreamTruncated):
        list(read_events(file))
