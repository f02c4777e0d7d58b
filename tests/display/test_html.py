"""What notebooks show of turns, timings, usages, providers and reports."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from support import KEY

from chatstream import (
    ClientUsage,
    CustomToolCall,
    FunctionCall,
    Message,
    Provider,
    Reasoning,
    Report,
    Timing,
    TokenUsage,
    Turn,
)
from chatstream.types.parts import OutputText, Refusal

BAD = "<script>alert('1')</script>&amp;\"\n  two"
USAGE = TokenUsage(1234, 4, 30, None, 1264, {"a": BAD}, 0.5)
TIMING = Timing(0.1, 0.2, 4.0, 0.3, 95.2, 0.3, 12000, 2, True, ((0.2, 100), (3.0, 12000)))


def said(text: str, refusal: str = "") -> Message:
    return Message("assistant", [OutputText(text), *([Refusal(refusal)] if refusal else [])])


TURN = Turn((said("Hello."),), "stop", USAGE, "c1", "m1", "completed", TIMING, "stop")
EVIL = Turn(
    (
        *(Reasoning(BAD), said(BAD, BAD)),
        *(FunctionCall(BAD, BAD, "c1"), CustomToolCall(BAD, BAD, "c2")),
    ),
    *(BAD, USAGE, BAD, BAD, "completed", TIMING),
)
VALUES = {
    "turn": TURN,
    "turn of a hostile model": EVIL,
    "empty turn": Turn(),
    "timing": TIMING,
    "empty timing": Timing(),
    "usage": USAGE,
    "empty usage": TokenUsage(),
    "usage of a client": ClientUsage(3, 1, USAGE),
    "provider": Provider(BAD, "http://127.0.0.1/v1", env_key="A", model=BAD, http_headers={"X-A": "<b>"}),
    "report": Report(BAD, {BAD: BAD}, {"model": BAD}),
}


class Page(HTMLParser):
    """The tags of a page, its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        if not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1:] == [tag]:  # not after <…/>
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(value: Any) -> Page:
    return Page(value._repr_html_())


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_nothing_in_a_value_becomes_a_tag_and_every_tag_is_closed(value):
    page = page_of(value)
    known = {*("table", "caption", "b", "tbody", "tr", "th", "td"), *("div", "details", "summary", "code")}
    assert set(page.tags) <= known | {"svg", "path", "rect", "text"}
    assert page.open == []
    assert not any(name.startswith("on") or name in ("href", "src") for name in page.attributes)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_value_brings_colours_that_a_light_or_dark_theme_would_hide(value):
    html = value._repr_html_()
    assert "<style" not in html
    assert "color:" not in html


def test_texts_of_a_model_are_shown_as_they_are():
    page = page_of(EVIL)
    assert page.text.count(BAD) >= 5
    assert page.tags.count("details") == 1


def test_a_turn_shows_its_text_and_a_line_of_model_end_tokens_and_times():
    text = page_of(TURN).text
    assert text == f"Hello.m1 · completed (stop) · 1,234 tokens in, 30 tokens out · {TIMING}"
    assert page_of(Turn()).text == "incomplete"
    assert page_of(Turn(token_usage=TokenUsage(output_tokens=2))).text == "incomplete · 2 tokens out"


def test_a_turn_shows_its_calls_as_code_and_says_which_were_cut_off():
    calls = (FunctionCall("f", '{"a": 1}', "c1"), FunctionCall("g", '{"a', "c2", "incomplete"))
    text = page_of(Turn((*calls, CustomToolCall("sh", "ls -l", "c3")))).text
    assert text == 'f({"a": 1})g({"a)  # cut offsh(\'ls -l\')incomplete'


def test_a_turn_with_several_choices_shows_each():
    choices = (Turn((said("One."),)), Turn((said("Two."),)))
    assert page_of(Turn((said("One."),), _choices=choices)).text == "Choice 1One.Choice 2Two.incomplete"


def test_a_timing_shows_what_is_known_and_a_picture_where_there_are_arrivals():
    page = page_of(TIMING)
    for shown in ("headers100 ms", "first event200 ms", "total4.00 s", "speed95.2 tokens/s", "read12.0 kB", "retries2"):
        assert shown in page.text
    assert "svg" in page.tags
    assert page_of(Timing()).text == "Timingread0 bytesretries0connectionnew"
    assert "svg" not in page_of(Timing()).tags


def test_usages_show_what_servers_reported():
    assert page_of(USAGE).text == "Tokensinput1,234cached input4output30total1,264cost0.5"
    assert page_of(ClientUsage(3, 1, TokenUsage(2, cost=0.1))).text == "Usagecalls3retries1input tokens2cost0.1"


def test_a_provider_shows_what_its_repr_shows_and_no_secret():
    header = {"X-Api-Key": "sk-header-secret", "X-Plain": "plain-value"}
    provider = Provider("own", f"http://127.0.0.1/v1?key={KEY}", api_key=KEY, http_headers=header, model="m1")
    html = provider._repr_html_()
    assert not any(secret in html for secret in (KEY, "sk-header-secret", "plain-value"))
    page = Page(html)
    assert (
        page.text
        == f"Providername'own'base_url'http://127.0.0.1/v1?***'http_headers{_dict(provider)}api_key***model'm1'"
    )


def _dict(provider: Provider) -> str:
    return repr(provider).partition("http_headers=")[2].partition("}")[0] + "}"


def test_a_report_shows_its_findings_and_the_advised_settings():
    report = Report("http://127.0.0.1/v1", {"streaming": "yes"}, {"stream_usage": False})
    assert page_of(report).text == "http://127.0.0.1/v1streamingyesadvisedstream_usage=False"
    assert page_of(Report("u")).text == "uadvisedno settings"
    assert str(Report("u")) == "u\nadvised  no settings"
