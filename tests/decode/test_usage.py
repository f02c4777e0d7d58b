"""Token counts out of what servers report."""

from __future__ import annotations

import pytest

from chatstream import TokenUsage
from chatstream._decode.usage import total, usage_of


def test_openais_names_with_their_details():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert usage_of(usage) == TokenUsage(9, 4, 5, 2, 14)


def test_anthropics_names_where_a_gateway_kept_them():
    assert usage_of({"input_tokens": 9, "output_tokens": 5}) == TokenUsage(9, None, 5, None, None)


def test_nothing_is_made_up():
    assert usage_of({"prompt_tokens": 9, "prompt_tokens_details": None}) == TokenUsage(input_tokens=9)
    assert usage_of({"prompt_tokens": "9", "total_tokens": 1.5, "completion_tokens": True, "x": 1}) is None


@pytest.mark.parametrize("usage", [None, {}, [], "9", {"prompt_tokens": None}, {"prompt_tokens_details": [1]}])
def test_a_report_without_counts_is_no_report(usage):
    assert usage_of(usage) is None


def test_reports_of_single_choices_are_added_up_where_there_are_counts():
    assert total([TokenUsage(1, None, 3, None, 4), TokenUsage(2, None, None, 7, 6)]) == TokenUsage(3, None, 3, 7, 10)
