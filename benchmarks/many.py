"""Many prompts: their overhead, their memory, and how a limiter settles. ``python -m benchmarks.many cpu limiter``.

    cpu      CPU of map_prompts ÷ that of ThreadPoolExecutor.map over the same calls, without a file and with one
    memory   growth of the peak memory from 1,000 prompts to many, without a file and with one
    limiter  requests per second of one and of four processes, whose server changes its limit ──▶ docs/limiter.svg

The server is a separate process on loopback; each measure of memory is one, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatstream import Client, Provider, map_prompts

ROOT = Path(__file__).resolve().parents[1]
SERVER = ROOT / "tests" / "limited_server.py"
PLOT = ROOT / "docs" / "limiter.svg"
NO_LIMIT = 1e9
CHANGES = ((0.0, 30.0), (70.0, 60.0), (140.0, 20.0))  # seconds, and requests per second from then on
SECONDS = 200.0
CONCURRENCY = 8


@contextmanager
def server(*arguments: float) -> Iterator[tuple[str, list[tuple[float, bool]]]]:
    """The URL of a server, and the log of its requests, which is filled when the block ends."""
    log: list[tuple[float, bool]] = []
    command = [sys.executable, str(SERVER), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", log
        log.extend(json.loads(process.communicate()[0]))


def client_of(url: str) -> Client:
    return Client(Provider("bench", url), model="m1")


def cpu(prompts: int, rounds: int) -> dict[str, Any]:
    """CPU of this process for one prompt in each way, in milliseconds, and the ratios of rounds in turns.

    Each way with a file writes one line for each answer, as soon as the pool hands it over.
    """

    def bare() -> None:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            for turn in pool.map(lambda prompt: client.stream(prompt).collect(), texts):
                assert turn.text

    def bare_to_file() -> None:
        with ThreadPoolExecutor(CONCURRENCY) as pool, open(f"{folder}/bare.jsonl", "w", buffering=1) as file:
            for turn in pool.map(lambda prompt: client.stream(prompt).collect(), texts):
                file.write(json.dumps(turn.to_dict()) + "\n")

    def mapped() -> None:
        for result in map_prompts(client, texts, concurrency=CONCURRENCY):
            assert result.turn

    def mapped_to_file() -> None:
        with tempfile.TemporaryDirectory() as fresh:
            for result in map_prompts(client, texts, concurrency=CONCURRENCY, out=f"{fresh}/out.jsonl"):
                assert result.turn

    texts = [f"prompt {number}" for number in range(prompts)]
    ways = {"bare": bare, "map": mapped, "bare to a file": bare_to_file, "map to a file": mapped_to_file}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with (
        server(NO_LIMIT, NO_LIMIT, 0) as (url, _),
        client_of(url) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        mapped_to_file()  # imports and connections
        for _ in range(rounds):
            for name, run in ways.items():
                before = time.process_time()
                run()
                taken[name].append((time.process_time() - before) * 1000 / prompts)
    found: dict[str, Any] = {name: statistics.median(times) for name, times in taken.items()}
    for name in ("", " to a file"):
        ratios = [one / other for one, other in zip(taken["map" + name], taken["bare" + name], strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        found |= {f"ratio{name}": quarters[1], f"quartiles{name}": (quarters[0], quarters[2])}
    return found


def peak(url: str, prompts: int, out: str | None) -> float:
    """The peak memory of this process after so many prompts, in MiB."""
    for result in map_prompts(client_of(url), (f"prompt {n}" for n in range(prompts)), out=out, concurrency=32):
        assert result.turn, result.error
    status = Path("/proc/self/status")
    if status.exists():  # because ``ru_maxrss`` may be that of the process which has started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(prompts: int) -> dict[str, float]:
    """The peak memory of new processes, in MiB."""
    found: dict[str, float] = {}
    with server(NO_LIMIT, NO_LIMIT, 0) as (url, _), tempfile.TemporaryDirectory() as folder:
        for count in (1000, prompts):
            file = f"{folder}/{count}.jsonl"
            for name, out in (("", ""), (", to a file", file), (", all in the file", file)):
                command = [sys.executable, "-m", "benchmarks.many", "peak", url, str(count), out]
                done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
                found[f"{count} prompts{name}"] = float(done.stdout)
    return found


def limiter(seconds: float) -> dict[str, list[tuple[float, bool]]]:
    """What a server logs that one process asks, and one that four processes ask."""
    logs: dict[str, list[tuple[float, bool]]] = {}
    changes = [value for after, rate in CHANGES[1:] for value in (after, rate)]
    for processes in (1, 4):
        with server(CHANGES[0][1], CHANGES[0][1], *changes) as (url, log):
            command = [sys.executable, "-m", "benchmarks.many", "ask", url, str(seconds), str(32 // processes)]
            asking = [subprocess.Popen(command, cwd=ROOT) for _ in range(processes)]
            assert [process.wait() for process in asking] == [0] * processes
        logs[f"{processes} process{'es' if processes > 1 else ''}"] = log
    return logs


def ask(url: str, seconds: float, concurrency: int) -> None:
    """Ask for so many seconds."""
    end = time.monotonic() + seconds
    prompts = iter(lambda: "end" if time.monotonic() > end else "prompt", "end")
    for result in map_prompts(client_of(url), prompts, concurrency=concurrency):
        assert result.turn, result.error


# ── the plot ────────────────────────────────────────────────────────────────────────────────────────────────────

WIDTH, HEIGHT, LEFT, TOP, BIN = 720, 300, 50, 30, 2.0  # pixels, and seconds
STYLE = """<style>
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328 } path { fill: none }
.tick { text-anchor: middle } .axis { stroke: #59636e } path.one { stroke: #0969da } text.one { fill: #0969da }
path.other { stroke: #bc4c00 } text.other { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .axis { stroke: #8b949e } path.one { stroke: #4493f8 } text.one { fill: #4493f8 }
path.other { stroke: #f0883e } text.other { fill: #f0883e }
}</style>"""


def draw(logs: dict[str, list[tuple[float, bool]]], seconds: float) -> str:
    """Admitted requests per second over time, and the limit as a dashed line."""
    most = 1.3 * max(rate for _, rate in CHANGES)

    def x(at: float) -> str:
        return f"{LEFT + at / seconds * (WIDTH - LEFT - 20):.1f}"

    def y(rate: float) -> str:
        return f"{HEIGHT - 40 - min(rate / most, 1) * (HEIGHT - 40 - TOP):.1f}"

    lines = [f'<path class="axis" d="M{LEFT} {TOP}V{y(0)}H{WIDTH - 20}"/>']
    ends = [after for after, _ in CHANGES[1:]] + [seconds]
    limit = "".join(
        f"{'L' if begin else 'M'}{x(begin)} {y(rate)}H{x(end)}"
        for (begin, rate), end in zip(CHANGES, ends, strict=True)
    )
    lines.append(f'<path class="axis" stroke-dasharray="6 4" d="{limit}"/>')
    for (name, log), kind, place in zip(logs.items(), ("one", "other"), (0, 1), strict=True):
        counts = Counter(int(at // BIN) for at, admitted in log if admitted)
        points = [f"{x((number + 0.5) * BIN)} {y(counts[number] / BIN)}" for number in range(int(seconds // BIN))]
        refused = 100 * sum(not admitted for _, admitted in log) / len(log)
        lines.append(f'<path class="{kind}" stroke-width="2" d="M{"L".join(points)}"/>')
        lines.append(
            f'<text class="{kind}" x="{LEFT + 12 + 330 * place}" y="18">{name}: {refused:.1f} % rejected</text>'
        )
    lines += [f'<text x="8" y="{float(y(rate)) + 4:.0f}">{rate:g}/s</text>' for _, rate in CHANGES]
    lines += [f'<text class="tick" x="{x(at)}" y="{HEIGHT - 18}">{at:g} s</text>' for at, _ in (*CHANGES, (seconds, 0))]
    body = "\n".join(lines)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{STYLE}\n{body}\n</svg>\n'


def main() -> None:
    if sys.argv[1:2] == ["peak"]:
        print(peak(sys.argv[2], int(sys.argv[3]), sys.argv[4] or None))
        return
    if sys.argv[1:2] == ["ask"]:
        ask(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many")
    parser.add_argument("measures", nargs="+", choices=["cpu", "memory", "limiter"])
    parser.add_argument("--prompts", type=int, default=100_000, help="of the measure of memory")
    options = parser.parse_args()
    if "cpu" in options.measures:
        print(json.dumps(cpu(1000, 7)))
    if "memory" in options.measures:
        print(json.dumps(memory(options.prompts)))
    if "limiter" in options.measures:
        PLOT.write_text(draw(limiter(SECONDS), SECONDS), encoding="utf-8")


if __name__ == "__main__":
    main()
