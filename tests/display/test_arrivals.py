"""`Timing` as a line, as a sparkline, as a picture and as a plot of matplotlib."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

import chatstream
from chatstream import SVG, ConfigError, Timing
from chatstream._display.svg import _ticks
from chatstream._display.text import seconds, size

ARRIVALS = ((0.2, 100), (0.3, 3000), (0.5, 4000), (2.0, 5000), (3.0, 12000))
TIMING = Timing(0.1, 0.2, 4.0, 0.3, 95.23, 0.31, 12000, 0, True, ARRIVALS)
SHAPES = {"one read": ((0.2, 100),), "one moment": ((0.2, 100), (0.2, 200)), "several": ARRIVALS, "none": ()}


def test_the_str_of_a_timing_is_one_line_for_a_person():
    assert str(TIMING) == "first text 300 ms, total 4.00 s, longest gap 310 ms, speed 95.2 tokens/s, read 12.0 kB"
    assert str(Timing(first_event=0.01)) == "first event 10 ms, read 0 bytes"
    assert str(Timing()) == "read 0 bytes"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0 ms"), (0.00012, "0.12 ms"), (0.21, "210 ms"), (0.9996, "1.00 s"), (75.0, "75.00 s")]
)
def test_seconds_are_shown_in_milliseconds_below_one(value, shown):
    assert seconds(value) == shown


def test_sizes_have_a_unit():
    assert [size(0), size(999), size(12_345), size(2_500_000)] == ["0 bytes", "999 bytes", "12.3 kB", "2.5 MB"]


def test_a_sparkline_has_a_bar_for_each_part_of_the_time_and_the_lowest_where_nothing_arrived():
    assert Timing(total=4.0, arrivals=((0.0, 10), (1.5, 80), (4.0, 90))).sparkline(4) == "▂█▁▂"


@pytest.mark.parametrize("width", [1, 2, 40, 1000])
@pytest.mark.parametrize("arrivals", [each for each in SHAPES.values() if each], ids=list(SHAPES)[:3])
def test_a_sparkline_has_the_width_that_is_asked_for(width, arrivals):
    assert len(Timing(total=4.0, arrivals=arrivals).sparkline(width)) == width
    assert len(Timing(arrivals=arrivals).sparkline(width)) == width
    assert len(TIMING.sparkline()) == 40


def test_a_sparkline_without_arrivals_is_empty_and_one_without_width_is_refused():
    assert Timing().sparkline() == ""
    for width in (0, -1):
        with pytest.raises(ConfigError, match="width must be at least 1"):
            TIMING.sparkline(width)


def test_a_sparkline_of_arrivals_at_the_moment_of_the_call_has_one_bar_first():
    assert Timing(arrivals=((0.0, 5),)).sparkline(3) == "█▁▁"


# ── without matplotlib ──────────────────────────────────────────────────────────────────────────────────────────


def labels(svg: SVG) -> list[str]:
    return [each.text or "" for each in ET.fromstring(str(svg)).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_marks_the_first_text_and_the_longest_wait():
    shown = labels(TIMING.svg())
    assert "first text 300 ms" in shown
    assert "1.50 s without data" in shown
    assert "seconds since the call" in shown


def test_the_line_of_the_picture_goes_from_the_call_to_the_end_and_up_to_all_bytes():
    path = re.search(r'd="M56 200(H[^"]*)" fill="none"', str(TIMING.svg()))
    assert path is not None
    assert path[1].endswith("V28H624")  # the top, and then on until the end
    assert path[1].count("V") == len(ARRIVALS)


@pytest.mark.parametrize("arrivals", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("first_text", [None, 0.0, 0.3, 4.0])
def test_every_picture_is_well_formed_and_inside_its_frame(arrivals, first_text):
    timing = Timing(total=4.0, first_text=first_text, arrivals=arrivals)
    root = ET.fromstring(str(timing.svg()))
    numbers = [float(each.get(key, 0)) for each in root.iter() for key in ("x", "y")]
    assert all(0 <= number <= 640 for number in numbers)
    assert len(labels(timing.svg())) <= 30


@pytest.mark.parametrize(
    ("arrivals", "place"),
    [
        (((0.5, 10), (1.0, 20), (4.0, 100)), 'x="411" y="44" text-anchor="middle"'),
        (((0.5, 10), (0.6, 90), (1.4, 100)), 'x="260.8" y="192" text-anchor="start"'),
        (((3.0, 10), (3.4, 20), (3.9, 100)), 'x="532.8" y="44" text-anchor="end"'),
    ],
    ids=["inside", "to the right", "to the left"],
)
def test_the_label_of_the_longest_wait_is_where_the_line_is_not(arrivals, place):
    label = next(each for each in str(Timing(total=4.0, arrivals=arrivals).svg()).split("<text ") if "without" in each)
    assert label.startswith(place)


def test_the_picture_of_a_timing_in_which_nothing_has_come_is_empty_axes():
    assert "without data" not in str(Timing().svg())


def test_a_picture_is_saved_as_a_file_that_is_readable_in_light_and_dark(tmp_path):
    TIMING.svg().save(tmp_path / "a.svg")
    TIMING.svg().save(str(tmp_path / "b.svg"))
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert text == (tmp_path / "b.svg").read_text("utf-8")
    assert ET.fromstring(text).tag.endswith("svg")
    assert "prefers-color-scheme:dark" in text


def test_inside_a_page_a_picture_takes_the_colour_of_the_text_and_brings_no_styles_for_the_page():
    inside = TIMING.svg()._repr_html_()
    assert "<style" not in inside
    assert "currentColor" in inside
    assert ET.fromstring(TIMING.svg()._repr_svg_()).get("role") == "img"


@pytest.mark.parametrize("most", [0.0003, 0.9, 1, 3.4, 9.99, 10, 12, 75, 5_000_000])
def test_ticks_are_four_to_ten_round_numbers_from_zero(most):
    ticks = _ticks(most)
    assert ticks[0] == 0
    assert ticks[-1] <= most * 1.001
    assert 4 <= len(ticks) <= 11


def test_plot_returns_the_picture_where_matplotlib_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    picture = TIMING.plot()
    assert isinstance(picture, chatstream.SVG)
    assert str(picture) == str(TIMING.svg())


# ── with matplotlib ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plt() -> Any:
    mpl = pytest.importorskip("matplotlib")
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_plot_draws_on_new_axes_of_matplotlib_and_returns_them(plt, tmp_path):
    axes = TIMING.plot()
    assert isinstance(axes, plt.Axes)
    (line, mark) = axes.lines
    assert list(line.get_xdata()) == [0.0, *(moment for moment, _ in ARRIVALS), 4.0]
    assert list(line.get_ydata()) == [0.0, 0.1, 3.0, 4.0, 5.0, 12.0, 12.0]
    assert list(mark.get_xdata()) == [0.3, 0.3]
    shown = [each.get_text() for each in axes.get_legend().get_texts()]
    assert shown == ["1.50 s without data", "first text 300 ms"]
    axes.figure.savefig(tmp_path / "timing.png")


def test_plot_draws_on_the_axes_that_are_given(plt):
    _, (first, second) = plt.subplots(2)
    assert TIMING.plot(second) is second
    assert Timing(arrivals=ARRIVALS).plot(ax=first) is first
    assert len(second.lines) == 2
    assert len(first.lines) == 1


@pytest.mark.parametrize("arrivals", SHAPES.values(), ids=SHAPES)
def test_every_timing_can_be_plotted(plt, arrivals):
    axes = Timing(arrivals=arrivals).plot()
    assert (axes.get_legend() is not None) == (len(arrivals) > 1)
    axes.figure.canvas.draw()
