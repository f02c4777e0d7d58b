"""Runs all measures with ``python -m benchmarks``, or with ``--quick`` those that need no separate environment.

    peers × measures ──▶ results.json ──▶ a table and a plot for the docs

Rules:
- Each measure of each client runs in its own process, one after the other; the server is a separate process.
- A full run writes the results, the tables and the plot. With `--only`, `--measure` or `--quick` it prints the tables.
- A measure that fails is recorded as an error, and the run continues.
- Times are those of one machine on one day; compare only ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from .environments import interpreter
from .peers import ONE_EACH, OWN, PEERS
from .report import table, write_page
from .server import FRAMINGS, ROOT, running

RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "speed.md"
PLOT = ROOT / "docs" / "speed.svg"
TIMEOUT = 180  # seconds for one measure of one client
CLIENTS_FOR_FRAMINGS = ("loop", "stream", "httpx_sse", "openai_create")
CLIENTS_FOR_LONG_TOOLS = ("loop", "stream", "aggregate", "openai_create")


class Task(NamedTuple):
    """One measure of several clients. ``key`` is its name in the results."""

    key: str
    measure: str
    clients: tuple[str, ...]
    options: dict[str, Any]
    tls: bool = False
    quick: bool = True


def tasks() -> Iterator[Task]:
    yield Task("version", "version", tuple(PEERS), {})
    for shape in ("text", "unlike", "tools", "reasoning"):
        capable = tuple(name for name, peer in PEERS.items() if shape in peer.shapes)
        yield Task(f"cpu {shape}", "cpu", capable, {"shape": shape})
    yield Task("alone", "alone", ONE_EACH, {})
    for framing in FRAMINGS:
        clients = ONE_EACH if framing == "chunked" else CLIENTS_FOR_FRAMINGS
        yield Task(f"delay {framing}", "delay", clients, {"framing": framing}, quick=framing == "chunked")
    yield Task("first", "first", ONE_EACH, {})
    yield Task("first tls", "first", ONE_EACH, {}, tls=True, quick=False)
    yield Task("keepalive", "keepalive", ONE_EACH, {})
    yield Task("keepalive tls", "keepalive", ONE_EACH, {}, tls=True, quick=False)
    yield Task("imports", "imports", ONE_EACH, {})
    yield Task("memory", "memory", ONE_EACH, {})
    yield Task("hostile", "hostile", ("stream", "collect"), {})
    yield Task("connections", "connections", ONE_EACH, {})
    yield Task("growth text", "growth", ONE_EACH, {})
    yield Task("growth tools", "growth", CLIENTS_FOR_LONG_TOOLS, {"shape": "tools"}, quick=False)
    yield Task("many", "many", ONE_EACH, {}, quick=False)
    yield Task("again", "again", ("floor", "loop", "stream"), {}, quick=False)
    yield Task("again patient", "again", ("floor", "loop", "stream"), {"interval": 0.05}, quick=False)


class Bench:
    """Runs tasks.

    ``interpreter_of`` returns the Python of an environment; ``servers`` has the URLs without and with TLS.
    """

    def __init__(
        self, interpreter_of: Callable[[str], str], servers: dict[bool, str], variables: dict[str, str]
    ) -> None:
        self._interpreter_of = interpreter_of
        self._servers = servers
        self._variables = variables

    def run(self, task: Task, clients: tuple[str, ...]) -> dict[str, Any]:
        """The results of one task, by client."""
        found = {}
        for client in task.clients:
            if client in clients:
                found[client] = self._measure(task, client)
                print(f"{task.key:16} {client:14} {json.dumps(found[client])}", file=sys.stderr, flush=True)
        return found

    def _measure(self, task: Task, client: str) -> Any:
        arguments = {"measure": task.measure, "client": client, "server": self._servers[task.tls], **task.options}
        command = [self._interpreter_of(PEERS[client].environment), "-m", "benchmarks.measures", json.dumps(arguments)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT, env=self._variables, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {TIMEOUT} s"}
        if done.returncode:
            return {"error": done.stderr.strip().rpartition("\n")[2][:200]}
        return json.loads(done.stdout.splitlines()[-1])


def environment_variables(home: str, authority: str | None) -> dict[str, str]:
    """The environment of a measure: an empty home, no proxy, no key, and the certificate authority to trust."""
    variables = {"PATH": os.environ.get("PATH", ""), "HOME": home, "LLM_USER_PATH": home, "LANG": "C.UTF-8"}
    variables["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it downloads a list of prices
    return variables | ({"SSL_CERT_FILE": authority, "REQUESTS_CA_BUNDLE": authority} if authority else {})


CERTIFICATE = """
import sys, trustme
authority = trustme.CA()
authority.cert_pem.write_to_path(sys.argv[1])
authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(sys.argv[2])
"""


def machine() -> dict[str, Any]:
    """The machine and its load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    if options.again:
        found = json.loads(RESULTS.read_text())
    else:
        found = _measure_all(options)
        print(table(found))
    if not (options.quick or options.only or options.measure):
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        publish(found, options.environments)
    return 0


def _measure_all(options: argparse.Namespace) -> dict[str, Any]:
    chosen = options.only or (OWN if options.quick else PEERS)
    found: dict[str, Any] = {"machine": machine(), "results": {}}
    with ExitStack() as stack:
        bench = _bench(options, stack)
        for task in tasks():
            if (task.quick or not options.quick) and (not options.measure or task.measure in options.measure):
                found["results"][task.key] = bench.run(task, tuple(chosen))
    return found


def publish(found: dict[str, Any], environments: Path) -> None:
    """Write the tables into the page of the docs, and draw its plot."""
    write_page(PAGE, found)
    command = [interpreter("report", environments), "-m", "benchmarks.plot", RESULTS, PLOT]
    subprocess.run(command, cwd=ROOT, check=True)


def _bench(options: argparse.Namespace, stack: ExitStack) -> Bench:
    home = stack.enter_context(TemporaryDirectory())
    servers = {False: stack.enter_context(running())}
    if options.quick:
        return Bench(lambda _: sys.executable, servers, environment_variables(home, None))
    authority, certificate = f"{home}/authority.pem", f"{home}/server.pem"
    command = [interpreter("report", options.environments), "-c", CERTIFICATE, authority, certificate]
    subprocess.run(command, check=True)
    servers[True] = stack.enter_context(running(certificate))
    return Bench(lambda name: interpreter(name, options.environments), servers, environment_variables(home, authority))


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compares chatstream with other clients.")
    parser.add_argument("--quick", action="store_true", help="only clients that this interpreter can import; no TLS")
    parser.add_argument("--only", nargs="+", metavar="CLIENT", choices=PEERS, help=f"only these of: {', '.join(PEERS)}")
    parser.add_argument("--measure", nargs="+", help="only these of: cpu, delay, first, many, …")
    parser.add_argument("--again", action="store_true", help="measure nothing; write tables and plot from results.json")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".venv" / "bench", help="folder for the environments of the clients"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
