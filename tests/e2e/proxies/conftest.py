"""What the tests of proxies get: proxies of their own, and clients that ask through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trustme
from support import KEY
from ways import WAYS, Proxies, Through

from chatstream import Client, Provider


@pytest.fixture
def run(authority: trustme.CA) -> Iterator[Proxies]:
    """Starts proxies."""
    with Proxies(authority) as proxies:
        yield proxies


@pytest.fixture
def connect(short_waits: None) -> Iterator[Callable[..., Client]]:
    """Makes a client of a URL that tries all twice; its options are those of `Provider`."""
    with ExitStack() as stack:

        def connected(url: str, *, on_retry: Any = None, **options: Any) -> Client:
            own = {"request_max_retries": 1, "stream_max_retries": 1, "api_key": KEY, "model": "m1"}
            provider = Provider(**{"name": "test", "base_url": url} | own | options)
            return stack.enter_context(Client(provider, on_retry=on_retry))

        yield connected


@pytest.fixture(params=WAYS)
def through(
    request: pytest.FixtureRequest,
    run: Proxies,
    connect: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    trusted: None,
) -> Iterator[Through]:
    """Every way that there is, one after the other."""
    with ExitStack() as stack:
        yield Through(request.param, run, connect, monkeypatch.setenv, stack.enter_context)
