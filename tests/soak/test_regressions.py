"""Regressions that the soak has found."""

from __future__ import annotations

import pytest
import requests

from chatstream import ConnectionFailed
from chatstream.testing import cut, head, text_answer


def test_a_pool_full_of_stale_connections_costs_one_additional_request(serve, connect):
    """Each of a hundred kept connections was tried in turn, with the request sent a hundred times."""
    server = serve(*[text_answer("one")] * 4, [cut()])
    client = connect(server, request_max_retries=0)
    streams = [client.stream("?") for _ in range(4)]
    assert [stream.collect().text for stream in streams] == ["one"] * 4
    assert server.connections == 4
    with pytest.raises(ConnectionFailed):
        client.stream("?")
    assert len(server.requests) == 4 + 2
    assert server.connections == 5


def test_closing_a_client_keeps_the_adapters_of_the_session_given_to_it(serve, connect):
    """Another client of the same session may be about to use them."""
    with requests.Session() as session:
        client = connect(serve(text_answer("one")), session=session)
        client.stream("?").collect()
        mounted = list(session.adapters.values())
        client.close()
        assert client.stream("?").collect().text == "one"
        assert list(session.adapters.values()) == mounted


def test_a_stream_that_another_thread_closes_before_its_restart_ends_without_an_error(serve, connect):
    """The loop raised `Cancelled` when `close` was called during the wait before a restart."""
    server = serve([head(), cut()], text_answer("one"))
    stream = connect(server, on_retry=lambda info: stream.close()).stream("?")
    assert list(stream) == []
    assert len(server.requests) == 1
