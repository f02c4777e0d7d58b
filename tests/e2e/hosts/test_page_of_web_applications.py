"""The applications on the page docs/web.md, in real web servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from environments import ROOT
from support import REST, THREE, WORDS
from web_hosts import GUNICORN, Browser, WebHost

from chatstream.testing import cut, head

HOSTS = {
    "Flask": [*GUNICORN, "sync", "page:app"],
    "Django": [*GUNICORN, "sync", "page:application"],
    "FastAPI": ["-m", "uvicorn", "--port", "@port", "page:app"],
}
PAGE = (ROOT / "docs" / "web.md").read_text("utf-8")
PROGRAMS = dict(re.findall(r"<!-- host: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


def test_every_application_on_the_page_is_run():
    assert PROGRAMS.keys() == HOSTS.keys()


@pytest.mark.parametrize("name", HOSTS)
def test_an_application_on_the_page_passes_answers_and_errors_on(name, environment, serve, tmp_path, monkeypatch):
    server = serve([head(), *THREE, *REST], [head(), *THREE, cut()])
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-page")
    Path(tmp_path, "page.py").write_text(PROGRAMS[name], "utf-8")
    host = WebHost(HOSTS[name], environment("web"), tmp_path)
    try:
        browsers = [Browser(host.port, "GET", "/answer?question=Open%3F") for _ in range(2)]
        whole, broken = sorted(
            (browser.events() for browser in browsers), key=lambda events: events[-1][0], reverse=True
        )
    finally:
        host.close()
    texts = [("message", {"text": word}) for word in WORDS]
    assert whole == [*texts, ("message", "[DONE]")]
    assert broken[:-1] == texts
    assert broken[-1][1]["type"] == "StreamTruncated"
    assert browsers[0].response.getheader("X-Accel-Buffering") == "no"
    assert server.requests[0].json["messages"][-1]["content"] == "Open?"
