"""The limits on the size of an answer: which numbers they may be, and who takes them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from support import body

from chatstream import Client, ConfigError, Limits, UnexpectedStatus, read_events, replay
from chatstream.testing import status

NAMES = [each.name for each in fields(Limits)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", ["5", None, 0, -1, 1.5, True, float("inf")], ids=repr)
def test_a_limit_that_is_no_positive_integer_is_refused_with_its_name(name, limit):
    with pytest.raises(ConfigError, match=f"^{name} must be an integer of at least 1, not {limit!r}$"):
        Limits(**{name: limit})


@pytest.mark.parametrize("given", [{"event_bytes": 5}, 5, "5", Limits], ids=repr)
def test_limits_of_another_type_are_refused_before_anything_is_read(given, tmp_path):
    recorded = tmp_path / "answer.sse"
    recorded.write_bytes(body("Hi") + b"data: [DONE]\n\n")
    takers: list[Any] = [
        lambda: Client("http://127.0.0.1/v1", limits=given),
        lambda: read_events(b"", limits=given),
        lambda: replay(recorded, limits=given),
    ]
    for take in takers:
        with pytest.raises(ConfigError, match=r"^limits must be a Limits, as in Limits\(event_bytes=…\), not \w+$"):
            take()


def test_no_limits_are_the_default_ones(serve, connect):
    client = connect(serve(status(400, "no such model")), limits=None)
    assert client.limits == Limits()
    with pytest.raises(UnexpectedStatus, match="no such model"):
        client.stream("Hi")
