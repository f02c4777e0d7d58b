"""What only haproxy does: it refuses requests itself, and waits for more data before it sends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from proxy_programs import ProxyStarter
from support import REST, THREE, WORDS, SchedulingDelay, within

from chatstream import Client, RetryInfo, RetryLimit, UnexpectedStatus
from chatstream.testing import FaultServer, head, pause, text_answer

Serve = Callable[..., FaultServer]
Connect = Callable[..., Client]


def test_events_are_late_by_less_than_350_ms_without_the_option_http_no_delay(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect
) -> None:
    def record_sending(_: object) -> None:
        sent.append(time.monotonic())

    sent, received = list[float](), list[float]()
    server = serve([head(), *(step for each in THREE for step in (each, record_sending, pause(0.4))), *REST])
    with SchedulingDelay() as scheduling_delay:
        for _ in connect(start_proxy("haproxy", server.port).url).stream("Hi").text():
            received.append(time.monotonic())
    delays = [arrival - sending for arrival, sending in zip(received, sent, strict=True)]
    assert all(delay < 0.35 + scheduling_delay.seconds for delay in delays), delays  # haproxy waits 0.2 s for more data


@pytest.mark.parametrize(("code", "kind"), [(413, UnexpectedStatus), (403, UnexpectedStatus), (429, RetryLimit)])
def test_a_refusal_by_haproxy_raises_its_status_and_reason(
    start_proxy: ProxyStarter, serve: Serve, connect: Connect, code: int, kind: type[UnexpectedStatus]
) -> None:
    server = serve(text_answer(*WORDS))
    proxy = start_proxy("haproxy", server.port, more=f"http-request deny deny_status {code}")
    with pytest.raises(UnexpectedStatus, match=rf"{code}: \w+") as raised:
        connect(proxy.url).stream("Hi")
    assert (type(raised.value), raised.value.status) == (kind, code)
    assert "<" not in str(raised.value)
    assert server.requests == []


def test_a_rate_limit_by_haproxy_is_retried_after_the_time_in_its_retry_after(
    start_proxy: ProxyStarter, connect: Connect
) -> None:
    retries: list[RetryInfo] = []
    answer = '{\\"error\\":{\\"message\\":\\"Too many at once.\\"}}'
    more = f'http-request return status 429 content-type application/json string "{answer}" hdr Retry-After 1'
    client = connect(start_proxy("haproxy", more=more, upstream=1).url, on_retry=retries.append, rate_limit_timeout=1.5)
    with within(2.0, least=1.0), pytest.raises(RetryLimit, match=r"Too many at once\. \(retry after 1 s\)"):
        client.stream("Hi")
    assert [info.delay for info in retries] == [1.0]
