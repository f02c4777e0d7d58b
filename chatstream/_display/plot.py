"""Arrivals → the axes of matplotlib, where that is installed (extra `plot`)."""

from __future__ import annotations

from typing import Any

from .text import Arrivals, longest_wait, seconds


def arrivals_axes(arrivals: Arrivals, until: float, first_text: float | None, ax: Any) -> Any:
    """Draw what `arrivals_svg` draws, on ``ax`` or on new axes of pyplot, and return these axes.

    Raises ImportError without matplotlib.
    """
    if ax is None:
        import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

        _, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    moments = [0.0, *(moment for moment, _ in arrivals), until]
    read = [0.0, *(read / 1000 for _, read in arrivals)]
    ax.step(moments, [*read, read[-1]], where="post")
    wait = longest_wait(arrivals)
    if wait is not None:
        ax.axvspan(*wait, alpha=0.2, color="tab:orange", label=f"{seconds(wait[1] - wait[0])} without data")
    if first_text is not None:
        ax.axvline(first_text, linestyle="--", color="tab:gray", label=f"first text {seconds(first_text)}")
    ax.set(xlabel="seconds since the call", ylabel="kB read", xlim=(0, None), ylim=(0, None))
    if wait is not None or first_text is not None:
        ax.legend(loc="upper left")
    return ax
