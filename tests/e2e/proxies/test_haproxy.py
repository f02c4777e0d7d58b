"""What haproxy alone does: refusals of its own, and the wait for more before it sends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support import REST, THREE, WORDS, SchedulingDelay, within
from ways import Proxies

from chatstream import Client, RetryInfo, RetryLimit, UnexpectedStatus
from chatstream.testing import FaultServer, head, pause, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]


def test_without_no_delay_events_come_late_but_they_come(run: Proxies, serve: Serve, connect: Connect) -> None:
    def is_read(_: object) -> None:
        written.append(time.monotonic())

    written, read = list[float](), list[float]()
    server = serve([head(), *(step for each in THREE for step in (each, is_read, pause(0.4))), *REST])
    with SchedulingDelay() as scheduling_delay:
        for _ in connect(run("haproxy", server.port).url).stream("Hi").text():
            read.append(time.monotonic())
    late = [now - then for now, then in zip(read, written, strict=True)]
    assert all(seconds < 0.35 + scheduling_delay.seconds for seconds in late), late  # it waits 0.2 s for more


@pytest.mark.parametrize(("code", "kind"), [(413, UnexpectedStatus), (403, UnexpectedStatus), (429, RetryLimit)])
def test_a_refusal(run: Proxies, serve: Serve, connect: Connect, code: int, kind: type[UnexpectedStatus]) -> None:
    server = serve(text_answer(*WORDS))
    proxy = run("haproxy", server.port, more=f"http-request deny deny_status {code}")
    with pytest.raises(UnexpectedStatus, match=rf"{code}: \w+") as raised:
        connect(proxy.url).stream("Hi")
    assert (type(raised.value), raised.value.status) == (kind, code)
    assert "<" not in str(raised.value)
    assert server.requests == []


def test_a_limit_that_says_when(run: Proxies, connect: Connect) -> None:
    told: list[RetryInfo] = []
    answer = '{\\"error\\":{\\"message\\":\\"Too many at once.\\"}}'
    more = f'http-request return status 429 content-type application/json string "{answer}" hdr Retry-After 1'
    client = connect(run("haproxy", more=more, upstream=1).url, on_retry=told.append)
    with within(2.0, least=1.0), pytest.raises(RetryLimit, match=r"Too many at once\. \(retry after 1 s\)"):
        client.stream("Hi")
    assert [info.delay for info in told] == [1.0]
