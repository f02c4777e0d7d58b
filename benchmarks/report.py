"""Results → Markdown tables, for the terminal and for docs/speed.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .peers import PEERS
from .server import FRAMINGS

SUMMARY = "<!-- begin: the summary of what `make bench` found -->"
BEGIN, END = "<!-- begin: what `make bench` found -->", "<!-- end -->"
Found = dict[str, Any]
Cell = Callable[[dict[str, Any]], str]


def _us(cell: Found) -> str:
    return f"{cell['us']:.1f} ({cell['ratio']:.2f} ×)"


def _import(cell: Found) -> str:
    return f"{cell['ms']:.0f} ({cell['ratio']:.2f} ×)"


def _ms(cell: Found) -> str:
    return f"{cell['ms']:.2f} ({cell['ratio']:.2f} ×)"


def _delay(cell: Found) -> str:
    return f"{cell['p50']:.2f} / {cell['p99']:.1f}"


def _many(cell: Found) -> str:
    delays = f"{_delay(cell) if 'p50' in cell else '–'} | {cell['worst'] or 0:.0f}"
    return f"{delays} | {cell['whole']} of {cell['threads']} | {cell['cpu']:.2f}"


def _runs(cell: Found) -> str:
    return " · ".join(f"{each:.0f}" for each in cell["p99"])


def _growth(cell: Found) -> str:
    return " | ".join(f"{cell[events]:.1f}" for events in ("1000", "8000", "64000"))


TABLES: list[tuple[str, str, list[tuple[str, str, Cell]]]] = [
    (
        "CPU per event",
        "CPU time in µs, and in brackets the ratio to the loop in the same process. In *text*, *tools* and *reasoning* "
        "the whole stream is available at once, so only the work of the client counts. *Unlike* is text in which each "
        "chunk has a different id. *Alone* is text that arrives event by event, so that waking up counts as well. –: "
        "the client does not support it.",
        [
            ("text", "cpu text", _us),
            ("unlike", "cpu unlike", _us),
            ("tools", "cpu tools", _us),
            ("reasoning", "cpu reasoning", _us),
            ("alone", "alone", _us),
        ],
    ),
    (
        "Start",
        "*Import*: CPU time in ms that a new process needs to import the library. *Ready*: CPU time in ms to import "
        "everything that the first request needs (ratio to the loop). *Cold* and *warm*: milliseconds to the first "
        "event for a new client, and for a client that already has a connection, without and with TLS. *Connections*: "
        "opened for 100 streams. *Request*: milliseconds per short answer over a persistent connection (ratio to the "
        "loop).",
        [
            ("import", "imports", lambda cell: f"{cell['named']:.0f}"),
            ("ready", "imports", _import),
            ("cold", "first", lambda cell: f"{cell['cold']:.1f}"),
            ("warm", "first", lambda cell: f"{cell['warm']:.1f}"),
            ("cold, TLS", "first tls", lambda cell: f"{cell['cold']:.1f}"),
            ("warm, TLS", "first tls", lambda cell: f"{cell['warm']:.1f}"),
            ("connections", "connections", lambda cell: str(cell["opened"])),
            ("request", "keepalive", _ms),
            ("request, TLS", "keepalive tls", _ms),
        ],
    ),
    (
        "Delay",
        "Milliseconds from the sending of an event until the client yields it, median / 99th percentile. The columns "
        "are the framings of the response: HTTP/1.1 with chunks, HTTP/1.1 and HTTP/1.0 until the connection closes, a "
        "`Content-Length`, and chunks with gzip.",
        [(framing, f"delay {framing}", _delay) for framing in FRAMINGS],
    ),
    (
        "Memory and length",
        "MB of the process after 5,000 events; KiB per open stream that waits for events; CPU time per event in µs for "
        "streams of 1,000, 8,000 and 64,000 events. MB by which the process grows before `StreamTooLarge` is raised, "
        "for a line of 200 MB compressed to 200 kB (*bomb*) and for a line of 64 MB (*line*).",
        [
            ("MB", "memory", lambda cell: f"{cell['mb']:.0f}"),
            ("KiB per stream", "memory", lambda cell: f"{max(cell['idle'], 0):.0f}"),
            ("1 k | 8 k | 64 k", "growth text", _growth),
            ("tools: 1 k | 8 k | 64 k", "growth tools", _growth),
            ("bomb", "hostile", lambda cell: f"{cell['bomb']:.1f}"),
            ("line", "hostile", lambda cell: f"{cell['line']:.1f}"),
        ],
    ),
    (
        "500 threads",
        "Each thread receives 20 events per second from one client with default settings. Delay in ms while all of "
        "them stream (median / 99th percentile); 99th percentile including the five seconds in which they start and "
        "the five in which they end; complete answers; cores used. *Repeated*: the 99th percentiles of five more runs, "
        "from best to worst; *longer switch interval*: of five runs with `sys.setswitchinterval(0.05)`.",
        [
            ("delay | with start and end | complete | cores", "many", _many),
            ("repeated", "again", _runs),
            ("repeated, longer switch interval", "again patient", _runs),  # the keys are those of results.json
        ],
    ),
]


# The three rows on top of the page; each cell is one of a table below it.
SUMMARY_ROWS = ("stream", "loop", "openai_create")
SUMMARY_COLUMNS: list[tuple[str, str, Cell]] = [
    ("CPU per text event, µs", "cpu text", _us),
    ("the same if no two chunks are alike, µs", "cpu unlike", _us),
    ("CPU for the imports of a first request, ms", "imports", _import),
    ("memory of the process, MB", "memory", lambda cell: f"{cell['mb']:.0f}"),
]


def summary(found: Found) -> str:
    """Three rows: chatstream, the hand-written loop, openai-python."""
    return "\n".join(_rows(found["results"], SUMMARY_ROWS, SUMMARY_COLUMNS))


def table(found: Found) -> str:
    """All tables, after a line on the machine."""
    tables = (_table(found["results"], *each) for each in TABLES)
    return "\n\n".join(filter(None, [_machine(found["machine"]), *tables]))


def _machine(machine: Found) -> str:
    return (
        f"{machine['date']}: {machine['python']}, {machine['cores']} cores of {machine['processor']}, "
        f"{machine['system']}."
    )


def _table(results: Found, title: str, explanation: str, columns: list[tuple[str, str, Cell]]) -> str:
    columns = [each for each in columns if results.get(each[1])]
    if not columns:
        return ""
    rows = [name for name in PEERS if any(name in results[key] for _, key, _ in columns)]
    return "\n".join([f"### {title}", "", explanation, "", *_rows(results, rows, columns)])


def _rows(results: Found, names: Iterable[str], columns: list[tuple[str, str, Cell]]) -> list[str]:
    """The lines of a table: its head, and a row for each client."""
    head = " | ".join(["client", *(heading for heading, _, _ in columns)])
    lines = [f"| {head} |", "|" + "---|" * (head.count(" | ") + 1)]
    for name in names:
        cells = [_cell(results.get(key, {}).get(name), heading, show) for heading, key, show in columns]
        lines.append(f"| {_label(name, results)} | {' | '.join(cells)} |")
    return lines


def _cell(cell: Found | None, heading: str, show: Cell) -> str:
    if cell is None or "error" in cell or cell.get("shown") is False:
        return " | ".join(["–"] * (heading.count(" | ") + 1))
    return show(cell)


def _label(name: str, results: Found) -> str:
    number = results.get("version", {}).get(name, {}).get("version", "")
    own = name in ("loop", "floor") or PEERS[name].library == "chatstream"
    return PEERS[name].label if own else f"{PEERS[name].label} {number}".strip()


def page_with(text: str, found: Found) -> str:
    """The text of the page with the summary and the tables between their markers."""
    for begin, made in ((SUMMARY, summary(found)), (BEGIN, table(found))):
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(END)
        text = f"{before}{begin}\n\n{made}\n\n{END}{after}"
    return text


def write_page(page: Path, found: Found) -> None:
    page.write_text(page_with(page.read_text(encoding="utf-8"), found), encoding="utf-8")
