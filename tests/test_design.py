"""What docs/design.md says of the code exists there: files, functions, and the numbers of its rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "chatstream"
PAGE = (ROOT / "docs" / "design.md").read_text("utf-8")


def members() -> dict[str, set[str]]:
    """The attributes that each class of the package defines, by the name of the class."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                own = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                own |= {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}  # type: ignore[union-attr]
                found.setdefault(node.name, set()).update(own)
    return found


def test_every_file_that_the_design_page_names_exists():
    named = set(re.findall(r"`([\w/]+\.py)`", PAGE))
    assert [name for name in sorted(named) if not ((PACKAGE / name).exists() or (ROOT / name).exists())] == []
    assert len(named) > 10


def test_every_method_that_the_design_page_names_exists():
    classes = members()
    named = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", PAGE))
    assert [f"{owner}.{name}" for owner, name in sorted(named) if name not in classes[owner]] == []
    assert len(named) > 15


def test_every_folder_and_file_of_the_package_is_in_the_table_of_the_design_page():
    table = set(re.findall(r"`(\w+)/?`", "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))))
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__", "__main__", "_version"} == table
