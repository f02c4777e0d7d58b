"""`make fuzz`: mutates recorded streams and searches for bytes that violate a property in `properties`.

    python fuzz.py sse|events FOLDER [libFuzzer's options]

Requires the package `atheris`. The recordings of the tests are written to FOLDER as the first inputs. An input that
violates a property is written there as ``crash-…``; add it to `test_fuzz.py`. The first two bytes of each input select
where the rest is split.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["chatstream"]):
    from properties import check_read_events, check_sse

    import chatstream._stream  # noqa: F401  # imported here so that it and its imports are instrumented

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
SEED_SIZE = 1500  # bytes of a recording; a whole answer only repeats the same structures
TOKENS = """data: |event: error\\x0a|id: |retry: |: |\\x0a\\x0a|\\x0d\\x0a|\\x0d|\\xef\\xbb\\xbf|[DONE]|null|[]|{}|
1e999|"choices"|"delta"|"content"|"message"|"tool_calls"|"function"|"arguments"|"index"|"id"|"name"|"finish_reason"|
"usage"|"error"|"code"|"detail"|"reasoning"|"refusal"|"stop"|"length"|"base_resp"|"status_code"|"logprobs"|
"\\\\ud800" """


def places_of(data: bytes) -> list[int]:
    """Where to split, from the first two bytes."""
    first, second = data[:1] or b"\0", data[1:2] or b"\0"
    return [first[0], first[0] * second[0], second[0]]


def fuzz_sse(data: bytes) -> None:
    check_sse(data[2:], places_of(data))


def fuzz_events(data: bytes) -> None:
    check_read_events(data[2:], places_of(data), choices=1 + (data[:1] > b"\xf0"))


TARGETS = {"sse": fuzz_sse, "events": fuzz_events}


def write_seeds(folder: Path) -> None:
    """Write the beginning and the end of each recorded body, and the dictionary of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [each.strip("\n ").replace('"', '\\"') for each in TOKENS.split("|")]
    (folder.parent / "tokens.dict").write_text("".join(f'"{each}"\n' for each in tokens))
    for number, path in enumerate(sorted(RECORDINGS.rglob("*.http"))):
        body = path.read_bytes().partition(b"\r\n\r\n")[2]
        (folder / f"begin-{number}").write_bytes(b"\x11\x07" + body[:SEED_SIZE])
        (folder / f"end-{number}").write_bytes(b"\x11\x07" + body[-SEED_SIZE:])


def main() -> None:
    name, folder, *options = sys.argv[1:]
    write_seeds(Path(folder))
    settings = ["-max_len=3000", "-timeout=10", "-rss_limit_mb=1024", f"-dict={Path(folder).parent}/tokens.dict"]
    atheris.Setup([sys.argv[0], *settings, f"-artifact_prefix={folder}/", *options, folder], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
