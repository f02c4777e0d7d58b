"""Results → how far a run is: for a function of the caller, or as a bar and a last line on stderr.

Rules:
- The bar is tqdm's where that is installed (the extra ``progress``); without it there is the last line alone.
- Tokens and costs are those that the server has reported in this run. Nothing is estimated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import field
from importlib import import_module
from typing import Any

from .._dataclass import frozen
from .._runtime.clock import monotonic
from .._runtime.imports import imports
from ..errors import ConfigError
from ..types.usage import TokenUsage
from .result import Result


@frozen
class Progress:
    """The progress of a run of `map_prompts`.

    ``done`` counts the answers of this run, ``failed`` its errors, ``resumed`` the answers of earlier runs. ``tokens``
    is the sum of what the server reported for ``done``. ``seconds`` is the time since the run began.
    """

    done: int = 0
    failed: int = 0
    resumed: int = 0
    tokens: TokenUsage = field(default_factory=TokenUsage)
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens over the time since the run began; None without token usage."""
        if self.tokens.output_tokens is None or not self.seconds:
            return None
        return self.tokens.output_tokens / self.seconds

    def __str__(self) -> str:
        parts = [f"{self.done:,} done", f"{self.failed:,} failed"]
        parts += [f"{self.resumed:,} from the file"] if self.resumed else []
        speed = self.tokens_per_second
        parts += [] if speed is None else [f"{self.tokens.output_tokens:,} tokens ({speed:.0f}/s)"]
        parts += [] if self.tokens.cost is None else [f"cost {self.tokens.cost:.4g}"]
        return ", ".join([*parts, f"{self.seconds:.1f} s"])


Report = Callable[[Progress], object]


class Tally:
    """Counts the results of one run, and reports each."""

    def __init__(self, report: bool | Report | None, total: int | None) -> None:
        if not (report is None or isinstance(report, bool) or callable(report)):
            raise ConfigError(f"progress must be a bool, None or a function of a Progress, not {type(report).__name__}")
        self._began = monotonic()
        self._done = self._failed = self._resumed = 0
        self._tokens = TokenUsage()
        self._report = report if callable(report) else None
        self._is_shown = report is True
        self._bar = _bar(total) if report is True else None

    @property
    def progress(self) -> Progress:
        return Progress(self._done, self._failed, self._resumed, self._tokens, monotonic() - self._began)

    def add(self, result: Result) -> None:
        """Count a result that is handed over."""
        if result.error is not None:
            self._failed += 1
        elif result.resumed:
            self._resumed += 1
        else:
            self._done += 1
            if result.turn is not None and result.turn.token_usage is not None:
                self._tokens += result.turn.token_usage
        if self._report is not None:
            self._report(self.progress)
        if self._bar is not None:
            self._bar.update(1)
            self._bar.set_postfix_str(str(self.progress), refresh=False)

    def end(self) -> None:
        """Close the bar, and write the last line."""
        if self._bar is not None:
            self._bar.close()
        if self._is_shown and sys.stderr is not None:
            print(self.progress, file=sys.stderr)


def _bar(total: int | None) -> Any:
    """A bar of tqdm; None where it is not installed."""
    with imports():
        try:
            tqdm: Any = import_module("tqdm")
        except ImportError:
            return None
    return tqdm.tqdm(total=total, unit="prompt", file=sys.stderr)
