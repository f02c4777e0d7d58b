"""The import rule by folder, the cost of importing, and rules for source files."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chatstream

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "chatstream"


def _load(path: Path) -> Any:
    """The module at a path, because docs is not a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look up their module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


architecture = _load(ROOT / "docs" / "architecture.py")
modules, imports, part_of, path_of, tree_of = (
    architecture.modules,
    architecture.imports,
    architecture.part_of,
    architecture.path_of,
    architecture.tree_of,
)

LAYER_OF = {name: number for number, row in enumerate(reversed(architecture.ROWS)) for name in row} | {"__main__": 99}
THIRD_PARTY = {
    "requests": {"_http"},
    "urllib3": {"_http"},
    "sseclient": {"_decode"},
}
OPTIONAL = {
    "tomli",
    "tomllib",
    "pydantic",
    "jiter",
    "orjson",
    "socks",
    "opentelemetry",
    "rich",
    "markdown_it",
    "prompt_toolkit",
    "shtab",
    "pytest",
    "matplotlib",
    "IPython",
}  # used where they are installed
SETTINGS = {"Client", "Provider"}  # classes that may be longer, because each setting takes a line
LONGEST_MODULE, LONGEST_FUNCTION, LONGEST_CLASS = 300, 35, 150  # lines
PURE_PARTS = ("_decode", "_encode", "types")  # no I/O, no clock of their own, no logging
PURE_MODULES = ("_retries.retry", "_retries.pace")


# ── imports between modules ─────────────────────────────────────────────────────────────────────────────────────


def test_every_module_belongs_to_a_layer():
    assert {part_of(module) for module in modules()} <= LAYER_OF.keys()


@pytest.mark.parametrize("module", [module for module in modules() if module != "__init__"])
def test_a_module_imports_only_from_the_layers_below_it(module):
    own = part_of(module)
    for found in (each for each in imports(module) if each.own):
        target = part_of(found.name)
        allowed = target == own or LAYER_OF[target] < LAYER_OF[own]
        assert allowed or (module, found.name) in architecture.UPWARDS, found


@pytest.mark.parametrize("file", architecture.PICTURES)
def test_each_diagram_in_the_docs_is_the_one_generated_from_the_code(file):
    drawn = (ROOT / "docs" / file).read_text(encoding="utf-8")
    assert drawn == architecture.PICTURES[file](), "run: python docs/architecture.py"


def test_modules_have_no_circular_imports():
    waiting = {
        module: {i.name for i in imports(module) if i.own and (module, i.name) not in architecture.UPWARDS} - {module}
        for module in modules()
        if module != "__init__"
    }
    while waiting:
        free = {module for module, needs in waiting.items() if not needs & waiting.keys()}
        assert free, f"circular imports among {sorted(waiting)}"
        waiting = {module: needs for module, needs in waiting.items() if module not in free}


@pytest.mark.parametrize("folder", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
def test_the_init_module_of_a_folder_has_a_docstring_and_imports_nothing(folder):
    assert ast.get_docstring(tree_of(folder))
    if folder != "testing":  # a public package whose names are imported from here
        assert imports(folder) == ()


@pytest.mark.parametrize("library", THIRD_PARTY)
def test_a_third_party_library_is_imported_in_one_folder_only(library):
    folders = {
        part_of(i.module) for m in modules() for i in imports(m) if i.name == library and not (i.own or i.for_types)
    }
    assert folders == THIRD_PARTY[library]


def test_only_listed_third_party_libraries_are_imported():
    names = {i.name for module in modules() for i in imports(module) if not (i.own or i.for_types)}
    assert names - OPTIONAL <= {*THIRD_PARTY, *sys.stdlib_module_names, "chatstream"}


@pytest.mark.parametrize("module", [m for m in modules() if part_of(m) in PURE_PARTS or m in PURE_MODULES])
def test_a_pure_module_imports_no_clock_no_logging_and_no_io(module):
    names = {found.name for found in imports(module) if not (found.own or found.for_types)}
    assert names.isdisjoint({"time", "logging", "socket", "os", "sys", "subprocess", "http", "urllib", "pathlib"})


# ── the cost of importing ───────────────────────────────────────────────────────────────────────────────────────


def run(code: str, *options: str) -> list[str]:
    """The fields of the last line that a new process prints."""
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.splitlines()[-1].split()


def loaded_by(code: str) -> set[str]:
    """The modules that a new process has loaded after it has run ``code``."""
    return set(run(f"import sys; {code}; print(*sys.modules)", "-W", "error"))


def test_importing_the_package_loads_no_other_module():
    preamble = "import __future__, importlib, os, sys; before = set(sys.modules)"
    loaded = run(f"{preamble}; import chatstream; print(*set(sys.modules) - before)", "-S")
    assert set(loaded) == {"chatstream", "chatstream._runtime", "chatstream._runtime.imports", "chatstream._version"}


@pytest.mark.parametrize(
    "code",
    [
        "from chatstream import Message, Prompt, Tool, aggregate",
        "from chatstream import Client, Provider; Client('openai', model='any'); Client(Provider('a', 'http://a'))",
        "import chatstream.cli.main",
    ],
)
def test_no_third_party_library_is_loaded_before_the_first_request(code):
    assert {name.partition(".")[0] for name in loaded_by(code)}.isdisjoint(THIRD_PARTY)


def test_read_events_does_not_load_requests():
    code = "from chatstream import read_events; list(read_events([b'data: [DONE]\\n\\n']))"
    assert {"requests", "urllib3"}.isdisjoint(
        loaded_by(f"import contextlib\nwith contextlib.suppress(Exception): exec({code!r})\npass")
    )


# ── source files ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", modules())
def test_no_module_is_too_long(module):
    assert len(path_of(module).read_text("utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("module", modules())
def test_no_function_and_no_class_is_too_long(module):
    too_long = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            most = LONGEST_CLASS if isinstance(node, ast.ClassDef) else LONGEST_FUNCTION
            body = node.body[1:] if ast.get_docstring(node) else node.body
            first = body[0].lineno if isinstance(node, ast.FunctionDef) and body else node.lineno
            if (node.end_lineno or 0) - first + 1 > most and node.name not in SETTINGS:
                too_long.append(node.name)
    assert too_long == []


@pytest.mark.parametrize("module", [module for module in modules() if module not in ("_version", "__main__")])
def test_every_module_has_a_docstring(module):
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize("module", modules())
def test_every_public_class_has_a_docstring(module):
    undocumented = [
        node.name
        for node in tree_of(module).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert undocumented == []


@pytest.mark.parametrize("module", modules())
def test_no_module_contains_an_absolute_path_of_a_machine(module):
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/\w", path_of(module).read_text("utf-8"))


# ── the public names ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", chatstream.__all__)
def test_every_public_name_can_be_imported_and_is_listed_by_dir(name):
    assert getattr(chatstream, name) is not None
    assert name in dir(chatstream)


def test_an_unknown_name_raises_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        chatstream.Nothing  # noqa: B018
    assert not hasattr(chatstream, "__wrapped__")


def test_the_package_has_a_py_typed_marker():
    assert (PACKAGE / "py.typed").exists()
