"""Fixtures with real llama.cpp servers.

Where llama.cpp is not installed these tests are skipped, unless CHATSTREAM_REQUIRE_E2E is set; those in ``hosts`` need
no model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fewshot import TEMPLATE
from relay import Relay

from chatstream import Client, Provider
from chatstream.providers.local import LocalServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = find_spec("xllamacpp") is None and not os.environ.get("CHATSTREAM_REQUIRE_E2E")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if missing and HERE / "hosts" not in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="llama.cpp (xllamacpp) is not installed"))


@pytest.fixture(scope="session")
def llama() -> Iterator[LocalServer]:
    """The embedded model with its default settings."""
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="session")
def tool_llama() -> Iterator[LocalServer]:
    """The same model with a chat template that supports tools; `fewshot` has conversations for it."""
    with LocalServer(chat_template=TEMPLATE) as server:
        yield server


@pytest.fixture
def killable_llama() -> Iterator[LocalServer]:
    """A server for one test, which may kill it by its ``pid``."""
    with LocalServer() as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Makes a client of a server or of a relay, with the server's key; its options are those of `Provider`."""
    with ExitStack() as stack:

        def connected(to: LocalServer | Relay, *, on_retry: Any = None, **options: Any) -> Client:
            url, key = (to.url, to.key) if isinstance(to, Relay) else (to.base_url, to.provider.key())
            provider = Provider(**{"name": "test", "base_url": url, "api_key": key, "model": "any"} | options)
            return stack.enter_context(Client(provider, on_retry=on_retry))

        yield connected


@pytest.fixture
def client(connect: Callable[..., Client], llama: LocalServer) -> Client:
    """A client of the embedded model."""
    return connect(llama, model=llama.model)


@pytest.fixture
def relay(llama: LocalServer) -> Iterator[Relay]:
    """A relay to the embedded model."""
    with Relay(llama.base_url, llama.provider.key()) as relay:
        yield relay
