"""Draws the pictures of the design page from the code: ``python docs/architecture.py`` writes them.

    the imports of the package ─▶ docs/architecture.svg
    the table of `chatstream._decode.choice` ─▶ docs/states.svg

The tests compare both files with the code, and hold the package to the rows below.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "chatstream"

# Each row imports only from the rows after it; the names of one row never import each other.
ROWS = [
    ["cli"],
    ["__init__", "_doctor", "testing", "telemetry"],
    ["_shared", "_tool_loop", "_fallback", "many"],
    ["client"],
    ["_recording"],
    ["_fields", "_stream"],
    ["_calls"],
    ["_encode", "_decode", "_retries", "_event_source", "_show"],
    ["types", "providers", "_http", "_requirements"],
    ["errors", "_redaction", "_display"],
    ["_dataclass", "_secrets", "_runtime", "_field_names", "_missing"],
    ["_version"],
]
UPWARDS = {("errors", "types.turn")}  # the one import that points up, for type checkers only
NOT_DRAWN = {"_version", "__main__"}


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Import:
    """One import in a module: of another module of the package (``own``), or of something else."""

    module: str
    name: str
    own: bool
    for_types: bool


def modules() -> list[str]:
    """All modules by dotted name; a folder's ``__init__`` is named after the folder."""
    return sorted(_name(path) for path in PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def path_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def part_of(module: str) -> str:
    """The folder of a module, or the module itself where it is in none."""
    return module.partition(".")[0]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text("utf-8"))


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Every import in a module, those inside functions and those for type checkers included."""
    return tuple(_imports(module, tree_of(module), False))


def _imports(module: str, node: ast.AST, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        typing_only = for_types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name.partition(".")[0], False, typing_only)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield Import(module, (child.module or "").partition(".")[0], False, typing_only)
        elif isinstance(child, ast.ImportFrom):
            for target in _targets(module, child):
                yield Import(module, target, True, typing_only)
        else:
            yield from _imports(module, child, typing_only)


def _targets(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """The modules that a relative import names."""
    is_folder = path_of(module).name == "__init__.py" and module != "__init__"
    package = module.split(".") if is_folder else module.split(".")[:-1]
    base = package[: len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
    for alias in node.names:
        inner = ".".join([*base, alias.name])
        yield inner if path_of(inner).exists() else ".".join(base) or "__init__"


# ── drawing ─────────────────────────────────────────────────────────────────────────────────────────────────────

BOX, GAP, ROW, HEIGHT = 130, 24, 74, 34  # pixels
NAMES = {"__init__": "chatstream"}
STYLE = """<style>
text { font: 14px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; text-anchor: middle }
rect, circle { fill: #f6f8fa; stroke: #59636e } path { stroke: #59636e; fill: none }
.small { font-size: 12px; fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } rect, circle { fill: #161b22; stroke: #8b949e } path { stroke: #8b949e } .small { fill: #8b949e }
}</style><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8"/></marker></defs>"""


def parts() -> dict[str, set[str]]:
    """What each folder, and each file in none, imports of the others."""
    drawn: dict[str, set[str]] = {}
    for module in modules():
        own = part_of(module)
        targets = {part_of(i.name) for i in imports(module) if i.own and (module, i.name) not in UPWARDS}
        if own not in NOT_DRAWN:
            drawn.setdefault(own, set()).update(targets - NOT_DRAWN - {own, "__init__"})
    return drawn


def reduced(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Only the arrows that no longer way replaces."""

    def reached(part: str) -> set[str]:
        return arrows[part] | {far for near in arrows[part] for far in reached(near)}

    return {part: {to for to in tos if not any(to in reached(other) for other in tos)} for part, tos in arrows.items()}


def architecture() -> str:
    """The parts of the package as boxes; an arrow leads from an importer to what it imports."""
    arrows = parts()
    rows = [row for row in ROWS if not NOT_DRAWN.issuperset(row)]
    width = max(map(len, rows)) * (BOX + GAP) + GAP
    place = {}
    for y, row in enumerate(rows):
        left = (width - len(row) * (BOX + GAP) + GAP) / 2
        for x, part in enumerate(row):
            place[part] = (left + x * (BOX + GAP) + BOX / 2, y * ROW + GAP + HEIGHT / 2)
    lines = []
    for part, targets in sorted(reduced(arrows).items()):
        for target in sorted(target for target in targets if place[target][1] > place[part][1]):
            (x1, y1), (x2, y2) = place[part], place[target]
            start, end = y1 + HEIGHT / 2, y2 - HEIGHT / 2 - 2
            bend = (start + end) / 2
            lines.append(
                f'<path marker-end="url(#tip)" d="M{x1:g} {start:g}C{x1:g} {bend:g} {x2:g} {bend:g} {x2:g} {end:g}"/>'
            )
    for part, (x, y) in place.items():
        folder = "/" if (PACKAGE / part).is_dir() else ""
        lines.append(f'<rect x="{x - BOX / 2:g}" y="{y - HEIGHT / 2:g}" width="{BOX}" height="{HEIGHT}" rx="6"/>')
        lines.append(f'<text x="{x:g}" y="{y + 5:g}">{NAMES.get(part, part)}{folder}</text>')
    return _svg(width, len(rows) * ROW + GAP, lines)


def states() -> str:
    """The states of one choice, from the table that the decoder uses."""
    from chatstream._decode.choice import TRANSITIONS

    names = list(dict.fromkeys(state for state, _ in TRANSITIONS))
    place = {name: (90 + 220 * number, 90) for number, name in enumerate(names)}
    lines = []
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, symbol), to in TRANSITIONS.items():
        labels.setdefault((state, to), []).append(symbol)
    for (state, to), symbols in labels.items():
        (x1, y1), (x2, _) = place[state], place[to]
        skipped = names.index(to) - names.index(state)
        if state == to:
            d, at = f"M{x1 - 14} {y1 - 34}C{x1 - 40} {y1 - 80} {x1 + 40} {y1 - 80} {x1 + 14} {y1 - 34}", (x1, y1 - 72)
        elif skipped == 1:
            d, at = f"M{x1 + 56} {y1}L{x2 - 58} {y1}", ((x1 + x2) / 2, y1 - 8)
        else:
            d, at = f"M{x1} {y1 + 20}C{x1 + 80} {y1 + 90} {x2 - 80} {y1 + 90} {x2} {y1 + 22}", ((x1 + x2) / 2, y1 + 66)
        lines.append(f'<path marker-end="url(#tip)" d="{d}"/>')
        lines.append(f'<text class="small" x="{at[0]:g}" y="{at[1]:g}">{" · ".join(symbols)}</text>')
    for name, (x, y) in place.items():
        lines.append(f'<rect x="{x - 56}" y="{y - 20}" width="112" height="40" rx="20"/>')
        lines.append(f'<text x="{x}" y="{y + 5}">{name}</text>')
    return _svg(90 * 2 + 220 * (len(names) - 1), 180, lines)


def _svg(width: float, height: float, lines: list[str]) -> str:
    body = "\n".join(lines)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{STYLE}\n{body}\n</svg>\n'


PICTURES = {"architecture.svg": architecture, "states.svg": states}

if __name__ == "__main__":
    for file, draw in PICTURES.items():
        (HERE / file).write_text(draw(), encoding="utf-8")
