"""Strict JSON, and texts in which a character was cut into its two surrogates."""

from __future__ import annotations

import pytest

from chatstream.types.text import (
    HIGH_SURROGATE,
    all_without_surrogates,
    has_lone_surrogates,
    has_surrogates,
    printable,
    without_surrogates,
)

HIGH, LOW = "\ud83e", "\udd8a"
FOX = "🦊"


@pytest.mark.parametrize(
    ("text", "clean", "lone"),
    [
        ("", "", False),
        ("plain", "plain", False),
        (f"a{FOX}b", f"a{FOX}b", False),
        (f"a{HIGH}{LOW}b", f"a{FOX}b", False),
        (HIGH, "\ufffd", True),
        (LOW, "\ufffd", True),
        (LOW + HIGH, "\ufffd\ufffd", True),
        (HIGH + HIGH + LOW, "\ufffd" + FOX, True),
        (f"{HIGH}\n", "\ufffd\n", True),
        ("\ufeffa", "\ufeffa", False),
    ],
    ids=ascii,
)
def test_pairs_of_surrogates_become_their_character_and_lone_ones_u_fffd(text, clean, lone):
    assert without_surrogates(text) == clean
    assert has_lone_surrogates(text) is lone
    assert has_surrogates(text) is (text != clean)
    assert all_without_surrogates({text: [text, {"a": text, "b": 1}, None]}) == {
        clean: [clean, {"a": clean, "b": 1}, None]
    }


def test_only_the_end_of_a_text_is_the_first_half_of_a_character():
    assert HIGH_SURROGATE.search("a\ud83e")
    assert not HIGH_SURROGATE.search("a\ud83e\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text, grün \U0001f680", "plain text, grün \U0001f680"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[2J\x00\x7f\x9b\x85", "\\x1b[2J\\x00\\x7f\\x9b\\x85"),
        ("\u2028\u202e\u200b\U000e0041\ud83d", "\\u2028\\u202e\\u200b\\U000e0041\\ud83d"),
        ("grün\n", "grün\\n"),
    ],
    ids=ascii,
)
def test_a_line_of_a_log_has_a_backslash_escape_for_each_character_that_is_not_printable(text, line):
    assert printable(text) == line
