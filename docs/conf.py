"""How Sphinx builds these pages: ``make docs``; a warning is an error.

Besides the usual settings:
- Public names are links to the reference wherever a page mentions them, the first time in each section.
- The pages in `COPIED` show a file of the root of the repository.
- A signature names the unions in `UNIONS` instead of spelling them out.
- Long names may be broken at their marks, and figures in tables are not broken.
- The how-to pages come in the order of their index.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

import chatstream
from chatstream import testing

ROOT = Path(__file__).resolve().parents[1]
FORGE = "https://github.com/chatstream-py/chatstream-py"

project = "chatstream"
author = copyright = "The chatstream authors"
release = version = chatstream.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "py:obj"
myst_heading_anchors = 3

# Types stand in the signatures, a parameter in a line, and link to the classes that they name.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 96

html_theme = "furo"
html_title = f"chatstream {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_use_index = False  # nothing leads to the index; the search finds every name
html_domain_indices = False
html_search_scorer = str(ROOT / "docs" / "scorer.js")
html_theme_options = {
    "source_repository": FORGE,
    "source_branch": "main",
    "source_directory": "docs/",
    "navigation_with_keys": True,
}
# Commands are copied without their prompt and output; what a program prints has no button.
copybutton_prompt_text = "$ "
copybutton_selector = ", ".join(
    [
        *(f".highlight-{language} pre" for language in ("python", "console", "toml", "json")),
        ":not(div) + .highlight-text pre",
    ]
)


# ── names that link to the reference ────────────────────────────────────────────────────────────────────────────

# A text may mean something else by these, which are also methods or commands. `chatstream.stream` is a link.
AMBIGUOUS = {"__version__", "stream", "collect", "aggregate", "doctor"}
WRITTEN = re.compile(r"(chatstream\.(?:testing\.|telemetry\.)?)?(\w+)(?:\.\w+)?(\(.*\))?$")


def target_of(text: str) -> str | None:
    """The name in the reference that a literal means; None if it means none."""
    found = WRITTEN.match(text)
    if not found:
        return None
    prefix, name, call = found.groups()
    if prefix == "chatstream.telemetry.":
        return text
    if name in chatstream.__all__ and prefix != "chatstream.testing.":
        return f"chatstream.{name}" if prefix or name not in AMBIGUOUS else None
    # functions of scripts have the names of ordinary words: `end()` is a link, `end` is not
    if name in testing.__all__ and (prefix or call or name[0].isupper()):
        return f"chatstream.testing.{name}"
    return None


def link_names(app: Sphinx, document: nodes.document) -> None:
    """Make a link of the first mention of each public name in a section."""
    for section in [document, *document.findall(nodes.section)]:
        seen: set[str] = set()
        for literal in list(section.findall(nodes.literal)):
            target = target_of(literal.astext())
            if target and target not in seen and _is_plain(literal, section):
                seen.add(target)
                options = {"refdomain": "py", "reftype": "obj", "reftarget": target}
                link = pending_xref(
                    "", refdoc=app.env.docname, refexplicit=True, refwarn=False, **options
                )
                literal.replace_self(link)
                link += literal


def _is_plain(literal: nodes.literal, section: nodes.Element) -> bool:
    """Whether a name stands in the running text of a section itself, outside links, headings and signatures."""
    parent = literal.parent
    while not isinstance(parent, (nodes.section, nodes.document)):
        if isinstance(
            parent, (nodes.reference, pending_xref, nodes.title)
        ) or parent.tagname.startswith("desc"):
            return False
        parent = parent.parent
    return parent is section


UNIONS = {
    stringify_annotation(getattr(chatstream, name), "smart"): f"~chatstream.{name}"
    for name in ("PromptLike", "ResponseEvent", "ResponseItem")
}
MADE = r"<factory>|<dataclasses\._MISSING_TYPE object[^>]*>|(?<= = )[A-Z]\w+\(.*?\)"


def tidy_signature(app: Sphinx, *found: Any) -> tuple[str | None, str | None]:
    """Leave out private fields, write ``...`` for a default value that is made, and the names of `UNIONS`."""
    signature, returned = found[-2:]
    if signature:
        signature = re.sub(MADE, "...", signature)
        signature = re.sub(r", _\w+: [^=]+ = \(\)", "", signature)
    for union, name in UNIONS.items():
        signature, returned = (text and text.replace(union, name) for text in (signature, returned))
    return signature, returned


def hide_docs_of_aliases(app: Sphinx, what: str, name: str, *found: Any) -> None:
    """Leave out what an alias inherits: the docstring of Python's own class of unions or of sequences."""
    if what == "data":
        found[-1].clear()


# ── where a line may be broken ──────────────────────────────────────────────────────────────────────────────────

LONG = 24  # characters of a name that may be broken, and at most of a cell of figures


def place_breaks(app: Sphinx, document: nodes.document) -> None:
    """Let a long name be broken after a mark, and ``9.6 (1.01 ×)`` in a cell before its bracket alone."""
    for literal in list(document.findall(nodes.literal)):
        pieces = re.split(r"(?<=[_/.,=(])(?=\w)", literal.astext())
        if len(literal.astext()) > LONG and len(pieces) > 1:
            literal["classes"].append("long")
            literal.clear()
            literal.append(nodes.Text(pieces[0]))
            for piece in pieces[1:]:
                literal.extend([nodes.raw("", "<wbr>", format="html"), nodes.Text(piece)])
    for entry in document.findall(nodes.entry):
        if re.match(r"\d", entry.astext()) and len(entry.astext()) <= LONG:
            for text in list(entry.findall(nodes.Text)):
                kept = re.sub(r" (?!\()", "\N{NO-BREAK SPACE}", text)
                text.parent.replace(text, nodes.Text(kept))


# ── pages that show a file of the root ──────────────────────────────────────────────────────────────────────────

COPIED = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "security": "SECURITY.md"}


def copy_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the text of its file into a copied page. Links to other pages stay inside the site."""
    if docname in COPIED:
        app.env.note_dependency(str(ROOT / COPIED[docname]))
        source[0] = re.sub(
            r"\]\(([^)#:]+)(?=[#)])", _link, (ROOT / COPIED[docname]).read_text("utf-8")
        )


def _link(match: re.Match[str]) -> str:
    target = match[1]
    page = next((name for name, file in COPIED.items() if file == target), None)
    if page:
        return f"]({page}.md"
    return (
        f"]({target.removeprefix('docs/')}"
        if target.startswith("docs/")
        else f"]({FORGE}/blob/main/{target}"
    )


# ── the how-to pages ────────────────────────────────────────────────────────────────────────────────────────────


def list_how_to(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the pages into the tree, in the order in which their index links to them."""
    if docname == "howto/index":
        listed = re.findall(r"\]\(([\w-]+)\.md\)", source[0])
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *listed, "```", ""])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", copy_page)
    app.connect("source-read", list_how_to)
    app.connect("doctree-read", link_names)
    app.connect("doctree-read", place_breaks)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-process-docstring", hide_docs_of_aliases)
    return {"parallel_read_safe": True}
