"""The site of the documentation in a real browser: what fits, what is listed, what can be read, and what is found.

The site is built once, and one browser loads all of its pages at three widths. ``site.js`` measures them there, and
puts the questions of `ANSWERS` to the search of the site.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from browsers import browser, start
from environments import ROOT, Environments

import chatstream
from chatstream import testing

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
GUIDES = ("events", "conversation", "turns", "errors", "providers", "reliability", "web", "logging", "quickstart")
WIDTHS = {"desktop": 1440, "tablet": 1100, "telephone": 390}  # CSS pixels
BUILD_SECONDS = 120.0
REPORT_SECONDS = 60.0  # until a browser has started and measured a page
CONTRAST = 4.5  # of text, WCAG 2.2
LETTERS = 7.5  # CSS pixels
CHARACTERS = 100  # of code, in the column of a desktop

# What newcomers ask → the pages that answer it, of which one is among the first three hits.
ANSWERS = {
    "history": ("quickstart", "conversation", "howto/keep-the-history"),
    "flask": ("web",),
    "django": ("web",),
    "fastapi": ("web",),
    "timeout": ("reliability", "errors", "howto/limit-the-time"),
    "parallel": ("explanation/synchronous", "howto/ask-in-a-thread-pool", "howto/many-prompts"),
    "cost": ("howto/count-tokens-and-cost",),
    "image": ("conversation", "howto/send-an-image"),
    "cancel": ("reliability", "howto/stop-after-n-words"),
    "proxy": ("howto/use-a-proxy-or-a-private-ca",),
    "test": ("api", "howto/test-without-a-server"),
    "resume": ("howto/resume-a-run", "howto/write-answers-to-a-file"),
    "tool": ("quickstart", "conversation", "howto/write-the-tool-loop", "howto/call-tools"),
    "json": ("howto/structured-answers",),
    "azure": ("howto/use-azure",),
    "entra": ("howto/use-azure",),
    "ollama": ("howto/use-a-local-model",),
    "lm studio": ("howto/use-a-local-model",),
    "llama.cpp": ("howto/use-a-local-model",),
    "vllm": ("howto/use-a-local-model",),
    "spinner": ("events", "howto/show-a-spinner"),
    "retry": ("explanation/retries", "reliability", "howto/notice-retries"),
    "stop": ("turns", "reliability", "howto/stop-after-n-words"),
    "log": ("logging",),
    "trace": ("logging",),
    "streamlit": ("howto/streamlit",),
    "gradio": ("howto/gradio",),
    "celery": ("reliability", "howto/celery"),
    "asyncio": ("explanation/synchronous", "howto/use-from-asyncio"),
    "certificate": ("howto/use-a-proxy-or-a-private-ca",),
    "rate limit": ("reliability", "explanation/retries", "howto/many-prompts"),
    "pydantic": ("conversation", "turns", "howto/structured-answers"),
    "fallback": ("howto/fall-back",),
    "replay": ("howto/record-and-replay", "howto/keep-and-replay"),
    "record": ("howto/record-and-replay", "howto/record-a-model-for-tests"),
    "notebook": ("howto/notebooks",),
    "system message": ("howto/set-the-parameters", "howto/keep-the-history", "conversation"),
    "temperature": ("howto/set-the-parameters",),
    "max_tokens": ("howto/set-the-parameters",),
    "reasoning": ("howto/show-the-reasoning",),
    "thinking": ("howto/show-the-reasoning",),
    "429": ("errors",),  # numbers are found only as entries of the index
    "thread-safe": ("howto/ask-in-a-thread-pool", "reliability"),
}


class Handler(SimpleHTTPRequestHandler):
    """Serves the site, the page with ``site.js`` and its plan; takes the reports."""

    def __init__(self, plan: dict[str, Any], reports: Queue[dict[str, Any]], *request: Any, **options: Any) -> None:
        self._plan, self._reports = plan, reports
        super().__init__(*request, **options)

    def do_GET(self) -> None:
        script = Path(__file__).with_name("site.js").read_bytes()
        made = {
            "/measure": ("text/html", b"<!doctype html><meta charset=utf-8><script type=module>%b</script>" % script),
            "/plan": ("application/json", json.dumps(self._plan).encode()),
        }
        if self.path in made:
            self._send(*made[self.path])
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self._reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send("text/plain", b"")

    def _send(self, media_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Says nothing of a frame that is removed while its pictures are sent."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(environment: Environments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site: that of CHATSTREAM_SITE, or a new one. A warning of Sphinx is an error."""
    if built := os.environ.get("CHATSTREAM_SITE"):
        return Path(built)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = setup["options.extras_require"]["docs"].split()
    folder = tmp_path_factory.mktemp("site")
    command = [str(environment("docs", *packages)), "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


@pytest.fixture(scope="module")
def reports(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """What the browser has found on each page, and for each question."""
    queue: Queue[dict[str, Any]] = Queue()
    plan = {"pages": [f"/{page}.html" for page in PAGES], "widths": WIDTHS, "questions": list(ANSWERS)}
    server = Server(("127.0.0.1", 0), partial(Handler, plan, queue, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/measure"
    kill = start(browser(), tmp_path_factory.mktemp("profile"), url, "--window-size=1600,1000")
    try:
        yield list(iter(lambda: queue.get(timeout=REPORT_SECONDS), {"done": True}))
    finally:
        kill()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def pages(reports: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the browser has found on each page."""
    found = {each["url"][1:-5]: each for each in reports if "url" in each}
    assert {page: each["error"] for page, each in found.items() if "error" in each} == {}
    assert sorted(found) == PAGES
    return found


@pytest.fixture(scope="module")
def hits(reports: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The pages that the search finds for each question, the best first."""
    return {each["question"]: [_page(href) for href, _ in each["hits"]] for each in reports if "question" in each}


def _page(href: str) -> str:
    return href.partition("#")[0].partition("?")[0].removesuffix(".html")


def test_the_column_of_a_page_takes_a_hundred_characters_of_code_on_a_desktop(pages):
    characters = {page: each["widths"]["desktop"]["characters"] for page, each in pages.items()}
    assert {page: count for page, count in characters.items() if count < CHARACTERS} == {}


def test_no_line_of_code_is_wider_than_its_column_on_a_desktop(pages):
    wide = {page: each["widths"]["desktop"]["wide"] for page, each in pages.items()}
    assert {page: lines for page, lines in wide.items() if lines} == {}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_to_be_scrolled_sideways(pages, width, theme):
    found = {page: each["widths"][width] for page, each in pages.items()}
    assert {page: each for page, each in found.items() if each[theme] or each["sideways"] or each["outside"]} == {}


def test_a_page_with_sections_lists_them(pages):
    missing = {}
    for page, each in pages.items():
        found = each["widths"]["desktop"]
        missing[page] = [heading for heading in found["headings"] if heading not in found["listed"]]
    assert {page: headings for page, headings in missing.items() if headings} == {}
    assert sum(len(each["widths"]["desktop"]["headings"]) for each in pages.values()) > 100


def test_each_page_leads_to_the_page_before_or_after_it(pages):
    assert [page for page, each in pages.items() if not each["widths"]["desktop"]["related"]] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_a_contrast_of_at_least_four_and_a_half(pages, theme):
    faint = {page: each["legibility"][theme]["faint"] for page, each in pages.items()}
    assert {page: found for page, found in faint.items() if found} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_code_is_underlined_as_if_it_were_a_link(pages, theme):
    underlined = {page: each["legibility"][theme]["underlined"] for page, each in pages.items()}
    assert {page: found for page, found in underlined.items() if found} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_texts_of_pictures_can_be_read_on_a_telephone(pages, theme):
    texts = [(page, *text) for page, each in pages.items() for text in each["lettering"][theme]]
    assert [(page, text) for page, text, contrast, size in texts if contrast < CONTRAST or size < LETTERS] == []
    assert len(texts) > 100


@pytest.mark.parametrize("width", WIDTHS)
def test_no_cell_of_a_table_is_too_narrow_for_its_text(pages, width):
    squeezed = {page: each["widths"][width]["squeezed"] for page, each in pages.items()}
    assert {page: cells for page, cells in squeezed.items() if cells} == {}


def test_no_table_has_to_be_scrolled_on_a_desktop(pages):
    scrolled = {page: each["widths"]["desktop"]["scrolled"] for page, each in pages.items()}
    assert {page: tables for page, tables in scrolled.items() if tables} == {}


@pytest.mark.parametrize("width", WIDTHS)
def test_no_heading_is_followed_by_an_empty_line(pages, width):
    lengthened = {page: each["widths"][width]["lengthened"] for page, each in pages.items()}
    assert {page: headings for page, headings in lengthened.items() if headings} == {}


def test_the_buttons_in_the_bar_of_a_telephone_stand_apart(pages):
    assert [page for page, each in pages.items() if each["widths"]["telephone"]["crowded"]] == []


def test_each_parameter_in_the_reference_has_its_type(site):
    page = (site / "api.html").read_text("utf-8")
    parameters = [
        re.sub("<.*?>", "", each) for each in re.findall(r'<em class="sig-param">(.*?)</em>', page, re.DOTALL)
    ]
    assert [each for each in parameters if ":" not in each and each not in ("*", "/")] == []
    assert len(parameters) > 200
    assert "object at 0x" not in page


def test_each_link_within_the_site_leads_to_a_place_on_a_page(site):
    texts = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in texts.items()}

    def is_there(page: str, href: str) -> bool:
        target, place = urldefrag(unquote(urljoin(page, unescape(href))))
        return (site / target).is_file() and (not place or place in places[target])

    links = [
        (page, href)
        for page, text in texts.items()
        for href in re.findall(r'<a [^>]*href="(?!https?:|mailto:)([^"]*)"', text)
    ]
    assert [link for link in links if not is_there(*link)] == []
    assert len(links) > 1000


def test_no_two_pages_have_the_same_title(site):
    titles = [re.search("<title>(.*?)</title>", (site / f"{page}.html").read_text("utf-8")) for page in PAGES]
    names = [unescape(title[1]) for title in titles if title]
    assert len(names) == len(set(names)) == len(PAGES)


@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_leads_to_the_names_in_the_reference(site, page):
    linked = re.findall(r'href="[./]*api\.html#chatstream\.(\w+)', (site / f"{page}.html").read_text("utf-8"))
    assert set(linked) & set(chatstream.__all__)


NAMES = [f"chatstream.{name}" for name in chatstream.__all__ if name != "__version__"]
NAMES += [f"chatstream.testing.{name}" for name in testing.__all__] + ["chatstream.telemetry.instrument"]


def test_every_public_name_is_in_the_reference(site):
    described = set(re.findall(r'<dt [^>]*id="(chatstream\.[\w.]+)"', (site / "api.html").read_text("utf-8")))
    assert [name for name in NAMES if name not in described] == []


def test_a_guide_leads_to_every_public_name(site):
    guides = [page for page in PAGES if page not in ("api", "changelog", "contributing", "security", "design")]
    text = "".join((site / f"{page}.html").read_text("utf-8") for page in guides)
    linked = set(re.findall(r'href="[./]*api\.html#(chatstream\.[\w.]+)"', text))
    assert [name for name in NAMES if name not in linked] == []


@pytest.mark.parametrize("question", ANSWERS)
def test_the_search_shows_the_answer_to_a_question_among_its_first_three_hits(hits, question):
    assert set(hits[question][:3]) & set(ANSWERS[question]), hits[question]
