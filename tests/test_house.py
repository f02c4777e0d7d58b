"""The plan of the house: which room may know which, and that the front door costs nothing."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import chatstream

HOUSE = Path(chatstream.__file__).resolve().parent

# Each room imports only from rooms before its own; and those of one row not from each other.
ROWS = [
    ["_version"],
    ["errors", "loose", "values"],
    ["parts", "limits"],
    ["items"],
    ["events"],
    ["schema", "extras", "usage", "words", "calls", "server_errors", "template"],
    ["tools"],
    ["providers", "prompt", "retry", "sse", "chunks", "think", "machine", "turn"],
    ["provider"],
    ["watch"],
    ["exchange"],
    ["sockets"],
    ["failures"],
    ["transport"],
    ["sender"],
    ["response"],
    ["client"],
    ["local"],
    ["diagnosis"],
    ["cli"],
    ["__main__"],
]
ORDER = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
# Upstairs only when somebody rings: imports inside a function.
LAZY = {("client", "local"), ("errors", "turn"), ("__init__", "client"), ("cli", "diagnosis")}
TRANSFORMERS = ("sse", "chunks", "think", "machine", "turn")
STRANGERS = {
    "requests": {"sockets", "failures", "transport"},
    "urllib3": {"exchange", "sockets", "failures", "transport"},
    "sseclient": {"sse"},
}
LONGEST = 300  # lines


@dataclass(frozen=True)
class Import:
    """An import in a room: of another room of the house, or of a stranger."""

    room: str
    name: str
    own: bool
    lazy: bool
    for_types: bool


def rooms() -> list[str]:
    return sorted(path.stem for path in HOUSE.glob("*.py") if path.stem != "__init__")


def imports(room: str) -> Iterator[Import]:
    tree = ast.parse((HOUSE / f"{room}.py").read_text("utf-8"))
    yield from _imports(room, tree, lazy=False, for_types=False)


def _imports(room: str, node: ast.AST, lazy: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = for_types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(room, alias.name.partition(".")[0], False, inside, typing_only)
        elif isinstance(child, ast.ImportFrom):
            if child.level == 0:
                yield Import(room, (child.module or "").partition(".")[0], False, inside, typing_only)
            elif child.module:
                yield Import(room, child.module.partition(".")[0], True, inside, typing_only)
            else:
                for alias in child.names:
                    yield Import(room, alias.name, True, inside, typing_only)
        else:
            yield from _imports(room, child, inside, typing_only)


@pytest.mark.parametrize("room", rooms())
def test_every_room_has_its_place(room):
    assert room in ORDER


@pytest.mark.parametrize("room", [room for row in ROWS for room in row])
def test_a_room_knows_only_the_rooms_before_it(room):
    for found in imports(room):
        if found.own and not found.for_types and not (found.lazy and (room, found.name) in LAZY):
            assert ORDER[found.name] < ORDER[room], found


@pytest.mark.parametrize("room", TRANSFORMERS)
def test_the_transformers_never_know_each_other(room):
    known = {found.name for found in imports(room) if found.own}
    assert known.isdisjoint(TRANSFORMERS)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_is_known_only_where_it_is_needed(stranger):
    met = {
        room
        for room in rooms()
        for found in imports(room)
        if found.name == stranger and not found.own and not found.for_types
    }
    assert met <= STRANGERS[stranger]
    assert met


def test_no_other_stranger_is_known_to_the_library():
    known = {*STRANGERS, *sys.stdlib_module_names, "chatstream"}
    optional = {"tomli", "pydantic", "jiter", "orjson"}  # taken where they happen to be
    met = {found.name for room in rooms() for found in imports(room) if not found.own and not found.for_types}
    assert met - optional <= known


@pytest.mark.parametrize("room", ["machine", "retry", "calls", "usage", "turn", "think", "chunks"])
def test_what_decides_has_no_clock_no_log_and_no_way_out(room):
    names = {found.name for found in imports(room) if not found.own}
    assert names.isdisjoint({"time", "logging", "socket", "os", "sys", "subprocess", "http", "urllib", "pathlib"})


def loaded_by(code: str) -> set[str]:
    """The modules that a new process has after it has run ``code``."""
    code = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE.parent
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_front_door_costs_nothing():
    known = "import __future__, importlib, sys; before = set(sys.modules)"
    code = f"{known}; import chatstream; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE.parent
    )
    assert set(done.stdout.split()) == {"chatstream", "chatstream._version"}


@pytest.mark.parametrize(
    "code",
    [
        "from chatstream import Message, Prompt, Tool, aggregate",
        "from chatstream import Client, Provider; Client('openai', model='any'); Client(Provider('a', 'http://a'))",
        "import chatstream.cli",
    ],
)
def test_nothing_loads_a_stranger_before_the_first_request(code):
    assert {name.partition(".")[0] for name in loaded_by(code)}.isdisjoint(STRANGERS)


def test_whoever_reads_bytes_of_their_own_does_without_requests():
    code = "from chatstream import read_events; list(read_events([b'data: [DONE]\\n\\n']))"
    assert {"requests", "urllib3"}.isdisjoint(loaded_by(code))


# ── the public names ────────────────────────────────────────────────────────────────────────────────────────────


def stubbed() -> dict[str, str | None]:
    """The names that the stub gives out, with the room of each."""
    names: dict[str, str | None] = {}
    for node in ast.parse((HOUSE / "__init__.pyi").read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            names.update({alias.asname: node.module for alias in node.names if alias.asname})
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = None
    return names


def test_the_stub_and_the_package_give_out_the_same_names():
    hints_only = {"PromptLike"}  # an alias for annotations
    assert set(stubbed()) - hints_only == set(chatstream.__all__)
    assert len(set(chatstream.__all__)) == len(chatstream.__all__)


@pytest.mark.parametrize("name", chatstream.__all__)
def test_every_public_name_can_be_had_and_is_that_of_its_room(name):
    value = getattr(chatstream, name)
    room = stubbed()[name]
    if room is not None:
        assert value is getattr(importlib.import_module(f"chatstream.{room}"), name)
    assert name in dir(chatstream)


def test_a_name_that_there_is_not_is_refused_by_name():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        chatstream.Nothing  # noqa: B018
    assert not hasattr(chatstream, "__wrapped__")


def test_the_package_says_that_it_is_typed():
    assert (HOUSE / "py.typed").exists()


# ── how the rooms look ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("room", [*rooms(), "__init__"])
def test_no_room_is_too_long(room):
    assert len((HOUSE / f"{room}.py").read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("room", [room for room in rooms() if room not in ("_version", "__main__")])
def test_a_room_opens_with_what_it_does_and_leaves_its_annotations_to_readers(room):
    tree = ast.parse((HOUSE / f"{room}.py").read_text("utf-8"))
    assert ast.get_docstring(tree)
    assert "annotations" in [
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]


@pytest.mark.parametrize("room", rooms())
def test_everything_that_others_may_use_says_what_it_is(room):
    tree = ast.parse((HOUSE / f"{room}.py").read_text("utf-8"))
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py*"), key=str), ids=lambda path: path.name)
def test_no_file_names_the_machine_it_was_written_on(path):
    if path.suffix in (".py", ".pyi"):
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/\w", path.read_text("utf-8"))
