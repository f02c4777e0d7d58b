"""`make fuzz`: mutates recorded streams for a while and looks for bytes that break a law of `reading`.

    python fuzz.py sse|events FOLDER [libFuzzer's options]

Needs the package `atheris`. The recordings of the tests are laid into FOLDER as the first inputs; what breaks a law is
written there too, as ``crash-…``, to be pinned in `test_fuzz.py`. Of each input the first two bytes say where to cut.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["chatstream"]):
    from reading import check_answer, check_events

    import chatstream._stream  # noqa: F401  # the room is opened here, with those below it, to be watched

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
LONGEST = 1500  # bytes of a recording that are a start; a whole answer says the same again and again
WORDS = """data: |event: error\\x0a|id: |retry: |: |\\x0a\\x0a|\\x0d\\x0a|\\x0d|\\xef\\xbb\\xbf|[DONE]|null|[]|{}|1e999|
"choices"|"delta"|"content"|"message"|"tool_calls"|"function"|"arguments"|"index"|"id"|"name"|"finish_reason"|"usage"|
"error"|"code"|"detail"|"reasoning"|"refusal"|"stop"|"length"|"base_resp"|"status_code"|"logprobs"|"\\\\ud800" """


def places_of(data: bytes) -> list[int]:
    first, second = data[:1] or b"\0", data[1:2] or b"\0"
    return [first[0], first[0] * second[0], second[0]]


def one_sse(data: bytes) -> None:
    check_events(data[2:], places_of(data))


def one_answer(data: bytes) -> None:
    check_answer(data[2:], places_of(data), choices=1 + (data[:1] > b"\xf0"))


TARGETS = {"sse": one_sse, "events": one_answer}


def lay_out(folder: Path) -> None:
    """The bodies of all recordings, their ends too: that is where streams differ."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [each.strip("\n ").replace('"', '\\"') for each in WORDS.split("|")]
    (folder.parent / "words.dict").write_text("".join(f'"{each}"\n' for each in words))
    for number, path in enumerate(sorted(RECORDINGS.rglob("*.http"))):
        body = path.read_bytes().partition(b"\r\n\r\n")[2]
        (folder / f"begin-{number}").write_bytes(b"\x11\x07" + body[:LONGEST])
        (folder / f"end-{number}").write_bytes(b"\x11\x07" + body[-LONGEST:])


def main() -> None:
    name, folder, *options = sys.argv[1:]
    lay_out(Path(folder))
    settings = ["-max_len=3000", "-timeout=10", "-rss_limit_mb=1024", f"-dict={Path(folder).parent}/words.dict"]
    atheris.Setup([sys.argv[0], *settings, f"-artifact_prefix={folder}/", *options, folder], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
