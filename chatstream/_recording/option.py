"""The option ``record`` of calls → their recordings; the recorder is imported only by calls that have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._runtime.imports import imports

if TYPE_CHECKING:
    from .recorder import CallRecording


def begin_recording(record: Any, choices: int) -> CallRecording | None:
    """The recording of a call for so many choices, if there is to be one. Raises `ConfigError` if it can't be made."""
    if record is None:
        return None
    with imports():
        from .recorder import recorder_of

    return recorder_of(record).begin(choices)


def with_one_recorder(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of several calls that belong together: ``record`` is one `Recorder` for all of them.

    A path would begin a new recording with each call, and only the last one would be left.
    """
    record = options.get("record")
    if record is None:
        return dict(options)
    with imports():
        from .recorder import recorder_of

    return {**options, "record": recorder_of(record)}
