"""A model's Markdown, rendered by a real renderer: nothing in it runs, and nothing is loaded."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import computing_at_most

from chatstream._display.markdown import as_entities, harmless

OF_MARKDOWN = {*("p", "em", "strong", "code", "pre", "a", "ul", "ol", "li", "blockquote", "hr", "br"), "h1", "h2"}
ATTRIBUTES = {"href", "class", "title", "start"}
HARMFUL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <svg onload=alert(1)> b",
    "<!-- --><b onclick=alert(1)>",
    "</div></details><iframe src='javascript:alert(1)'>",
    "![picture](http://example.org/?secret)",
    "![picture][a]\n\n[a]: http://example.org/?secret",
    "[x](javascript:alert(1))",
    "[x]( JavaScript:alert(1))",
    "[x](< javascript:alert(1)>)",
    "[x](javascript\\:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](vbscript:a) [y](data:text/html,<script>)",
    "[x][a]\n\n[a]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "> ```\n<script>",
    "$<script>$ \\(<script>\\) \\[<b>\\]",
]
CODE = [
    "`<script>`",
    "``a ` <script>``",
    "`a\n<script>`",
    "```html\n<script>alert(1)</script>\n```",
    "$$\n```\n$$\n<script>\n```",
    "~~~\n<script>\n",
    "- a\n\n      ```\n      <script>\n      ```",
]
PIECES = [
    *("<script>", "</script>", "<img src=x onerror=a>", "script>", "b", "< ", "<", "<!--", "-->", "<?", ">"),
    *("`", "``", "```", "~~~", "\n", "\n\n", "    ", "\t", "- ", "> ", "1. ", "=", "#", "*", "a"),
    *("$", "$$", "\\", "\\(", "\\)", "[x]", "(", ")", "!", "[a]: ", "[x](", "]("),
    *("javascript:a", "javascript\\:x", "&#106;avascript:x", "&lt;", "&#60;", "&"),
]


def rendered(markdown: str) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """The tags with their attributes, and the text, of what markdown-it makes of it."""
    renderer = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True})
    renderer.validateLink = lambda url: True  # as in JupyterLab, which leaves that to the sanitizer
    page = renderer.render(markdown)
    tags, texts = [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))  # type: ignore[method-assign]
    parser.handle_data = texts.append  # type: ignore[method-assign]
    parser.feed(page)
    return tags, "".join(texts)


def is_harmless(tag: str, attributes: dict[str, Any]) -> bool:
    target = (attributes.get("href") or "").strip().lower()
    return tag in OF_MARKDOWN and attributes.keys() <= ATTRIBUTES and not target.startswith(("java", "vb", "data"))


@pytest.mark.parametrize("markdown", HARMFUL)
def test_nothing_that_a_model_writes_becomes_a_tag_a_picture_or_a_link_to_a_script(markdown):
    assert not all(is_harmless(*tag) for tag in rendered(markdown)[0])
    assert [tag for tag in rendered(harmless(markdown))[0] if not is_harmless(*tag)] == []


@pytest.mark.parametrize("markdown", CODE)
def test_code_in_which_other_renderers_may_see_tags_has_none(markdown):
    assert [tag for tag in rendered(harmless(markdown))[0] if not is_harmless(*tag)] == []
    assert "<s" not in harmless(markdown)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_composition_of_signs_becomes_anything_but_markdown(markdown):
    tags, _ = rendered(harmless(markdown))
    assert [tag for tag in tags if not is_harmless(*tag)] == []


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("Use `vector<int>` and **AT&T**.", "Use vector<int> and AT&T."),
        ("a <b> c &amp; d", "a <b> c &amp; d"),
        ("```cpp\nvector<int> a;\n\n  a & b;\n```", "vector<int> a;\n\n  a & b;"),
        ("```python\nif a < b:\n    pass\n```", "if a < b:\n    pass\n"),
        ("`a` and ``b ` <c>``", "a and b ` <c>"),
        ("![a](http://example.org/a.png)", "!a"),
    ],
)
def test_what_is_displayed_is_what_the_model_wrote(markdown, text):
    assert rendered(harmless(markdown))[1].strip("\n") == text.strip("\n")


@pytest.mark.parametrize(
    "markdown",
    [
        "# Title\n\n*a* and [b](http://example.org) with `code`, 3 < 4 & 5 > 2.\n\n- one\n- two\n",
        "```python\nprint(1 < 2)\n```\nafter",
        "$$\\begin{matrix} a & b \\\\ c & d \\end{matrix}$$ and $x < y$",
        "~~~\ncode\n~~~",
        "",
    ],
)
def test_markdown_without_harm_is_not_touched(markdown):
    assert harmless(markdown) == markdown


def test_a_comparison_in_mathematics_gets_a_blank_which_is_nothing_there():
    assert harmless("$x<y$, \\(a<b\\), \\[c<d\\] and $$e\n<f$$") == "$x< y$, \\(a< b\\), \\[c< d\\] and $$e\n< f$$"


def test_a_block_of_code_that_is_still_open_is_closed():
    assert harmless("```py\na = 1") == "```py\na = 1\n```"
    assert harmless("  ~~~~\n<b>\n~~~") == "  <pre><code>&#60;b&#62;&#10;&#126;&#126;&#126;</code></pre>"


def test_as_entities_leaves_nothing_to_markdown_or_html():
    assert rendered(as_entities("*a* <b>\n\n- c `d` _e_ $f$"))[1].strip() == "*a* <b>\n\n- c `d` _e_ $f$"
    assert "\n" not in as_entities("a\nb")


@pytest.mark.parametrize("piece", ["$$", "`a``", "\\(", "\\[", "![[", "```\n", "]( ", "](   <", "&amp;", "<b", "$a "])
def test_the_time_grows_with_the_length_of_the_text_and_not_faster(piece):
    with computing_at_most(2.0):
        harmless(piece * (50_000 // len(piece)))
