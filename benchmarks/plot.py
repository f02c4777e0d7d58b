"""Results → a plot of the CPU time per event of each client, on a logarithmic scale. Requires matplotlib.

python -m benchmarks.plot results.json speed.svg
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from .peers import PEERS

OURS, OTHERS = "#1f77b4", "#9aa0a6"
# what matplotlib draws in black has the colour of the text around the picture
STYLE = """svg { color: #1f2328 } text { fill: currentColor }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3 } }"""


def draw(results: Path, picture: Path) -> None:
    """Horizontal bars, the fastest on top, labelled with their ratio to the loop."""
    cells = json.loads(results.read_text())["results"]["cpu text"]
    rows = sorted(((cell["us"], cell["ratio"], name) for name, cell in cells.items() if "us" in cell), reverse=True)
    mpl.rcParams["svg.fonttype"] = "none"  # keeps text as text
    mpl.rcParams["svg.hashsalt"] = "chatstream"  # the same results give the same file
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(rows) + 1))
    labels = [PEERS[name].label.replace("*", "").replace("`", "") for _, _, name in rows]
    colours = [OURS if PEERS[name].library == "chatstream" else OTHERS for _, _, name in rows]
    bars = axes.barh(labels, [us for us, _, _ in rows], color=colours)
    axes.bar_label(bars, [f"{us:.1f} µs, {ratio:.1f} × the loop" for us, ratio, _ in rows], padding=4, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(1, rows[0][0] * 20)
    axes.set_xlabel("CPU per text event, µs (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True)
    picture.write_text(follow_the_theme(re.sub(r"<!-- Created.*?-->\n?", "", picture.read_text(), flags=re.DOTALL)))


def follow_the_theme(svg: str) -> str:
    """The picture, legible on a light and on a dark page."""
    svg = svg.replace("matplotlib.", "").replace("stroke: #000000", "stroke: currentColor")
    return svg.replace("</style>", f"\n{STYLE}</style>", 1)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
