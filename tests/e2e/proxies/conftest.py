"""Fixtures of the proxy tests: proxy programs, and clients that connect through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trustme
from proxy_programs import ProxyStarter
from routes import ROUTES, Route
from support import KEY

from chatstream import Client, Provider


@pytest.fixture
def start_proxy(authority: trustme.CA) -> Iterator[ProxyStarter]:
    """Starts proxy programs."""
    with ProxyStarter(authority) as starter:
        yield starter


@pytest.fixture
def connect(short_waits: None) -> Iterator[Callable[..., Client]]:
    """Makes a client of a URL that retries once; its options are those of `Provider`."""
    with ExitStack() as stack:

        def connected(url: str, *, on_retry: Any = None, **options: Any) -> Client:
            defaults = {"request_max_retries": 1, "stream_max_retries": 1, "api_key": KEY, "model": "m1"}
            provider = Provider(**{"name": "test", "base_url": url} | defaults | options)
            return stack.enter_context(Client(provider, on_retry=on_retry))

        yield connected


@pytest.fixture(params=ROUTES)
def route(
    request: pytest.FixtureRequest,
    start_proxy: ProxyStarter,
    connect: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    trusted: None,
) -> Iterator[Route]:
    """Every route, one after the other."""
    with ExitStack() as stack:
        yield Route(request.param, start_proxy, connect, monkeypatch.setenv, stack.enter_context)
