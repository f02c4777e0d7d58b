"""Packages that replace the network, the clock or the adapters of requests, as test suites and programs have them."""

from __future__ import annotations

import pytest
from support import REST, THREE, WORDS

from chatstream.testing import head, stall

TEXT = "".join(WORDS)
WHOLE = [head(), *THREE, *REST]
CLOCKS = ["freezegun", "freezegun_ticks", "freezegun_before_the_import", "time_machine", "time_machine_jumps"]


def test_a_cassette_of_vcr_records_and_replays_streams_and_real_connections_serve_after_it(run, serve):
    server = serve(WHOLE)
    found = run("mocks", "mocked.py", "vcr", server.url)
    assert "after" in found, found
    assert (found["inside"], found["recorded"], found["key"]) == (TEXT, 1, False)
    assert (found["again"], found["played"]) == ([TEXT, TEXT], 1)
    assert found["after"] == [TEXT, TEXT]
    assert len(server.requests) == 3  # the recorded one, and the two after it


@pytest.mark.parametrize("package", ["responses", "requests_mock", "pook"])
def test_a_mock_answers_alone_while_it_is_active_and_spoils_no_call_before_or_after_it(run, serve, package):
    server = serve(WHOLE)
    found = run("mocks", "mocked.py", package, server.url)
    assert "after" in found, found
    assert found["before"] == TEXT
    assert found["inside"] == ["mocked"] * 3
    assert found["after"] == [TEXT, TEXT]
    assert len(server.requests) == 3


def test_a_mock_adapter_that_is_mounted_on_a_session_answers_and_stays(run, serve):
    server = serve(WHOLE)
    assert run("mocks", "mocked.py", "requests_mock_adapter", server.url) == {"inside": ["mocked"] * 2, "kept": True}
    assert server.requests == []


def test_a_cached_session_answers_the_same_call_from_its_cache_after_one_request(run, serve):
    server = serve(WHOLE)
    assert run("mocks", "mocked.py", "requests_cache", server.url) == {"inside": [TEXT] * 2, "kept": True}
    assert len(server.requests) == 1


def test_adapters_of_requests_toolbelt_stream_and_stay_mounted(run, serve):
    server = serve(WHOLE)
    assert run("mocks", "mocked.py", "requests_toolbelt", server.url) == {"inside": [TEXT] * 4, "kept": True}
    assert len(server.requests) == 4


@pytest.mark.parametrize("package", [*CLOCKS, "limits_of_toolbelt"])
def test_limits_use_real_time_even_if_the_clock_or_the_adapter_is_replaced(run, serve, package):
    server = serve([head(), *THREE, stall()])
    found = run("mocks", "mocked.py", package, server.url, seconds=15)
    assert "failure" not in found, found
    assert {name: kind for name, (kind, _) in found.items()} == {"idle": "IdleTimeout", "deadline": "DeadlineExceeded"}
    assert all(0.4 < seconds < 2 for _, seconds in found.values()), found
