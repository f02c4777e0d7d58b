"""Strict JSON, and texts in which a character was cut into its two surrogates."""

from __future__ import annotations

import pytest

from chatstream.types.text import (
    HIGH_SURROGATE,
    all_without_surrogates,
    has_lone_surrogates,
    has_surrogates,
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
