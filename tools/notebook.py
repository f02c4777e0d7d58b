"""Execute a notebook in a kernel of this Python: its cells → the same notebook with their outputs.

    python tools/notebook.py docs/notebook.ipynb            writes the outputs back; cells may write files beside it
    python tools/notebook.py docs/notebook.ipynb --to FILE  writes them to another file, and files beside that

Rules:
- It needs nbclient and ipykernel, and is run in an environment that has them (`make notebook`, `tests/e2e/hosts`).
- What differs in each run and says nothing is left out: times of execution, ids of displays. Updates of a display are
  what is shown at last.
- A cell that raises ends it with an error.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import nbformat  # type: ignore[import-not-found,unused-ignore]
from nbclient import NotebookClient  # type: ignore[import-not-found,unused-ignore]

SECONDS = 120  # that a cell may take


def executed(source: Path, folder: Path) -> Any:
    """The notebook with new outputs, made in ``folder``."""
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--to", type=Path, metavar="FILE", help="write here instead")
    options = parser.parse_args()
    to = (options.to or options.notebook).resolve()
    nbformat.write(executed(options.notebook, to.parent), to)


if __name__ == "__main__":
    main()
