"""Environments of their own for the tests in this folder, kept in the cache of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import Environment, make_environment


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Returns a function: a name and the packages of an environment → the path of its interpreter."""
    cache = getattr(request.config, "cache", None)  # none with ``-p no:cacheprovider``
    folder: Path = cache.mkdir("environments") if cache else tmp_path_factory.mktemp("environments")
    return lambda name, *packages: make_environment(folder / name, *packages)
