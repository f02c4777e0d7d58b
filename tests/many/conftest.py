"""Fixtures of the tests of many prompts."""

from __future__ import annotations

from typing import Any

import pytest
from echo import Echo


@pytest.fixture
def client(serve: Any, connect: Any) -> Any:
    """A client of a server that repeats each prompt."""
    return connect(serve([Echo()]))
