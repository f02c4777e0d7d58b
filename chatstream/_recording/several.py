"""The options of several calls that belong together → the same options, with one `Recorder` for all of the calls.

A path alone would be a new recording with each call, so only the last one would be left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._imports import imports


def with_one_recorder(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options; ``record`` is a `Recorder` if it is given. Raises `ConfigError` for what can be none."""
    record = options.get("record")
    if record is None:
        return dict(options)
    with imports():
        from .recorder import recorder_of

    return {**options, "record": recorder_of(record)}
